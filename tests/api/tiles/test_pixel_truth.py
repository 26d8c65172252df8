"""The fast reader gives the pixels of rio-tiler's.

GDAL warps by an approximation that may be 0.125 pixels off; only within that of a pixel's edge may they differ.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import morecantile
import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import transform, transform_bounds
from rio_tiler.errors import TileOutsideBounds
from rio_tiler.io import Reader
from rio_tiler.models import ImageData

from api.tiles.overviews import grid_for, picked
from api.tiles.pool import Pool
from api.tiles.reader import FastReader
from tests.api.tiles import rasters
from tests.size import sized

MERCATOR = morecantile.tms.get("WebMercatorQuad")
PLATE = morecantile.tms.get("WorldCRS84Quad")
#: GDAL's own error and ours.
_SLACK_PX = 0.125 + 0.03
_TILES = sized(2, 12)

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rasters")


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    made = Pool()
    yield made
    made.close()


def made(folder: Path, name: str) -> Path:
    path = folder / f"{name.replace(' ', '-')}.tif"
    return path if path.exists() else rasters.write(path, rasters.KINDS[name])


def some_tiles(source: Reader, tms: Any, name: str, number: int) -> list[morecantile.Tile]:
    """Tiles on the raster or beside it, of zooms around its own."""
    rng = random.Random(name)
    west, south, east, north = source.get_geographic_bounds(tms.rasterio_geographic_crs)
    west, east = (min(west, east), max(west, east)) if west < east else (178, 180)
    found = []
    for _ in range(number):
        zoom = rng.randint(max(0, source.minzoom - 2), source.maxzoom + 2)
        longitude, latitude = rng.uniform(west, east), max(-85, min(85, rng.uniform(south, north)))
        found.append(tms.tile(longitude, latitude, zoom))
    return found


def check_same(fast: FastReader, found: ImageData, wanted: ImageData, quickly: tuple[Any, int, bool] | None) -> None:
    """Equal but for pixels whose place in the raster is within the slack of a pixel's edge."""
    assert found.bounds == wanted.bounds
    assert (found.crs, str(found.nodata), found.band_names) == (wanted.crs, str(wanted.nodata), wanted.band_names)
    assert (found.scales, found.offsets, found.metadata) == (wanted.scales, wanted.offsets, wanted.metadata)
    assert found.dataset_statistics == wanted.dataset_statistics
    assert found.array.dtype == wanted.array.dtype
    assert (found.alpha_mask is None) == (wanted.alpha_mask is None)
    both = np.stack([found.array.filled(0), wanted.array.filled(0)])
    differ = (found.array.mask != wanted.array.mask) | ~((both[0] == both[1]) | np.isnan(both).all(axis=0))
    if found.alpha_mask is not None and wanted.alpha_mask is not None:
        differ |= found.alpha_mask != wanted.alpha_mask
    differ = differ.any(axis=0)
    if differ.any():
        assert quickly is not None
        assert edge_distance(fast, *quickly, differ).max() <= _SLACK_PX


def check_close(fast: FastReader, found: ImageData, wanted: ImageData, quickly: tuple[Any, int, bool] | None) -> None:
    """Values differ by no more than the surface rises within the slack; pixels are missing alike but beside edges."""
    assert (found.bounds, found.crs, found.band_names) == (wanted.bounds, wanted.crs, wanted.band_names)
    assert found.array.dtype == wanted.array.dtype
    differ = (found.array.mask != wanted.array.mask).any(axis=0)
    if found.alpha_mask is not None and wanted.alpha_mask is not None:
        differ |= found.alpha_mask != wanted.alpha_mask
    if differ.any():
        assert quickly is not None
        assert edge_distance(fast, *quickly, differ).max() <= _SLACK_PX
    both = ~(found.array.mask | wanted.array.mask)
    values = [np.where(both, one.array.data, np.nan).astype("float64") for one in (found, wanted)]
    if both.any() and quickly is not None:
        image = quickly[0]
        enlarged = max(1.0, 1.2 * image.width / max(1, image.native[0] * resolution_ratio(fast, image)))
        bound = (
            1.01 * (found.array.dtype.kind != "f") + _SLACK_PX * enlarged * relief(values[1]) + 1e-6 * np.abs(values[1])
        )
        rises = np.abs(values[0] - values[1]) - bound
        assert not (rises > 0).sum() > 0.001 * both.sum(), (np.nanmax(rises), (rises > 0).sum())


