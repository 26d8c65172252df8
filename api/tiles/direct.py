"""Plain tiles of items, made without FastAPI: the same readers and encoders are called with what titiler's route would give them.

FastAPI looks through some hundred routes and solves twenty parameters one by one, gives the item and the pixels a turn in a thread each,
and reads and parses the item anew: more than half of the time that a tile took. Here the parameters of a query are read once
(`api.tiles.plain`), an item once for each of its versions, and a tile has one turn in a thread.

What is not plain, or cannot be answered with a good picture, is left to the route, which answers it or says what is wrong
(docs/adr/0059).
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import orjson
import pystac
import rasterio
from fastapi import FastAPI
from psycopg.rows import dict_row
from rio_tiler.colormap import cmap
from rio_tiler.io import BaseReader
from rio_tiler.types import AssetInfo
from rio_tiler.utils import CRS_to_uri
from starlette.responses import Response
from titiler.core.dependencies import AssetsExprParams
from titiler.pgstac.reader import PgSTACReader

from api.render_hints import PREVIEW
from api.stac.etags import etag_of
from api.tiles.drawing import hint_named, hinted
from api.tiles.encode import render_image
from api.tiles.faults import is_fault
from api.tiles.found import as_item, is_elsewhere, uploads_named
from api.tiles.grids import GRIDS
from api.tiles.items import stored_item
from api.tiles.plain import Drawn, Tile, drawn_by, tile_of
from api.tiles.remote_headers import FRESH_S
from api.tiles.tile_store import KEPT_HEADERS, Kept
from api.tiles.versions import Asker, State
from db.queries import sql

log = logging.getLogger(__name__)

_ROUTE: Final = "/raster/collections/{collection_id}/items/{item_id}/tiles/{tileMatrixSetId}/{z}/{x}/{y}.{format}"
#: Items that are kept parsed, and bytes of their JSON; in memory they take some five times as much.
_MOST_ITEMS, _MOST_BYTES = 500, 16 * 2**20
#: Kinds and places of faults that are told.
_MOST_FAULTS: Final = 50

Names = tuple[str, ...]


@dataclass(slots=True)
class _Item:
    """A version of an item, with its readers by tile matrix set; shared by threads, which change nothing in it."""

    item: pystac.Item
    is_elsewhere: bool
    size: int
    readers: dict[str, PgSTACReader] = field(default_factory=dict)


class _Elsewhere(Exception):
    """The raster lies at another host: to wait for it the route's threads are there."""


