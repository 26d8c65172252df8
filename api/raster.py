"""`/raster`: titiler's routes over our own COGs, of items, collections and registered searches; no `url=`. Assembles `api.tiles`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Annotated, Any, Final, cast

import attr
import pystac
from fastapi import FastAPI, Path
from psycopg.rows import dict_row
from rio_tiler.errors import EmptyMosaicError, NoAssetFoundError
from rio_tiler.io import BaseReader
from rio_tiler.models import ImageData
from rio_tiler.types import AssetInfo, AssetType
from rio_tiler.utils import cast_to_sequence
from starlette.requests import Request
from starlette.responses import Response
from titiler.core.dependencies import OGCMapsParams
from titiler.core.factory import AlgorithmFactory, ColorMapFactory, TMSFactory
from titiler.pgstac.reader import PgSTACReader

from api.access import principals_of
from api.map_page import map_router, map_templates
from api.problems import Problem, add_handlers, answer
from api.public_url import Mounted
from api.render_hints import layers_of
from api.settings import ApiSettings
from api.signed import NAME, SIGNED, Resigned, note_private
from api.signed import router as signed_router
from api.tiles.afar import FromAfar
from api.tiles.algorithms import algorithm_of
from api.tiles.application import TileApplication
from api.tiles.at_once import call_at_once
from api.tiles.collections import mosaic_of
from api.tiles.drawing import (
    MapParams,
    PartParams,
    PictureParams,
    drawing_of,
    layers_of_mosaic,
    note_preview,
    signed_links,
)
from api.tiles.encode import render_image
from api.tiles.exists import OnceCarried
from api.tiles.faults import UNFIT, is_raised_here
from api.tiles.features import check_feature
from api.tiles.found import as_item, leave_out_foreign, note_age
from api.tiles.grids import GRIDS, Geometry, geometry_in
from api.tiles.items import stored_item
from api.tiles.largest import Bounded
from api.tiles.layers import offers_of, offers_of_all
from api.tiles.leaving import LEFT, ClientLeft, stop_if_left
from api.tiles.limits import SmallBodies, check_request
from api.tiles.low_zooms import router as density_router
from api.tiles.mosaics import AccessorParams, BackendParams, MosaicBackend, pixel_selection_of
from api.tiles.notes import Noted
from api.tiles.ogc import ogc_router
from api.tiles.places import Places
from api.tiles.reader import FastReader
from api.tiles.remote import reader_of as remote_reader
from api.tiles.rendering import note_readable, note_version
from api.tiles.renders import renders_router
from api.tiles.searches import search_mosaic_of, searches_router
from api.tiles.tilesets import ItemTiles, MosaicTiles
from api.tiles.wms import wms_router
from api.tiles.wmts import wmts_router
from db.queries import sql

log = logging.getLogger(__name__)
_COLLECTION: Final = "/collections/{collection_id}"
_ITEM: Final = f"{_COLLECTION}/items/{{item_id}}"
_SEARCH: Final = "/searches/{search_id}"


def alternates_of(asset: pystac.Asset) -> Iterator[str]:
    """Where else the same file is (alternate-assets extension)."""
    others = asset.extra_fields.get("alternate")
    for other in others.values() if isinstance(others, dict) else ():
        if isinstance(other, dict) and isinstance(href := other.get("href"), str):
            yield href


def reader_of(places: Places) -> type[PgSTACReader]:
    """A reader whose assets are our own COGs, found by id, and those at hosts that a source names; any other asset is refused."""

    @attr.s
    class OwnReader(OnceCarried, PgSTACReader):
        reader: type[BaseReader] = attr.ib(default=FastReader)
        _left: threading.Event | None = attr.ib(init=False, factory=LEFT.get)

        @cached_property
        def _dst_geom_in_tms_crs(self) -> Geometry:
            size = self.width or 0, self.height or 0
            return geometry_in(self.tms.rasterio_crs, self.crs, self.transform, size, tuple(self.bounds))

        def tile(
            self, tile_x: int, tile_y: int, tile_z: int, assets: Any = None, *rest: Any, **options: Any
        ) -> ImageData:
            if len(cast_to_sequence(assets) or ()) == 1:
                options.setdefault("threads", 1)  # in this thread, not in one that is made for it
            return super().tile(tile_x, tile_y, tile_z, assets, *rest, **options)

        def feature(self, shape: Any, *rest: Any, **options: Any) -> ImageData:
            check_feature(shape)
            return super().feature(shape, *rest, **options)

        def _get_reader(self, asset_info: AssetInfo) -> type[BaseReader]:
            LEFT.set(self._left)  # several assets are read by threads of their own
            stop_if_left()
            if asset_info["url"].startswith("/"):
                return self.reader
            return remote_reader(places.remote(), asset_info["name"])

        def _get_asset_info(self, asset: AssetType) -> AssetInfo:
            info = super()._get_asset_info(asset)
            if (path := places.path_of(info["url"])) is not None:
                info["url"] = str(path)
                return info
            hrefs = (info["url"], *alternates_of(self.item.assets[info["name"]]))
            served = next((href for href in hrefs if places.remote().serves(href)), None)
            if served is None:
                detail = f"the asset {info['name']!r} lies elsewhere, at a host that no source names for its rasters"
                raise Problem(422, "ASSET_NOT_SERVED", detail)
            info["url"] = served
            return info

    return OwnReader


def item_of(
    request: Request,
    collection_id: Annotated[str, Path(pattern=NAME, description="Collection")],
    item_id: Annotated[str, Path(pattern=NAME, description="Item")],
) -> pystac.Item:
    """The item as it is now, read for each request so that a replaced one is never served old, nor one that is private by now.

    Rasters of others that its assets name, and that the caller may not read, are left out.
    """
    check_request(request)
    asked = (item_id, collection_id, list(principals_of(request)), SIGNED in request.scope)
    with request.app.state.dbpool.connection() as conn, conn.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(sql("api.item"), asked).fetchone()
        if row is None:
            raise Problem(404, "NOT_FOUND", "there is no such item")
        document = stored_item(row)
        note_readable(request, *leave_out_foreign(cursor, [document], row["principals"]))
    note_private(request, is_private=not row["is_public"])
    note_version(request, row["version"])
    note_age(request, [document])
    item = as_item(document)
    note_preview(request, item)
    return item


def _renders_of_item(reader: Any) -> dict[str, dict[str, Any]]:
    return signed_links(layers_of(reader))


def _renders_of_mosaic(backend: Any) -> dict[str, dict[str, Any]]:
    return signed_links(layers_of_mosaic(backend.input, backend.request))


async def _on_bad_option(request: Request, error: Exception) -> Response:
    level = logging.WARNING if is_raised_here(error) else logging.INFO
    log.log(level, "option refused", extra={"path": request.scope["path"]}, exc_info=error)
    return answer(400, "INVALID_PARAMETER", "a band, range or option does not fit this raster")


async def _on_left(request: Request, error: Exception) -> Response:
    """Nobody reads it."""
    return Response(status_code=499)


async def _on_empty(request: Request, error: Exception) -> Response:
    """As titiler: no item has a pixel there."""
    return Response(status_code=204)


def create_raster_app(settings: ApiSettings) -> TileApplication:
    """Return the application that is mounted at `/raster`; the caller sets `state.dbpool`."""
    app = TileApplication(
        lambda made: _add_routes(made, settings),
        title=f"{settings.title}: tiles",
        openapi_url="/api",
        docs_url="/api.html",
        redoc_url=None,
    )
    app.state.mosaic_max_items, app.state.mosaic_threads = settings.mosaic_max_items, settings.mosaic_threads
    app.state.mosaic_time_limit_s, app.state.most_pixels = settings.mosaic_time_limit_s, settings.max_picture_pixels
    add_handlers(app)
    app.add_middleware(FromAfar)
    for kind in UNFIT:
        app.add_exception_handler(kind, _on_bad_option)
    app.add_exception_handler(ClientLeft, _on_left)
    for nothing in (NoAssetFoundError, EmptyMosaicError):
        app.add_exception_handler(nothing, _on_empty)
    app.add_middleware(Bounded)
    app.add_middleware(SmallBodies, most=settings.max_body_bytes)
    app.add_middleware(Mounted)
    app.add_middleware(Noted)
    app.add_middleware(Resigned)
    return app


def _add_routes(app: FastAPI, settings: ApiSettings) -> None:
    root, places = settings.public_url.rstrip("/"), Places(settings, lambda: app.state.remote)
    item, collection, search = item_of, mosaic_of(settings), search_mosaic_of(settings)
    app.include_router(map_router(root, item))
    app.include_router(renders_router(root, item))
    app.include_router(searches_router(settings, root))
    reader = reader_of(places)
    drawn = [drawing_of(one) for one in (item, collection, search)]
    factories = (
        (_ITEM, "items", _item_routes(reader, item, drawn[0], root)),
        (_COLLECTION, "collections", _mosaic_routes(reader, collection, drawn[1], _COLLECTION, root)),
        (_SEARCH, "searches", _mosaic_routes(reader, search, drawn[2], _SEARCH, root)),
    )
    for prefix, tag, factory in factories:
        app.include_router(factory.router, prefix=prefix, tags=[tag])
    offers = (
        (_ITEM, "items", offers_of(item)),
        (_COLLECTION, "collections", offers_of(collection)),
        (_SEARCH, "searches", offers_of(search)),
        ("", "catalogue", offers_of_all(places)),
    )
    for prefix, tag, offer in offers:
        app.include_router(wmts_router(root, prefix, tag, offer))
        app.include_router(wms_router(root, prefix, tag, offer))
    conforms_to = {name for _, _, factory in factories for name in factory.conforms_to} | TMSFactory().conforms_to
    app.include_router(ogc_router(root, settings.title, conforms_to, places, collection))
    app.include_router(density_router)
    app.include_router(TMSFactory().router, tags=["tile matrix sets"])
    app.include_router(ColorMapFactory().router, tags=["colour maps"])
    app.include_router(AlgorithmFactory().router, tags=["algorithms"])
    app.include_router(signed_router)
    light = {algorithm_of, pixel_selection_of, MapParams, *drawn[0].values()}  # those of mosaics may ask the database
    call_at_once(app, light, instead={OGCMapsParams: MapParams})  # titiler's factories take no other


def _item_routes(reader: type[PgSTACReader], item: Callable[..., Any], drawn: dict[str, Any], root: str) -> ItemTiles:
    return ItemTiles(
        reader=reader,
        path_dependency=item,
        **drawn,
        render_func=render_image,
        supported_tms=GRIDS,
        img_part_dependency=PartParams,
        img_preview_dependency=PictureParams,
        process_dependency=algorithm_of,
        router_prefix=_ITEM,
        add_viewer=True,
        add_ogc_maps=True,
        templates=map_templates(root),
        get_renders=_renders_of_item,
    )


def _mosaic_routes(
    reader: type[PgSTACReader], mosaic: Callable[..., Any], drawn: dict[str, Any], prefix: str, root: str
) -> MosaicTiles:
    return MosaicTiles(
        backend=cast(Any, MosaicBackend),
        backend_dependency=BackendParams,
        dataset_reader=cast(Any, reader),
        path_dependency=mosaic,
        **drawn,
        render_func=render_image,
        supported_tms=GRIDS,
        assets_accessor_dependency=AccessorParams,
        pixel_selection_dependency=pixel_selection_of,
        img_part_dependency=PartParams,
        process_dependency=algorithm_of,
        router_prefix=prefix,
        add_viewer=True,
        add_statistics=True,
        add_part=True,
        add_ogc_maps=True,
        templates=map_templates(root),
        get_renders=_renders_of_mosaic,
    )
