"""The processes that serve HTTP: a parent that holds the socket, and workers that come and go behind it.

uvicorn's supervisor starts workers, looks after them, and on SIGHUP replaces each by a new one that serves before the old one ends. Ours
is how a worker ends: it accepts nothing new, answers what is on its way, tells its clients to come on another connection, and only then
closes the idle ones. So nobody's connection is reset.
"""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import logging
import os
import signal
import socket
import sys
from functools import partial
from pathlib import Path
from typing import Any

import httptools
import uvicorn
from uvicorn.supervisors import Multiprocess

from api.doors import Answering
from api.ending import ending_of
from api.inlet import offer
from api.recycling import MemoryMark
from api.settings import ApiSettings

log = logging.getLogger(__name__)

#: Seconds that a new worker has to come up, and after which one that says nothing is replaced.
_READY_S = 60
_PR_SET_PDEATHSIG = 1
METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


class Pieces:
    """A body on its way, in place of uvicorn's bytearray: a piece that is taken before the next one comes is copied nowhere."""

    __slots__ = ("_pieces", "_size")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def __iadd__(self, piece: bytes) -> Pieces:
        self._pieces.append(piece)
        self._size += len(piece)
        return self

    def __len__(self) -> int:
        return self._size

    def __bytes__(self) -> bytes:
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)


class Draining(Answering):
    """A connection that may be used once more when its process is about to end, for a request that is on its way already."""

    drain_s = 2.0
    _is_muted = False
    #: Of the request's body, as far as the parser saw it.
    body_bytes = 0

    def shutdown(self) -> None:
        """Called by uvicorn when it has stopped to accept connections."""
        self.is_shut = True
        ending_of(self.loop).set()
        if self.cycle is None or self.cycle.response_complete:
            self.loop.call_later(self.drain_s, self._close_idle)
        else:
            self.cycle.keep_alive = False

    def on_headers_complete(self) -> None:
        if self._is_muted:
            return
        super().on_headers_complete()
        if self.is_shut and self.cycle is not None:
            self.cycle.keep_alive = False  # the answer says "Connection: close"
        offer(self, self.cycle)

    def on_message_begin(self) -> None:
        if not self._is_muted:
            self.body_bytes = 0
            super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self._is_muted:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._is_muted:
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self.body_bytes += len(body)
        if not self.cycle.body:
            self.cycle.body = Pieces()  # type: ignore[assignment]  # uvicorn appends to it and takes its bytes
        super().on_body(body)

    def expect(self, size: int) -> None:
        """Go on parsing as one who has `size` bytes of a body before him, whatever was read past the parser."""
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self._is_between = not size
        if size:
            self._is_muted = True
            self.parser.feed_data(b"PUT / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % size)
            self._is_muted = False

    def _close_idle(self) -> None:
        if not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete):
            self.transport.close()


class Parent(Multiprocess):
    """uvicorn's, which at the end closes its own copy of the socket first: who comes now is refused at once, not left waiting.

    A worker over the memory mark is replaced as all are on SIGHUP.
    """

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket], mark: MemoryMark) -> None:
        super().__init__(config, sockets)
        self._mark = mark

    def keep_subprocess_alive(self) -> None:
        super().keep_subprocess_alive()
        pids = [one.pid or 0 for one in self.processes]
        over = None if self.should_exit.is_set() else self._mark.over(pids)
        if over is not None:
            log.warning("a worker holds too much memory and is replaced", extra={"worker": over})
            self._replace(pids.index(over))

    def _replace(self, place: int) -> None:
        every, self.processes = self.processes, [self.processes[place]]
        try:
            self.restart_all()
        finally:
            every[place] = self.processes[0]
            self.processes = every

    def terminate_all(self) -> None:
        for one in self.sockets:
            one.close()
        super().terminate_all()


def serve(settings: ApiSettings) -> None:
    """Serve until SIGTERM or Ctrl-C; SIGHUP loads everything anew."""
    if settings.processes > 1:
        os.environ[METRICS_VARIABLE] = str(_metrics_folder(settings))
    config = uvicorn.Config(
        worker_app, factory=True, host=settings.host, port=settings.port, log_level="info", access_log=settings.access_log,
        proxy_headers=False, server_header=False, ws="none", http=partial(_connection, settings.drain_s),  # type: ignore[arg-type]
        timeout_graceful_shutdown=round(settings.grace_s + settings.drain_s), timeout_worker_healthcheck=_READY_S,
        workers=settings.processes,
    )  # fmt: skip
    Parent(config, [config.bind_socket()], MemoryMark(settings.process_memory_bytes)).run()


def _connection(drain_s: float, *arguments: Any, **options: Any) -> asyncio.Protocol:
    made = Draining(*arguments, **options)
    made.drain_s = drain_s
    return made


def worker_app() -> Any:
    """The application of one worker, which ends when its parent is killed."""
    _end_with_parent()
    from api import gdal_env

    gdal_env.apply()  # before anything imports GDAL
    from api.main import create_app
    from api.tracing import set_up

    if finish := set_up():
        atexit.register(finish)
    app = create_app(ApiSettings())
    app.raster.fill()  # before the first caller waits for it
    return app


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _metrics_folder(settings: ApiSettings) -> Path:
    """Where workers write what they count, so that any of them tells of all; begun anew with the parent."""
    folder = settings.data_dir / "run" / f"metrics-{settings.port}"
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("*.db"):
        file.unlink()
    return folder
