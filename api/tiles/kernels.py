"""Bilinear and cubic interpolation at given positions, with the weights of GDAL's warper.

A pixel is made of those around its position: of 2 x 2 or 4 x 4, or of more, the kernel widened, where a raster is made smaller. Pixels
that are missing have no weight, and the others share theirs; a cubic kernel that is not whole becomes a bilinear one.

Source: GDAL 3.12, `alg/gdalwarpkernel.cpp`; each rule checked against it (`tests/api/tiles/test_kernels.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
#: Pixels that a kernel reaches from a position at full scale.
_REACH: Final = {"bilinear": 1, "cubic": 2}
#: Below this many image pixels a raster pixel the kernel is widened.
_AS_IT_IS: Final = 0.95
#: Positions that are reckoned at once: their weights fit into the processor's cache, and a large picture's do not fill the memory.
_AT_ONCE: Final = 2**16
#: Less weight than this is none.
_NOTHING: Final = 1e-5


@dataclass(frozen=True, slots=True)
class Kernel:
    """`name` is bilinear or cubic; `across` and `down` are image pixels a raster pixel, at most 1: less widens the kernel."""

    name: str
    across: float = 1.0
    down: float = 1.0

    @property
    def reach(self) -> tuple[int, int]:
        """Pixels to each side of a position, (across, down), that have a weight."""
        return tuple(math.ceil(_REACH[self.name] / scale) for scale in (self.across, self.down))  # type: ignore[return-value]

    @property
    def is_wide(self) -> bool:
        """Whether it is widened."""
        return self.across < 1 or self.down < 1


def kernel_for(name: str, image: tuple[int, int], window: tuple[int, int]) -> Kernel:
    """The kernel for an image, or a part that GDAL makes at once, of a window of the raster.

    Args:
        name: bilinear or cubic.
        image: pixels, (width, height).
        window: pixels of the raster that it is made of, the whole ones that hold its outline.
    """
    across, down = (_scale(pixels / max(1, of)) for pixels, of in zip(image, window, strict=True))
    if across >= _AS_IT_IS and down >= _AS_IT_IS:
        return Kernel(name)
    return Kernel(name, min(1.0, across), min(1.0, down))


def _scale(ratio: float) -> float:
    """GDAL takes what is nearly a whole number of pixels for one."""
    whole = round(1 / ratio) if ratio < 1 else 0
    return 1 / whole if whole and abs(1 / ratio - whole) < 0.05 else ratio


def interpolated(pixels: Array, valid: Array | None, columns: Array, rows: Array, kernel: Kernel) -> Array:
    """Values (bands, ...) at positions, in the type of the pixels.

    Args:
        pixels: (bands, rows, columns); has `kernel.reach` pixels around every position.
        valid: (rows, columns), which of them are there; None: all.
        columns: positions as fractions of pixels from the upper left corner of `pixels`.
        rows: the same.
    """
    kind = np.float32 if pixels.dtype.itemsize <= 2 or pixels.dtype == np.float32 else np.float64
    source = pixels.astype(kind)
    if valid is not None:
        source[:, ~valid] = 0
    values = np.empty((len(pixels), columns.size), pixels.dtype)
    across, down = columns.ravel(), rows.ravel()
    for start in range(0, columns.size, _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        found = _mixed(source, valid, across[part], down[part], kernel)
        if kernel.name == "cubic" and not kernel.is_wide and valid is not None:
            _mend(found, source, valid, across[part], down[part])
        values[:, part] = _as_type(found, pixels.dtype)
    return values.reshape(-1, *columns.shape)


def _mend(found: Array, source: Array, valid: Array, columns: Array, rows: Array) -> None:
    """Bilinear values where a cubic kernel is not whole."""
    column, row = np.floor(columns - 0.5).astype(np.intp), np.floor(rows - 0.5).astype(np.intp)
    holes = np.zeros((valid.shape[0] + 1, valid.shape[1] + 1), np.int32)
    holes[1:, 1:] = (~valid).cumsum(0).cumsum(1)
    left, right, top, bottom = column - 1, column + 3, row - 1, row + 3
    broken = (holes[bottom, right] - holes[top, right] - holes[bottom, left] + holes[top, left]) > 0
    if broken.any():
        found[:, broken] = _mixed(source, valid, columns[broken], rows[broken], Kernel("bilinear"))


def _mixed(source: Array, valid: Array | None, columns: Array, rows: Array, kernel: Kernel) -> Array:
    """Weighted means of floating point pixels; those that are not valid must be 0."""
    kind, width = source.dtype, source.shape[2]
    reach_x, reach_y = kernel.reach
    column, row = np.floor(columns - 0.5), np.floor(rows - 0.5)
    weigh = _WEIGHTS[kernel.name]
    across = _weights(weigh, (columns - 0.5 - column).astype(kind), reach_x, kernel.across)
    down = _weights(weigh, (rows - 0.5 - row).astype(kind), reach_y, kernel.down)
    first = ((row - (reach_y - 1)) * width + (column - (reach_x - 1))).astype(np.intp).ravel()
    layers = [*source.reshape(len(source), -1)]
    if valid is not None:
        layers.append(valid.astype(kind).ravel())
    sums = [_sum(layer, width, first, across, down) for layer in layers]
    if valid is not None:
        weight = sums.pop()
    elif kernel.is_wide:
        weight = np.sum(across, axis=0) * np.sum(down, axis=0)
    else:
        return np.stack(sums).reshape(-1, *columns.shape)
    there = np.abs(weight) > _NOTHING
    np.divide(1, weight, out=weight, where=there)
    weight[~there] = 0
    return np.stack([one * weight for one in sums]).reshape(-1, *columns.shape)


def _sum(layer: Array, width: int, first: Array, across: list[Array], down: list[Array]) -> Array:
    """The pixels of one band around each position, times their weights. `first` is the upper left one's place."""
    total = np.zeros(first.shape, layer.dtype)
    line, taken = np.empty_like(total), np.empty_like(total)
    for below, of_row in enumerate(down):
        for beside, of_column in enumerate(across):
            layer[below * width + beside :].take(first, out=taken, mode="clip")
            if beside:
                taken *= of_column
                line += taken
            else:
                np.multiply(taken, of_column, out=line)
        line *= of_row
        total += line
    return total


