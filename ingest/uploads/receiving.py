"""Taking an upload's bytes: checked before the first is read, hashed on the way, durable before anybody is told.

Knows no HTTP and no protocol: tus and a plain PUT are two ways to call it. Bytes arrive on the event loop and are written and hashed
in threads, a piece at a time, so that a slow disk keeps nobody else waiting.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

import psycopg
from psycopg_pool import PoolTimeout

from db.pools import Pool
from db.queries import sql
from ingest.errors import UploadRejected
from ingest.settings import IngestSettings
from ingest.uploads import quota
from ingest.uploads.digests import Digests, Kept
from ingest.uploads.inflow import Source
from ingest.uploads.model import State, Upload, from_row
from ingest.uploads.originals import has_bucket, keep_original
from ingest.uploads.partial import Locked, Partial, ask_to_stop
from ingest.uploads.pouring import Checksum, Limit, in_thread, pour, storage_failed, stored
from ingest.uploads.service import folder_of, get, move

log = logging.getLogger(__name__)

#: How long one who asks the sender to stop waits for that.
PATIENCE_S = 5.0
_kept = Kept()


@dataclass(frozen=True, slots=True)
class Body:
    """What a request says about its bytes: where they go, how many (None: nobody knows), and their checksum."""

    offset: int
    length: int | None = None
    checksum: Checksum | None = None


def check_wanted(upload: Upload) -> None:
    """Are bytes still wanted?

    Raises:
        UploadRejected: EXPIRED, DELETED (410), ALREADY_RECEIVED, SENT_IN_PARTS (409).
    """
    check_there(upload)
    if not upload.is_open:
        raise UploadRejected(
            "ALREADY_RECEIVED", f"the file has arrived already; the upload is {upload.state}", status=409,
            offset=upload.length,
        )  # fmt: skip
    if upload.part_bytes is not None:
        raise UploadRejected("SENT_IN_PARTS", "this upload's bytes go to the object store, in parts", status=409)


def check_there(upload: Upload) -> None:
    """Has it neither expired nor been deleted?

    Raises:
        UploadRejected: EXPIRED, DELETED (410).
    """
    if upload.is_open and upload.expires_at <= datetime.now(UTC):
        raise UploadRejected("EXPIRED", "the upload was not finished in time; begin a new one", status=410)
    if upload.has_ended:
        code = upload.error_code or "DELETED"
        raise UploadRejected(code, "the upload is gone; begin a new one", status=410)


def _check_fits(upload: Upload, body: Body) -> int:
    """Does what a request announces fit into the upload? Return the length that was promised.

    Raises:
        UploadRejected: LENGTH_UNKNOWN (409) when none was promised, TOO_LARGE (413).
    """
    if upload.length is None:
        raise UploadRejected("LENGTH_UNKNOWN", "this upload has promised no length; send it by PUT", status=409)
    if body.length is not None and body.offset + body.length > upload.length:
        raise _too_large(upload.length, body.offset + body.length)
    return upload.length


def _too_large(limit: int, actual: int) -> UploadRejected:
    detail = f"more bytes than the {limit} that the upload promised"
    return UploadRejected("TOO_LARGE", detail, status=413, limit=limit, actual=actual)


@asynccontextmanager
async def holding(
    settings: IngestSettings, upload_id: UUID, *, patience_s: float = 0.0, why: str = "look"
) -> AsyncIterator[Partial]:
    """Hold the upload's file. With patience whoever sends is asked to stop and waited for; else a held file is refused at once.

    Raises:
        UploadRejected: LOCKED (423).
    """
    folder, until = folder_of(settings, upload_id), time.monotonic() + patience_s
    while True:
        try:
            partial = await in_thread(Partial.acquire, folder)
            break
        except Locked:
            if time.monotonic() >= until:
                raise UploadRejected(
                    "LOCKED", "another request is sending this file", status=423, retry_after=1
                ) from None
        except OSError as error:
            raise storage_failed(error) from error
        await in_thread(ask_to_stop, folder, why)
        await asyncio.sleep(0.05)
    try:
        yield partial
    finally:
        partial.close()


async def receive(pool: Pool, settings: IngestSettings, upload_id: UUID, source: Source, body: Body) -> Upload:
    """Add a request's bytes; when they are the last, the upload is received. Returns it with what is durable as `offset`.

    Raises:
        UploadUnknown, SenderGone, UploadRejected: as `check_wanted`, `holding`; OFFSET_CONFLICT (409) with `offset`; LENGTH_UNKNOWN
            (409); CHECKSUM_MISMATCH (460), TOO_LARGE (413): the request leaves no trace; INTERRUPTED (409), DELETED (410), SENDER_SILENT
            (408), STORAGE_FULL (507): what came is kept.
    """
    check_wanted(await _fresh(pool, upload_id))
    async with holding(settings, upload_id) as partial:
        upload = await _fresh(pool, upload_id)
        if upload.freed_at is not None:  # it ended before the lock was ours, which made its folder anew
            await in_thread(shutil.rmtree, partial.folder, True)
        check_wanted(upload)
        if body.offset != partial.size:
            await _sync(partial)
            detail = f"the next byte is number {partial.size}"
            raise UploadRejected("OFFSET_CONFLICT", detail, status=409, offset=partial.size)
        promised = _check_fits(upload, body)
        room = promised - partial.size
        if body.length is not None and room and not body.length:
            return replace(upload, offset=partial.size)
        upload = await _begun(pool, upload)
        digests = _kept.take(upload_id, await in_thread(partial.stamp))
        limit = Limit(room, _too_large(promised, promised + 1))
        digests, failure = await pour(partial, digests, source, limit, body.checksum, settings)
        if partial.size == promised:
            return await complete(pool, settings, upload, partial, digests)
        upload = await _noted(pool, settings, upload, partial)
        _kept.put(upload_id, await in_thread(partial.stamp), digests)
        if failure:
            raise failure
        return upload


async def receive_whole(
    pool: Pool,
    settings: IngestSettings,
    upload_id: UUID,
    source: Source,
    content_length: int | None,
    checksum: Checksum | None = None,
) -> Upload:
    """Take a whole file in one request, whatever came before it. A failed try leaves no trace and may be repeated.

    Raises:
        UploadUnknown, SenderGone, UploadRejected: as `check_receivable`, `holding`; QUOTA_EXCEEDED (403), INCOMPLETE_BODY (400) when
            fewer or more bytes than announced come, CHECKSUM_MISMATCH (422), STORAGE_FULL (507).
    """
    await check_receivable(pool, settings, upload_id, content_length)
    assert content_length is not None
    async with holding(settings, upload_id) as partial:
        upload = await check_receivable(pool, settings, upload_id, content_length)
        async with _claimed(pool, settings, upload, content_length):
            upload = await _begun(pool, upload)
            digests = await _pour_whole(settings, partial, source, content_length, checksum)
            return await complete(pool, settings, upload, partial, digests, mismatch=422)


@asynccontextmanager
async def _claimed(pool: Pool, settings: IngestSettings, upload: Upload, length: int) -> AsyncIterator[None]:
    """Count a file as its owner's while it comes; what fails gives its bytes back (after a crash the sweeper does).

    Raises:
        UploadRejected: QUOTA_EXCEEDED (403).
    """
    async with pool.connection() as conn:
        await quota.claim(conn, settings, upload, length)
    try:
        yield
    except BaseException:
        with suppress(psycopg.Error, PoolTimeout):
            async with pool.connection() as conn:
                await quota.give_back(conn, upload)
        raise


async def _pour_whole(
    settings: IngestSettings,
    partial: Partial,
    source: Source,
    length: int,
    checksum: Checksum | None,
) -> Digests:
    """Write a whole file in place of what is there. What goes wrong leaves an empty one, and is raised."""
    with stored():
        await in_thread(partial.roll_back, 0)
        await in_thread(partial.mark)
    excess = UploadRejected("INCOMPLETE_BODY", "more bytes came than announced", status=400)
    digests, failure = await pour(partial, Digests(), source, Limit(length, excess), checksum, settings)
    if failure is None and partial.size != length:
        detail = f"{partial.size} of {length} bytes came; send the file again"
        failure = UploadRejected("INCOMPLETE_BODY", detail, status=400, actual=partial.size)
    with stored():
        await in_thread(partial.roll_back, 0) if failure else await in_thread(partial.unmark)
    if failure:
        raise failure
    return digests


async def check_receivable(pool: Pool, settings: IngestSettings, upload_id: UUID, content_length: int | None) -> Upload:
    """What can be said of a whole file before the first byte is read.

    Raises:
        UploadUnknown
        UploadRejected: as `check_wanted`; LENGTH_REQUIRED (411), EMPTY_FILE, TOO_LARGE (413), LENGTH_MISMATCH (400), QUOTA_EXCEEDED.
    """
    async with pool.connection() as conn:
        upload = await get(conn, upload_id)
        check_wanted(upload)
        if content_length is None:
            raise UploadRejected("LENGTH_REQUIRED", "send Content-Length", status=411)
        quota.check_length(settings, content_length)
        if content_length > (limit := settings.upload_max_bytes):
            detail = f"at most {limit} bytes by PUT; larger files by tus"
            raise UploadRejected("TOO_LARGE", detail, status=413, limit=limit, actual=content_length)
        if upload.length is not None and upload.length != content_length:
            detail = f"the upload promised {upload.length} bytes"
            raise UploadRejected("LENGTH_MISMATCH", detail, status=400, limit=upload.length, actual=content_length)
        async with conn.transaction():
            await quota.check_growth(conn, settings, upload, content_length)
    return upload


async def look(pool: Pool, settings: IngestSettings, upload_id: UUID) -> Upload:
    """The upload, with what is durable now as `offset`; whoever sends is asked to stop.

    Raises:
        UploadUnknown, UploadRejected: EXPIRED, DELETED (410), LOCKED (423).
    """
    upload = await _fresh(pool, upload_id)
    check_there(upload)
    if not upload.is_open:
        return replace(upload, offset=upload.length or upload.offset)
    if upload.part_bytes is not None:
        return upload
    if not folder_of(settings, upload_id).exists():
        return replace(upload, offset=0)
    async with holding(settings, upload_id, patience_s=PATIENCE_S) as partial:
        upload = await _fresh(pool, upload_id)
        check_there(upload)
        if not upload.is_open:
            return replace(upload, offset=upload.length or upload.offset)
        await _sync(partial)
        if (
            upload.state is State.UPLOADING and partial.size == upload.length
        ):  # a crash came between last byte and arrow
            return await complete(pool, settings, upload, partial, Digests())
        return replace(upload, offset=partial.size)


async def complete(
    pool: Pool, settings: IngestSettings, upload: Upload, partial: Partial, digests: Digests, *, mismatch: int = 460
) -> Upload:
    """All bytes are durable: finish the hashes, put the original where it is kept, move on and enqueue the work.

    Raises:
        UploadRejected: CHECKSUM_MISMATCH (`mismatch`): it is not the promised file; the upload is rejected.
    """
    from ingest.worker import PROCESS_UPLOAD, defer_in  # the worker imports this package

    with stored():
        await in_thread(digests.follow, partial.descriptor, partial.size)
        await keep_original(settings, upload.id, partial.folder / "original")
        if has_bucket(settings):  # before the arrow: a worker that finds no file fetches it, on whichever machine
            await in_thread((partial.folder / "original").unlink)
    differs = upload.promised_sha256 is not None and not hmac.compare_digest(upload.promised_sha256, digests.sha256)
    refusal = other_file(digests.sha256, mismatch) if differs else None
    async with pool.connection() as conn, conn.transaction():
        values = (upload.id, partial.size, digests.sha256, digests.blake3)
        await conn.execute(sql("uploads.set_received"), values)
        received = await move(conn, upload.id, State.RECEIVED)
        if refusal is None:
            await defer_in(conn, PROCESS_UPLOAD, lock=f"upload/{upload.id}", upload_id=str(upload.id))
    if refusal is not None:
        async with pool.connection() as conn, conn.transaction():
            await move(conn, upload.id, State.REJECTED, error=refusal)
        raise refusal
    return received


def other_file(sha256: bytes, status: int = 422) -> UploadRejected:
    """The refusal of a file that is not the promised one."""
    detail = "the file that arrived is not the one whose sha256 was promised"
    return UploadRejected("CHECKSUM_MISMATCH", detail, status=status, actual=sha256.hex())


async def _fresh(pool: Pool, upload_id: UUID) -> Upload:
    async with pool.connection() as conn:
        return await get(conn, upload_id)


async def _begun(pool: Pool, upload: Upload) -> Upload:
    """The arrow of the first byte."""
    if upload.state is not State.CREATED:
        return upload
    async with pool.connection() as conn, conn.transaction():
        return await move(conn, upload.id, State.UPLOADING)


async def _noted(pool: Pool, settings: IngestSettings, upload: Upload, partial: Partial) -> Upload:
    """Note what is durable; the upload lives on."""
    async with pool.connection() as conn:
        values = (upload.id, partial.size, settings.upload_expiry_h)
        row = await (await conn.execute(sql("uploads.set_offset"), values)).fetchone()
    return from_row(row) if row else upload


async def _sync(partial: Partial) -> None:
    with stored():
        await in_thread(partial.make_durable)
