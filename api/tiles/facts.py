"""What is known of a raster before its pixels are read; made once for a state of a file (`pool.Pool.facts`)."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field

from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioIOError
from rasterio.io import DatasetReader
from rasterio.warp import calculate_default_transform
from rasterio.windows import from_bounds
from rio_tiler.constants import WEB_MERCATOR_CRS, WGS84_CRS
from rio_tiler.utils import non_alpha_indexes

from api.tiles.pool import Key, Pool

#: How pixels are told to be missing: not at all, by a value, by a mask band, by an alpha band. "other": what is left to rio-tiler.
NONE, NODATA, MASK, ALPHA, OTHER = "none", "nodata", "mask", "alpha", "other"
#: Latitude at which the square of Web Mercator ends, as rio-tiler rounds it.
_MERCATOR_EDGE = 85.06


@dataclass(frozen=True, slots=True)
class Facts:
    """A raster's geometry, bands and tags. `missing` is one of the words above; `alpha` the index of its band."""

    width: int
    height: int
    transform: Affine
    crs: CRS
    bounds: tuple[float, float, float, float]
    dtype: str
    missing: str
    nodata: float | None
    alpha: int | None
    indexes: tuple[int, ...]
    descriptions: tuple[str | None, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    statistics: tuple[tuple[float, float] | None, ...]
    colormap: dict[int, tuple[int, int, int, int]]
    has_overviews: bool
    resolutions: dict[str, tuple[float, float]] = field(default_factory=dict)

    def resolution_in(self, crs: CRS, name: str) -> tuple[float, float]:
        """Pixel size of the raster in another CRS, as rio-tiler takes it: (x, y), y negative. `name` stands for the CRS."""
        if name not in self.resolutions:
            self.resolutions[name] = _resolution(self, crs)
        return self.resolutions[name]


def facts_of(dataset: DatasetReader) -> Facts:
    """Read the facts of an open dataset."""
    alphas = [
        band for band, kind in zip(dataset.indexes, dataset.colorinterp, strict=True) if kind == ColorInterp.alpha
    ]
    return Facts(
        width=dataset.width,
        height=dataset.height,
        transform=dataset.transform,
        crs=dataset.crs,
        bounds=tuple(dataset.bounds),
        dtype=dataset.dtypes[0],
        missing=_missing(dataset, alphas),
        nodata=dataset.nodata,
        alpha=alphas[0] if alphas else None,
        indexes=non_alpha_indexes(dataset),
        descriptions=dataset.descriptions,
        scales=dataset.scales,
        offsets=dataset.offsets,
        statistics=tuple(_range(dataset.tags(band)) for band in dataset.indexes),
        colormap=_colormap(dataset),
        has_overviews=bool(dataset.overviews(1)),
    )


def level_sizes(pool: Pool, key: Key) -> tuple[tuple[int, int], ...]:
    """(width, height) of each overview, the finest first."""
    sizes: list[tuple[int, int]] = []
    with pool.lent(key) as dataset:
        levels = len(dataset.overviews(1))
    for level in range(levels):
        try:
            with pool.lent(Key(key.path, key.identity, level)) as overview:
                sizes.append((overview.width, overview.height))
        except RasterioIOError:
            break
    return tuple(sizes)


def _missing(dataset: DatasetReader, alphas: list[int]) -> str:
    """The word for it; `OTHER` for all that is not tested here against rio-tiler."""
    flags = {tuple(sorted(one)) for one in dataset.mask_flag_enums}
    is_odd = len(set(dataset.dtypes)) > 1 or "complex" in dataset.dtypes[0] or dataset.gcps[0] or dataset.crs is None
    if is_odd or _crosses_dateline(dataset):
        return OTHER
    if alphas:
        is_plain = len(alphas) == 1 and alphas[0] == dataset.count > 1 and dataset.nodata is None
        return ALPHA if is_plain and dataset.dtypes[0] in ("uint8", "uint16") else OTHER
    if len(flags) > 1:
        return OTHER
    (only,) = flags
    known = {
        (MaskFlags.all_valid,): NONE,
        (MaskFlags.nodata,): NODATA,
        (MaskFlags.per_dataset,): MASK,
    }
    found = known.get(only, OTHER)
    return OTHER if found == MASK and dataset.nodata is not None else found


def _crosses_dateline(dataset: DatasetReader) -> bool:
    """Whether longitudes leave -180 to 180: GDAL's warper turns such a raster's coordinates round."""
    if not dataset.crs.is_geographic:
        return False
    west, _, east, _ = dataset.bounds
    return bool(min(west, east) < -180 or max(west, east) > 180)


def _range(tags: dict[str, str]) -> tuple[float, float] | None:
    try:
        return float(tags["STATISTICS_MINIMUM"]), float(tags["STATISTICS_MAXIMUM"])
    except KeyError:
        return None


def _colormap(dataset: DatasetReader) -> dict[int, tuple[int, int, int, int]]:
    try:
        found: dict[int, tuple[int, int, int, int]] = dataset.colormap(1)
    except ValueError:
        return {}
    return found


def _resolution(facts: Facts, crs: CRS) -> tuple[float, float]:
    """What `rio_tiler.utils.get_vrt_transform` computes anew for each tile, of rasters beyond the edges of Web Mercator too."""
    width, height, bounds = facts.width, facts.height, list(facts.bounds)
    if facts.crs == WGS84_CRS and crs == WEB_MERCATOR_CRS and _leaves_mercator(bounds):
        warnings.warn("Adjusting dataset latitudes to avoid re-projection overflow", UserWarning, stacklevel=2)
        if bounds[1] < -_MERCATOR_EDGE or bounds[3] > _MERCATOR_EDGE:
            bounds[1], bounds[3] = max(bounds[1], -_MERCATOR_EDGE), min(bounds[3], _MERCATOR_EDGE)
        else:
            bounds[1], bounds[3] = min(bounds[1], _MERCATOR_EDGE), max(bounds[3], -_MERCATOR_EDGE)
        window = from_bounds(*bounds, transform=facts.transform)
        width, height = round(window.width), round(window.height)
    transform, _, _ = calculate_default_transform(facts.crs, crs, width, height, *bounds)
    if not (math.isfinite(transform.a) and math.isfinite(transform.e)):
        raise ValueError("the raster has no finite resolution there")
    return transform.a, transform.e


def _leaves_mercator(bounds: list[float]) -> bool:
    return any(abs(latitude) > _MERCATOR_EDGE for latitude in (bounds[1], bounds[3]))
