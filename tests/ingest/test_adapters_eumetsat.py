"""The EUMETSAT adapter against a Data Store that pages, caps and shuffles as the real one."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import box, shape

from ingest.adapters import adapter_for
from ingest.adapters.eumetsat import Eumetsat
from ingest.collection_files import collections
from ingest.errors import RecordRejected, SourceInvalid, UpstreamChanged
from ingest.http import Patience, open_client
from ingest.model import CollectionMapping, Cursor, Query, Source
from ingest.source_files import find_source, load_sources
from tests.ingest.sensed_harvest import PATH, app_of, ids, read, served
from tests.size import sized
from tests.upstreams.eumetsat import EumetsatService
from tests.upstreams.marine import COLLECTIONS, FEDERATED, Marine, marine, marine_catalogue

OFFERED = marine_catalogue(400)
WFR = [one for one in OFFERED if one.kind == "WFR"]
URL = f"http://127.0.0.1{PATH}"
SOURCE = Source("store", "Store", "eumetsat", URL, requests_per_second=1e6)
T = datetime(2026, 1, 1, tzinfo=UTC)
UPSTREAM: dict[str, Any] = {"collection": list(COLLECTIONS["WFR"])}


def adapter(query: Query | None = None, source: Source = SOURCE, **options: Any) -> Eumetsat:
    upstream = options.pop("upstream", UPSTREAM)
    return Eumetsat(source, CollectionMapping(FEDERATED["WFR"], upstream), query, **{"page_size": 20} | options)


def names(products: list[Marine]) -> Counter[str]:
    return Counter(one.name for one in products)


def at(number: int, published_ms: int) -> Marine:
    """A product of the first collection, published at a chosen time."""
    collection = UPSTREAM["collection"][0]
    return replace(marine(4 * number), collection=collection, published=T + timedelta(milliseconds=published_ms))


async def test_every_product_once_in_order_of_publication_and_their_number_beforehand() -> None:
    pages = await read(adapter(), SOURCE, service=EumetsatService(OFFERED))
    assert names(WFR) == Counter(ids(pages))
    assert {page.total for page in pages} == {len(WFR)}
    published = {one.name: (one.collection, one.published) for one in WFR}
    assert [published[one] for one in ids(pages)] == sorted(published.values())


async def test_everything_is_read_once_through_all_faults() -> None:
    with served(EumetsatService(OFFERED)) as (url, control):
        for number, kind in enumerate(("429", "500", "html", "cut", "reset", "503")):
            control.fail(kind, after=2 * number, retry_after=0 if kind == "429" else None)
        source = replace(SOURCE, url=url)
        pages = await read(adapter(source=source), source)
        assert control.state()["faults"] == []
    assert names(WFR) == Counter(ids(pages))


async def test_the_request_is_as_the_operators_client_sends_it() -> None:
    service = EumetsatService(OFFERED)
    query = Query(T - timedelta(days=300), T, (-10.0, -20.0, 30.0, 40.0))
    await read(adapter(query, page_size=1000, upstream={"collection": "EO:EUM:DAT:0407"}), SOURCE, service=service)
    geo = "POLYGON((-10.000000 -20.000000,30.000000 -20.000000,30.000000 40.000000,-10.000000 40.000000,-10.000000 -20.000000))"
    common = {
        "format": "json", "pi": "EO:EUM:DAT:0407", "si": "0", "sort": "publicationDate,,1", "geo": geo,
        "publication": "[2025-03-07T00:00:00.000Z,2025-12-31T23:59:59.999Z]",
    }  # fmt: skip
    assert service.asked == [{**common, "c": "0"}, {**common, "c": "500"}]


@pytest.mark.parametrize(
    ("query", "bounds"),
    [(Query(since=T), "[2026-01-01T00:00:00.000Z"), (Query(until=T), "2025-12-31T23:59:59.999Z]"), (Query(), None)],
)
async def test_open_bounds(query: Query, bounds: str | None) -> None:
    service = EumetsatService(OFFERED)
    await read(adapter(query, with_total=False), SOURCE, service=service)
    assert service.asked[0].get("publication") == bounds


# Ties, and products that move


async def test_an_instant_with_more_than_a_page_is_read_whole_whatever_the_order_of_equal_times() -> None:
    crowd = [at(200 + n, 0 if n < 150 else n) for n in range(180)]
    found = ids(await read(adapter(), SOURCE, service=EumetsatService([*crowd, *WFR], shuffle=random.Random(1))))
    assert Counter(found) == names([*crowd, *WFR])


async def test_products_that_nothing_tells_apart_are_paged_to_the_cap_and_fail_loud_beyond_it() -> None:
    crowd = [at(200 + n, 0) for n in range(101)]
    service = EumetsatService([*crowd[:100], *WFR], max_rows=100)
    assert set(ids(await read(adapter(max_rows=100, page_size=30), SOURCE, service=service))) == set(
        names([*crowd[:100], *WFR])
    )
    service.offer([*crowd, *WFR])
    named = r"store: publicationDate 2026-01-01T00:00:00\+00:00: more than 100 rows"
    with pytest.raises(UpstreamChanged, match=named):
        await read(adapter(max_rows=100, page_size=30), SOURCE, service=service)


async def test_products_that_come_and_go_while_we_read_shift_nothing() -> None:
    base, others = [at(n, 1000 + n) for n in range(120)], [one for one in WFR if one.number % 5 == 1]
    service = EumetsatService([*base, *others])

    def before(number: int) -> None:
        if number == 3:
            service.offer([*base[5:], at(900, 1), *others])

    service.before_answer = before
    assert Counter(ids(await read(adapter(with_total=False), SOURCE, service=service))) == names([*base, *others])


@settings(max_examples=40, deadline=None)
@given(
    times=st.lists(st.integers(0, 12), max_size=50),
    page_size=st.integers(1, 9),
    stop_after=st.integers(1, 6),
)
async def test_a_run_that_stops_anywhere_resumes_without_loss(
    times: list[int], page_size: int, stop_after: int
) -> None:
    offered = [*(at(n, when) for n, when in enumerate(times)), *(one for one in WFR[:40] if one.number % 5 == 1)]
    service = EumetsatService([*offered, at(999, 13)])
    found: list[str] = []
    cursor: Cursor | None = None
    for _ in range(300):
        pages = await read(adapter(page_size=page_size), SOURCE, cursor, service=service, stop_after=stop_after)
        found += ids(pages)
        if len(pages) < stop_after or pages[-1].cursor == cursor:
            break
        cursor = orjson.loads(orjson.dumps(pages[-1].cursor))
    found += ids(await read(adapter(page_size=page_size), SOURCE, cursor, service=service))
    assert set(found) == set(names([*offered, at(999, 13)]))


def test_a_new_run_begins_an_overlap_before_the_last_in_each_collection() -> None:
    cursor: Cursor = {
        "A": {"published": "2026-01-02T00:00:00.500Z", "seen": ["a"]},
        "B": {"published": "2025-01-02T00:00:00.000Z", "seen": ["b"]},
    }
    rewound = adapter().rewound(cursor, timedelta(hours=24), T)
    assert rewound == {
        "A": {"published": "2025-12-31T00:00:00.000Z", "seen": []},
        "B": {"published": "2025-01-01T00:00:00.000Z", "seen": []},
    }


# Limits of a run


@pytest.mark.parametrize("bbox", [(-60.0, -40.0, 60.0, 40.0), (150.0, -60.0, -120.0, 60.0)])
async def test_limits_of_time_and_place(bbox: tuple[float, float, float, float]) -> None:
    times = sorted(one.published for one in WFR)
    since, until = times[20], times[-20]  # inclusive, exclusive
    west, south, east, north = bbox
    sides = [box(*bbox)] if west < east else [box(west, south, 180, north), box(-180, south, east, north)]
    wanted = [one for one in WFR if since <= one.published < until and one.geometry()]
    wanted = [one for one in wanted if any(shape(one.geometry()).intersects(side) for side in sides)]
    query = Query(since, until, bbox)
    pages = await read(adapter(query), SOURCE, service=EumetsatService(OFFERED))
    found = Counter(ids(pages))
    assert len(wanted) > 10
    if west < east:
        assert found == names(wanted)
        assert {page.total for page in pages} == {len(wanted)}
    else:  # the service is asked for the whole Earth; who has no footprint is for normalising to refuse
        without = [one for one in WFR if since <= one.published < until and not one.geometry()]
        assert found == names([*wanted, *without])
        assert {page.total for page in pages} == {None}


async def test_the_number_of_all_collections() -> None:
    service = EumetsatService(OFFERED)
    async with open_client(SOURCE, Patience(attempts=1), httpx.ASGITransport(app_of(service))) as http:
        assert await adapter().count(http) == len(WFR)
    assert {one["c"] for one in service.asked} == {"0"}


# Settings and answers of another shape


@pytest.mark.parametrize("collection", [None, 5, [], [""], ["a", 5]])
def test_a_mapping_that_does_not_say_which_collections_is_refused(collection: Any) -> None:
    with pytest.raises(SourceInvalid, match="store: upstream"):
        adapter(upstream={"collection": collection})


def good(**properties: Any) -> dict[str, Any]:
    return {"id": "a", "properties": {"updated": "2026-01-01T00:00:00.000Z", **properties}}


def answer(features: Any, total: Any = 1) -> dict[str, Any]:
    return {"features": features, "totalResults": total}


@pytest.mark.parametrize(
    "told",
    [
        [],
        {},
        {"features": []},
        answer({}),
        answer([], None),
        answer([], "many"),
        answer([], True),
        answer([], -1),
        answer([], 1),
        answer(["text"]),
        answer([{"id": "a"}]),
        answer([{"id": "a", "properties": []}]),
        answer([{**good(), "id": None}]),
        answer([{**good(), "id": 5}]),
        answer([good(updated=None)]),
        answer([good(updated="yesterday")]),
        answer([good(updated="2026-01-01T00:00:00.0001Z")]),
        answer([good(updated="2026-01-02T00:00:00Z"), good()], 9),
        answer([good()], 9),  # for ever the same page
    ],
)
async def test_an_answer_of_another_shape_stops_the_run(told: Any) -> None:
    service = EumetsatService(WFR)
    service.alter = lambda number, _: told
    with pytest.raises(UpstreamChanged, match="store"):
        await read(adapter(), SOURCE, service=service)


async def test_a_collection_that_the_store_does_not_know_stops_the_run() -> None:
    with pytest.raises(UpstreamChanged, match="status 400"):
        await read(adapter(upstream={"collection": "EO:EUM:DAT:9999"}), SOURCE, service=EumetsatService(WFR))


async def test_products_without_a_footprint_are_refused_and_the_others_are_items() -> None:
    pages = await read(adapter(), SOURCE, service=EumetsatService(OFFERED))
    codes: Counter[str] = Counter()
    for record in (record for page in pages for record in page.records):
        try:
            codes[adapter().item(record).item["collection"]] += 1
        except RecordRejected as error:
            codes[error.code] += 1
    gaps = sum(one.geometry() is None for one in WFR)
    assert codes == {FEDERATED["WFR"]: len(WFR) - gaps, "footprint-missing": gaps}
    assert gaps > 5


def test_the_built_in_source_asks_each_collection_of_the_store_once() -> None:
    source = find_source(load_sources(), "eumetsat")
    asked = [one for mapping in source.collections for one in adapter_for(source, mapping)._collections]  # type: ignore[attr-defined]
    assert len(asked) == len(set(asked)) > 30
    assert {mapping.id for mapping in source.collections} <= set(collections())


@pytest.mark.slow
async def test_many_products() -> None:
    offered, page_size = marine_catalogue(sized(8_000, 25_000)), sized(150, 500)
    service = EumetsatService(offered)
    wanted = [one for one in offered if one.kind == "WFR"]
    with served(service) as (url, control):
        for number, kind in enumerate(("429", "500", "html", "cut", "reset")):
            control.fail(kind, after=7 * number, retry_after=0 if kind == "429" else None)
        source = replace(SOURCE, url=url)
        pages = await read(adapter(source=source, page_size=page_size), source)
        assert control.state()["faults"] == []
    assert Counter(ids(pages)) == names(wanted)
    assert len(service.asked) < 2 * len(wanted) / page_size
