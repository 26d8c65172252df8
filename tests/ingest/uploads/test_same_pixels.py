"""For every type and layout: the served COG's decoded pixels, mask, colours and place are the source's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rio_cogeo.cogeo import cog_validate

from ingest.uploads import child
from ingest.uploads.raster_settings import DEFAULTS
from ingest.uploads.sandbox import order_for
from ingest.uploads.tiff_header import walk
from tests.ingest.uploads.rasters import write

SIDE = (530, 520)
DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64")
TILES = {"tiled": True, "blockxsize": 256, "blockysize": 256}
LAYOUTS: dict[str, dict[str, Any]] = {
    "strips": {},
    "deflate strips, planar": {"compress": "deflate", "interleave": "band"},
    "tiles": TILES,
    "tiles of 64": {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "lzw"},
    "deflate": {**TILES, "compress": "deflate"},
    "deflate, predictor": {**TILES, "compress": "deflate", "predictor": "best"},
    "lzw, planar": {**TILES, "compress": "lzw", "interleave": "band"},
    "zstd, predictor": {**TILES, "compress": "zstd", "predictor": "best"},
    "packbits": {**TILES, "compress": "packbits"},
    "big-endian": {**TILES, "compress": "deflate", "ENDIANNESS": "BIG"},
    "BigTIFF": {**TILES, "compress": "deflate", "BIGTIFF": "YES"},
    "nodata": {**TILES, "compress": "deflate", "nodata": 7},
}
#: Layouts whose blocks are copied as they are.
COPIED = {"deflate", "deflate, predictor", "lzw, planar", "zstd, predictor", "BigTIFF", "nodata"}


def pixels_of(dtype: str, bands: int = 2) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(3)
    if dtype.startswith("float"):
        values = rng.normal(0, 50, (bands, *SIDE)).astype(dtype)
        values[:, :50, :50] = np.nan
        return values
    limits = np.iinfo(dtype)
    values = rng.integers(limits.min, limits.max, (bands, *SIDE), dtype=dtype, endpoint=True)
    values[:, 100:300, 100:300] = 7
    return values


def converted(path: Path, monkeypatch: pytest.MonkeyPatch, **order: Any) -> tuple[dict[str, Any], Path]:
    """The child's work in this process: the same code, without its start."""
    monkeypatch.setenv("GDAL_SKIP", "")
    target = path.with_name("cog.tif")
    summary = walk(path)
    report = child._work({**order_for(path, target, decoded_bytes=summary.decoded_bytes), **order})
    return report, target


def assert_same(path: Path, target: Path) -> None:
    with rasterio.open(path) as source, rasterio.open(target) as cog:
        assert cog.dtypes == source.dtypes
        assert cog.read().tobytes() == source.read().tobytes()
        assert np.array_equal(cog.dataset_mask(), source.dataset_mask())
        assert (cog.crs, cog.transform) == (source.crs, source.transform)
        assert cog.nodata == source.nodata or np.isnan([cog.nodata, source.nodata]).all()
        if ColorInterp.undefined not in source.colorinterp:
            assert cog.colorinterp == source.colorinterp
        assert (cog.scales, cog.offsets, cog.descriptions) == (source.scales, source.offsets, source.descriptions)
    is_valid, errors, warnings = cog_validate(target)
    assert (is_valid, errors, warnings) == (True, [], [])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_types_and_layouts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, layout: str) -> None:
    profile = dict(LAYOUTS[layout])
    if profile.get("predictor") == "best":
        profile["predictor"] = 3 if dtype in ("float32", "float64") else 2
    if dtype.startswith("float") and profile.get("compress") == "packbits":
        profile["nodata"] = float("nan")
    write(tmp_path / "a.tif", pixels_of(dtype), **profile)
    _, target = converted(tmp_path / "a.tif", monkeypatch)
    assert_same(tmp_path / "a.tif", target)
    with rasterio.open(tmp_path / "a.tif") as source, rasterio.open(target) as cog:
        was_copied = cog.block_shapes == source.block_shapes and cog.compression == source.compression
    assert was_copied == (layout in COPIED)


