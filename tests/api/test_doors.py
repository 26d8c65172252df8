"""What lies ready is answered by the connection, with the bytes that the application would have sent; whatever is not plain takes the way.

So each request is asked with the door open and with the door shut.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import quote

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tests.api.server as test_server
from api.doors import ready
from api.main import Application, create_app
from api.settings import ApiSettings
from db.settings import DatabaseSettings
from tests.api.corpus import GRD, L1C, fill
from tests.api.server import Prompt, listening, serving
from tests.conftest import cloned
from tests.size import sized

TOKEN = "a-token-for-the-test"
#: Paths of kept answers, and of others beside them.
PATHS = (
    "/stac", "/stac/", "/stac/conformance", "/stac/collections", "/stac/collections/", f"/stac/collections/{L1C}", "/stac/queryables",
    f"/stac/collections/{L1C}/queryables", f"/stac/collections/{L1C}/", "/stac/aggregations", "/stac/catalogs",
)  # fmt: skip
BESIDE = ("/stac/collections/none", "/stac/none", "/stac/search?limit=1", "/_mgmt/ping", "/", "/static/none/none")


@dataclass
class Answer:
    """An answer as it was sent; of the header that tells the time only that it is there."""

    status: bytes
    headers: list[bytes]
    body: bytes

    def header(self, name: str) -> bytes | None:
        found = [line.partition(b": ")[2] for line in self.headers if line.startswith(name.encode() + b":")]
        return found[0] if found else None


class Wire:
    """A bare connection."""

    def __init__(self, port: int, **options: int) -> None:
        self._socket = socket.socket()
        for name, value in options.items():
            self._socket.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
        self._socket.settimeout(20)
        self._socket.connect(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._held = b""

    def close(self) -> None:
        self._socket.close()

    def send(self, *requests: bytes) -> None:
        """All in one packet."""
        self._socket.sendall(b"".join(requests))

    def answer(self, *, is_head: bool = False) -> Answer | None:
        """The next answer, by HEAD without its body; None: the server has closed the connection."""
        while b"\r\n\r\n" not in self._held:
            if not self._more():
                assert not self._held, self._held
                return None
        head, _, self._held = self._held.partition(b"\r\n\r\n")
        status, *headers = head.split(b"\r\n")
        answer = Answer(status, sorted(re.sub(rb"^date: .*", b"date: now", line) for line in headers), b"")
        size = 0 if is_head or b" 304 " in status else int(answer.header("content-length") or 0)
        while len(self._held) < size:
            assert self._more(), "cut short"
        answer.body, self._held = self._held[:size], self._held[size:]
        return answer

    def _more(self) -> bool:
        try:
            got = self._socket.recv(2**18)
        except ConnectionResetError:
            return False
        self._held += got
        return bool(got)

    def asked(self, *requests: bytes) -> list[Answer | None]:
        """What is answered to these, each in a packet of its own, and then to one that is nothing special; up to the connection's end."""
        found: list[Answer | None] = []
        for request in (*requests, get("/stac/conformance")):
            with contextlib.suppress(ConnectionError):
                self.send(request)
            found.append(self.answer(is_head=request.startswith(b"HEAD")))
            if found[-1] is None:
                break
        return found


