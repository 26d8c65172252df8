"""Tile matrix sets as they are shared by all requests; morecantile and rio-tiler make each anew for every tile."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from affine import Affine
from morecantile import TileMatrixSet
from morecantile.defaults import TileMatrixSets, default_tms
from morecantile.errors import InvalidIdentifier
from rasterio.crs import CRS
from rasterio.warp import calculate_default_transform

#: Transformation, width and height of a raster in another CRS.
Geometry = tuple[Any, int, int]


class SharedGrids(TileMatrixSets):
    """morecantile's own copies a set whenever it is asked for. Nothing changes one."""

    def get(self, identifier: str) -> TileMatrixSet:
        """The set of this name.

        Raises:
            InvalidIdentifier: there is none.
        """
        found = self.tilematrixsets.get(identifier)
        if isinstance(found, Path):
            found = TileMatrixSet.model_validate_json(found.read_text(encoding="utf-8"))
            self.tilematrixsets[identifier] = found
        if found is None:
            raise InvalidIdentifier(f"Invalid identifier: {identifier}")
        return found


GRIDS = SharedGrids(dict(default_tms))


@lru_cache(maxsize=1024)
def geometry_in(crs: CRS, source: CRS, transform: Affine, size: tuple[int, int], bounds: tuple[float, ...]) -> Geometry:
    """A raster's geometry in the CRS of a set, from which its zooms follow; as `SpatialMixin._dst_geom_in_tms_crs` says.

    Raises:
        Exception: what rasterio raises where there is none.
    """
    if source == crs:
        return list(transform), *size
    found: Geometry = calculate_default_transform(source, crs, *size, *bounds)
    return found
