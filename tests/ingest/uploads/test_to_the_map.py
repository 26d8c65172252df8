"""From the bytes to the map: a preview first, then the full resolution; what users say; what is taken back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from psycopg.types.json import Jsonb
from rasterio.transform import from_origin
from rio_tiler.io import Reader

from db.pools import Pool
from ingest.errors import UploadRejected
from ingest.settings import IngestSettings
from ingest.uploads import processing, receiving, registration, service
from ingest.uploads.inflow import Streamed
from ingest.uploads.model import State, Upload
from lineage.commitments import digest_of
from lineage.names import item_id
from tests.ingest.uploads.rasters import write
from tests.ingest.uploads.test_service import WHEN, chunks, item_of
from tests.stac_schemas import faults


@pytest.fixture
def settings(tmp_path: Path) -> IngestSettings:
    return IngestSettings(
        data_dir=tmp_path / "data",
        public_url="http://127.0.0.1:8080",
        raster_preview_side=512,
        raster_preview_from_bytes=2**20,
    )


async def received(pool: Pool, settings: IngestSettings, path: Path, form: dict[str, Any] | None = None) -> Upload:
    async with pool.connection() as conn:
        upload = await service.create(conn, collection="uploads", when=WHEN, title="A field", owner="tester")
        await registration.describe(conn, upload.id, form or {})
    data = path.read_bytes()
    return await receiving.receive_whole(pool, settings, upload.id, Streamed(chunks(data)), len(data))


async def processed(pool: Pool, settings: IngestSettings, upload: Upload) -> Upload:
    done = await processing.process(pool, settings, upload.id)
    assert done is not None
    async with pool.connection() as conn:
        return await service.get(conn, upload.id)


async def creations(pool: Pool, upload: Upload) -> list[dict[str, Any]]:
    """Events of the upload's item, in order."""
    async with pool.connection() as conn:
        query = "select kind, body::jsonb as body from lineage.event_outbox where item_id = $1 order by position"
        return await (await conn.execute(query, (upload.item_id,))).fetchall()


def sample(path: Path) -> np.ndarray[Any, Any]:
    rows, columns = np.mgrid[0:2048, 0:2048]
    pixels = (1 + rows * 7 % 5000 + columns * 3).astype("uint16")[None]
    return write(
        path, pixels, nodata=0, tiled=True, compress="deflate", transform=from_origin(600_000, 5_340_000, 50, 50)
    )


