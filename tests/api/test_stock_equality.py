"""Our search gives what the stock server gives, in the same order and key for key, links and fixed faults of the stock server apart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stac_fastapi.pgstac.app import instantiate_api
from stac_fastapi.pgstac.config import PostgresSettings, Settings
from stac_fastapi.pgstac.db import close_db_connection, connect_to_db

from api.main import create_app
from api.settings import ApiSettings
from db.settings import DatabaseSettings
from tests.api.corpus import COLLECTIONS, START, fill, text
from tests.conftest import cloned
from tests.size import sized

NUMBER = 400
IDS = st.lists(st.integers(0, NUMBER // 2 + 3).map(lambda n: f"item-{n:04}"), min_size=1, max_size=30)
DAYS = st.integers(-10, 420)
FIELDS = ("eo:cloud_cover", "platform", "gsd", "grid:code", "datetime", "id", "collection", "missing")
SORTS = st.lists(
    st.tuples(st.sampled_from(FIELDS), st.sampled_from(["asc", "desc"])), max_size=3, unique_by=lambda one: one[0]
).map(lambda ones: [{"field": f"properties.{name}" if ":" in name else name, "direction": way} for name, way in ones])
BOXES = st.tuples(st.integers(-180, 179), st.integers(-90, 89), st.integers(1, 120), st.integers(1, 60)).map(
    lambda one: [one[0], one[1], min(180, one[0] + one[2]), min(90, one[1] + one[3])]
)


def comparison(name: str, value: Any, op: str) -> dict[str, Any]:
    return {"op": op, "args": [{"property": name}, value]}


LEAVES = st.one_of(
    st.builds(comparison, st.just("eo:cloud_cover"), st.sampled_from([0, 10.5, 33]), st.sampled_from(["=", "<", ">", "<=", "<>"])),
    st.builds(comparison, st.just("platform"), st.sampled_from(["sentinel-2a", "é-platform"]), st.sampled_from(["=", "<>"])),
    st.just({"op": "isNull", "args": [{"property": "grid:code"}]}),
    st.just({"op": "like", "args": [{"property": "platform"}, "sentinel%"]}),
    st.just({"op": "between", "args": [{"property": "gsd"}, 5, 15]}),
    st.just({"op": "in", "args": [{"property": "id"}, ["item-0001", "item-0100"]]}),
    st.just({"op": "s_intersects", "args": [{"property": "geometry"}, {"type": "Point", "coordinates": [10, 20]}]}),
    st.just({"op": "t_after", "args": [{"property": "datetime"}, {"timestamp": "2025-06-01T00:00:00Z"}]}),
)  # fmt: skip
FILTERS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda args, op: {"op": op, "args": args}, st.lists(inner, min_size=2, max_size=3), st.sampled_from(["and", "or"])),
        st.builds(lambda one: {"op": "not", "args": [one]}, inner),
    ),
    max_leaves=4,
)  # fmt: skip
WANTED = st.sampled_from(
    [
        "id",
        "type",
        "geometry",
        "assets",
        "assets.own",
        "properties",
        "properties.gsd",
        "properties.eo:cloud_cover",
        "bbox",
    ]
)


def search_of(draw: Any) -> dict[str, Any]:
    """A random search body."""
    body: dict[str, Any] = {"limit": draw(st.sampled_from([1, 7, 40, 500]))}
    if draw(st.booleans()):
        body["collections"] = draw(
            st.lists(st.sampled_from([*COLLECTIONS, "no-such"]), min_size=1, max_size=3, unique=True)
        )
    if draw(st.booleans()):
        body["sortby"] = draw(SORTS)
    match draw(st.integers(0, 5)):
        case 0:
            body["ids"] = draw(IDS)
        case 1:
            body["bbox"] = draw(BOXES)
        case 2:
            since, days = draw(DAYS), draw(st.integers(0, 200))
            body["datetime"] = f"{text(START.fromtimestamp(START.timestamp() + since * 86400, START.tzinfo))}/"
            body["datetime"] += draw(
                st.sampled_from(
                    ["..", text(START.fromtimestamp(START.timestamp() + (since + days) * 86400, START.tzinfo))]
                )
            )
        case 3 | 4:
            body |= {"filter": draw(FILTERS), "filter-lang": "cql2-json"}
            if draw(st.booleans()):
                body["bbox"] = draw(BOXES)
    if draw(st.integers(0, 3)) == 0:
        wanted = draw(st.lists(WANTED, min_size=1, max_size=3, unique=True))
        body["fields"] = {"include": [*wanted, "type", "stac_version"]}  # which we answer always
    return body


class Pair:
    """Our application and the stock one on one database, each asked in this process."""

    def __init__(self, ours: httpx.AsyncClient, stock: httpx.AsyncClient, loop: asyncio.AbstractEventLoop) -> None:
        self._ours, self._stock, self._loop = ours, stock, loop

    def search(self, body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        return self._loop.run_until_complete(self._both(body))

    async def _both(self, body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        ours = await self._ours.post("/stac/search", json=body)
        stock = await self._stock.post("/search", json=body)
        assert ours.status_code == stock.status_code == 200, (ours.text[:500], stock.text[:500])
        return ours.json(), stock.json()

    def walk(
        self, body: dict[str, Any], rel: str = "next", start: dict[str, Any] | None = None
    ) -> tuple[list[Any], dict[str, Any]]:
        return self._loop.run_until_complete(self._walk(body, rel, start))

    async def _walk(
        self, body: dict[str, Any], rel: str, start: dict[str, Any] | None
    ) -> tuple[list[Any], dict[str, Any]]:
        page = start or (await self._ours.post("/stac/search", json=body)).json()
        pages = [page["features"]]
        while link := next((one for one in page["links"] if one["rel"] == rel), None):
            answer = await self._ours.post("/stac/search", json=link["body"])
            assert answer.status_code == 200, answer.text
            page = answer.json()
            pages.append(page["features"])
        return pages, page


async def clients(
    database: DatabaseSettings, data_dir: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    ours = create_app(ApiSettings(data_dir=data_dir, public_url="http://ours"), database)
    stock = instantiate_api(settings=Settings(_env_file=None)).app
    await connect_to_db(
        stock,
        postgres_settings=PostgresSettings(
            pguser=database.pguser, pgpassword=database.pgpassword.get_secret_value(), pghost=database.pghost,
            pgport=database.pgport, pgdatabase=database.pgdatabase,
        ),
    )  # fmt: skip
    try:
        async with (
            ours.router.lifespan_context(ours),
            httpx.AsyncClient(transport=httpx.ASGITransport(ours), base_url="http://ours", timeout=60) as one,
            httpx.AsyncClient(transport=httpx.ASGITransport(stock), base_url="http://stock", timeout=60) as other,
        ):
            yield one, other
    finally:
        await close_db_connection(stock)


@pytest.fixture(scope="module")
def pair(postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    loop = asyncio.new_event_loop()
    with cloned(postgres, template) as database:
        loop.run_until_complete(fill(database, NUMBER))
        opened = clients(database, tmp_path_factory.mktemp("pair"))
        one, other = loop.run_until_complete(anext(opened))
        yield Pair(one, other, loop)
        loop.run_until_complete(opened.aclose())  # type: ignore[attr-defined]
    loop.close()


def bare(feature: dict[str, Any]) -> dict[str, Any]:
    """A feature without links, which name other hosts and more of ours."""
    return {name: value for name, value in feature.items() if name != "links"}


@given(st.data())
@settings(max_examples=sized(40, 150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_same_features_in_the_same_order_key_for_key(pair: Pair, data: st.DataObject) -> None:
    ours, stock = pair.search(body := search_of(data.draw))
    assert [bare(one) for one in ours["features"]] == [bare(one) for one in stock["features"]], body
    assert ours["numberReturned"] == len(ours["features"])
    if ours.get("numberMatched") is not None and not ours.get("federator:numberMatchedIsEstimate"):
        assert (ours["numberMatched"] > len(ours["features"])) == any(one["rel"] == "next" for one in stock["links"])


@given(st.data())
@settings(max_examples=sized(10, 40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pages_together_are_the_whole_search_and_back_again(pair: Pair, data: st.DataObject) -> None:
    body = search_of(data.draw) | {"limit": 500}
    body.pop("fields", None)
    whole, _ = pair.search(body)
    size = data.draw(st.sampled_from([1, 3, 17, 60]))
    small = {**body, "limit": max(size, len(whole["features"]) // 12)}
    pages, last = pair.walk(small)
    key = lambda one: (one["collection"], one["id"])  # noqa: E731
    assert [key(one) for page in pages for one in page] == [key(one) for one in whole["features"]], body
    back, _ = pair.walk(small, "prev", last)
    assert [key(one) for page in reversed(back) for one in page] == [key(one) for one in whole["features"]], body


@pytest.mark.parametrize("direction", ["asc", "desc"])
def test_a_walk_along_time_and_what_some_items_lack_meets_no_item_twice(pair: Pair, direction: str) -> None:
    sort = [{"field": name, "direction": direction} for name in ("datetime", "properties.eo:cloud_cover")]
    whole, _ = pair.search({"limit": 500, "sortby": sort})
    pages, _ = pair.walk({"limit": 33, "sortby": sort})
    names = [(one["collection"], one["id"]) for page in pages for one in page]
    assert names == [(one["collection"], one["id"]) for one in whole["features"]]
