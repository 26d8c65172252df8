"""What is counted while it comes, what is tried again and for how long, and what a race leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from db.pools import Pool
from ingest.errors import UploadRejected
from ingest.settings import IngestSettings
from ingest.uploads import parts, processing, quota, receiving, removal, service
from ingest.uploads.inflow import Streamed
from ingest.uploads.model import State, Upload
from ingest.uploads.originals import StoreFailed
from ingest.uploads.partial import Partial
from tests.demo import free_port

WHEN = "2026-05-01T12:00:00Z"


@pytest.fixture
def settings(tmp_path: Path) -> IngestSettings:
    return IngestSettings(data_dir=tmp_path / "data", public_url="http://127.0.0.1:8080", upload_owner_max_bytes=1000)


async def made(pool: Pool, settings: IngestSettings, **plan: Any) -> Upload:
    async with pool.connection() as conn:
        given = service.Plan(**plan)
        return await service.create(
            conn, collection="uploads", when=WHEN, title="t", owner="o", plan=given, limits=settings
        )


async def stored(pool: Pool, upload_id: UUID) -> Upload:
    async with pool.connection() as conn:
        return await service.get(conn, upload_id)


async def used(pool: Pool) -> int:
    async with pool.connection() as conn:
        return (await quota.usage(conn, "o"))["bytes"]


async def execute(pool: Pool, statement: str) -> None:
    async with pool.connection() as conn:
        await conn.execute(statement.encode())


class Sender:
    """Sends a file by PUT in two pieces, the second when it is told to."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.is_under_way, self.go_on = asyncio.Event(), asyncio.Event()

    async def stream(self) -> AsyncIterator[bytes]:
        yield self.content[:1]
        self.is_under_way.set()
        await self.go_on.wait()
        yield self.content[1:]

    def put(self, pool: Pool, settings: IngestSettings, upload: Upload, length: int) -> asyncio.Task[Upload]:
        return asyncio.create_task(receiving.receive_whole(pool, settings, upload.id, Streamed(self.stream()), length))


async def test_two_files_at_once_do_not_pass_the_quota_together(catalogue: Pool, settings: IngestSettings) -> None:
    first, second = await made(catalogue, settings), await made(catalogue, settings)
    slow, quick = Sender(bytes(600)), Sender(bytes(600))
    sending = slow.put(catalogue, settings, first, 600)
    await slow.is_under_way.wait()
    assert await used(catalogue) == 600
    with pytest.raises(UploadRejected) as caught:
        await quick.put(catalogue, settings, second, 600)
    assert (caught.value.code, caught.value.facts["actual"]) == ("QUOTA_EXCEEDED", 600)
    slow.go_on.set()
    assert (await sending).state is State.RECEIVED
    assert await used(catalogue) == 600


async def test_a_file_that_failed_gives_back_what_it_claimed(catalogue: Pool, settings: IngestSettings) -> None:
    upload = await made(catalogue, settings)
    for content, length, code in ((bytes(300), 900, "INCOMPLETE_BODY"), (bytes(901), 900, "INCOMPLETE_BODY")):
        sender = Sender(content)
        sender.go_on.set()
        with pytest.raises(UploadRejected) as caught:
            await sender.put(catalogue, settings, upload, length)
        assert caught.value.code == code
        assert await used(catalogue) == 0
    cut = Sender(bytes(900))
    sending = cut.put(catalogue, settings, upload, 900)
    await cut.is_under_way.wait()
    assert await used(catalogue) == 900
    sending.cancel()
    await asyncio.wait({sending})
    assert await used(catalogue) == 0


async def test_a_claim_that_a_crash_left_is_swept_and_a_slow_sender_keeps_his(
    catalogue: Pool, settings: IngestSettings
) -> None:
    left, slow = await made(catalogue, settings), await made(catalogue, settings)
    await execute(
        catalogue,
        "update federator.upload set claimed_bytes = 400, state = 'uploading', updated_at = now() - interval '1 hour'",
    )
    holder = Partial.acquire(service.folder_of(settings, slow.id))
    assert await used(catalogue) == 800
    await removal.sweep(catalogue, settings)
    holder.close()
    assert await used(catalogue) == 400
    assert ((await stored(catalogue, left.id)).claimed, (await stored(catalogue, slow.id)).claimed) == (None, 400)


async def test_an_original_that_the_bucket_never_gives_fails_after_five_tries(
    catalogue: Pool, settings: IngestSettings
) -> None:
    """The bucket is gone: nobody listens where it was."""
    upload = await made(catalogue, settings)
    sender = Sender(b"II*\0")
    sender.go_on.set()
    await sender.put(catalogue, settings, upload, 4)
    (service.folder_of(settings, upload.id) / "original").unlink()
    gone = settings.model_copy(
        update={
            "upload_store_url": "s3://rasters/some",
            "store_endpoint": f"http://127.0.0.1:{free_port(0)}",
            "store_key_id": "nobody",
        }
    )
    for attempt in range(1, processing.MAX_ATTEMPTS):
        with pytest.raises(StoreFailed):
            await processing.process(catalogue, gone, upload.id)
        now = await stored(catalogue, upload.id)
        assert (now.state, now.attempts) == (State.RECEIVED, attempt)
    await processing.process(catalogue, gone, upload.id)
    after = await stored(catalogue, upload.id)
    assert (after.state, after.error_code) == (State.FAILED, "ORIGINAL_UNAVAILABLE")
    assert await processing.process(catalogue, gone, upload.id) is None


async def test_a_multipart_upload_opened_while_its_upload_is_taken_back_is_aborted(
    catalogue: Pool, settings: IngestSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await made(catalogue, settings, length=10)
    await execute(catalogue, "update federator.upload set part_bytes = 5")
    asked: list[tuple[str, dict[str, str]]] = []

    async def answering(_: Any, method: str, __: UUID, query: dict[str, str], **more: Any) -> str:
        """The bucket; while it opens the multipart upload, its owner takes the upload back."""
        asked.append((method, query))
        if method == "POST":
            await removal.remove(catalogue, settings, upload.id)
        return "<Answer><UploadId>new</UploadId></Answer>"

    monkeypatch.setattr(parts, "_ask", answering)
    with pytest.raises(UploadRejected) as caught:
        await parts.begin(catalogue, settings, upload)
    assert (caught.value.code, caught.value.status) == ("DELETED", 410)
    assert asked == [("POST", {"uploads": ""}), ("DELETE", {"uploadId": "new"})]
    assert (await stored(catalogue, upload.id)).store_upload is None
