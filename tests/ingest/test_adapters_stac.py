"""The STAC adapter against small servers that page as pgstac and as stac-server do."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.errors import UpstreamChanged
from ingest.model import Cursor, Query
from tests.ingest.stac_server import START, Server, feature, ids, read


@pytest.mark.parametrize("dialect", ["pgstac", "stac-server"])
@pytest.mark.parametrize("number", [0, 1, 10, 20, 47])
async def test_every_item_once_in_order(dialect: str, number: int) -> None:
    items = [feature(n, n) for n in random.Random(2).sample(range(number), number)]
    pages = await read(Server(items, dialect))
    assert ids(pages) == [f"item-{n:04d}" for n in range(number)]
    assert not pages or pages[0].total == number


async def test_a_get_search_carries_the_same_question() -> None:
    server = Server([feature(n, n) for n in range(5)])
    box = (1.0, 2.0, 3.0, 4.0)
    await read(server, query=Query(START, START + timedelta(days=1), box), method="GET")
    asked = server.bodies[0]
    assert asked["collections"] == "sentinel-2-l2a"
    assert asked["sortby"] == "+properties.published"
    assert asked["bbox"] == "1.0,2.0,3.0,4.0"
    assert asked["filter-lang"] == "cql2-text"
    assert asked["filter"] == (
        "\"published\" >= TIMESTAMP('2026-01-01T00:00:00.000000Z') AND "
        "\"published\" < TIMESTAMP('2026-01-02T00:00:00.000000Z')"
    )


async def test_a_box_across_the_antimeridian_is_two_polygons() -> None:
    server = Server([])
    await read(server, query=Query(bbox=(170.0, -10.0, -170.0, 10.0)))
    assert "bbox" not in server.bodies[0]
    assert [part[0][0][0] for part in server.bodies[0]["intersects"]["coordinates"]] == [170.0, -180.0]


@pytest.mark.parametrize("filter_", ["cql2", "query"])
async def test_bounds_in_both_filter_languages(filter_: str) -> None:
    server = Server([feature(n, n) for n in range(50)])
    query = Query(START + timedelta(seconds=10), START + timedelta(seconds=20))
    assert len(ids(await read(server, query=query, filter=filter_))) == 10


@settings(max_examples=60, deadline=None)
@given(
    times=st.lists(st.integers(0, 12), max_size=60),
    page_size=st.integers(1, 7),
    stop_after=st.integers(1, 6),
    dialect=st.sampled_from(["pgstac", "stac-server"]),
)
async def test_a_run_that_stops_anywhere_resumes_without_loss(
    times: list[int], page_size: int, stop_after: int, dialect: str
) -> None:
    """Within one instant larger than what a run reads it may repeat, never lose: the loop drops what it holds."""
    server = Server([feature(n, seconds) for n, seconds in enumerate(times)], dialect)
    found: list[str] = []
    cursor: Cursor | None = None
    for _ in range(200):
        pages = await read(server, cursor, page_size=page_size, stop_after=stop_after)
        found += ids(pages)
        if len(pages) < stop_after or pages[-1].cursor == cursor:
            break
        cursor = pages[-1].cursor
    found += ids(await read(server, cursor, page_size=page_size))
    assert set(found) == {item["id"] for item in server.items}
    assert len(set(found)) == len(server.items)


async def test_a_source_that_does_not_sort_is_read_whole_and_never_resumed_in_the_middle() -> None:
    items = [feature(n, n) for n in random.Random(3).sample(range(40), 40)]
    pages = await read(Server(items, is_sorted=False))
    assert sorted(ids(pages)) == [f"item-{n:04d}" for n in range(40)]
    assert pages[-1].cursor == {"watermark": None, "seen": []}


@pytest.mark.parametrize("broken", ["same link", "same page"])
async def test_a_server_that_knows_one_page_only_is_noticed(broken: str) -> None:
    asked = 0

    def circle(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        href = "https://example.org/v1/search?token=" + ("1" if broken == "same link" else str(asked))
        link = {"rel": "next", "href": href}
        return httpx.Response(200, json={"features": [feature(1, 1)], "links": [link]})

    with pytest.raises(UpstreamChanged, match=r"2026-01-01T00:00:01|published"):
        await read(circle)
    assert asked < 10


@pytest.mark.parametrize(
    "answer",
    [
        {"items": []},
        {"features": [1]},
        {"features": [{"type": "Feature"}]},
        {"features": [feature(1, 1)], "links": [{"rel": "next", "href": "https://internal.example.net/v1"}]},
        {"features": [feature(1, 1)], "links": [{"rel": "next", "method": "DELETE", "href": "/v1/search"}]},
        {"features": [feature(1, 1)], "links": [{"rel": "next"}]},
    ],
)
async def test_an_answer_of_another_shape_stops_the_run(answer: dict[str, Any]) -> None:
    with pytest.raises(UpstreamChanged):
        await read(lambda request: httpx.Response(200, json=answer))
