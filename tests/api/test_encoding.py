"""Which coding an answer gets, and that what is unpacked is what was meant."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Any

import brotli
import httpx
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from api.accept import best_of, qualities
from api.encoding import CODINGS, Encoded, coding_for, is_plain, tagged

UNPACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "br": brotli.decompress,
    "zstd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
}
TEXT = b'{"a": "' + b"words " * 2000 + b'"}'


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip", "gzip"), ("gzip, deflate, br", "br"), ("gzip, br, zstd", "zstd"), ("gzip;q=1.0, zstd;q=0.5", "gzip"), ("*", None),
        ("*;q=0", None), ("zstd;q=0, *", None), ("*, br", "br"),
        ("identity", None), ("identity;q=1, gzip;q=0.5", None), ("gzip;q=0", None), ("", None),
        ("deflate", None), ("GZIP", "gzip"), ("x-gzip", "gzip"), ("gzip;q=nonsense", None), ("gzip;q=2", None),
        ("br ; q=0.8 , gzip", "gzip"),
        ("identity;q=0.5, gzip;q=0.5", "gzip"), (",;,q", None), ("gzip" * 1000, None),
    ],
)  # fmt: skip
def test_the_coding_that_is_accepted_best_is_taken_and_the_cheapest_of_equal_ones(
    accepted: str, coding: str | None
) -> None:
    assert coding_for(accepted.encode()) == coding


@given(st.binary(max_size=300))
def test_any_header_reads(value: bytes) -> None:
    assert coding_for(value) in (None, *CODINGS)
    assert all(0 <= weight <= 1 for weight in qualities(value).values())


@pytest.mark.parametrize(
    ("accepted", "best"),
    [
        ("*/*", "a/one"), ("b/two", "b/two"), ("a/one;q=0.5, b/two", "b/two"), ("b/*;q=0.9, */*;q=0.1", "b/two"), ("c/three", None),
        ("a/one;q=0, */*", "b/two"), ("text/html, */*;q=0.8", "a/one"), ("b/two; version=1", "b/two"), ("", None),
    ],
)  # fmt: skip
def test_the_media_type_that_is_accepted_best_is_offered(accepted: str, best: str | None) -> None:
    assert best_of(accepted.encode(), ("a/one", "b/two")) == best


def test_only_words_are_packed() -> None:
    for kind in ("application/json", "application/geo+json; charset=utf-8", "text/html",
                 "application/problem+json",
                 "application/schema+json",
                 "application/vnd.oai.openapi+json;version=3.0", "image/svg+xml", "application/xml"):  # fmt: skip
        assert is_plain(kind.encode()), kind
    for kind in ("image/png", "image/tiff; application=geotiff", "application/vnd.apache.parquet", "application/octet-stream",
                 "application/zip", "text/event-stream", "application/x-protobuf", ""):  # fmt: skip
        assert not is_plain(kind.encode()), kind


def test_a_strong_tag_is_another_in_each_coding_and_a_weak_one_the_same() -> None:
    assert tagged(b'"a"', "br") == b'"a-br"'
    assert tagged(b'W/"a"', "br") == b'W/"a"'


Part = tuple[bytes, bool]


def answering(
    parts: list[Part], seen: list[dict[bytes, bytes]], status: int = 200, **headers: str
) -> httpx.AsyncClient:
    """A client of an application that answers with these parts, packed."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(dict(scope["headers"]))
        found = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": found})
        for body, more in parts:
            await send({"type": "http.response.body", "body": body, "more_body": more})

    return httpx.AsyncClient(transport=httpx.ASGITransport(Encoded(app)), base_url="http://here")


async def read(client: httpx.AsyncClient, **headers: str) -> tuple[httpx.Response, bytes]:
    """The answer and its bytes as they came."""
    async with (
        client,
        client.stream("GET", "/", headers={name.replace("_", "-"): v for name, v in headers.items()}) as answer,
    ):
        return answer, b"".join([part async for part in answer.aiter_raw()])


@pytest.mark.parametrize("coding", CODINGS)
async def test_an_answer_in_one_piece_or_in_parts_is_what_it_was(coding: str) -> None:
    whole: list[Part] = [(TEXT, False)]
    streamed = [(TEXT[:5], True), (b"", True), (TEXT[5:9000], True), (TEXT[9000:], True), (b"", False)]
    for parts in (whole, streamed):
        client = answering(parts, [], content_type="application/json", etag='"t"', vary="Authorization")
        answer, raw = await read(client, accept_encoding=coding)
        assert answer.headers["content-encoding"] == coding
        assert answer.headers["vary"] == "Authorization, Accept-Encoding"
        assert answer.headers["etag"] == f'"t-{coding}"'
        assert answer.headers.get("content-length") in (None, str(len(raw)))
        assert UNPACK[coding](raw) == TEXT
        assert len(raw) < len(TEXT) / 10


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (200, {"content_type": "image/png"}), (206, {"content_type": "text/plain"}),
        (200, {"content_type": "application/vnd.apache.parquet"}),
        (200, {"content_type": "text/plain", "content_encoding": "gzip"}),
        (200, {"content_type": "text/plain", "cache_control": "no-transform"}),
        (200, {}),
    ],
)  # fmt: skip
async def test_what_is_packed_or_partial_leaves_as_it_is(status: int, headers: dict[str, str]) -> None:
    answer, raw = await read(answering([(TEXT, False)], [], status, **headers), accept_encoding="gzip")
    assert raw == TEXT
    assert answer.headers.get("content-encoding") == headers.get("content_encoding")


async def test_small_answers_are_not_packed_but_vary() -> None:
    answer, raw = await read(answering([(b"{}", False)], [], content_type="application/json"), accept_encoding="zstd")
    assert (raw, answer.headers["vary"]) == (b"{}", "Accept-Encoding")


async def test_a_writer_may_send_the_tag_of_what_was_packed_and_a_reader_gets_his_own_back() -> None:
    seen: list[dict[bytes, bytes]] = []
    await read(answering([(b"", False)], seen, 204), if_match='"a-zstd", "b"')
    assert seen[0][b"if-match"] == b'"a", "b"'
    client = answering([(b"", False)], seen, 304, etag='"a"')
    answer, _ = await read(client, if_none_match='"a-gzip", "c-br"', accept_encoding="gzip")
    assert seen[1][b"if-none-match"] == b'"a", "c-br"'
    assert answer.headers["etag"] == '"a-gzip"'
