"""`/raster`: titiler-pgstac's item routes over our own COGs, and nothing else: no `url=`, no expressions, no algorithms."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Annotated, Any
from uuid import UUID

import attr
import pystac
from fastapi import FastAPI, Path
from psycopg.rows import dict_row
from rio_tiler.io import BaseReader
from rio_tiler.models import ImageData
from rio_tiler.types import AssetInfo, AssetType
from rio_tiler.utils import cast_to_sequence
from starlette.requests import Request
from starlette.responses import Response
from titiler.core.dependencies import AssetsParams, ColorMapParams, DatasetParams, ImageRenderingParams
from titiler.core.factory import ColorMapFactory, MultiBaseTilerFactory, TMSFactory
from titiler.extensions.wmts import wmtsExtension
from titiler.pgstac.reader import PgSTACReader

from api.access import principals_of
from api.map_page import map_router, map_templates
from api.problems import Problem, add_handlers, answer
from api.public_url import Mounted
from api.render_hints import Unkept, hinted, layers_of, note_preview
from api.settings import ApiSettings
from api.signatures import PARAMETER
from api.signed import NAME, SIGNATURE, SIGNED, Resigned, note_private
from api.signed import router as signed_router
from api.tiles.at_once import call_at_once
from api.tiles.encode import render_image
from api.tiles.grids import GRIDS, Geometry, geometry_in
from api.tiles.items import stored_item
from api.tiles.largest import Bounded
from api.tiles.low_zooms import router as density_router
from api.tiles.reader import FastReader
from api.tiles.remote import Remote
from api.tiles.remote import reader_of as remote_reader
from api.tiles.rendering import note_version
from db.queries import sql
from ingest.edits.hrefs import drop_foreign_assets, named_uploads
from ingest.settings import IngestSettings
from ingest.uploads.service import cog_path


def no_algorithm() -> None:
    """Post-processing by algorithm is off."""


def alternates_of(asset: pystac.Asset) -> Iterator[str]:
    """Where else the same file is (alternate-assets extension)."""
    others = asset.extra_fields.get("alternate")
    for other in others.values() if isinstance(others, dict) else ():
        if isinstance(other, dict) and isinstance(href := other.get("href"), str):
            yield href


def reader_of(settings: ApiSettings, remote: Callable[[], Remote]) -> type[PgSTACReader]:
    """A reader whose assets are our own COGs, found by id, and those at hosts that a source names; any other asset is refused."""
    ours = re.compile(re.escape(f"{settings.public_url.rstrip('/')}/uploads/") + r"([0-9a-f-]{36})/data\.tif")
    ingest = IngestSettings(data_dir=settings.data_dir, public_url=settings.public_url)

    @attr.s
    class OwnReader(PgSTACReader):
        reader: type[BaseReader] = attr.ib(default=FastReader)

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

        def _get_reader(self, asset_info: AssetInfo) -> type[BaseReader]:
            if asset_info["url"].startswith("/"):
                return self.reader
            return remote_reader(remote(), asset_info["name"])

        def _get_asset_info(self, asset: AssetType) -> AssetInfo:
            info = super()._get_asset_info(asset)
            options = {**info.get("method_options", {})}
            if "expression" in options:
                raise Problem(400, "EXPRESSIONS_OFF", "expressions are not available here")
            match = ours.fullmatch(info["url"])
            if match is not None:
                info["url"] = str(cog_path(ingest, UUID(match[1])).absolute())
                return info
            hrefs = (info["url"], *alternates_of(self.item.assets[info["name"]]))
            served = next((href for href in hrefs if remote().serves(href)), None)
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
    asked = (item_id, collection_id, list(principals_of(request)), SIGNED in request.scope)
    with request.app.state.dbpool.connection() as conn, conn.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(sql("api.item"), asked).fetchone()
        if row is None:
            raise Problem(404, "NOT_FOUND", "there is no such item")
        item = stored_item(row)
        if named := named_uploads([item]):
            found = cursor.execute(sql("sharing.readable_uploads"), (list(named), row["principals"])).fetchall()
            drop_foreign_assets(item, {one["id"] for one in found})
    note_private(request, is_private=not row["is_public"])
    note_version(request, row["version"])
    item["properties"].pop("deprecated", None)  # pystac would warn of every tile of an older version
    found_item = pystac.Item.from_dict(item, preserve_dict=False)
    note_preview(request, found_item)
    return found_item


def renders_of(reader: Any) -> dict[str, dict[str, Any]]:
    """The render extension's hints of the item; links that are made of them are signed as the request is."""
    renders = layers_of(reader)
    if (signature := SIGNATURE.get()) is not None:
        return {name: {**values, PARAMETER: signature} for name, values in renders.items()}
    return renders


async def _on_bad_option(request: Request, error: Exception) -> Response:
    return answer(400, "INVALID_PARAMETER", "a band, range or option does not fit this raster")


def create_raster_app(settings: ApiSettings) -> FastAPI:
    """Return the application that is mounted at `/raster`; the caller sets `state.dbpool`."""
    app = FastAPI(title=f"{settings.title}: tiles", openapi_url="/api", docs_url="/api.html", redoc_url=None)
    path_dependency: Callable[..., Any] = item_of
    root = settings.public_url.rstrip("/")
    drawn = hinted(item_of)
    items = MultiBaseTilerFactory(
        reader=reader_of(settings, lambda: app.state.remote),
        path_dependency=path_dependency,
        **drawn,
        process_dependency=no_algorithm,
        render_func=render_image,
        router_prefix="/collections/{collection_id}/items/{item_id}",
        supported_tms=GRIDS,
        add_viewer=True,
        templates=map_templates(root),
        get_renders=renders_of,
        extensions=[
            wmtsExtension(tile_dependencies=[AssetsParams, DatasetParams, ColorMapParams, ImageRenderingParams])
        ],
    )
    app.include_router(map_router(root, path_dependency))
    app.include_router(items.router, prefix="/collections/{collection_id}/items/{item_id}", tags=["items"])
    app.include_router(density_router)
    app.include_router(TMSFactory().router, tags=["tile matrix sets"])
    app.include_router(ColorMapFactory().router, tags=["colour maps"])
    app.include_router(signed_router)
    add_handlers(app)
    for kind in (ValueError, IndexError):  # what rio-tiler and titiler raise for options that do not fit
        app.add_exception_handler(kind, _on_bad_option)
    call_at_once(app, also={no_algorithm, *drawn.values()})
    app.add_middleware(Bounded)
    app.add_middleware(Mounted)
    app.add_middleware(Unkept)
    app.add_middleware(Resigned)
    return app
