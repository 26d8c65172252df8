"""A raster that fills a very small part of an image is read for that part: what lies around it is not warped.

GDAL warps a grid of the raster's own resolution, which at the lowest zooms is that of a whole world for some kilometres of raster.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.warp import transform_bounds
from rio_tiler.models import ImageData

Bounds = tuple[float, float, float, float]
#: Pixels of an image at the raster's resolution up to which GDAL warps all of it quickly enough, with rio-tiler's pixels exactly: methods
#: that look at many pixels have a width that depends on what is warped at once.
MOST_NATIVE: Final = 2**28
#: Of an image: a raster that fills more of it is read as it is asked for, with the pixels that rio-tiler picks of it, bands for bands.
_MOST_SHARE: Final = 1 / 64
#: Pixels around what the raster's bounds say.
_MARGIN: Final = 2


@dataclass(frozen=True, slots=True)
class Place:
    """Columns and rows of an image, each from and to, on its own grid of pixels."""

    columns: tuple[int, int]
    rows: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.columns[1] - self.columns[0], self.rows[1] - self.rows[0]

    def bounds(self, image: Bounds, size: tuple[int, int]) -> Bounds:
        """Its bounds, in an image of these bounds and this size."""
        west, south, east, north = image
        x, y = (east - west) / size[0], (north - south) / size[1]
        return (
            west + self.columns[0] * x,
            north - self.rows[1] * y,
            west + self.columns[1] * x,
            north - self.rows[0] * y,
        )


def place_of(raster: Bounds, raster_crs: CRS, image: Bounds, image_crs: CRS, size: tuple[int, int]) -> Place | None:
    """Where a raster lies in an image, if that is a small part of it; None: it is not, or cannot be told."""
    try:
        west, south, east, north = transform_bounds(raster_crs, image_crs, *raster, densify_pts=21)
    except (CPLE_BaseError, RasterioError, ValueError):
        return None
    if not all(map(math.isfinite, (west, south, east, north))) or west > east:
        return None
    x, y = (image[2] - image[0]) / size[0], (image[3] - image[1]) / size[1]
    place = Place(
        _between((west - image[0]) / x, (east - image[0]) / x, size[0]),
        _between((image[3] - north) / y, (image[3] - south) / y, size[1]),
    )
    return place if math.prod(place.size) <= _MOST_SHARE * math.prod(size) else None


def placed(part: ImageData, place: Place, bounds: Bounds, size: tuple[int, int]) -> ImageData:
    """An image with a picture at its place, and nothing around it."""
    where = np.s_[..., slice(*place.rows), slice(*place.columns)]
    nothing: Any = 0 if part.nodata is None else part.nodata
    data = np.full((part.count, size[1], size[0]), nothing, part.array.dtype)
    mask = np.ones(data.shape, bool)
    data[where], mask[where] = part.array.data, np.ma.getmaskarray(part.array)
    alpha = None
    if part.alpha_mask is not None:
        alpha = np.zeros(data.shape[1:], part.alpha_mask.dtype)
        alpha[where] = part.alpha_mask
    return ImageData(
        np.ma.MaskedArray(data, mask=mask),
        bounds=bounds,
        crs=part.crs,
        assets=part.assets,
        band_names=part.band_names,
        band_descriptions=part.band_descriptions,
        dataset_statistics=part.dataset_statistics,
        nodata=part.nodata,
        alpha_mask=alpha,
        scales=part.scales,
        offsets=part.offsets,
        metadata=part.metadata,
    )


def _between(first: float, last: float, length: int) -> tuple[int, int]:
    begin = min(length - 1, max(0, math.floor(first) - _MARGIN))
    return begin, min(length, max(begin + 1, math.ceil(last) + _MARGIN))
