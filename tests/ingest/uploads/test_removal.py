"""What ends and what goes with it: expiry, quota given back, interrupted work, orphans, originals that nobody needs."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from db.pools import Pool
from ingest.errors import UploadRejected
from ingest.settings import IngestSettings
from ingest.uploads import processing, quota, receiving, registration, removal, service
from ingest.uploads.inflow import Streamed
from ingest.uploads.model import State, Upload
from ingest.uploads.partial import Partial
from lineage.ids import uuid7
from tests.ingest.uploads.rasters import write

WHEN = "2026-05-01T12:00:00Z"


@pytest.fixture
def settings(tmp_path: Path) -> IngestSettings:
    return IngestSettings(
        data_dir=tmp_path / "data",
        public_url="http://127.0.0.1:8080",
        upload_open_max=3,
        upload_owner_max_bytes=10**8,
    )


async def made(pool: Pool, settings: IngestSettings, length: int, **plan: Any) -> Upload:
    async with pool.connection() as conn:
        given = service.Plan(length=length, **plan)
        return await service.create(
            conn, collection="uploads", when=WHEN, title="t", owner="o", plan=given, limits=settings
        )


async def sent(pool: Pool, settings: IngestSettings, upload: Upload, content: bytes, offset: int = 0) -> Upload:
    async def stream() -> AsyncIterator[bytes]:
        yield content

    return await receiving.receive(pool, settings, upload.id, Streamed(stream()), receiving.Body(offset, len(content)))


async def stored(pool: Pool, upload: Upload) -> Upload:
    async with pool.connection() as conn:
        return await service.get(conn, upload.id)


async def execute(pool: Pool, statement: str, *values: Any) -> list[dict[str, Any]]:
    async with pool.connection() as conn:
        cursor = await conn.execute(statement.encode(), values)
        return await cursor.fetchall() if cursor.description else []


async def used(pool: Pool) -> dict[str, int]:
    async with pool.connection() as conn, conn.transaction():
        return await quota._usage(conn, "o")


async def ready(pool: Pool, settings: IngestSettings, tmp_path: Path, **plan: Any) -> Upload:
    write(tmp_path / "a.tif")
    content = (tmp_path / "a.tif").read_bytes()
    upload = await made(pool, settings, len(content), **plan)
    await sent(pool, settings, upload, content)
    done = await processing.process(pool, settings, upload.id)
    assert done is not None
    assert done.state is State.READY
    return done


async def test_one_sweep_frees_what_expired_and_a_bad_row_keeps_none_from_its_turn(
    catalogue: Pool, settings: IngestSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = [await made(catalogue, settings, 1000) for _ in range(3)]
    for upload in uploads:
        await sent(catalogue, settings, upload, b"12345")
    assert await used(catalogue) == {"open": 3, "bytes": 3000}
    await execute(catalogue, "update federator.upload set expires_at = now() - interval '1 s'")
    move = removal.move

    async def failing(conn: Any, upload_id: Any, *rest: Any, **more: Any) -> Upload:
        if upload_id == uploads[0].id:
            raise RuntimeError("a bad row")
        return await move(conn, upload_id, *rest, **more)

    monkeypatch.setattr(removal, "move", failing)
    await removal.sweep(catalogue, settings)
    assert [(await stored(catalogue, one)).error_code for one in uploads] == [None, "EXPIRED", "EXPIRED"]
    assert [service.folder_of(settings, one.id).exists() for one in uploads] == [True, False, False]
    assert await used(catalogue) == {"open": 1, "bytes": 1000}


async def test_an_upload_that_is_being_sent_does_not_expire(catalogue: Pool, settings: IngestSettings) -> None:
    upload = await made(catalogue, settings, 1000)
    await sent(catalogue, settings, upload, b"12345")
    await execute(catalogue, "update federator.upload set expires_at = now() - interval '1 s'")
    holder = Partial.acquire(service.folder_of(settings, upload.id))
    await removal.sweep(catalogue, settings)
    assert (await stored(catalogue, upload)).state is State.UPLOADING
    holder.close()


async def test_a_crash_after_the_last_byte_is_made_good_by_a_sweep(catalogue: Pool, settings: IngestSettings) -> None:
    upload = await made(catalogue, settings, 9)
    await sent(catalogue, settings, upload, b"123")
    with (service.folder_of(settings, upload.id) / "original").open("ab") as file:
        file.write(b"456789")
    await removal.sweep(catalogue, settings)
    after = await stored(catalogue, upload)
    assert (after.state, after.sha256) == (State.RECEIVED, hashlib.sha256(b"123456789").hexdigest())
    assert len(await execute(catalogue, "select 1 from procrastinate_jobs")) == 1


@pytest.mark.parametrize("keeps", [True, False])
async def test_the_original_is_kept_or_dropped_as_the_user_wants(
    catalogue: Pool, settings: IngestSettings, tmp_path: Path, keeps: bool
) -> None:
    upload = await ready(catalogue, settings, tmp_path, keep_original=keeps)
    await removal.sweep(catalogue, settings)
    assert (service.folder_of(settings, upload.id) / "original").exists() == keeps
    cog = service.cog_path(settings, upload.id).stat().st_size
    assert await used(catalogue) == {"open": 0, "bytes": cog + (upload.length or 0) * keeps}


async def test_deleting_takes_item_cog_original_and_quota_and_leaves_a_tombstone(
    catalogue: Pool, settings: IngestSettings, tmp_path: Path
) -> None:
    upload = await ready(catalogue, settings, tmp_path)
    await removal.sweep(catalogue, settings)
    await removal.remove(catalogue, settings, upload.id)
    after = await stored(catalogue, upload)
    assert (after.state, after.item_id) == (State.DELETED, upload.item_id)
    assert await execute(catalogue, "select 1 from pgstac.items") == []
    assert not service.cog_path(settings, upload.id).exists()
    assert not service.folder_of(settings, upload.id).exists()
    assert await used(catalogue) == {"open": 0, "bytes": 0}
    events = await execute(
        catalogue, "select kind, actor_id from lineage.event_outbox where item_id = $1", upload.item_id
    )
    assert [(row["kind"], row["actor_id"]) for row in events] == [("CREATE", "user:o"), ("DELETE", "user:o")]
    with pytest.raises(UploadRejected, match="gone"):
        await removal.remove(catalogue, settings, upload.id)


async def test_a_crash_while_deleting_is_made_good(catalogue: Pool, settings: IngestSettings, tmp_path: Path) -> None:
    upload = await ready(catalogue, settings, tmp_path)
    async with catalogue.connection() as conn, conn.transaction():
        await service.move(conn, upload.id, State.DELETING)
    await removal.sweep(catalogue, settings)
    assert (await stored(catalogue, upload)).state is State.DELETED
    assert not service.cog_path(settings, upload.id).exists()


async def test_what_no_worker_will_finish_is_taken_back(catalogue: Pool, settings: IngestSettings) -> None:
    upload = await made(catalogue, settings, 3)
    await sent(catalogue, settings, upload, b"123")
    async with catalogue.connection() as conn, conn.transaction():
        await service.move(conn, upload.id, State.SCANNING)
    await removal.remove(catalogue, settings, upload.id)
    after = await stored(catalogue, upload)
    assert (after.state, after.error_code) == (State.REJECTED, "DELETED")
    assert not service.folder_of(settings, upload.id).exists()


async def test_taking_back_while_it_is_converted_takes_what_is_shown_and_ends_the_work(
    catalogue: Pool, settings: IngestSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings.model_copy(update={"raster_preview_side": 512, "raster_preview_from_bytes": 2**20})
    pixels = np.random.default_rng(0).integers(1, 3000, (1, 1500, 1500), "uint16")
    write(tmp_path / "a.tif", pixels, nodata=0, tiled=True)
    content = (tmp_path / "a.tif").read_bytes()
    upload = await made(catalogue, settings, len(content))
    await sent(catalogue, settings, upload, content)
    show, shown = registration.Registrar.show_preview, []

    async def taken_back_then(self: registration.Registrar, *arguments: Any) -> None:
        await show(self, *arguments)
        shown.extend(await execute(catalogue, "select id from pgstac.items"))
        await removal.remove(catalogue, settings, upload.id)

    monkeypatch.setattr(registration.Registrar, "show_preview", taken_back_then)
    monkeypatch.setattr(processing, "LEASE_S", 0.3)
    done = await processing.process(catalogue, settings, upload.id)
    assert done is not None
    assert (done.state, done.error_code, len(shown)) == (State.REJECTED, "DELETED", 1)
    assert await execute(catalogue, "select 1 from pgstac.items") == []
    assert not service.cog_path(settings, upload.id).exists()
    assert not service.folder_of(settings, upload.id).exists()
    events = await execute(
        catalogue, "select kind from lineage.event_outbox where item_id = $1 order by position", done.item_id
    )
    assert [row["kind"] for row in events] == ["CREATE", "DELETE"]


async def test_orphans_go_to_the_trash_after_a_day_and_away_after_a_week(
    catalogue: Pool, settings: IngestSettings, tmp_path: Path
) -> None:
    upload = await ready(catalogue, settings, tmp_path)
    folder, cogs, trash = settings.data_dir / "uploads", settings.data_dir / "cogs", settings.data_dir / "trash"
    old, new = folder / str(uuid7()), folder / str(uuid7())
    for path in (old, new):
        path.mkdir()
    cog, foreign = cogs / f"{uuid7()}.tif", cogs / "readme.txt"
    for path in (cog, foreign):
        path.write_text("x")
    yesterday = time.time() - removal.ORPHAN_S - 60
    mine = [folder / str(upload.id), cogs / f"{upload.id}.tif"]
    for path in (old, cog, foreign, *mine):
        os.utime(path, (yesterday, yesterday))
    await removal.sweep(catalogue, settings)
    assert not old.exists()
    assert not cog.exists()
    assert all(path.exists() for path in (new, foreign, *mine))
    names = {path.name.partition("-")[2] for path in trash.iterdir()}
    assert names == {old.name, cog.name}
    for path in list(trash.iterdir()):
        path.rename(trash / f"{int(time.time() - removal.TRASH_S - 60)}-{path.name.partition('-')[2]}")
    await removal.sweep(catalogue, settings)
    assert list(trash.iterdir()) == []


async def test_who_will_not_say_when_takes_the_upload_back(catalogue: Pool, settings: IngestSettings) -> None:
    upload = await made(catalogue, settings, 3)
    await sent(catalogue, settings, upload, b"123")
    question = UploadRejected("DATETIME_REQUIRED", "say when")
    async with catalogue.connection() as conn, conn.transaction():
        await service.move(conn, upload.id, State.SCANNING)
        await service.move(conn, upload.id, State.REJECTED, error=question)
    await removal.sweep(catalogue, settings)
    assert await used(catalogue) == {"open": 0, "bytes": 3}
    await removal.remove(catalogue, settings, upload.id)
    assert (await stored(catalogue, upload)).error_code == "DELETED"
    assert await used(catalogue) == {"open": 0, "bytes": 0}
