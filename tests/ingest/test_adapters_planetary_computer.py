"""The STAC adapter against a real server in Planetary Computer's dialect: links missing, items twice, faults, an end at any moment."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ingest.adapters import adapter_for
from ingest.http import Patience, open_client
from ingest.model import Cursor, Page, Query, Source
from ingest.source_files import read_source
from tests.size import sized
from tests.upstreams import Upstreams, serve, source_files
from tests.upstreams.planetary_computer import planetary_entries
from tests.upstreams.products import FEDERATED, catalogue

KINDS = {"sentinel-2-l2a": "L2A", "sentinel-1-grd": "GRD"}


def source_of(upstreams: Upstreams, folder: Path) -> Source:
    (folder / "x.toml").write_text(source_files(upstreams.url)["demo-planetary-computer.toml"], encoding="utf-8")
    return read_source(folder / "x.toml")


def expected(number: int, collection: str) -> set[str]:
    return {entry.id for entry in planetary_entries(catalogue(number)) if entry.collection == collection}


async def read(
    source: Source, collection: str, cursor: Cursor | None = None, *, query: Query | None = None, page_size: int = 60
) -> list[Page]:
    mapping = next(one for one in source.collections if one.id == collection)
    adapter = adapter_for(source, mapping, query, page_size)
    pages: list[Page] = []
    async with open_client(source, Patience(attempts=8, base_s=0)) as http:
        async for page in adapter.pages(http, cursor):
            pages.append(page)
    return pages


def ids(pages: list[Page]) -> list[str]:
    return [record.id for page in pages for record in page.records]


@pytest.mark.parametrize("collection", sorted(KINDS))
async def test_everything_is_read_once_through_all_faults(tmp_path: Path, collection: str) -> None:
    with serve(products=800) as upstreams:
        source = source_of(upstreams, tmp_path)
        for number, kind in enumerate(("429", "500", "503", "html", "cut", "reset")):
            upstreams.control.fail(kind, after=number, retry_after=0 if kind == "429" else None)
        pages = await read(source, collection, page_size=20)
        assert upstreams.control.state()["faults"] == []
    assert Counter(ids(pages)) == Counter(expected(800, collection))


async def test_every_cursor_is_a_place_to_resume(tmp_path: Path) -> None:
    with serve(products=400) as upstreams:
        source = source_of(upstreams, tmp_path)
        pages = await read(source, "sentinel-1-grd", page_size=10)
        for number, page in enumerate(pages):
            rest = ids(await read(source, "sentinel-1-grd", page.cursor, page_size=10))
            done = ids(pages[: number + 1])
            assert set(done) | set(rest) == expected(400, "sentinel-1-grd")
            assert not set(done) & set(rest)


async def test_limits_of_time_and_place(tmp_path: Path) -> None:
    """There is no time of publication: the limits are about acquisition."""
    since, until = datetime(2024, 11, 1, tzinfo=UTC), datetime(2025, 3, 1, tzinfo=UTC)
    offered = [entry.product for entry in planetary_entries(catalogue(800)) if entry.collection == "sentinel-2-l2a"]
    with serve(products=800) as upstreams:
        source = source_of(upstreams, tmp_path)
        timely = ids(await read(source, "sentinel-2-l2a", query=Query(since, until), page_size=15))
        northern = ids(await read(source, "sentinel-2-l2a", query=Query(bbox=(-180.0, 0.0, 180.0, 90.0)), page_size=15))
    assert len(timely) == sum(since <= product.start < until for product in offered) > 20
    assert 0 < len(northern) < len(offered)


async def test_a_second_run_reads_the_overlap_again_and_nothing_else(tmp_path: Path) -> None:
    with serve(products=400) as upstreams:
        source = source_of(upstreams, tmp_path)
        first = await read(source, "sentinel-2-l2a")
        adapter: Any = adapter_for(source, source.collections[0])
        begin = adapter.rewound(first[-1].cursor, timedelta(days=30), datetime(2026, 1, 1, tzinfo=UTC))
        again = ids(await read(source, "sentinel-2-l2a", begin))
    starts = sorted(e.product.start for e in planetary_entries(catalogue(400)) if e.collection == "sentinel-2-l2a")
    assert len(again) == sum(start >= starts[-1] - timedelta(days=30) for start in starts) > 0


@pytest.mark.slow
async def test_a_large_collection(tmp_path: Path) -> None:
    many = sized(8_000, 25_000)
    with serve(products=many) as upstreams:
        source = source_of(upstreams, tmp_path)
        pages = await read(source, "sentinel-2-l2a", page_size=500)
    assert Counter(ids(pages)) == Counter(expected(many, "sentinel-2-l2a"))
    assert max(len(str(page.cursor)) for page in pages) < 10_000


def test_the_collections_are_those_that_are_offered() -> None:
    assert {FEDERATED[kind] for kind in KINDS.values()} == set(KINDS)
