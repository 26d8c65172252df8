"""The change feed as server-sent events (WHATWG HTML, 9.2): events of the log in order, then those to come.

A stream holds no connection to the database while it waits, and ends after an hour, with its process, or with its client: who comes again
with `Last-Event-ID` misses nothing, and his rights are asked anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

import orjson
import psycopg
from starlette.requests import Request
from starlette.responses import StreamingResponse

from api.ending import ending_of
from api.problems import Problem
from db.pools import Pool
from lineage import history

#: Streams that one process keeps open.
MAX_STREAMS = 64
_PAGE = 500
#: Seconds between looks for new events, between signs of life, and of a whole stream.
_LOOK_S, _BEAT_S, _WHOLE_S = 0.5, 15.0, 3600.0


@dataclass
class Streams:
    """How many are open in this process."""

    open: int = 0


_streams = Streams()


def wants_stream(request: Request) -> bool:
    """Whether the client asks for a stream and not for a page."""
    return "text/event-stream" in request.headers.get("accept", "").lower()


def start_of(request: Request, from_seq: int) -> int:
    """The first number that the client wants: behind the last one that it has had.

    Raises:
        Problem: 400: `Last-Event-ID` is no number.
    """
    last = request.headers.get("last-event-id")
    if last is None or last == "":
        return from_seq
    if not (last.isascii() and last.isdigit() and len(last) <= 18):
        raise Problem(400, "INVALID_PARAMETER", "Last-Event-ID is the number of an event")
    return int(last) + 1


def stream(pool: Pool, start: int, principals: Sequence[str]) -> StreamingResponse:
    """Answer with events from a number on, as this caller may see them.

    Raises:
        Problem: 503: too many streams are open.
    """
    if _streams.open >= MAX_STREAMS:
        raise Problem(
            503, "TOO_MANY_STREAMS", "too many streams are open; ask for pages", headers={"Retry-After": "10"}
        )
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_counted(pool, start, principals), media_type="text/event-stream", headers=headers)


async def _counted(pool: Pool, start: int, principals: Sequence[str]) -> AsyncGenerator[bytes]:
    if _streams.open >= MAX_STREAMS:  # others came in between
        return
    _streams.open += 1
    try:
        async with contextlib.aclosing(_messages(pool, start, principals)) as messages:
            async for message in messages:
                yield message
    finally:
        _streams.open -= 1


async def _messages(pool: Pool, start: int, principals: Sequence[str]) -> AsyncGenerator[bytes]:
    ending = ending_of(asyncio.get_running_loop())
    begun = beat = time.monotonic()
    yield b"retry: 2000\n\n"
    while not ending.is_set() and time.monotonic() - begun < _WHOLE_S:
        try:
            async with pool.connection() as conn:
                size = await history.size(conn)
                found = await history.events_from(conn, start, _PAGE, principals)
        except psycopg.Error:
            return  # the client comes again, here or elsewhere
        if found:
            start, beat = found[-1]["seq"] + 1, time.monotonic()
            yield b"".join(b"id: %d\ndata: %s\n\n" % (one["seq"], orjson.dumps(one)) for one in found)
            continue
        start = max(start, size)  # what this caller may not see is not looked through again
        if time.monotonic() - beat >= _BEAT_S:
            beat = time.monotonic()
            yield b": still here\n\n"
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ending.wait(), _LOOK_S)
