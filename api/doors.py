"""Answers that lie ready are given by the connection itself, before a request becomes a task, messages and a way through middlewares.

For a kept answer of some kilobytes that way was nine tenths of the processor's time (ADR 64). What is written here is what the way would
have written, byte for byte; whatever is not plain takes the way. The application says by its attribute `door` that it may be asked: what
wraps the application (uvicorn's `proxy_headers`, its trace of messages) hides the door, and everything takes the way.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

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
    """Where a connection asks for what lies ready.

    Args:
        find: gives the answer that is ready for a GET of nobody in particular; must not wait, and leaves the scope as it is.
        metrics: counts what is answered, as `api.metrics.Measured` counts what takes the way.
    """

    def __init__(self, find: Callable[[Scope], Ready | None], metrics: Metrics) -> None:
        self._find, self._metrics = find, metrics

    def answers(self, connection: HttpToolsProtocol, cycle: RequestResponseCycle) -> bool:
        """Answer a request whose headers are there and for which nothing was started; false: nothing was done."""
        begun = time.perf_counter()
        found = self._find(cycle.scope) if _is_plain(connection, cycle) else None  # type: ignore[arg-type]
        if found is None:
            return False
        added = b"".join(b"%b: %b\r\n" % line for line in cycle.default_headers)
        connection.transport.writelines((STATUS_LINE[found.status] + added + found.head, found.body))
        cycle.response_started = cycle.response_complete = True
        cycle.on_response = _nothing  # or cycle and connection would hold each other
        connection.on_response_complete()
        seconds = time.perf_counter() - begun
        self._metrics.note(
            area_of(cycle.scope["path"]), found.route, "GET", str(found.status), seconds, len(found.body)
        )
        return True


def _is_plain(connection: HttpToolsProtocol, cycle: RequestResponseCycle) -> bool:
    """Whether nothing but the answer decides about what is written, and the client takes what is written."""
    scope = cycle.scope
    return (
        scope["method"] == "GET"
        and scope["http_version"] == "1.1"
        and cycle.keep_alive
        and not connection.flow.write_paused
        and not connection.transport.is_closing()
        and not (connection.access_log and connection.access_logger.isEnabledFor(logging.INFO))
        and _TAKES_THE_WAY.isdisjoint([name for name, _ in scope["headers"]])
    )


def _nothing() -> None:
    pass
