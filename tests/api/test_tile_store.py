"""Stores of kept tiles and single flight, alone."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.tiles.single_flight import SingleFlight
from api.tiles.tile_store import Disk, Kept, Memory


def kept(body: bytes) -> Kept:
    return Kept("/{z}", ((b"content-type", b"image/png"),), b'"1"', body)


@given(st.binary(max_size=300), st.integers(0, 400), st.integers(1, 255))
def test_a_file_with_one_changed_byte_is_no_answer(body: bytes, place: int, change: int) -> None:
    data = bytearray(kept(body).pack())
    assert Kept.unpack(bytes(data)) == kept(body)
    data[place % len(data)] ^= change
    assert Kept.unpack(bytes(data)) is None
    assert Kept.unpack(bytes(data[: place % len(data)])) is None


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 900)), max_size=40))
def test_memory_holds_the_latest_and_never_more_than_it_may(puts: list[tuple[int, int]]) -> None:
    memory = Memory(6000)
    for number, size in puts:
        memory.put(str(number), kept(b"x" * size))
        assert memory.bytes <= 6000
        assert memory.get(str(number)) == kept(b"x" * size)


def test_disk_stays_within_its_bytes_and_drops_what_was_not_asked_for_longest(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "tiles", 400_000)
    for number in range(200):
        key = f"{number:064d}"[::-1]
        disk.put(key, kept(bytes([number]) * 3000))
        os.utime(disk._path(key), (number, number))
    files = [file for file in (tmp_path / "tiles").rglob("*") if file.is_file()]
    assert sum(file.stat().st_blocks * 512 for file in files) <= 400_000
    assert disk.get(f"{199:064d}"[::-1]) == kept(bytes([199]) * 3000)
    assert disk.get(f"{0:064d}"[::-1]) is None


def test_a_disk_that_cannot_be_written_keeps_nothing_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Disk(tmp_path, 400_000)
    (tmp_path / "aa").write_text("in the way")
    disk.put("aa" + "0" * 62, kept(b"1"))
    assert disk.get("aa" + "0" * 62) is None
    assert "cannot be kept" in caplog.text


def test_what_has_an_age_is_not_given_once_it_is_over(tmp_path: Path) -> None:
    disk, memory, now = Disk(tmp_path, 400_000), Memory(6000), time.time()
    for key, until in (("a" * 64, now + 1000), ("b" * 64, now)):
        one = replace(kept(b"1"), until=until)
        assert Kept.unpack(one.pack()) == one
        for store in (disk, memory):
            store.put(key, one)
            assert store.get(key) == (one if until > now else None)
            store.put(key, kept(b"new"))
            assert store.get(key) == kept(b"new")


def test_a_folder_that_cannot_be_made_only_means_that_nothing_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    disk = Disk(tmp_path / "file" / "tiles", 400_000)
    for _ in range(2):
        disk.put("aa" + "0" * 62, kept(b"1"))
    assert disk.get("aa" + "0" * 62) is None
    assert "cannot be kept" in caplog.text


async def test_work_goes_on_while_anybody_waits_and_ends_when_all_have_gone() -> None:
    flights: SingleFlight[str, int] = SingleFlight()
    started, may_end, runs = asyncio.Event(), asyncio.Event(), []

    async def work() -> int:
        runs.append(1)
        started.set()
        await may_end.wait()
        return len(runs)

    first, second = (asyncio.create_task(flights.do("a", work)) for _ in range(2))
    await started.wait()
    first.cancel()
    await asyncio.wait({first})
    may_end.set()
    assert await second == (1, False)
    may_end.clear()
    third = asyncio.create_task(flights.do("a", work))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    third.cancel()
    await asyncio.wait({third})
    assert len(flights) == 0
    may_end.set()
    assert await flights.do("a", work) == (3, True)


async def test_whoever_waits_gets_the_error_too() -> None:
    flights: SingleFlight[str, int] = SingleFlight()

    async def work() -> int:
        await asyncio.sleep(0)
        raise OSError("gone")

    results = await asyncio.gather(*(flights.do("a", work) for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in results] == [OSError] * 3
