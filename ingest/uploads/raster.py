"""What is asked of a raster: georeference, readable pixels, footprint, statistics. Runs in the child process only."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
import rasterio.features
import shapely
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import CRSError, RasterioError
from rasterio.warp import transform as transform_points
from rio_stac.stac import get_projection_info
from shapely.geometry import Polygon, box

from ingest.errors import RecordRejected, UploadRejected
from ingest.footprint import clean

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

WGS84 = "EPSG:4326"
MAX_VERTICES = 500
SAMPLE_SIDE = 1024
EDGE_POINTS = 21


def check(source: DatasetReader) -> None:
    """Refuse what cannot be put on a map.

    Raises:
        UploadRejected: UNSUPPORTED_DTYPE, NO_CRS, CRS_NOT_EARTH, CRS_INVALID, NOT_GEOREFERENCED, OUT_OF_BOUNDS
    """
    if any(dtype.startswith("complex") for dtype in source.dtypes) or len(set(source.dtypes)) != 1:
        raise UploadRejected(
            "UNSUPPORTED_DTYPE", f"bands of type {', '.join(sorted(set(source.dtypes)))} are not supported"
        )
    if source.crs is None:
        gcps, _ = source.gcps
        hint = (
            "georeferenced by ground control points only: warp it to a grid first"
            if gcps
            else "assign one, e.g. with gdal_edit"
        )
        raise UploadRejected("NO_CRS", "the file has no coordinate reference system", hint=hint)
    _check_transform(source)
    bounds = _lonlat(source, _edge(box(*source.bounds)))
    for lon, lat in bounds:
        if not (math.isfinite(lon) and math.isfinite(lat)):
            raise UploadRejected("OUT_OF_BOUNDS", "its corners have no place on the Earth")
        if not (-180.0001 <= lon < 360 and -90.0001 <= lat <= 90.0001):
            raise UploadRejected("OUT_OF_BOUNDS", f"it reaches to longitude {lon:.3f}, latitude {lat:.3f}")


def _check_transform(source: DatasetReader) -> None:
    transform = source.transform
    numbers = list(transform)[:6]
    if not all(math.isfinite(number) for number in numbers) or transform.determinant == 0:
        raise UploadRejected("NOT_GEOREFERENCED", "its geotransform is not usable")
    if transform.is_identity:
        raise UploadRejected("NOT_GEOREFERENCED", "the file has no geotransform")


def _lonlat(source: DatasetReader, points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    xs, ys = [x for x, _ in points], [y for _, y in points]
    try:
        lons, lats = transform_points(source.crs, WGS84, xs, ys)
    except CRSError:
        raise UploadRejected("CRS_INVALID", "its coordinate reference system cannot be used") from None
    except (RasterioError, rasterio._err.CPLE_BaseError):
        raise UploadRejected("CRS_NOT_EARTH", "its coordinate reference system is not one of the Earth") from None
    return list(zip(lons, lats, strict=True))


def _edge(polygon: Polygon) -> list[tuple[float, float]]:
    """The outline with enough points that its curve after reprojection is kept."""
    dense = polygon.segmentize(max(polygon.length / (4 * EDGE_POINTS), 1e-12))
    return [(x, y) for x, y in dense.exterior.coords]


def decode_all(source: DatasetReader) -> list[str]:
    """Decode every block of every band once; return warnings.

    Raises:
        UploadRejected: CORRUPT with the band and block that cannot be decoded.
    """
    for band in source.indexes:
        for (row, column), window in source.block_windows(band):
            try:
                source.read(band, window=window)
            except RasterioError:
                place = {"band": band, "block": [row, column]}
                raise UploadRejected(
                    "CORRUPT", f"block {row},{column} of band {band} cannot be decoded", **place
                ) from None
    return [] if source.nodata is not None or _has_mask(source) else ["NO_NODATA"]


def _has_mask(source: DatasetReader) -> bool:
    return any(MaskFlags.per_dataset in flags for flags in source.mask_flag_enums)


def facts(cog: DatasetReader) -> tuple[dict[str, Any], list[str]]:
    """Everything that the item says of the finished COG, as JSON; and warnings."""
    scale = max(1.0, max(cog.width, cog.height) / SAMPLE_SIDE)
    size = (max(1, round(cog.height / scale)), max(1, round(cog.width / scale)))
    valid = cog.dataset_mask(out_shape=size) > 0
    warnings = [] if valid.any() else ["ALL_NODATA"]
    geometry, bbox = _footprint(cog, valid)
    information = get_projection_info(cog)
    found: dict[str, Any] = {
        "geometry": geometry,
        "bbox": bbox,
        "proj:code": f"EPSG:{information['epsg']}" if information["epsg"] else None,
        "proj:wkt2": information.get("wkt2"),
        "proj:shape": information["shape"],
        "proj:bbox": information["bbox"],
        "proj:transform": information["transform"][:6],
        "bands": [_band(cog, index, size) for index in cog.indexes if cog.colorinterp[index - 1] != ColorInterp.alpha],
        "gsd_m": abs(cog.transform.a) if cog.crs.is_projected else None,
    }
    return found, warnings


def _band(cog: DatasetReader, index: int, size: tuple[int, int]) -> dict[str, Any]:
    """One band: name, type, nodata, scale, statistics of a sample; numbers that are not finite are left out."""
    values = cog.read(index, out_shape=size, masked=True)
    numbers = values.compressed().astype("float64")
    numbers = numbers[np.isfinite(numbers)]
    band: dict[str, Any] = {"name": _band_name(cog, index), "data_type": cog.dtypes[index - 1]}
    if (nodata := cog.nodata) is not None:
        band["nodata"] = (
            nodata if math.isfinite(nodata) else ("nan" if math.isnan(nodata) else ("inf" if nodata > 0 else "-inf"))
        )
    if cog.scales[index - 1] != 1 or cog.offsets[index - 1] != 0:
        band |= {"raster:scale": cog.scales[index - 1], "raster:offset": cog.offsets[index - 1]}
    if numbers.size:
        low, high = np.percentile(numbers, [2, 98])
        band["statistics"] = {
            "minimum": float(numbers.min()),
            "maximum": float(numbers.max()),
            "mean": float(numbers.mean()),
            "stddev": float(numbers.std()),
            "valid_percent": round(100 * numbers.size / values.size, 3),
        }
        band["rescale"] = [float(low), float(high)]
    band["is_palette"] = cog.colorinterp[index - 1] == ColorInterp.palette
    return band


def _band_name(cog: DatasetReader, index: int) -> str:
    """The band's description without control characters, else b1, b2, ..."""
    told = "".join(sign for sign in (cog.descriptions[index - 1] or "") if sign.isprintable()).strip()
    return told[:100] or f"b{index}"