def soon(claim: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if claim():
            return True
        time.sleep(0.0005)
    return False


def get(path: str, *headers: str, version: str = "1.1") -> bytes:
    lines = "".join(f"{line}\r\n" for line in ("Host: x", *headers))
    return f"GET {path} HTTP/{version}\r\n{lines}\r\n".encode("latin-1")


class Noted(Prompt):
    """A connection that the test can look at."""

    everyone: ClassVar[list[Noted]]
    read_bytes = 0

    def connection_made(self, transport: Any) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.everyone.append(self)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.read_bytes += len(data)


@dataclass
class House:
    """The application, how many requests have come to it by the way, and the connections to it."""

    port: int
    database: DatabaseSettings
    app: Application
    on_the_way: list[str] = field(default_factory=list)
    connections: list[Noted] = field(default_factory=list)

    @contextlib.contextmanager
    def wire(self, **options: int) -> Iterator[Wire]:
        """A connection, the last of `connections`."""
        before = len(self.connections)
        with contextlib.closing(Wire(self.port, **options)) as wire:
            assert soon(lambda: len(self.connections) > before)
            yield wire

    @contextlib.contextmanager
    def shut(self) -> Iterator[None]:
        """Everything takes the way while the block runs."""
        door, self.app.door = self.app.door, None
        try:
            yield
        finally:
            self.app.door = door

    def ask(self, path: str, *headers: str) -> Answer:
        with self.wire() as wire:
            wire.send(get(path, *headers))
            answer = wire.answer()
            assert answer is not None
            return answer

    def has_read(self, size: int) -> bool:
        """Whether the server has read so many bytes of the newest connection."""
        return soon(lambda: bool(self.connections) and self.connections[-1].read_bytes >= size)

    def keeps(self, path: str, *headers: str) -> Answer:
        """The answer, which lies ready from now on."""
        answer = None
        for _ in range(20):
            before, answer = len(self.on_the_way), self.ask(path, *headers)
            if len(self.on_the_way) == before:
                return answer
        raise AssertionError(f"{path} is not kept")

    def counted(self) -> dict[tuple[str, tuple[str, ...]], float]:
        """What metrics count of answers; seconds are left out."""
        found = {}
        for family in self.app.state.metrics.registry.collect():
            for sample in family.samples:
                if sample.name.startswith(
                    ("federator_requests_total", "federator_response_bytes", "federator_request_seconds_count")
                ):
                    found[sample.name, tuple(sorted(sample.labels.values()))] = sample.value
        return found

    def execute(self, statement: str, *values: Any) -> None:
        with psycopg.connect(self.database.conninfo, autocommit=True) as conn:
            conn.execute(statement.encode(), values)


@pytest.fixture(scope="module")
def house(postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    listener, url = listening()
    with cloned(postgres, template) as database, pytest.MonkeyPatch.context() as patch:
        asyncio.run(fill(database, 3))
        settings = ApiSettings(data_dir=tmp_path_factory.mktemp("doors"), public_url=url, api_token=TOKEN)
        app = create_app(settings, database)
        house = House(listener.getsockname()[1], database, app)
        front = app.front

        async def counting(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                house.on_the_way.append(scope["path"])
            await front(scope, receive, send)

        class Here(Noted):
            everyone = house.connections

        app.front = counting
        patch.setattr(test_server, "Prompt", Here)
        with serving(app, listener):
            yield house


# The same answers


CODINGS = (
    "gzip",
    "br",
    "zstd",
    "identity",
    "*",
    "gzip;q=0",
    "br;q=0.5, gzip",
    "x-gzip",
    "gzip, deflate, br, zstd",
    "q=;,;",
    "é",
)
OTHERS = (
    "Accept: */*", "Accept: text/html", "User-Agent: x", "Origin: https://example.org", "X-Forwarded-For: 10.0.0.1", "Te: trailers",
    "X-Forwarded-Host: evil.example", "X-Forwarded-Proto: gopher", "Forwarded: host=evil.example", "Range: bytes=0-9", 'If-Match: "x"',
    "If-Modified-Since: x", "Cache-Control: no-cache", "Host: other", "Referer: x", "X-HTTP-Method-Override: DELETE", "Traceparent: x",
    "Connection: keep-alive", "Proxy-Connection: close", "Keep-Alive: timeout=0", "Connection: close", "Authorization: Bearer wrong",
    f"Authorization: Bearer {TOKEN}", "Authorization:", "Content-Length: 0", "Expect: 100-continue", "Upgrade: h2c", "Empty:",
    "HOST: again", "Cookie: a=b", "Accept-Encoding : gzip",
)  # fmt: skip


@st.composite
def spelled(draw: st.DrawFn) -> str:
    """A path, written in one of many ways, with or without a query."""
    path = draw(st.sampled_from(PATHS)) if draw(st.booleans()) else draw(st.sampled_from(PATHS + BESIDE))
    where = draw(st.integers(1, len(path)))
    odd = draw(
        st.sampled_from(("", "", "", "/", "/.", "/../stac", "%2e", "%2F", "%00", "%", "%e9", ";a=b", "\\", "//", "%3f"))
    )
    path = path[:where] + odd + path[where:]
    if draw(st.integers(0, 5)) == 0:
        path = path[: where - 1] + quote(path[where - 1], safe="") + f"%{ord(path[-1]):02x}"
    query = draw(
        st.sampled_from(
            ("", "", "", "?", "?limit=1", "?limit=0", "?f=json", "?a=%00", "?#x", "#x", "?token=x", f"?{'x' * 2100}")
        )
    )
    return path + query


@st.composite
def asked(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A path and headers; `TAG` stands for the tag of the answer without them."""
    headers = draw(st.lists(st.sampled_from(OTHERS), max_size=3, unique=True)) if draw(st.booleans()) else []
    headers += [f"Accept-Encoding: {one}" for one in draw(st.lists(st.sampled_from(CODINGS), max_size=2))]
    tags = ("TAG", "W/TAG", '"x", TAG', '"x"', "*", "TAG-gzip", '""', "x" * 3000)
    headers += [f"If-None-Match: {one}" for one in draw(st.lists(st.sampled_from(tags), max_size=2))]
    return draw(spelled()), draw(st.permutations(headers))


def test_the_door_and_the_way_say_the_same(house: House) -> None:
    by_door = 0

    @settings(max_examples=sized(80, 1500), deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(asked())
    def check(one: tuple[str, list[str]]) -> None:
        nonlocal by_door
        path, headers = one
        with house.wire() as wire:
            first, *_ = wire.asked(get(path, *(line for line in headers if line.startswith("Accept-Encoding:"))))
        tag = (first.header("etag") if first else None) or b'"none"'
        request = get(path, *headers).replace(b"TAG", tag)
        found = []
        for is_open in (
            True,
            False,
            True,
            True,
        ):  # made, by the way, by the door, and by the door in the bytes that it knows
            before = len(house.on_the_way)
            with contextlib.nullcontext() if is_open else house.shut(), house.wire() as wire:
                found.append(wire.asked(request))
        by_door += found[3][0] is not None and len(house.on_the_way) == before
        assert found[0] == found[1] == found[2] == found[3]

    house.keeps("/stac/conformance")
    check()
    assert by_door > 20


RAW = {
    "HTTP/1.0": get("/stac/", version="1.0"),
    "HTTP/1.0 that stays": get("/stac/", "Connection: keep-alive", version="1.0"),
    "HTTP/2": get("/stac/", version="2.0"),
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": b"GET /stac/\r\n\r\n",
    "an absolute form": get("http://evil.example/stac/"),
    "an absolute form without a path": get("http://evil.example"),
    "an absolute form with a query": get("http://evil.example/stac/collections?limit=1"),
    "no slash": get("stac/"),
    "an asterisk": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "a host before the path": get("//evil.example/stac/"),
    "HEAD": get("/stac/").replace(b"GET", b"HEAD", 1),
    "POST": get("/stac/").replace(b"GET", b"POST", 1),
    "small letters": get("/stac/").replace(b"GET", b"get", 1),
    "another method": get("/stac/").replace(b"GET", b"GETT", 1),
    "a body": get("/stac/", "Content-Length: 5") + b"12345",
    "a body that is a request": get("/stac/", f"Content-Length: {len(get('/stac/'))}") + get("/stac/"),
    "a body in chunks": get("/stac/", "Transfer-Encoding: chunked") + b"5\r\n12345\r\n0\r\n\r\n",
    "two lengths": get("/stac/", "Content-Length: 0", "Content-Length: 5") + b"12345",
    "a length and chunks": get("/stac/", "Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "a length with a sign": get("/stac/", "Content-Length: +5"),
    "a length behind a blank": get("/stac/", "Content-Length : 5"),
    "chunks by another name": get("/stac/", "Transfer-Encoding: xchunked"),
    "chunks in a folded line": get("/stac/", "Transfer-Encoding:\r\n chunked"),
    "a folded line": get("/stac/", "X: a\r\n b"),
    "a line without a name": get("/stac/", ": b"),
    "a line without a colon": get("/stac/", "abc"),
    "a zero byte": get("/stac/", "X: a\0b"),
    "a lonely CR": get("/stac/", "X: a\rb"),
    "lonely LFs": get("/stac/").replace(b"\r\n", b"\n"),
    "a line before": b"\r\n" + get("/stac/"),
    "two blanks": get("/stac/").replace(b" ", b"  ", 1),
    "a tab": get("/stac/").replace(b" ", b"\t", 1),
    "bytes beyond ASCII": get("/stac/é"),
    "websocket": get("/stac/", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13"),
    "upgrade without saying so": get("/stac/", "Upgrade: h2c"),
    "an upgrade to nothing": get("/stac/", "Connection: upgrade"),
    "close among others": get("/stac/", "Connection: x, close"),
    "a proxy's close": get("/stac/", "Proxy-Connection: close"),
    "three thousand headers": get("/stac/", *(f"X-{number}: {number}" for number in range(3000))),
    "a header of a hundred thousand bytes": get("/stac/", "X: " + "x" * 100_000, "Accept-Encoding: gzip"),
    "many If-None-Match": get("/stac/", *(f'If-None-Match: "{number}"' for number in range(500))),
    "a fragment": get("/stac/#x"),
    "a host that is none": get("/stac/").replace(b"Host: x", b"Host: x y"),
    "no host": get("/stac/").replace(b"Host: x\r\n", b""),
}  # fmt: skip


@pytest.mark.parametrize("name", RAW)
def test_odd_requests_are_the_same_by_the_door_and_by_the_way(house: House, name: str) -> None:
    house.keeps("/stac/")
    house.keeps("/stac/conformance")
    found = []
    for is_open in (True, False, True):
        with contextlib.nullcontext() if is_open else house.shut(), house.wire() as wire:
            found.append(wire.asked(RAW[name]))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "identity"])
def test_the_door_gives_each_coding_and_304(house: House, coding: str) -> None:
    whole = house.keeps("/stac/", f"Accept-Encoding: {coding}")
    assert (whole.status, whole.header("content-encoding") or b"identity") == (b"HTTP/1.1 200 OK", coding.encode())
    tag = (whole.header("etag") or b"").decode()
    known = house.keeps("/stac/", f"Accept-Encoding: {coding}", f"If-None-Match: {tag}")
    assert (known.status, known.body, known.header("etag")) == (b"HTTP/1.1 304 Not Modified", b"", tag.encode())
    other = house.ask("/stac/", f"Accept-Encoding: {coding}", 'If-None-Match: "other"')
    assert other == whole
    assert whole.header("date") == b"now"


# One connection


def test_a_connection_goes_on_by_door_and_way_in_turns(house: House) -> None:
    house.keeps("/stac/")
    with house.wire() as wire:
        for path, comes_by_the_way in (
            ("/stac/", 0),
            ("/_mgmt/ping", 1),
            ("/stac/", 0),
            ("/stac/", 0),
            ("/stac/none", 1),
            ("/stac/", 0),
        ):
            before = len(house.on_the_way)
            wire.send(get(path))
            assert wire.answer() is not None
            assert len(house.on_the_way) - before == comes_by_the_way, path


SEARCH = json.dumps({"limit": 1}).encode()
POST = b"POST /stac/search HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    len(SEARCH),
    SEARCH,
)
PIPELINES = {
    "two that are ready": [get("/stac/"), get("/stac/conformance")],
    "a ready one and a body": [get("/stac/"), POST, get("/stac/conformance")],
    "a body and a ready one": [POST, get("/stac/"), POST, get("/stac/conformance")],
    "a slow one first": [get("/stac/search?limit=2"), get("/stac/"), get("/stac/collections")],
    "many": [get(path) for path in ("/stac/", "/stac/conformance", "/_mgmt/ping") * 30],
}  # fmt: skip


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("cut", [0, 1, 7])
def test_requests_that_come_together_are_answered_in_order(house: House, name: str, cut: int) -> None:
    requests = PIPELINES[name]
    alone = []
    for request in requests:
        with house.shut(), house.wire() as wire:
            wire.send(request)
            alone.append(wire.answer())
    for path in ("/stac/", "/stac/conformance", "/stac/collections"):
        house.keeps(path)
    text = b"".join(requests)
    at = len(text) * cut // 8
    with house.wire() as wire:
        for part in (text[:at], text[at:]):
            wire.send(part)
        together = [wire.answer() for _ in requests]
    assert [one and (one.status, _steady(one.body)) for one in together] == [
        one and (one.status, _steady(one.body)) for one in alone
    ]


KNOWN = get("/stac/")
#: Messages, some of whose bodies are what was answered as a request before.
MESSAGES = (
    KNOWN, get("/stac/conformance"), get("/_mgmt/ping"), POST, KNOWN.replace(b"GET", b"HEAD", 1), get("/stac/", "Cookie: a=b"),
    b"POST /stac/search HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(KNOWN) + KNOWN,
    get("/stac/", f"Content-Length: {len(KNOWN)}") + KNOWN,
    get("/stac/", "Transfer-Encoding: chunked") + b"%x\r\n" % len(KNOWN) + KNOWN + b"\r\n0\r\n\r\n",
    get("/stac/collections", "X: a"), b"\r\n" + KNOWN,
)  # fmt: skip


def test_answers_are_the_same_however_requests_are_cut_into_packets(house: House) -> None:
    """Above all where a packet is what is known as a request and is none here: the rest of a header, or a body."""

    def together(messages: list[bytes], cuts: set[int]) -> list[tuple[bytes, bytes]]:
        text, found = b"".join(messages), []
        with house.wire() as wire:
            for begin, end in itertools.pairwise(sorted({0, len(text), *cuts})):
                wire.send(text[begin:end])
                assert house.has_read(end)
            for message in messages:
                answer = wire.answer(is_head=message.startswith(b"HEAD"))
                assert answer is not None
                found.append((answer.status, _steady(answer.body)))
        return found

    @settings(max_examples=sized(40, 1500), deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.data())
    def check(data: st.DataObject) -> None:
        messages = data.draw(st.lists(st.sampled_from(MESSAGES), min_size=1, max_size=5))
        text = b"".join(messages)
        known = [place.start() for place in re.finditer(re.escape(KNOWN), text)]
        ends = list(itertools.accumulate(map(len, messages)))
        likely = [*ends, *known, *(place + len(KNOWN) for place in known), *(place - 3 for place in known)]
        cuts = data.draw(st.sets(st.sampled_from(likely) | st.integers(1, len(text)), max_size=8))
        with house.shut():
            expected = together(messages, set())
        assert together(messages, {one for one in cuts if 0 < one < len(text)}) == expected

    for path in ("/stac/", "/stac/conformance"):
        house.keeps(path)
    check()


@pytest.mark.parametrize(
    "begun", [b"GET /stac/search?x=", b"GET /_mgmt/ping HTTP/1.1\r\n", b"GET /_mgmt/ping HTTP/1.1\r\nX: "]
)
def test_what_is_known_as_a_request_is_the_rest_of_another(house: House, begun: bytes) -> None:
    house.keeps("/stac/")
    found = []
    for is_open in (True, False):
        with contextlib.nullcontext() if is_open else house.shut(), house.wire() as wire:
            wire.send(begun)
            assert house.has_read(len(begun))
            found.append(wire.asked(KNOWN))
    assert found[0] == found[1]
    assert found[0][0] != house.ask("/stac/")


def _steady(body: bytes) -> bytes:
    """Without tokens of pages, which differ."""
    return re.sub(rb"token[^&,}]*", b"", body)


def test_only_the_first_of_many_that_come_together_is_answered_at_once(house: House) -> None:
    house.keeps("/stac/")
    before = len(house.on_the_way)
    with house.wire() as wire:
        wire.send(*[get("/stac/")] * 20)
        assert len({answer.body for answer in [wire.answer() for _ in range(20)] if answer}) == 1
    assert len(house.on_the_way) - before >= 10, "packets may have been two"


def test_what_follows_an_answer_and_is_no_request_ends_the_connection(house: House) -> None:
    whole = house.keeps("/stac/")
    with house.wire() as wire:
        wire.send(get("/stac/"), b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        assert wire.answer() == whole
        assert (refused := wire.answer()) is not None
        assert (refused.status, refused.header("connection")) == (b"HTTP/1.1 400 Bad Request", b"close")
        assert wire.answer() is None


def test_who_does_not_read_makes_nobody_hold_answers(house: House) -> None:
    """Requests one after the other, none of whose answers is taken: their number in memory is bounded, and all come in the end."""
    whole, number = house.keeps("/stac/collections"), 2000
    with house.wire(SO_RCVBUF=4096) as wire:
        wire.send(get("/stac/collections"))
        assert wire.answer() == whole
        connection = house.connections[-1]
        held, failed = [], []

        def send() -> None:
            try:
                for _ in range(number):
                    wire.send(get("/stac/collections"))
                    held.append(connection.transport.get_write_buffer_size())
            except OSError as error:
                failed.append(error)

        sender = threading.Thread(target=send)
        sender.start()
        assert soon(lambda: connection.flow.write_paused)
        for _ in range(number):
            assert wire.answer() == whole
        sender.join(20)
    assert not failed
    assert max(held) < 2**17 + 4 * len(whole.body)


def test_a_connection_that_nobody_uses_ends_and_one_that_drains_says_so(house: House) -> None:
    house.keeps("/stac/")
    with house.wire() as wire:
        wire.send(get("/stac/"))
        assert wire.answer() is not None
        connection = house.connections[-1]
        connection.timeout_keep_alive = 0.05  # type: ignore[assignment]
        total = connection.server_state.total_requests
        wire.send(get("/stac/"))
        assert wire.answer() is not None
        assert wire.answer() is None, "closed by the server"
        assert connection.server_state.total_requests == total + 1
    with house.wire() as wire:
        wire.send(get("/stac/"))
        assert (kept := wire.answer()) is not None
        connection = house.connections[-1]
        connection.drain_s = 30
        _on_loop(connection, connection.shutdown)
        wire.send(get("/stac/"))
        assert (last := wire.answer()) is not None
        assert (kept.header("connection"), last.header("connection"), last.body) == (None, b"close", kept.body)
        assert wire.answer() is None


def _on_loop(connection: Prompt, do: Callable[[], None]) -> None:
    async def call() -> None:
        do()

    asyncio.run_coroutine_threadsafe(call(), connection.loop).result(20)


# What is true


def test_a_change_is_new_by_the_door_and_what_is_private_is_gone(house: House) -> None:
    path, title = f"/stac/collections/{GRD}", b"Another title"
    before = house.keeps(path)
    house.keeps("/stac/collections")
    change = "update pgstac.collections set content = jsonb_set(content, '{title}', %s::jsonb) where id = %s"
    house.execute(change, json.dumps(title.decode()), GRD)
    assert soon(lambda: title in house.ask(path).body)
    assert title in house.keeps(path).body
    assert before != house.keeps(path)
    house.execute("insert into federator.collection_access (collection_id, visibility) values (%s, 'private')", GRD)
    assert soon(lambda: GRD.encode() not in house.ask("/stac/collections").body)
    for _ in range(3):
        operator = house.ask("/stac/collections", f"Authorization: Bearer {TOKEN}")
        assert GRD.encode() in operator.body
        assert GRD.encode() not in house.keeps("/stac/collections").body
        assert (house.ask(path, f"Authorization: Bearer {TOKEN}").status, house.ask(path).status) == (
            b"HTTP/1.1 200 OK", b"HTTP/1.1 404 Not Found",
        )  # fmt: skip


def test_while_no_news_come_nothing_is_given_by_the_door(house: House) -> None:
    house.keeps("/stac/")
    changes = house.app.state.changes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(changes, "_is_listening", False)
        before = len(house.on_the_way)
        house.ask("/stac/")
        assert len(house.on_the_way) == before + 1
    house.keeps("/stac/")


def test_what_the_door_gives_is_counted_as_what_takes_the_way(house: House) -> None:
    tag = (house.keeps("/stac/").header("etag") or b"").decode()
    steps = []
    for is_open in (True, False):
        before = house.counted()
        for request in (get("/stac/"), get("/stac/", f"If-None-Match: {tag}"), get("/stac/", "Accept-Encoding: gzip")):
            with contextlib.nullcontext() if is_open else house.shut(), house.wire() as wire:
                wire.send(request)
                wire.answer()
        assert soon(lambda before=before: sum(house.counted().values()) > sum(before.values()))  # type: ignore[misc]
        steps.append({key: value - before.get(key, 0) for key, value in house.counted().items()})
    assert steps[0] == steps[1]
    assert steps[0]["federator_requests_total", ("200", "GET", "stac")] == 2
    assert steps[0]["federator_requests_total", ("304", "GET", "stac")] == 1


# When it is shut


def test_the_door_is_shut_where_something_decides_about_each_request(house: House, tmp_path_factory: Any) -> None:
    assert house.app.door is not None
    folder = tmp_path_factory.mktemp("shut")
    assert create_app(ApiSettings(data_dir=folder, rate_limits=True), house.database).door is None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
        assert create_app(ApiSettings(data_dir=folder), house.database).door is None


def test_the_way_is_taken_where_each_request_is_logged(house: House) -> None:
    house.keeps("/stac/")
    with house.wire() as wire:
        wire.send(get("/stac/"))
        wire.answer()
        connection, before = house.connections[-1], len(house.on_the_way)
        connection.access_log = True
        log = logging.getLogger("uvicorn.access")
        level = log.level
        log.setLevel(logging.INFO)
        try:
            wire.send(get("/stac/"))
            wire.answer()
        finally:
            log.setLevel(level)
        assert len(house.on_the_way) == before + 1


@pytest.mark.parametrize(
    "header",
    [
        (b"link", b"a\r\nset-cookie: x"),
        (b"li nk", b"a"),
        (b"x\r\ny", b"a"),
        (b"Connection", b"close"),
        (b"transfer-encoding", b"chunked"),
    ],
)
def test_what_the_server_would_refuse_to_write_does_not_lie_ready(header: tuple[bytes, bytes]) -> None:
    assert ready("/stac/", 200, [(b"content-length", b"0"), header], b"") is None
    assert ready("/stac/", 200, [(b"Content-Length", b"0")], b"") == ("/stac/", 200, b"content-length: 0\r\n\r\n", b"")
