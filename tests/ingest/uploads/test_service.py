"""Uploads from creation to item, with the real child process, database and rasters."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine, from_origin
from rasterio.warp import transform as transform_points
from shapely.geometry import Point, shape

from db.pools import Pool
from ingest.errors import UploadRejected
from ingest.settings import IngestSettings
from ingest.uploads import processing, receiving, service
from ingest.uploads.drivers import RASTER_DRIVERS
from ingest.uploads.inflow import Streamed
from ingest.uploads.model import State, Upload
from tests.ingest.uploads.rasters import write
from tests.shared import shared_path
from tests.stac_schemas import faults

WHEN = "2026-05-01T12:00:00Z"


@pytest.fixture
def settings(tmp_path: Path) -> IngestSettings:
    return IngestSettings(data_dir=tmp_path / "data", public_url="http://127.0.0.1:8080")


async def chunks(data: bytes, step: int = 65536) -> AsyncIterator[bytes]:
    for start in range(0, len(data), step):
        yield data[start : start + step]


async def created(pool: Pool, title: str = "A field") -> Upload:
    async with pool.connection() as conn:
        return await service.create(conn, collection="uploads", when=WHEN, title=title, owner="tester")


async def received(pool: Pool, settings: IngestSettings, path: Path) -> Upload:
    upload = await created(pool)
    data = path.read_bytes()
    return await receiving.receive_whole(pool, settings, upload.id, Streamed(chunks(data)), len(data))


async def processed(pool: Pool, settings: IngestSettings, path: Path) -> Upload:
    upload = await received(pool, settings, path)
    done = await processing.process(pool, settings, upload.id)
    assert done is not None
    async with pool.connection() as conn:
        return await service.get(conn, upload.id)


async def item_of(pool: Pool, upload: Upload) -> dict[str, Any]:
    async with pool.connection() as conn:
        row = await (
            await conn.execute("select pgstac.get_item($1, $2) as item", (upload.item_id, upload.collection_id))
        ).fetchone()
    assert row is not None
    return dict(row["item"])


async def test_a_plain_raster_becomes_a_cog_with_the_same_pixels_and_a_valid_item(
    catalogue: Pool, settings: IngestSettings, tmp_path: Path
) -> None:
    path = tmp_path / "plain.tif"
    rows, columns = np.mgrid[0:600, 0:700]
    pixels = (1 + rows * 7 + columns * 3).astype("uint16")[None]
    pixels[:, :, :350] = 0
    write(path, pixels, nodata=0)
    upload = await processed(catalogue, settings, path)
    assert upload.state is State.READY
    assert upload.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    with rasterio.open(service.cog_path(settings, upload.id)) as cog:
        assert np.array_equal(cog.read(), pixels)
        assert cog.block_shapes == [(512, 512)]
        assert cog.overviews(1)
        assert cog.nodata == 0
    item = await item_of(catalogue, upload)
    assert faults(item) == []
    asset = item["assets"]["data"]
    assert asset["href"] == f"http://127.0.0.1:8080/uploads/{upload.id}/data.tif"
    assert asset["proj:code"] == "EPSG:32633"
    assert asset["bands"][0]["statistics"]["minimum"] > 0
    assert item["properties"]["renders"]["default"]["rescale"][0][0] > 0
    footprint = shape(item["geometry"])
    valid, empty = ((600_000 + 10 * column, 5_340_000 - 10 * 300) for column in (500, 100))
    lons, lats = transform_points("EPSG:32633", "EPSG:4326", [valid[0], empty[0]], [valid[1], empty[1]])
    assert footprint.contains(Point(lons[0], lats[0]))
    assert not footprint.contains(Point(lons[1], lats[1]))


async def test_states_and_creation_are_in_the_log_once(
    catalogue: Pool, settings: IngestSettings, tmp_path: Path
) -> None:
    write(tmp_path / "a.tif")
    upload = await processed(catalogue, settings, tmp_path / "a.tif")
    async with catalogue.connection() as conn:
        query = "select kind, body::jsonb ->> 'to' as state, item_id from lineage.event_outbox order by position"
        rows = await (await conn.execute(query)).fetchall()
    states = [row["state"] for row in rows if row["kind"] == "STATE"]
    assert states == ["created", "uploading", "received", "scanning", "converting", "registering", "ready"]
    assert [row["item_id"] for row in rows if row["kind"] == "CREATE"] == [upload.item_id]
    assert {row["kind"] for row in rows} == {"STATE", "CREATE"}, "nothing unattributed"


async def test_processing_twice_gives_one_item(catalogue: Pool, settings: IngestSettings, tmp_path: Path) -> None:
    write(tmp_path / "a.tif")
    upload = await received(catalogue, settings, tmp_path / "a.tif")
    results = await asyncio.gather(*(processing.process(catalogue, settings, upload.id) for _ in range(3)))
    assert sorted(result is not None for result in results) == [False, False, True]
    assert await processing.process(catalogue, settings, upload.id) is None


async def test_the_work_of_a_dead_worker_is_done_again_with_the_same_result(
    catalogue: Pool, settings: IngestSettings, tmp_path: Path
) -> None:
    write(tmp_path / "a.tif")
    upload = await received(catalogue, settings, tmp_path / "a.tif")
    async with catalogue.connection() as conn, conn.transaction():
        await conn.execute("update federator.upload set lease_until = now() + interval '1 hour'")
        await service.move(conn, upload.id, State.SCANNING)
    assert await processing.process(catalogue, settings, upload.id) is None, "somebody holds the lease"
    async with catalogue.connection() as conn:
        await conn.execute("update federator.upload set lease_until = now() - interval '1 second'")
        await conn.execute("delete from procrastinate_jobs")
    assert await processing.repair(catalogue) == 1
    assert await processing.repair(catalogue) == 0, "a job waits already"
    done = await processing.process(catalogue, settings, upload.id)
    assert done is not None
    assert done.state is State.READY


DTYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
async def test_every_type_keeps_its_pixels(
    catalogue: Pool, settings: IngestSettings, tmp_path: Path, dtype: str
) -> None:
    rng = np.random.default_rng(1)
    if dtype.startswith("float"):
        pixels = rng.normal(size=(2, 90, 110)).astype(dtype)
        pixels[0, :5] = np.nan
    else:
        bounds = np.iinfo(dtype)
        pixels = rng.integers(bounds.min // 2, bounds.max // 2, size=(2, 90, 110), dtype=dtype)
    write(tmp_path / "a.tif", pixels)
    upload = await processed(catalogue, settings, tmp_path / "a.tif")
    assert upload.state is State.READY, upload.error_detail
    with rasterio.open(service.cog_path(settings, upload.id)) as cog:
        assert np.array_equal(cog.read(), pixels, equal_nan=dtype.startswith("float"))
    assert faults(await item_of(catalogue, upload)) == []


#: What becomes of the real rasters: None is an item, else the code of the refusal.
REAL = {
    "aerial_webp_3857.tif": None,
    "antimeridian_uint16_utm60_cog.tif": None,
    "corrupt_jpeg_3857.tif": "CORRUPT",
    "deltadtm_zstd_allnodata_9518_cog.tif": None,
    "dem_float32_2056_cog.tif": None,
    "drone_rgba_utm50s.tif": None,
    "europa_bigtiff_float32_cog.tif": "CRS_NOT_EARTH",
    "europe_float32_3035.tif": None,
    "int16_scale_offset_cog.tif": None,
    "landcover_palette_3857_cog.tif": None,
    "landsat8_sr_b4_polar_3031.tif": None,
    "noaa_aerial_jpeg_mask_4326_cog.tif": None,
    "sentinel1_gamma0_vv_float32_utm10_cog.tif": None,
    "sentinel1_grd_gcps_cog.tif": "NO_CRS",
    "sentinel2_l1c_b01_utm31.jp2": "NOT_A_TIFF",
    "sentinel2_tci_utm34_cog.tif": None,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
async def test_real_rasters(catalogue: Pool, settings: IngestSettings, name: str) -> None:
    path = shared_path("rasters", name)
    upload = await processed(catalogue, settings, path)
    assert upload.error_code == REAL[name], upload.error_detail
    if upload.state is not State.READY:
        return
    item = await item_of(catalogue, upload)
    assert faults(item) == []
    assert shape(item["geometry"]).is_valid
    with rasterio.open(path) as source, rasterio.open(service.cog_path(settings, upload.id)) as cog:
        assert np.array_equal(cog.read(), source.read(), equal_nan=source.dtypes[0].startswith("float"))
        assert np.array_equal(cog.dataset_mask(), source.dataset_mask())
        assert cog.crs == source.crs
        if name.startswith("landcover"):
            assert cog.colormap(1) == source.colormap(1)
        if name.startswith("int16"):
            assert (cog.scales, cog.offsets) == (source.scales, source.offsets)
    if name.startswith("antimeridian"):
        assert item["bbox"][0] > 177
        assert item["bbox"][2] < -178
    if name.startswith("deltadtm"):
        assert "ALL_NODATA" in upload.warnings


def damaged(path: Path, change: Any) -> None:
    write(
        path, np.random.default_rng(0).integers(0, 60000, (1, 600, 600), dtype="uint16"), compress="deflate", tiled=True
    )
    change(path)


def halved(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


REFUSED: dict[str, tuple[Any, str]] = {
    "no CRS": (lambda path: write(path, crs=None), "NO_CRS"),
    "no geotransform": (lambda path: write(path, transform=Affine.identity()), "NOT_GEOREFERENCED"),
    "longitude 500": (
        lambda path: write(path, crs="EPSG:4326", transform=from_origin(500, 10, 0.1, 0.1)),
        "OUT_OF_BOUNDS",
    ),
    "latitude 95": (
        lambda path: write(path, crs="EPSG:4326", transform=from_origin(10, 95, 0.01, 0.01)),
        "OUT_OF_BOUNDS",
    ),
    "complex": (lambda path: write(path, np.ones((1, 9, 9), "complex64")), "UNSUPPORTED_DTYPE"),
    "half a file": (lambda path: damaged(path, halved), "CORRUPT"),
    "text": (lambda path: path.write_text("no raster"), "NOT_A_TIFF"),
}


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("what", REFUSED)
async def test_refusals(catalogue: Pool, settings: IngestSettings, tmp_path: Path, what: str) -> None:
    make, code = REFUSED[what]
    make(tmp_path / "a.tif")
    upload = await processed(catalogue, settings, tmp_path / "a.tif")
    assert (upload.state, upload.error_code) == (State.REJECTED, code), upload.error_detail
    assert not service.cog_path(settings, upload.id).exists()
    assert upload.error_detail
    assert str(tmp_path) not in upload.error_detail


async def test_overviews_of_another_file_are_never_opened(
    catalogue: Pool, settings: IngestSettings, tmp_path: Path
) -> None:
    """The OVERVIEWS domain makes GDAL open a victim's file as this file's overview."""
    write(tmp_path / "victim.tif", np.full((1, 300, 300), 77, "uint8"))
    before = (tmp_path / "victim.tif").read_bytes()
    write(tmp_path / "a.tif", np.full((1, 600, 600), 1, "uint8"))
    with rasterio.open(tmp_path / "a.tif", "r+") as target:
        target.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=str(tmp_path / "victim.tif"))
    upload = await processed(catalogue, settings, tmp_path / "a.tif")
    assert upload.error_code == "EXTERNAL_REFERENCE"
    assert (tmp_path / "victim.tif").read_bytes() == before


@pytest.mark.parametrize(
    ("form", "code", "status"),
    [
        ({"collection": "nowhere"}, "COLLECTION_UNKNOWN", 404),
        ({"collection": "sentinel-2-l2a"}, "COLLECTION_NOT_WRITABLE", 403),
        ({"when": "yesterday"}, "DATETIME_INVALID", 422),
        ({"when": "2026-01-01T00:00:00"}, "DATETIME_INVALID", 422),
        ({"title": "\u202e\u0000"}, "TITLE_INVALID", 422),
        ({"title": "x" * 300}, "TITLE_INVALID", 422),
    ],
)
async def test_wrong_forms(catalogue: Pool, form: dict[str, Any], code: str, status: int) -> None:
    async with catalogue.connection() as conn:
        with pytest.raises(UploadRejected) as caught:
            await service.create(conn, **{"collection": "uploads", "when": WHEN, "title": "t", "owner": "o", **form})
    assert (caught.value.code, caught.value.status) == (code, status)


async def test_wrong_bytes_leave_an_upload_that_can_be_tried_again(catalogue: Pool, settings: IngestSettings) -> None:
    upload = await created(catalogue)

    async def code_of(data: bytes, length: int | None) -> str:
        with pytest.raises(UploadRejected) as caught:
            await receiving.receive_whole(catalogue, settings, upload.id, Streamed(chunks(data)), length)
        return caught.value.code

    assert await code_of(b"abc", None) == "LENGTH_REQUIRED"
    assert await code_of(b"", 0) == "EMPTY_FILE"
    assert await code_of(b"abc", settings.upload_max_bytes + 1) == "TOO_LARGE"
    assert await code_of(b"abc", 5) == "INCOMPLETE_BODY"
    assert await code_of(b"abcdef", 5) == "INCOMPLETE_BODY"
    after = await receiving.receive_whole(catalogue, settings, upload.id, Streamed(chunks(b"abcde")), 5)
    assert (after.state, after.length) == (State.RECEIVED, 5)
    assert (service.folder_of(settings, upload.id) / "original").read_bytes() == b"abcde"
    assert await code_of(b"abcde", 5) == "ALREADY_RECEIVED"


async def test_a_second_sender_is_refused_at_once(catalogue: Pool, settings: IngestSettings) -> None:
    upload = await created(catalogue)
    go_on = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"ab"
        await go_on.wait()
        yield b"cde"

    first = asyncio.create_task(receiving.receive_whole(catalogue, settings, upload.id, Streamed(slow()), 5))
    await asyncio.sleep(0.3)
    with pytest.raises(UploadRejected) as caught:
        await receiving.receive_whole(catalogue, settings, upload.id, Streamed(chunks(b"xxxxx")), 5)
    assert (caught.value.code, caught.value.status) == ("LOCKED", 423)
    go_on.set()
    assert (await first).length == 5
    assert (service.folder_of(settings, upload.id) / "original").read_bytes() == b"abcde"


def test_the_list_of_drivers_is_that_of_this_gdal() -> None:
    with rasterio.Env() as env:
        assert set(env.drivers()) <= set(RASTER_DRIVERS)


async def test_the_lease_is_renewed_while_the_work_goes_on(
    catalogue: Pool, settings: IngestSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processing, "LEASE_S", 0.3)
    write(tmp_path / "a.tif")
    upload = await received(catalogue, settings, tmp_path / "a.tif")
    async with catalogue.connection() as conn:
        await conn.execute("delete from procrastinate_jobs")  # a waiting job would keep repair from enqueuing another
    begun, may_end = asyncio.Event(), asyncio.Event()
    convert = processing._convert

    async def slow(*arguments: Any) -> dict[str, Any]:
        begun.set()
        await may_end.wait()
        return await convert(*arguments)

    monkeypatch.setattr(processing, "_convert", slow)
    work = asyncio.create_task(processing.process(catalogue, settings, upload.id))
    await begun.wait()
    await asyncio.sleep(0.9)  # three leases
    assert await processing.repair(catalogue) == 0, "nobody takes work away that goes on"
    may_end.set()
    done = await work
    assert done is not None
    assert done.state is State.READY


async def test_an_upload_that_keeps_ending_its_workers_is_given_up(
    catalogue: Pool, settings: IngestSettings, tmp_path: Path
) -> None:
    write(tmp_path / "a.tif")
    upload = await received(catalogue, settings, tmp_path / "a.tif")
    async with catalogue.connection() as conn, conn.transaction():
        await service.move(conn, upload.id, State.SCANNING)
        await conn.execute("update federator.upload set attempts = 5")
    done = await processing.process(catalogue, settings, upload.id)
    assert done is not None
    assert (done.state, done.error_code) == (State.FAILED, "CONVERSION_FAILED")
    assert await processing.repair(catalogue) == 0
