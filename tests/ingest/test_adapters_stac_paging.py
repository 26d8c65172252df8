"""The STAC adapter where next links fail: nothing is lost, and what cannot be read is said loudly."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.adapters.stac import Stac
from ingest.adapters.stac_search import next_instant, rfc3339, watermark_of
from ingest.errors import SourceInvalid, UpstreamChanged
from ingest.model import Cursor, Query
from tests.ingest.stac_server import SOURCE, START, Server, feature, ids, mapping, read

DIALECTS = ["pgstac", "stac-server"]


def everything(server: Server) -> set[str]:
    return {item["id"] for item in server.items}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("filter_", ["cql2", "query"])
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_full_pages_without_next_links_are_not_the_end(dialect: str, filter_: str, method: str) -> None:
    server = Server([feature(n, n // 3) for n in range(100)], dialect)
    server.drop_link = lambda request: True
    pages = await read(server, filter=filter_, method="POST" if filter_ == "cql2" else method)
    assert Counter(ids(pages)) == Counter(everything(server))
    assert len(server.bodies) < 30


@pytest.mark.parametrize("bent", ["drop_link", "loop_link"])
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_links_that_fail_now_and_then_cost_nothing(bent: str, dialect: str) -> None:
    server = Server([feature(n, n // 4) for n in range(200)], dialect)
    setattr(server, bent, lambda request: request % 3 == 1)
    assert Counter(ids(await read(server))) == Counter(everything(server))


@settings(max_examples=80, deadline=None)
@given(
    times=st.lists(st.integers(0, 6), max_size=60),
    page_size=st.integers(2, 7),
    stop_after=st.integers(1, 6),
    dialect=st.sampled_from(DIALECTS),
    bent=st.sampled_from(["drop_link", "loop_link"]),
    seed=st.integers(0, 99),
)
async def test_a_run_that_stops_anywhere_resumes_without_loss_though_links_fail(
    times: list[int], page_size: int, stop_after: int, dialect: str, bent: str, seed: int
) -> None:
    server = Server([feature(n, seconds) for n, seconds in enumerate(times)], dialect)
    dice = random.Random(seed)
    setattr(server, bent, lambda request: dice.random() < 0.4)
    found: list[str] = []
    cursor: Cursor | None = None
    for _ in range(300):
        pages = await read(server, cursor, page_size=page_size, stop_after=stop_after)
        found += ids(pages)
        if len(pages) < stop_after:
            break
        cursor = pages[-1].cursor
    assert set(found) == everything(server)
    assert len(found) <= 3 * len(server.items)


async def test_every_cursor_is_a_place_to_resume() -> None:
    server = Server([feature(n, 0 if n < 60 else n) for n in range(100)])
    server.drop_link = lambda request: True
    pages = await read(server)
    assert any("after" in page.cursor for page in pages), "the crowd at the first instant is walked by id"
    for number, page in enumerate(pages):
        rest = ids(await read(server, page.cursor))
        assert set(rest) | set(ids(pages[: number + 1])) == everything(server)


async def test_an_instant_larger_than_a_page_is_walked_by_id_with_a_small_cursor() -> None:
    server = Server([feature(n, 5) for n in range(500)] + [feature(1000 + n, n) for n in range(20)])
    server.drop_link = lambda request: True
    pages = await read(server)
    assert set(ids(pages)) == everything(server)
    assert len(ids(pages)) == len(server.items)
    assert max(len(str(page.cursor)) for page in pages) < 1000


@pytest.mark.parametrize("filter_", ["cql2", "query"])
async def test_an_instant_that_cannot_be_searched_by_id_fails_loud_and_is_named(filter_: str) -> None:
    server = Server([feature(n, 5) for n in range(50)], knows_ids=False)
    server.drop_link = lambda request: True
    with pytest.raises(UpstreamChanged, match=r"2026-01-01T00:00:05.*cannot be told apart"):
        await read(server, filter=filter_)


async def test_a_source_without_order_and_without_links_fails_loud() -> None:
    server = Server([feature(n, n) for n in random.Random(3).sample(range(45), 45)], is_sorted=False)
    server.drop_link = lambda request: request == 2
    with pytest.raises(UpstreamChanged, match="no way to read the rest"):
        await read(server)


async def test_a_source_without_order_may_end_with_a_full_page_when_its_total_says_so() -> None:
    server = Server([feature(n, n) for n in random.Random(3).sample(range(40), 40)], is_sorted=False)
    assert set(ids(await read(server))) == everything(server)
    server.says_total = False
    with pytest.raises(UpstreamChanged):
        await read(server)


async def test_items_that_appear_and_vanish_while_reading_shift_nothing() -> None:
    server = Server([feature(n, 100 + n // 5) for n in range(80)])
    server.drop_link = lambda request: True

    def change(request: int) -> None:
        if request == 3:  # late ones far behind, three of those already read deleted
            server.items = [*server.items[3:], feature(900, 1), feature(901, 2)]

    server.before_answer = change
    assert set(ids(await read(server))) >= {f"item-{n:04d}" for n in range(80)}


async def test_the_item_that_a_walk_by_id_stands_at_may_be_deleted() -> None:
    server = Server([feature(n, 5) for n in range(60)])
    server.drop_link = lambda request: True
    pages = await read(server, stop_after=4)
    after = pages[-1].cursor["after"]
    server.items = [item for item in server.items if item["id"] != after]
    rest = ids(await read(server, pages[-1].cursor))
    assert set(rest) | set(ids(pages)) >= everything(server)


# Collections that are walked by id alone


async def test_a_collection_without_times_is_walked_by_id() -> None:
    server = Server([feature(n, 0) for n in random.Random(1).sample(range(57), 57)])
    pages = await read(server, watermark="id", filter="query")
    assert ids(pages) == [f"item-{n:04d}" for n in range(57)]
    for number, page in enumerate(pages):
        rest = ids(await read(server, page.cursor, watermark="id", filter="query"))
        assert ids(pages[: number + 1]) + rest == ids(pages)


async def test_a_walk_by_id_that_the_server_does_not_understand_fails_loud() -> None:
    server = Server([feature(n, 0) for n in range(57)], knows_ids=False)
    with pytest.raises(UpstreamChanged, match="by id"):
        await read(server, watermark="id", filter="query")


async def test_a_collection_without_times_cannot_be_limited_by_time() -> None:
    with pytest.raises(SourceInvalid, match="no times"):
        await read(Server([]), watermark="id", query=Query(since=START))


async def test_a_new_run_of_a_collection_without_times_begins_at_the_start() -> None:
    adapter = Stac(SOURCE, mapping(watermark="id"))
    cursor: Cursor = {"watermark": None, "seen": [], "after": "item-0009"}
    assert adapter.rewound(cursor, timedelta(hours=1), START) == {"watermark": None, "seen": []}


# What is asked


async def test_several_upstream_collections_are_one_question() -> None:
    server = Server([feature(1, 1)])
    await read(server, collection=["landsat-c2l2-sr", "landsat-c2l2-st"])
    assert server.bodies[0]["collections"] == ["landsat-c2l2-sr", "landsat-c2l2-st"]
    await read(server, collection=["a", "b"], method="GET", filter="query")
    assert server.bodies[1]["collections"] == "a,b"


def test_an_interval_is_walked_by_its_begin() -> None:
    """pgstac sorts and bounds `datetime` by the begin of an interval."""
    times = {"start_datetime": "2026-01-01T00:00:00Z", "end_datetime": "2026-01-01T00:00:25Z"}
    item = {"properties": {**times, "datetime": "2026-01-01T00:00:12Z", "updated": "2026-02-01T00:00:00Z"}}
    assert watermark_of(item, "datetime") == times["start_datetime"]
    assert watermark_of({"properties": {"datetime": "2026-01-01T00:00:12Z"}}, "datetime") == "2026-01-01T00:00:12Z"
    assert watermark_of(item, "updated") == "2026-02-01T00:00:00Z"


@pytest.mark.parametrize(
    ("text", "following"),
    [
        ("2026-01-01T00:00:05Z", "2026-01-01T00:00:06.000000Z"),
        ("2026-01-01T00:00:05.120Z", "2026-01-01T00:00:05.121000Z"),
        ("2026-01-01T00:00:05.123456Z", "2026-01-01T00:00:05.123457Z"),
        ("2026-01-01 02:00:05.123456+02:00", "2026-01-01T00:00:05.123457Z"),
    ],
)
def test_the_next_instant_is_one_that_the_source_can_write(text: str, following: str) -> None:
    assert rfc3339(next_instant(text)) == following


@pytest.mark.parametrize(
    "answer",
    [
        {"features": {}},
        {"features": [feature(1, 1)], "links": {"rel": "next"}},
        {"features": [feature(1, 1)], "links": 7},
        {"features": [{"id": "a", "properties": [1]}]},
        {"features": [{"id": "a", "properties": {"published": 7}}]},
        {"features": [{"id": "a", "properties": {"published": "0001-01-01T00:00:00+14:00"}}]},
        {"features": [feature(1, 1)], "links": [{"rel": "next", "href": "https://[::1", "method": "GET"}]},
        {"features": [feature(1, 1)], "links": [{"rel": "next", "href": "/v1/search", "method": 5}]},
        {"features": [feature(1, 1)], "links": [{"rel": "next", "href": "/v1/search", "method": "POST", "body": "x"}]},
        {"features": [feature(1, 1)], "context": 3, "numberMatched": "many"},
    ],
)
async def test_no_answer_raises_anything_but_upstream_changed(answer: dict[str, Any]) -> None:
    with suppress(UpstreamChanged):
        await read(lambda request: httpx.Response(200, json=answer))
