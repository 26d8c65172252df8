"""WMS 1.1.1 and 1.3.0 of an item, a mosaic, or the whole catalogue. Sources: OGC 01-068r3, 06-042."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import numpy as np
from fastapi import APIRouter, Depends
from morecantile.models import crs_axis_inverted
from pyproj import CRS as ProjCRS
from pyproj.exceptions import CRSError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from api.tiles.inside import Answer, ask_inside
from api.tiles.layers import Offer
from api.tiles.notes import DEADLINE, note_partial
from api.tiles.place_values import INFO_FORMATS, NOWHERE, together, told
from api.tiles.services import FORMATS, Asked, ServiceError, blank, drawn, page
from api.tiles.wms_layers import MOST_SHOWN, Query, Shown, encoded, laid_over, shown_in

_NAMES: Final = frozenset({
    "SERVICE", "REQUEST", "VERSION", "WMTVER", "LAYERS", "STYLES", "CRS", "SRS", "BBOX", "WIDTH", "HEIGHT", "FORMAT", "TRANSPARENT",
    "BGCOLOR", "EXCEPTIONS", "TIME", "ELEVATION", "QUERY_LAYERS", "INFO_FORMAT", "FEATURE_COUNT", "I", "J", "X", "Y", "UPDATESEQUENCE",
    "DPI", "MAP_RESOLUTION", "FORMAT_OPTIONS", "SLD", "SLD_BODY", "TILED", "_",
})  # fmt: skip
#: Reference systems that are told, and of each layer the one of its pixels; any other of EPSG is taken too.
OFFERED: Final = ("EPSG:3857", "EPSG:4326", "CRS:84", "EPSG:3035", "EPSG:3395")
MOST_SIDE: Final = 4096
_CODE: Final = re.compile(r"EPSG:(\d{4,6})", re.IGNORECASE | re.ASCII)
_COLOUR: Final = re.compile(r"(?:0x|#)?([0-9a-f]{6})", re.IGNORECASE)
_EMPTY: Final = ("TILE_OUTSIDE_BOUNDS",)
#: What a tile route refuses -> the exception of WMS.
_CODES: Final = {
    "NOT_FOUND": "LayerNotDefined",
    "NO_SUCH_RENDER": "StyleNotDefined",
    "INVALID_DATETIME": "InvalidDimensionValue",
}


Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class View:
    """A picture that is asked for: the box in units of `crs` with x first, and its pixels."""

    crs: str
    box: tuple[float, float, float, float]
    width: int
    height: int


def wms_router(root: str, path: str, tag: str, offer_of: Callable[..., Offer]) -> APIRouter:
    """`{path}/wms`; `offer_of` is a dependency that gives its layers."""
    router = APIRouter(tags=[tag])
    offered = Depends(offer_of)

    @router.get(f"{path}/wms")
    async def wms(request: Request, offer: Offer = offered) -> Response:
        """WMS 1.1.1 and 1.3.0: GetCapabilities, GetMap, GetFeatureInfo."""
        asked = Asked(request, _NAMES)
        try:
            return await _answered(request, asked, offer, root)
        except ServiceError as error:
            return await _refused(error, asked, request.app.state.most_pixels)

    return router


def is_new(asked: Asked) -> bool:
    """Whether a request is of version 1.3.0, which is answered to who names none."""
    return asked.get("VERSION", asked.get("WMTVER", "1.3.0")) not in ("1.1.1", "1.1.0", "1.0.0")


async def _refused(error: ServiceError, asked: Asked, most_pixels: int) -> Response:
    """An exception as the client asked for it: XML, or a blank picture that is not larger than any other may be."""
    kind = asked.get("EXCEPTIONS", "XML").upper().rsplit("_", 1)[-1].rsplit(".", 1)[-1]
    name = FORMATS.get(asked.get("FORMAT"))
    if kind in ("BLANK", "INIMAGE") and name is not None:
        try:
            width, height = asked.whole("WIDTH", MOST_SIDE), asked.whole("HEIGHT", MOST_SIDE)
        except ServiceError:
            width = height = 0
        if 0 < width * height <= most_pixels:
            body = await run_in_threadpool(blank, width, height, name, _background(asked))
            return Response(body, media_type=asked.get("FORMAT"))
    values = {"error": error, "version": "1.3.0" if is_new(asked) else "1.1.1"}
    return page("wms_exception.xml", values, status=error.status)


async def _answered(request: Request, asked: Asked, offer: Offer, root: str) -> Response:
    wanted = asked.need("REQUEST").lower()
    if wanted in ("getcapabilities", "capabilities"):
        return await run_in_threadpool(_capabilities, request, asked, offer, root)
    if asked.get("SERVICE", "WMS").upper() != "WMS":
        raise ServiceError("InvalidParameterValue", "this is a WMS", locator="SERVICE")
    if wanted in ("getmap", "map"):
        return await _map(request, asked, offer)
    if wanted in ("getfeatureinfo", "feature_info"):
        return await _values(request, asked, offer)
    raise ServiceError("OperationNotSupported", "there is no such operation", locator="REQUEST")


def _capabilities(request: Request, asked: Asked, offer: Offer, root: str) -> Response:
    layers = offer.every()
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    query = urlencode(asked.others)
    values = {
        "root": root,
        "here": f"{root}/raster{path}?{query}&" if query else f"{root}/raster{path}?",
        "layers": layers,
        "formats": list(FORMATS),
        "infos": INFO_FORMATS,
        "crs": OFFERED,
        "most": MOST_SIDE,
        "most_layers": MOST_SHOWN,
        "world": _box_of(layers),
    }
    return page("wms_1.3.0.xml" if is_new(asked) else "wms_1.1.1.xml", values)


def _box_of(layers: list[Any]) -> tuple[float, ...]:
    """The box around all layers."""
    if not layers:
        return (-180.0, -90.0, 180.0, 90.0)
    sides = list(zip(*(layer.bounds for layer in layers), strict=True))
    return (min(sides[0]), min(sides[1]), max(sides[2]), max(sides[3]))


async def _map(request: Request, asked: Asked, offer: Offer) -> Response:
    media_type = asked.need("FORMAT").split(";")[0].strip()
    if media_type not in FORMATS:
        raise ServiceError("InvalidFormat", "there is no such format", locator="FORMAT")
    layers = shown_in(asked, offer, "LAYERS")
    view, background, name = _view(asked), _background(asked), FORMATS[media_type]
    if len(layers) == 1:
        body = await _one(request, layers[0], view, name, background)
    else:
        body = await _several(request, layers, view, name, background)
    return Response(body, media_type=media_type)


async def _one(request: Request, layer: Shown, view: View, name: str, background: Colour | None) -> bytes:
    is_plain = background is None and name != "jpeg"
    answer = await _drawn(request, layer, layer.query, view, name if is_plain else "npy")
    if answer is None:
        return await run_in_threadpool(blank, view.width, view.height, name, background)
    if is_plain:
        return answer.body
    return await run_in_threadpool(_painted, answer.body, name, background or (255, 255, 255))


async def _several(request: Request, layers: list[Shown], view: View, name: str, background: Colour | None) -> bytes:
    late: list[ServiceError] = []

    async def ask(layer: Shown, query: Query) -> Answer | None:
        try:
            return await _drawn(request, layer, query, view, "png")
        except ServiceError as error:
            if error.status != 503:
                raise
            late.append(error)  # the others are shown
            return None

    pixels, is_late = await laid_over(layers, request.app.state.mosaic_time_limit_s, ask)
    if late and pixels is None:
        raise late[0]
    if late or is_late:
        note_partial(request, DEADLINE)
    if pixels is None:
        return await run_in_threadpool(blank, view.width, view.height, name, background)
    return await run_in_threadpool(encoded, pixels, name, background)


async def _drawn(request: Request, layer: Shown, query: Query, view: View, name: str) -> Answer | None:
    """A layer's picture by its own route; None: it has no pixel there. Raises ServiceError."""
    box = ",".join(repr(one) for one in view.box)
    where = f"{layer.path}/bbox/{box}/{view.width}x{view.height}.{name}"
    answer = await ask_inside(request, where, [*query, ("coord_crs", view.crs), ("dst_crs", view.crs)])
    if answer.status == 204 or answer.code in _EMPTY:
        return None
    _check(answer)
    return answer


