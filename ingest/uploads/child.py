"""The child process: opens one user's file once, decodes every block, writes our own COG, reports facts as JSON.

Order on standard input: {source, target, folder, largest_bytes}. Report on standard output: {facts, warnings, layers} or {refusal}.
Nothing here is trusted by the parent but the report's shape; the COG is what is served.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, Literal

from ingest.errors import UploadRejected
from ingest.uploads.drivers import gdal_skip
from ingest.uploads.sandbox import ALLOWED_DRIVERS, confine

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

BLOCK = 512


def main() -> int:
    """Carry out one order."""
    order = json.loads(sys.stdin.read())
    layers = confine(int(order["largest_bytes"]))
    try:
        report = {**_work(order), "layers": layers}
    except UploadRejected as error:
        report = {"refusal": {"code": error.code, "detail": str(error), "status": error.status, "facts": error.facts}}
    except MemoryError:
        report = {
            "refusal": {"code": "TOO_COMPLEX", "detail": "the file needs too much memory", "status": 422, "facts": {}}
        }
    sys.stdout.write(json.dumps(report, allow_nan=False))
    return 0


def _work(order: dict[str, Any]) -> dict[str, Any]:
    os.environ["GDAL_SKIP"] = gdal_skip(ALLOWED_DRIVERS)  # before GDAL registers its drivers
    import rasterio
    from rasterio.errors import RasterioError

    from ingest.uploads import raster

    with rasterio.Env():
        try:
            source = rasterio.open(order["source"], driver="GTiff", OVERVIEW_LEVEL="NONE")
        except RasterioError:
            raise UploadRejected("CORRUPT", "GDAL cannot open the file as GeoTIFF") from None
        with source:
            raster.check(source)
            warnings = raster.decode_all(source)
            _convert(source, order["target"])
        with rasterio.open(order["target"], driver="GTiff") as cog:
            facts, more = raster.facts(cog)
    return {"facts": facts, "warnings": warnings + more}


def _convert(source: DatasetReader, target: str) -> None:
    """Write a COG of our own: same pixels, overviews made anew, metadata left behind."""
    from rasterio.enums import ColorInterp
    from rasterio.errors import RasterioError

    resampling: Literal["nearest", "average"] = "nearest" if ColorInterp.palette in source.colorinterp else "average"
    try:
        if source.dtypes[0] in ("int64", "uint64"):
            _convert_wide(source, target)
        else:
            _convert_plain(source, target, resampling)
    except RasterioError:
        raise UploadRejected("CORRUPT", "the pixels cannot be read to the end") from None


def _convert_plain(source: DatasetReader, target: str, resampling: Literal["nearest", "average"]) -> None:
    from rio_cogeo.cogeo import cog_translate
    from rio_cogeo.profiles import cog_profiles

    profile = cog_profiles.get("deflate")  # type: ignore[no-untyped-call]
    profile |= {
        "blockxsize": BLOCK,
        "blockysize": BLOCK,
        "BIGTIFF": "IF_SAFER",
        "predictor": _predictor(source.dtypes[0]),
    }
    cog_translate(
        source,
        target,
        profile,
        nodata=source.nodata,
        overview_resampling=resampling,
        forward_band_tags=False,
        forward_ns_tags=False,
        use_cog_driver=False,
        in_memory=False,
        quiet=True,
    )


def _convert_wide(source: DatasetReader, target: str) -> None:
    """64-bit integers: rio-cogeo reads through a warper that computes in doubles and would round them."""
    import rasterio
    from rasterio.shutil import copy

    bare = f"{target}.bare.tif"
    profile = {
        name: source.profile[name] for name in ("dtype", "count", "width", "height", "crs", "transform", "nodata")
    }
    with rasterio.open(bare, "w", driver="GTiff", tiled=True, blockxsize=BLOCK, blockysize=BLOCK, **profile) as copied:
        for _, window in copied.block_windows(1):
            copied.write(source.read(window=window), window=window)
    copy(
        bare,
        target,
        driver="COG",
        COMPRESS="DEFLATE",
        BLOCKSIZE=BLOCK,
        OVERVIEWS="IGNORE_EXISTING",
        RESAMPLING="NEAREST",
    )
    os.unlink(bare)  # noqa: PTH108 - rasters are never deleted through GDAL


def _predictor(dtype: str) -> int:
    """DEFLATE's predictor: floating point 3, integers 2."""
    return 3 if dtype.startswith("float") else 2


if __name__ == "__main__":
    sys.exit(main())
