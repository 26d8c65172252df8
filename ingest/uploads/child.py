"""The child process: opens one user's file, decodes every block, writes our own COG, reports facts as JSON lines.

Order on standard input: see `sandbox.order_for`. Lines on standard output: {"preview": facts} when a coarse copy can be shown (large
files), then {"facts", "warnings", "layers"} or {"refusal"}. Nothing here is trusted by the parent but the reports' shape.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingest.errors import UploadRejected
from ingest.uploads.confinement import confine
from ingest.uploads.drivers import ALLOWED_DRIVERS, gdal_skip

if TYPE_CHECKING:
    from rasterio.io import DatasetReader


def main() -> int:
    """Carry out one order."""
    order = json.loads(sys.stdin.read())
    layers = confine(
        Path(order["folder"]), {getattr(resource, name): value for name, value in order["rlimits"].items()}
    )
    try:
        report = {**_work(order), "layers": layers}
    except UploadRejected as error:
        report = _refusal(error.code, str(error), error.status, error.facts)
    except MemoryError:
        report = _refusal("TOO_COMPLEX", "the file needs too much memory")
    _say(report)
    return 0


def _say(report: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(report, allow_nan=False) + "\n")
    sys.stdout.flush()


def _refusal(code: str, detail: str, status: int = 422, facts: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"refusal": {"code": code, "detail": detail, "status": status, "facts": facts or {}}}


def _work(order: dict[str, Any]) -> dict[str, Any]:
    os.environ["GDAL_SKIP"] = gdal_skip(ALLOWED_DRIVERS)  # before GDAL registers its drivers
    import rasterio
    from rasterio.errors import RasterioError

    if order.get("check"):
        from ingest.uploads.self_check import attempts

        return {"attempts": attempts(order)}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True, GDAL_TIFF_OVR_BLOCKSIZE=512, ZLEVEL_OVERVIEW=4):
        try:
            source = rasterio.open(order["source"], driver="GTiff", OVERVIEW_LEVEL="NONE", NUM_THREADS=2)
        except RasterioError:
            raise UploadRejected("CORRUPT", "GDAL cannot open the file as GeoTIFF") from None
        with source:
            return _convert(source, order)


def _convert(source: DatasetReader, order: dict[str, Any]) -> dict[str, Any]:
    """Check, decode, show a preview, write the COG."""
    from ingest.uploads import cog, facts, georeference, pixels, relay, streams

    path, target, limits = Path(order["source"]), Path(order["target"]), facts.Limits(**order["limits"])
    facts.check_type(source)
    crs = georeference.crs_of(source, order.get("crs"))
    georeference.check_place(source, crs)
    validity, warnings = pixels.validity_of(source)
    if validity.nodata is None and "NODATA_OUT_OF_RANGE" not in warnings and facts.says_nodata(path):
        warnings.append("NODATA_OUT_OF_RANGE")
    names = facts.texts_of(path, source.count, "description")
    plan = cog.Plan(crs, validity, pixels.resampling_of(source), names)
    factor = facts.preview_factor(source, limits)
    preview = cog.Preview(source, plan, factor) if factor > 1 else None
    sample = pixels.Sample.of(source)
    for window, data, valid in pixels.decode(source, validity):
        sample.add(window, data, valid)
        if preview is not None:
            preview.add(window, data, valid)
    found, more = facts.facts_of(source, plan, sample, limits)
    coarse = Path(order["preview"]) if preview is not None else None
    if preview is not None and coarse is not None:
        preview.write(source, coarse)
        _say({"preview": facts.of_preview(found, coarse)})
    del preview
    base = target.with_suffix(".base.tif")
    # Takes as long as the decoding, and a preview need not wait for it.
    is_whole = streams.are_whole(path, source.count)
    if not (is_whole and relay.write_base(path, source, base, plan)):
        cog.write_base(source, base, plan)
    cog.add_overviews(base, plan.resampling, coarsest=factor if coarse is not None else None)
    cog.finish(base, target, coarse)
    base.unlink()
    facts.check_equal(source, target)
    return {"facts": found, "warnings": [*warnings, *more]}


if __name__ == "__main__":
    sys.exit(main())