def resolution_ratio(fast: FastReader, image: Any) -> float:
    """Pixels of the raster a pixel of the grid of its own resolution, where the image is finer: below 1."""
    x, _ = fast.facts.resolution_in(image.crs, image.crs.to_wkt())
    return min(1.0, (image.bounds[2] - image.bounds[0]) / image.native[0] / x)


def relief(values: Any) -> Any:
    """How much values differ within 5 x 5 pixels."""
    padded = np.pad(values, ((0, 0), (2, 2), (2, 2)), constant_values=np.nan)
    around = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), axis=(1, 2))
    return np.nanmax(around, axis=(3, 4)) - np.nanmin(around, axis=(3, 4))


def edge_distance(fast: FastReader, image: Any, bands: int, is_mixed: bool, which: Any) -> Any:
    """How far the exact places of these image pixels are from the nearest edge of a raster pixel."""
    facts = fast.facts
    levels = fast.levels()
    grid = grid_for(image.native, (image.width, image.height), (facts.width, facts.height), levels, mixed=is_mixed)
    is_direct = bands >= len(facts.indexes)
    columns = picked(image.width if is_direct else grid.width, image.width)
    rows = picked(image.height if is_direct else grid.height, image.height)
    across, down = (image.width, image.height) if is_direct else (grid.width, grid.height)
    west, south, east, north = image.bounds
    down_at, across_at = np.nonzero(which)
    xs = west + columns[across_at] * (east - west) / across
    ys = north - rows[down_at] * (north - south) / down
    x, y = (np.array(part) for part in transform(image.crs, facts.crs, xs, ys))
    width, height = levels[grid.level] if grid.level is not None else (facts.width, facts.height)
    to_pixel = Affine.scale(width / facts.width, height / facts.height) @ ~facts.transform
    places = to_pixel.a * x + to_pixel.b * y + to_pixel.c, to_pixel.d * x + to_pixel.e * y + to_pixel.f
    return np.minimum(*(np.abs(part - np.round(part)) for part in places))


def compared(path: Path, tms: Any, pool: Pool, number: int, check: Any = check_same, **options: Any) -> int:
    """Compare so many tiles; returns how many came the fast way."""
    quick = 0
    with Reader(str(path), tms=tms) as stock, FastReader(str(path), tms=tms, pool=pool) as fast:
        seen = watch(fast)
        for tile in some_tiles(stock, tms, f"{path.name} {tms.id}", number):
            wanted, found = (_answer(one, tile, options) for one in (stock, fast))
            if wanted is None or found is None:
                assert wanted is found, (tile, wanted, found)
                continue
            quickly = seen.pop() if seen else None
            quick += quickly is not None
            check(fast, found, wanted, quickly)
    return quick


def watch(fast: FastReader) -> list[tuple[Any, int, bool]]:
    """What the fast way answered, as it comes: the image, how many bands were read, and whether GDAL is asked to mix pixels."""
    seen: list[tuple[Any, int, bool]] = []
    inner = fast._fast

    def spied(image: Any, bands: Any, options: Any) -> Any:
        answer = inner(image, bands, options)
        if answer is not None:
            seen.append((image, len(bands), options.get("resampling_method", "nearest") != "nearest"))
        return answer

    fast._fast = spied  # type: ignore[method-assign]
    return seen


def _answer(reader: Reader, tile: morecantile.Tile, options: dict[str, Any]) -> ImageData | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return reader.tile(*tile, **options)
    except TileOutsideBounds:
        return None


@pytest.mark.parametrize("name", rasters.KINDS)
def test_tiles_are_those_of_rio_tiler(folder: Path, pool: Pool, name: str) -> None:
    path = made(folder, name)
    quick = sum(compared(path, tms, pool, _TILES) for tms in (MERCATOR, PLATE))
    assert quick or name == "pole" or rasters.KINDS[name].crs == "EPSG:4326"


