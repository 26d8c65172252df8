"""How uploads end and what goes with them: taken back, expired, deleted with their item, originals that nobody needs.

The row decides: a state commits before a file goes, and what a crash leaves behind the sweeper removes. Nothing here goes through GDAL.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from db.pools import Connection, Pool
from db.queries import sql
from ingest.errors import UploadRejected
from ingest.settings import IngestSettings
from ingest.store import lock_items
from ingest.uploads import originals, parts, quota
from ingest.uploads.digests import Digests
from ingest.uploads.model import IllegalArrow, State, Upload, from_row
from ingest.uploads.partial import sync_folder
from ingest.uploads.placing import take_out
from ingest.uploads.receiving import PATIENCE_S, check_there, complete, holding
from ingest.uploads.service import cog_path, folder_of, get, move

log = logging.getLogger(__name__)

#: Files without a row lie this long before they go to the trash, and there before they go for good.
ORPHAN_S = 24 * 3600.0
TRASH_S = 7 * 24 * 3600.0
_EXPIRED = UploadRejected("EXPIRED", "the upload was not finished in time", status=410)
_TAKEN_BACK = UploadRejected("DELETED", "the upload was taken back", status=410)


async def remove(pool: Pool, settings: IngestSettings, upload_id: UUID) -> None:
    """Take an upload back, or delete a ready one with its item. Whoever sends its bytes is stopped.

    Raises:
        UploadUnknown
        UploadRejected: EXPIRED, DELETED (410), LOCKED (423).
    """
    async with pool.connection() as conn:
        upload = await get(conn, upload_id)
    check_there(upload)
    if upload.state in (State.READY, State.DETACHED, State.FAILED):
        await _delete(pool, settings, upload)
    elif upload.is_open:
        await _end(pool, settings, upload, _TAKEN_BACK, f"user:{upload.owner}", PATIENCE_S)
    else:
        await free(pool, settings, await _take_back_received(pool, settings, upload))


async def _take_back_received(pool: Pool, settings: IngestSettings, upload: Upload) -> Upload:
    """Reject an upload that is not ready yet, with what is shown of it; a worker that has it notices (`processing`).

    One that was refused already, and may wait for an answer with its bytes, goes too.

    Raises:
        IllegalArrow: it has become ready meanwhile.
    """
    async with pool.connection() as conn, conn.transaction():
        await lock_items(conn, upload.collection_id)  # before the row, as whoever shows it
        ended = await move(conn, upload.id, State.REJECTED, error=_TAKEN_BACK, actor=f"user:{upload.owner}")
        await take_out(conn, settings, ended, "the upload was taken back")
        return ended


async def _end(
    pool: Pool, settings: IngestSettings, upload: Upload, reason: UploadRejected, actor: str, patience_s: float = 0.0
) -> None:
    """Reject an open upload under its lock, then remove its bytes."""
    async with holding(settings, upload.id, patience_s=patience_s, why="delete"):
        async with pool.connection() as conn, conn.transaction():
            if reason is _EXPIRED and (await get(conn, upload.id)).expires_at > datetime.now(UTC):
                return  # bytes came while it was waited for
            ended = await move(conn, upload.id, State.REJECTED, error=reason, actor=actor)
        await free(pool, settings, ended)


async def _delete(pool: Pool, settings: IngestSettings, upload: Upload) -> None:
    """Item first, then its bytes: what is found can be read."""
    async with pool.connection() as conn, conn.transaction():
        upload = await move(conn, upload.id, State.DELETING, actor=f"user:{upload.owner}")
    await _finish_deleting(pool, settings, upload)


async def _finish_deleting(pool: Pool, settings: IngestSettings, upload: Upload) -> None:
    actor = f"user:{upload.owner}"
    async with pool.connection() as conn, conn.transaction():
        await lock_items(conn, upload.collection_id)
        deleted = await move(conn, upload.id, State.DELETED, actor=actor)  # its row's lock makes two of us one
        await take_out(conn, settings, deleted, "deleted by its owner")
    await free(pool, settings, deleted)


async def free(pool: Pool, settings: IngestSettings, upload: Upload) -> None:
    """Remove an original (and the COG of what was deleted or taken back), then give the bytes back to the owner. May be done twice."""
    if upload.store_upload is not None and upload.sha256 is None:  # else they are joined
        await parts.abort(settings, upload)
    await originals.drop_original(settings, upload.id)
    await asyncio.to_thread(_remove_folder, folder_of(settings, upload.id))
    if upload.has_ended:
        await asyncio.to_thread(cog_path(settings, upload.id).unlink, missing_ok=True)
    async with pool.connection() as conn:
        await conn.execute(sql("uploads.set_freed"), (upload.id,))


def _remove_folder(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


async def sweep(pool: Pool, settings: IngestSettings) -> None:
    """End what has expired, finish what a crash interrupted, remove what nobody needs. One bad row keeps no other from its turn."""
    await _each(pool, "uploads.expired", lambda upload: _end(pool, settings, upload, _EXPIRED, "worker"))
    await _each(pool, "uploads.begun", lambda upload: _finish_receiving(pool, settings, upload))
    await _each(pool, "uploads.claims", lambda upload: _give_back_claim(pool, settings, upload))
    await _each(pool, "uploads.deleting", lambda upload: _finish_deleting(pool, settings, upload))
    await _each(pool, "uploads.to_free", lambda upload: free(pool, settings, upload))
    async with pool.connection() as conn:
        await _measure_cogs(conn, settings)
        await _trash_orphans(conn, settings)


async def _each(pool: Pool, statement: str, work: Callable[[Upload], Awaitable[Any]]) -> None:
    async with pool.connection() as conn:
        rows = await (await conn.execute(sql(statement))).fetchall()
    for row in rows:
        try:
            await work(from_row(row))
        except (UploadRejected, IllegalArrow):
            continue  # somebody is at it, or was quicker
        except Exception:
            log.exception("an upload could not be swept", extra={"upload": str(row["id"]), "statement": statement})


async def _finish_receiving(pool: Pool, settings: IngestSettings, upload: Upload) -> None:
    """A crash came between the last byte and its arrow, and the client believes that all is done."""
    path = folder_of(settings, upload.id) / "original"
    if await asyncio.to_thread(_size_of, path) != upload.length:
        return
    async with holding(settings, upload.id) as partial:
        async with pool.connection() as conn:
            upload = await get(conn, upload.id)
        if upload.state is State.UPLOADING and partial.size == upload.length:
            await asyncio.to_thread(partial.make_durable)
            await complete(pool, settings, upload, partial, Digests())


async def _give_back_claim(pool: Pool, settings: IngestSettings, upload: Upload) -> None:
    """Nobody sends the bytes that a request announced: it ended with its process."""
    async with holding(settings, upload.id), pool.connection() as conn:
        await quota.give_back(conn, upload)


def _size_of(path: Path) -> int | None:
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return None


async def _measure_cogs(conn: Connection, settings: IngestSettings) -> None:
    """Note the size of new COGs for their owners' quota."""
    for row in await (await conn.execute(sql("uploads.unmeasured"))).fetchall():
        size = await asyncio.to_thread(_size_of, cog_path(settings, row["id"]))
        await conn.execute(sql("uploads.set_cog_bytes"), (row["id"], size or 0))


