"""The HDA adapter against a broker that pages by offset, counts, and says nowhere what its dates mean."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.adapters.hda import MARGIN, Hda
from ingest.adapters.windows import Sizes
from ingest.errors import RecordRejected, SourceInvalid, UpstreamChanged
from ingest.model import Auth, CollectionMapping, Cursor, Query, Source
from tests.ingest.sensed_harvest import PATH, at, ids, read, served
from tests.size import sized
from tests.upstreams.hda import HdaService
from tests.upstreams.login import CLIENT, Login
from tests.upstreams.products import FEDERATED, START, catalogue, product

OFFERED = catalogue(1200)
URL = f"http://127.0.0.1{PATH}/api/v1"
SOURCE = Source("broker", "Broker", "hda", URL, requests_per_second=1e6)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SMALL = Sizes(MARGIN, target_rows=30, max_rows=60, max_rows_narrowest=200)
DATASETS = {
    "sentinel-2-l1c": {"dataset_id": "EO:ESA:DAT:SENTINEL-2", "product_type": "S2MSI1C"},
    "sentinel-2-l2a": {"dataset_id": "EO:ESA:DAT:SENTINEL-2", "product_type": "S2MSI2A"},
    "sentinel-1-grd": {"dataset_id": "EO:ESA:DAT:SENTINEL-1", "product_type": "GRD"},
}
L2A = ("EO:ESA:DAT:SENTINEL-2", "S2MSI2A")


def mapping(collection: str = "sentinel-2-l2a", **upstream: Any) -> CollectionMapping:
    return CollectionMapping(collection, DATASETS[collection] | {"start": "2024-08-01"} | upstream)


def adapter(
    source: Source = SOURCE, query: Query | None = None, collection: str = "sentinel-2-l2a", **options: Any
) -> Hda:
    return Hda(source, mapping(collection), query, **{"page_size": 20, "now": lambda: NOW, "sizes": SMALL} | options)


def names(collection: str = "sentinel-2-l2a") -> list[str]:
    return [one.name for one in OFFERED if one.kind != "COG" and FEDERATED.get(one.kind) == collection]


def crowd(number: int, every: timedelta = timedelta(0)) -> list[Any]:
    return [at(product(1), START + timedelta(hours=5) + n * every, n) for n in range(number)]


@pytest.mark.parametrize("collection", list(DATASETS))
async def test_every_product_once_and_their_number_beforehand(collection: str) -> None:
    one = Hda(SOURCE, mapping(collection), now=lambda: NOW)
    pages = await read(one, SOURCE, service=HdaService(OFFERED))
    assert Counter(ids(pages)) == Counter(names(collection))
    assert {page.total for page in pages} == {len(names(collection))}


@pytest.mark.parametrize("meaning", ["start", "within", "meets"])
async def test_whatever_the_dates_mean_no_product_falls_between_two_windows(meaning: str) -> None:
    """Slices of 25 s, one after the other for two hours: whichever bound is set cuts one."""
    slices = [at(product(2), START + timedelta(seconds=23.7 * n), n) for n in range(300)]
    slices = [replace(p, end=p.start + timedelta(seconds=25)) for p in slices]
    service = HdaService(slices, meaning=meaning)
    found = ids(await read(adapter(collection="sentinel-1-grd"), SOURCE, service=service))
    assert Counter(found) == Counter(p.name for p in slices)
    assert len({body["startdate"] for body in service.asked}) > 8


async def test_the_request_is_as_the_clients_send_it() -> None:
    service = HdaService(OFFERED)
    await read(adapter(page_size=500, with_total=False), SOURCE, service=service)
    for body in service.asked:
        assert set(body) == {"dataset_id", "productType", "startdate", "enddate", "itemsPerPage", "startIndex"}
        assert body["itemsPerPage"] == 200
        assert body["startdate"].endswith("Z")


@pytest.mark.parametrize("refused_with", [401, 403])
async def test_everything_is_read_once_through_all_faults_and_ended_tokens(
    monkeypatch: pytest.MonkeyPatch, refused_with: int
) -> None:
    monkeypatch.setenv("DEMO_USER", CLIENT[0])
    monkeypatch.setenv("DEMO_PASSWORD", CLIENT[1])
    login = Login(uses=4)
    service = HdaService(OFFERED, login)
    service.refused_with = refused_with
    with served(service) as (url, control):
        for number, kind in enumerate(("429", "500", "html", "cut", "reset", "503")):
            control.fail(kind, after=2 * number, retry_after=0 if kind == "429" else None)
        auth = Auth("token-json", f"{url}/gettoken", "DEMO_USER", "DEMO_PASSWORD")
        source = Source("broker", "Broker", "hda", f"{url}/api/v1", requests_per_second=1e6, auth=auth)
        pages = await read(adapter(source), source)
        assert control.state()["faults"] == []
    assert Counter(ids(pages)) == Counter(names())
    assert login.issued > 3


@pytest.mark.parametrize("change", ["added", "removed", "exchanged"])
@pytest.mark.parametrize("request_number", [2, 3, 4, 6])
async def test_rows_that_shift_while_a_window_is_read_lose_nothing(change: str, request_number: int) -> None:
    base = [at(product(1), START + timedelta(seconds=20 * n), n) for n in range(60)]
    late = at(product(1), START + timedelta(seconds=5), 900_000)
    service = HdaService(base)

    def before(number: int) -> None:
        if number == request_number:
            if change != "removed":
                service.indexes[L2A].add(late)
            if change != "added":
                service.indexes[L2A].remove(base[1])

    service.before_answer = before
    one = adapter(page_size=10, with_total=False, sizes=Sizes(MARGIN, target_rows=60, max_rows=100))
    found = ids(await read(one, SOURCE, service=service))
    assert set(found) >= {p.name for p in base[2:]}


async def test_rows_that_shift_at_every_request_stop_the_run() -> None:
    base = crowd(150, timedelta(seconds=0.1))
    service = HdaService(base)
    service.before_answer = lambda number: service.indexes[L2A].remove(base[number])
    with pytest.raises(UpstreamChanged, match=r"2024-08-01T0.*read 3 times, and there were \d+ records and then"):
        await read(adapter(with_total=False, sizes=Sizes(MARGIN, max_rows=1000)), SOURCE, service=service)


@pytest.mark.parametrize("number", range(2, 9))
async def test_a_repeated_page_loses_and_doubles_nothing(number: int) -> None:
    products = [at(product(1), START + timedelta(seconds=10 * n), n) for n in range(70)]
    service = HdaService(products)
    before: list[Any] = []

    def alter(asked: int, answer: Any) -> Any:
        before.append(answer)
        return before[-2] if asked == number else answer

    service.alter = alter
    one = adapter(page_size=10, with_total=False, sizes=Sizes(MARGIN, target_rows=70, max_rows=100))
    assert Counter(ids(await read(one, SOURCE, service=service))) == Counter(p.name for p in products)


@pytest.mark.parametrize("lie", ["always the first page", "fewer than told", "more than told"])
async def test_a_count_that_the_records_do_not_bear_out_stops_the_run(lie: str) -> None:
    service = HdaService(crowd(50, timedelta(seconds=1)))
    first: list[Any] = []

    def alter(number: int, answer: Any) -> Any:
        if answer["features"] and not first:
            first.append(answer)
        if lie == "always the first page":
            return first[0] if answer["features"] else answer
        told = answer["properties"]["totalResults"]
        more = told + 1 if lie == "fewer than told" else max(0, told - 1)
        return {**answer, "properties": {"totalResults": more}}

    service.alter = alter
    with pytest.raises(UpstreamChanged, match="read 3 times, and"):
        await read(adapter(with_total=False), SOURCE, service=service)


async def test_two_products_of_one_name_stop_nobody() -> None:
    service = HdaService(crowd(3))

    def alter(number: int, answer: Any) -> Any:
        answer["features"] += [{**one, "properties": {**one["properties"], "size": 1}} for one in answer["features"]]
        answer["properties"]["totalResults"] = len(answer["features"])
        return answer

    service.alter = alter
    assert len(set(ids(await read(adapter(), SOURCE, service=service)))) == 3


async def test_more_products_of_one_instant_than_a_window_should_hold_are_all_read() -> None:
    everything = [*crowd(180), *(at(product(1), START + timedelta(hours=n), 1000 + n) for n in range(30))]
    found = ids(await read(adapter(), SOURCE, service=HdaService(everything)))
    assert Counter(found) == Counter(p.name for p in everything)


async def test_an_instant_beyond_the_cap_fails_loud_and_says_where() -> None:
    with pytest.raises(UpstreamChanged, match=r"broker: 2024-08-01T0[45]:[0-9:.]*Z/2024-08-01T05:.*more than 200 rows"):
        await read(adapter(), SOURCE, service=HdaService(crowd(250)))


async def test_a_run_resumes_from_every_page_without_loss() -> None:
    service = HdaService(OFFERED)
    pages = await read(adapter(), SOURCE, service=service)
    whole = ids(pages)
    assert len(pages) > 15
    for number, page in enumerate(pages, start=1):
        cursor: Cursor = orjson.loads(orjson.dumps(page.cursor))
        rest = ids(await read(adapter(), SOURCE, cursor, service=service))
        before = ids(pages[:number])
        assert set(before) | set(rest) == set(whole)
        assert len(before) + len(rest) - len(whole) <= 2


@settings(max_examples=30, deadline=None)
@given(
    times=st.lists(st.integers(0, 4000), max_size=50),
    page_size=st.integers(1, 7),
    meaning=st.sampled_from(["start", "within", "meets"]),
)
async def test_any_times_are_read_whole(times: list[int], page_size: int, meaning: str) -> None:
    products = [at(product(1), START + timedelta(seconds=t), n) for n, t in enumerate(times)]
    one = adapter(page_size=page_size, sizes=Sizes(MARGIN, target_rows=8, max_rows=12, max_rows_narrowest=100))
    found = ids(await read(one, SOURCE, service=HdaService(products, meaning=meaning)))
    assert Counter(found) == Counter(p.name for p in products)


async def test_since_and_until_limit_sensing_times() -> None:
    since, until = START + timedelta(days=50), START + timedelta(days=90)
    found = ids(await read(adapter(query=Query(since, until)), SOURCE, service=HdaService(OFFERED)))
    inside = [p.name for p in OFFERED if p.kind == "L2A" and since <= p.start < until]
    assert Counter(found) == Counter(inside)
    assert len(inside) > 10


@pytest.mark.parametrize("bbox", [(-20.0, -40.0, 60.0, 70.0), (150.0, -90.0, -150.0, 90.0)])
async def test_an_area_limits_places_on_both_sides_of_the_antimeridian(bbox: tuple[float, float, float, float]) -> None:
    service = HdaService(OFFERED)
    pages = await read(adapter(query=Query(bbox=bbox)), SOURCE, service=service)
    found = ids(pages)
    assert 0 < len(found) < len(names())
    assert len(set(found)) == len(found)
    assert len({tuple(body["bbox"]) for body in service.asked}) == (2 if bbox[0] > bbox[2] else 1)
    assert all(body["bbox"][0] < body["bbox"][2] for body in service.asked)


async def test_a_new_run_reads_the_overlap_again() -> None:
    now = START + timedelta(hours=10)
    products = [at(product(1), START + timedelta(hours=n, minutes=30), n) for n in range(12)]
    service = HdaService(products)
    first = await read(adapter(now=lambda: now), SOURCE, service=service)
    assert set(ids(first)) == {p.name for p in products[:9]}
    later = adapter(now=lambda: now + timedelta(hours=4))
    cursor = later.rewound(first[-1].cursor, timedelta(hours=1), now)
    assert set(ids(await read(later, SOURCE, cursor, service=service))) == {p.name for p in products[8:]}


async def test_a_start_that_is_no_date_is_the_source_files_fault() -> None:
    with pytest.raises(SourceInvalid, match=r"broker: upstream\.start"):
        await read(Hda(SOURCE, mapping(start="soon")), SOURCE, service=HdaService([]))


def good(when: str = "2024-08-01T00:10:00Z") -> dict[str, Any]:
    return {"id": "a", "properties": {"startdate": when, "enddate": when}}


ONE = {"totalResults": 1}


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {},
        {"features": []},
        {"features": {}, "properties": ONE},
        {"features": [], "properties": []},
        {"features": [], "properties": {}},
        {"features": [], "properties": {"totalResults": "7"}},
        {"features": [], "properties": {"totalResults": True}},
        {"features": [], "properties": {"totalResults": -1}},
        {"features": [], "properties": ONE},
        {"features": ["text"], "properties": ONE},
        {"features": [{"type": "Feature"}], "properties": ONE},
        {"features": [{"id": 7}], "properties": ONE},
        {"features": [good(), good()], "properties": ONE},
        {"features": [good("2019-01-01T00:00:00Z")], "properties": ONE},
        {"features": [], "properties": {"totalResults": 2**53}},
    ],
)
async def test_an_answer_of_another_shape_stops_the_run(answer: Any) -> None:
    service = HdaService([])
    service.alter = lambda number, _: answer
    with pytest.raises(UpstreamChanged):
        await read(adapter(), SOURCE, service=service)


@pytest.mark.parametrize("properties", [None, [], {}, {"startdate": None}, {"startdate": 7, "enddate": 8}])
async def test_a_record_without_readable_times_is_for_the_normaliser_to_refuse(properties: Any) -> None:
    service = HdaService([])
    service.alter = lambda number, _: {"features": [{"id": "a", "properties": properties}], "properties": ONE}
    assert set(ids(await read(adapter(), SOURCE, service=service))) == {"a"}


async def test_records_without_a_footprint_of_their_own_are_refused_and_the_others_are_items() -> None:
    one = adapter()
    pages = await read(one, SOURCE, service=HdaService(OFFERED, has_gaps=True))
    codes: Counter[str] = Counter()
    for record in (record for page in pages for record in page.records):
        try:
            codes[one.item(record).item["collection"]] += 1
        except RecordRejected as error:
            codes[error.code] += 1
    gaps = [p for p in OFFERED if p.kind == "L2A" and p.scene % 10 in (3, 4, 5)]
    assert codes == {"sentinel-2-l2a": len(names()) - len(gaps), "footprint-missing": len(gaps)}


@pytest.mark.slow
async def test_many_products() -> None:
    offered = catalogue(sized(8_000, 25_000))
    service = HdaService(offered)
    found = ids(await read(Hda(SOURCE, mapping("sentinel-1-grd"), now=lambda: NOW), SOURCE, service=service))
    expected = [p.name for p in offered if p.kind == "GRD"]
    assert Counter(found) == Counter(expected)
    assert len(service.asked) < 2.5 * len(expected) / 200
