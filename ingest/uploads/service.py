"""What the API does with uploads: create, receive, get; and the one way from state to state. The worker's part is `processing`.

Bytes are durable before anything says so; every arrow is one transaction with one event.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import unicodedata
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from blake3 import blake3
from psycopg.types.json import Jsonb

from db.pools import Connection, Pool
from db.queries import sql
from ingest.errors import RecordRejected, UploadRejected
from ingest.sanitise import parse_time
from ingest.settings import IngestSettings
from ingest.uploads.model import ARROWS, IllegalArrow, State, Upload, from_row
from lineage import log as lineage_log
from lineage.events import Event, Kind
from lineage.ids import uuid7

WRITABLE = "federator:writable"
MAX_TITLE_BYTES = 255


class UploadUnknown(LookupError):
    """There is no upload of that id."""


def folder_of(settings: IngestSettings, upload_id: UUID) -> Path:
    """Folder of an upload's original."""
    return settings.data_dir / "uploads" / str(upload_id)


def cog_path(settings: IngestSettings, upload_id: UUID) -> Path:
    """Where the finished COG is; the only file of an upload that is ever served."""
    return settings.data_dir / "cogs" / f"{upload_id}.tif"


def asset_href(settings: IngestSettings, upload_id: UUID) -> str:
    """URL of the finished COG."""
    return f"{settings.public_url.rstrip('/')}/uploads/{upload_id}/data.tif"


async def get(conn: Connection, upload_id: UUID) -> Upload:
    """Return an upload.

    Raises:
        UploadUnknown
    """
    row = await (await conn.execute(sql("uploads.get"), (upload_id,))).fetchone()
    if row is None:
        raise UploadUnknown(str(upload_id))
    return from_row(row)


async def create(conn: Connection, *, collection: str, when: str | None, title: str, owner: str) -> Upload:
    """Make an upload that waits for its bytes.

    Raises:
        UploadRejected: COLLECTION_UNKNOWN (404), COLLECTION_NOT_WRITABLE (403), DATETIME_REQUIRED, DATETIME_INVALID, TITLE_INVALID.
    """
    name = clean_title(title)
    if when is None:
        raise UploadRejected(
            "DATETIME_REQUIRED", "say when the data are from: datetime, RFC 3339 with zone", field="datetime"
        )
    try:
        moment = parse_time(when)
    except RecordRejected as error:
        raise UploadRejected("DATETIME_INVALID", str(error), field="datetime") from None
    async with conn.transaction():
        row = await (await conn.execute(sql("uploads.collection"), (collection,))).fetchone()
        if row is None:
            raise UploadRejected("COLLECTION_UNKNOWN", "there is no such collection", status=404, field="collection")
        if not row["content"].get(WRITABLE):
            raise UploadRejected(
                "COLLECTION_NOT_WRITABLE", "this collection takes no uploads", status=403, field="collection"
            )
        parameters = (uuid7(), owner, collection, name, moment)
        made = await (await conn.execute(sql("uploads.insert"), parameters)).fetchone()
        assert made is not None
        upload = from_row(made)
        await lineage_log.append(conn, _state_event(upload, None, upload.state))
    return upload


