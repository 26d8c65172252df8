"""The DHuS adapter, in both dialects, against a mirror on the loopback that orders, caps and errs as real hubs do."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from shapely.geometry import box, shape
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from ingest.adapters import adapter_for
from ingest.adapters.dhus import Dhus
from ingest.errors import SourceInvalid, UpstreamChanged
from ingest.http import Patience, open_client
from ingest.model import Auth, CollectionMapping, Cursor, Page, Query
from ingest.source_files import BUILT_IN, read_source
from tests.ingest.dhus_mirror import (
    DIALECTS,
    HELD,
    L2A,
    UPSTREAM,
    Alike,
    Mirror,
    T,
    at,
    holding,
    ids,
    ids_of,
    mirror,
    source_of,
)
from tests.recordings import documents
from tests.shared import shared_path
from tests.size import sized
from tests.upstreams.dhus import DhusService
from tests.upstreams.products import catalogue
from tests.upstreams.server import running


@pytest.fixture(scope="module")
def whole() -> Iterator[Mirror]:
    """For tests that change nothing."""
    with mirror() as hub:
        yield hub


async def stream(
    url: str, dialect: str, cursor: Cursor | None = None, *, query: Query | None = None, page_size: int = 20,
    attempts: int = 8, auth: Auth | None = None, **options: Any,
) -> AsyncIterator[Page]:  # fmt: skip
    source = source_of(url, auth)
    adapter = Dhus(source, CollectionMapping("sentinel-2-l2a", UPSTREAM[dialect]), query, page_size, **options)
    async with open_client(source, Patience(attempts=attempts, base_s=0)) as http:
        async for page in adapter.pages(http, cursor):
            yield page


async def read(*arguments: Any, **options: Any) -> list[Page]:
    return [page async for page in stream(*arguments, **options)]


# Everything is read


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_everything_is_read_once_in_order_through_all_faults(dialect: str) -> None:
    with mirror() as hub:
        for number, kind in enumerate(("429", "500", "503", "html", "cut", "reset")):
            hub.control.fail(kind, after=number, retry_after=0 if kind == "429" else None)
        pages = await read(hub.url, dialect)
        assert hub.control.state()["faults"] == []
    assert Counter(ids(pages)) == Counter(ids_of(L2A))
    ingested = {one.id: one.ingestiondate for one in HELD}
    assert [ingested[one] for one in ids(pages)] == sorted(ingested.values())
    assert pages[0].total == len(L2A)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_every_record_becomes_an_item(whole: Mirror, dialect: str) -> None:
    pages = await read(whole.url, dialect, page_size=100)
    adapter = Dhus(source_of(whole.url), CollectionMapping("sentinel-2-l2a", UPSTREAM[dialect]))
    found = [adapter.item(record) for page in pages for record in page.records]
    via = httpx.get(found[0].item["links"][0]["href"])
    assert Counter(one.product for one in found) == Counter(one.name for one in L2A)
    assert {one.warnings for one in found} == {()}
    assert via.json()["d"]["Name"] == found[0].item["id"]


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_run_resumes_from_every_page(whole: Mirror, dialect: str) -> None:
    """Without a repeat: no instant here holds more than a page."""
    pages = await read(whole.url, dialect)
    for number, page in enumerate(pages, start=1):
        rest = await read(whole.url, dialect, page.cursor)
        assert Counter(ids(pages[:number]) + ids(rest)) == Counter(ids_of(L2A))


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_lists_of_none_of_one_and_full_pages(dialect: str) -> None:
    """One hit is no list in the full text search, and none is no member at all."""
    with mirror() as hub:
        for number in (0, 1, 2, 20, 21, 40):
            hub.service.replace(HELD[:number])
            assert Counter(ids(await read(hub.url, dialect))) == Counter(ids_of(L2A[:number]))


@pytest.mark.slow
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_many_products(dialect: str) -> None:
    offered = catalogue(sized(8_000, 25_000))
    wanted = ids_of([one for one in offered if one.kind == "L2A"])
    with mirror(DhusService(offered)) as hub:
        pages = await read(hub.url, dialect, page_size=500)
        requests = len(hub.control.requests)
    assert Counter(ids(pages)) == Counter(wanted)
    assert max(len(page.records) for page in pages) <= 100
    assert requests < 2 * len(wanted) / 100


# Ties


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_an_instant_larger_than_a_page_is_split_by_the_beginning_of_sensing(dialect: str) -> None:
    rows = [at(one, 5 if n < 150 else n, begun_ms=n // 3) for n, one in enumerate(HELD)]
    with mirror(holding(rows, shuffle=random.Random(1))) as hub:
        assert Counter(ids(await read(hub.url, dialect))) == Counter(one.id for one in rows)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_an_instant_that_nothing_splits_is_paged(dialect: str) -> None:
    rows = [at(one, 5 if n < 150 else n) for n, one in enumerate(HELD)]
    with mirror(holding(rows)) as hub:
        assert Counter(ids(await read(hub.url, dialect))) == Counter(one.id for one in rows)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_an_instant_beyond_the_cap_fails_loud_and_names_itself(dialect: str) -> None:
    named = r"2026-01-01T00:00:00\.005000\+00:00.*more than 100 rows"
    with mirror(holding([at(one, 5) for one in HELD])) as hub, pytest.raises(UpstreamChanged, match=named):
        await read(hub.url, dialect, max_rows=100)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_an_instant_whose_order_changes_with_every_answer_fails_loud(dialect: str) -> None:
    service = holding([at(one, 5) for one in HELD], shuffle=random.Random(2))
    with mirror(service) as hub, pytest.raises(UpstreamChanged, match="cannot be told apart"):
        await read(hub.url, dialect)


# Rows that move


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_rows_that_come_and_go_while_we_read_lose_nothing(dialect: str) -> None:
    rows = [at(one, 1000 + n) for n, one in enumerate(HELD[:150])]
    late = [at(one, n) for n, one in enumerate(HELD[150:])]
    with mirror(holding(rows)) as hub:
        answers = iter(range(100))

        def change(service: DhusService) -> None:
            if next(answers) == 3:
                service.replace([*rows[10:], *late])

        hub.service.before_answer = change
        assert set(ids(await read(hub.url, dialect))) >= {one.id for one in rows}
        hub.service.before_answer = lambda service: None
        cursor = Dhus(source_of(hub.url), CollectionMapping("c", UPSTREAM[dialect])).rewound(
            {"ingested": "2026-01-01T00:00:02.000Z", "seen": []}, timedelta(hours=1), T + timedelta(days=9)
        )
        assert set(ids(await read(hub.url, dialect, cursor))) >= {one.id for one in late}


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_rows_that_go_while_an_instant_is_paged_make_it_be_read_again(dialect: str) -> None:
    rows = sorted((at(one, 5) for one in HELD), key=lambda one: one.id)  # as the mirror orders them
    with mirror(holding(rows)) as hub:
        answers = iter(range(1000))

        def change(service: DhusService) -> None:
            if next(answers) == 7:
                service.replace(service.rows[25:])

        hub.service.before_answer = change
        assert set(ids(await read(hub.url, dialect))) == {one.id for one in rows}


def test_a_new_run_begins_an_overlap_before_the_last_and_before_its_start() -> None:
    adapter = Dhus(source_of("https://example.org"), CollectionMapping("c", UPSTREAM["solr"]))
    cursor: Cursor = {"ingested": "2026-01-02T00:00:00.500Z", "seen": ["a"]}
    rewound = adapter.rewound(cursor, timedelta(hours=24), datetime(2026, 6, 1, tzinfo=UTC))
    assert rewound == {"ingested": "2026-01-01T00:00:00.500Z", "seen": []}
    ahead = adapter.rewound(cursor, timedelta(hours=24), datetime(2025, 6, 2, tzinfo=UTC))
    assert ahead["ingested"] == "2025-06-01T00:00:00.000Z"


# Limits of a run


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("bbox", [None, (-60.0, -40.0, 60.0, 40.0), (150.0, -60.0, -120.0, 60.0)])
async def test_limits_of_time_and_place(
    whole: Mirror, dialect: str, bbox: tuple[float, float, float, float] | None
) -> None:
    times = sorted(one.ingestiondate for one in HELD)
    since, until = times[20], times[150]  # inclusive, exclusive
    wanted = [one for one in HELD if since <= one.ingestiondate < until]
    if bbox is not None:
        sides = [box(*bbox)] if bbox[0] < bbox[2] else [box(150, -60, 180, 60), box(-180, -60, -120, 60)]
        near = [[shape(one.product.geometry()).intersects(side) for side in sides] for one in wanted]
        wanted = [one for one, hits in zip(wanted, near, strict=True) if any(hits)]
    pages = await read(whole.url, dialect, query=Query(since, until, bbox))
    assert 10 < len(wanted) < 131
    assert Counter(ids(pages)) == Counter(one.id for one in wanted)


async def test_the_search_is_asked_as_recorded_clients_ask_it() -> None:
    with mirror(DhusService([])) as hub:
        query = Query(T, T + timedelta(days=1), (1.0, 2.0, 3.0, 4.0))
        assert await read(hub.url, "solr", query=query) == []
        (request,) = hub.control.requests
    asked = {name: values[0] for name, values in parse_qs(urlsplit(request).query).items()}
    assert urlsplit(request).path == "/dhus/search"
    assert asked == {
        "q": 'platformname:"Sentinel-2" AND (producttype:"S2MSI2A" OR producttype:"S2MSI2Ap")'
        ' AND footprint:"Intersects(POLYGON((1.000000 2.000000,3.000000 2.000000,3.000000 4.000000,1.000000 4.000000,'
        '1.000000 2.000000)))" AND ingestiondate:["2026-01-01T00:00:00.000Z" TO "2026-01-01T23:59:59.999Z"]',
        "rows": "20",
        "start": "0",
        "orderby": "ingestiondate asc",
        "format": "json",
    }


async def test_odata_is_asked_as_the_manual_says() -> None:
    with mirror(DhusService([])) as hub:
        assert await read(hub.url, "odata-v1", query=Query(T, T + timedelta(days=1))) == []
        (request,) = hub.control.requests
    asked = {name: values[0] for name, values in parse_qs(urlsplit(request).query).items()}
    assert urlsplit(request).path == "/dhus/odata/v1/Products"
    assert asked == {
        "$filter": "substringof('_MSIL2A_',Name) and IngestionDate ge datetime'2026-01-01T00:00:00.000'"
        " and IngestionDate le datetime'2026-01-01T23:59:59.999'",
        "$orderby": "IngestionDate asc",
        "$top": "20",
        "$skip": "0",
        "$format": "json",
        "$inlinecount": "allpages",
    }


# Settings and login


@pytest.mark.parametrize(
    "upstream",
    [
        {},
        {"dialect": "atom", "product_type": "GRD"},
        {"dialect": ["solr"], "product_type": "GRD"},
        {"product_type": 5},
        {"product_types": []},
        {"product_type": "GRD", "name_contains": "_GRD"},
        {"dialect": "odata-v1", "product_type": "GRD"},
        {"dialect": "odata-v1", "name_contains": "_GRD", "platform": "Sentinel-1"},
    ],
)
def test_a_mapping_that_does_not_say_which_products_is_refused(upstream: dict[str, Any]) -> None:
    with pytest.raises(SourceInvalid, match="mirror: "):
        adapter_for(source_of("https://example.org"), CollectionMapping("c", upstream))


def test_a_quote_in_a_setting_cannot_leave_its_string() -> None:
    solr = Dhus(source_of("https://example.org"), CollectionMapping("c", {"product_type": 'X" OR platformname:"\\'}))
    assert solr._dialect._terms == ['producttype:"X\\" OR platformname:\\"\\\\"']  # type: ignore[attr-defined]
    odata = {"dialect": "odata-v1", "name_contains": "X',Name) or ('"}
    entities = Dhus(source_of("https://example.org"), CollectionMapping("c", odata))
    assert entities._dialect._terms == ["substringof('X'',Name) or (''',Name)"]  # type: ignore[attr-defined]


async def test_a_url_that_the_search_could_not_take_is_never_sent() -> None:
    types = {"product_types": [f"TYPE_NUMBER_{n:06d}" for n in range(120)]}
    with mirror() as hub:
        source = source_of(hub.url)
        adapter = Dhus(source, CollectionMapping("c", types))
        async with open_client(source, Patience(attempts=1)) as http:
            with pytest.raises(SourceInvalid, match="fewer types"):
                _ = [page async for page in adapter.pages(http, None)]
        assert hub.control.requests == []


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_the_mirror_wants_a_login(dialect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    auth = Auth("basic", client_id_env="MIRROR_USER", client_secret_env="MIRROR_PASSWORD")
    monkeypatch.setenv("MIRROR_USER", "ann")
    monkeypatch.setenv("MIRROR_PASSWORD", "pa:ss")
    with mirror(DhusService(L2A[:30], login="ann:pa:ss")) as hub:
        assert len(ids(await read(hub.url, dialect, auth=auth))) == 30
        monkeypatch.setenv("MIRROR_PASSWORD", "wrong")
        with pytest.raises(UpstreamChanged, match="login was refused"):
            await read(hub.url, dialect, auth=auth)


def test_the_template_is_a_source() -> None:
    source = read_source(BUILT_IN.parent / "source_templates" / "dhus-mirror.toml.example")
    assert [adapter_for(source, mapping) for mapping in source.collections]
    assert source.auth.type == "basic"


# Answers of another shape


@pytest.fixture(scope="module")
def alike() -> Iterator[Alike]:
    server = Alike()
    with running(Starlette(routes=[Route("/{path:path}", server.__call__)])) as server.url:
        yield server


async def answers_of(alike: Alike, answer: Any, dialect: str) -> list[Page]:
    """What the adapter makes of the answer."""
    alike.answer = answer
    return await read(alike.url, dialect, attempts=1)


def feed(entries: Any, total: Any = "9") -> dict[str, Any]:
    return {"feed": {"opensearch:totalResults": total, "entry": entries}}


def dated(entry_id: Any, *ingested: Any) -> dict[str, Any]:
    return {"id": entry_id, "date": [{"name": "ingestiondate", "content": one} for one in ingested]}


DAY = "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"feed": None},
        {"feed": []},
        {"feed": {}},
        {"feed": {"error": {"code": "400", "message": "undefined field xxx"}}},
        {"feed": {"error": None}},
        feed([dated("a", DAY)], None),
        feed([dated("a", DAY)], "many"),
        feed([dated("a", DAY)], "²"),
        feed([dated("a", DAY)], True),
        feed([dated("a", DAY)], -1),
        feed("text"),
        feed(["text"]),
        feed([[]]),
        feed([dated(None, DAY)]),
        feed([dated("", DAY)]),
        feed([dated(5, DAY)]),
        feed([{"id": "a"}]),
        feed([{"id": "a", "date": "text"}]),
        feed([{"id": "a", "date": [{"content": DAY}]}]),
        feed([dated("a")]),
        feed([dated("a", "yesterday")]),
        feed([dated("a", DAY, "2026-01-02T00:00:00Z")]),
        feed([dated("a", "2026-01-01T00:00:00.0001Z")]),
        feed([dated("a", "2026-01-01T00:00:00Z"), dated("b", "2025-01-01T00:00:00Z")]),
        feed([]),
        feed([dated("a", "2026-01-01T00:00:00Z"), dated("b", "2026-01-02T00:00:00Z")]),  # for ever the same page
    ],
)
async def test_search_answers_of_another_shape_stop_the_run(alike: Alike, answer: Any) -> None:
    with pytest.raises(UpstreamChanged, match="mirror"):
        await answers_of(alike, answer, "solr")


def entity(**members: Any) -> dict[str, Any]:
    content = {"Start": "/Date(1767225600000)/", "End": "/Date(1767225600000)/"}
    return {"Id": "a", "IngestionDate": "/Date(1767225600000)/", "ContentDate": content} | members


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"d": []},
        {"d": {"results": {}}},
        {"d": {"results": ["text"]}},
        {"d": {"results": [[]]}},
        {"d": {"results": [entity()], "__count": "many"}},
        {"d": {"results": [], "__count": "5"}},
        {"d": {"results": [entity(Id=None)]}},
        {"d": {"results": [entity(IngestionDate=None)]}},
        {"d": {"results": [entity(IngestionDate="2026-01-01T00:00:00Z")]}},
        {"d": {"results": [entity(IngestionDate="/Date(999999999999999)/")]}},
        {"d": {"results": [entity(ContentDate=None)]}},
        {"d": {"results": [entity(ContentDate={"Start": 5})]}},
        {"d": {"results": [entity(IngestionDate="/Date(1767225600001)/"), entity(Id="b")]}},
        {"d": {"results": [entity(), entity(Id="b", IngestionDate="/Date(1767225600001)/")]}},
        {"d": {"results": [entity()]}},  # for ever the same page
        {"error": {"code": None, "message": {"lang": "en", "value": "Invalid filter"}}},
    ],
)
async def test_odata_answers_of_another_shape_stop_the_run(alike: Alike, answer: Any) -> None:
    with pytest.raises(UpstreamChanged, match="mirror"):
        await answers_of(alike, answer, "odata-v1")


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_refusal_in_html_stops_the_run(alike: Alike, dialect: str) -> None:
    with pytest.raises(UpstreamChanged, match="status 400"):
        await answers_of(alike, Response("<!doctype html>", 400, media_type="text/html"), dialect)


# Recorded answers


def recorded(name: str) -> Any:
    return next(iter(documents(shared_path("upstreams", "recordings", "dhus", f"{name}.yaml"))))


@pytest.mark.parametrize(
    ("name", "number"), [("test_small_query", 0), ("test_name_search", 1)], ids=["no entry", "one entry, no list"]
)
async def test_recorded_answers_are_read(alike: Alike, name: str, number: int) -> None:
    assert len(ids(await answers_of(alike, recorded(name), "solr"))) == number


async def test_a_recorded_answer_in_another_order_is_noticed(alike: Alike) -> None:
    """The recorded client had asked for no order: the newest comes first."""
    with pytest.raises(UpstreamChanged, match="order of ingestiondate"):
        await answers_of(alike, recorded("test_s2_cloudcover"), "solr")


async def test_the_recorded_error_within_an_answer_is_told(alike: Alike) -> None:
    with pytest.raises(UpstreamChanged, match="undefined field xxx"):
        await answers_of(alike, recorded("test_invalid_query"), "solr")