class DirectTiles:
    """Makes tiles for the cache.

    Args:
        raster: has the pool of the tile routes in `state.dbpool`.
        reader: of items, as the routes have it.
        note_fault: counts an error that is a fault of ours, by its name; the route answers all the same, only slower.
    """

    def __init__(
        self,
        raster: FastAPI,
        reader: type[PgSTACReader],
        most_pixels: int,
        note_fault: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._raster, self._most_pixels = raster, most_pixels
        self._reader = _own_only(reader)
        self._items: OrderedDict[tuple[Names, str, str], _Item | None] = OrderedDict()
        self._bytes = 0
        self._note_fault, self._faults = note_fault, set[tuple[str, str]]()
        self._lock = threading.Lock()

    def work(
        self, path: str, query: bytes, names: Names, asker: Asker, state: State
    ) -> Callable[[], Kept | None] | None:
        """What makes the tile of a request, of the version that `state` names, in a thread. None, as its result: the route is to answer."""
        tile = tile_of(path) if len(names) == 2 else None
        drawn = None if tile is None else drawn_by(query, self._most_pixels)
        if tile is None or drawn is None:
            return None
        return partial(self._made, tile, drawn, names, asker, state)

    def _made(self, tile: Tile, drawn: Drawn, names: Names, asker: Asker, state: State) -> Kept | None:
        try:
            item = self._item(names, asker, state)
            return None if item is None else _picture(item, self._reader, tile, drawn)
        except Exception as error:  # noqa: BLE001 - the route meets the same, and knows what to say
            self._note(error)
            return None

    def _note(self, error: Exception) -> None:
        """A fault is told once for its kind and its place: it comes with every tile."""
        kind = type(error).__name__
        if isinstance(error, _Elsewhere) or not is_fault(error):
            log.debug("left to the route", extra={"reason": kind})
            return
        self._note_fault(kind)
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = kind, f"{last.filename}:{last.lineno}"
        with self._lock:
            is_new = place not in self._faults and len(self._faults) < _MOST_FAULTS
            if is_new:
                self._faults.add(place)
        if is_new:
            log.error("plain tiles fail and are left to the route", extra={"reason": kind}, exc_info=error)

    def _item(self, names: Names, asker: Asker, state: State) -> _Item | None:
        """The item of this version. None: it is another one by now, or what is shown of it is not told by its version alone."""
        key = names, state.version, state.audience
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
                return self._items[key]
        row, document, are_own = self._read(names, asker)
        if row is None or row["version"] != state.version:
            return None
        size = len(orjson.dumps(document))
        made = _Item(is_elsewhere=is_elsewhere([document]), item=as_item(document), size=size)
        is_preview = any(PREVIEW in asset.extra_fields for asset in made.item.assets.values())
        found = made if are_own and not is_preview else None
        self._keep(key, found)
        return found

    def _keep(self, key: tuple[Names, str, str], found: _Item | None) -> None:
        with self._lock:
            before = self._items.pop(key, None)
            self._items[key] = found
            self._bytes += (found.size if found else 0) - (before.size if before else 0)
            while len(self._items) > _MOST_ITEMS or (self._bytes > _MOST_BYTES and len(self._items) > 1):
                _, gone = self._items.popitem(last=False)
                self._bytes -= gone.size if gone else 0

    def _read(self, names: Names, asker: Asker) -> tuple[Any, Any, bool]:
        collection, item = names
        asked = (item, collection, list(asker.principals), asker.is_signed)
        with self._raster.state.dbpool.connection() as conn, conn.cursor(row_factory=dict_row) as cursor:
            row = cursor.execute(sql("api.item"), asked).fetchone()
            if row is None:
                return None, None, True
            document = stored_item(row)
            return row, document, uploads_named(cursor, [document]).are_own


def _own_only(reader: type[PgSTACReader]) -> type[PgSTACReader]:
    """The routes' reader, which opens files of this machine alone."""

    class OwnOnly(reader):  # type: ignore[valid-type, misc]
        def _get_reader(self, asset_info: AssetInfo) -> type[BaseReader]:
            if not asset_info["url"].startswith("/"):
                raise _Elsewhere
            found: type[BaseReader] = super()._get_reader(asset_info)
            return found

    return OwnOnly


def _picture(one: _Item, kind: type[PgSTACReader], tile: Tile, drawn: Drawn) -> Kept:
    """What titiler's route does, in its order (`titiler.core.factory.TilerFactory.tile`)."""
    layers, rescale, colormap = _asked(one.item, drawn)
    with rasterio.Env():
        source = one.readers.get(tile.grid)
        if source is None:
            source = one.readers[tile.grid] = kind(one.item, tms=GRIDS.get(tile.grid))
        image = source.tile(tile.x, tile.y, tile.z, tilesize=drawn.tilesize, **layers.as_dict(), **drawn.dataset)
    shown: dict[str, Any] = {"rescale": rescale, "add_mask": drawn.add_mask}
    content, media_type = render_image(
        image, output_format=tile.form, colormap=colormap or getattr(source, "colormap", None),
        **{name: value for name, value in shown.items() if value is not None},
    )  # fmt: skip
    headers = {"Content-Bbox": ",".join(map(str, image.bounds))} if image.bounds is not None else {}
    if uri := CRS_to_uri(image.crs):
        headers["Content-Crs"] = f"<{uri}>"
    answer = Response(content, media_type=media_type, headers=headers)
    kept = tuple((name, value) for name, value in answer.raw_headers if name in KEPT_HEADERS)
    until = time.time() + FRESH_S if one.is_elsewhere else None
    return Kept(_ROUTE, kept, etag_of(content).encode(), content, until)


def _asked(item: pystac.Item, drawn: Drawn) -> tuple[AssetsExprParams, Any, Any]:
    """Layers, ranges and colours: what is asked for, or, where no assets are named, as the hint says (`api.tiles.drawing`)."""
    if drawn.assets is not None:
        return AssetsExprParams(assets=drawn.assets, expression=drawn.expression), drawn.rescale, drawn.colormap
    hint = hint_named(item, [], drawn.render)
    layers, name = hinted(hint, drawn.expression), hint.get("colormap_name")
    colormap = cmap.get(name) if drawn.colormap is None and name else drawn.colormap
    return layers, drawn.rescale or hint.get("rescale"), colormap
