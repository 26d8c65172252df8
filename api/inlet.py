"""A request's body straight from its connection into memory that the reader gives, past the HTTP parser and ASGI.

uvicorn reads 256 kB, copies them for the parser, which copies them for the application, and stops and starts the connection around each
of them. Here the loop reads up to a MiB into its place; nothing is copied. An application that does not ask for it, or another server
than ours, has the body by `receive` as ever.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from starlette.types import Scope

from ingest.uploads.inflow import Piece, SenderGone

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from api.server import Draining

#: Name of the ASGI extension.
_EXTENSION = "federator.inlet"
#: Shorter bodies are mostly there with their headers.
_MIN_BYTES = 65_536
#: A quick sender's bytes wait in the kernel until there are so many, or the piece has no room for more: few reads take them all.
_TOGETHER_BYTES = 2**20
#: Who fills a piece within this is quick.
_QUICK_S = 0.5
_HAS_LOW_WATER = sys.platform == "linux"


def offer(connection: Draining, cycle: RequestResponseCycle) -> None:
    """Let a request's body be taken by `inlet_of`, if it says how long it is. Call when its headers are there and nothing else is."""
    headers = dict(connection.headers)
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length) >= _MIN_BYTES and b"transfer-encoding" not in headers:
        cycle.scope["extensions"] = {_EXTENSION: Inlet(connection, cycle, int(length))}  # type: ignore[dict-item]


def inlet_of(scope: Scope) -> Inlet | None:
    """How a body can be taken from its connection; None: by `receive` only."""
    found: Any = scope.get("extensions", {}).get(_EXTENSION)
    return found if isinstance(found, Inlet) else None


class Inlet(asyncio.BufferedProtocol):
    """A `Source` that stands in the HTTP protocol's place from the first `fill` until `leave`, or the connection's end."""

    def __init__(self, connection: Draining, cycle: RequestResponseCycle, length: int) -> None:
        self.heard = 0.0
        self._http, self._cycle, self._left = connection, cycle, length
        self._held = memoryview(b"")  # came by the parser
        self._piece: Piece | None = None
        self._filled: asyncio.Future[None] | None = None
        self._has_begun = self._is_here = self._is_lost = self._is_quick = False
        self._low_water = 1

    async def fill(self, piece: Piece, within_s: float) -> bool:
        """See `ingest.uploads.inflow.Source`."""
        if not self._has_begun:
            self._begin()
        if self._held:
            self._held = self._held[piece.add(self._held) :] or memoryview(b"")
        if piece.room and self._left and not self._is_lost:
            await self._read(piece, within_s)
        if self._is_lost and self._left and not self._held:
            raise SenderGone
        return bool(self._left or self._held)

    def _begin(self) -> None:
        """Take the body's bytes that are there already, and the connection for those to come."""
        http, cycle = self._http, self._cycle
        self._has_begun = True
        self._held = memoryview(bytes(cycle.body))
        cycle.body = bytearray()
        self._is_lost = cycle.disconnected
        if http.cycle is not cycle or not cycle.more_body:  # it is all there; a later request may be
            self._left = 0
            return
        self._left -= http.body_bytes
        if self._is_lost or http.transport.is_closing():
            self._is_lost = True
            return
        http.flow.pause_reading()
        http.transport.set_protocol(self)
        self._is_here = True
        if cycle.waiting_for_100_continue:
            http.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            cycle.waiting_for_100_continue = False

    async def _read(self, piece: Piece, within_s: float) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        self._piece, self._filled = piece, loop.create_future()
        timer = loop.call_later(within_s, self._wake)
        if self._is_quick:
            self._wait_for(min(_TOGETHER_BYTES, self._left, len(piece.room)))
        if not self._http.transport.is_closing():
            self._http.flow.resume_reading()
        try:
            await self._filled
        finally:
            timer.cancel()
            self._pause()
            self._piece = self._filled = None
        self._is_quick = not piece.room and loop.time() - begun < _QUICK_S
        if not self._is_quick:
            self._wait_for(1)

    def _wait_for(self, size: int) -> None:
        """Let the kernel wake us no sooner than so many bytes are there (SO_RCVLOWAT); at the end of a stream it does so anyway."""
        if size != self._low_water and _HAS_LOW_WATER and not self._http.transport.is_closing():
            with suppress(OSError, AttributeError):
                self._http.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
                self._low_water = size

    def leave(self) -> None:
        """Give the connection back to HTTP, which skips what was not taken."""
        if not self._is_here:
            return
        self._is_here = False
        http = self._http
        if http.transport.is_closing() or self._is_lost:
            http.transport.set_protocol(http)
            return
        self._pause()
        self._wait_for(1)
        http.expect(self._left)
        self._cycle.more_body = self._left > 0
        http.transport.set_protocol(http)
        http.flow.resume_reading()

    def _pause(self) -> None:
        if not self._http.transport.is_closing():
            self._http.flow.pause_reading()

    def _wake(self) -> None:
        if self._filled is not None and not self._filled.done():
            self._filled.set_result(None)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go; never more than belong to this body."""
        assert self._piece is not None
        return self._piece.room[: self._left]

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes are there."""
        piece = self._piece
        assert piece is not None
        piece.size += nbytes
        self._left -= nbytes
        self.heard = self._http.loop.time()
        missing = min(self._left, piece.most - piece.size)
        if not missing:
            self._pause()
            self._wake()
        elif missing < self._low_water:
            self._wait_for(missing)

    def eof_received(self) -> None:
        """The sender has gone, or sends nothing more, which is the same before a body's end."""
        self._is_lost = True
        self._wake()
        self._http.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """As HTTP takes it."""
        self._is_lost = True
        self._wake()
        self._http.connection_lost(exc)

    def pause_writing(self) -> None:
        """As HTTP takes it."""
        self._http.pause_writing()

    def resume_writing(self) -> None:
        """As HTTP takes it."""
        self._http.resume_writing()
