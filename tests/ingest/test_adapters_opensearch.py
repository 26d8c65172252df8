"""The OpenSearch adapter along publication: against a service that orders, caps, cuts and promises as Copernicus did."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from xml.etree import ElementTree

import httpx
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Mount

from ingest.adapters.opensearch import OpenSearch
from ingest.adapters.opensearch_search import Question, Search
from ingest.errors import SourceInvalid, UpstreamChanged
from ingest.http import Patience, open_client
from ingest.model import CollectionMapping, Cursor, Query
from tests.ingest.opensearch_runs import COPERNICUS, SOURCE, START, Changing, at, ids, ids_of, invented, read
from tests.shared import shared_path
from tests.upstreams.opensearch import RestoService

MIXED = [0.0001 * n for n in range(35)] + [5.0] * 27 + [6.0, 6.001, 6.002, 7.0]


@pytest.mark.parametrize("includes", [True, False])
@pytest.mark.parametrize("digits", [0, 3, 6])
async def test_every_product_whatever_the_bounds_and_however_times_are_written(digits: int, includes: bool) -> None:
    offered = [invented(n, seconds) for n, seconds in enumerate(MIXED)]
    pages = await read(RestoService(offered, digits=digits, includes=includes), COPERNICUS)
    assert sorted(set(ids(pages))) == ids_of(offered)
    assert len(ids(pages)) < 1.2 * len(offered)


async def test_products_far_apart_come_once_and_in_order_of_publication() -> None:
    offered = [invented(n, n) for n in random.Random(1).sample(range(95), 95)]
    pages = await read(RestoService(offered), COPERNICUS, with_total=True)
    assert ids(pages) == [one.id for one in sorted(offered, key=lambda one: one.published)]
    assert pages[0].total == 95


@pytest.mark.parametrize("number", [0, 1, 10, 20])
async def test_full_pages_and_no_pages(number: int) -> None:
    assert len(ids(await read(RestoService([invented(n, n) for n in range(number)]), COPERNICUS))) == number


async def test_pages_cut_by_the_servers_own_limit_are_not_the_end() -> None:
    """It echoes what was asked for."""
    offered = [invented(n, n // 3) for n in range(60)]
    assert sorted(ids(await read(RestoService(offered, most_records=7), COPERNICUS))) == ids_of(offered)


@pytest.mark.parametrize("includes", [True, False])
async def test_more_at_one_instant_than_a_page_are_walked_along_their_start(includes: bool) -> None:
    crowd = [invented(n, 5, n // 4) for n in range(90)]
    offered = [*crowd, *(invented(1000 + n, n) for n in range(12))]
    pages = await read(RestoService(offered, includes=includes, max_offset=30), COPERNICUS, max_offset=30)
    assert sorted(set(ids(pages))) == ids_of(offered)
    assert len(ids(pages)) <= len(offered) + 20


async def test_more_than_a_page_with_all_times_alike_are_paged_through() -> None:
    offered = [invented(n, 5, 7) for n in range(29)]
    found = ids(await read(RestoService(offered, max_offset=30), COPERNICUS, max_offset=30))
    assert sorted(set(found)) == ids_of(offered)


async def test_products_that_nothing_tells_apart_fail_loud_and_name_the_place() -> None:
    service = RestoService([invented(n, 5, 7) for n in range(90)], max_offset=30)
    place = r"published at 2026-01-01T00:00:05\.000000Z with startDate 2026-01-01T00:00:07"
    with pytest.raises(UpstreamChanged, match=place):
        await read(service, COPERNICUS, max_offset=30)


@settings(max_examples=50, deadline=None)
@given(
    times=st.lists(st.integers(0, 12), max_size=50),
    page_size=st.integers(1, 9),
    stop_after=st.integers(1, 6),
    includes=st.booleans(),
)
async def test_a_run_that_stops_anywhere_resumes_without_loss(
    times: list[int], page_size: int, stop_after: int, includes: bool
) -> None:
    service = RestoService([invented(n, seconds) for n, seconds in enumerate(times)], includes=includes)
    found: list[str] = []
    cursor: Cursor | None = None
    for _ in range(200):
        pages = await read(service, COPERNICUS, cursor, page_size=page_size, stop_after=stop_after)
        found += ids(pages)
        if len(pages) < stop_after or pages[-1].cursor == cursor:
            break
        cursor = pages[-1].cursor
    found += ids(await read(service, COPERNICUS, cursor, page_size=page_size))
    assert sorted(set(found)) == sorted(one.id for one in service.offered)


async def test_from_every_pages_cursor_the_rest_follows() -> None:
    offered = [invented(n, seconds) for n, seconds in enumerate(MIXED)]
    service = RestoService(offered)
    pages = await read(service, COPERNICUS)
    for number in range(1, len(pages) + 1):
        rest = await read(service, COPERNICUS, pages[number - 1].cursor)
        assert set(ids(pages[:number])) | set(ids(rest)) == {one.id for one in offered}
    assert ids(await read(service, COPERNICUS, pages[-1].cursor)) == []


async def test_products_that_appear_vanish_or_move_shift_nothing() -> None:
    offered = [invented(n, 100 + n) for n in range(60)]
    service = RestoService(offered)

    def change(number: int, parameters: dict[str, str], answer: dict[str, Any]) -> dict[str, Any]:
        if number == 3:  # two late ones far behind, three of those already read deleted, one published anew
            anew = replace(offered[5], published=at(999))
            service.offer([*offered[6:], anew, invented(900, 1), invented(901, 2)])
        return answer

    found = ids(await read(service, COPERNICUS, change=change))
    assert set(found) == {one.id for one in offered}
    assert found.count(offered[5].id) == 2


async def test_the_last_product_published_anew_comes_again() -> None:
    offered = [invented(n, n) for n in range(10)]
    service = RestoService(offered)

    def change(number: int, parameters: dict[str, str], answer: dict[str, Any]) -> dict[str, Any]:
        if number == 1:
            service.offer([*offered[:9], replace(offered[9], published=at(999))])
        return answer

    assert ids(await read(service, COPERNICUS, change=change)).count(offered[9].id) == 2


@pytest.mark.parametrize("empty", range(2, 12))
async def test_an_answer_that_is_empty_for_once_is_not_the_end(empty: int) -> None:
    def change(number: int, parameters: dict[str, str], answer: dict[str, Any]) -> dict[str, Any]:
        return {**answer, "features": []} if number == empty else answer

    offered = [invented(n, n // 4) for n in range(70)]
    assert sorted(set(ids(await read(RestoService(offered), COPERNICUS, change=change)))) == ids_of(offered)


@pytest.mark.parametrize("repeated", range(2, 12))
async def test_a_page_that_comes_again_loses_nothing(repeated: int) -> None:
    """Some cache gives the answer to the last question."""
    last: dict[str, Any] = {}

    def change(number: int, parameters: dict[str, str], answer: dict[str, Any]) -> dict[str, Any]:
        nonlocal last
        last, before = answer, last
        return before if number == repeated else answer

    offered = [invented(n, n // 4) for n in range(70)]
    assert sorted(set(ids(await read(RestoService(offered), COPERNICUS, change=change)))) == ids_of(offered)


@pytest.mark.parametrize("ignored", ["publishedAfter", "publishedBefore", "index", "sortParam", "sortOrder"])
async def test_a_server_that_ignores_a_parameter_is_noticed(ignored: str) -> None:
    class Deaf(RestoService):
        def _rows(self, collection: str, query: dict[str, str]) -> Any:
            return super()._rows(collection, {name: value for name, value in query.items() if name != ignored})

        def _page(self, request: Any, collection: str, query: dict[str, str]) -> Any:
            return super()._page(request, collection, {n: v for n, v in query.items() if (n, ignored) != ("index", n)})

    service = Deaf([invented(n, (n * 7) % 40 // 20 * 100, (n * 11) % 40) for n in range(40)])
    with pytest.raises(UpstreamChanged, match=r"publish|index|order"):
        await read(service, COPERNICUS)


async def test_links_are_never_followed() -> None:
    def change(number: int, parameters: dict[str, str], answer: dict[str, Any]) -> dict[str, Any]:
        links = [{"rel": "next", "href": "http://internal.example.net/"}, {"rel": "next", "href": "?page=1"}]
        return {**answer, "properties": {**answer["properties"], "links": links}}

    offered = [invented(n, n) for n in range(35)]
    transport = Changing(RestoService(offered), change)
    adapter = OpenSearch(SOURCE, CollectionMapping("sentinel-2-l1c", COPERNICUS), page_size=10)
    async with open_client(SOURCE, Patience(attempts=1), transport) as http:
        assert len(ids([page async for page in adapter.pages(http, None)])) == 35
    assert transport.hosts == {"resto.test"}


async def test_limits_of_time_and_place() -> None:
    offered = [invented(n, n) for n in range(50)]
    service = RestoService(offered)
    query = Query(at(10), at(20))
    assert sorted(ids(await read(service, COPERNICUS, query=query))) == ids_of(offered[9:20][1:])
    inside = [one for one in offered if one.tile is not None and -60 < one.tile.ring[0][0] < 120]
    found = ids(await read(service, COPERNICUS, query=Query(bbox=(-60.0, -90.0, 120.0, 90.0))))
    assert set(ids_of(inside)) <= set(found) < {one.id for one in offered}
    assert service.questions[-1]["box"] == "-60.0,-90.0,120.0,90.0"
    across = ids(await read(service, COPERNICUS, query=Query(bbox=(120.0, -90.0, -60.0, 90.0))))
    assert set(across) | set(found) == {one.id for one in offered}
    assert service.questions[-1]["geometry"].startswith("MULTIPOLYGON(((120.000000 -90.000000,180.000000")


async def test_asked_in_the_words_of_the_describe_document() -> None:
    service = RestoService([invented(n, 5, n) for n in range(40)])
    upstream = {**COPERNICUS, "parameters": {"status": "ALL"}}
    await read(service, upstream, query=Query(START, at(99), (0.0, 0.0, 180.0, 90.0)), with_total=True)
    asked = {name for question in service.questions for name in question}
    app = Starlette(routes=[Mount("/resto", routes=service.routes())])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://resto.test/resto") as http:
        described = ElementTree.fromstring((await http.get("/api/collections/SENTINEL-2/describe.xml")).content)
    assert asked <= {node.attrib["name"] for node in described.iter() if node.tag.endswith("Parameter")}
    assert {"status", "productType", "publishedAfter", "publishedBefore", "sortParam", "index"} <= asked
    assert "page" not in asked


async def test_a_refused_question_tells_why() -> None:
    service = RestoService([invented(1, 1)])
    with pytest.raises(UpstreamChanged, match="Unknown query parameter"):
        await read(service, {**COPERNICUS, "parameters": {"productsType": "X"}})
    with pytest.raises(UpstreamChanged, match="Unknown collection"):
        await read(service, {"collection": "SENTINEL-9?x&y"})


@pytest.mark.parametrize(
    "answer",
    [
        {"type": "FeatureCollection"},
        {"features": {}},
        {"features": None, "properties": None},
        {"features": ["text"]},
        {"features": [{"id": "a"}]},
        {"features": [{"id": "a", "properties": []}]},
        {"features": [{"id": 7, "properties": {"published": "2026-01-01T00:00:00Z"}}]},
        {"features": [{"id": "", "properties": {"published": "2026-01-01T00:00:00Z"}}]},
        {"features": [{"id": "a", "properties": {}}]},
        {"features": [{"id": "a", "properties": {"published": 5}}]},
        {"features": [{"id": "a", "properties": {"published": "yesterday"}}]},
        {"features": [{"id": "a", "properties": {"published": "0001-01-01T00:00:00+14:00"}}]},
        {"features": [{"id": n, "properties": {"published": f"2026-01-0{n}T00:00:00Z"}} for n in "21"]},
        [],
        "text",
        None,
    ],
)
async def test_an_answer_of_another_shape_stops_the_run(answer: Any) -> None:
    with pytest.raises(UpstreamChanged):
        await read(RestoService([invented(1, 1)]), COPERNICUS, change=lambda *_: answer, with_total=True)


async def test_recorded_pages_are_understood() -> None:
    """Their shapes, totals and order; the last is startDate, newest first, or none that anyone asked for."""
    known = {"search_s1_page_1.json": (10, 48, True), "copdem_page2_empty.json": (0, None, False)}
    known |= {"peps_search.json": (2, 47, True), "unreliable_paging_values.json": (4, None, False)}
    for folder in ("cdse-opensearch", "resto-family"):
        for path in sorted(shared_path("upstreams", "recordings", folder).glob("*.json")):
            page = orjson.loads(path.read_bytes())
            if "features" not in page:
                continue
            search = Search(SOURCE, CollectionMapping("any", COPERNICUS), 10)
            transport = Changing(RestoService([]), lambda *_, page=page: page)  # type: ignore[misc]
            async with open_client(SOURCE, Patience(attempts=1), transport) as http:
                answer = await search.ask(http, Question(()))
            assert len(answer.rows) == len(page["features"])
            assert all(row.at("published") for row in answer.rows)
            found = (len(answer.rows), answer.total, answer.is_exact)
            assert known.pop(path.name, found) == found
    assert known == {}


@pytest.mark.parametrize("total", [None, -1, True, "47", 3.5, [], {}])
async def test_a_total_that_is_no_number_is_none(total: Any) -> None:
    def change(number: int, parameters: dict[str, str], answer: dict[str, Any]) -> dict[str, Any]:
        return {**answer, "properties": {"totalResults": total, "exactCount": [1]} if number > 1 else total}

    pages = await read(RestoService([invented(1, 1)]), COPERNICUS, change=change, with_total=True)
    assert [page.total for page in pages] == [None]


def test_a_new_run_begins_an_overlap_before_the_last_and_before_its_start() -> None:
    adapter = OpenSearch(SOURCE, CollectionMapping("sentinel-2-l1c", COPERNICUS))
    cursor: Cursor = {"published": "2026-01-02T00:00:00.000Z", "seen": ["a"]}
    rewound = adapter.rewound(cursor, timedelta(hours=24), datetime.fromisoformat("2026-06-01T00:00:00Z"))
    assert rewound == {"published": "2026-01-01T00:00:00.000000Z", "seen": []}
    ahead = adapter.rewound(cursor, timedelta(hours=24), datetime.fromisoformat("2025-06-02T00:00:00Z"))
    assert ahead["published"] == "2025-06-01T00:00:00.000000Z"


@pytest.mark.parametrize(
    ("upstream", "message"),
    [({"sort": "cloudCover"}, "sort"), ({"parameters": ["a"]}, "table"), ({"parameters": {"index": 7}}, "index")],
)
def test_a_wrong_setting_names_itself(upstream: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceInvalid, match=message):
        OpenSearch(SOURCE, CollectionMapping("sentinel-2-l1c", {**COPERNICUS, **upstream}))
