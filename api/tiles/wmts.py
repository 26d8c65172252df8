"""WMTS 1.0.0, KVP and RESTful, of an item, a mosaic, or the whole catalogue. Source: OGC 07-057r7."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Depends
from morecantile import Tile, TileMatrixSet, tms
from rasterio.errors import RasterioError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from titiler.core.utils import tms_limits

from api.tiles.inside import Answer, ask_inside
from api.tiles.layers import Layer, Offer, Place
from api.tiles.place_values import INFO_FORMATS, NOWHERE, told
from api.tiles.services import FORMATS, Asked, ServiceError, blank, page

_NAMES: Final = frozenset({
    "SERVICE", "REQUEST", "VERSION", "ACCEPTVERSIONS", "SECTIONS", "UPDATESEQUENCE", "ACCEPTFORMATS", "LAYER", "STYLE", "FORMAT",
    "TILEMATRIXSET", "TILEMATRIX", "TILEROW", "TILECOL", "TIME", "I", "J", "INFOFORMAT", "USE_EPSG", "TILE_FORMAT", "TILESIZE",
})  # fmt: skip
#: Sets that WMTS can say: their matrices' rows are all of one width. The first is what clients take that do not choose.
SETS: Final = (
    "WebMercatorQuad", "WorldCRS84Quad", "WGS1984Quad", "WorldMercatorWGS84Quad", "EuropeanETRS89_LAEAQuad", "UTM31WGS84Quad",
    "UPSArcticWGS84Quad", "UPSAntarcticWGS84Quad", "NZTM2000Quad", "CanadianNAD83_LCC", "LINZAntarticaMapTilegrid",
)  # fmt: skip
#: Sets of the whole world, in which limits of a layer can be told.
_WORLDWIDE: Final = SETS[:4]
_TILE: Final = 256


def wmts_router(root: str, path: str, tag: str, offer_of: Callable[..., Offer]) -> APIRouter:
    """`{path}/wmts` and `{path}/WMTSCapabilities.xml`; `offer_of` is a dependency that gives its layers."""
    router = APIRouter(tags=[tag])
    offered = Depends(offer_of)

    @router.get(f"{path}/wmts")
    async def wmts(request: Request, offer: Offer = offered) -> Response:
        """WMTS 1.0.0 by key and value: GetCapabilities, GetTile, GetFeatureInfo."""
        try:
            return await _answered(request, Asked(request, _NAMES), offer, root)
        except ServiceError as error:
            return refused(error)

    @router.get(f"{path}/WMTSCapabilities.xml")
    async def capabilities(request: Request, offer: Offer = offered) -> Response:
        """WMTS 1.0.0: the capabilities; parameters of tiles are passed on to the tiles' URLs."""
        try:
            return await run_in_threadpool(_capabilities, request, Asked(request, _NAMES), offer, root)
        except ServiceError as error:
            return refused(error)

    return router


def refused(error: ServiceError) -> Response:
    """An exception report of OWS Common 1.1."""
    return page("ows_exception.xml", {"error": error}, status=error.status)


async def _answered(request: Request, asked: Asked, offer: Offer, root: str) -> Response:
    wanted = asked.need("REQUEST").lower()
    services = (
        ("WMTS", "WMS") if wanted == "getcapabilities" else ("WMTS",)
    )  # QGIS asks so of an address without a query
    if asked.get("SERVICE", "WMTS").upper() not in services:
        raise ServiceError("InvalidParameterValue", "this is a WMTS", locator="SERVICE")
    if wanted == "getcapabilities":
        versions = asked.get("ACCEPTVERSIONS", "1.0.0").split(",")
        if "1.0.0" not in versions:
            raise ServiceError("VersionNegotiationFailed", "the version is 1.0.0", locator="ACCEPTVERSIONS")
        return await run_in_threadpool(_capabilities, request, asked, offer, root)
    if asked.get("VERSION", "1.0.0") != "1.0.0":
        raise ServiceError("InvalidParameterValue", "the version is 1.0.0", locator="VERSION")
    if wanted == "gettile":
        return await _tile(request, asked, offer)
    if wanted == "getfeatureinfo":
        return await _values(request, asked, offer)
    raise ServiceError("OperationNotSupported", "there is no such operation", locator="REQUEST")