def _weights(weigh: Callable[[Array], Array], share: Array, reach: int, scale: float) -> list[Array]:
    """Weights of the pixels beside a position, the first ones first; `share` is how far it is behind the middle of one."""
    share = share.ravel()
    return [weigh((place - share) * share.dtype.type(scale)) for place in range(1 - reach, reach + 1)]


def _bilinear(distance: Array) -> Array:
    found: Array = np.maximum(0, 1 - np.abs(distance))
    return found


def _cubic(distance: Array) -> Array:
    """Keys' kernel with a = -1/2."""
    far = np.abs(distance)
    near = (1.5 * far - 2.5) * far * far + 1
    beyond = ((-0.5 * far + 2.5) * far - 4) * far + 2
    found: Array = np.where(far <= 1, near, np.where(far < 2, beyond, 0)).astype(distance.dtype)
    return found


_WEIGHTS: Final = {"bilinear": _bilinear, "cubic": _cubic}


def _as_type(found: Array, kind: np.dtype[Any]) -> Array:
    """Rounded and within the type's range, as GDAL does: a half goes up."""
    if kind.kind == "f":
        return found.astype(kind, copy=False)
    limits = np.iinfo(kind)
    found += 0.5
    np.floor(found, out=found)
    if kind.itemsize > 2:  # the largest value is no float of its own
        found = np.minimum(found, float(limits.max), out=found)
        return np.where(found >= limits.max, limits.max, np.maximum(found, limits.min)).astype(kind)
    return np.clip(found, limits.min, limits.max, out=found).astype(kind)
