"""Rasters that tiles are measured on: a Sentinel-2-like scene (10,980 x 10,980, three bands of uint16, DEFLATE) and an RGB one (JPEG)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.shutil import copy
from rasterio.transform import from_origin
from rasterio.windows import Window

SIDE, RGB_SIDE, ROWS = 10_980, 4_000, 1_098
CRS, WEST, NORTH = "EPSG:32633", 399_960.0, 5_700_000.0


def sentinel2(path: Path) -> Path:
    """A COG of reflectances with the noise of the real ones; kept when it is there. Takes about a minute."""
    return path if path.exists() else _made(path, SIDE, 10.0, "uint16", {"compress": "deflate", "predictor": 2})


def rgb(path: Path) -> Path:
    """A COG of eight-bit colours, lossy as aerial images are."""
    return path if path.exists() else _made(path, RGB_SIDE, 1.0, "uint8", {"compress": "jpeg", "quality": 85})


def _made(path: Path, side: int, pixel_m: float, dtype: str, options: dict[str, Any]) -> Path:
    plain = path.with_suffix(".plain.tif")
    shape = {"width": side, "height": side, "count": 3, "dtype": dtype, "tiled": True}
    nodata = {"nodata": 0} if dtype == "uint16" else {}
    place = {"crs": CRS, "transform": from_origin(WEST, NORTH, pixel_m, pixel_m)}
    rng = np.random.default_rng(1)
    with rasterio.open(plain, "w", driver="GTiff", interleave="pixel", **shape, **nodata, **place) as target:
        for top in range(0, side, ROWS):
            rows = min(ROWS, side - top)
            target.write(_pixels(rng, top, rows, side, dtype), window=Window(0, top, side, rows))
    part = path.with_suffix(".part.tif")
    copy(plain, part, driver="COG", blocksize=512, overview_resampling="average", num_threads=2, **options)
    plain.unlink()
    return part.rename(path)


def _pixels(rng: np.random.Generator, top: int, rows: int, side: int, dtype: str) -> Any:
    """Hills, fields of about forty pixels, and noise; bands alike but not the same."""
    y, x = np.mgrid[top : top + rows, 0:side].astype("float32")
    hills = np.sin(x / 411) * np.cos(y / 297) + 0.5 * np.sin((x + y) / 83)
    fields = ((x // 41).astype("int32") * 7919 + (y // 37).astype("int32") * 104_729) % 97 / 97
    ground = 1200 + 500 * hills + 900 * fields
    bands = [ground * share + rng.normal(0, 60, ground.shape) for share in (1.0, 0.9, 0.75)]
    found = np.clip(np.stack(bands), 1, 10_000)
    return found.astype("uint16") if dtype == "uint16" else (found / 12).clip(1, 255).astype("uint8")
