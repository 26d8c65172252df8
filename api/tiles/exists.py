"""Whether a raster reaches into a tile, asked twice for each: by the reader of the item and by that of its asset."""

from __future__ import annotations

import math
from typing import Any, Final

from morecantile import Tile
from rasterio.crs import CRS
from rasterio.warp import transform_bounds
from rio_tiler.utils import normalize_bounds

Box = tuple[float, float, float, float]
_MOST: Final = 4096
#: (box, WKT of its reference system, WKT of the other one): the box in the other one. Emptied when it is full.
_known: dict[tuple[Box, str, str], Box] = {}


class OnceCarried:
    """rio-tiler's `SpatialMixin.tile_exists`, for readers; to carry the box of a tile into a reference system takes a tenth of the time
    of a tile."""

    tms: Any
    crs: Any
    bounds: Any

    def tile_exists(self, tile_x: int, tile_y: int, tile_z: int) -> bool:
        """As rio-tiler's; a tile far outside of its matrix is not looked at: GDAL goes round the Earth as often as it is away."""
        matrix = self.tms.matrix(tile_z)
        if abs(tile_x) > 2 * matrix.matrixWidth or abs(tile_y) > 2 * matrix.matrixHeight:
            return False
        west, south, east, north = self.tms.xy_bounds(Tile(tile_x, tile_y, tile_z))
        tile = box_in((west, south, east, north), self.tms.rasterio_crs, self.crs)
        if not all(map(math.isfinite, tile)):
            return True
        tile, own = normalize_bounds(tile), normalize_bounds(self.bounds)
        return tile[0] < own[2] and tile[2] > own[0] and tile[3] > own[1] and tile[1] < own[3]


def box_in(box: Box, crs: CRS, into: CRS | None) -> Box:
    """A box in another reference system.

    Raises:
        Exception: what rasterio raises where there is none.
    """
    if into is None:
        return _box_in(box, crs, into)
    key = box, crs.wkt, into.wkt
    found = _known.get(key)
    if found is None:
        found = box if crs == into else _box_in(box, crs, into)
        if len(_known) >= _MOST:
            _known.clear()
        _known[key] = found
    return found


def _box_in(box: Box, crs: CRS, into: CRS | None) -> Box:
    try:
        return transform_bounds(crs, into, *box, densify_pts=21)  # type: ignore[no-any-return]
    except Exception:  # noqa: BLE001 - rio-tiler: GDAL refuses the first time what it gives the second time
        return transform_bounds(crs, into, *box, densify_pts=21)  # type: ignore[no-any-return]