def rgb(path: Path, **profile: Any) -> None:
    rows, columns = np.mgrid[0 : SIDE[0], 0 : SIDE[1]]
    smooth = np.stack([rows % 256, columns % 256, (rows + columns) // 6 % 256]).astype("uint8")
    write(path, smooth, photometric="RGB", **profile)


def with_alpha(path: Path) -> None:
    pixels = pixels_of("uint8", 4)
    pixels[3, :, :300] = 0
    write(path, pixels, photometric="RGB", alpha="YES")


def with_mask(path: Path, **profile: Any) -> None:
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        rgb(path, **profile)
        mask = np.full(SIDE, 255, "uint8")
        mask[:, :200] = 0
        with rasterio.open(path, "r+") as target:
            target.write_mask(mask)


def with_palette(path: Path, **profile: Any) -> None:
    write(path, np.random.default_rng(0).integers(0, 9, (1, *SIDE), "uint8"), photometric="palette", **profile)
    with rasterio.open(path, "r+") as target:
        target.write_colormap(1, {value: (value * 20, 255 - value * 20, 9, 255) for value in range(256)})


def with_scales(path: Path) -> None:
    write(path, pixels_of("int16"), nodata=-32768, **TILES, compress="deflate")
    with rasterio.open(path, "r+") as target:
        target.scales, target.offsets, target.descriptions = (0.0001, 2), (1000, -5), ("B04", "B8A")


SPECIAL: dict[str, Any] = {
    "RGB by JPEG": lambda path: rgb(path, compress="jpeg", **TILES),
    "RGB by JPEG as YCbCr": lambda path: rgb(path, compress="jpeg", **{**TILES, "photometric": "YCBCR"}),
    "grey by JPEG": lambda path: write(path, pixels_of("uint8", 1) // 8, compress="jpeg", **TILES),
    "JPEG with a mask": lambda path: with_mask(path, compress="jpeg", **TILES),
    "a mask": with_mask,
    "alpha": with_alpha,
    "palette in strips": with_palette,
    "palette in tiles": lambda path: with_palette(path, compress="deflate", **TILES),
    "scale, offset and names": with_scales,
    "RGB by WEBP": lambda path: rgb(path, compress="webp", webp_lossless="no", **TILES),
    "floats by LERC": lambda path: write(path, pixels_of("float32", 1)[:, 60:], compress="lerc", max_z_error=0.1, **TILES),
    "RGB of 16 bits": lambda path: write(path, pixels_of("uint16", 3), photometric="RGB", compress="zstd", **TILES),
    "five bands": lambda path: write(path, pixels_of("uint8", 5)),
    "1 bit": lambda path: write(path, pixels_of("uint8", 1) % 2, nbits=1, **TILES, compress="deflate"),
    "12 bits": lambda path: write(path, pixels_of("uint16", 1) % 4096, nbits=12, **TILES, compress="deflate"),
    "white is 0": lambda path: write(path, pixels_of("uint8", 1), photometric="MINISWHITE", **TILES, compress="deflate"),
    "tiles that are not there": lambda path: write(
        path, np.zeros((1, 1024, 1024), "uint8"), SPARSE_OK=True, compress="deflate", **TILES
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", SPECIAL)
def test_colours_masks_and_lossy_codings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    path = tmp_path / "a.tif"
    if what == "RGB by JPEG as YCbCr":
        rows, columns = np.mgrid[0 : SIDE[0], 0 : SIDE[1]]
        pixels = np.stack([rows % 256, columns % 256, rows % 99]).astype("uint8")
        write(path, pixels, photometric="YCBCR", compress="jpeg", **TILES)
    else:
        SPECIAL[what](path)
    _, target = converted(path, monkeypatch)
    assert_same(path, target)
    with rasterio.open(path) as source, rasterio.open(target) as cog:
        if ColorInterp.palette in source.colorinterp:
            assert source.colormap(1).items() <= cog.colormap(1).items()
            assert cog.tags(1).get("RESAMPLING", "NEAREST") == "NEAREST"


@pytest.mark.parametrize("kind", ["strips", "tiles", "mask", "alpha", "palette"])
def test_a_preview_is_the_coarse_end_of_the_cog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    path = tmp_path / "a.tif"
    makers: dict[str, Any] = {
        "strips": lambda: write(path, np.abs(pixels_of("int16", 1)), nodata=7),
        "tiles": lambda: write(path, pixels_of("float32", 2), **TILES, compress="deflate"),
        "mask": lambda: with_mask(path),
        "alpha": lambda: with_alpha(path),
        "palette": lambda: with_palette(path),
    }
    makers[kind]()
    small = {"max_vertices": 500, "preview_side": 200, "preview_from_bytes": 0}
    preview = path.with_name("cog.preview.tif")
    _, target = converted(path, monkeypatch, limits=small)
    assert_same(path, target)
    with rasterio.open(preview) as coarse, rasterio.open(target) as cog:
        assert (coarse.width, coarse.height) == (130, 133)
        level = cog.overviews(1).index(4)
        assert coarse.transform.almost_equals(cog.transform @ cog.transform.scale(4))
        with rasterio.open(target, OVERVIEW_LEVEL=level) as overview:
            assert overview.read().tobytes() == coarse.read().tobytes()
            assert np.array_equal(overview.dataset_mask(), coarse.dataset_mask())
    assert cog_validate(preview)[0]
    assert DEFAULTS.raster_preview_side >= 1024
