"""What the worker does with a received upload: check, convert, register. Doing it twice gives the same result.

A worker holds an upload by a lease that it renews; after a kill another takes it up, five times at most.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from psycopg_pool import PoolTimeout

from db.pools import Pool
from db.queries import sql
from ingest.errors import UploadRejected
from ingest.settings import IngestSettings
from ingest.uploads.digests import digests_of
from ingest.uploads.model import WORKING, IllegalArrow, State, Upload, from_row
from ingest.uploads.originals import StoreFailed
from ingest.uploads.parts import fetch
from ingest.uploads.registration import Registrar, open_registrar
from ingest.uploads.sandbox import ChildFailed, order_for, run_child
from ingest.uploads.service import VOLUME_MARK, cog_path, folder_of, get, move, sync_folder
from ingest.uploads.tiff_header import walk

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 5
#: Renewed while the work goes on; a dead worker's upload is taken up by another after this.
LEASE_S = 30.0
_UNCONVERTED = UploadRejected(
    "CONVERSION_FAILED", "the conversion failed several times; send the file again or ask the operator"
)
_UNFETCHED = UploadRejected(
    "ORIGINAL_UNAVAILABLE", "the object store did not give the file, several times; send it again or ask the operator"
)


async def process(pool: Pool, settings: IngestSettings, upload_id: str | UUID) -> Upload | None:
    """Check, convert and register one received upload; None when another worker has it or it is done.

    Raises:
        ChildFailed, StoreFailed: the conversion ended without a verdict, or the original cannot be had; the job is tried again, after five
            tries the upload is `failed`.
    """
    identity = UUID(str(upload_id))
    async with pool.connection() as conn:
        row = await (await conn.execute(sql("uploads.claim"), (identity, LEASE_S))).fetchone()
    if row is None:
        return None
    upload = from_row(row)
    if upload.attempts > MAX_ATTEMPTS:  # whatever ends its workers, it does not do so for ever
        await (await open_registrar(pool, settings, upload)).withdraw()
        return await _give_up(pool, upload, _UNCONVERTED)
    try:
        return await _with_verdict(pool, settings, upload)
    except (IllegalArrow, ChildFailed, StoreFailed, FileNotFoundError) as error:
        # Its folder may have gone under the child's hands.
        async with pool.connection() as conn:
            now = await get(conn, identity)
        if now.state in WORKING and not isinstance(error, IllegalArrow):
            raise
    if now.has_ended:
        log.info("upload taken back", extra={"upload": str(identity)})
        await asyncio.to_thread(cog_path(settings, identity).unlink, missing_ok=True)
        # The child may have written while its folder was taken away.
        await asyncio.to_thread(shutil.rmtree, folder_of(settings, identity), ignore_errors=True)
    return now


async def _with_verdict(pool: Pool, settings: IngestSettings, upload: Upload) -> Upload:
    """Work; a refusal is a verdict, and so is the last of many failures.

    Raises:
        ChildFailed, StoreFailed
        IllegalArrow: the upload was taken back, or another worker has it.
    """
    identity = upload.id
    try:
        async with _leased(pool, identity):
            await fetch(pool, settings, upload)
            return await _process(pool, settings, upload)
    except UploadRejected as error:
        log.info("upload refused", extra={"upload": str(identity), "code": error.code})
        async with pool.connection() as conn, conn.transaction():
            return await move(conn, identity, State.REJECTED, error=error)
    except (ChildFailed, StoreFailed) as error:
        log.warning("work ended without a verdict", extra={"upload": str(identity), "reason": str(error)})
        if upload.attempts >= MAX_ATTEMPTS:
            await (await open_registrar(pool, settings, upload)).withdraw()
            return await _give_up(pool, upload, _UNFETCHED if isinstance(error, StoreFailed) else _UNCONVERTED)
        async with pool.connection() as conn:
            await conn.execute(sql("uploads.release"), (identity,))
        raise


async def _give_up(pool: Pool, upload: Upload, reason: UploadRejected) -> Upload:
    """Leave the upload to a person."""
    log.error("upload failed", extra={"upload": str(upload.id), "attempts": upload.attempts, "code": reason.code})
    async with pool.connection() as conn, conn.transaction():
        return await move(conn, upload.id, State.FAILED, error=reason)


@asynccontextmanager
async def _leased(pool: Pool, upload_id: UUID) -> AsyncIterator[None]:
    """Renew the lease until the work is done; a renewal that fails is tried again at the next beat.

    Raises:
        IllegalArrow: the upload was taken back; the work is broken off.
    """

    async def renew(deadline: asyncio.Timeout) -> None:
        is_wanted = True
        while is_wanted:
            await asyncio.sleep(LEASE_S / 3)
            with suppress(psycopg.Error, PoolTimeout):
                async with pool.connection() as conn:
                    row = await (await conn.execute(sql("uploads.renew"), (upload_id, LEASE_S))).fetchone()
                    is_wanted = row is not None
        deadline.reschedule(0)

    try:
        async with asyncio.timeout(None) as deadline:
            beat = asyncio.create_task(renew(deadline))
            try:
                yield
            finally:
                beat.cancel()
    except TimeoutError:
        if not deadline.expired():
            raise
        raise IllegalArrow("the upload was taken back") from None


async def _process(pool: Pool, settings: IngestSettings, upload: Upload) -> Upload:
    async with pool.connection() as conn, conn.transaction():
        await move(conn, upload.id, State.SCANNING)
    original = folder_of(settings, upload.id) / "original"
    summary = await asyncio.to_thread(walk, original, settings)
    async with pool.connection() as conn, conn.transaction():
        await move(conn, upload.id, State.CONVERTING)
    registrar = await open_registrar(pool, settings, upload)
    try:
        report = await _convert(original, registrar, summary.decoded_bytes)
        stored = await asyncio.to_thread(_put_in_place, _temporary(original), registrar.target)
        async with pool.connection() as conn, conn.transaction():
            await move(conn, upload.id, State.REGISTERING)
        async with pool.connection() as conn, conn.transaction():
            warnings = list(dict.fromkeys([*summary.warnings, *report["warnings"]]))
            await registrar.finish(conn, report["facts"], stored, layers=report["layers"], warnings=warnings)
            return await move(conn, upload.id, State.READY)
    except UploadRejected:
        await registrar.withdraw()
        raise
    finally:
        _tidy(original)


def _temporary(original: Path) -> Path:
    return original.parent / "converting.tif"


def _tidy(original: Path) -> None:
    """Remove what a conversion leaves behind; by our own paths, never through GDAL."""
    for leftover in original.parent.glob("converting*"):
        leftover.unlink()


async def _convert(original: Path, registrar: Registrar, decoded_bytes: int) -> dict[str, Any]:
    """Let the child write the COG under another name in a folder of its own; put its preview on the map meanwhile."""
    _tidy(original)
    temporary = _temporary(original)
    order = order_for(
        original, temporary, limits=registrar.settings, decoded_bytes=decoded_bytes, crs=registrar.told.get("crs")
    )

    async def on_preview(facts: dict[str, Any]) -> None:
        # A copy: the child still runs, and may not change what is served.
        copied = temporary.with_suffix(".shown.tif")
        await asyncio.to_thread(shutil.copyfile, order["preview"], copied, follow_symlinks=False)
        stored = await asyncio.to_thread(_put_in_place, copied, registrar.target)
        await registrar.show_preview(facts, stored)

    return await run_child(order, on_preview=on_preview if registrar.may_preview else None)


def _put_in_place(temporary: Path, target: Path) -> tuple[str, str, int]:
    """Make a file durable, hash it, rename it to where it is served; return SHA-256, BLAKE3 (hex) and bytes."""
    if temporary.is_symlink():
        raise ChildFailed("the conversion left a link")
    target.parent.mkdir(parents=True, exist_ok=True)
    digests = digests_of(temporary)
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.replace(target)
    (target.parent / VOLUME_MARK).touch()
    sync_folder(target.parent)
    return digests.sha256.hex(), digests.blake3.hex(), digests.position


async def repair(pool: Pool) -> int:
    """Enqueue the uploads whose worker died; return how many."""
    from ingest.worker import PROCESS_UPLOAD, defer_in  # the worker imports this module

    number = 0
    async with pool.connection() as conn, conn.transaction():
        for row in await (await conn.execute(sql("uploads.abandoned"))).fetchall():
            lock = f"upload/{row['id']}"
            number += await defer_in(conn, PROCESS_UPLOAD, lock=lock, upload_id=str(row["id"])) is not None
    return number
