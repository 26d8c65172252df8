"""Pixels of files elsewhere are those that rio-tiler reads of the same file here, in few requests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import Resampling
from rasterio.transform import from_origin
from rasterio.warp import transform_bounds
from rio_tiler.io import Reader
from rio_tiler.models import ImageData

from api.problems import Problem
from api.settings import ApiSettings
from api.tiles.limits import Limits, check_sizes
from api.tiles.pool import Pool
from api.tiles.reader import FastReader
from api.tiles.remote import Remote, reader_of
from ingest.model import Source
from ingest.settings import IngestSettings
from tests.upstreams.range_server import Host, range_server

SIDE = 700
#: What is left behind of a header.
UNKNOWN = {"band_metadata"}
LOCAL = "127.0.0.0/8"


def pixels(count: int, dtype: str = "uint16") -> np.ndarray[Any, Any]:
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    noise = np.random.default_rng(1).integers(0, 20, (count, SIDE, SIDE))
    slopes = np.stack([(rows // 9 + columns // 7 + 40 * band) % 220 for band in range(count)])
    return (slopes + noise + 1).astype(dtype)


def write(
    path: Path,
    data: np.ndarray[Any, Any],
    *,
    overviews: bool = True,
    mask: bool = False,
    tags: Any = None,
    **profile: Any,
) -> Path:
    defaults: dict[str, Any] = {
        "driver": "GTiff", "width": data.shape[2], "height": data.shape[1], "count": len(data), "dtype": data.dtype,
        "tiled": True, "blockxsize": 256,
        "blockysize": 256, "compress": "deflate", "crs": "EPSG:32633", "transform": from_origin(450_000, 6_095_000, 10, 10),
    }  # fmt: skip
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True, GDAL_TIFF_OVR_BLOCKSIZE=256),
        rasterio.open(path, "w", **{**defaults, **profile}) as target,
    ):
        target.write(data)
        if tags:
            target.update_tags(**tags)
        if mask:
            target.write_mask(np.tile(np.arange(SIDE) % 300 > 20, (SIDE, 1)))
        if overviews:
            target.build_overviews([2, 4, 8], Resampling.nearest)
    return path


def _files(folder: Path) -> dict[str, Path]:
    three, one = pixels(3), pixels(1)
    turned = Affine.translation(450_000, 6_095_000) @ Affine.rotation(30) @ Affine.scale(10, -10)
    colours = {number: (number, 255 - number, 7, 255) for number in range(256)}
    files = {
        "deflate": write(folder / "deflate.tif", three, predictor=2, nodata=0),
        "mask": write(folder / "mask.tif", pixels(3, "uint8"), mask=True),
        "jpeg": write(folder / "jpeg.tif", pixels(3, "uint8"), compress="jpeg", photometric="ycbcr"),
        "apart": write(folder / "apart.tif", three, interleave="band", compress="lzw"),
        "strips": write(folder / "strips.tif", one, tiled=False, compress="zstd"),
        "big": write(folder / "big.tif", three, ENDIANNESS="BIG", BIGTIFF="YES"),
        "point": write(folder / "point.tif", one, tags={"AREA_OR_POINT": "Point"}),
        "turned": write(folder / "turned.tif", one, transform=turned),
        "degrees": write(folder / "degrees.tif", one, crs="EPSG:4326", transform=from_origin(10, 50, 1e-3, 1e-3)),
        "float": write(folder / "float.tif", pixels(1, "float32"), predictor=3, nodata=float("nan")),
    }
    files["palette"] = write(folder / "palette.tif", pixels(1, "uint8"))
    with rasterio.open(files["palette"], "r+") as target:
        target.write_colormap(1, colours)
    return files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return _files(tmp_path_factory.mktemp("rasters"))


@pytest.fixture(scope="module")
def host(files: dict[str, Path]) -> Iterator[Host]:
    with range_server(next(iter(files.values())).parent) as started:
        yield started


@pytest.fixture(scope="module")
def remote(host: Host) -> Iterator[Remote]:
    source = Source("one", "One", "stac", "https://example.org", asset_hosts=(host.name,))
    made = Remote([source], ApiSettings(asset_networks=LOCAL), IngestSettings())
    yield made
    made.close()


def _tiles(src: Reader, zooms: range) -> Iterator[tuple[int, int, int]]:
    west, south, east, north = transform_bounds(src.crs, "EPSG:4326", *src.bounds)
    for zoom in zooms:
        for lon, lat in (
            (west + (east - west) * 0.5, south + (north - south) * 0.5),
            (west + (east - west) * 0.3, south + (north - south) * 0.9),
        ):
            tile = src.tms.tile(lon, lat, zoom)
            yield tile.x, tile.y, zoom


@pytest.mark.filterwarnings("ignore::rio_tiler.errors.NoOverviewWarning")
@pytest.mark.parametrize(
    "name", ["deflate", "mask", "jpeg", "apart", "strips", "big", "point", "turned", "degrees", "float", "palette"]
)
def test_pixels_are_those_of_the_file(name: str, files: dict[str, Path], host: Host, remote: Remote) -> None:
    there = reader_of(remote, "data")
    pool = Pool()
    with (
        Reader(str(files[name])) as here,
        FastReader(str(files[name]), pool=pool) as fast,
        there(f"{host.url}/{files[name].name}") as away,
    ):
        assert (away.bounds, away.crs, away.width, away.minzoom, away.maxzoom) == (
            here.bounds,
            here.crs,
            here.width,
            here.minzoom,
            here.maxzoom,
        )
        mine, its = away.info().model_dump(exclude=UNKNOWN), here.info().model_dump(exclude=UNKNOWN)
        assert repr(mine) == repr(its)  # a nodata of NaN is not equal to itself
        assert away.colormap == here.colormap
        for x, y, z in _tiles(here, range(9, 16, 2)):
            a, b = away.tile(x, y, z), here.tile(x, y, z)
            assert a.array.shape == b.array.shape
            assert_same(a, fast.tile(x, y, z))
            a, b = (one.tile(x, y, z, reproject_method="average") for one in (away, here))  # by GDAL's warper
            same = (a.array.filled(0) == b.array.filled(0)) & (
                np.ma.getmaskarray(a.array) == np.ma.getmaskarray(b.array)
            )
            assert same.mean() > 0.995, (x, y, z, same.mean())
        a, b = away.preview(max_size=200), here.preview(max_size=200)
        assert (a.array == b.array).mean() > 0.999
        lon, lat = ((here.bounds[0] + here.bounds[2]) / 2, (here.bounds[1] + here.bounds[3]) / 2)
        assert np.array_equal(
            away.point(lon, lat, coord_crs=here.crs).array, here.point(lon, lat, coord_crs=here.crs).array
        )
    pool.close()


def assert_same(a: ImageData, b: ImageData) -> None:
    """What the fast reader reads here (how near it is to rio-tiler is the matter of `tests/api/tiles`)."""
    assert np.array_equal(np.ma.getmaskarray(a.array), np.ma.getmaskarray(b.array))
    assert np.array_equal(a.array.filled(0), b.array.filled(0), equal_nan=a.array.dtype.kind == "f")
    assert (a.bounds, str(a.nodata), a.band_names) == (b.bounds, str(b.nodata), b.band_names)


def test_a_tile_takes_two_requests_at_most_once_the_header_is_known(
    files: dict[str, Path], host: Host, remote: Remote
) -> None:
    there = reader_of(remote, "data")
    url = f"{host.url}/{files['deflate'].name}"
    with there(url) as away:
        tiles = [*_tiles(away, range(9, 15))]
    before = host.requests
    for x, y, z in tiles:
        with there(url) as away:
            away.tile(x, y, z)
    assert (host.requests - before) / len(tiles) <= 2


def test_a_picture_of_a_file_elsewhere_that_does_not_fit_is_refused_before_it_is_fetched(
    files: dict[str, Path], host: Host, remote: Remote
) -> None:
    with reader_of(remote, "data")(f"{host.url}/{files['deflate'].name}") as away:
        before = host.requests
        for ask in (
            lambda: away.preview(max_size=None, width=20_000, height=20_000),
            lambda: away.part(away.bounds, bounds_crs=away.crs, width=9000, height=9000),
            lambda: away.part(away.bounds, bounds_crs=away.crs, width=5000, height=5000, indexes=(1, 2, 3)),
            lambda: away.preview(max_size=None, width=5000, height=5000, expression=";".join(["b1", "b2", "b3+b1"])),
        ):
            with pytest.raises(Problem) as met:
                ask()
            assert met.value.code == "IMAGE_TOO_LARGE"
        assert host.requests == before


@pytest.mark.parametrize("size", ["width=4096&height=4096", "max_size=4096"])
def test_many_assets_of_the_largest_size_at_once_are_refused(size: str) -> None:
    one, many = (parse_qsl(size + "&assets=a" * number) for number in (1, 16))
    check_sizes(one, Limits(2**24), is_statistics=False)
    with pytest.raises(Problem) as met:
        check_sizes(many, Limits(2**24), is_statistics=False)
    assert (met.value.code, met.value.facts["actual"]) == ("TOO_LARGE_A_PICTURE", 2**28)
    check_sizes(parse_qsl("tilesize=512&width=1024&height=1024" + "&assets=a" * 16), Limits(2**24), is_statistics=False)


def test_a_file_that_is_replaced_is_noticed(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", pixels(1))
    with range_server(tmp_path) as host:
        source = Source("one", "One", "stac", "https://example.org", asset_hosts=(host.name,))
        remote = Remote([source], ApiSettings(asset_networks=LOCAL), IngestSettings())
        try:
            there = reader_of(remote, "data")
            with there(f"{host.url}/a.tif") as away:
                away.preview(max_size=64)
            write(tmp_path / "a.tif", pixels(1) + 100)
            with pytest.raises(Exception, match="being replaced"), there(f"{host.url}/a.tif") as away:
                away.preview(max_size=64)
            with there(f"{host.url}/a.tif") as away:
                assert away.preview(max_size=64).array.min() > 100
        finally:
            remote.close()