def clean_title(title: str) -> str:
    """The title as it is shown: NFC, without control and direction characters.

    Raises:
        UploadRejected: TITLE_INVALID when nothing or too much is left.
    """
    kept = "".join(sign for sign in title if unicodedata.category(sign) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp"))
    cleaned = unicodedata.normalize("NFC", kept).strip()
    if not 0 < len(cleaned.encode()) <= MAX_TITLE_BYTES:
        raise UploadRejected(
            "TITLE_INVALID", f"a title has 1 to {MAX_TITLE_BYTES} bytes", field="title", limit=MAX_TITLE_BYTES
        )
    return cleaned


async def move(
    conn: Connection, upload_id: UUID, to: State, *, error: UploadRejected | None = None, actor: str = "worker"
) -> Upload:
    """Go along one arrow in the caller's transaction, with its event.

    Raises:
        IllegalArrow: the upload is elsewhere by now.
        UploadUnknown
    """
    row = await (await conn.execute(sql("uploads.lock"), (upload_id,))).fetchone()
    if row is None:
        raise UploadUnknown(str(upload_id))
    before = from_row(row)
    if to not in ARROWS[before.state]:
        raise IllegalArrow(f"an upload does not go from {before.state} to {to}")
    facts = error.facts if error else {}
    values = (upload_id, to.value, error.code if error else None, str(error) if error else None, Jsonb(facts))
    after = await (await conn.execute(sql("uploads.set_state"), values)).fetchone()
    assert after is not None
    upload = from_row(after)
    await lineage_log.append(conn, _state_event(upload, before.state, to, actor))
    return upload


def _state_event(upload: Upload, before: State | None, after: State, actor: str = "worker") -> Event:
    body: dict[str, Any] = {"upload": str(upload.id), "from": before, "to": after.value}
    if upload.error_code:
        body["code"] = upload.error_code
    who = f"user:{upload.owner}" if before in (None, State.CREATED, State.UPLOADING) else actor
    return Event(uuid7(), Kind.STATE, f"upload/{upload.id}", "own", None, None, who, datetime.now(UTC), body)


async def check_receivable(pool: Pool, settings: IngestSettings, upload_id: UUID, content_length: int | None) -> Upload:
    """What can be said before the first byte is read.

    Raises:
        UploadUnknown
        UploadRejected: ALREADY_RECEIVED (409), LENGTH_REQUIRED (411), EMPTY_FILE, TOO_LARGE (413).
    """
    async with pool.connection() as conn:
        upload = await get(conn, upload_id)
    if upload.state not in (State.CREATED, State.UPLOADING):
        raise UploadRejected(
            "ALREADY_RECEIVED", f"the file has arrived already; the upload is {upload.state}", status=409
        )
    if content_length is None:
        raise UploadRejected("LENGTH_REQUIRED", "send Content-Length", status=411)
    if content_length == 0:
        raise UploadRejected("EMPTY_FILE", "the file is empty")
    if content_length > settings.upload_max_bytes:
        limit = settings.upload_max_bytes
        raise UploadRejected("TOO_LARGE", f"at most {limit} bytes", status=413, limit=limit, actual=content_length)
    return upload


async def receive(
    pool: Pool, settings: IngestSettings, upload_id: UUID, stream: AsyncIterator[bytes], content_length: int | None
) -> Upload:
    """Take the bytes, hash them while they arrive, make them durable, enqueue the work. A failed try may be repeated.

    Raises:
        UploadUnknown, UploadRejected: see `check_receivable`; LOCKED (423) while another request sends,
            INCOMPLETE_BODY (400) when fewer or more bytes than announced come.
    """
    await check_receivable(pool, settings, upload_id, content_length)
    assert content_length is not None
    folder = folder_of(settings, upload_id)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / "lock"):
        upload = await check_receivable(pool, settings, upload_id, content_length)
        if upload.state is State.CREATED:
            async with pool.connection() as conn, conn.transaction():
                await move(conn, upload_id, State.UPLOADING)
        sha256, blake = await _write(folder, stream, content_length)
        return await _received(pool, upload_id, content_length, sha256, blake)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One sender at a time, without waiting."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UploadRejected("LOCKED", "another request is sending this file", status=423) from None
        yield


async def _write(folder: Path, stream: AsyncIterator[bytes], content_length: int) -> tuple[bytes, bytes]:
    """Write the stream to `original`, durable; return SHA-256 and BLAKE3."""
    part = folder / "original.part"
    sha256, blake, size = hashlib.sha256(), blake3(), 0
    with part.open("wb") as file:
        async for chunk in stream:
            size += len(chunk)
            if size > content_length:
                raise UploadRejected("INCOMPLETE_BODY", "more bytes came than announced", status=400)
            file.write(chunk)
            sha256.update(chunk)
            blake.update(chunk)
        if size != content_length:
            raise UploadRejected(
                "INCOMPLETE_BODY",
                f"{size} of {content_length} bytes came; send the file again",
                status=400,
                actual=size,
            )
        await asyncio.to_thread(_make_durable, file)
    part.rename(folder / "original")
    await asyncio.to_thread(sync_folder, folder)
    return sha256.digest(), blake.digest()


def _make_durable(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def _received(pool: Pool, upload_id: UUID, length: int, sha256: bytes, blake: bytes) -> Upload:
    from ingest.worker import PROCESS_UPLOAD, defer_in  # the worker imports this module

    async with pool.connection() as conn, conn.transaction():
        await conn.execute(sql("uploads.set_received"), (upload_id, length, sha256, blake))
        upload = await move(conn, upload_id, State.RECEIVED)
        await defer_in(conn, PROCESS_UPLOAD, lock=f"upload/{upload_id}", upload_id=str(upload_id))
    return upload
