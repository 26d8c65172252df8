"""SHA-256 and BLAKE3 of a file while its bytes arrive, across requests, and again from the disk after a crash.

A hash's inner state cannot be written down, so it lives in this process only. Whoever has none (another process, a restart) reads
what is on the disk while new bytes arrive, faster than these come.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Buffer
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from uuid import UUID

from blake3 import blake3

#: Bytes read again for each batch that arrives, until the hashes have caught up.
CATCH_UP_BYTES = 16 * 2**20
_READ_BYTES = 2**20
_MOST_KEPT = 256


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="sha256")


class Digests:
    """Both hashes of a file's first `position` bytes."""

    def __init__(self) -> None:
        self._slower: Future[None] | None = None
        self._begin_anew()

    def _begin_anew(self) -> None:
        self.position, self._has_begun = 0, False
        self._sha256, self._blake3 = hashlib.sha256(), blake3()

    def begin(self, chunk: Buffer, start: int) -> None:
        """Hash bytes that are about to be written at `start`, as far as that needs nobody to wait: SHA-256 takes twice as long as BLAKE3
        and goes on in a thread of its own. `take` follows, or `reset` when they were not written; the bytes stay as they are until the
        next `begin`, `reset` or `settle`.
        """
        if self.position == start:
            self.settle()
            self._slower = _threads().submit(self._sha256.update, chunk)
            self._has_begun = True

    def take(self, descriptor: int, chunk: Buffer, start: int) -> None:
        """Go on with bytes that were just written at `start`, or go on catching up from the file."""
        size = memoryview(chunk).nbytes
        if self.position != start:
            self.follow(descriptor, min(start + size, self.position + CATCH_UP_BYTES))
            return
        if not self._has_begun:
            self.begin(chunk, start)
        self._blake3.update(chunk)
        self._has_begun = False
        self.position += size

    def follow(self, descriptor: int, end: int) -> None:
        """Read the file up to `end`.

        Raises:
            OSError: the file is shorter.
        """
        while self.position < end:
            chunk = os.pread(descriptor, min(_READ_BYTES, end - self.position), self.position)
            if not chunk:
                raise OSError(f"the file ends at {self.position}, not at {end}")
            self.take(descriptor, chunk, self.position)

    def settle(self) -> None:
        """Return when the bytes that were taken are needed no more."""
        if self._slower is not None:
            self._slower.result()
            self._slower = None

    def reset(self) -> None:
        """Forget everything: bytes that were hashed are not in the file."""
        self.settle()
        self._begin_anew()

    @property
    def sha256(self) -> bytes:
        """SHA-256 of the first `position` bytes."""
        self.settle()
        return self._sha256.digest()

    @property
    def blake3(self) -> bytes:
        """BLAKE3 of the first `position` bytes."""
        return bytes(self._blake3.digest())


def digests_of(path: Path) -> Digests:
    """Both hashes of a whole file."""
    with path.open("rb") as file:
        digests = Digests()
        digests.follow(file.fileno(), os.fstat(file.fileno()).st_size)
        return digests


class Kept:
    """Hashes of unfinished files between requests; the oldest are forgotten. `stamp` tells whether the file is still the same."""

    def __init__(self) -> None:
        self._entries: OrderedDict[UUID, tuple[tuple[int, ...], Digests]] = OrderedDict()

    def put(self, upload_id: UUID, stamp: tuple[int, ...], digests: Digests) -> None:
        """Keep until the next request."""
        self._entries[upload_id] = (stamp, digests)
        if len(self._entries) > _MOST_KEPT:
            self._entries.popitem(last=False)

    def take(self, upload_id: UUID, stamp: tuple[int, ...]) -> Digests:
        """The hashes as they stand, or new ones when the file is not as it was left."""
        kept, digests = self._entries.pop(upload_id, ((), Digests()))
        return digests if kept == stamp else Digests()