def _capabilities(request: Request, asked: Asked, offer: Offer, root: str) -> Response:
    """All layers and the page of them, which is much work for many: not on the event loop."""
    format_ = asked.get("TILE_FORMAT", "png")
    media_type = {name: media for media, name in FORMATS.items()}.get(
        {"jpg": "jpeg", "tiff": "tif"}.get(format_, format_)
    )
    if media_type is None:
        raise ServiceError("InvalidParameterValue", "a format is png, jpeg, webp, avif or tif", locator="tile_format")
    found = offer.every()
    sets = [tms.get(name) for name in (SETS if len(found) == 1 else SETS[:2])]
    extension = FORMATS[media_type]
    query = urlencode(asked.others)
    values = {
        "root": root,
        "here": _url(request, root),
        "query": query,
        "infos": INFO_FORMATS,
        "media_types": [media_type, *(one for one in FORMATS if one != media_type and one != "image/tiff")],
        "layers": [_layer(layer, sets, root, extension, asked) for layer in found],
        "sets": [_set(one, is_short=asked.get("USE_EPSG").lower() in ("true", "1", "yes")) for one in sets],
    }
    return page("wmts.xml", values)


def _url(request: Request, root: str) -> str:
    """Where the service answers by key and value."""
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    return f"{root}/raster{path.removesuffix('/WMTSCapabilities.xml').removesuffix('/wmts')}/wmts"


def _layer(layer: Layer, sets: Sequence[TileMatrixSet], root: str, extension: str, asked: Asked) -> dict[str, Any]:
    """What the template needs of a layer. A layer that is drawn by parameters has them in the place of a style."""
    is_told = any(name == "assets" for name, _ in asked.others)
    parts = [urlencode(asked.others)] if asked.others else []
    parts += [] if is_told else ["render={Style}"]
    parts += ["time={Time}"] if layer.times else []
    template = f"{root}/{layer.path}/tiles/{{TileMatrixSet}}/{{TileMatrix}}/{{TileCol}}/{{TileRow}}.{extension}"
    return {
        "layer": layer,
        "styles": ["default"] if is_told else layer.styles,
        "template": f"{template}?{'&'.join(parts)}" if parts else template,
        "sets": [(one.id, _limits(layer, one)) for one in sets],
    }


def _limits(layer: Layer, one: TileMatrixSet) -> list[Any]:
    """Rows and columns of a layer in the matrices that are worth asking for; none: all."""
    if one.id not in _WORLDWIDE:
        return []
    try:
        return list(tms_limits(one, layer.bounds, zooms=layer.zooms(one)))
    except (RasterioError, ValueError):
        return []


def _set(one: TileMatrixSet, *, is_short: bool) -> dict[str, Any]:
    code = one.rasterio_crs.to_epsg()
    is_crs84 = one.id == "WorldCRS84Quad"
    name = "urn:ogc:def:crs:OGC:1.3:CRS84" if is_crs84 else f"urn:ogc:def:crs:EPSG::{code}"
    return {"id": one.id, "crs": f"EPSG:{code}" if is_short and code else name, "matrices": one.tileMatrices}


async def _tile(request: Request, asked: Asked, offer: Offer) -> Response:
    media_type = asked.get("FORMAT", "image/png")
    if media_type not in FORMATS:
        raise ServiceError("InvalidParameterValue", "there is no such format", locator="FORMAT")
    path, query, _ = _place(asked, offer)
    answer = await ask_inside(request, f"{path}.{FORMATS[media_type]}", query)
    if answer.status == 204 or answer.code == "TILE_OUTSIDE_BOUNDS":
        body = await run_in_threadpool(blank, _TILE, _TILE, FORMATS[media_type])
        return Response(body, media_type=media_type)
    _check(answer)
    return Response(answer.body, media_type=answer.media_type)