async def test_a_preview_is_on_the_map_first_and_no_tile_changes_after(
    catalogue: Pool, settings: IngestSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = sample(tmp_path / "a.tif")
    upload = await received(catalogue, settings, tmp_path / "a.tif")
    show = registration.Registrar.show_preview
    seen: dict[str, Any] = {}

    async def looked_at(self: registration.Registrar, *arguments: Any) -> None:
        await show(self, *arguments)
        with rasterio.open(self.target) as cog:
            seen["size"] = cog.width
        with Reader(str(self.target)) as reader:
            seen["zooms"] = reader.minzoom, reader.maxzoom
            place = reader.tms.tile(*_middle(reader), reader.maxzoom)
            seen["tile"] = place, reader.tile(place.x, place.y, place.z).array
        seen["item"] = await item_of(catalogue, self.upload)

    monkeypatch.setattr(registration.Registrar, "show_preview", looked_at)
    done = await processed(catalogue, settings, upload)
    assert done.state is State.READY, done.error_detail
    assert seen["size"] == 512
    assert seen["item"]["assets"]["data"]["federator:preview"] is True
    assert seen["item"]["assets"]["data"]["proj:shape"] == [512, 512]
    assert faults(seen["item"]) == []
    item = await item_of(catalogue, done)
    assert faults(item) == []
    assert "federator:preview" not in item["assets"]["data"]
    assert item["assets"]["data"]["proj:shape"] == [2048, 2048]
    assert (item["geometry"], item["bbox"]) == (seen["item"]["geometry"], seen["item"]["bbox"])
    with rasterio.open(service.cog_path(settings, done.id)) as cog:
        assert np.array_equal(cog.read(), pixels)
    with Reader(str(service.cog_path(settings, done.id))) as reader:
        assert reader.maxzoom > seen["zooms"][1]
        place, before = seen["tile"]
        after = reader.tile(place.x, place.y, place.z).array
        assert np.array_equal(before.mask, after.mask)
        assert before.tobytes() == after.tobytes()
    assert [event["kind"] for event in await creations(catalogue, done)] == ["CREATE", "REPLACE"]
    left = {path.name for path in service.folder_of(settings, done.id).iterdir()}
    assert left <= {"lock", "original", "unverified"}, "nothing of the conversion"


def _middle(reader: Reader) -> tuple[float, float]:
    west, south, east, north = reader.get_geographic_bounds("EPSG:4326")
    return (west + east) / 2, (south + north) / 2


async def test_what_was_shown_is_taken_back_when_the_file_is_refused_after_all(
    catalogue: Pool, settings: IngestSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample(tmp_path / "a.tif")
    upload = await received(catalogue, settings, tmp_path / "a.tif")
    run_child = processing.run_child

    async def too_slow(*arguments: Any, **options: Any) -> Any:
        await run_child(*arguments, **options)
        raise UploadRejected("TIMED_OUT", "took too long")

    monkeypatch.setattr(processing, "run_child", too_slow)
    done = await processed(catalogue, settings, upload)
    assert (done.state, done.error_code) == (State.REJECTED, "TIMED_OUT")
    assert not service.cog_path(settings, upload.id).exists()
    async with catalogue.connection() as conn:
        assert await (await conn.execute("select from pgstac.items where id = $1", (done.item_id,))).fetchone() is None
    assert [event["kind"] for event in await creations(catalogue, done)] == ["CREATE", "DELETE"]


async def test_users_words_parents_and_times_are_in_the_item(
    catalogue: Pool, settings: IngestSettings, tmp_path: Path
) -> None:
    write(tmp_path / "parent.tif", np.random.default_rng(1).integers(0, 9, (1, 50, 50), "uint8"))
    parent = await processed(catalogue, settings, await received(catalogue, settings, tmp_path / "parent.tif"))
    write(tmp_path / "a.tif", np.random.default_rng(0).integers(0, 3000, (4, 90, 90), "uint16"), nodata=0)
    form = {
        "description": "Derived", "license": "CC-BY-4.0", "keywords": ["test"],
        "start_datetime": "2026-04-01T00:00:00Z", "end_datetime": "2026-06-01T00:00:00Z",
        "bands": [{"common_name": name} for name in ("blue", "green", "red", "nir")],
        "derived_from": [parent.item_id, f"sha256:{parent.sha256}", "S2A_NOBODY_HAS_IT.SAFE"],
    }  # fmt: skip
    upload = await processed(catalogue, settings, await received(catalogue, settings, tmp_path / "a.tif", form))
    item = await item_of(catalogue, upload)
    assert faults(item) == []
    properties = item["properties"]
    assert (properties["license"], properties["keywords"], properties["description"]) == (
        "CC-BY-4.0",
        ["test"],
        "Derived",
    )
    assert properties["start_datetime"].startswith("2026-04-01")
    assert properties["datetime"].startswith(WHEN[:-1])
    assert [band["eo:common_name"] for band in item["assets"]["data"]["bands"]] == ["blue", "green", "red", "nir"]
    assert properties["renders"]["default"]["bidx"] == [3, 2, 1]
    assert [link["href"].rsplit("/", 1)[1] for link in item["links"] if link["rel"] == "derived_from"] == [
        parent.item_id
    ]
    [event] = await creations(catalogue, upload)
    inputs = {one["name"]: one["hash"] for one in event["body"]["inputs"]}
    assert inputs[parent.item_id] == inputs[f"sha256:{parent.sha256}"] == parent.sha256
    assert inputs["S2A_NOBODY_HAS_IT.SAFE"] == ""
    assert inputs["A field"] == upload.sha256
    assert item["assets"]["thumbnail"]["roles"] == ["thumbnail"]
    assert "bidx%3D3%2C2%2C1" in item["assets"]["thumbnail"]["href"]


async def test_a_private_parent_is_a_hash_in_the_event(
    catalogue: Pool, settings: IngestSettings, tmp_path: Path
) -> None:
    write(tmp_path / "parent.tif", np.random.default_rng(1).integers(0, 9, (1, 50, 50), "uint8"))
    parent = await processed(catalogue, settings, await received(catalogue, settings, tmp_path / "parent.tif"))
    async with catalogue.connection() as conn:
        private = Jsonb({"readers": [f"user:{parent.owner}"]})
        await conn.execute("select federator.set_private($1, $2, $3)", (parent.collection_id, parent.item_id, private))
    write(tmp_path / "a.tif", np.random.default_rng(0).integers(0, 9, (1, 60, 60), "uint8"))
    form = {"derived_from": [parent.item_id, f"sha256:{parent.sha256}"]}
    upload = await processed(catalogue, settings, await received(catalogue, settings, tmp_path / "a.tif", form))
    [event] = await creations(catalogue, upload)
    original, hidden = event["body"]["inputs"]
    assert original["role"] == "original"
    assert (hidden["name"], hidden["hash"], len(hidden["commitment"])) == ("", "", 64)
    async with catalogue.connection() as conn:
        row = await (await conn.execute("select salt, entities from lineage.commitment")).fetchone()
    assert row is not None
    assert row["entities"] == [item_id(parent.collection_id, parent.item_id)]
    assert digest_of(row["salt"], row["entities"]).hex() == hidden["commitment"]


async def test_the_time_may_stand_in_the_file(catalogue: Pool, settings: IngestSettings, tmp_path: Path) -> None:
    for tag, expected in (("2021:07:01 10:00:00", "2021-07-01T10:00:00Z"), ("2999:01:01 00:00:00", None)):
        write(tmp_path / "a.tif")
        with rasterio.open(tmp_path / "a.tif", "r+") as target:
            target.update_tags(TIFFTAG_DATETIME=tag)
        upload = await received(catalogue, settings, tmp_path / "a.tif")
        async with catalogue.connection() as conn:
            await conn.execute("update federator.upload set datetime = null where id = $1", (upload.id,))
        done = await processed(catalogue, settings, upload)
        if expected is None:
            assert (done.state, done.error_code) == (State.REJECTED, "DATETIME_REQUIRED")
        else:
            assert (await item_of(catalogue, done))["properties"]["datetime"] == expected


async def test_a_crs_that_the_user_gives_serves_files_without_one(
    catalogue: Pool, settings: IngestSettings, tmp_path: Path
) -> None:
    write(tmp_path / "a.tif", crs=None)
    upload = await processed(
        catalogue, settings, await received(catalogue, settings, tmp_path / "a.tif", {"crs": "EPSG:32633"})
    )
    assert upload.state is State.READY, upload.error_detail
    assert (await item_of(catalogue, upload))["assets"]["data"]["proj:code"] == "EPSG:32633"
    upload = await processed(
        catalogue, settings, await received(catalogue, settings, tmp_path / "a.tif", {"crs": "EPSG:32599"})
    )
    assert upload.error_code == "CRS_INVALID"
