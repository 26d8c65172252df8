"""How an item is drawn when a request names no assets: by `renders.default`, the render extension's hint. Parameters that are given win.

Sources: stac-extensions/render 2.0.0; the parameters are those of titiler's `AssetsParams`, `ImageRenderingParams`, `ColorMapParams`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import pystac
from fastapi import Depends, Query
from pydantic import AfterValidator
from rio_tiler.colormap import cmap
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from titiler.core.dependencies import AssetsParams, ColorMapParams, ImageRenderingParams, _parse_asset

from api.problems import Problem
from api.tiles.rendering import note_unkept

JSON = dict[str, Any]
PREVIEW = "federator:preview"
#: Routes that answer numbers: of all bands, whatever is drawn. Asked of the route's own path, for ids may hold such words.
_NUMBERS = ("/statistics", "/point/")
_MAX_BANDS = 4
_HUGE = 1e300


def render_of(item: pystac.Item, name: str = "default") -> JSON:
    """One hint of the item as far as it can be followed, else the asset `data`; {}: there is neither. Items may be written by anybody."""
    renders = item.properties.get("renders")
    hint = renders.get(name) if isinstance(renders, dict) else None
    return (_followed(hint, item) if isinstance(hint, dict) else {}) or (
        {"assets": ["data"]} if "data" in item.assets else {}
    )


def _followed(hint: JSON, item: pystac.Item) -> JSON:
    assets, bands = hint.get("assets"), hint.get("bidx")
    if not isinstance(assets, list) or not all(isinstance(one, str) for one in assets):
        return {}
    found: JSON = {"assets": [one for one in assets if one in item.assets][:_MAX_BANDS]}
    if isinstance(bands, list) and 0 < len(bands) <= _MAX_BANDS and all(type(one) is int and one > 0 for one in bands):
        found["bidx"] = bands
    if ranges := _ranges(hint.get("rescale")):
        found["rescale"] = ranges
    if isinstance(colours := hint.get("colormap_name"), str) and colours in cmap.list():
        found["colormap_name"] = colours
    return found if found["assets"] else {}


def layers_of(reader: Any) -> dict[str, JSON]:
    """The item's hints as parameters of the tile routes, by name: titiler offers each as a layer."""
    item: pystac.Item = reader.item
    found: dict[str, JSON] = {}
    renders = item.properties.get("renders")
    for name in renders if isinstance(renders, dict) else ():
        if hint := render_of(item, name):
            found[name] = _as_parameters(hint)
    return found


def _as_parameters(hint: JSON) -> JSON:
    names = hint["assets"]
    if "bidx" in hint and len(names) == 1:
        names = [f"{names[0]}|bidx={','.join(map(str, hint['bidx']))}"]
    parameters: JSON = {"assets": names}
    if "rescale" in hint:
        parameters["rescale"] = [f"{low},{high}" for low, high in hint["rescale"]]
    return parameters | ({"colormap_name": hint["colormap_name"]} if "colormap_name" in hint else {})


def _ranges(told: Any) -> list[tuple[float, float]]:
    if not isinstance(told, list) or len(told) > _MAX_BANDS:
        return []
    pairs = [one for one in told if isinstance(one, list) and len(one) == 2]
    if len(pairs) != len(told) or not all(
        type(end) in (int, float) and abs(end) < _HUGE for one in pairs for end in one
    ):
        return []
    return [(float(low), float(high)) for low, high in pairs]


def _parsed(values: list[str] | None) -> Any:
    return None if values is None else _parse_asset(values)


Assets = Annotated[
    list[str] | None,
    AfterValidator(_parsed),
    Query(description="Keys of assets, `data` or `data|bidx=3,2,1`. None: as the item's render hint says."),
]


def hinted(item_of: Callable[..., pystac.Item]) -> dict[str, Any]:
    """titiler's dependencies for what is drawn, with the hint of the item that `item_of` finds behind them."""

    found = Depends(item_of)  # once a request, however many ask

    def layers(request: Request, item: pystac.Item = found, assets: Assets = None) -> AssetsParams:
        if assets is not None:
            return AssetsParams(assets=assets)
        hint = render_of(item)
        if not hint:
            raise Problem(400, "ASSETS_REQUIRED", "name assets: the item does not say how it is drawn")
        names: list[Any] = hint["assets"]
        if "bidx" in hint and len(names) == 1 and not any(part in request.scope["route"].path for part in _NUMBERS):
            names = [{"name": names[0], "indexes": hint["bidx"]}]
        return AssetsParams(assets=names)

    def rendering(
        asked: Annotated[ImageRenderingParams, Depends()], item: pystac.Item = found, assets: Assets = None
    ) -> ImageRenderingParams:
        if assets is None and not asked.rescale and (ranges := render_of(item).get("rescale")):
            asked.rescale = ranges
        return asked

    def colours(
        asked: Annotated[Any, Depends(ColorMapParams)], item: pystac.Item = found, assets: Assets = None
    ) -> Any:
        if assets is None and asked is None and (name := render_of(item).get("colormap_name")):
            return cmap.get(name)
        return asked

    return {"layer_dependency": layers, "render_dependency": rendering, "colormap_dependency": colours}


def note_preview(request: Request, item: pystac.Item) -> None:
    """Remember for `Unkept` that a coarse copy is shown."""
    request.state.is_preview = any(PREVIEW in asset.extra_fields for asset in item.assets.values())
    if request.state.is_preview:
        note_unkept(request)


class Unkept:
    """Pictures of a coarse copy are not to be kept: the full resolution takes its place."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start" and scope.get("state", {}).get("is_preview"):
                kept = [(name, value) for name, value in message["headers"] if name.lower() != b"cache-control"]
                message = {**message, "headers": [*kept, (b"cache-control", b"no-store")]}
            await send(message)

        await self._app(scope, receive, marked)
