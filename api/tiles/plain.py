"""Requests for tiles as map clients send them, taken apart without FastAPI: the parameters that all of them know, each in its usual form.

What is written in another way, or is wrong, is not plain: FastAPI takes it apart, and says what is wrong. Values are checked by the same
functions and mean the same (`tests/api/test_plain_tiles.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, get_args
from urllib.parse import parse_qsl

from rio_tiler.colormap import cmap
from rio_tiler.types import ColorMapType, RIOResampling, WarpResampling
from titiler.core.dependencies import DatasetParams, ImageRenderingParams
from titiler.core.resources.enums import ImageType
from titiler.core.validation import validate_rescale

from api.problems import Problem
from api.tiles.drawing import parsed_assets
from api.tiles.grids import GRIDS
from api.tiles.largest import too_large
from api.tiles.limits import Limits, check_sizes
from ingest.sanitise import ID

_FORMATS: Final = "png|pngraw|jpg|jpeg|webp|npy|tif|tiff"
_TILE: Final = re.compile(
    rf"/raster/collections/{ID}(?:/items/{ID})?/tiles/([A-Za-z0-9_]{{1,64}})"
    rf"/(0|[1-9][0-9]?)/(0|[1-9][0-9]{{0,8}})/(0|[1-9][0-9]{{0,8}})\.({_FORMATS})"
)
_NUMBER: Final = re.compile(r"-?[0-9]{1,9}(?:\.[0-9]{1,9})?|nan")
_SETS: Final = frozenset(GRIDS.list())
_COLOURS: Final = frozenset(cmap.list())
_SWITCH: Final = {"true": True, "false": False}
_MOST_RENDER: Final = 100


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a query asks for; the same for all tiles of a map, and shared by them: not to be changed.

    `assets`, `expression` and `render` are as `api.tiles.drawing` takes them, `dataset` options as rio-tiler's readers do; `tilesize` None:
    that of the tile matrix set.
    """

    assets: list[Any] | None = None
    expression: str | None = None
    render: str | None = None
    tilesize: int | None = None
    colormap: ColorMapType | None = None
    rescale: list[tuple[float, float]] | None = None
    add_mask: bool | None = None
    dataset: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile and its format."""

    grid: str
    z: int
    x: int
    y: int
    form: ImageType


def tile_of(path: str) -> Tile | None:
    """The tile that a path below the application's root names; None: it is not plain."""
    match = _TILE.fullmatch(path)
    if match is None or match[1] not in _SETS:
        return None
    return Tile(match[1], int(match[2]), int(match[3]), int(match[4]), ImageType[match[5]])


@lru_cache(maxsize=2048)
def drawn_by(query: bytes, most_pixels: int) -> Drawn | None:
    """What a query asks for; None: it is not plain, or wrong."""
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        return None
    lists: dict[str, list[str]] = {}
    for name, value in pairs:
        lists.setdefault(name, []).append(value)
    if not lists.keys() <= _KNOWN or not all(value for _, value in pairs):
        return None
    if any(len(values) > 1 for name, values in lists.items() if name not in ("assets", "rescale")):
        return None
    if too_large("", query) is not None:
        return None
    try:
        check_sizes(pairs, Limits(most_pixels), is_statistics=False)
        return _drawn(lists)
    except (Problem, _Unusual, ValueError, AssertionError):
        return None


class _Unusual(Exception):
    """A value in a form that is left to FastAPI."""


def _drawn(lists: dict[str, list[str]]) -> Drawn:
    one = {name: values[0] for name, values in lists.items()}
    rescale = lists.get("rescale")
    stretched: Any = ImageRenderingParams(rescale=validate_rescale(rescale)) if rescale else None
    if len(one.get("render", "")) > _MOST_RENDER:
        raise _Unusual
    return Drawn(
        assets=parsed_assets(lists["assets"]) if "assets" in lists else None,
        expression=one.get("expression"),
        render=one.get("render"),
        tilesize=_whole(one["tilesize"]) if "tilesize" in one else None,
        colormap=cmap.get(_of(_COLOURS)(one["colormap_name"])) if "colormap_name" in one else None,
        rescale=stretched.rescale if stretched else None,
        add_mask=_switch(one["return_mask"]) if "return_mask" in one else None,
        dataset=DatasetParams(**{told: read(one[name]) for name, (told, read) in _DATASET.items() if name in one}).as_dict(),
    )  # fmt: skip


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 10_000):
        raise _Unusual
    return int(text)


def _switch(text: str) -> bool:
    if text not in _SWITCH:
        raise _Unusual
    return _SWITCH[text]


def _number(text: str) -> Any:
    if not _NUMBER.fullmatch(text):
        raise _Unusual
    return text if text == "nan" else float(text)


def _of(names: frozenset[str]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in names:
            raise _Unusual
        return text

    return read


#: Parameter: name in `DatasetParams`, and what reads it.
_DATASET: Final[dict[str, tuple[str, Callable[[str], Any]]]] = {
    "nodata": ("nodata", _number),
    "unscale": ("unscale", _switch),
    "resampling": ("resampling_method", _of(frozenset(get_args(RIOResampling)))),
    "reproject": ("reproject_method", _of(frozenset(get_args(WarpResampling)))),
}
_KNOWN: Final = {
    "assets", "expression", "render", "tilesize", "colormap_name", "rescale", "return_mask", *_DATASET,
}  # fmt: skip
