"""What OGC API Common asks of a server of tiles and maps: a landing page, conformance, and collections. titiler answers the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.tiles.layers import Layer, layer_of_mosaic, layers_of_all
from api.tiles.mosaics import Mosaic
from api.tiles.places import Places

JSON = dict[str, Any]
_REL: Final = "http://www.opengis.net/def/rel/ogc/1.0"
_COMMON: Final = "http://www.opengis.net/spec/ogcapi-common"
_CLASSES: Final = (
    f"{_COMMON}-1/1.0/conf/core", f"{_COMMON}-1/1.0/conf/landing-page", f"{_COMMON}-1/1.0/conf/json", f"{_COMMON}-1/1.0/conf/oas30",
    f"{_COMMON}-2/1.0/conf/collections",
)  # fmt: skip
_CRS84: Final = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"


def ogc_router(
    root: str, title: str, conforms_to: set[str], places: Places, mosaic_of: Callable[..., Mosaic]
) -> APIRouter:
    """`/`, `/conformance`, `/collections`, `/collections/{collection_id}` and its `/info`."""
    router = APIRouter(tags=["OGC API"])
    here, found = f"{root}/raster", Depends(mosaic_of)
    classes = sorted({*conforms_to, *_CLASSES})

    @router.get("/")
    def landing() -> Response:
        """Where everything is."""
        links = [
            _link("self", f"{here}/", "This page"),
            _link("service-desc", f"{here}/api", "OpenAPI", "application/vnd.oai.openapi+json;version=3.0"),
            _link("service-doc", f"{here}/api.html", "Documentation", "text/html"),
            _link("conformance", f"{here}/conformance", "Conformance"),
            _link("data", f"{here}/collections", "Collections with tiles"),
            _link(f"{_REL}/tiling-schemes", f"{here}/tileMatrixSets", "Tile matrix sets"),
            _link("wmts", f"{here}/WMTSCapabilities.xml", "WMTS of all collections", "text/xml"),
            _link("wms", f"{here}/wms?service=WMS&request=GetCapabilities", "WMS of all collections", "text/xml"),
        ]
        return JSONResponse(
            {"title": f"{title}: tiles", "description": "Tiles and maps of items and collections.", "links": links}
        )

    @router.get("/conformance")
    def conformance() -> Response:
        """Classes of the standards that are met."""
        return JSONResponse({"conformsTo": classes})

    @router.get("/collections")
    def collections(request: Request) -> Response:
        """Collections with tiles that the caller may see."""
        shown = [_collection(layer, here) for layer in layers_of_all(request, places)]
        return JSONResponse(
            {"links": [_link("self", f"{here}/collections", "Collections with tiles")], "collections": shown}
        )

    @router.get("/collections/{collection_id}")
    @router.get("/collections/{collection_id}/info")
    def collection(request: Request, mosaic: Mosaic = found) -> Response:
        """A collection: its extent, its styles, and where its tiles and maps are."""
        return JSONResponse(_collection(layer_of_mosaic(mosaic, request), here))

    return router


def _collection(layer: Layer, here: str) -> JSON:
    where = f"{here}/collections/{quote(layer.name, safe='')}"
    extent: JSON = {"spatial": {"bbox": [list(layer.bounds)], "crs": _CRS84}}
    if layer.times:
        extent["temporal"] = {"interval": [[f"{layer.times[0]}T00:00:00Z", f"{layer.times[1]}T23:59:59Z"]]}
    return {
        "id": layer.name,
        "title": layer.title,
        "dataType": "map",
        "extent": extent,
        "crs": [_CRS84],
        "styles": [{"id": style} for style in layer.styles],
        "links": [
            _link("self", where, layer.title),
            _link(f"{_REL}/tilesets-map", f"{where}/tiles", "Tilesets"),
            _link(f"{_REL}/map", f"{where}/map", "Map", "image/png"),
            _link("tilejson", f"{where}/WebMercatorQuad/tilejson.json", "TileJSON"),
            _link("wmts", f"{where}/WMTSCapabilities.xml", "WMTS", "text/xml"),
            _link("wms", f"{where}/wms?service=WMS&request=GetCapabilities", "WMS", "text/xml"),
            _link("preview", f"{where}/WebMercatorQuad/map.html", "Map", "text/html"),
        ],
    }


def _link(rel: str, href: str, title: str, media_type: str = "application/json") -> JSON:
    return {"rel": rel, "href": href, "title": title, "type": media_type}
