"""Which serving process holds too much memory: it is replaced by a new one, that serves before the old one ends.

A request's memory is bounded (`api.tiles.bounds`, `api.tiles.limits`), but allocators give little back and libraries leak; a process that
has grown for weeks is replaced before the system ends one of its own choice.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

#: Seconds between two looks, and after a replacement, so that a mark that is too low makes no storm.
LOOK_S: Final = 5.0
PAUSE_S: Final = 60.0
_PRIVATE = re.compile(r"^RssAnon:\s+(\d+) kB$", re.MULTILINE)


def private_bytes(pid: int) -> int:
    """Memory that is a process's own and in use, without files that are mapped; 0 where the system does not say (other than Linux)."""
    try:
        found = _PRIVATE.search(Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


class MemoryMark:
    """Looks now and then; a process is over the mark when it is so at two looks in a row, for one picture may take much for a moment.

    Args:
        mark_bytes: 0: no process is ever over it.
    """

    def __init__(
        self,
        mark_bytes: int,
        measure: Callable[[int], int] = private_bytes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._mark_bytes, self._measure, self._clock = mark_bytes, measure, clock
        self._next = clock()
        self._suspects: set[int] = set()

    def over(self, pids: Sequence[int]) -> int | None:
        """The process to replace now; None: there is none, or it is no time to look."""
        if not self._mark_bytes or self._clock() < self._next:
            return None
        self._next = self._clock() + LOOK_S
        held = {pid: size for pid in pids if (size := self._measure(pid)) > self._mark_bytes}
        again, self._suspects = self._suspects & set(held), set(held)
        if not again:
            return None
        self._next = self._clock() + PAUSE_S
        self._suspects.clear()
        return max(again, key=lambda pid: held[pid])
