"""The Sentinel Hub adapter against a catalogue that pages by offset, newest first, and changes while it is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.adapters.sentinelhub import MARGIN, SentinelHub
from ingest.adapters.windows import Sizes
from ingest.errors import SourceInvalid, UpstreamChanged
from ingest.model import Auth, CollectionMapping, Cursor, Query, Source
from tests.ingest.sensed_harvest import at, ids, read, served
from tests.upstreams.login import CLIENT, Login
from tests.upstreams.products import FEDERATED, START, catalogue, product
from tests.upstreams.sentinelhub import SentinelHubService, offered_by, sensed_at

OFFERED = catalogue(1200)
SOURCE = Source(
    "hub", "Hub", "sentinelhub", "http://127.0.0.1/upstream", requests_per_second=1e6, retry_after_unit="ms"
)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SMALL = Sizes(MARGIN, target_rows=30, max_rows=60, max_rows_narrowest=200)


def mapping(collection: str = "sentinel-2-l2a", **upstream: Any) -> CollectionMapping:
    return CollectionMapping(collection, {"collection": collection, "start": "2024-08-01"} | upstream)


def adapter(source: Source = SOURCE, query: Query | None = None, **options: Any) -> SentinelHub:
    return SentinelHub(source, mapping(), query, **{"page_size": 20, "now": lambda: NOW, "sizes": SMALL} | options)


def names(collection: str = "sentinel-2-l2a", dialect: str = "cdse") -> list[str]:
    return [
        one.stem if dialect == "aws" else one.name
        for one in offered_by(OFFERED, dialect)
        if FEDERATED[one.kind] == collection
    ]


@pytest.mark.parametrize("dialect", ["cdse", "aws"])
@pytest.mark.parametrize("collection", ["sentinel-2-l2a", "sentinel-1-grd"])
async def test_every_product_once(dialect: str, collection: str) -> None:
    service = SentinelHubService(OFFERED, dialect)
    one = SentinelHub(SOURCE, mapping(collection), now=lambda: NOW)
    pages = await read(one, SOURCE, service=service)
    assert Counter(ids(pages)) == Counter(names(collection, dialect))
    products = [one.item(record).product for page in pages for record in page.records]
    assert len(set(products)) == len(products)


async def test_the_request_is_as_the_manual_says() -> None:
    service = SentinelHubService(OFFERED)
    await read(adapter(page_size=500), SOURCE, service=service)
    for body in service.asked:
        assert set(body) <= {"collections", "datetime", "limit", "next"}
        assert body["collections"] == ["sentinel-2-l2a"]
        assert body["limit"] == 100
        assert isinstance(body.get("next", 1), int)
        begin, end = (datetime.fromisoformat(text) for text in body["datetime"].split("/"))
        assert START <= begin < end < NOW - timedelta(minutes=59)


async def test_windows_follow_one_another_and_empty_years_cost_few_requests() -> None:
    service = SentinelHubService(OFFERED)
    await read(SentinelHub(SOURCE, mapping(start="2000-01-01"), now=lambda: NOW), SOURCE, service=service)
    assert len(service.asked) < 60
    edges = [[datetime.fromisoformat(t) for t in body["datetime"].split("/")] for body in service.asked]
    done = datetime(2000, 1, 1, tzinfo=UTC)
    for begin, end in edges:
        assert begin <= done, "a gap between windows"
        done = max(done, end)


async def test_everything_is_read_once_through_all_faults_and_ended_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEMO_ID", CLIENT[0])
    monkeypatch.setenv("DEMO_SECRET", CLIENT[1])
    login = Login(uses=3)
    with served(SentinelHubService(OFFERED, login=login)) as (url, control):
        for number, kind in enumerate(("429", "500", "html", "cut", "reset", "503")):
            control.fail(kind, after=2 * number, retry_after=40 if kind == "429" else None)
        auth = Auth("oauth2-client-credentials", f"{url}/token", "DEMO_ID", "DEMO_SECRET")
        source = Source("hub", "Hub", "sentinelhub", url, requests_per_second=1e6, auth=auth, retry_after_unit="ms")
        pages = await read(adapter(source), source)
        assert control.state()["faults"] == []
    assert Counter(ids(pages)) == Counter(names())
    assert login.issued > 5


@pytest.mark.parametrize("change", ["added", "removed"])
@pytest.mark.parametrize("request_number", [2, 3, 5, 8])
async def test_rows_that_shift_while_a_window_is_read_lose_nothing(change: str, request_number: int) -> None:
    """Newest first and by offset: each row that comes or goes in front moves all others by one."""
    base = [at(product(1), START + timedelta(seconds=20 * n), n) for n in range(60)]
    late = [at(product(1), START + timedelta(seconds=20 * n + 5), 900_000 + n) for n in (57, 58)]
    service = SentinelHubService(base)
    index = service.indexes["sentinel-2-l2a"]

    def before(number: int) -> None:
        if number == request_number:
            for one in late if change == "added" else base[57:59]:
                index.add(one) if change == "added" else index.remove(one)

    service.before_answer = before
    one = adapter(page_size=10, sizes=Sizes(MARGIN, target_rows=60, max_rows=100))
    found = ids(await read(one, SOURCE, service=service))
    expected = {p.name for p in base} - ({p.name for p in base[57:59]} if change == "removed" else set())
    assert set(found) >= expected


async def test_rows_that_shift_at_every_request_stop_the_run() -> None:
    base = [at(product(1), START + timedelta(seconds=n), n) for n in range(300)]
    service = SentinelHubService(base)
    service.before_answer = lambda number: service.indexes["sentinel-2-l2a"].remove(base[300 - number])
    with pytest.raises(UpstreamChanged, match=r"2024-08-01T00:00:00.*read 3 times, and a page did not begin where"):
        await read(adapter(page_size=10, sizes=Sizes(timedelta(minutes=20))), SOURCE, service=service)


def repeat(at_request: int) -> Callable[[int, Any], Any]:
    """One answer comes twice."""
    before: list[Any] = []

    def alter(number: int, answer: Any) -> Any:
        before.append(answer)
        return before[-2] if number == at_request else answer

    return alter


@pytest.mark.parametrize("number", range(2, 12))
async def test_a_repeated_page_loses_and_doubles_nothing(number: int) -> None:
    products = [at(product(1), START + timedelta(seconds=10 * n), n) for n in range(90)]
    service = SentinelHubService(products)
    service.alter = repeat(number)
    one = adapter(page_size=10, sizes=Sizes(MARGIN, target_rows=90, max_rows=100))
    found = ids(await read(one, SOURCE, service=service))
    assert Counter(found) == Counter(p.name for p in products)


async def test_a_vanished_next_loses_nothing() -> None:
    service = SentinelHubService(OFFERED)

    def alter(number: int, answer: Any) -> Any:
        answer["context"].pop("next", None)
        return answer

    service.alter = alter
    assert Counter(ids(await read(adapter(), SOURCE, service=service))) == Counter(names())


@pytest.mark.parametrize("following", [0, 1, 5, 2**53])
async def test_a_next_that_leads_in_a_circle_or_too_far_stops_the_run(following: int) -> None:
    service = SentinelHubService(OFFERED)
    service.alter = lambda number, answer: {**answer, "context": {"next": following}}
    with pytest.raises(UpstreamChanged, match="read 3 times, and"):
        await read(adapter(), SOURCE, service=service)
    assert len(service.asked) < 40


async def test_a_record_that_the_catalogue_holds_twice_stops_nobody() -> None:
    service = SentinelHubService(OFFERED[:8])

    def alter(number: int, answer: Any) -> Any:
        answer["features"] = [one for one in answer["features"] for _ in range(2)]
        return answer

    service.alter = alter
    found = ids(await read(adapter(), SOURCE, service=service))
    assert set(found) == {p.name for p in OFFERED[:8] if p.kind == "L2A" and p.online}


@pytest.mark.parametrize("dialect", ["cdse", "aws"])
async def test_more_products_of_one_instant_than_a_window_should_hold_are_all_read(dialect: str) -> None:
    crowd = [at(product(1), START + timedelta(hours=5, milliseconds=n % 3), n) for n in range(180)]
    others = [at(product(1), START + timedelta(hours=n), 1000 + n) for n in range(30)]
    service = SentinelHubService([*crowd, *others], dialect)
    found = ids(await read(adapter(), SOURCE, service=service))
    assert Counter(found) == Counter(p.stem if dialect == "aws" else p.name for p in [*crowd, *others])


async def test_an_instant_beyond_the_cap_fails_loud_and_says_where() -> None:
    service = SentinelHubService([at(product(1), START + timedelta(hours=5), n) for n in range(250)])
    with pytest.raises(UpstreamChanged, match=r"hub: 2024-08-01T0[45]:[0-9:.]*Z/2024-08-01T05:.*more than 200 rows"):
        await read(adapter(), SOURCE, service=service)


async def test_a_run_resumes_from_every_page_without_loss() -> None:
    service = SentinelHubService(OFFERED)
    pages = await read(adapter(), SOURCE, service=service)
    whole = ids(pages)
    assert len(pages) > 15
    for number, page in enumerate(pages, start=1):
        cursor: Cursor = orjson.loads(orjson.dumps(page.cursor))
        rest = ids(await read(adapter(), SOURCE, cursor, service=service))
        before = ids(pages[:number])
        assert set(before) | set(rest) == set(whole)
        assert len(before) + len(rest) - len(whole) <= 2


async def test_records_go_out_oldest_first_and_the_cursor_moves_within_a_window() -> None:
    """So that runs of a few records each get on, and one that was killed repeats little."""
    service = SentinelHubService(OFFERED)
    pages = await read(adapter(page_size=5, sizes=Sizes(MARGIN)), SOURCE, service=service)
    order = {p.name: sensed_at(p) for p in OFFERED}
    times = [order[name] for name in ids(pages)]
    assert times == sorted(times)
    begins = [page.cursor["begin"] for page in pages]
    assert begins == sorted(begins)
    assert len(set(begins)) > 5 * len({body["datetime"] for body in service.asked})


@settings(max_examples=40, deadline=None)
@given(
    times=st.lists(st.integers(0, 4000), max_size=50),
    page_size=st.integers(1, 7),
    stop_after=st.integers(1, 6),
    dialect=st.sampled_from(["cdse", "aws"]),
)
async def test_a_run_that_stops_anywhere_resumes_without_loss(
    times: list[int], page_size: int, stop_after: int, dialect: str
) -> None:
    products = [at(product(1), START + timedelta(milliseconds=250 * t), n) for n, t in enumerate(times)]
    service = SentinelHubService(products, dialect)
    one = adapter(page_size=page_size, sizes=Sizes(MARGIN, target_rows=8, max_rows=12, max_rows_narrowest=100))
    found: set[str] = set()
    cursor: Cursor | None = None
    for _ in range(400):
        pages = await read(one, SOURCE, cursor, service=service, stop_after=stop_after)
        found |= set(ids(pages))
        if len(pages) < stop_after:
            break
        more = stop_after
        while cursor is not None and pages[-1].cursor["begin"] == cursor["begin"]:
            more += 1  # one instant of more records than a run reads would be read for ever
            pages = await read(one, SOURCE, cursor, service=service, stop_after=more)
            found |= set(ids(pages))
        cursor = pages[-1].cursor
    assert found == {p.stem if dialect == "aws" else p.name for p in products}


async def test_since_and_until_limit_sensing_times() -> None:
    service = SentinelHubService(OFFERED)
    since, until = START + timedelta(days=50), START + timedelta(days=90)
    found = ids(await read(adapter(query=Query(since, until)), SOURCE, service=service))
    inside = [p for p in offered_by(OFFERED, "cdse") if p.kind == "L2A" and since <= sensed_at(p) < until]
    assert Counter(found) == Counter(p.name for p in inside)
    assert len(inside) > 10


async def test_an_until_excludes_its_own_instant_and_a_since_includes_it() -> None:
    times = [START + timedelta(hours=n) for n in range(4)]
    products = [at(product(1), when, n) for n, when in enumerate(times)]
    service = SentinelHubService(products)
    found = ids(await read(adapter(query=Query(times[1], times[3])), SOURCE, service=service))
    assert sorted(found) == [products[1].name, products[2].name]


async def test_nothing_is_lost_where_an_interval_leaves_its_ends_out() -> None:
    products = [at(product(1), START + timedelta(minutes=15 * n), n) for n in range(1, 200)]
    service = SentinelHubService(products, is_open=True)
    assert Counter(ids(await read(adapter(), SOURCE, service=service))) == Counter(p.name for p in products)
    assert len({body["datetime"] for body in service.asked}) > 5


@pytest.mark.parametrize("bbox", [(-20.0, -40.0, 60.0, 70.0), (150.0, -90.0, -150.0, 90.0)])
async def test_an_area_limits_places_on_both_sides_of_the_antimeridian(bbox: tuple[float, float, float, float]) -> None:
    service = SentinelHubService(OFFERED)
    found = ids(await read(adapter(query=Query(bbox=bbox)), SOURCE, service=service))
    assert 0 < len(found) < len(names())
    assert len(set(found)) == len(found)
    assert ("intersects" in service.asked[0]) == (bbox[0] > bbox[2])


async def test_nothing_newer_than_the_lag_is_asked_for_and_the_next_run_goes_on() -> None:
    now = START + timedelta(hours=10)
    products = [at(product(1), START + timedelta(hours=n, minutes=30), n) for n in range(12)]
    service = SentinelHubService(products)
    first = await read(adapter(now=lambda: now), SOURCE, service=service)
    assert set(ids(first)) == {p.name for p in products[:9]}
    later = adapter(now=lambda: now + timedelta(hours=4))
    cursor = later.rewound(first[-1].cursor, timedelta(hours=1), now)
    assert set(ids(await read(later, SOURCE, cursor, service=service))) == {p.name for p in products[8:]}


def test_a_new_run_begins_an_overlap_before_the_last_and_before_its_start() -> None:
    cursor: Cursor = {"begin": "2025-01-02T00:00:00.000000Z", "width_s": 90.0}
    one = adapter()
    assert one.rewound(cursor, timedelta(days=1), NOW) == {"begin": "2025-01-01T00:00:00.000000Z", "width_s": 90.0}
    early = datetime(2024, 12, 3, tzinfo=UTC)
    assert one.rewound(cursor, timedelta(days=1), early)["begin"] == "2024-12-02T00:00:00.000000Z"


@pytest.mark.parametrize("start", ["soon", 2015, "2015-13-01", None, []])
async def test_a_start_that_is_no_date_is_the_source_files_fault(start: Any) -> None:
    with pytest.raises(SourceInvalid, match=r"hub: upstream\.start"):
        await read(SentinelHub(SOURCE, mapping(start=start)), SOURCE, service=SentinelHubService([]))


def good(when: str = "2024-08-01T00:10:00Z") -> dict[str, Any]:
    return {"id": "a", "properties": {"datetime": when}}


@pytest.mark.parametrize(
    "answer",
    [
        [],
        "text",
        {},
        {"features": []},
        {"features": {}, "context": {}},
        {"features": [], "context": []},
        {"features": ["text"], "context": {}},
        {"features": [{"type": "Feature"}], "context": {}},
        {"features": [{"id": 7}], "context": {}},
        {"features": [{"id": ""}], "context": {}},
        {"features": [], "context": {"next": 10}},
        {"features": [good()], "context": {"next": "https://internal.example.net/"}},
        {"features": [good()], "context": {"next": True}},
        {"features": [good()], "context": {"next": -1}},
        {"features": [good("2019-01-01T00:00:00Z")], "context": {}},
        {"features": [good("2031-01-01T00:00:00Z")], "context": {}},
    ],
)
async def test_an_answer_of_another_shape_stops_the_run(answer: Any) -> None:
    service = SentinelHubService([])
    service.alter = lambda number, _: answer
    with pytest.raises(UpstreamChanged):
        await read(adapter(), SOURCE, service=service)


@pytest.mark.parametrize("properties", [None, [], {}, {"datetime": None}, {"datetime": 7}, {"datetime": "yesterday"}])
async def test_a_record_without_a_readable_time_is_for_the_normaliser_to_refuse(properties: Any) -> None:
    service = SentinelHubService([])
    service.alter = lambda number, _: {"features": [{"id": "a", "properties": properties}], "context": {}}
    assert set(ids(await read(adapter(), SOURCE, service=service))) == {"a"}


@pytest.mark.slow
async def test_twenty_five_thousand_products_within_the_months_budget() -> None:
    offered = catalogue(25_000)
    service = SentinelHubService(offered)
    one = SentinelHub(SOURCE, mapping("sentinel-1-grd", start="2014-10-03"), now=lambda: NOW)
    found = ids(await read(one, SOURCE, service=service))
    expected = [p.name for p in offered if p.kind in ("GRD", "COG")]
    assert Counter(found) == Counter(expected)
    assert len(service.asked) < 1.7 * len(expected) / 99
