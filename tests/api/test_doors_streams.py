"""Streams of bytes that are almost HTTP, cut into packets anywhere: with a door and without, a connection says the same, byte for byte.

Without sockets: the protocol over a transport of the test's. All but slow requests are answered before the next packet comes.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send
from uvicorn.server import ServerState

from api.doors import Door, Ready, ready
from api.metrics import Metrics
from api.server import Draining
from tests.size import sized

BODY = b"what is kept"
KEPT = frozenset({"/a", "/b", "/a b"})


def get(path: bytes, *lines: bytes, version: bytes = b"1.1") -> bytes:
    return (
        b"GET %b HTTP/%b\r\n" % (path, version) + b"".join(b"%b\r\n" % line for line in (b"Host: x", *lines)) + b"\r\n"
    )


A = get(b"/a")
CHUNKS = b"POST /p HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n" % (len(A), A)
MESSAGES = (
    A, A, A, get(b"/b"), get(b"/%61"), get(b"/a%20b"), get(b"/c"), get(b"/a?x"), get(b"/a#x"), get(b"http://h/a"), get(b"/slow"),
    get(b"/a", version=b"1.0"), get(b"/a", b"Connection: close"), get(b"/a", b"Connection: upgrade", b"Upgrade: h2c"),
    get(b"/a", b"Cookie: a"), b"POST /p HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(A) + A, CHUNKS + b"\r\n",
    CHUNKS + b"Connection: close\r\n\r\n", get(b"/a", b"Content-Length: %d" % len(A)) + A, A.replace(b"GET", b"HEAD"),
    A.replace(b"\r\n", b"\n"), b"\r\n", b"CONNECT x:1 HTTP/1.1\r\n\r\n", b"OPTIONS * HTTP/1.1\r\n\r\n",
    b"PUT /p HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc",
)  # fmt: skip
BITS = (
    b"\r",
    b"\n",
    b"\r\n",
    b" ",
    b"\0",
    b":",
    b"%",
    b"/",
    b"\xff",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    A,
)


class Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written, self.is_closed = b"", False

    def write(self, data: bytes) -> None:
        self.written += b"" if self.is_closed else bytes(data)

    def writelines(self, parts: tuple[bytes, ...]) -> None:
        self.write(b"".join(parts))

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


@dataclass
class App:
    """Answers with what it got; what is kept it answers as the door does."""

    door: Door | None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (kept := found(scope) if scope["method"] == "GET" else None) is not None:
            await _send(send, 200, _headers(scope), kept.body)
            return
        got: list[Message] = [{"more_body": scope["method"] in ("POST", "PUT")}]
        while got[-1].get("more_body"):
            got.append(await receive())
        if scope["path"] == "/slow":
            await _turns(20)
        text = repr(
            [scope["method"], scope["path"], scope["query_string"], b"".join(one.get("body", b"") for one in got)]
        )
        await _send(send, 201, [(b"content-length", b"%d" % len(text))], text.encode())


async def _turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def _send(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _headers(scope: Scope) -> list[tuple[bytes, bytes]]:
    """They say what the answer was found by."""
    number = b"%d" % len(scope["headers"])
    return [(b"content-length", b"%d" % len(BODY)), (b"x-path", scope["path"].encode()), (b"x-headers", number)]


def found(scope: Scope) -> Ready | None:
    is_kept = scope["path"] in KEPT and not scope["query_string"]
    return ready("/kept", 200, _headers(scope), BODY) if is_kept else None


class Side:
    """A server with or without a door."""

    def __init__(self, door: Door | None) -> None:
        app = App(door)
        self.config = uvicorn.Config(
            app, access_log=False, proxy_headers=False, ws="none", log_config=None, log_level="warning"
        )
        self.config.load()
        self.state = ServerState()
        self.state.default_headers = [(b"date", b"now")]

    async def says(self, packets: list[bytes]) -> tuple[list[bytes], bool, int]:
        """What is written after each packet, whether the connection was closed, and how many requests were counted."""
        before = self.state.total_requests
        wire, connection, written = Wire(), Draining(self.config, self.state, {}), []
        connection.connection_made(wire)  # type: ignore[arg-type]
        for packet in packets:
            if not wire.is_closed:
                connection.data_received(packet)
                await _turns(8)
                written.append(wire.written)
                wire.written = b""
        await _turns(100)
        written[-1] += wire.written
        was_closed = wire.is_closed
        connection._unset_keepalive_if_required()
        connection.connection_lost(OSError())
        await asyncio.sleep(0)
        return written, was_closed, self.state.total_requests - before


def check(sides: tuple[Side, Side], packets: list[bytes]) -> None:
    async def both() -> list[tuple[list[bytes], bool, int]]:
        return [await side.says(packets) for side in sides]

    (ours, our_end, our_count), (plain, plain_end, plain_count) = asyncio.run(both())
    refusal = plain[-1]
    if ours[:-1] == plain[:-1] and refusal.startswith(b"HTTP/1.1 400") and ours[-1].endswith(refusal):
        ours[-1] = refusal  # uvicorn drops an answer that it has not begun when no HTTP follows in the same packet
        our_count = plain_count
    assert (ours, our_end, our_count) == (plain, plain_end, plain_count), packets


@pytest.fixture(scope="module")
def sides() -> Iterator[tuple[Side, Side]]:
    metrics = Metrics()
    yield Side(Door(found, metrics)), Side(None)
    given_by_door = metrics.registry.get_sample_value("federator_response_bytes_count", {"route": "/kept"})
    assert given_by_door is not None
    assert given_by_door > 20


@pytest.fixture(scope="module", autouse=True)
def _log() -> Iterator[None]:
    log = logging.getLogger("uvicorn.error")
    log.disabled = True
    yield
    log.disabled = False


def _mutated(rng: random.Random, text: bytes) -> bytes:
    at = rng.randrange(len(text) + 1)
    until = min(len(text), at + rng.choice((0, 0, 1, 1, 7)))
    return text[:at] + rng.choice((*BITS, b"", bytes([rng.randrange(256)]))) + text[until:]


@settings(max_examples=sized(150, 5000), deadline=None)
@given(rng=st.randoms(use_true_random=False))
def test_a_connection_says_the_same_with_a_door_and_without(sides: tuple[Side, Side], rng: random.Random) -> None:
    messages = [rng.choice(MESSAGES) for _ in range(rng.randrange(1, 6))]
    for _ in range(rng.choice((0, 0, 1, 2))):
        place = rng.randrange(len(messages))
        messages[place] = _mutated(rng, messages[place])
    text, cuts = b"".join(messages), set()
    for number in range(1, len(messages)):
        if rng.random() < 0.7:
            cuts.add(len(b"".join(messages[:number])))
    for _ in range(rng.randrange(3)):
        cuts.add(rng.randrange(len(text)))
    while (at := text.find(A, max(cuts, default=0) + 1)) > 0 and rng.random() < 0.7:
        cuts |= {at, at + len(A)}
    places = [0, *sorted(one for one in cuts if 0 < one < len(text)), len(text)]
    check(sides, [text[begin:end] for begin, end in itertools.pairwise(places)])


@pytest.mark.parametrize(
    "packets",
    [
        [A, A, CHUNKS, b"Connection: close\r\n\r\n", A],  # the parser reads nothing more, though the connection stays
        [A, A, CHUNKS[: -len(A) - 7], A, b"\r\n0\r\n\r\n", A],
        [A, A, b"POST /p HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(A), A, A],
        [A, A, b"GET /c HTTP/1.1\r\nX: ", A, A],
        [A, A, b"\r", A, b"\n", A],
        [A + A, A + A, A],
        [A + b"\r\n", A + b"\r\n", A],
        [A + b"GET /c HT", b"TP/1.1\r\n\r\n", A, A + b"GET /c HT", b"TP/1.1\r\n\r\n"],
        [A, get(b"/slow"), A, A],
        [A, A, b"CONNECT x:1 HTTP/1.1\r\n\r\n", A, A],
        [A, A, get(b"/a", b"Connection: upgrade", b"Upgrade: h2c"), A, A],
    ],
)
def test_what_is_known_as_a_request_is_one_only_between_two_messages(
    sides: tuple[Side, Side], packets: list[bytes]
) -> None:
    for _ in range(2):
        check(sides, packets)
