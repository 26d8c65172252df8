"""Whether a raster has a place on the Earth, and the way from its coordinates to longitude and latitude. Child process only."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.errors import CRSError, RasterioError
from rasterio.warp import transform as transform_points
from shapely.geometry import Polygon, box

from ingest.errors import UploadRejected
from ingest.uploads.tiff import TiffFile

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

WGS84 = CRS.from_epsg(4326)
#: Points along the whole edge when only its place is looked at.
MAX_EDGE = 84
#: Metres; the ellipsoids of the Earth in use are from 6,356,100 to 6,378,400.
EARTH_RADIUS = (6_340_000.0, 6_400_000.0)
_GEO_KEYS, _MODEL_TYPE, MAX_TAGS = 34735, 1024, 1000
_ELLIPSOID = re.compile(r'\b(?:ELLIPSOID|SPHEROID)\["[^"]*",\s*([0-9.eE+-]+)')
#: Circumference in the pseudo-Mercator of web maps: its rasters may run over the antimeridian.
_WEB_TURN = 2 * math.pi * 6_378_137.0

Point = tuple[float, float]


def crs_of(source: DatasetReader, told: str | None) -> CRS:
    """The raster's coordinate reference system; `told` ("EPSG:32633") is the user's, for files that have none.

    Raises:
        UploadRejected: NO_CRS, CRS_INVALID, CRS_NOT_EARTH.
    """
    crs = source.crs
    is_missing = crs is None or not crs.to_wkt()
    is_unclear = _is_local(crs) if not is_missing else told is None and not source.gcps[0]
    if is_unclear and _claims_earth(Path(source.name)):
        raise UploadRejected("CRS_INVALID", "the code of its coordinate reference system is not known")
    if is_missing:
        if told is not None:
            crs = _told_crs(told)
        else:
            gcps, _ = source.gcps
            hint = (
                "georeferenced by ground control points only: warp it to a grid first"
                if gcps
                else "send `crs` with the upload, or assign one, e.g. with gdal_edit"
            )
            raise UploadRejected("NO_CRS", "the file has no coordinate reference system", hint=hint)
    wkt = crs.to_wkt(version="WKT2_2019") if not _is_local(crs) else ""
    if not wkt:
        raise UploadRejected("CRS_NOT_EARTH", "its coordinate reference system is local, without a place on the Earth")
    radii = [float(radius) for radius in _ELLIPSOID.findall(wkt)]
    if any(not EARTH_RADIUS[0] <= radius <= EARTH_RADIUS[1] for radius in radii):
        raise UploadRejected("CRS_NOT_EARTH", f"its coordinate reference system is of a body of {radii[0]:.0f} m")
    if not (crs.is_geographic or crs.is_projected):
        raise UploadRejected("CRS_INVALID", "its coordinate reference system is neither geographic nor projected")
    return crs


def _told_crs(told: str) -> CRS:
    try:
        return CRS.from_epsg(int(told.removeprefix("EPSG:")))
    except (CRSError, ValueError):
        raise UploadRejected("CRS_INVALID", f"{told} is not known", field="crs") from None


def _claims_earth(path: Path) -> bool:
    """The file says that its coordinates are geographic or projected, whatever GDAL understood (GTModelTypeGeoKey)."""
    with path.open("rb") as file:
        tiff = TiffFile(file, path.stat().st_size)
        tags, _ = tiff.directory(tiff.first_directory(), MAX_TAGS)
        keys = list(tiff.integers(tags.get(_GEO_KEYS), 4 * MAX_TAGS))
    entries = [tuple(keys[at : at + 4]) for at in range(4, len(keys) - 3, 4)]
    return any(key == _MODEL_TYPE and value in (1, 2) for key, _, _, value in entries)


def _is_local(crs: CRS) -> bool:
    return bool(re.match(r"\s*(?:LOCAL_CS|ENGCRS|ENGINEERINGCRS)", crs.to_wkt()))


def check_place(source: DatasetReader, crs: CRS) -> None:
    """Refuse what has no place on the Earth.

    Raises:
        UploadRejected: NOT_GEOREFERENCED, OUT_OF_BOUNDS, CRS_INVALID, CRS_NOT_EARTH.
    """
    transform = source.transform
    numbers = list(transform)[:6]
    if not all(map(math.isfinite, numbers)) or not math.isfinite(transform.determinant) or transform.determinant == 0:
        raise UploadRejected("NOT_GEOREFERENCED", "its geotransform is not usable")
    if transform.is_identity:
        raise UploadRejected("NOT_GEOREFERENCED", "the file has no geotransform")
    corners = outline_of(source)
    if not all(map(math.isfinite, corners.bounds)):
        raise UploadRejected("OUT_OF_BOUNDS", "its corners are not finite")
    points = edge_of(corners, MAX_EDGE)
    # Grids by pixel centres reach half a pixel over the pole and the antimeridian.
    spare = max(abs(transform.a), abs(transform.b), abs(transform.d), abs(transform.e)) if crs.is_geographic else 1e-4
    for lon, lat in lonlat(crs, points):
        if not (math.isfinite(lon) and math.isfinite(lat)):
            raise UploadRejected("OUT_OF_BOUNDS", "its corners have no place on the Earth")
        if not (-180 - spare <= lon <= 360 + spare and -90 - spare <= lat <= 90 + spare):
            raise UploadRejected("OUT_OF_BOUNDS", f"it reaches to longitude {lon:.3f}, latitude {lat:.3f}")
    if crs.is_projected:
        _check_domain(crs, points)


def _check_domain(crs: CRS, points: Sequence[Point]) -> None:
    """Coordinates far outside of a projection's domain come back from the Earth as others."""
    back = np.array(_transformed(WGS84, crs, lonlat(crs, points)))
    off = np.abs(back - np.array(points))
    off[:, 0] = np.minimum(off[:, 0], np.abs(off[:, 0] - _WEB_TURN))
    largest = max(1.0, float(np.abs(points).max()))
    if not np.all(off <= 1e-3 * largest):
        raise UploadRejected("OUT_OF_BOUNDS", "its corners are outside of what its projection can show")


