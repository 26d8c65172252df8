"""The file that an upload's bytes go into. One sender at a time, by a lock that a dead process cannot keep.

The file's length is the offset: it is synced before anybody is told. Bytes that may still have to go (a checksum comes last) are
marked on disk before the first of them is written, so that a crash leaves none of them behind. Everything here blocks: call it in a thread.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Self

from ingest.uploads.digests import Digests

#: The disk begins to write as soon as there is so much for it, so that the sync at the end waits for the rest alone.
WRITE_BACK_BYTES = 32 * 2**20
_SYNC_FILE_RANGE_WRITE = 2
_STOP = "stop"
_MARK = "unverified"


class Locked(Exception):
    """Another request is sending this file."""


class Partial:
    """An upload's file, held under its lock until `close`."""

    def __init__(self, folder: Path, lock: int, descriptor: int) -> None:
        self.folder, self._lock, self._descriptor = folder, lock, descriptor
        self._in_use = threading.Lock()  # a thread that outlives its request must not write into another's file
        self.size = self._written_back = os.fstat(descriptor).st_size

    @classmethod
    def acquire(cls, folder: Path) -> Self:
        """Take the lock, make what is missing, and forget bytes that nobody has verified.

        Raises:
            Locked: somebody else holds it.
        """
        if not folder.exists():
            folder.mkdir(parents=True, exist_ok=True)
            sync_folder(folder.parent)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_new = not (folder / "original").exists()
            descriptor = os.open(folder / "original", os.O_RDWR | os.O_CREAT, 0o600)
            if is_new:
                sync_folder(folder)
        except BlockingIOError:
            os.close(lock)
            raise Locked(str(folder.name)) from None
        except BaseException:
            os.close(lock)
            raise
        (folder / _STOP).unlink(missing_ok=True)  # meant for the holder before
        partial = cls(folder, lock, descriptor)
        try:
            if (start := partial._marked()) is not None:
                partial.roll_back(start)
        except BaseException:
            partial.close()
            raise
        return partial

    @property
    def descriptor(self) -> int:
        """For reading it again."""
        return self._descriptor

    def stamp(self) -> tuple[int, ...]:
        """Tells this state of the file from any other."""
        found = os.fstat(self._descriptor)
        return found.st_ino, found.st_size, found.st_mtime_ns

    def write(self, chunk: memoryview, digests: Digests, check: Any = None) -> None:
        """Write behind the last byte, hash, and go on with `check`, the hash of this request alone. `digests` may need the bytes for a
        while yet (see `Digests.begin`).

        Raises:
            OSError: the disk is full or broken; `size` is what is in the file.
        """
        with self._in_use:
            self._write(chunk, digests, check)

    def _write(self, chunk: memoryview, digests: Digests, check: Any) -> None:
        start, rest = self.size, chunk
        digests.begin(chunk, start)
        try:
            while rest:
                rest = rest[os.pwrite(self._descriptor, rest, start + len(chunk) - len(rest)) :]
        except OSError:
            digests.reset()
            raise
        finally:
            self.size = os.fstat(self._descriptor).st_size
        if self.size - self._written_back >= WRITE_BACK_BYTES:
            write_back(self._descriptor, self._written_back, self.size)
            self._written_back = self.size
        digests.take(self._descriptor, chunk, start)
        if check is not None:
            check.update(chunk)

    def mark(self) -> None:
        """From here on bytes are unverified until `unmark`."""
        self._write_mark(f"{self.size}\n")

    def unmark(self) -> None:
        """What is in the file is meant to be there."""
        self._write_mark("\n")

    def _write_mark(self, text: str) -> None:
        path = self.folder / _MARK
        is_new = not path.exists()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.pwrite(descriptor, text.ljust(32).encode("ascii"), 0)  # in place: 32 bytes are written as one
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        if is_new:
            sync_folder(self.folder)

    def _marked(self) -> int | None:
        with suppress(FileNotFoundError):
            text = (self.folder / _MARK).read_text(encoding="ascii").strip()
            return int(text) if text.isdigit() else None
        return None

    def roll_back(self, size: int) -> None:
        """Cut the file to `size`, durable; it never grows by this."""
        if size < self.size:
            os.ftruncate(self._descriptor, size)
            self.size = self._written_back = size
        self.make_durable()
        if self._marked() is not None:
            self.unmark()

    def make_durable(self) -> None:
        """Return when every byte is on the disk.

        Raises:
            OSError
        """
        os.fdatasync(self._descriptor)

    def is_asked_to_stop(self) -> str | None:
        """Why somebody wants the lock, None when nobody does."""
        with suppress(FileNotFoundError):
            return (self.folder / _STOP).read_text(encoding="ascii") or "look"
        return None

    def close(self) -> None:
        """Let go of lock and file."""
        with self._in_use:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                os.close(self._lock)  # closing lets go of the lock; the file stays, or two could hold "the" lock
                self._descriptor = -1


def ask_to_stop(folder: Path, why: str) -> None:
    """Ask whoever sends this file, in whichever process, to end; `why`: "look" or "delete"."""
    with suppress(FileNotFoundError):
        (folder / _STOP).write_text(why, encoding="ascii")


@cache
def _sync_file_range() -> Callable[..., int] | None:
    """Linux's system call, which Python does not name."""
    found: Callable[..., int] | None = getattr(ctypes.CDLL(None), "sync_file_range", None)
    return found


def write_back(descriptor: int, start: int, end: int) -> None:
    """Let the disk begin to write a part of a file; waits for nothing, and promises nothing."""
    if (call := _sync_file_range()) is not None:
        call(descriptor, ctypes.c_int64(start), ctypes.c_int64(end - start), ctypes.c_uint(_SYNC_FILE_RANGE_WRITE))


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
