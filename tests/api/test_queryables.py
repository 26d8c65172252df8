"""Queryables and sortables say what items have, follow what is written at once, and tell nobody of what he may not see."""

from __future__ import annotations

import asyncio
import copy
import json
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import httpx
import jsonschema
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.settings import ApiSettings
from api.stac.schemas import Facts, queryables, sortables
from db.pools import Pool, open_pool
from db.settings import DatabaseSettings
from ingest.collection_files import ensure_collections
from ingest.store import delete_items, lock_items
from ingest.summaries import summarise
from ingest.summary_making import rebuild_all
from tests.api.corpus import GRD, L1C, L2A, odd_item, store
from tests.api.server import listening, running
from tests.conftest import cloned
from tests.ingest.test_summaries import PROPERTIES
from tests.stac_schemas import faults

JSON = dict[str, Any]
NUMBER = 90


def item(number: int, collection: str, **properties: Any) -> JSON:
    one = copy.deepcopy(odd_item(number))
    one |= {"collection": collection, "id": f"own-{number:04}"}
    one["properties"] |= properties
    return one


class Service:
    """The running application and its database."""

    def __init__(self, client: httpx.Client, database: DatabaseSettings) -> None:
        self.client, self._database = client, database

    def get(self, path: str) -> JSON:
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        found: JSON = answer.json()
        return found

    def does(self, work: Callable[[Pool], Coroutine[Any, Any, Any]]) -> Any:
        async def run() -> Any:
            async with open_pool(self._database, min_size=0) as pool:
                return await work(pool)

        return asyncio.run(run())

    def writes(self, *items: JSON) -> None:
        self.does(lambda pool: store(pool, list(items)))

    def execute(self, statement: str, *values: Any) -> None:
        with psycopg.connect(self._database.conninfo, autocommit=True) as conn:
            conn.execute(statement.encode(), values)


@pytest.fixture
def service(postgres: DatabaseSettings, template: str, tmp_path: Any) -> Iterator[Service]:
    listener, url = listening()
    with cloned(postgres, template) as database:

        async def fill() -> None:
            async with open_pool(database) as pool:
                await ensure_collections(pool)
                await store(pool, [odd_item(number) for number in range(NUMBER)])

        asyncio.run(fill())
        settings = ApiSettings(data_dir=tmp_path, public_url=url)
        with running(settings, database, listener), httpx.Client(base_url=f"{url}/stac", timeout=30) as client:
            yield Service(client, database)


