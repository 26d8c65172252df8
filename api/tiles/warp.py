"""Where the pixels of an image lie in a raster, by control points: exact transformations at a few, straight lines between.

Between control points the error is largest in the middle. It is known there exactly, for the middles are transformed too; where it is too
large the points get denser, and in the end GDAL's warper does the work.
"""

from __future__ import annotations

import math

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.warp import transform

Floats = NDArray[np.float64]
#: Control points along a side, tried in this order.
STEPS = (5, 9, 17, 33)
#: Error in source pixels that ends the search, and the one that is bearable when it is at its end.
GOOD_PX, MAX_PX = 0.02, 0.125


def source_positions(
    xs: Floats, ys: Floats, image_crs: CRS, source_crs: CRS, to_pixel: Affine
) -> tuple[Floats, Floats] | None:
    """Columns and rows in the raster, (ys, xs) each, as fractions of pixels from its upper left corner.

    Args:
        xs: x of the image's columns in `image_crs`.
        ys: y of its rows.
        image_crs: of the image.
        source_crs: of the raster.
        to_pixel: from the raster's coordinates to its pixels.

    Returns:
        None where the transformation is not finite or bends too much, as at poles and antimeridian.
    """
    for count in STEPS:
        dense = _exact(_spread(xs, 2 * count - 1), _spread(ys, 2 * count - 1), image_crs, source_crs, to_pixel)
        if dense is None:
            return None
        error = max(_bending(part) for part in dense)
        if error <= GOOD_PX or (count == STEPS[-1] and error <= MAX_PX):
            across, down = _weights(xs, count), _weights(ys, count)
            columns, rows = (down @ part[::2, ::2] @ across.T for part in dense)
            return columns, rows
    return None


def _spread(values: Floats, count: int) -> Floats:
    return np.linspace(values[0], values[-1], count)


def _exact(xs: Floats, ys: Floats, image_crs: CRS, source_crs: CRS, to_pixel: Affine) -> tuple[Floats, Floats] | None:
    grid_x, grid_y = np.meshgrid(xs, ys)
    if image_crs is source_crs:
        x, y = grid_x, grid_y
    else:
        try:
            found = transform(image_crs, source_crs, grid_x.ravel(), grid_y.ravel())
        except (CPLE_BaseError, RasterioError, ValueError):
            return None
        x, y = (np.asarray(part).reshape(grid_x.shape) for part in found[:2])
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return None
    return to_pixel.a * x + to_pixel.b * y + to_pixel.c, to_pixel.d * x + to_pixel.e * y + to_pixel.f


def _bending(dense: Floats) -> float:
    """Largest distance from the straight lines between every second point."""
    known = dense[::2, ::2]
    between_x = (known[:, :-1] + known[:, 1:]) / 2
    between_y = (known[:-1] + known[1:]) / 2
    centres = (between_x[:-1] + between_x[1:]) / 2
    worst = max(
        np.abs(between_x - dense[::2, 1::2]).max(),
        np.abs(between_y - dense[1::2, ::2]).max(),
        np.abs(centres - dense[1::2, 1::2]).max(),
    )
    return float(worst) if math.isfinite(worst) else math.inf


def _weights(values: Floats, count: int) -> Floats:
    """(values, count): how much of each control point is in each value."""
    length = values[-1] - values[0]
    if length == 0:
        found = np.zeros((len(values), count))
        found[:, 0] = 1
        return found
    place = (values - values[0]) * ((count - 1) / length)
    left = np.clip(np.floor(place).astype(np.intp), 0, count - 2)
    share = place - left
    found = np.zeros((len(values), count))
    at = np.arange(len(values))
    found[at, left] = 1 - share
    found[at, left + 1] = share
    return found
