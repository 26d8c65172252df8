"""Where answers are kept: in memory, and below that on disk for all processes of a machine. Both are bounded in bytes; what was not
asked for longest goes first.

A file is written under another name and renamed, so readers see all of it or nothing; it begins with the hash of the rest, so what a
crash or a disk has damaged is as good as absent. No process needs to know of the others.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import struct
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

import orjson
from blake3 import blake3

log = logging.getLogger(__name__)

#: Of an answer: what is kept with it.
KEPT_HEADERS: Final = frozenset({b"content-type", b"content-crs", b"content-bbox", b"content-disposition"})

_MAGIC: Final = b"FTC2"
_DIGEST: Final = 16
_HEAD: Final = struct.Struct("<I")
#: Files that are answered are marked as used at most so often.
_MARK_S: Final = 60.0
#: A sweep leaves so much of what is allowed; what processes write until the next one fits in the rest.
_LEFT: Final = 0.85
_SHARE: Final = 0.1
#: Age in seconds of a file under its first name that nobody will rename any more.
_ABANDONED_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer: its route, headers (media type and the like), entity tag, body; when it is to be made anew (seconds since 1970)."""

    route: str
    headers: tuple[tuple[bytes, bytes], ...]
    etag: bytes
    body: bytes
    until: float | None = None

    @property
    def is_over(self) -> bool:
        """Whether it is to be made anew by now."""
        return self.until is not None and time.time() >= self.until

    @property
    def size(self) -> int:
        """Bytes that it takes, about."""
        return len(self.body) + 500

    def pack(self) -> bytes:
        """As it lies in a file."""
        headers = [[name.decode(), value.decode("latin-1")] for name, value in self.headers]
        head = orjson.dumps([self.route, self.etag.decode(), headers, self.until])
        rest = _HEAD.pack(len(head)) + head + self.body
        return _MAGIC + blake3(rest).digest(_DIGEST) + rest

    @classmethod
    def unpack(cls, data: bytes) -> Kept | None:
        """None for anything but what `pack` has made."""
        start = len(_MAGIC) + _DIGEST
        rest = data[start:]
        if data[: len(_MAGIC)] != _MAGIC or blake3(rest).digest(_DIGEST) != data[len(_MAGIC) : start]:
            return None
        (size,) = _HEAD.unpack_from(rest)
        route, etag, headers, until = orjson.loads(rest[_HEAD.size : _HEAD.size + size])
        pairs = tuple((name.encode(), value.encode("latin-1")) for name, value in headers)
        return cls(route, pairs, etag.encode(), rest[_HEAD.size + size :], until)


class Memory:
    """Answers in this process."""

    def __init__(self, most_bytes: int) -> None:
        self._most, self._bytes = most_bytes, 0
        self._kept: OrderedDict[str, Kept] = OrderedDict()

    @property
    def bytes(self) -> int:
        """Bytes that are taken."""
        return self._bytes

    def get(self, key: str) -> Kept | None:
        """What is kept under a key."""
        found = self._kept.get(key)
        if found is not None and found.is_over:
            return None
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def put(self, key: str, kept: Kept) -> None:
        """Keep it, in the place of what was asked for longest ago."""
        if kept.size > self._most // 4:
            return
        if (before := self._kept.pop(key, None)) is not None:
            self._bytes -= before.size
        self._kept[key] = kept
        self._bytes += kept.size
        while self._bytes > self._most:
            self._bytes -= self._kept.popitem(last=False)[1].size


class Disk:
    """Answers in a folder that all processes of a machine share. Its methods block, and may be called by any thread.

    Args:
        folder: for these alone.
        most_bytes: of all files.
        processes: that write here at the same time.
    """

    def __init__(self, folder: Path, most_bytes: int, processes: int = 1) -> None:
        self._folder, self._most = folder, most_bytes
        self._stride = max(1, int(most_bytes * _SHARE / processes))
        self._written = self._stride  # what was left by others is looked through at the first write
        self._lock = threading.Lock()

    def get(self, key: str) -> Kept | None:
        """What is kept under a key; a damaged file is taken away."""
        path = self._path(key)
        try:
            with path.open("rb") as file:
                data = file.read()
                if time.time() - os.fstat(file.fileno()).st_mtime > _MARK_S:
                    os.utime(file.fileno())
        except OSError:
            return None
        kept = Kept.unpack(data)
        if kept is None:
            log.warning("a damaged file in the tile cache", extra={"file": path.name, "bytes": len(data)})
            with contextlib.suppress(OSError):
                path.unlink()
        return None if kept is None or kept.is_over else kept

    def put(self, key: str, kept: Kept) -> None:
        """Keep it; a full or broken disk only means that it is not kept."""
        data, path = kept.pack(), self._path(key)
        if len(data) > self._stride:
            return
        temporary = path.with_name(f".{uuid4().hex}")
        try:
            if self._is_due(len(data)):
                self.sweep()
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_bytes(data)
                temporary.replace(path)
            except OSError:
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)
                raise
        except OSError as error:
            log.warning("a tile cannot be kept on disk", extra={"reason": error.strerror or type(error).__name__})

    def sweep(self) -> None:
        """Take away what was not asked for longest, until there is room; nothing while another process does it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return
            found = sorted(self._files())
            total, removed = sum(size for _, size, _ in found), 0
            for _, size, path in found:
                if total <= self._most * _LEFT:
                    break
                with contextlib.suppress(OSError):
                    path.unlink()
                total, removed = total - size, removed + 1
            if removed:
                log.info("tile cache swept", extra={"files": removed, "bytes_left": total})

    def _is_due(self, size: int) -> bool:
        with self._lock:
            self._written += size
            if self._written < self._stride:
                return False
            self._written = 0
            return True

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """Last use, bytes and path of each file."""
        now = time.time()
        for folder in self._folder.iterdir():
            if not folder.is_dir():
                continue
            for entry in os.scandir(folder):
                with contextlib.suppress(OSError):
                    state = entry.stat(follow_symlinks=False)
                    is_abandoned = entry.name.startswith(".") and now - state.st_mtime > _ABANDONED_S
                    yield (
                        0.0 if is_abandoned else state.st_mtime,
                        max(state.st_blocks * 512, state.st_size),
                        Path(entry),
                    )

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / key[2:]
