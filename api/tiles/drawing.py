"""What is drawn: titiler's parameters, with a render hint behind them, the default one or that of a name (`render=ndvi`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, cast

import pystac
from fastapi import Depends, Query
from morecantile.models import crs_axis_inverted
from pydantic import AfterValidator
from pyproj import CRS as ProjCRS
from pyproj.exceptions import CRSError
from rio_tiler.colormap import cmap
from starlette.requests import Request
from titiler.core.dependencies import (
    AssetsExprParams,
    ColorMapParams,
    ImageRenderingParams,
    OGCMapsParams,
    PartFeatureParams,
    PreviewParams,
    _parse_asset,
)

from api.problems import Problem
from api.render_hints import PREVIEW, as_parameters, is_offered, names_of, render_of
from api.signatures import PARAMETER
from api.signed import SIGNATURE
from api.tiles.limits import STATISTICS_SIDE
from api.tiles.mosaics import Mosaic
from api.tiles.rendering import note_unkept

JSON = dict[str, Any]
Subject = pystac.Item | Mosaic
#: Routes that answer numbers: of all bands, whatever is drawn. Asked of the route's own path, for ids may hold such words.
_NUMBERS: Final = ("/statistics", "/point/")
#: Pixels of the longer side of pictures of boxes and features, unless a request says how many.
PART_SIDE: Final = 4096


def parsed_assets(values: list[str] | None) -> Any:
    """titiler's notation of assets, taken apart. Raises ValueError."""
    try:
        return None if values is None else _parse_asset(values)
    except ValueError:
        raise ValueError("an asset is key, or key|bidx=1,2, or key|expression=b1/b2") from None


Assets = Annotated[
    list[str] | None,
    AfterValidator(parsed_assets),
    Query(description="Keys of assets, `data` or `data|bidx=3,2,1`. None: as the render hint says."),
]
Render = Annotated[
    str | None,
    Query(max_length=100, description="Name of one of the render hints, which `raster_layers` of the TileJSON lists."),
]


def hint_of(request: Request, subject: Subject, render: str | None) -> JSON:
    """The hint that a request is drawn by; {}: there is none, or no item at all.

    Raises:
        Problem: 400 NO_SUCH_RENDER.
    """
    item = subject if isinstance(subject, pystac.Item) else subject.newest(request)
    if item is None:
        return {}
    return hint_named(item, [] if isinstance(subject, pystac.Item) else [subject.renders], render)


def hint_named(item: pystac.Item, more: Sequence[Any], render: str | None) -> JSON:
    """The same of an item, and of hints by name that come before its own.

    Raises:
        Problem: 400 NO_SUCH_RENDER.
    """
    if render not in (None, "", "default") and not is_offered(item, str(render), *more):
        raise Problem(400, "NO_SUCH_RENDER", "there is no render hint of this name", field="render")
    return render_of(item, render or "default", *more)


def hinted(
    hint: JSON, expression: str | None, asset_as_band: bool | None = None, *, is_drawn: bool = True
) -> AssetsExprParams:
    """What is read where a request names no assets; numbers are of all bands, unless it names a hint.

    Raises:
        Problem: 400 ASSETS_REQUIRED.
    """
    if not hint:
        raise Problem(400, "ASSETS_REQUIRED", "name assets: nothing says how this is drawn")
    names: list[Any] = hint["assets"]
    if "bidx" in hint and len(names) == 1 and is_drawn:
        names = [{"name": names[0], "indexes": hint["bidx"]}]
    told = hint.get("expression") if is_drawn else None
    return AssetsExprParams(assets=names, expression=expression or told, asset_as_band=asset_as_band)


