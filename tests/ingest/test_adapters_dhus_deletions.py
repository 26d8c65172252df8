"""What a DHuS deleted: its list is walked whole in either dialect, and what is on it leaves the catalogue."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from db.pools import Pool
from ingest.adapters.dhus import Dhus
from ingest.adapters.protocol import DeletionPage, ListsDeletions
from ingest.collection_files import ensure_collections
from ingest.errors import UpstreamChanged, UpstreamUnavailable
from ingest.harvest import Order, Progress, Tools, harvest
from ingest.http import Patience, open_client
from ingest.model import CollectionMapping, Cursor, Query
from tests.ingest.dhus_mirror import DIALECTS, HELD, OFFERED, UPSTREAM, Alike, T, mirror, source_of
from tests.size import sized
from tests.upstreams.dhus import DhusService, Held, held
from tests.upstreams.products import catalogue
from tests.upstreams.server import running

L2A = "sentinel-2-l2a"


def mapping(dialect: str, **upstream: Any) -> CollectionMapping:
    return CollectionMapping(L2A, {**UPSTREAM[dialect], "deletions": True, **upstream})


async def read(
    url: str, dialect: str, cursor: Cursor | None = None, *, attempts: int = 8, page_size: int = 20, **options: Any
) -> list[DeletionPage]:
    source = source_of(url)
    adapter = Dhus(source, options.pop("mapping", mapping(dialect)), Query(), page_size, **options)
    assert isinstance(adapter, ListsDeletions)
    async with open_client(source, Patience(attempts=attempts, base_s=0)) as http:
        return [page async for page in adapter.deletions(http, cursor)]


def ids(pages: Sequence[DeletionPage]) -> list[str]:
    return [one.record_id for page in pages for one in page.deletions]


def without(rows: Sequence[Held], every: timedelta = timedelta(0), **options: Any) -> DhusService:
    """A hub that took these back, one after the other."""
    service = DhusService(OFFERED, **options)
    for number, one in enumerate(rows):
        service.delete([one], T + number * every)
    return service


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_every_tombstone_once_oldest_first_through_all_faults(dialect: str) -> None:
    with mirror(without(HELD, timedelta(seconds=7))) as hub:
        for number, kind in enumerate(("429", "500", "503", "html", "cut", "reset")):
            hub.control.fail(kind, after=number, path="DeletedProducts", retry_after=0 if kind == "429" else None)
        pages = await read(hub.url, dialect)
        assert hub.control.state()["faults"] == []
    assert ids(pages) == [one.id for one in HELD]
    assert {one.cause for page in pages for one in page.deletions} == {"Invalid: duplicated"}


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_run_resumes_from_every_page(dialect: str) -> None:
    with mirror(without(HELD, timedelta(milliseconds=1))) as hub:
        pages = await read(hub.url, dialect)
        for number, page in enumerate(pages, start=1):
            rest = await read(hub.url, dialect, page.cursor)
            assert Counter(ids(pages[:number]) + ids(rest)) == Counter(one.id for one in HELD)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_an_instant_with_more_than_a_page_is_read_whole_whatever_the_order_of_equal_dates(dialect: str) -> None:
    service = without(HELD[:150], shuffle=random.Random(1))
    service.delete(HELD[150:], T + timedelta(seconds=1))
    service.delete([held(one) for one in OFFERED if one.kind == "AUX"], T)  # they have no content date
    expected = {one.id for one in service.deleted if dialect == "solr" or one.product.kind == "L2A"}
    with mirror(service) as hub:
        pages = await read(hub.url, dialect)
    assert Counter(ids(pages)) == Counter(expected)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_an_instant_beyond_the_cap_fails_loud_and_names_itself(dialect: str) -> None:
    with (
        mirror(without(HELD)) as hub,
        pytest.raises(UpstreamChanged, match=r"DeletionDate 2026-01-01T00:00:00\+00:00: more than 100 rows"),
    ):
        await read(hub.url, dialect, max_rows=100)


@pytest.mark.slow
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_many_tombstones_through_all_faults(dialect: str) -> None:
    service = DhusService(catalogue(sized(8_000, 25_000)))
    rows = [one for one in service.rows if dialect == "solr" or one.product.kind == "L2A"]
    for number in range(0, len(rows), 250):  # a script deletes by the hundred
        service.delete(rows[number : number + 250], T + timedelta(seconds=number))
    with mirror(service) as hub:
        for number, kind in enumerate(("429", "500", "html", "cut", "reset")):
            hub.control.fail(kind, after=7 * number, retry_after=0 if kind == "429" else None)
        pages = await read(hub.url, dialect, page_size=500)
        assert hub.control.state()["faults"] == []
        requests = len(hub.control.requests)
    assert Counter(ids(pages)) == Counter(one.id for one in rows)
    assert max(len(page.deletions) for page in pages) <= 100
    assert requests < 2.5 * len(rows) / 100


async def test_tombstones_are_asked_for_by_date_and_by_the_key_within_one_instant() -> None:
    with mirror(without(HELD[:30])) as hub:
        await read(hub.url, "odata-v1")
        requests = [urlsplit(one) for one in hub.control.requests]
    assert {one.path for one in requests} == {"/dhus/odata/v1/DeletedProducts"}
    first, second = (
        {name: values[0] for name, values in parse_qs(one.query).items()} for one in (requests[0], requests[1])
    )
    common = {"$top": "20", "$skip": "0", "$format": "json"}
    assert first == {"$filter": "substringof('_MSIL2A_',Name)", "$orderby": "DeletionDate asc", **common}
    instant = " and ".join(f"DeletionDate {op} datetime'2026-01-01T00:00:00.000'" for op in ("ge", "le"))
    assert second == {
        "$filter": f"substringof('_MSIL2A_',Name) and {instant}",
        "$orderby": "Id asc",
        "$inlinecount": "allpages",
        **common,
    }


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_hub_whose_list_nobody_switched_on_is_not_asked(dialect: str) -> None:
    with mirror(without(HELD[:5])) as hub:
        for value in (False, None):
            assert await read(hub.url, dialect, mapping=mapping(dialect, deletions=value)) == []
        assert hub.control.requests == []


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_an_empty_list_is_one_request(dialect: str) -> None:
    with mirror() as hub:
        assert await read(hub.url, dialect) == []
        assert len(hub.control.requests) == 1


@pytest.fixture(scope="module")
def alike() -> Iterator[Alike]:
    server = Alike()
    with running(Starlette(routes=[Route("/{path:path}", server.__call__)])) as server.url:
        yield server


def grave(**members: Any) -> dict[str, Any]:
    return {"Id": "a", "DeletionDate": "/Date(1767225600000)/", "DeletionCause": "x", **members}


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"d": []},
        {"d": {"results": {}}},
        {"d": {"results": ["text"]}},
        {"d": {"results": [grave(Id=None)]}},
        {"d": {"results": [grave(Id=5)]}},
        {"d": {"results": [grave(DeletionDate=None)]}},
        {"d": {"results": [grave(DeletionDate="2026-01-01")]}},
        {"d": {"results": [grave(DeletionDate="/Date(99999999999999)/")]}},
        {"d": {"results": [grave(DeletionDate="/Date(1767225600001)/"), grave(Id="b")]}},
        {"d": {"results": [grave()]}},  # for ever the same page
        {"error": {"code": None, "message": {"lang": "en", "value": "Invalid filter"}}},
        Response("<!doctype html>", 404, media_type="text/html"),
        Response('{"error":{"code":null,"message":{"lang":"en","value":"No such set"}}}', 404, media_type="application/json"),
    ],
)  # fmt: skip
async def test_answers_of_another_shape_stop_the_run(alike: Alike, answer: Any) -> None:
    alike.answer = answer
    with pytest.raises(UpstreamChanged, match="mirror"):
        await read(alike.url, "solr", attempts=1)


@pytest.mark.parametrize("cause", [None, 5, ["x"], {}])
async def test_a_cause_that_is_no_text_is_none(alike: Alike, cause: Any) -> None:
    alike.answer = {"d": {"results": [grave(DeletionCause=cause)], "__count": "1"}}
    assert [one.cause for page in await read(alike.url, "solr") for one in page.deletions] == [""]


async def run(pool: Pool, url: str, dialect: str, attempts: int = 2) -> Progress:
    source = source_of(url)
    tools = Tools(pool, {source.id: source}, 50, Patience(attempts=attempts, base_s=0))
    return await harvest(Order(source, mapping(dialect)), tools)


async def items(pool: Pool) -> set[str]:
    async with pool.connection() as conn:
        rows = await (await conn.execute("select id from pgstac.items")).fetchall()
    return {str(row["id"]) for row in rows}


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_what_a_hub_deletes_leaves_the_catalogue(pool: Pool, dialect: str) -> None:
    await ensure_collections(pool)
    with mirror() as hub:
        assert (await run(pool, hub.url, dialect)).withdrawn == 0
        assert await items(pool) == {one.product.stem for one in HELD}
        hub.service.delete(HELD[:60], T)
        hub.control.fail("500", path="DeletedProducts", count=2)
        with pytest.raises(UpstreamUnavailable, match="status 500"):
            await run(pool, hub.url, dialect)
        assert (await run(pool, hub.url, dialect)).withdrawn == 60
        assert await items(pool) == {one.product.stem for one in HELD[60:]}
        hub.service.delete(HELD[60:61], T + timedelta(days=1))
        assert (await run(pool, hub.url, dialect)).withdrawn == 1, "the list is read from where it was left"
    async with pool.connection() as conn:
        rows = await (await conn.execute("select distinct withdrawn_because from federator.holding")).fetchall()
    assert {row["withdrawn_because"] for row in rows} == {None, "Invalid: duplicated"}
