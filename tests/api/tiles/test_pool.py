"""Open rasters are shared out one by one, never served old, and closed in the end."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.errors import RasterioIOError
from rasterio.io import DatasetReader

from api.tiles.pool import Key, Pool, key_of
from api.tiles.reader import FastReader
from tests.ingest.uploads.rasters import UTM, write


@pytest.fixture
def raster(tmp_path: Path) -> Path:
    write(tmp_path / "a.tif")
    return tmp_path / "a.tif"


@pytest.fixture
def pool() -> Iterator[Pool]:
    made = Pool(max_idle=3, idle_s=60)
    yield made
    made.close()


def known(path: Path) -> Key:
    found = key_of(str(path))
    assert found is not None
    return found


def test_a_dataset_is_kept_and_lent_again(raster: Path, pool: Pool) -> None:
    with pool.lent(known(raster)) as first:
        pass
    with pool.lent(known(raster)) as again, pool.lent(known(raster)) as other:
        assert again is first
        assert other is not first
    assert len(pool) == 2


def test_a_file_that_was_replaced_is_never_served_old(raster: Path, pool: Pool) -> None:
    for value in range(1, 6):
        part = raster.with_suffix(".part")
        write(part, np.full((1, 64, 64), value, "uint16"))
        part.rename(raster)
        with FastReader(str(raster), pool=pool) as reader:
            assert reader.facts.width == 64
            found = reader.part(reader.bounds, bounds_crs=reader.crs, dst_crs=rasterio.CRS.from_epsg(3857), max_size=32)
            assert set(np.unique(found.array.compressed())) == {value}


def test_no_more_are_kept_than_agreed(raster: Path, pool: Pool) -> None:
    lent = [pool.take(known(raster)) for _ in range(6)]
    for dataset in lent:
        pool.give_back(known(raster), dataset)
    assert len(pool) == 3
    assert [dataset.closed for dataset in lent] == [True] * 3 + [False] * 3


def test_what_is_idle_for_long_is_closed(raster: Path) -> None:
    now = [0.0]
    pool = Pool(idle_s=10, clock=lambda: now[0])
    with pool.lent(known(raster)) as dataset:
        pass
    now[0] = 9
    pool.sweep()
    assert not dataset.closed
    now[0] = 11
    pool.sweep()
    assert dataset.closed
    assert len(pool) == 0
    pool.close()


def test_a_raster_that_failed_is_not_lent_again(raster: Path, pool: Pool) -> None:
    with pytest.raises(ZeroDivisionError), pool.lent(known(raster)) as dataset:
        raise ZeroDivisionError
    assert dataset.closed
    assert len(pool) == 0


def test_a_damaged_raster_disturbs_no_other(tmp_path: Path, pool: Pool) -> None:
    """GDAL keeps a thread's last error; rasterio took it for one of a dataset that was open already."""
    good, bad = tmp_path / "good.tif", tmp_path / "bad.tif"
    write(good)
    write(bad, tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    size = bad.stat().st_size
    with bad.open("r+b") as file:
        file.seek(size // 3)
        file.write(os.urandom(size // 3))
    with FastReader(str(good), pool=pool):
        pass
    for crs in ("EPSG:32633", "EPSG:3857"):
        there = rasterio.CRS.from_string(crs)
        for _ in range(2):
            with pytest.raises(RasterioIOError), FastReader(str(bad), pool=pool) as reader:
                reader.part(reader.bounds, bounds_crs=reader.crs, dst_crs=there)
        with FastReader(str(good), pool=pool) as reader:
            assert reader.part(reader.bounds, bounds_crs=reader.crs, dst_crs=there).array.count()
            assert reader.info().width == 300


def test_threads_never_have_the_same_dataset(raster: Path) -> None:
    pool, held, wrong = Pool(max_idle=4), set[int](), []
    lock, key = threading.Lock(), known(raster)

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(100):
            with pool.lent(key) as dataset:
                _hold(dataset)
                if rng.random() < 0.1:
                    dataset.read(1, window=((0, 5), (0, 5)))
                with lock:
                    held.discard(id(dataset))

    def _hold(dataset: DatasetReader) -> None:
        with lock:
            if id(dataset) in held:
                wrong.append(dataset)
            held.add(id(dataset))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(pool) <= 4
    pool.close()


def test_only_geotiff_is_opened(tmp_path: Path, pool: Pool) -> None:
    with rasterio.open(
        tmp_path / "a.png", "w", driver="PNG", width=8, height=8, count=1, dtype="uint8", **UTM
    ) as target:
        target.write(np.ones((1, 8, 8), "uint8"))
    with pytest.raises(RasterioIOError):
        FastReader(str(tmp_path / "a.png"), pool=pool)
