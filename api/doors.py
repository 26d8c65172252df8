"""Answers that lie ready are given by the connection itself, before a request becomes a task, messages and a way through middlewares.

For a kept answer of some kilobytes that way was nine tenths of the processor's time (ADR 64). What is written here is what the way would
have written, byte for byte; whatever is not plain takes the way. The application says by its attribute `door` that it may be asked: what
wraps the application (uvicorn's `proxy_headers`, its trace of messages) hides the door, and everything takes the way.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    HEADER_VALUE_RE,
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from api.metrics import Metrics, area_of

#: Headers of requests that take the way: somebody looks at them there, or the request is more than its headers.
_TAKES_THE_WAY: Final = frozenset({
    b"authorization", b"cookie", b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"trailer", b"te",
})  # fmt: skip
#: Headers of answers that say how the server is to go on.
_OF_SERVER: Final = frozenset({b"connection", b"transfer-encoding", b"upgrade", b"trailer"})
#: Of requests that are remembered as they came: bytes of one, and how many.
_MOST_BYTES, _MOST_REQUESTS = 2000, 500


class Ready(NamedTuple):
    """A whole answer: the route as metrics call it, the header lines without those that the server adds, the body."""

    route: str
    status: int
    head: bytes
    body: bytes


def ready(route: str, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> Ready | None:
    """An answer in the server's words; None: the server would refuse to write it, or do more than write it."""
    lines = [(name.lower(), value) for name, value in headers]
    if any(name in _OF_SERVER or HEADER_RE.search(name) or HEADER_VALUE_RE.search(value) for name, value in lines):
        return None
    return Ready(route, status, b"".join(b"%b: %b\r\n" % line for line in lines) + b"\r\n", body)


class Door:
    """Where connections ask for what lies ready, and what their parsers have made of requests so far.

    Args:
        find: gives the answer that is ready for a GET of nobody in particular, by path, query and headers of its scope; must not wait.
        metrics: counts what is answered, as `api.metrics.Measured` counts what takes the way.
    """

    def __init__(self, find: Callable[[Scope], Ready | None], metrics: Metrics) -> None:
        self._find, self._metrics = find, metrics
        self._parsed: dict[bytes, Scope] = {}

    def parsed(self, request: bytes) -> Scope | None:
        """What the parser makes of these bytes, if they are a whole plain request and were one before."""
        return self._parsed.get(request) if len(request) <= _MOST_BYTES else None

    def remember(self, request: bytes, scope: Scope) -> None:
        """Remember what the parser made of a whole plain request, whoever sent it. Nothing of it can become old."""
        if len(request) <= _MOST_BYTES:
            if len(self._parsed) >= _MOST_REQUESTS:
                self._parsed.clear()
            self._parsed[request] = {name: scope[name] for name in ("path", "query_string", "headers")}

    def answers(self, connection: Answering, scope: Scope) -> bool:
        """Answer a plain request whose turn it is; false: nothing is ready, and nothing was done."""
        begun = time.perf_counter()
        found = self._find(scope)
        if found is None:
            return False
        added = b"".join(b"%b: %b\r\n" % line for line in connection.server_state.default_headers)
        connection.transport.writelines((STATUS_LINE[found.status] + added + found.head, found.body))
        connection.on_response_complete()
        seconds, size = time.perf_counter() - begun, len(found.body)
        self._metrics.note(area_of(scope["path"]), found.route, "GET", str(found.status), seconds, size)
        return True


class Answering(HttpToolsProtocol):
    """A connection that asks at the door for the first request of what was read at once.

    Further requests of the same read take the way, where each waits for its turn: one connection with hundreds of them must not keep the
    others waiting. A read that is one whole request, in the same bytes as one that was answered here before, is not even parsed: from
    between two messages the same bytes are the same request.
    """

    #: Whether what comes must take the way.
    is_shut = False
    #: Whether the parser is between two messages.
    _is_between = True
    #: Of the present read: whether no request of it was started, how many have begun, and the one that was answered here.
    _is_first = False
    _begun = 0
    _answered: Any = None

    def data_received(self, data: bytes) -> None:
        door: Door | None = getattr(self.app, "door", None)
        was_between = self._is_between
        if door is not None and self._is_idle():
            parsed = door.parsed(data)
            if parsed is not None and self._may_answer() and door.answers(self, parsed):
                return
        self._is_first, self._begun, self._answered = True, 0, None
        super().data_received(data)
        self._is_first = False
        if door is not None and self._answered is not None and was_between and self._begun == 1 and self._is_between:
            door.remember(data, self._answered)

    def on_message_begin(self) -> None:
        self._is_between = False
        self._begun += 1
        super().on_message_begin()

    def on_message_complete(self) -> None:
        # A trailer that says "close" ends what the parser reads, though the connection stays.
        self._is_between = self.parser.should_keep_alive() and not self.parser.should_upgrade()
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Called by uvicorn for the request whose turn it is."""
        is_first, self._is_first = self._is_first, False
        door: Door | None = getattr(app, "door", None) if is_first else None
        if (
            door is None
            or not (cycle.keep_alive and _is_plain(cycle.scope) and self._may_answer())
            or not door.answers(self, cycle.scope)  # type: ignore[arg-type]
        ):
            super()._start_asgi_task(cycle, app)
            return
        cycle.response_started = cycle.response_complete = True
        cycle.on_response = _nothing  # or cycle and connection would hold each other
        self._answered = cycle.scope

    def _is_idle(self) -> bool:
        """Whether what comes now begins a request, and its turn would be now."""
        return (
            self._is_between and self.limit_concurrency is None and (self.cycle is None or self.cycle.response_complete)
        )

    def _may_answer(self) -> bool:
        """Whether the client takes what is written, on a connection that goes on, and nobody writes a line about it."""
        return (
            not self.is_shut
            and not self.flow.write_paused
            and not self.transport.is_closing()
            and not (self.access_log and self.access_logger.isEnabledFor(logging.INFO))
        )


def _is_plain(scope: Any) -> bool:
    """Whether nothing decides about what is sent but path, query and headers that tell answers apart."""
    return (
        scope["method"] == "GET"
        and scope["http_version"] == "1.1"
        and _TAKES_THE_WAY.isdisjoint([name for name, _ in scope["headers"]])
    )


def _nothing() -> None:
    pass