def outline_of(source: DatasetReader) -> Polygon:
    """The raster's four corners in its own coordinates; rotated ones too."""
    corners = [source.transform @ corner for corner in box(0, 0, source.width, source.height).exterior.coords]
    return Polygon(corners)


def edge_of(polygon: Polygon, most: int) -> list[Point]:
    """The closed outline with about `most` more points, so that its curve after reprojection is kept."""
    dense = polygon.segmentize(max(polygon.length / max(most, 4), 1e-12))
    return [(x, y) for x, y in dense.exterior.coords]


def lonlat(crs: CRS, points: Sequence[Point]) -> list[Point]:
    """Points of the raster's coordinates as longitude and latitude; not finite where there is no such place.

    Raises:
        UploadRejected: CRS_INVALID, CRS_NOT_EARTH.
    """
    if crs == WGS84:
        return list(points)
    found = _transformed(crs, WGS84, points)
    if not crs.is_geographic:
        return found
    # PROJ wraps longitudes; the raster's own say where it is.
    return [(_beside(lon, x), lat) for (x, _), (lon, lat) in zip(points, found, strict=True)]


def _beside(lon: float, x: float) -> float:
    """The longitude, shifted by whole turns to be next to `x`."""
    return lon + 360 * round((x - lon) / 360) if math.isfinite(lon) and math.isfinite(x) else lon


def _transformed(source: CRS, target: CRS, points: Sequence[Point]) -> list[Point]:
    try:
        xs, ys = transform_points(source, target, [x for x, _ in points], [y for _, y in points])
    except CRSError:
        raise UploadRejected("CRS_INVALID", "its coordinate reference system cannot be used") from None
    except rasterio._err.CPLE_NotSupportedError:
        raise UploadRejected("CRS_NOT_EARTH", "its coordinate reference system is not one of the Earth") from None
    except (RasterioError, rasterio._err.CPLE_BaseError):  # raised when not one of the points has a place
        raise UploadRejected("OUT_OF_BOUNDS", "its corners are outside of what its projection can show") from None
    return list(zip(xs, ys, strict=True))
