"""What the item says of a raster: projection, bands with statistics, footprint, time, colours. Child process only."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from ingest.errors import UploadRejected
from ingest.uploads import gdal_metadata, pixels
from ingest.uploads.cog import Plan
from ingest.uploads.georeference import outline_of
from ingest.uploads.outline import footprint
from ingest.uploads.pixels import Sample
from ingest.uploads.text import clean_text
from ingest.uploads.tiff import GDAL_METADATA, GDAL_NODATA, TiffFile

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

#: JSON readers keep integers exact up to here.
_EXACT = 2**53
_TAG_TIME = re.compile(r"(\d{4}):(\d\d):(\d\d) (\d\d):(\d\d):(\d\d)")
#: No satellite before 1957; scanned aerial photographs are older, their scanners' clocks are not.
_FIRST_YEAR = 1900
_CHECKED_WINDOWS = 4
_MAX_TAGS = 1000


@dataclass(frozen=True, slots=True)
class Limits:
    """What `RasterSettings` says of footprints and previews; the settings themselves take half a second to import."""

    max_vertices: int
    preview_side: int
    preview_from_bytes: int


def check_type(source: DatasetReader) -> None:
    """Refuse what GDAL sees as other than real numbers of one type.

    Raises:
        UploadRejected: UNSUPPORTED_DTYPE, CORRUPT (no bands).
    """
    if source.count == 0:
        raise UploadRejected("CORRUPT", "the file has no bands")
    kinds = sorted(set(source.dtypes))
    if len(kinds) != 1 or "complex" in kinds[0]:
        raise UploadRejected("UNSUPPORTED_DTYPE", f"bands of type {', '.join(kinds)} are not supported")


def preview_factor(source: DatasetReader, limits: Limits) -> int:
    """By how much the preview is coarser, a power of two; 1: no preview, the whole is as fast."""
    decoded = source.width * source.height * source.count * np.dtype(source.dtypes[0]).itemsize
    factor = 1
    if decoded >= limits.preview_from_bytes:
        while max(source.width, source.height) > factor * limits.preview_side and factor < pixels.STEP:
            factor *= 2
    return factor


def texts_of(path: Path, count: int, role: str) -> tuple[str, ...]:
    """What the file calls each band, in a role ("description", "unittype"), cleaned; "" where it says nothing."""
    with path.open("rb") as file:
        tiff = TiffFile(file, path.stat().st_size)
        tags, _ = tiff.directory(tiff.first_directory(), _MAX_TAGS)
        told = gdal_metadata.band_texts(tiff.raw(tags[GDAL_METADATA]), role) if GDAL_METADATA in tags else {}
    return tuple(clean_text(told.get(band, ""), 100) for band in range(count))


def says_nodata(path: Path) -> bool:
    """Does the file give a number for nodata? Readers leave out one that its pixels cannot have."""
    with path.open("rb") as file:
        tiff = TiffFile(file, path.stat().st_size)
        tags, _ = tiff.directory(tiff.first_directory(), _MAX_TAGS)
        told = tiff.raw(tags[GDAL_NODATA])[:64] if GDAL_NODATA in tags else b""
    try:
        float(told.rstrip(b"\0 "))
    except ValueError:
        return False
    return True


def facts_of(source: DatasetReader, plan: Plan, sample: Sample, limits: Limits) -> tuple[dict[str, Any], list[str]]:
    """Everything that the item says of the file, as JSON; and warnings."""
    assert sample.cells is not None
    crs, validity = plan.crs, plan.validity
    units = texts_of(Path(source.name), source.count, "unittype")
    warnings = [] if sample.cells.any() else ["ALL_MASKED" if validity.has_mask or validity.alpha else "ALL_NODATA"]
    whole = outline_of(source)
    cells = source.transform @ source.transform.scale(sample.stride)
    geometry, bbox = footprint(crs, whole, sample.cells, cells, max_vertices=limits.max_vertices)
    epsg = crs.to_epsg()
    shown = [band for band in source.indexes if source.colorinterp[band - 1] != ColorInterp.alpha] or [1]
    found: dict[str, Any] = {
        "geometry": geometry,
        "bbox": bbox,
        "proj:code": f"EPSG:{epsg}" if epsg else None,
        "proj:wkt2": None if epsg else crs.to_wkt(version="WKT2_2019"),
        "proj:shape": [source.height, source.width],
        "proj:bbox": list(whole.bounds),
        "proj:transform": list(source.transform)[:6],
        "bands": [_band(source, band, plan, units[band - 1], sample) for band in shown],
        "colors": [source.colorinterp[band - 1].name for band in shown],
        "indexes": shown,
        "area_or_point": source.tags().get("AREA_OR_POINT", "Area"),
        "gsd_m": _ground_m(source, crs),
        "tag_datetime": _tag_datetime(source.tags().get("TIFFTAG_DATETIME")),
    }
    return found, warnings


def of_preview(found: dict[str, Any], preview: Path) -> dict[str, Any]:
    """The same facts of the coarse copy."""
    with rasterio.open(preview, driver="GTiff") as coarse:
        shape, transform = [coarse.height, coarse.width], list(coarse.transform)[:6]
    factor = transform[0] / found["proj:transform"][0] if found["proj:transform"][0] else 1.0
    gsd = found["gsd_m"] * factor if found["gsd_m"] else None
    return {**found, "proj:shape": shape, "proj:transform": transform, "gsd_m": gsd}


def check_equal(source: DatasetReader, target: Path) -> None:
    """Compare a few windows of the finished COG with the source: a last look at our own work.

    Raises:
        RuntimeError: they differ; a fault of ours.
    """
    with rasterio.open(target, driver="GTiff") as cog:
        for number in range(_CHECKED_WINDOWS):
            share = number / max(1, _CHECKED_WINDOWS - 1)
            column, row = (int(share * max(0, size - 256)) for size in (source.width, source.height))
            window = Window(column, row, min(256, source.width - column), min(256, source.height - row))
            if source.read(window=window).tobytes() != cog.read(window=window).tobytes():
                raise RuntimeError("the COG's pixels are not the source's")


def _ground_m(source: DatasetReader, crs: CRS) -> float | None:
    """Size of a pixel in metres, of the shorter side; None for degrees."""
    if not crs.is_projected:
        return None
    a, b, _, d, e, _ = list(source.transform)[:6]
    return float(min(math.hypot(a, d), math.hypot(b, e)) * crs.linear_units_factor[1])


def _tag_datetime(text: str | None) -> str | None:
    """TIFF's own time tag in RFC 3339 when it is a sane one; it has no zone and is taken for UTC."""
    match = _TAG_TIME.fullmatch((text or "").strip())
    if match is None:
        return None
    try:
        moment = datetime(*(int(part) for part in match.groups()), tzinfo=UTC)  # type: ignore[misc,arg-type]
    except ValueError:
        return None
    if (
        moment.year < _FIRST_YEAR
        or moment > datetime.now(UTC)
        or (moment.month, moment.day, moment.year) == (1, 1, 1970)
    ):
        return None
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _band(source: DatasetReader, index: int, plan: Plan, unit: str, sample: Sample) -> dict[str, Any]:
    """One band: name, type, nodata, scale, statistics of the sample; all numbers finite."""
    band: dict[str, Any] = {
        "name": plan.names[index - 1] or f"b{index}",
        "data_type": source.dtypes[index - 1],
    }
    if plan.validity.nodata is not None:
        band["nodata"] = _number(plan.validity.nodata)
    scale, offset = source.scales[index - 1], source.offsets[index - 1]
    if (scale != 1 or offset != 0) and math.isfinite(scale) and math.isfinite(offset):
        band |= {"raster:scale": scale, "raster:offset": offset}
    if unit:
        band["unit"] = unit
    values = sample.band(index)
    if values.size:
        wide = values.astype("float64")
        low, high = np.percentile(wide, [2, 98])
        deviation = float(wide.std()) if np.abs(wide).max() < 1e150 else None
        band["statistics"] = {
            "minimum": _number(values.min()),
            "maximum": _number(values.max()),
            "mean": float(np.mean(wide / wide.size) * wide.size),
            "valid_percent": round(100 * values.size / max(1, sample.seen), 3),
        }
        if deviation is not None:
            band["statistics"]["stddev"] = deviation
        band["rescale"] = [float(low), float(high)]
    band["is_palette"] = source.colorinterp[index - 1] == ColorInterp.palette
    return band


def _number(value: Any) -> Any:
    """A number as JSON takes it: STAC's words for what is not finite, floats for integers that JSON readers would round."""
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    plain = value.item() if hasattr(value, "item") else value
    return float(plain) if isinstance(plain, int) and abs(plain) > _EXACT else plain
