"""What an owner may have: unfinished uploads, bytes a file, bytes altogether. Every refusal gives the numbers."""

from __future__ import annotations

from db.pools import Connection
from db.queries import sql
from ingest.errors import UploadRejected
from ingest.settings import IngestSettings
from ingest.uploads.model import Upload


def check_length(settings: IngestSettings, length: int) -> None:
    """Is it a size that one file may have?

    Raises:
        UploadRejected: EMPTY_FILE, TOO_LARGE (413).
    """
    if length == 0:
        raise UploadRejected("EMPTY_FILE", "the file is empty")
    limit = settings.upload_file_max_bytes
    if length > limit:
        raise UploadRejected("TOO_LARGE", f"a file has at most {limit} bytes", status=413, limit=limit, actual=length)


async def check_new(conn: Connection, settings: IngestSettings, owner: str, length: int | None) -> None:
    """May `owner` begin an upload? Call in the transaction that makes it: other beginnings of the same owner wait.

    Raises:
        UploadRejected: QUOTA_EXCEEDED (403).
    """
    used = await _usage(conn, owner)
    if used["open"] >= settings.upload_open_max:
        limit = settings.upload_open_max
        raise UploadRejected(
            "QUOTA_EXCEEDED", f"at most {limit} unfinished uploads; finish or delete one",
            status=403, quota="open_uploads", limit=limit, actual=used["open"],
        )  # fmt: skip
    _check_bytes(settings, used["bytes"], length or 0)


async def check_growth(conn: Connection, settings: IngestSettings, upload: Upload, length: int) -> None:
    """May an upload that promised nothing, or less, have `length` bytes? Call in the transaction that notes it.

    Raises:
        UploadRejected: QUOTA_EXCEEDED (403).
    """
    used = await _usage(conn, upload.owner)
    _check_bytes(settings, used["bytes"] - upload.counted, length)


async def claim(conn: Connection, settings: IngestSettings, upload: Upload, length: int) -> None:
    """Count `length` bytes as the owner's before they come. The caller holds the upload's file, and gives back what comes to nothing.

    Raises:
        UploadRejected: QUOTA_EXCEEDED (403).
    """
    async with conn.transaction():
        await check_growth(conn, settings, upload, length)
        await conn.execute(sql("uploads.claim_bytes"), (upload.id, length))


async def give_back(conn: Connection, upload: Upload) -> None:
    """The request that claimed bytes has ended without them."""
    await conn.execute(sql("uploads.claim_bytes"), (upload.id, None))


def _check_bytes(settings: IngestSettings, used: int, more: int) -> None:
    limit = settings.upload_owner_max_bytes
    if used + more > limit:
        raise UploadRejected(
            "QUOTA_EXCEEDED", f"your files have {used} of {limit} bytes; this one is too much",
            status=403, quota="bytes", limit=limit, actual=used, requested=more,
        )  # fmt: skip


async def usage(conn: Connection, owner: str) -> dict[str, int]:
    """What an owner has now: `open` unfinished uploads, and `bytes`. Only to be told; nobody waits."""
    row = await (await conn.execute(sql("uploads.usage"), (owner,))).fetchone()
    assert row is not None
    return {"open": int(row["open"]), "bytes": int(row["bytes"])}


async def _usage(conn: Connection, owner: str) -> dict[str, int]:
    await conn.execute(sql("uploads.lock_owner"), (owner,))
    return await usage(conn, owner)