@pytest.mark.parametrize("name", rasters.KINDS)
def test_mixed_pixels_are_those_of_rio_tiler(folder: Path, pool: Pool, name: str) -> None:
    path = made(folder, name)
    for number, options in enumerate(
        (
            {"reproject_method": "bilinear"},
            {"reproject_method": "cubic", "indexes": (1,)},
            {"reproject_method": "cubic"},
        )
    ):
        if number < 2 or _TILES > 2:
            compared(path, MERCATOR, pool, _TILES // 2, check_close, **options)


@pytest.mark.parametrize("method", ["bilinear", "average", "mode"])
def test_resampling_of_all_bands_only_chooses_the_overview(folder: Path, pool: Pool, method: str) -> None:
    """GDAL warps all bands at once, to the image; so does the fast way."""
    for name in ("uint8 rgb", "uint16 nodata", "uint8 with alpha"):
        assert compared(made(folder, name), MERCATOR, pool, _TILES, resampling_method=method)


def test_a_value_that_comes_out_as_nodata_is_moved(tmp_path: Path, pool: Pool) -> None:
    path = tmp_path / "a.tif"
    pixels = np.full((1, 80, 80), 4, "uint8")
    pixels[:, :, ::2] = 2
    pixels[:, :20] = 3
    place = {"crs": "EPSG:32633", "transform": Affine(20, 0, 499_980, 0, -20, 5_400_000)}
    with rasterio.open(
        path, "w", driver="GTiff", width=80, height=80, count=1, dtype="uint8", nodata=3, **place
    ) as target:
        target.write(pixels)
    for method in ("bilinear", "cubic"):
        assert compared(path, MERCATOR, pool, 4, check_close, reproject_method=method)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("uint16 nodata", {"tilesize": 512}),
        ("uint16 nodata", {"indexes": (2,)}),
        ("uint16 nodata", {"indexes": (3, 1), "buffer": 1.5}),
        ("uint16 nodata", {"padding": 4}),
        ("uint16 nodata", {"nodata": 150}),
        ("uint8 rgb", {"nodata": 100, "indexes": (1,)}),
        ("uint8 with mask", {"indexes": (2,)}),
        ("uint8 with alpha", {"indexes": (3,)}),
        ("uint8 with alpha", {"indexes": (4,)}),
        ("int16 scaled", {"unscale": True}),
        ("int16 scaled", {"expression": "(b2-b1)/(b2+b1)"}),
        ("float32 nan", {"resampling_method": "average"}),
        ("uint16 nodata", {"resampling_method": "cubic", "indexes": (1,)}),
        ("float32 nan", {"reproject_method": "lanczos"}),
    ],
)
def test_options_mean_what_they_mean_to_rio_tiler(folder: Path, pool: Pool, name: str, options: dict[str, Any]) -> None:
    compared(made(folder, name), MERCATOR, pool, _TILES, **options)


@pytest.mark.parametrize("crs", ["EPSG:3857", "EPSG:4326", "EPSG:32634", "EPSG:3035", "EPSG:6933", "EPSG:3995"])
def test_parts_in_any_crs_are_those_of_rio_tiler(folder: Path, pool: Pool, crs: str) -> None:
    path, there = made(folder, "turned"), CRS.from_string(crs)
    rng = random.Random(crs)
    with Reader(str(path)) as stock, FastReader(str(path), pool=pool) as fast:
        seen = watch(fast)
        west, south, east, north = transform_bounds(stock.crs, there, *stock.bounds)
        for _ in range(_TILES):
            share = sorted((rng.random(), rng.random() + 0.05)), sorted((rng.random(), rng.random() + 0.05))
            box = (
                west + (east - west) * share[0][0], south + (north - south) * share[1][0],
                west + (east - west) * share[0][1], south + (north - south) * share[1][1],
            )  # fmt: skip
            size = rng.choice(({}, {"max_size": 100}, {"width": 90}, {"width": 120, "height": 70}))
            options = {"bounds_crs": there, "dst_crs": there, **size}
            check_same(fast, fast.part(box, **options), stock.part(box, **options), seen.pop())


def test_bands_keep_their_own_descriptions(folder: Path, pool: Pool) -> None:
    """rasterio 1.5.2 gives all bands of a warped raster that of the last one."""
    with FastReader(str(made(folder, "uint16 nodata")), pool=pool) as fast:
        tile = some_tiles(fast, MERCATOR, "descriptions", 1)[0]
        assert fast.tile(*tile, indexes=(3, 1)).band_descriptions == ["band 3", "band 1"]