def _painted(pixels: bytes, name: str, background: tuple[int, int, int]) -> bytes:
    """Bands and mask in NPY as a picture on a ground of one colour."""
    array = np.load(io.BytesIO(pixels), allow_pickle=False)
    bands, mask = array[:-1], array[-1]
    if bands.dtype != np.uint8:
        low, high = _range(bands, mask)
        bands = np.clip((bands - low) / max(high - low, 1e-30) * 255, 0, 255).astype("uint8")
    bands = np.repeat(bands[:1], 3, axis=0) if bands.shape[0] < 3 else bands[:3]
    ground = np.array(background, "uint8").reshape(3, 1, 1)
    return drawn(np.ma.MaskedArray(np.where(mask == 0, ground, bands), mask=False), name, with_mask=False)


def _range(bands: Any, mask: Any) -> tuple[float, float]:
    there = bands[:, mask != 0]
    return (float(there.min()), float(there.max())) if there.size else (0.0, 1.0)


async def _values(request: Request, asked: Asked, offer: Offer) -> Response:
    """Values at a pixel of a picture."""
    kind = asked.get("INFO_FORMAT", "application/json")
    if kind not in INFO_FORMATS:
        raise ServiceError("InvalidFormat", f"values are given as {', '.join(INFO_FORMATS)}", locator="INFO_FORMAT")
    view = _view(asked)
    layers = shown_in(asked, offer, "QUERY_LAYERS")
    names = ("I", "J") if is_new(asked) else ("X", "Y")
    try:
        across, down = asked.whole(names[0], view.width - 1), asked.whole(names[1], view.height - 1)
    except ServiceError as error:
        raise ServiceError("InvalidPoint", error.text, locator=error.locator) from None
    west, south, east, north = view.box
    x = west + (across + 0.5) * (east - west) / view.width
    y = north - (down + 0.5) * (north - south) / view.height
    found = []
    for layer in layers:
        answer = await ask_inside(request, f"{layer.path}/point/{x!r},{y!r}", [*layer.query, ("coord_crs", view.crs)])
        if answer.status == 204 or answer.code in _EMPTY:
            continue
        _check(answer)
        found.append((layer.name, answer.body))
    if not found:
        return told(NOWHERE, kind)
    return told(found[0][1] if len(layers) == 1 else together(found), kind)


