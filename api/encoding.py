"""Content codings by cost: answers in words are packed cheaply for whoever accepts it, everything else leaves as it is.

Levels were chosen by measurement (`benchmarks/RESULTS.md`): a page of ten large items, 150 kB, takes 0.06 ms in zstd, 0.1 ms in Brotli
and 0.3 to 0.4 ms in gzip, and becomes a fifteenth to a twentieth. Higher levels cost many times that for little.
"""

from __future__ import annotations

import asyncio
import re
import threading
import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

import brotli
import zstandard
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.accept import qualities

Header = tuple[bytes, bytes]

#: What fits into one packet does not arrive sooner when it is smaller.
MIN_BYTES = 1400
#: From here on a body is packed in a thread, so that nobody waits for it.
_IN_THREAD_BYTES = 500_000
#: What is preferred among codings that a client accepts equally: the cheapest first.
CODINGS = ("zstd", "br", "gzip")
_PLAIN = re.compile(
    rb"(text/(?!event-stream)|application/([\w.+-]+\+)?(json|xml|javascript|yaml|schema)\b|application/[\w.-]+\+(json|xml)|image/svg\+xml)",
    re.IGNORECASE,
)
_TAGS = re.compile(rb'-(?:zstd|br|gzip)"')


class _Stream(Protocol):
    def pack(self, data: bytes, *, is_last: bool) -> bytes: ...


class _Local(threading.local):
    """zstd contexts are not shared between threads."""

    def __init__(self) -> None:
        self.zstd = zstandard.ZstdCompressor(level=1)


_local = _Local()


def _gzip(data: bytes, level: int) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, 31)
    return packer.compress(data) + packer.flush()


#: Coding -> what packs an answer that is made for one request.
CHEAP: dict[str, Callable[[bytes], bytes]] = {
    "zstd": lambda data: _local.zstd.compress(data),
    "br": lambda data: brotli.compress(data, quality=1),
    "gzip": lambda data: _gzip(data, 1),
}
#: Coding -> what packs an answer that is kept and given many times.
KEPT: dict[str, Callable[[bytes], bytes]] = {
    "zstd": lambda data: zstandard.ZstdCompressor(level=6).compress(data),
    "br": lambda data: brotli.compress(data, quality=5),
    "gzip": lambda data: _gzip(data, 6),
}


@lru_cache(maxsize=512)
def coding_for(accepted: bytes) -> str | None:
    """Return the coding for a value of Accept-Encoding (RFC 9110, 12.5.3); None: as it is.

    `*` gets none: clients that send it, as stac-api-validator does, unpack less than they say.
    """
    asked = qualities(accepted)
    weights = {name: asked.get(name, asked.get("x-gzip", 0.0) if name == "gzip" else 0.0) for name in CODINGS}
    best = max(CODINGS, key=lambda name: weights[name])
    as_it_is = asked.get("identity", 0.0)  # when it is not named it is good enough, and worse than what is
    return best if weights[best] > 0 and weights[best] >= as_it_is else None


def is_plain(content_type: bytes) -> bool:
    """True for media types whose bytes are words; pictures, rasters, Parquet and archives are packed already."""
    return _PLAIN.match(content_type) is not None


def tagged(etag: bytes, coding: str) -> bytes:
    """The entity tag of a packed answer: a strong one is another, a weak one the same (RFC 9110, 8.8.3.3)."""
    return etag if etag.startswith(b"W/") else etag[:-1] + b"-" + coding.encode() + b'"'


class _Zstd:
    def __init__(self) -> None:
        self._packer = zstandard.ZstdCompressor(level=1).compressobj()

    def pack(self, data: bytes, *, is_last: bool) -> bytes:
        end = zstandard.COMPRESSOBJ_FLUSH_FINISH if is_last else zstandard.COMPRESSOBJ_FLUSH_BLOCK
        return self._packer.compress(data) + self._packer.flush(end)


class _Brotli:
    def __init__(self) -> None:
        self._packer = brotli.Compressor(quality=1)

    def pack(self, data: bytes, *, is_last: bool) -> bytes:
        packed = self._packer.process(data)
        return bytes(packed + (self._packer.finish() if is_last else self._packer.flush()))


class _Gzip:
    def __init__(self) -> None:
        self._packer = zlib.compressobj(1, zlib.DEFLATED, 31)

    def pack(self, data: bytes, *, is_last: bool) -> bytes:
        return self._packer.compress(data) + self._packer.flush(zlib.Z_FINISH if is_last else zlib.Z_SYNC_FLUSH)