def test_what_rio_tiler_refuses_is_refused_alike(folder: Path, pool: Pool) -> None:
    path = made(folder, "uint8 rgb")
    with Reader(str(path)) as stock, FastReader(str(path), pool=pool) as fast:
        tile = some_tiles(stock, MERCATOR, "bad", 1)[0]
        for options in (
            {"buffer": 0.3},
            {"nodata": 300},
            {"indexes": (9,)},
            {"indexes": (0,)},
            {"expression": "b1+"},
            {"reproject_method": "no"},
        ):
            kinds = []
            for reader in (stock, fast):
                with pytest.raises(Exception) as met:
                    reader.tile(*tile, **options)  # type: ignore[arg-type]
                kinds.append(met.type)
            assert kinds[0] is kinds[1], options
    missing = str(folder / "missing.tif")
    kinds = []
    for kind in (Reader, FastReader):
        with pytest.raises(Exception) as met:
            kind(missing)
        kinds.append(met.type)
    assert kinds[0] is kinds[1]


def test_ndvi_and_zonal_statistics_are_those_of_numpy(folder: Path, pool: Pool) -> None:
    path = made(folder, "uint16 nodata")
    with FastReader(str(path), pool=pool) as fast:
        tile = fast.tms.tile(15.03, 48.72, fast.maxzoom)
        bands = fast.tile(*tile, indexes=(1, 2)).array.astype("float64")
        ndvi = fast.tile(*tile, expression="(b2-b1)/(b2+b1)").array
        assert np.ma.allclose(ndvi[0], (bands[1] - bands[0]) / (bands[1] + bands[0]), rtol=0, atol=1e-6)
        ring = [[15.01, 48.70], [15.05, 48.71], [15.04, 48.74], [15.01, 48.70]]
        image = fast.feature(
            {"type": "Polygon", "coordinates": [ring]}, dst_crs=CRS.from_epsg(3857), width=200, height=200
        )
        for number, told in enumerate(image.statistics().values()):
            known = image.array[number].compressed().astype("float64")
            assert told.mean == pytest.approx(known.mean(), abs=1e-6)
            assert (told.min, told.max, told.count) == (known.min(), known.max(), known.size)
            assert told.std == pytest.approx(known.std(), rel=1e-6)


_REAL = sorted(rasters.REAL.glob("*.tif")) if rasters.REAL.is_dir() else []


@pytest.mark.skipif(not _REAL, reason="the collection of real rasters is not on this machine")
@pytest.mark.parametrize("path", _REAL, ids=lambda path: path.stem)
def test_tiles_of_real_rasters_are_those_of_rio_tiler(pool: Pool, path: Path) -> None:
    if path.stem.startswith(("corrupt", "europa")):
        pytest.skip("nothing can be read of it")
    compared(path, MERCATOR, pool, sized(2, 17))
    compared(path, MERCATOR, pool, sized(1, 9), check_close, reproject_method="cubic")
    compared(path, MERCATOR, pool, sized(1, 9), check_close, reproject_method="bilinear", indexes=(1,))


@pytest.mark.parametrize("name", ["uint8 rgb", "uint16 nodata", "uint8 with alpha"])
def test_a_raster_that_is_small_in_a_tile_has_the_pixels_of_rio_tiler(
    folder: Path, pool: Pool, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made(folder, name)
    monkeypatch.setattr("api.tiles.reader.MOST_NATIVE", 0)  # rio-tiler takes long where it is needed
    with Reader(str(path)) as stock, FastReader(str(path), pool=pool) as fast:
        seen = watch(fast)
        west, south, east, north = stock.get_geographic_bounds(MERCATOR.rasterio_geographic_crs)
        tile = MERCATOR.tile((west + east) / 2, (south + north) / 2, stock.minzoom - 4)
        wanted, found = stock.tile(*tile), fast.tile(*tile)
        assert 0 < (~wanted.array.mask.all(axis=0)).sum() < 256 * 256 / 64
        ((part, bands, mixed),) = seen
        assert (part.width, part.height) < (64, 64)
        bounds = MERCATOR.xy_bounds(tile)
        whole = fast._image(tuple(bounds), MERCATOR.rasterio_crs, MERCATOR.rasterio_crs, (256, 256, None), None)
        check_same(fast, found, wanted, (whole, bands, mixed))