async def _trash_orphans(conn: Connection, settings: IngestSettings) -> None:
    """Files that no row stands for: to the trash after a day, away after a week there."""
    old = await asyncio.to_thread(_old_files, settings, time.time() - ORPHAN_S)
    if old:
        values = ([upload_id for upload_id, _ in old], originals.has_bucket(settings))
        cursor = await conn.execute(sql("uploads.living"), values)
        living = {row["id"]: row for row in await cursor.fetchall()}
        orphans = [path for upload_id, path in old if not _belongs(living.get(upload_id), path)]
        await asyncio.to_thread(_to_trash, settings.data_dir / "trash", orphans)
    await asyncio.to_thread(_empty_trash, settings.data_dir / "trash", time.time() - TRASH_S)


def _belongs(row: dict[str, Any] | None, path: Path) -> bool:
    return row is not None and bool(row["cog" if path.suffix == ".tif" else "original"])


def _old_files(settings: IngestSettings, before: float) -> list[tuple[UUID, Path]]:
    """Folders of originals and COGs that nobody has touched since `before`; names that are none of ours are left alone."""
    found = []
    for folder in ("uploads", "cogs"):
        for path in _listed(settings.data_dir / folder):
            with suppress(ValueError, FileNotFoundError):
                upload_id = UUID(path.stem)
                if path.stat().st_mtime < before:
                    found.append((upload_id, path))
    return found


def _listed(folder: Path) -> Iterable[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _to_trash(trash: Path, paths: Iterable[Path]) -> None:
    for path in paths:
        try:
            trash.mkdir(parents=True, exist_ok=True)
            path.rename(trash / f"{int(time.time())}-{path.name}")
            sync_folder(trash)
        except FileNotFoundError:
            continue  # another worker was quicker
        except OSError:
            log.exception("a file of no upload cannot be moved", extra={"name_of_file": path.name})
            continue
        log.warning("a file of no upload went to the trash", extra={"name_of_file": path.name})


def _empty_trash(trash: Path, before: float) -> None:
    for path in _listed(trash):
        when = path.name.partition("-")[0]
        if when.isdigit() and int(when) < before:
            if path.is_dir():
                _remove_folder(path)
            else:
                path.unlink(missing_ok=True)