_STREAMS: dict[str, Callable[[], _Stream]] = {"zstd": _Zstd, "br": _Brotli, "gzip": _Gzip}


class Encoded:
    """Packs the answers of an application. One that is streamed is packed part by part, each part flushed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        coding = None
        for name, value in scope["headers"]:
            if name == b"accept-encoding":
                coding = coding_for(value)
            elif name in (b"if-match", b"if-none-match") and _TAGS.search(value):
                scope = _without_codings(scope, coding_of(scope))
        if coding is None or scope["method"] == "HEAD":
            await self._app(scope, receive, send)
            return
        await self._app(scope, receive, _Answer(send, coding).send)


def coding_of(scope: Scope) -> str | None:
    """The coding for a request."""
    return next((coding_for(value) for name, value in scope["headers"] if name == b"accept-encoding"), None)


def _without_codings(scope: Scope, coding: str | None) -> Scope:
    """The same request with the entity tags of what was packed: a writer means the thing, a reader this coding of it alone."""
    headers = []
    for name, value in scope["headers"]:
        if name == b"if-match":
            value = _TAGS.sub(b'"', value)
        elif name == b"if-none-match" and coding:
            value = value.replace(b"-" + coding.encode() + b'"', b'"')
        headers.append((name, value))
    return {**scope, "headers": headers}


class _Answer:
    """One answer on its way out."""

    def __init__(self, send: Send, coding: str) -> None:
        self._send, self._coding = send, coding
        self._start: Message = {}
        self._stream: _Stream | None = None
        self._is_open = True  # nothing has left yet

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
        elif message["type"] != "http.response.body":  # what servers offer besides, such as files by their path
            await self._leave()
            await self._send(message)
        elif self._is_open:
            await self._first(message)
        elif self._stream is None:
            await self._send(message)
        else:
            await self._part(message)

    async def _leave(self) -> None:
        if self._is_open:
            self._is_open = False
            await self._send(self._start)

    async def _first(self, message: Message) -> None:
        body, more = message.get("body", b""), message.get("more_body", False)
        headers: list[Header] = list(self._start["headers"])
        if not _may_pack(self._start["status"], headers):
            if self._start["status"] == 304:
                self._start = {**self._start, "headers": _retagged(headers, self._coding)}
        elif more:
            self._stream = _STREAMS[self._coding]()
            self._start = {**self._start, "headers": _packed_headers(headers, self._coding, None)}
        elif len(body) < MIN_BYTES:
            self._start = {**self._start, "headers": _varying(headers)}
        else:
            pack = CHEAP[self._coding]
            body = await asyncio.to_thread(pack, body) if len(body) > _IN_THREAD_BYTES else pack(body)
            message = {"type": "http.response.body", "body": body}
            self._start = {**self._start, "headers": _packed_headers(headers, self._coding, len(body))}
        await self._leave()
        await (self._part(message) if self._stream else self._send(message))

    async def _part(self, message: Message) -> None:
        assert self._stream is not None
        more = message.get("more_body", False)
        packed = self._stream.pack(message.get("body", b""), is_last=not more)
        await self._send({"type": "http.response.body", "body": packed, "more_body": more})


def _may_pack(status: int, headers: list[Header]) -> bool:
    if status in (204, 206, 304) or status < 200:
        return False
    found = dict(headers)
    return (
        is_plain(found.get(b"content-type", b""))
        and b"content-encoding" not in found
        and b"no-transform" not in found.get(b"cache-control", b"")
    )


def _packed_headers(headers: list[Header], coding: str, length: int | None) -> list[Header]:
    rest = [one for one in _retagged(headers, coding) if one[0] not in (b"content-length", b"accept-ranges")]
    rest = [*_varying(rest), (b"content-encoding", coding.encode())]
    return rest if length is None else [*rest, (b"content-length", str(length).encode())]


def _retagged(headers: list[Header], coding: str) -> list[Header]:
    return [(name, tagged(value, coding)) if name == b"etag" else (name, value) for name, value in headers]


def _varying(headers: list[Header]) -> list[Header]:
    """The same headers with Accept-Encoding in Vary."""
    for number, (name, value) in enumerate(headers):
        if name == b"vary":
            known = b"accept-encoding" in value.lower()
            return (
                headers if known else [*headers[:number], (name, value + b", Accept-Encoding"), *headers[number + 1 :]]
            )
    return [*headers, (b"vary", b"Accept-Encoding")]
