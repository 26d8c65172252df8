"""How much work one request may ask for, looked at before anything is opened; sides of pictures are bounded by `api.tiles.largest`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from api.guard import read_body, replayed
from api.problems import Problem, answer
from api.tiles.expressions import check_expression

MOST_ASSETS: Final = 16
MOST_BINS: Final = 1024
#: `cover_scale` times the side of what is counted: rasters are made of so many cells a side.
MOST_COVER: Final = 20_480
_MOST_TEXT: Final = 20_000
_MOST_FORMULA: Final = 200
_MOST_PARAMETERS: Final = 200
#: Parameters that name a reference system. PROJ would take definitions too, with files in them.
_SYSTEMS: Final = frozenset({"crs", "dst_crs", "coord_crs", "bbox-crs"})
_SYSTEM: Final = re.compile(
    r"\[?(?:[A-Za-z]{2,10}:[A-Za-z0-9_]{1,12}|urn:ogc:def:crs:[A-Za-z0-9:._]{1,60}|https?://www\.opengis\.net/def/crs/[A-Za-z0-9/._]{1,60})\]?",
    re.ASCII,
)


#: Coordinates, and where none is on the Earth, in whatever units: GDAL goes round the Earth as often as a place is away, for minutes.
_PLACES: Final = ("minx", "miny", "maxx", "maxy", "lon", "lat")
_FAR: Final = 1e9


@dataclass(frozen=True, slots=True)
class Limits:
    """What an operator sets."""

    most_pixels: int
    most_assets: int = MOST_ASSETS


def check_sizes(asked: Iterable[tuple[str, str]], limits: Limits, *, is_statistics: bool) -> None:
    """Look at the parameters of a request, of its path and of its query, as texts. What is no number is left to who reads it.

    Raises:
        Problem: 400 TOO_LARGE_A_PICTURE, INVALID_EXPRESSION, TOO_MANY.
    """
    pairs = list(asked)
    given = {name.lower(): value for name, value in pairs}
    sides = [_number(given, name) for name in ("width", "height")]
    if (pixels := math.prod(side or 1 for side in sides)) > limits.most_pixels:
        raise _too_large("width x height", limits.most_pixels, pixels)
    _check_together(sides, _number(given, "max_size"), pairs, limits)
    _check_bins(given.get("histogram_bins", ""))
    _check_places([given.get(name, "") for name in _PLACES] + given.get("bbox", "").split(","))
    if is_statistics:
        side = max(_number(given, "max_size") or 0, *(one or 0 for one in sides)) or STATISTICS_SIDE
        _check("cover_scale", _number(given, "cover_scale"), MOST_COVER // max(1, int(side)))
    _check_layers(pairs, limits)


#: Pixels of the longer side of what statistics are made of, unless a request says how many.
STATISTICS_SIDE: Final = 2048


def _check_together(
    sides: list[float | None], max_size: float | None, pairs: list[tuple[str, str]], limits: Limits
) -> None:
    """Pictures of all assets are in memory at once; those whose size is not told have the usual one."""
    pixels = math.prod(side or 0 for side in sides) or (max_size or 0) * (max_size or 0)  # 1e300 ** 2 would raise
    assets = sum(name == "assets" for name, _ in pairs)
    if (together := pixels * assets) > limits.most_pixels:
        raise _too_large("width x height x assets", limits.most_pixels, together)


def _check_layers(pairs: list[tuple[str, str]], limits: Limits) -> None:
    if len(pairs) > _MOST_PARAMETERS:
        raise Problem(400, "TOO_MANY", f"at most {_MOST_PARAMETERS} parameters", limit=_MOST_PARAMETERS)
    assets = [value for name, value in pairs if name == "assets"]
    if len(assets) > limits.most_assets:
        raise Problem(400, "TOO_MANY", f"at most {limits.most_assets} assets", field="assets", limit=limits.most_assets)
    for name, value in pairs:
        if len(value) > _MOST_TEXT:
            raise Problem(400, "TOO_LONG", f"{name[:80]!r} has at most {_MOST_TEXT} characters")
        if name == "expression" and value:
            check_expression(value)
        if name in _SYSTEMS and value and not _SYSTEM.fullmatch(value):
            raise Problem(400, "INVALID_CRS", "a reference system is EPSG:code, or a URI of OGC's", field=name)
        if name == "color_formula" and len(value) > _MOST_FORMULA:
            raise Problem(400, "TOO_LONG", f"a formula has at most {_MOST_FORMULA} characters", field=name)
    for asset in assets:
        _check_asset(asset)


def _check_places(texts: Iterable[str]) -> None:
    for text in texts:
        try:
            value = float(text)
        except ValueError:
            continue
        if math.isfinite(value) and abs(value) > _FAR:
            raise Problem(400, "INVALID_BBOX", "the box has no place on the Earth", field="bbox")


def _check_asset(asset: str) -> None:
    _, *options = asset.split("|")
    for option in options:
        key, is_told, value = option.partition("=")
        if not is_told:
            raise Problem(400, "INVALID_PARAMETER", "an asset's option is name=value", field="assets")
        if key == "expression":
            check_expression(value)
        elif value.count(",") >= MOST_ASSETS:
            raise Problem(
                400, "TOO_MANY", f"at most {MOST_ASSETS} bands of an asset", field="assets", limit=MOST_ASSETS
            )


def _check_bins(text: str) -> None:
    parts = text.split(",")
    try:
        is_many = len(parts) > MOST_BINS or (len(parts) == 1 and float(parts[0] or 0) > MOST_BINS)
    except ValueError:
        return
    if is_many:
        raise Problem(400, "TOO_MANY", f"at most {MOST_BINS} bins", field="histogram_bins", limit=MOST_BINS)


def _number(given: Mapping[str, str], name: str) -> float | None:
    try:
        value = float(given[name])
    except (KeyError, ValueError):
        return None
    return value if math.isfinite(value) else math.inf


def _check(name: str, value: float | None, most: float) -> None:
    if value is not None and value > most:
        raise _too_large(name, most, value)


def _too_large(name: str, most: float, value: float) -> Problem:
    actual = value if math.isfinite(value) else None
    return Problem(
        400, "TOO_LARGE_A_PICTURE", f"{name} is at most {most:g} here", field=name, limit=most, actual=actual
    )


def check_request(request: Request) -> None:
    """Nothing is looked up for a request that asks for too much; `app.state.most_pixels` is the operator's limit.

    Raises:
        Problem: 400.
    """
    path: dict[str, Any] = request.path_params
    asked = [*((name, str(value)) for name, value in path.items()), *request.query_params.multi_items()]
    is_statistics = request.scope["route"].path.endswith("/statistics")
    check_sizes(asked, Limits(request.app.state.most_pixels), is_statistics=is_statistics)


class SmallBodies:
    """Reads bodies before the routes do, which would read any length."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT", "PATCH"):
            await self._app(scope, receive, send)
            return
        try:
            body = await read_body(Request(scope, receive), self._most)
        except Problem as problem:
            await answer(problem.status, problem.code, problem.detail, **problem.facts)(scope, receive, send)
            return
        await self._app(scope, replayed(body, receive), send)
