"""Pieces, hashes that go on while bytes are written, and what writes them: in order, once, and nothing after a failure."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import hypothesis.strategies as st
import pytest
from blake3 import blake3
from hypothesis import given, settings

from ingest.uploads import partial as partials
from ingest.uploads.digests import Digests
from ingest.uploads.inflow import LEAST_PIECE_BYTES, MOST_PIECE_BYTES, PIECES, Streamed, make_pieces
from ingest.uploads.partial import Partial
from ingest.uploads.sink import Sink, Strand
from tests.size import sized

CONTENT = os.urandom(3_000_000)


async def chunks(content: bytes, *sizes: int) -> AsyncIterator[bytes]:
    start = 0
    for size in sizes:
        yield content[start : start + size]
        start += size
    yield content[start:]


def poured(folder: Path, content: bytes, *sizes: int, start: Digests | None = None) -> tuple[Partial, Digests]:
    """Write a stream into a file of a folder."""
    partial, digests = Partial.acquire(folder), start or Digests()

    async def work() -> None:
        with ThreadPoolExecutor(2) as pool:
            sink, source, more = Sink(partial, digests, None, pool), Streamed(chunks(content, *sizes)), True
            try:
                while more:
                    piece = await sink.piece(2**30)
                    more = await source.fill(piece, 1.0)
                    sink.put(piece)
            finally:
                await sink.finish()

    asyncio.run(work())
    return partial, digests


def test_a_body_is_written_once_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(partials, "WRITE_BACK_BYTES", 2**20)
    monkeypatch.setattr(partials, "write_back", lambda _, start, end: told.append((start, end)))
    content = CONTENT * 4  # more than the pieces of a body that is not alone
    monkeypatch.setattr(Sink, "_open", 5)
    partial, digests = poured(tmp_path / "x", content, 1, 70_000, 5_000_000)
    partial.close()
    assert (tmp_path / "x" / "original").read_bytes() == content
    assert digests.sha256 == hashlib.sha256(content).digest()
    assert digests.blake3 == blake3(content).digest()
    assert told[0][0] == 0
    assert all(one[1] == other[0] for one, other in pairwise(told))


def test_the_disk_may_really_be_told_to_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partials, "WRITE_BACK_BYTES", 2**20)
    partial, _ = poured(tmp_path / "x", CONTENT)
    partial.close()
    assert (tmp_path / "x" / "original").read_bytes() == CONTENT


def test_hashes_of_what_could_not_be_written_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite

    def full(descriptor: int, data: bytes, offset: int) -> int:
        if offset >= 2_000_000:
            raise OSError(errno.ENOSPC, "full")
        return pwrite(descriptor, data[:500_000], offset)

    digests = Digests()
    with monkeypatch.context() as disk:
        disk.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="full"):
            poured(tmp_path / "x", CONTENT, start=digests)
    assert digests.position == 0
    partial = Partial.acquire(tmp_path / "y")  # the same file goes on, with hashes that catch up from the disk
    partial.close()
    (tmp_path / "y" / "original").write_bytes((tmp_path / "x" / "original").read_bytes())
    kept = (tmp_path / "y" / "original").stat().st_size
    assert (tmp_path / "y" / "original").read_bytes() == CONTENT[:kept]
    partial, digests = poured(tmp_path / "y", CONTENT[kept:], start=digests)
    digests.follow(partial.descriptor, partial.size)
    partial.close()
    assert digests.sha256 == hashlib.sha256(CONTENT).digest()


def test_another_fault_of_a_thread_is_raised_where_somebody_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def odd(descriptor: int, data: bytes, offset: int) -> int:
        raise ValueError("odd")

    monkeypatch.setattr(os, "pwrite", odd)
    with pytest.raises(ValueError, match="odd"):
        poured(tmp_path / "x", CONTENT)


@settings(max_examples=sized(20, 200), deadline=None)
@given(st.lists(st.integers(0, 4000), max_size=8), st.lists(st.sampled_from(["begin", "take", "settle"]), max_size=8))
def test_hashes_do_not_care_how_bytes_come(sizes: list[int], ways: list[str]) -> None:
    digests, start = Digests(), 0
    for size, way in zip(sizes, ways, strict=False):
        chunk = CONTENT[start : start + size]
        if way == "begin":
            digests.begin(chunk, start)
        digests.take(-1, chunk, start)
        if way == "settle":
            digests.settle()
        start += size
    assert digests.position == start
    assert digests.sha256 == hashlib.sha256(CONTENT[:start]).digest()
    assert digests.blake3 == blake3(CONTENT[:start]).digest()


def test_a_stream_fills_no_more_than_it_may() -> None:
    async def work() -> list[bytes]:
        source, piece, got, more = Streamed(chunks(CONTENT[:1000], 10, 300)), make_pieces(0)[0], [], True
        while more:
            piece.empty(250)
            more = await source.fill(piece, 1.0)
            got.append(bytes(piece.filled))
        return got

    got = asyncio.run(work())
    assert b"".join(got) == CONTENT[:1000]
    assert {len(one) for one in got[:-1]} == {250}


def test_bodies_that_come_together_have_smaller_pieces() -> None:
    sizes = [len(make_pieces(others)[0].room) for others in range(60)]
    assert (sizes[0], sizes[-1], len(make_pieces(0))) == (MOST_PIECE_BYTES, LEAST_PIECE_BYTES, PIECES)
    assert sum(sizes) * PIECES < 100 * 2**20


def test_a_strand_keeps_the_order_and_shares_its_threads() -> None:
    seen: list[tuple[int, int]] = []
    with ThreadPoolExecutor(2) as pool:
        strands = [Strand(pool) for _ in range(5)]
        for number in range(100):
            for which, strand in enumerate(strands):
                strand.put(lambda which=which, number=number: seen.append((which, number)))  # type: ignore[misc]
        done = [threading.Event() for _ in strands]
        for strand, event in zip(strands, done, strict=True):
            strand.put(lambda event=event: event.set())  # type: ignore[misc]
        assert all(event.wait(20) for event in done)
    for which in range(5):
        assert [number for strand, number in seen if strand == which] == list(range(100))
