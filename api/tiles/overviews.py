"""Which pixels of which overview an image is made of, as GDAL's RasterIO over a warped VRT takes them for rio-tiler.

rio-tiler warps to a grid of the raster's own resolution (where the image is finer: of the image's) and reads that at the size of the image.
GDAL gives such a grid the overviews of the raster. So an image is an overview, warped to a grid of about its resolution, of which an image
pixel takes the nearest; and when all bands are asked for, the overview is warped to the image at once (GDAL 3.11 and later).

Sources: GDAL 3.12, `GDALBandGetBestOverviewLevel2` and `VRTWarpedDataset`; each rule checked on rasters that number their pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: An overview may be coarser than asked for by this much when pixels are only picked, not mixed.
_NEAREST_SLACK, _MIXED_SLACK, _EPSILON = 1.2, 1.0, 0.1

Sizes = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """The grid that is warped to: its size, and the overview it takes from (None: full resolution)."""

    width: int
    height: int
    level: int | None


def grid_for(
    native: tuple[int, int], image: tuple[int, int], source: tuple[int, int], levels: Sizes, *, mixed: bool
) -> Grid:
    """The grid between raster and image.

    Args:
        native: size that the image's extent has at the raster's resolution (width, height), or the image's own where that is finer.
        image: size of the image.
        source: size of the raster.
        levels: sizes of its overviews, the finest first.
        mixed: whether image pixels are made of several pixels of the grid.
    """
    best = Grid(*native, None)
    if not (image[0] < native[0] or image[1] < native[1]):
        return best
    wanted = native[0] / image[0]
    if native[0] / image[0] >= native[1] / image[1] and image[1] != 1:
        wanted = native[1] / image[1]
    limit = wanted * (_MIXED_SLACK if mixed else _NEAREST_SLACK) + _EPSILON
    best_factor = 0.0
    for level, (width, _) in enumerate(levels):
        ratio = source[0] / width
        size = int(native[0] / ratio + 0.5), int(native[1] / ratio + 0.5)
        if min(size) < 1:
            break
        factor = min(native[0] / size[0], native[1] / size[1])
        if best_factor < factor < limit:
            best, best_factor = Grid(*size, level), factor
    return best


def picked(length: int, image: int) -> NDArray[Any]:
    """Centres of the grid's pixels that an image's pixels take, along one side, in pixels of the grid."""
    if length == image:
        return np.arange(image) + 0.5
    return np.floor((np.arange(image) + 0.5) * (length / image) + 1e-10) + 0.5
