"""SHA-256 and BLAKE3 of a file while its bytes arrive, across requests, and again from the disk after a crash.

A hash's inner state cannot be written down, so it lives in this process only. Whoever has none (another process, a restart) reads
what is on the disk while new bytes arrive, faster than these come.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

from blake3 import blake3

#: Bytes read again for each batch that arrives, until the hashes have caught up.
CATCH_UP_BYTES = 16 * 2**20
_READ_BYTES = 2**20
_MOST_KEPT = 256


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="sha256")


def _update_all(state: Any, chunks: Iterable[bytes]) -> None:
    for chunk in chunks:
        state.update(chunk)


class Digests:
    """Both hashes of a file's first `position` bytes."""

    def __init__(self) -> None:
        self.position = 0
        self._sha256, self._blake3 = hashlib.sha256(), blake3()

    def take(self, descriptor: int, chunks: Sequence[bytes], start: int) -> None:
        """Go on with bytes that were just written at `start`, or go on catching up from the file."""
        if self.position == start:
            self._update(*chunks)
        else:
            end = start + sum(map(len, chunks))
            self.follow(descriptor, min(end, self.position + CATCH_UP_BYTES))

    def follow(self, descriptor: int, end: int) -> None:
        """Read the file up to `end`.

        Raises:
            OSError: the file is shorter.
        """
        while self.position < end:
            chunk = os.pread(descriptor, min(_READ_BYTES, end - self.position), self.position)
            if not chunk:
                raise OSError(f"the file ends at {self.position}, not at {end}")
            self._update(chunk)

    def _update(self, *chunks: bytes) -> None:
        """Both hashes at once: SHA-256 takes twice as long as BLAKE3, and neither needs the interpreter."""
        slower = _threads().submit(_update_all, self._sha256, chunks)
        _update_all(self._blake3, chunks)
        slower.result()
        self.position += sum(map(len, chunks))

    @property
    def sha256(self) -> bytes:
        """SHA-256 of the first `position` bytes."""
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