async def _values(request: Request, asked: Asked, offer: Offer) -> Response:
    """Values at a pixel of a tile."""
    if (kind := asked.get("INFOFORMAT", "application/json")) not in INFO_FORMATS:
        text = f"values are given as {', '.join(INFO_FORMATS)}"
        raise ServiceError("InvalidParameterValue", text, locator="INFOFORMAT")
    path, query, (one, zoom, column, row) = _place(asked, offer)
    across, down = asked.whole("I", _TILE - 1), asked.whole("J", _TILE - 1)
    bounds = one.xy_bounds(Tile(column, row, zoom))
    x = bounds.left + (across + 0.5) * (bounds.right - bounds.left) / _TILE
    y = bounds.top - (down + 0.5) * (bounds.top - bounds.bottom) / _TILE
    crs = one.rasterio_crs.to_epsg()
    where = path.split("/tiles/", 1)[0]
    answer = await ask_inside(request, f"{where}/point/{x!r},{y!r}", [*query, ("coord_crs", f"EPSG:{crs or 4326}")])
    if answer.status == 204 or answer.code == "TILE_OUTSIDE_BOUNDS":
        return told(NOWHERE, kind)
    _check(answer)
    return told(answer.body, kind)


def _place(asked: Asked, offer: Offer) -> tuple[str, list[tuple[str, str]], tuple[TileMatrixSet, int, int, int]]:
    """The path of a tile below the tile server, without its format, the query for it, and which tile it is."""
    layer = place_named(offer, asked.need("LAYER"), "LAYER")
    name, matrix = asked.need("TILEMATRIXSET"), asked.need("TILEMATRIX")
    if name not in tms.list():
        raise ServiceError("InvalidParameterValue", "there is no such tile matrix set", locator="TILEMATRIXSET")
    one = tms.get(name)
    matrix = matrix.rsplit(":", 1)[-1]
    found = next((level for level in one.tileMatrices if level.id == matrix), None)
    if found is None:
        raise ServiceError("InvalidParameterValue", "there is no such tile matrix", locator="TILEMATRIX")
    column, row = asked.whole("TILECOL", 2**31), asked.whole("TILEROW", 2**31)
    if column >= found.matrixWidth:
        raise ServiceError("TileOutOfRange", "the column is outside the matrix", locator="TILECOL")
    if row >= found.matrixHeight:
        raise ServiceError("TileOutOfRange", "the row is outside the matrix", locator="TILEROW")
    query = [*asked.others]
    if (style := asked.get("STYLE")) not in ("", "default"):
        query.append(("render", style))
    if layer.has_time and (moment := asked.get("TIME")):
        query.append(("time", moment))
    return f"{layer.path}/tiles/{name}/{matrix}/{column}/{row}", query, (one, int(matrix), column, row)


def place_named(offer: Offer, name: str, locator: str, code: str = "InvalidParameterValue") -> Place:
    """Where the layer of a name is.

    Raises:
        ServiceError: there is none that the caller may see.
    """
    if (place := offer.named(name)) is None:
        raise ServiceError(code, "there is no such layer", locator=locator)
    return place


def _check(answer: Answer) -> None:
    """Raises ServiceError: the tile route has refused."""
    if answer.status < 400:
        return
    locators = {"NO_SUCH_RENDER": "STYLE", "INVALID_DATETIME": "TIME", "NOT_FOUND": "LAYER"}
    code = "InvalidParameterValue" if answer.status == 400 else "NoApplicableCode"
    raise ServiceError(code, answer.detail, locator=locators.get(answer.code, ""), status=answer.status)