def soon(claim: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 5
    while not (is_so := claim()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return is_so


def of(collection: str) -> list[JSON]:
    return [one["properties"] for one in map(odd_item, range(NUMBER)) if one["collection"] == collection]


def test_enums_and_ranges_are_those_of_the_items(service: Service) -> None:
    for collection in (L2A, L1C, GRD):
        told = service.get(f"/collections/{collection}/queryables")["properties"]
        items = of(collection)
        assert told["platform"]["enum"] == sorted({one["platform"] for one in items})
        assert (told["gsd"]["minimum"], told["gsd"]["maximum"]) == (10, 20.5)
        covers = [one["eo:cloud_cover"] for one in items if "eo:cloud_cover" in one]
        assert told["eo:cloud_cover"]["minimum"] == min(covers)
        assert told["eo:cloud_cover"]["maximum"] >= max(covers)
        assert told["collection"]["enum"] == [collection]
        assert "sat:relative_orbit" not in told, "no item has it"
    assert service.get("/queryables")["properties"]["collection"]["enum"] == sorted([L2A, L1C, GRD, "uploads"])
    assert "sat:relative_orbit" in service.get("/queryables")["properties"], "registered for all"
    assert "eo:cloud_cover" in service.get("/collections/uploads/queryables")["properties"], (
        "nobody knows yet what it will hold"
    )


def test_every_value_that_is_told_finds_something_and_no_other_does(service: Service) -> None:
    told = service.get(f"/collections/{L2A}/queryables")["properties"]
    for name, schema in told.items():
        for value in schema.get("enum", []) if name != "collection" else []:
            found = service.client.get(
                f"/collections/{L2A}/items", params={"filter": f"{name} = '{value}'", "limit": 1}
            )
            assert found.json()["features"], (name, value)
        if schema.get("enum") and name != "collection":
            quoted = ", ".join(f"'{value}'" for value in schema["enum"])
            other = service.client.get(f"/collections/{L2A}/items", params={"filter": f"{name} NOT IN ({quoted})"})
            assert other.json()["features"] == []
        if "minimum" in schema:
            bounds = f"{name} < {schema['minimum']} OR {name} > {schema['maximum']}"
            assert service.client.get(f"/collections/{L2A}/items", params={"filter": bounds}).json()["features"] == []


@pytest.mark.parametrize("kind", ["queryables", "sortables"])
def test_documents_are_json_schemas_of_the_items(service: Service, kind: str) -> None:
    for path in (f"/{kind}", f"/collections/{L2A}/{kind}", f"/collections-{kind}"):
        answer = service.client.get(path)
        schema = answer.json()
        assert answer.headers["content-type"] == "application/schema+json"
        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        assert schema["$id"] == f"{service.client.base_url}{path}".replace("/stac//", "/stac/")
        assert (schema["type"], schema["additionalProperties"]) == ("object", True)
        jsonschema.Draft202012Validator.check_schema(schema)
    schema = service.get(f"/collections/{L2A}/{kind}")
    schema["properties"].pop("geometry", None)  # its schema is elsewhere
    for number in range(NUMBER):
        one = odd_item(number)
        if one["collection"] == L2A:
            jsonschema.validate({**one["properties"], "id": one["id"], "collection": L2A}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"gsd": "ten"}, schema)


def test_what_is_written_is_told_at_once_and_what_is_known_already_makes_nothing_old(service: Service) -> None:
    changes = service.get(f"/collections/{L2A}/queryables")
    assert "sentinel-9" not in json.dumps(changes)
    service.writes(item(3, L2A, platform="sentinel-9", gsd=5))
    told = lambda: service.get(f"/collections/{L2A}/queryables")["properties"]  # noqa: E731
    assert soon(lambda: "sentinel-9" in told()["platform"]["enum"])
    assert soon(lambda: told()["gsd"]["minimum"] == 5)
    assert soon(lambda: "sentinel-9" in service.get("/queryables")["properties"]["platform"]["enum"])
    assert soon(lambda: "sentinel-9" in service.get(f"/collections/{L2A}")["summaries"]["platform"])
    assert "sentinel-9" not in service.client.get(f"/collections/{L1C}/queryables").text

    with psycopg.connect(service._database.conninfo, autocommit=True) as conn:
        conn.execute("listen federator_catalogue")
        service.writes(item(6, L2A, platform="sentinel-9", gsd=5, datetime="2025-02-01T00:00:00Z"))
        assert list(conn.notifies(timeout=0.3)) == []
        service.writes(item(6, L2A, platform="sentinel-10"))
        assert [one.payload for one in conn.notifies(timeout=2, stop_after=1)] == ["summaries"]


def test_what_is_gone_is_not_told_after_a_reading_anew(service: Service) -> None:
    service.writes(item(3, L2A, platform="sentinel-9"))
    path = f"/collections/{L2A}/queryables"
    assert soon(lambda: "sentinel-9" in service.client.get(path).text)

    async def delete(pool: Pool) -> None:
        async with pool.connection() as conn, conn.transaction():
            await lock_items(conn, L2A)
            await delete_items(conn, L2A, ["own-0003"], {})
        await rebuild_all(pool)

    service.does(delete)
    assert soon(lambda: "sentinel-9" not in service.client.get(path).text)


def test_extent_and_summaries_are_those_of_the_items(service: Service) -> None:
    for collection in (
        service.get(f"/collections/{L2A}"),
        next(c for c in service.get("/collections")["collections"] if c["id"] == L2A),
    ):
        items = [one for one in map(odd_item, range(NUMBER)) if one["collection"] == L2A]
        assert faults(collection, "collection") == []
        west, south, east, north = collection["extent"]["spatial"]["bbox"][0]
        boxes = [one["bbox"] for one in items]
        assert [west, south] == [min(box[0] for box in boxes), min(box[1] for box in boxes)]
        assert [east, north] == [max(box[2] for box in boxes), max(box[3] for box in boxes)]
        first = min(one["properties"]["datetime"] for one in items)
        assert collection["extent"]["temporal"]["interval"][0][0] == f"{first[:10]}T00:00:00Z"
        assert collection["summaries"]["platform"] == sorted({one["platform"] for one in of(L2A)})
        assert collection["summaries"]["gsd"] == {"minimum": 10, "maximum": 20.5}
    assert service.get("/collections/uploads")["extent"]["spatial"]["bbox"] == [[-180, -90, 180, 90]]


def test_collection_search_sees_the_extents_of_the_items(service: Service) -> None:
    async def empty(pool: Pool) -> None:
        async with pool.connection() as conn:
            await conn.execute("delete from pgstac.items where collection = $1", (L1C,))
        one = item(1, L1C)
        one |= {"bbox": [10, 10, 12, 12], "geometry": {"type": "Point", "coordinates": [11, 11]}}
        one["properties"] = {"datetime": "2025-05-05T00:00:00Z", "platform": "sentinel-2a"}
        await store(pool, [one])
        await rebuild_all(pool)

    service.does(empty)
    names = lambda query: {one["id"] for one in service.get(f"/collections?{query}")["collections"]}  # noqa: E731
    assert soon(lambda: L1C not in names("bbox=20,20,30,30"))
    assert L1C in names("bbox=11,11,30,30")
    assert L1C not in names("datetime=2024-01-01T00:00:00Z/2025-05-04T00:00:00Z")
    assert L1C in names("datetime=2025-05-05T00:00:00Z")
    assert names("sortby=-id&limit=1") == {"uploads"}


def test_nothing_of_a_hidden_collection_is_told(service: Service) -> None:
    service.writes(item(3, GRD, platform="secret-platform", gsd=1), item(6, GRD, **{"secret:property": "x"}))
    paths = ("/queryables", "/sortables", "/collections", "/")
    assert soon(lambda: "secret-platform" in service.client.get("/queryables").text)
    service.execute("insert into federator.collection_access (collection_id, visibility) values (%s, 'private')", GRD)
    for path in paths:
        assert soon(lambda path=path: "secret" not in service.client.get(path).text), path  # type: ignore[misc]
        assert GRD not in service.client.get(path).text
    assert service.get("/queryables")["properties"]["gsd"]["minimum"] == 10
    for kind in ("queryables", "sortables"):
        hidden, absent = (service.client.get(f"/collections/{name}/{kind}") for name in (GRD, "no-such"))
        assert hidden.status_code == absent.status_code == 404
        assert hidden.json() == absent.json()


def test_a_private_item_is_in_no_document(service: Service) -> None:
    service.writes(item(3, L2A, platform="secret-platform"))
    service.execute("update pgstac.items set private = '{\"readers\": []}' where id = 'own-0003'")
    service.does(rebuild_all)
    assert soon(lambda: "secret-platform" not in service.client.get("/queryables").text)
    assert "secret-platform" not in service.client.get(f"/collections/{L2A}").text


def test_sortables_sort(service: Service) -> None:
    """Each of them, both ways, over all pages: values come in order, what has none comes last or first."""
    names = service.get("/sortables")["properties"]
    assert {"id", "collection", "datetime", "gsd", "platform", "eo:cloud_cover", "grid:code"} <= set(names)
    assert "geometry" not in names
    for name in (*names, "end_datetime"):
        for sign in ("+", "-"):
            page = service.client.get("/search", params={"sortby": f"{sign}{name}", "limit": NUMBER}).json()
            values = [value for one in page["features"] if (value := one["properties"].get(name)) is not None]
            if name in ("gsd", "eo:cloud_cover", "platform"):
                assert values == sorted(values, reverse=sign == "-"), name
            assert len(page["features"]) == NUMBER
    for kind in ("search", f"collections/{L2A}/items", "collections"):
        for name in ("geometry", "assets.own.href", "links", "properties"):
            answer = service.client.get(f"/{kind}", params={"sortby": name})
            assert (answer.status_code, answer.json()["code"]) == (400, "NOT_SORTABLE")
    posted = service.client.post("/search", json={"sortby": [{"field": "geometry", "direction": "asc"}]})
    assert posted.json()["code"] == "NOT_SORTABLE"


def test_collections_are_sorted_and_filtered_by_what_they_say(service: Service) -> None:
    for name in service.get("/collections-sortables")["properties"]:
        for sign in ("", "-"):
            found = service.get(f"/collections?sortby={sign}{name}")["collections"]
            assert len(found) == 4
            if name in ("id", "license"):
                values = [one[name] for one in found]
                assert values == sorted(values, reverse=bool(sign)), name
    for name in service.get("/collections-queryables")["properties"]:
        value = "TIMESTAMP('1800-01-01T00:00:00Z')" if name == "datetime" else "'zzz'"
        assert service.client.get("/collections", params={"filter": f"{name} = {value}"}).json()["collections"] == []
        assert (
            len(service.client.get("/collections", params={"filter": f"{name} <> {value}"}).json()["collections"]) == 4
        )
    one = service.client.get("/collections", params={"filter": "title LIKE '%Level-2A%' OR id = 'uploads'"}).json()[
        "collections"
    ]
    assert {found["id"] for found in one} == {"uploads", L2A}


def test_links_lead_to_the_documents(service: Service) -> None:
    rels = {kind: f"http://www.opengis.net/def/rel/ogc/1.0/{kind}" for kind in ("queryables", "sortables")}
    for page, prefix in (("/", ""), (f"/collections/{L2A}", f"/collections/{L2A}"), ("/collections", "/collections-")):
        links = service.get(page)["links"]
        for kind, rel in rels.items():
            (href,) = {link["href"] for link in links if link["rel"] == rel}
            assert href.endswith(f"/stac{prefix}/{kind}" if not prefix.endswith("-") else f"/stac{prefix}{kind}")
            assert service.client.get(href).status_code == 200


def without_nulls(value: Any) -> Any:
    """Nulls count for nothing, in arrays too."""
    return [without_nulls(one) for one in value if one is not None] if isinstance(value, list) else value


DEFINITIONS = st.dictionaries(
    st.sampled_from(["one", "two", "four"]),
    st.sampled_from(
        [{}, {"title": "T"}, {"type": "string", "enum": ["q"]}, {"type": "number", "minimum": 99, "title": "N"}]
    ),
)


@given(st.lists(st.lists(PROPERTIES, max_size=4), max_size=3), DEFINITIONS, st.booleans(), st.booleans())
def test_whatever_items_have_is_valid_by_what_is_told(
    lots: list[list[JSON]], registered: Any, of_one: bool, everywhere: bool
) -> None:
    summaries = [summarise(lot, [], None, None) for lot in lots]
    rows = [{"name": name, "definition": one, "everywhere": everywhere} for name, one in registered.items()]
    facts = Facts(["c"], rows, summaries, is_open=True)
    for document in (queryables(facts, "http://x/q", of_one=of_one), sortables(facts, "http://x/s", of_one=of_one)):
        jsonschema.Draft202012Validator.check_schema(document)
        document["properties"].pop("geometry", None)
        validator = jsonschema.Draft202012Validator(document)
        for properties in (one for lot in lots for one in lot):
            told = {
                name: without_nulls(value)
                for name, value in properties.items()
                if value is not None and name != "datetime"
            }
            assert validator.is_valid(told)
