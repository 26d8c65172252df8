"""PNG, quickly: the way of packing is chosen by what the picture is like (measured: docs/adr/0045)."""

from __future__ import annotations

from typing import Any

import numpy as np
from imagecodecs import PNG, png_encode
from numpy.typing import NDArray

#: Below this share of the raw bytes a picture has flat or repeated parts, for which matching strings pays.
_PACKS_WELL = 0.25
#: Below this one it is nearly of one colour: prediction only disturbs.
_PACKS_BEST = 0.02

Pixels = NDArray[np.uint8]


def encode(pixels: Pixels, *, quickly: bool = False) -> bytes:
    """A PNG of (rows, columns) or (rows, columns, 1 to 4 channels).

    Args:
        pixels: contiguous.
        quickly: larger, in half the time.
    """
    if quickly:
        return _packed(pixels, 1, PNG.STRATEGY.RLE, PNG.FILTER.UP)
    # Photographs: each pixel foretold from three neighbours; what is left has no strings, so none are searched for.
    found = _packed(pixels, 1, PNG.STRATEGY.RLE, PNG.FILTER.PAETH)
    if len(found) < pixels.nbytes * _PACKS_WELL:
        found = min(found, _packed(pixels, 3, PNG.STRATEGY.DEFAULT, PNG.FILTER.UP), key=len)
    if len(found) < pixels.nbytes * _PACKS_BEST:
        found = min(found, _packed(pixels, 6, PNG.STRATEGY.DEFAULT, PNG.FILTER.NO), key=len)
    return found


def _packed(pixels: Pixels, level: int, strategy: Any, row_filter: Any) -> bytes:
    return bytes(png_encode(pixels, level=level, strategy=strategy, filter=row_filter))
