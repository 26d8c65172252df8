"""Small COGs of every kind, of hills with noise, and rasters of others where this machine has them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp
from rasterio.shutil import copy
from rasterio.transform import from_origin

from tests.shared import SHARED

SIDE = 300
#: Real ones, of which most kinds of trouble are known; tests that need them are skipped where they are not.
REAL = SHARED / "rasters"


@dataclass(frozen=True, slots=True)
class Kind:
    """How a raster is made."""

    dtype: str = "uint8"
    bands: int = 1
    crs: str = "EPSG:32633"
    transform: Affine = field(default_factory=lambda: from_origin(499_980, 5_400_000, 20, 20))
    nodata: float | None = None
    missing: str = ""  # "mask", "alpha", or the value nodata
    side: int = SIDE
    options: dict[str, Any] = field(default_factory=dict)


_LAEA = from_origin(4_321_000, 3_210_000, 50, 50)
_TURNED = from_origin(499_980, 5_400_000, 20, 20) @ Affine.rotation(31)
KINDS = {
    "uint8 rgb": Kind(bands=3),
    "uint8 with mask": Kind(bands=3, missing="mask", crs="EPSG:4326", transform=from_origin(14, 48, 0.0002, 0.0002)),
    "uint8 with alpha": Kind(bands=3, missing="alpha", crs="EPSG:32750"),
    "uint16 nodata": Kind("uint16", 3, nodata=0, missing="nodata"),
    "uint16 alpha": Kind("uint16", 1, missing="alpha"),
    "int16 scaled": Kind("int16", 2, nodata=-32768, missing="nodata", crs="EPSG:2056", transform=from_origin(2_600_000, 1_200_000, 25, 25)),
    "float32 nan": Kind("float32", nodata=float("nan"), missing="nodata", crs="EPSG:3035", transform=_LAEA),
    "float32 negative nodata": Kind("float32", nodata=-9999, missing="nodata"),
    "float64": Kind("float64", crs="EPSG:3031", transform=from_origin(800_000, 900_000, 100, 100)),
    "int32": Kind("int32", 2, nodata=-1, missing="nodata"),
    "uint32": Kind("uint32"),
    "int8": Kind("int8", nodata=-128, missing="nodata"),
    "palette": Kind(nodata=0, missing="nodata", options={"palette": True}),
    "turned": Kind("uint16", 2, transform=_TURNED),
    "south up": Kind("uint16", transform=Affine(20, 0, 499_980, 0, 20, 5_390_000)),
    "antimeridian": Kind("uint16", crs="EPSG:32660", transform=from_origin(700_000, 6_000_000, 600, 600)),
    "pole": Kind("uint8", crs="EPSG:3413", transform=from_origin(-400_000, 400_000, 2600, 2600)),
    "plain strips": Kind("uint16", 2, options={"driver": "GTiff"}),
}  # fmt: skip


def pixels_of(kind: Kind) -> np.ndarray[Any, Any]:
    """(bands, rows, columns), smooth with some noise; nodata in a corner and here and there."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[0 : kind.side, 0 : kind.side]
    hills = 60 * np.sin(x / 19) * np.cos(y / 23) + x / 5 + rng.normal(0, 2, x.shape)
    bands = np.stack([hills * (1 + band / 7) + 100 for band in range(kind.bands)])
    top = {"uint8": 255, "int8": 127}.get(kind.dtype, 30_000)
    found: np.ndarray[Any, Any] = np.clip(bands * (0.4 if kind.dtype == "int8" else 1), 1, top).astype(kind.dtype)
    if kind.missing == "nodata":
        found[:, (x + y < 60) | (rng.random(x.shape) < 0.01)] = kind.nodata
    return found


def write(path: Path, kind: Kind) -> Path:
    """A COG with 128 x 128 blocks and overviews, or what the options say."""
    pixels = pixels_of(kind)
    count = kind.bands + (kind.missing == "alpha")
    profile = {"width": kind.side, "height": kind.side, "count": count, "dtype": kind.dtype, "nodata": kind.nodata}
    y, x = np.mgrid[0 : kind.side, 0 : kind.side]
    seen = (x - 150) ** 2 + (y - 140) ** 2 < 140**2
    plain = path.with_suffix(".plain.tif")
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            plain, "w", driver="GTiff", crs=kind.crs, transform=kind.transform, photometric="MINISBLACK", **profile
        ) as target,
    ):
        target.write(pixels, list(range(1, kind.bands + 1)))
        if kind.missing == "alpha":
            target.write((seen * np.iinfo(kind.dtype).max).astype(kind.dtype), count)
            target.colorinterp = [*target.colorinterp[:-1], ColorInterp.alpha]
        if kind.missing == "mask":
            target.write_mask(seen)
        if kind.options.get("palette"):
            target.write_colormap(1, {value: (value, 255 - value, value // 2, 255) for value in range(256)})
        if kind.dtype == "int16":
            target.scales, target.offsets = (0.5, 0.25), (10, -10)
        target.descriptions = [f"band {number}" for number in range(1, count + 1)]
    if kind.options.get("driver") == "GTiff":
        return plain.rename(path)
    nearest = "nearest" if kind.options.get("palette") else "average"
    copy(plain, path, driver="COG", blocksize=128, compress="deflate", overview_resampling=nearest)
    plain.unlink()
    return path