def _footprint(cog: DatasetReader, valid: np.ndarray[Any, Any]) -> tuple[dict[str, Any], list[float]]:
    """Outline of the valid pixels in WGS 84, split at the antimeridian, with at most 500 vertices; all of it when none is valid."""
    outline = box(*cog.bounds) if valid.all() or not valid.any() else _outline(cog, valid)
    pixel = abs(cog.transform.determinant) ** 0.5
    for tolerance in (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0):
        simple = outline.simplify(tolerance * pixel) if tolerance else outline
        found = _projected(cog, simple)
        if found is not None:
            return found
    return _projected(cog, outline.convex_hull) or _whole(cog)


def _outline(cog: DatasetReader, valid: np.ndarray[Any, Any]) -> Any:
    """Union of the valid pixels of the sample, without holes, in the raster's coordinates."""
    height, width = valid.shape
    transform = cog.transform * cog.transform.scale(cog.width / width, cog.height / height)
    pieces = [
        Polygon(geometry["coordinates"][0])
        for geometry, value in rasterio.features.shapes(valid.astype("uint8"), mask=valid, transform=transform)
        if value
    ]
    union = shapely.union_all(pieces)
    return union if len(getattr(union, "geoms", [union])) <= 20 else union.convex_hull


def _projected(cog: DatasetReader, outline: Any) -> tuple[dict[str, Any], list[float]] | None:
    """The outline as GeoJSON and bbox; None when it has too many vertices or cannot be drawn."""
    rings = []
    for part in getattr(outline, "geoms", [outline]):
        if not isinstance(part, Polygon) or part.is_empty:
            continue
        points = _lonlat(cog, _edge(part))
        if not all(math.isfinite(number) for point in points for number in point):
            return None
        rings.append([[[round(lon, 7), max(-90.0, min(90.0, round(lat, 7)))] for lon, lat in points]])
    if not rings or sum(len(ring[0]) for ring in rings) > MAX_VERTICES:
        return None
    try:
        return clean({"type": "MultiPolygon", "coordinates": rings})
    except RecordRejected:
        return None


def _whole(cog: DatasetReader) -> tuple[dict[str, Any], list[float]]:
    """The raster's corners, when nothing finer can be drawn."""
    found = _projected(cog, box(*cog.bounds))
    if found is None:
        raise UploadRejected("OUT_OF_BOUNDS", "its outline cannot be drawn on the Earth")
    return found
