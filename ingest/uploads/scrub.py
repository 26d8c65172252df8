"""Re-hashes stored rasters, no faster than asked, and takes what is no longer what the log names out of service.

A damaged file is put aside (`damaged/` in the data folder), so that nothing serves it, and a VERIFY event says so; one more event says what
a whole run has found. The item stays: its other assets may be whole. A disk that does not answer is no damage: the run ends there.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import stat
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from db.pools import Pool
from db.queries import sql
from ingest.errors import IngestError
from ingest.settings import IngestSettings
from ingest.uploads.partial import sync_folder
from ingest.uploads.service import cog_path
from lineage import log as lineage_log
from lineage.events import Event, Kind
from lineage.ids import uuid7

log = logging.getLogger(__name__)

_PORTION = 100
_CHUNK_BYTES = 2**20
_NOBODY = UUID(int=0)
ACTOR = "scrub"


class StorageUnreadable(IngestError):
    """The disk, not a raster: no rights, input or output errors, a volume that is not mounted. Nothing is known of what is on it."""


@dataclass
class Report:
    """What a run has found."""

    checked: int = 0
    damaged: int = 0
    bytes: int = 0


class Pace:
    """Keeps reading below a number of bytes a second."""

    def __init__(self, bytes_per_s: float) -> None:
        self._bytes_per_s, self._begun, self._read = bytes_per_s, time.monotonic(), 0

    def wait_after(self, number: int) -> None:
        """Wait until this much more may have been read."""
        self._read += number
        ahead_s = self._read / self._bytes_per_s - (time.monotonic() - self._begun)
        if ahead_s > 0:
            time.sleep(ahead_s)


async def scrub(pool: Pool, settings: IngestSettings, bytes_per_s: float) -> Report:
    """Look at every raster that is served once.

    Raises:
        StorageUnreadable: the raster at hand, and those after it, are left as they are.
    """
    report, last, pace = Report(), _NOBODY, Pace(bytes_per_s)
    while True:
        async with pool.connection() as conn:
            rows = await (await conn.execute(sql("scrub.ready_rasters"), (last, _PORTION))).fetchall()
        for row in rows:
            await _look(pool, settings, row, pace, report)
        if len(rows) < _PORTION:
            break
        last = rows[-1]["id"]
    body = {"check": "rasters", "checked": report.checked, "damaged": report.damaged, "bytes": report.bytes}
    async with pool.connection() as conn, conn.transaction():
        event = Event(uuid7(), Kind.VERIFY, "scrub", "own", None, None, ACTOR, datetime.now(UTC), body)
        await lineage_log.append(conn, event)
    return report


async def _look(pool: Pool, settings: IngestSettings, row: Any, pace: Pace, report: Report) -> None:
    path = cog_path(settings, row["id"])
    digest, size = await asyncio.to_thread(_hashed, path, pace)
    report.checked += 1
    report.bytes += size
    async with pool.connection() as conn:
        if digest is not None:
            values = (row["id"], digest, row["collection_id"])
            found = await (await conn.execute(sql("scrub.is_logged"), values)).fetchone()
            if found and found["is_logged"]:
                return
        async with conn.transaction():
            if await (await conn.execute(sql("scrub.is_ready"), (row["id"],))).fetchone() is None:
                return
            await conn.execute(sql("scrub.note_damaged"), (row["id"], digest))
            await lineage_log.append(conn, _event(row, digest))
            await asyncio.to_thread(_put_aside, path, settings.data_dir / "damaged")
    report.damaged += 1
    log.error("a stored raster is damaged and out of service", extra={"upload": str(row["id"]), "item": row["item_id"]})


def _hashed(path: Path, pace: Pace) -> tuple[bytes | None, int]:
    """SHA-256 and size of a file; None when it is gone from a folder that has others, or the mark of its volume, and when something that is
    no file is in its place: a folder, or a device, whose reading would never end.

    Raises:
        StorageUnreadable
    """
    digest, size = hashlib.sha256(), 0
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return None, size
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
                pace.wait_after(len(chunk))
    except OSError as error:
        if isinstance(error, FileNotFoundError) and _has_files(path.parent):
            return None, size
        raise _unreadable(path, error) from error
    return digest.digest(), size


def _has_files(folder: Path) -> bool:
    try:
        return next(folder.iterdir(), None) is not None
    except OSError:
        return False


def _put_aside(path: Path, folder: Path) -> None:
    try:
        if path.exists(follow_symlinks=False):
            folder.mkdir(parents=True, exist_ok=True)
            path.replace(folder / path.name)
            sync_folder(folder)
            sync_folder(path.parent)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> StorageUnreadable:
    return StorageUnreadable(f"{path}: {error.strerror or error}; it is not marked as damaged, the run ends here")


def _event(row: Any, digest: bytes | None) -> Event:
    body = {"check": "raster", "upload": str(row["id"]), "result": "damaged" if digest else "missing"}
    if digest:
        body["found_sha256"] = digest.hex()
    item = row["item_id"]
    return Event(uuid7(), Kind.VERIFY, item, "own", row["collection_id"], item, ACTOR, datetime.now(UTC), body)
