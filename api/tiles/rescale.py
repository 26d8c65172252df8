"""Rescaling and colouring by tables: a value of 8 or 16 bits is looked up, not computed, with the result that rio-tiler computes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rio_tiler.colormap import apply_cmap, make_lut
from rio_tiler.models import ImageData
from rio_tiler.types import ColorMapType, IntervalTuple
from rio_tiler.utils import linear_rescale

_TABLED = frozenset({"uint8", "uint16", "int16"})

Array = NDArray[Any]


def rescale(image: ImageData, ranges: Sequence[IntervalTuple]) -> None:
    """Stretch the bands of an image to 0..255 in place, as `ImageData.rescale` does."""
    kind = str(image.array.dtype)
    wanted = list(ranges) if len(ranges) == image.count else [ranges[0]] * image.count
    if kind not in _TABLED or image.alpha_mask is not None or not all(map(_is_plain, wanted)):
        image.rescale(ranges)
        return
    data, mask = image.array.data, image.array.mask
    scaled = np.empty(data.shape, np.uint8)
    unsigned = data.view(f"uint{8 * data.dtype.itemsize}")
    for band, (low, high) in enumerate(wanted):
        _table(kind, float(low), float(high)).take(unsigned[band], out=scaled[band], mode="clip")
    scaled[mask] = 0
    image.array = np.ma.MaskedArray(scaled, mask=mask)
    image.scales, image.offsets = [1.0] * image.count, [0.0] * image.count


def _is_plain(interval: IntervalTuple) -> bool:
    return len(interval) == 2 and all(map(math.isfinite, interval)) and interval[0] < interval[1]


@lru_cache(maxsize=256)
def _table(kind: str, low: float, high: float) -> NDArray[np.uint8]:
    """What becomes of each value, in the order of the values' bits; at most 64 KiB."""
    bits = np.arange(2 ** (8 * np.dtype(kind).itemsize), dtype=f"uint{8 * np.dtype(kind).itemsize}")
    values = bits.view(kind)
    return linear_rescale(values, (low, high)).astype(kind).astype(np.uint8)


def coloured(data: Array, colormap: ColorMapType) -> tuple[Array, Array]:
    """(red, green, blue) and alpha of one band, as `rio_tiler.colormap.apply_cmap` gives them."""
    if data.shape[0] != 1 or data.dtype != np.uint8 or not isinstance(colormap, dict):
        return apply_cmap(data, colormap)
    try:
        table = _colours(tuple(colormap.items()))
    except (TypeError, ValueError, OverflowError):
        table = None
    if table is None:
        return apply_cmap(data, colormap)
    return table[:3].take(data[0], axis=1), table[3].take(data[0])


@lru_cache(maxsize=64)
def _colours(items: tuple[tuple[Any, Any], ...]) -> NDArray[np.uint8] | None:
    """(4, 256): a colour for each value, transparent black for what has none; None: rio-tiler's own way is needed."""
    for value, colour in items:
        if type(value) is not int or not 0 <= value <= 255 or len(colour) != 4:
            return None
        if not all(type(part) is int and 0 <= part <= 255 for part in colour):
            return None
    return np.ascontiguousarray(make_lut(dict(items)).T) if items else None
