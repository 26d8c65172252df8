"""What the worker does with a received upload: check, convert, register. Doing it twice gives the same result.

A worker holds an upload by a lease that it renews; after a kill another takes it up, five times at most.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from blake3 import blake3
from psycopg_pool import PoolTimeout

from db.pools import Pool
from db.queries import sql
from ingest.errors import RecordRejected, UploadRejected
from ingest.settings import IngestSettings
from ingest.store import put_item
from ingest.uploads.item import build_item, item_id_of, software
from ingest.uploads.model import State, Upload, from_row
from ingest.uploads.sandbox import ChildFailed, run_child
from ingest.uploads.service import asset_href, cog_path, folder_of, move, sync_folder
from ingest.uploads.tiff_header import walk
from lineage.canonical import item_sha256
from lineage.events import Event, Kind
from lineage.ids import uuid7

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 5
#: Renewed while the work goes on; a dead worker's upload is taken up by another after this.
LEASE_S = 30.0


async def process(pool: Pool, settings: IngestSettings, upload_id: str | UUID) -> Upload | None:
    """Check, convert and register one received upload; None when another worker has it or it is done.

    Raises:
        ChildFailed: the conversion ended without a verdict; the job is tried again, after five tries the upload is `failed`.
    """
    identity = UUID(str(upload_id))
    async with pool.connection() as conn:
        row = await (await conn.execute(sql("uploads.claim"), (identity, LEASE_S))).fetchone()
    if row is None:
        return None
    upload = from_row(row)
    if upload.attempts > MAX_ATTEMPTS:  # whatever ends its workers, it does not do so for ever
        return await _give_up(pool, upload)
    try:
        async with _leased(pool, identity):
            return await _process(pool, settings, upload)
    except UploadRejected as error:
        log.info("upload refused", extra={"upload": str(identity), "code": error.code})
        async with pool.connection() as conn, conn.transaction():
            return await move(conn, identity, State.REJECTED, error=error)
    except ChildFailed as error:
        log.warning("conversion ended without a verdict", extra={"upload": str(identity), "reason": str(error)})
        if upload.attempts >= MAX_ATTEMPTS:
            return await _give_up(pool, upload)
        async with pool.connection() as conn:
            await conn.execute(sql("uploads.release"), (identity,))
        raise


async def _give_up(pool: Pool, upload: Upload) -> Upload:
    """Leave the upload to a person."""
    log.error("upload failed", extra={"upload": str(upload.id), "attempts": upload.attempts})
    reason = UploadRejected(
        "CONVERSION_FAILED", "the conversion failed several times; send the file again or ask the operator"
    )
    async with pool.connection() as conn, conn.transaction():
        return await move(conn, upload.id, State.FAILED, error=reason)


@asynccontextmanager
async def _leased(pool: Pool, upload_id: UUID) -> AsyncIterator[None]:
    """Renew the lease until the work is done; a renewal that fails is tried again at the next beat."""

    async def renew() -> None:
        while True:
            await asyncio.sleep(LEASE_S / 3)
            with suppress(psycopg.Error, PoolTimeout):
                async with pool.connection() as conn:
                    await conn.execute(sql("uploads.renew"), (upload_id, LEASE_S))

    beat = asyncio.create_task(renew())
    try:
        yield
    finally:
        beat.cancel()


async def _process(pool: Pool, settings: IngestSettings, upload: Upload) -> Upload:
    async with pool.connection() as conn, conn.transaction():
        await move(conn, upload.id, State.SCANNING)
    original = folder_of(settings, upload.id) / "original"
    summary = await asyncio.to_thread(walk, original)
    async with pool.connection() as conn, conn.transaction():
        await move(conn, upload.id, State.CONVERTING)
    target = cog_path(settings, upload.id)
    report = await _convert(original, target, upload)
    sha256, blake, size = await asyncio.to_thread(_hash_file, target)
    item = _item(settings, upload, report["facts"], sha256, size)
    async with pool.connection() as conn, conn.transaction():
        await move(conn, upload.id, State.REGISTERING)
    event = _creation(upload, item, size, {"SHA256": sha256, "BLAKE3": blake}, report["layers"])
    async with pool.connection() as conn, conn.transaction():
        await put_item(conn, item, event)
        await conn.execute(sql("uploads.set_item"), (upload.id, item["id"], [*summary.warnings, *report["warnings"]]))
        return await move(conn, upload.id, State.READY)


def _item(settings: IngestSettings, upload: Upload, facts: dict[str, Any], sha256: str, size: int) -> dict[str, Any]:
    """The upload's item; what may not be stored is a refusal that the user sees."""
    href, now = asset_href(settings, upload.id), datetime.now(UTC)
    try:
        return build_item(upload, facts, href=href, size_bytes=size, sha256=sha256, made_at=now)
    except RecordRejected as error:
        raise UploadRejected("ITEM_INVALID", f"no valid item can be made of the file: {error}") from None


async def _convert(original: Path, target: Path, upload: Upload) -> dict[str, Any]:
    """Let the child write the COG under another name in a folder of its own; then put it in its place, durable."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = original.parent
    temporary = folder / "converting.tif"
    for leftover in folder.glob("converting*"):
        leftover.unlink()
    try:
        report = await run_child(_order(original, temporary, upload))
        await asyncio.to_thread(_put_in_place, temporary, target)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
    return report


def _order(original: Path, temporary: Path, upload: Upload) -> dict[str, Any]:
    """What the child is told; paths are ours alone, made of the upload's id."""
    return {
        "source": str(original.resolve()),
        "target": str(temporary.resolve()),
        "folder": str(original.parent.resolve()),
        "largest_bytes": max(2**30, 8 * (upload.length or 0)),
    }


def _put_in_place(temporary: Path, target: Path) -> None:
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.replace(target)
    sync_folder(target.parent)


def _hash_file(path: Path) -> tuple[str, str, int]:
    sha256, blake = hashlib.sha256(), blake3()
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            sha256.update(chunk)
            blake.update(chunk)
        return sha256.hexdigest(), blake.hexdigest(), file.tell()


def _creation(upload: Upload, item: dict[str, Any], size: int, digests: dict[str, str], layers: list[str]) -> Event:
    """The event of the item's making: the COG by its hashes, the original as its input."""
    body = {
        "size": size,
        "hashes": [{"alg": name, "digest": digest} for name, digest in digests.items()],
        "inputs": [{"name": upload.title, "hash": upload.sha256 or ""}],
        "item_sha256": item_sha256(item),
        "upload": str(upload.id),
        "software": software(),
        "protection": layers,
    }
    actor = f"user:{upload.owner}"
    return Event(
        uuid7(),
        Kind.CREATE,
        item_id_of(upload),
        "own",
        upload.collection_id,
        item["id"],
        actor,
        datetime.now(UTC),
        body,
    )


async def repair(pool: Pool) -> int:
    """Enqueue the uploads whose worker died; return how many."""
    from ingest.worker import PROCESS_UPLOAD, defer_in  # the worker imports this module

    number = 0
    async with pool.connection() as conn, conn.transaction():
        for row in await (await conn.execute(sql("uploads.abandoned"))).fetchall():
            lock = f"upload/{row['id']}"
            number += await defer_in(conn, PROCESS_UPLOAD, lock=lock, upload_id=str(row["id"])) is not None
    return number
