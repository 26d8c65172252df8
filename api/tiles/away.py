"""Pictures that a raster does not reach into.

Where none of a picture's pixels has a place in the raster GDAL's warper may leave its buffer as it was: what comes out then is whatever lay
in memory before (GDAL 3.12, of a box at the other end of the Earth from a raster in a national system). Such pictures are not asked of it.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.warp import transform, transform_bounds
from rio_tiler.models import ImageData

from api.tiles.placing import Place, placed

Box = tuple[float, float, float, float]
#: Places looked at along each side of a picture, and inside of it, for a pole may be there.
_ALONG: Final = 21
#: Of the larger of both boxes, around the raster.
_MARGIN: Final = 0.1
_NO_PLACE: Final = (CPLE_BaseError, RasterioError, ValueError)
_NOWHERE: Final = Place(columns=(0, 0), rows=(0, 0))


def is_away(bounds: Box, crs: CRS, raster: Box, raster_crs: CRS) -> bool:
    """Whether a picture has no place in a raster; False where that is not certain."""
    x, y = np.meshgrid(np.linspace(bounds[0], bounds[2], _ALONG), np.linspace(bounds[1], bounds[3], _ALONG))
    try:
        across, down = (np.asarray(one) for one in transform(crs, raster_crs, x.ravel(), y.ravel()))
    except _NO_PLACE:  # some of its places are outside of what the raster's system is for
        return _is_away_of(bounds, crs, raster, raster_crs)
    is_there = np.isfinite(across) & np.isfinite(down)
    if not is_there.any():
        return True
    if not is_there.all():
        return False
    picture = (across.min(), down.min(), across.max(), down.max())
    return not _meet_turned(picture, raster, raster_crs)


def _is_away_of(bounds: Box, crs: CRS, raster: Box, raster_crs: CRS) -> bool:
    """The same, looked at in the picture's system."""
    try:
        there = transform_bounds(raster_crs, crs, *raster, densify_pts=_ALONG)
    except _NO_PLACE:
        return False
    if not all(map(math.isfinite, there)) or there[0] > there[2]:
        return False
    return not _meet_turned(bounds, there, crs)


def _meet_turned(picture: Box, raster: Box, crs: CRS) -> bool:
    """Whether boxes meet; degrees of longitude on any turn around the Earth."""
    turns = (-360.0, 0.0, 360.0) if crs.is_geographic else (0.0,)
    return any(_meet((picture[0] + turn, picture[1], picture[2] + turn, picture[3]), raster) for turn in turns)


def _meet(picture: Box, raster: Box) -> bool:
    west, east = sorted((raster[0], raster[2]))
    south, north = sorted((raster[1], raster[3]))
    wide = _MARGIN * max(east - west, picture[2] - picture[0])
    high = _MARGIN * max(north - south, picture[3] - picture[1])
    return (
        picture[0] < east + wide
        and picture[2] > west - wide
        and picture[1] < north + high
        and picture[3] > south - high
    )


def nothing_like(pixel: ImageData, bounds: Box, crs: CRS, size: tuple[int, int]) -> ImageData:
    """A picture of nothing, of the bands and the kind of a raster's one pixel."""
    found = placed(pixel, _NOWHERE, bounds, size)
    found.crs = crs
    return found


def inmost(bounds: Box, transform_: Any) -> Box:
    """A box of a pixel in the middle of a raster."""
    x, y = (bounds[0] + bounds[2]) / 2, (bounds[1] + bounds[3]) / 2
    half_x, half_y = abs(transform_.a) / 2, abs(transform_.e) / 2
    return (x - half_x, y - half_y, x + half_x, y + half_y)
