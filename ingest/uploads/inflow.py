"""Bytes on their way in: pieces of memory that are filled on the event loop, and what fills them.

The memory is used again and again, so that a body of any size has the same few MiB and touches no new page.
"""

from __future__ import annotations

import asyncio
import mmap
from collections.abc import AsyncIterator
from typing import Protocol

#: Bytes that are written and hashed at once. Each piece wakes three threads: of 1 MiB they cost a tenth of the processor time of a body.
MOST_PIECE_BYTES, LEAST_PIECE_BYTES = 4 * 2**20, 2**18
#: Pieces of one body: being filled, waiting, being written, and being hashed still.
PIECES = 4


class SenderGone(Exception):
    """The connection ended before the body did."""


class Piece:
    """Memory for a part of a body; the first `size` bytes are filled, at most `most` will be."""

    __slots__ = ("_view", "most", "size")

    def __init__(self, view: memoryview) -> None:
        self._view, self.size, self.most = view, 0, len(view)

    def empty(self, most: int) -> None:
        """Forget what is in it; take at most so many bytes."""
        self.size, self.most = 0, min(most, len(self._view))

    @property
    def filled(self) -> memoryview:
        """What has come."""
        return self._view[: self.size]

    @property
    def room(self) -> memoryview:
        """Where the next bytes go."""
        return self._view[self.size : self.most]

    def add(self, data: memoryview) -> int:
        """Copy as much as there is room for; returns how much that was."""
        room = self.room
        size = min(len(room), len(data))
        room[:size] = data[:size]
        self.size += size
        return size


def make_pieces(others: int) -> list[Piece]:
    """Empty pieces for one body, smaller when `others` are on their way. Pages that no byte comes to take no memory."""
    size = max(LEAST_PIECE_BYTES, MOST_PIECE_BYTES >> others.bit_length())
    memory = memoryview(mmap.mmap(-1, PIECES * size))
    return [Piece(memory[start : start + size]) for start in range(0, len(memory), size)]


class Source(Protocol):
    """A body. `heard`: the loop's time when the last byte came, 0 before the first."""

    heard: float

    async def fill(self, piece: Piece, within_s: float) -> bool:
        """Fill a piece, or what of it comes within some seconds. False: that was the last. When this fails or is cancelled, what has
        come is in the piece all the same.

        Raises:
            SenderGone
        """
        ...


class Streamed:
    """A body that comes as a stream of bytes, and is copied."""

    def __init__(self, stream: AsyncIterator[bytes]) -> None:
        self.heard = 0.0
        self._stream, self._rest = stream, memoryview(b"")

    async def fill(self, piece: Piece, within_s: float) -> bool:
        """See `Source`; time is looked at when something comes."""
        clock = asyncio.get_running_loop().time
        until = clock() + within_s
        try:
            while piece.room and clock() < until:
                if not self._rest:
                    self._rest, self.heard = memoryview(await anext(self._stream)), clock()
                self._rest = self._rest[piece.add(self._rest) :]
        except StopAsyncIteration:
            return False
        return True
