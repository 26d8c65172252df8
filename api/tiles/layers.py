"""Layers that map services offer: an item, a mosaic, or every collection with tiles that the caller may see."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

import pystac
from fastapi import Depends
from morecantile import TileMatrixSet
from psycopg.rows import dict_row
from starlette.requests import Request

from api.access import principals_of
from api.map_page import item_path
from api.render_hints import names_of
from api.signed import NAME, note_private
from api.tiles.collections import described
from api.tiles.found import as_item
from api.tiles.mosaics import WORLD, Mosaic
from api.tiles.places import Places
from api.tiles.resolutions import finest
from db.queries import sql

#: Collections of one catalogue of layers.
MOST_LAYERS: Final = 1000
_EPSG: Final = re.compile(r"EPSG:\d{4,5}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Layer:
    """What a map client shows by name.

    `path` is where its tiles are, below the service's root; `bounds` in degrees; `times` first and last day, None: it has none;
    `item` says how fine its pixels are.
    """

    name: str
    title: str
    path: str
    bounds: tuple[float, float, float, float]
    styles: Sequence[str]
    times: tuple[str, str] | None = None
    item: pystac.Item | None = None

    @property
    def system(self) -> str | None:
        """The reference system that its newest pixels are in, as `EPSG:` and a number; None: another one, or not known."""
        if self.item is None:
            return None
        told = [self.item.properties, *(asset.extra_fields for asset in self.item.assets.values())]
        code = next((one["proj:code"] for one in told if one.get("proj:code")), None)
        return code if isinstance(code, str) and _EPSG.fullmatch(code) else None

    def zooms(self, tms: TileMatrixSet) -> tuple[int, int]:
        """The coarsest and the finest zoom that are worth asking for."""
        told = None if self.item is None else finest(self.item, tms)
        return tms.minzoom, tms.maxzoom if told is None else max(tms.minzoom, min(tms.maxzoom, told))


@dataclass(frozen=True, slots=True)
class Place:
    """Where the tiles of a layer are, below the tile server, and whether they have a time."""

    path: str
    has_time: bool


@dataclass(frozen=True, slots=True)
class Offer:
    """Layers of one service: all of them, and where the one of a name is (None: there is none), which is asked for every picture."""

    every: Callable[[], list[Layer]]
    named: Callable[[str], Place | None]


def offers_of(subject_of: Callable[..., pystac.Item | Mosaic]) -> Callable[..., Offer]:
    """A dependency: the one layer of the item or mosaic that `subject_of` finds."""

    def offer(request: Request, subject: pystac.Item | Mosaic = Depends(subject_of)) -> Offer:  # noqa: B008
        if isinstance(subject, pystac.Item):
            name, place = (
                subject.id,
                Place(f"/{item_path(str(subject.collection_id), subject.id)}".removeprefix("/raster"), False),
            )
            return Offer(lambda: [layer_of_item(subject)], lambda asked: place if asked == name else None)
        here = Place(path_of(subject).removeprefix("raster"), has_time=True)
        mosaic: Mosaic = subject
        return Offer(lambda: [layer_of_mosaic(mosaic, request)], lambda asked: here if asked == mosaic.name else None)

    return offer


def offers_of_all(places: Places) -> Callable[..., Offer]:
    """A dependency: a layer for each collection. Whether there is one of a name says who answers for its tiles."""

    def offer(request: Request) -> Offer:
        def named(asked: str) -> Place | None:
            return Place(f"/collections/{quote(asked, safe='')}", has_time=True) if re.fullmatch(NAME, asked) else None

        return Offer(lambda: layers_of_all(request, places), named)

    return offer


def path_of(mosaic: Mosaic) -> str:
    """Where a mosaic is, below the service's root."""
    kind = "searches" if mosaic.document is not None else "collections"
    return f"raster/{kind}/{quote(mosaic.name, safe='')}"


def layer_of_item(item: pystac.Item) -> Layer:
    """An item's layer."""
    box = item.bbox or WORLD
    west, south, east, north = (*box[:2], *box[3:5]) if len(box) == 6 else box
    bounds = (west, south, east, north) if west <= east else (-180.0, south, 180.0, north)
    title = str(item.properties.get("title") or item.id)
    return Layer(
        item.id, title, item_path(str(item.collection_id), item.id), bounds, names_of(item) or ["default"], item=item
    )


def layer_of_mosaic(mosaic: Mosaic, request: Request) -> Layer:
    """The layer of a collection, or of a registered search."""
    item = mosaic.newest(request)
    styles = [] if item is None else names_of(item, mosaic.renders)
    return Layer(
        mosaic.name, mosaic.title, path_of(mosaic), mosaic.bounds, styles or ["default"], days(mosaic.times), item
    )


def layers_of_all(request: Request, places: Places) -> list[Layer]:
    """A layer for each collection that the caller may see and whose newest item has pixels here."""
    principals = list(principals_of(request))
    with request.app.state.dbpool.connection() as conn, conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(sql("tiles.shown_collections"), (principals, MOST_LAYERS)).fetchall()
    return [_layer_of_row(row, principals, request) for row in rows if row["content"] and places.serves(row["item"])]


def _layer_of_row(row: dict[str, Any], principals: list[str], request: Request) -> Layer:
    note_private(request, is_private=not row["is_public"])
    mosaic = described(row["content"], {}, principals)
    item = as_item(row["item"])
    styles = names_of(item, mosaic.renders) or ["default"]
    return Layer(mosaic.name, mosaic.title, path_of(mosaic), mosaic.bounds, styles, days(mosaic.times), item)


def days(times: tuple[str, str] | None) -> tuple[str, str] | None:
    """First and last day of an interval whose end may be open."""
    if times is None:
        return None
    today = datetime.now(UTC).date().isoformat()
    begin, end = times[0][:10], times[1][:10] or today
    return (begin, max(begin, end))