def _view(asked: Asked) -> View:
    """What is looked at.

    Raises:
        ServiceError
    """
    name = "CRS" if is_new(asked) else "SRS"
    crs = asked.get("CRS") or asked.get("SRS") if is_new(asked) else asked.get("SRS") or asked.get("CRS")
    if not crs:
        raise ServiceError("MissingParameterValue", f"{name} is missing", locator=name)
    box, is_turned = _box(asked.need("BBOX")), is_new(asked) and _is_turned(crs, f"Invalid{name}")
    if is_turned:
        box = (box[1], box[0], box[3], box[2])
    if box[0] >= box[2] or box[1] >= box[3]:
        raise ServiceError("InvalidParameterValue", "a box has its lower corner first", locator="BBOX")
    width, height = asked.whole("WIDTH", MOST_SIDE), asked.whole("HEIGHT", MOST_SIDE)
    if not (width and height):
        raise ServiceError("InvalidParameterValue", "a picture has a pixel at least", locator="WIDTH")
    if not is_turned:
        _is_turned(crs, f"Invalid{name}")
    return View("EPSG:4326" if _is_crs84(crs) else crs.upper(), box, width, height)


def _is_crs84(crs: str) -> bool:
    return crs.upper() in ("CRS:84", "OGC:CRS84")


def _is_turned(crs: str, code: str) -> bool:
    """Whether the standard's order of a reference system's axes is y, x.

    Raises:
        ServiceError: there is no such system.
    """
    if _is_crs84(crs):
        return False
    match = _CODE.fullmatch(crs)
    try:
        if match is not None:
            return bool(crs_axis_inverted(ProjCRS.from_epsg(int(match[1]))))
    except CRSError:
        pass
    raise ServiceError(code, "there is no such reference system", locator="CRS")


def _box(text: str) -> tuple[float, float, float, float]:
    try:
        numbers = [float(one) for one in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 4 or not all(math.isfinite(one) for one in numbers):
        raise ServiceError("InvalidParameterValue", "a box is four numbers", locator="BBOX")
    return (numbers[0], numbers[1], numbers[2], numbers[3])


def _background(asked: Asked) -> tuple[int, int, int] | None:
    """The colour of the ground; None: there is none."""
    if asked.get("TRANSPARENT", "FALSE").upper() == "TRUE":
        return None
    match = _COLOUR.fullmatch(asked.get("BGCOLOR", "0xFFFFFF"))
    number = int(match[1], 16) if match else 0xFFFFFF
    return (number >> 16, number >> 8 & 255, number & 255)


def _check(answer: Answer) -> None:
    """Raises ServiceError: the tile route has refused."""
    if answer.status >= 400:
        code = _CODES.get(answer.code, "InvalidParameterValue" if answer.status == 400 else "NoApplicableCode")
        raise ServiceError(code, answer.detail, status=answer.status)
