"""How many items there are where, from afar: density of footprints, of any number of items, without opening a raster.

`density_of` reads what the worker keeps (`ingest.overviews`); items that not everybody may see are never in it, and are added for who may
see them. What is reckoned of thousands of footprints takes long: it runs in a thread, as does drawing.
"""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import asyncpg
import numpy as np
import shapely
from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import Response

from api.access import principals_of
from api.problems import Problem
from api.signed import NAME, SIGNED, note_private
from api.tiles.rendering import note_version
from db.queries import sql
from ingest.overviews.cells import LAST, box_of
from ingest.overviews.density import summed

#: Zooms at which the kept cells are all that is read.
LAST_KEPT: Final = 8
LAST_ZOOM: Final = 14
_SIDE: Final = 256
#: Footprints that are looked at for one tile besides the kept cells.
_MOST_LIVE: Final = 5000
#: From few to many items: dark violet over red to yellow (matplotlib's inferno, from its middle on), the fewest half transparent.
_COLOURS: Final = (
    (0.0, (87, 16, 110, 150)),
    (0.35, (188, 55, 84, 190)),
    (0.7, (249, 142, 9, 215)),
    (1.0, (252, 255, 164, 235)),
)
#: So many items in one cell and more have the last colour.
_MANY: Final = 10_000
_HEAD: Final = b"\x89PNG\r\n\x1a\n"

#: Level, column, row, items.
_Cell = tuple[int, int, int, int]

router = APIRouter(tags=["density"])


@dataclass(frozen=True, slots=True)
class Density:
    """Items per cell of a tile: `counts[row, column]`, north first; the cells are those of WebMercatorQuad at `level`."""

    counts: np.ndarray[Any, Any]
    level: int
    zoom: int
    x: int
    y: int

    def png(self) -> bytes:
        """A picture of 256 x 256 pixels with a palette; cells without items are transparent."""
        shades = np.where(
            self.counts > 0, 1 + np.minimum(254, 254 * np.log(np.maximum(self.counts, 1)) / np.log(_MANY)), 0
        ).astype("uint8")
        across = _SIDE // shades.shape[0]
        rows = np.zeros((_SIDE, _SIDE + 1), "uint8")
        rows[:, 1:] = np.kron(shades, np.ones((across, across), "uint8"))
        return b"".join(
            (
                _HEAD, _chunk(b"IHDR", struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 3, 0, 0, 0)), _chunk(b"PLTE", _PALETTE[0]),
                _chunk(b"tRNS", _PALETTE[1]), _chunk(b"IDAT", zlib.compress(rows.tobytes(), 6)), _chunk(b"IEND", b""),
            )
        )  # fmt: skip


async def density_of(
    pool: asyncpg.Pool, collection: str, zoom: int, x: int, y: int, principals: tuple[str, ...] = ()
) -> Density:
    """Items of a collection in each cell of a tile of WebMercatorQuad, for who is known to see the collection.

    Up to z8 from the kept cells, beyond from the footprints themselves, of which at most 5,000 are counted.
    """
    kept: list[_Cell] = []
    live: list[bytes] = []
    is_kept = zoom <= LAST_KEPT
    level = min(zoom + 4, LAST) if is_kept else zoom + 4
    if is_kept:
        rows = await pool.fetch(sql("tiles.density"), collection, zoom, x, y, level)
        kept = [tuple(row) for row in rows]
    if not is_kept or principals:
        found = await pool.fetch(
            sql("tiles.footprints_within"), collection, zoom, x, y, list(principals), is_kept, _MOST_LIVE
        )
        live = [bytes(row["geometry"]) for row in found]
    return await asyncio.to_thread(reckoned, kept, live, level, (zoom, x, y))


def reckoned(kept: Sequence[_Cell], live: Sequence[bytes], level: int, tile: tuple[int, int, int]) -> Density:
    """Add up the cells of a tile. Pure, and slow for many footprints.

    Args:
        kept: cells of this level or coarser ones, each with its items.
        live: footprints (WKB) that are in none of them.
        tile: zoom, column, row.
    """
    zoom, x, y = tile
    side = 1 << (level - zoom)
    counts = np.zeros((side, side), "int64")
    for at, cell_x, cell_y, items in kept:
        _add(counts, level, zoom, (x, y), (at, cell_x, cell_y), items)
    if zoom > LAST_KEPT:
        _add_live(counts, level, (x * side, y * side), live)
    else:
        for (at, cell_x, cell_y), (items, wide) in summed((geometry, 1) for geometry in live).items():
            if at <= level and (at == level or wide):
                _add(counts, level, zoom, (x, y), (at, cell_x, cell_y), items if at == level else wide)
    return Density(counts, level, zoom, x, y)


