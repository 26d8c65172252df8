"""Where a body goes: a thread writes one piece after the other and hashes it, while the next ones arrive."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any

from ingest.uploads.digests import Digests
from ingest.uploads.inflow import Piece, make_pieces
from ingest.uploads.partial import Partial

#: Pieces of one body until another one's may be written, when threads are short.
_TURN = 16


class Strand:
    """Runs work in threads of a pool, one thing after the other, and takes a thread only while there is work."""

    def __init__(self, pool: Executor) -> None:
        self._pool, self._lock = pool, threading.Lock()
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_running = False

    def put(self, work: Callable[[], None]) -> None:
        """Let it be done when all before is. `work` raises nothing."""
        with self._lock:
            self._waiting.append(work)
            if self._is_running:
                return
            self._is_running = True
        self._pool.submit(self._run)

    def _run(self) -> None:
        for _ in range(_TURN):
            with self._lock:
                if not self._waiting:
                    self._is_running = False
                    return
                work = self._waiting.popleft()
            work()
        self._pool.submit(self._run)  # behind others that wait for a thread


class Sink:
    """Gives out pieces to fill, and has the filled ones written and hashed. For one body, until `finish`; of the event loop alone."""

    _open = 0

    def __init__(self, partial: Partial, digests: Digests, check: Any, pool: Executor) -> None:
        self.partial, self._digests, self._check = partial, digests, check
        self._loop, self._strand = asyncio.get_running_loop(), Strand(pool)
        # The last one used is the next one: a slow sender's bytes touch little memory.
        self._free = make_pieces(Sink._open)
        self._held: Piece | None = None  # hashed by another thread still, while the strand goes on
        self._changed = asyncio.Event()
        self._failure: Exception | None = None
        self._is_done = False
        Sink._open += 1

    async def piece(self, most: int) -> Piece:
        """An empty piece for at most so many bytes; waits when the disk is slower than the sender.

        Raises:
            OSError: of a write before.
        """
        while not self._free and self._failure is None:
            self._changed.clear()
            await self._changed.wait()
        if self._failure is not None:
            raise self._failure
        piece = self._free.pop()
        piece.empty(most)
        return piece

    def put(self, piece: Piece) -> None:
        """Let a piece be written as soon as those before it are."""
        if piece.size:
            self._strand.put(lambda: self._write(piece))
        else:
            self._free.append(piece)

    async def finish(self) -> None:
        """Return when all is written and hashed; a cancelled wait is waited out, for nothing may outrun the thread.

        Raises:
            OSError
        """
        Sink._open -= 1
        self._strand.put(self._end)
        cancelled: asyncio.CancelledError | None = None
        while not self._is_done:
            self._changed.clear()
            try:
                await self._changed.wait()
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled
        if self._failure is not None:
            raise self._failure

    def _write(self, piece: Piece) -> None:
        """In the strand."""
        failure: Exception | None = None
        if self._failure is None:
            try:
                self.partial.write(piece.filled, self._digests, self._check)
            except Exception as error:  # noqa: BLE001 - raised where somebody waits, who would wait for ever else
                failure = error
        # The hashes took this piece after they were done with the one before.
        self._tell(failure, self._held)
        self._held = piece

    def _end(self) -> None:
        """In the strand, at the end."""
        failure: Exception | None = None
        try:
            self._digests.settle()
        except Exception as error:  # noqa: BLE001 - as above
            failure = error
        self._tell(failure, self._held, is_done=True)
        self._held = None

    def _tell(self, failure: Exception | None, piece: Piece | None, *, is_done: bool = False) -> None:
        self._failure = self._failure or failure
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._told, piece, is_done)

    def _told(self, piece: Piece | None, is_done: bool) -> None:
        if piece is not None:
            self._free.append(piece)
        self._is_done = self._is_done or is_done
        self._changed.set()
