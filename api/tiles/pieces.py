"""What GDAL warps at once: a kernel is as wide as the piece of the image is smaller than its piece of the raster."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from api.tiles.kernels import Kernel, kernel_for
from api.tiles.overviews import Grid, picked
from api.tiles.warp import Floats, source_positions

#: Blocks of GDAL's warped VRT.
_BLOCK: Final = (512, 128)
#: Points along the side of a piece's outline.
_ALONG: Final = 9


@dataclass(frozen=True, slots=True)
class Frame:
    """A grid over an extent: how its pixels come to lie in a raster of `size`."""

    bounds: tuple[float, float, float, float]
    crs: CRS
    grid: Grid
    source_crs: CRS
    to_pixel: Affine
    size: tuple[int, int]

    def positions(self, columns: Floats, rows: Floats) -> tuple[Floats, Floats] | None:
        """Columns and rows in the raster of columns and rows of the grid; None: see `source_positions`."""
        west, south, east, north = self.bounds
        xs = west + columns * ((east - west) / self.grid.width)
        ys = north - rows * ((north - south) / self.grid.height)
        return source_positions(xs, ys, self.crs, self.source_crs, self.to_pixel)

    def kernel(self, name: str, left: int, top: int, right: int, bottom: int) -> Kernel | None:
        """The kernel for a piece of the grid.

        Returns:
            None where the outline has no place in the raster, or leaves it and the kernel is widened: by how much GDAL does that
            depends on which edge is crossed.
        """
        outline = self.positions(np.linspace(left, right, _ALONG), np.linspace(top, bottom, _ALONG))
        if outline is None:
            return None
        (left_at, right_at), (top_at, bottom_at) = (_span(part) for part in outline)
        kernel = kernel_for(name, (right - left, bottom - top), (right_at - left_at, bottom_at - top_at))
        is_inside = min(left_at, top_at) >= 0 and right_at <= self.size[0] and bottom_at <= self.size[1]
        return kernel if is_inside or not kernel.is_wide else None


def _span(positions: Floats) -> tuple[int, int]:
    """First pixel that holds any of them, and the one behind the last."""
    return math.floor(positions.min() + 1e-6), max(math.floor(positions.min()) + 1, math.ceil(positions.max() - 1e-6))


def pieces(
    frame: Frame, image: tuple[int, int], name: str, *, at_once: bool
) -> list[tuple[slice, slice, Kernel]] | None:
    """Rows and columns of the image, and the kernel for them.

    Args:
        frame: of the grid that GDAL warps to.
        image: size of the image, whose pixels are picked of the grid's.
        name: of the kernel.
        at_once: whether GDAL makes all of it in one piece, or the grid in blocks.

    Returns:
        None where a piece has no kernel that is known (`Frame.kernel`).
    """
    found = []
    for rows, columns, box in _boxes(frame.grid, image, at_once=at_once):
        kernel = frame.kernel(name, *box)
        if kernel is None:
            return None
        found.append((rows, columns, kernel))
    return found


def _boxes(
    grid: Grid, image: tuple[int, int], *, at_once: bool
) -> Iterator[tuple[slice, slice, tuple[int, int, int, int]]]:
    """Rows and columns of the image that lie in each block of the grid (left, top, right, bottom)."""
    across, down = (grid.width, grid.height) if at_once else _BLOCK
    columns, rows = picked(grid.width, image[0]), picked(grid.height, image[1])
    for top in range(0, grid.height, down):
        bottom = min(grid.height, top + down)
        of_rows = _between(rows, top, bottom)
        for left in range(0, grid.width, across):
            right = min(grid.width, left + across)
            of_columns = _between(columns, left, right)
            if of_rows.start < of_rows.stop and of_columns.start < of_columns.stop:
                yield of_rows, of_columns, (left, top, right, bottom)


def _between(places: NDArray[np.float64], first: int, last: int) -> slice:
    start, stop = np.searchsorted(places, (first, last))
    return slice(int(start), int(stop))