_Zoom = Annotated[int, Path(ge=0, le=LAST_ZOOM, description="Zoom of WebMercatorQuad")]
_Place = Annotated[int, Path(ge=0, description="Column or row of the tile")]
_Collection = Annotated[str, Path(pattern=NAME, description="Collection")]


@router.get("/collections/{collection_id}/density/{z}/{x}/{y}.{format}")
async def density_tile(
    request: Request, collection_id: _Collection, z: _Zoom, x: _Place, y: _Place, format: Literal["png", "mvt"]
) -> Response:
    """How many items there are, as a picture or as a vector tile."""
    return await _answer(request, collection_id, (z, x, y), format)


@router.get("/collections/{collection_id}/density/{z}/{x}/{y}")
async def density_vectors(request: Request, collection_id: _Collection, z: _Zoom, x: _Place, y: _Place) -> Response:
    """How many items there are, as a vector tile: cells with their number of `items`."""
    return await _answer(request, collection_id, (z, x, y), "mvt")


async def _answer(request: Request, collection: str, tile: tuple[int, int, int], format: str) -> Response:
    pool: asyncpg.Pool = request.app.state.primary()
    state = await pool.fetchrow(
        sql("tiles.collection_state"), collection, list(principals_of(request)), SIGNED in request.scope
    )
    if state is None:
        raise Problem(404, "NOT_FOUND", "there is no such collection")
    zoom, x, y = tile
    if x >= 1 << zoom or y >= 1 << zoom:
        raise Problem(404, "TILE_OUTSIDE_BOUNDS", "there is no such tile at this zoom")
    note_private(request, is_private=not state["is_public"] or bool(state["principals"]))
    note_version(request, state["version"])
    found = await density_of(pool, collection, zoom, x, y, tuple(state["principals"]))
    if format == "png":
        return Response(await asyncio.to_thread(found.png), media_type="image/png")
    rows, columns = np.nonzero(found.counts)
    side = found.counts.shape[0]
    xs, ys = (columns + x * side).tolist(), (rows + y * side).tolist()
    vectors = await pool.fetchval(
        sql("tiles.density_mvt"), zoom, x, y, found.level, xs, ys, found.counts[rows, columns].tolist()
    )
    return Response(bytes(vectors), media_type="application/vnd.mapbox-vector-tile")


def _add(
    counts: np.ndarray[Any, Any], level: int, zoom: int, tile: tuple[int, int], cell: tuple[int, int, int], items: int
) -> None:
    """Add items of a cell of this level or of a coarser one to all that it holds of the tile."""
    at, x, y = cell
    side, finer = counts.shape[0], level - at
    left, top = (x << finer) - tile[0] * side, (y << finer) - tile[1] * side
    counts[max(0, top) : max(0, top + (1 << finer)), max(0, left) : max(0, left + (1 << finer))] += items


def _add_live(counts: np.ndarray[Any, Any], level: int, corner: tuple[int, int], geometries: Sequence[bytes]) -> None:
    side = counts.shape[0]
    cells = [box_of(corner[0] + column, corner[1] + row, level) for row in range(side) for column in range(side)]
    tree = shapely.STRtree(cells)
    _, touched = tree.query(shapely.from_wkb(geometries), predicate="intersects")
    np.add.at(counts.reshape(-1), touched, 1)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _palette() -> tuple[bytes, bytes]:
    places = np.linspace(0, 1, 255)
    stops = [place for place, _ in _COLOURS]
    bands = [np.interp(places, stops, [colour[band] for _, colour in _COLOURS]).astype("uint8") for band in range(4)]
    colours = np.vstack([np.zeros((1, 3), "uint8"), np.stack(bands[:3], axis=1)])
    return colours.tobytes(), b"\0" + bands[3].tobytes()


_PALETTE: Final = _palette()