def drawing_of(subject_of: Callable[..., Subject]) -> dict[str, Any]:
    """titiler's dependencies for what is drawn of the item or mosaic that `subject_of` finds."""

    found = Depends(subject_of)  # once a request, however many ask

    def layers(
        request: Request,
        subject: Subject = found,
        assets: Assets = None,
        render: Render = None,
        expression: Annotated[str | None, Query(description="Band arithmetic, `(b1-b2)/(b1+b2)`.")] = None,
        asset_as_band: Annotated[bool | None, Query(description="Each asset is one band.")] = None,
    ) -> AssetsExprParams:
        if assets is not None:
            return AssetsExprParams(assets=assets, expression=expression, asset_as_band=asset_as_band)
        hint = request.state.hint = hint_of(request, subject, render)
        if not hint and not isinstance(subject, pystac.Item) and subject.newest(request) is None:
            return AssetsExprParams(assets=[], expression=expression, asset_as_band=asset_as_band)  # nothing is there
        is_drawn = render is not None or not any(part in request.scope["route"].path for part in _NUMBERS)
        return hinted(hint, expression, asset_as_band, is_drawn=is_drawn)

    def rendering(
        request: Request,
        asked: Annotated[ImageRenderingParams, Depends()],
        subject: Subject = found,
        assets: Assets = None,
        render: Render = None,
    ) -> ImageRenderingParams:
        if assets is None and not asked.rescale and (ranges := hint_of(request, subject, render).get("rescale")):
            asked.rescale = ranges
        return asked

    def colours(
        request: Request,
        asked: Annotated[Any, Depends(ColorMapParams)],
        subject: Subject = found,
        assets: Assets = None,
        render: Render = None,
    ) -> Any:
        if assets is None and asked is None and (name := hint_of(request, subject, render).get("colormap_name")):
            return cmap.get(name)
        return asked

    return {"layer_dependency": layers, "render_dependency": rendering, "colormap_dependency": colours}


class PartParams(PartFeatureParams):
    """Sizes of pictures of boxes and features: native pixels, as far as they are not too many. One side alone is the longer one's."""

    def __init__(
        self,
        request: Request,
        max_size: Annotated[int | None, Query(gt=0, description="Pixels of the longer side, at most.")] = None,
        height: int | None = None,
        width: int | None = None,
    ) -> None:
        is_counted = request.scope["route"].path.endswith("/statistics")
        self.max_size, self.height, self.width = _sizes(
            max_size, height, width, STATISTICS_SIDE if is_counted else PART_SIDE
        )


class PictureParams(PreviewParams):
    """Sizes of pictures of whole items."""

    def __init__(
        self,
        max_size: Annotated[int, Query(gt=0, description="Pixels of the longer side, at most.")] = 1024,
        height: int | None = None,
        width: int | None = None,
    ) -> None:
        self.max_size, self.height, self.width = _sizes(max_size, height, width, max_size)  # type: ignore[assignment]


@dataclass
class MapParams(OGCMapsParams):
    """OGC API Maps (OGC 20-058): the axes of a box are in the order of its `bbox-crs`, where titiler has x first whatever it is.

    One side alone is the longer one's, for with the other in proportion to a box there would be no end.
    """

    def __post_init__(self) -> None:
        is_turned = self.bbox_crs is not None and _is_north_first(str(self.bbox_crs))
        super().__post_init__()  # type: ignore[no-untyped-call]
        if is_turned and self.bbox is not None:
            south, west, north, east = cast(list[float], self.bbox)
            self.bbox = cast(Any, [west, south, east, north])
        if (self.width is None) != (self.height is None):
            self.max_size, self.width, self.height = self.width or self.height, None, None


def _is_north_first(crs: str) -> bool:
    """Whether the first axis of a reference system is not the one to the east."""
    try:
        return bool(crs_axis_inverted(ProjCRS.from_user_input(crs)))
    except CRSError:
        return False  # titiler refuses it


def _sizes(
    max_size: int | None, height: int | None, width: int | None, most: int
) -> tuple[int | None, int | None, int | None]:
    """Largest side, height and width as rio-tiler takes them.

    Raises:
        Problem: 400.
    """
    if any(one is not None and one < 1 for one in (height, width)):
        raise Problem(400, "INVALID_PARAMETER", "a picture has a pixel at least", fields=["height", "width"])
    if height and width:
        return None, height, width
    return height or width or max_size or most, None, None


def layers_of_mosaic(mosaic: Mosaic, request: Request) -> dict[str, JSON]:
    """A mosaic's hints as parameters of its tile routes, by name."""
    item = mosaic.newest(request)
    if item is None:
        return {}
    return {name: as_parameters(render_of(item, name, mosaic.renders)) for name in names_of(item, mosaic.renders)}


def signed_links(renders: dict[str, JSON]) -> dict[str, JSON]:
    """Parameters of layers, for links that are signed as the request is."""
    signature = SIGNATURE.get()
    return (
        renders if signature is None else {name: {**values, PARAMETER: signature} for name, values in renders.items()}
    )


def note_preview(request: Request, item: pystac.Item) -> None:
    """Remember that a coarse copy is shown."""
    request.state.is_preview = any(PREVIEW in asset.extra_fields for asset in item.assets.values())
    if request.state.is_preview:
        note_unkept(request)
