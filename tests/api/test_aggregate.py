"""`/stac/aggregate` counts what `/stac/search` finds: compared with plain Python on awkward items, asked with every kind of filter."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.settings import ApiSettings
from api.stac.aggregations import FREQUENCIES, INTERVALS, PRECISIONS, VALUES, Asked
from db.pools import open_pool
from db.settings import DatabaseSettings
from ingest.collection_files import ensure_collections
from tests.api import plain_aggregates as plain
from tests.api.corpus import COLLECTIONS, L2A, odd_item, store
from tests.api.server import running
from tests.api.test_stac import BAD_GET, BAD_POST, assert_problem
from tests.api.test_stock_equality import search_of
from tests.conftest import cloned
from tests.size import sized

NUMBER = 360
ROOT = "https://api.stacspec.org/v0.3.0/aggregation"
EVERYTHING = [*VALUES, *FREQUENCIES]


def box(west: float, south: float, east: float, north: float) -> list[list[list[float]]]:
    return [[[west, south], [east, south], [east, north], [west, north], [west, south]]]


ODD_FOOTPRINTS: tuple[dict[str, Any], ...] = (
    {"type": "MultiPolygon", "coordinates": [box(178.3, 10.1, 180, 12), box(-180, 10.1, -179.1, 12)]},
    {"type": "MultiPolygon", "coordinates": [box(10.3, 10.1, 11, 12), box(11.5, 10.1, 12, 12), box(-50, 1, -49, 2)]},
    {"type": "Polygon", "coordinates": box(-180, -90, 180, 90)},
    {"type": "Polygon", "coordinates": box(20.2, 86.1, 140.7, 89.9)},
    {"type": "Point", "coordinates": [180, 90]},
    {"type": "Point", "coordinates": [-179.9, -89.99]},
    {"type": "LineString", "coordinates": [[-100.3, -10.7], [91.1, 60.2]]},
)
ODD_PROPERTIES: tuple[dict[str, Any], ...] = (
    {"eo:cloud_cover": "50", "platform": 7, "view:sun_elevation": 12.5},
    {"eo:cloud_cover": 5, "platform": "x" * 257, "view:sun_azimuth": 359.999},
    {"eo:cloud_cover": 15, "platform": "x" * 256, "view:off_nadir": -0.001},
    {"eo:cloud_cover": -3, "platform": ["a"], "view:sun_elevation": 1e300},
    {"eo:cloud_cover": 40.0, "platform": "", "grid:code": "\"'%s\\"},
    {"view:sun_azimuth": True, "view:off_nadir": 0, "view:sun_elevation": -5},
)


def odder_item(number: int) -> dict[str, Any]:
    """Item `number`; one in six of another shape, one in seven with values that nobody expects."""
    one = odd_item(number)
    if number % 6 == 0:
        one["geometry"] = ODD_FOOTPRINTS[number // 6 % len(ODD_FOOTPRINTS)]
    if number % 7 == 0:
        one["properties"] |= ODD_PROPERTIES[number // 7 % len(ODD_PROPERTIES)]
    return one


async def fill(database: DatabaseSettings) -> None:
    async with open_pool(database) as pool:
        await ensure_collections(pool)
        await store(pool, [odder_item(n) for n in range(NUMBER)])


@pytest.fixture(scope="module")
def database(postgres: DatabaseSettings, template: str) -> Iterator[DatabaseSettings]:
    with cloned(postgres, template) as found:
        asyncio.run(fill(found))
        yield found


def listening() -> tuple[socket.socket, str]:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    return listener, f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(scope="module")
def stac(database: DatabaseSettings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    listener, url = listening()
    service = ApiSettings(data_dir=tmp_path_factory.mktemp("aggregate"), public_url=url)
    with running(service, database, listener), httpx.Client(base_url=f"{url}/stac", timeout=30) as client:
        yield client


def aggregated(answer: httpx.Response) -> dict[str, Any]:
    """Name -> value, or counts of the buckets that are not empty."""
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = {}
    for one in answer.json()["aggregations"]:
        if "value" in one:
            found[one["name"]] = one["value"]
            continue
        keys = [bucket["key"] for bucket in one["buckets"]]
        assert len(keys) == len(set(keys)), one["name"]
        found[one["name"]] = {bucket["key"]: bucket["frequency"] for bucket in one["buckets"] if bucket["frequency"]}
    return found


def searched(stac: httpx.Client, body: dict[str, Any]) -> list[dict[str, Any]]:
    """All items that a search finds."""
    answer = stac.post("/search", json={**body, "limit": 1000})
    assert answer.status_code == 200, answer.text
    features: list[dict[str, Any]] = answer.json()["features"]
    return features


def expected(name: str, features: list[dict[str, Any]], asked: Asked) -> Any:
    """The same in plain Python."""
    if name == "total_count":
        return len(features)
    if name in VALUES:
        times = map(plain.begin, features) if name == "datetime_min" else map(plain.end, features)
        return min(times, default=None) if name == "datetime_min" else max(times, default=None)
    one, precision = FREQUENCIES[name], asked.precisions.get(f"{name}_precision", 0)
    match one.kind:
        case "interval":
            counts = plain.times(features, asked.interval)
        case "collection":
            counts = Counter(feature["collection"] for feature in features)
        case "term":
            counts = plain.terms(features, str(one.property))
        case "range":
            counts = plain.clouds(features)
        case "histogram":
            counts = plain.steps(features, str(one.property))
        case "centre":
            counts = plain.centres(features, str(one.grid), precision)
        case "footprint":
            counts = plain.footprints(features, str(one.grid), precision)
    return {key: number for key, number in counts.items() if number}


def assert_as_expected(found: dict[str, Any], features: list[dict[str, Any]], asked: Asked) -> None:
    for name in asked.names:
        given_value = found[name]
        if name in ("datetime_min", "datetime_max") and given_value is not None:
            given_value = plain.time_of(given_value)
        assert given_value == expected(name, features, asked), (name, asked)


#: Footprints are compared on coarse grids alone: plain Python tries every cell.
FINEST = {name: 2 if "geohash" in name else 4 for name in PRECISIONS if name.startswith("geometry")}


def wanted_of(draw: Any) -> dict[str, Any]:
    """Aggregations and how, at random."""
    wanted: dict[str, Any] = {
        "aggregations": draw(st.lists(st.sampled_from(EVERYTHING), min_size=1, max_size=6, unique=True))
    }
    if draw(st.booleans()):
        wanted["datetime_frequency_interval"] = draw(st.sampled_from(INTERVALS))
    for name, held in PRECISIONS.items():
        if name.removesuffix("_precision") in wanted["aggregations"] and draw(st.booleans()):
            wanted[name] = draw(st.integers(held[0], FINEST.get(name, held[-1])))
    return wanted


def filter_of(draw: Any) -> dict[str, Any]:
    """A random search, without what tells how to answer it."""
    return {
        name: value for name, value in search_of(draw).items() if name not in ("limit", "fields", "sortby", "token")
    }


@given(st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_aggregations_are_those_of_the_items_that_the_search_finds(stac: httpx.Client, data: st.DataObject) -> None:
    search, wanted = filter_of(data.draw), wanted_of(data.draw)
    found = aggregated(stac.post("/aggregate", json={**search, **wanted}))
    assert list(found) == wanted["aggregations"]
    assert_as_expected(found, searched(stac, search), Asked.of(wanted))


@pytest.mark.slow
@given(st.data())
@settings(max_examples=sized(50, 400), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_and_so_they_are_many_times(stac: httpx.Client, data: st.DataObject) -> None:
    search, wanted = filter_of(data.draw), wanted_of(data.draw)
    found = aggregated(stac.post("/aggregate", json={**search, **wanted}))
    assert_as_expected(found, searched(stac, search), Asked.of(wanted))


SEARCHES: tuple[tuple[dict[str, str], dict[str, Any]], ...] = (
    ({}, {}),
    ({"collections": L2A}, {"collections": [L2A]}),
    ({"ids": "item-0001,item-0007"}, {"ids": ["item-0001", "item-0007"]}),
    ({"bbox": "170,-60,-170,60"}, {"bbox": [170, -60, -170, 60]}),
    ({"datetime": "2025-03-01T00:00:00Z/.."}, {"datetime": "2025-03-01T00:00:00Z/.."}),
    ({"datetime": "2025-03-01T00:00:00.000/..", "collections": L2A}, {"datetime": "2025-03-01T00:00:00.000/..", "collections": L2A}),
    (
        {"intersects": '{"type":"Point","coordinates":[11.7,11]}'},
        {"intersects": {"type": "Point", "coordinates": [11.7, 11]}},
    ),
    ({"query": '{"gsd":{"gt":15}}'}, {"query": {"gsd": {"gt": 15}}}),
    (
        {"filter": "eo:cloud_cover < 15 AND platform LIKE 'sentinel%'", "filter-lang": "cql2-text"},
        {"filter": {"op": "and", "args": [{"op": "<", "args": [{"property": "eo:cloud_cover"}, 15]},
                                          {"op": "like", "args": [{"property": "platform"}, "sentinel%"]}]}},
    ),
    (
        {"filter": '{"op":"=","args":[{"property":"gsd"},10]}', "filter-lang": "cql2-json"},
        {"filter": {"op": "=", "args": [{"property": "gsd"}, 10]}, "filter-lang": "cql2-json"},
    ),
)  # fmt: skip


@pytest.mark.parametrize(("query", "body"), SEARCHES, ids=str)
def test_every_filter_of_the_search_by_get_and_by_post(
    stac: httpx.Client, query: dict[str, str], body: dict[str, Any]
) -> None:
    posted = aggregated(stac.post("/aggregate", json={**body, "aggregations": EVERYTHING}))
    assert aggregated(stac.get("/aggregate", params={**query, "aggregations": ",".join(EVERYTHING)})) == posted
    features = searched(stac, body)
    assert 0 < len(features) < NUMBER or not body
    assert_as_expected(posted, features, Asked.of({"aggregations": EVERYTHING}))


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_of_a_collection_are_its_items_alone(stac: httpx.Client, collection: str) -> None:
    wanted = {"aggregations": ["total_count", "collection_frequency"]}
    features = searched(stac, {"collections": [collection]})
    others = {"collections": list(COLLECTIONS)}
    for body in (wanted, wanted | others):
        found = aggregated(stac.post(f"/collections/{collection}/aggregate", json=body))
        assert found == {"total_count": len(features), "collection_frequency": {collection: len(features)}}
    by_get = stac.get(f"/collections/{collection}/aggregate", params={"aggregations": "total_count"})
    assert aggregated(by_get) == {"total_count": len(features)}


def test_how_to_answer_a_search_is_nothing_to_an_aggregation(stac: httpx.Client) -> None:
    body = {"aggregations": ["total_count"], "limit": 1, "sortby": [{"field": "id", "direction": "asc"}]}
    assert aggregated(stac.post("/aggregate", json={**body, "fields": {"include": ["id"]}})) == {"total_count": NUMBER}


def test_a_search_that_finds_nothing_has_no_times_and_no_buckets(stac: httpx.Client) -> None:
    found = aggregated(stac.post("/aggregate", json={"ids": ["no-such"], "aggregations": EVERYTHING}))
    assert found.pop("total_count") == 0
    assert found.pop("datetime_min") is found.pop("datetime_max") is None
    assert set(map(str, found.values())) == {"{}"}


def test_fine_cells_of_the_whole_earth_are_left_over(stac: httpx.Client) -> None:
    """Footprints of which each would be in more than a thousand cells."""
    wanted = {"aggregations": ["geometry_geotile_grid_frequency"], "geometry_geotile_grid_frequency_precision": 6}
    (one,) = stac.post("/aggregate", json=wanted).json()["aggregations"]
    assert one["overflow"] == sum(odder_item(n)["geometry"] == ODD_FOOTPRINTS[2] for n in range(0, NUMBER, 6)) > 0


@pytest.mark.parametrize("name", EVERYTHING)
def test_links_lead_back_and_buckets_are_of_their_type(stac: httpx.Client, name: str) -> None:
    url = f"/collections/{L2A}/aggregate"
    answer = stac.get(url, params={"aggregations": name}).json()
    assert answer["type"] == "AggregationCollection"
    links = {link["rel"]: link["href"] for link in answer["links"]}
    assert links["collection"] == f"{str(stac.base_url).rstrip('/')}/collections/{L2A}"
    assert stac.get(links["self"]).json() == answer
    assert stac.get(links["root"]).json()["id"] == "stac-federator"
    (one,) = answer["aggregations"]
    for bucket in one.get("buckets", []):
        assert bucket["data_type"] == FREQUENCIES[name].data_type
        assert isinstance(bucket["frequency"], int)
        assert isinstance(bucket["key"], str)


def test_landing_page_and_collections_lead_to_them(stac: httpx.Client) -> None:
    landing = stac.get("/").json()
    assert {ROOT, f"{ROOT}#query", f"{ROOT}#filter"} <= set(landing["conformsTo"])
    assert {ROOT, f"{ROOT}#query", f"{ROOT}#filter"} <= set(stac.get("/conformance").json()["conformsTo"])
    for page in (landing, stac.get(f"/collections/{L2A}").json(), stac.get("/collections").json()["collections"][0]):
        (offered,) = [link["href"] for link in page["links"] if link["rel"] == "aggregations"]
        ways = {link["method"]: link["href"] for link in page["links"] if link["rel"] == "aggregate"}
        assert set(ways) == {"GET", "POST"}
        for method in ("GET", "POST"):
            answer = stac.request(method, offered).json()
            names = [one["name"] for one in answer["aggregations"]]
            assert names == EVERYTHING
        by_get = aggregated(stac.get(ways["GET"], params={"aggregations": ",".join(names)}))
        assert aggregated(stac.post(ways["POST"], json={"aggregations": names})) == by_get


def test_the_openapi_document_tells_their_parameters(stac: httpx.Client) -> None:
    paths = stac.get("/api").json()["paths"]
    for path in ("/aggregate", "/collections/{collection_id}/aggregate"):
        names = {one["name"] for one in paths[path]["get"]["parameters"]}
        assert names >= {"aggregations", "datetime_frequency_interval", "bbox", "filter", "query", *PRECISIONS}
        assert ("collection_id" in names) == ("collection_id" in path)
        assert set(paths[path]) == {"get", "post"}


BAD_AGGREGATIONS: list[dict[str, str]] = [
    {"aggregations": "nonsense"}, {"aggregations": "total_count\0"}, {"datetime_frequency_interval": "fortnight"},
    *({name: value} for name in PRECISIONS for value in ("-1", "30", "x", "")),
    {"bbox": "0,0,1,1", "intersects": '{"type":"Point","coordinates":[1,1]}'},
]  # fmt: skip
SEARCHED = ("bbox", "datetime", "ids", "collections", "intersects", "filter", "query")


@pytest.mark.parametrize("path", ["/aggregate", f"/collections/{L2A}/aggregate"])
def test_bad_requests_are_problems(stac: httpx.Client, path: str) -> None:
    for parameters in [*BAD_AGGREGATIONS, *(bad for bad in BAD_GET if set(bad) & set(SEARCHED))]:
        assert_problem(stac.get(path, params={"aggregations": "total_count", **parameters}))
    json_type = {"Content-Type": "application/json"}
    for body in BAD_POST:
        if not body.startswith(b'{"') or body.startswith(tuple(f'{{"{name}'.encode() for name in SEARCHED)):
            asked = body.replace(b'{"', b'{"aggregations":["total_count"],"', 1)
            assert_problem(stac.post(path, content=asked, headers=json_type))
    for bad in ({"aggregations": "x"}, {"aggregations": [1]}, {"aggregations": 1}, {"datetime_frequency_interval": 1},
                *({name: value} for name in PRECISIONS for value in (-1, 30, 1.5, True, "x", [], {}))):  # fmt: skip
        assert_problem(stac.post(path, json=bad))


@pytest.mark.parametrize("path", ["/collections/no-such/aggregate", "/collections/no-such/aggregations"])
def test_of_no_collection_there_is_nothing(stac: httpx.Client, path: str) -> None:
    for answer in (stac.get(path), stac.post(path, json={})):
        assert_problem(answer)
        assert answer.status_code == 404


ANYTHING = st.text(max_size=20) | st.sampled_from(["total_count", "1,2,3,4", "day", "3", "a=b", "{}", "cql2-json"])


@given(
    st.dictionaries(
        st.sampled_from(["aggregations", "datetime_frequency_interval", *PRECISIONS, *SEARCHED]), ANYTHING, max_size=4
    )
)
@settings(max_examples=sized(30, 150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_query_string_is_a_500(stac: httpx.Client, parameters: dict[str, str]) -> None:
    try:
        answer = stac.get("/aggregate", params=parameters)
    except UnicodeEncodeError:
        return
    assert answer.status_code < 500, (parameters, answer.text[:300])


LEAF = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9)
JSON = st.recursive(
    LEAF, lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=5), one, max_size=3), max_leaves=5
)


@given(
    st.dictionaries(
        st.sampled_from(["aggregations", "datetime_frequency_interval", *PRECISIONS, *SEARCHED]), JSON, max_size=3
    )
)
@settings(max_examples=sized(30, 150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_body_is_a_500(stac: httpx.Client, body: dict[str, Any]) -> None:
    answer = stac.post("/aggregate", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code < 500, (body, answer.text[:300])


@pytest.mark.parametrize("path", ["/aggregate", "/search"])
def test_an_integer_beyond_64_bits_is_a_large_number(stac: httpx.Client, path: str) -> None:
    body = {"query": {"gsd": {"lt": 10**30}}, "aggregations": ["total_count"], "limit": 1}
    answer = stac.post(path, json=body)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["aggregations"][0]["value"] if path == "/aggregate" else found["numberMatched"]) == NUMBER


def test_of_too_many_buckets_the_fullest_are_told_of_intervals_the_newest(database: DatabaseSettings) -> None:
    names = ["datetime_frequency", "grid_code_frequency", "geometry_geohash_grid_frequency"]
    wanted = json.dumps(Asked.of({"aggregations": names}).wanted())
    with psycopg.connect(database.conninfo, autocommit=True, options="-c search_path=pgstac,public") as conn:
        call = "select buckets from federator.aggregate('true', '{}', %s, %s)"
        (every,), (some,) = (conn.execute(call, (wanted, most)).fetchone() or () for most in (10_000, 3))
    for name in names:
        counts = dict(zip(every[name]["keys"], every[name]["frequencies"], strict=True))
        told = dict(zip(some[name]["keys"], some[name]["frequencies"], strict=True))
        order = (lambda key: key) if name == names[0] else (lambda key, counts=counts: counts[key])
        assert told.items() <= counts.items()
        assert sorted(map(order, told)) == sorted(map(order, counts))[-3:], name
        assert some[name]["overflow"] == sum(counts.values()) - sum(told.values()) + every[name]["overflow"]


def test_what_takes_too_long_is_a_problem_with_a_code(database: DatabaseSettings, tmp_path: Path) -> None:
    listener, url = listening()
    short = database.model_copy(update={"read_timeout_s": 0.4})
    with running(ApiSettings(data_dir=tmp_path, public_url=url), short, listener), httpx.Client(timeout=30) as client:
        with psycopg.connect(database.conninfo) as conn:
            conn.execute("lock table pgstac.items in access exclusive mode")
            answer = client.get(f"{url}/stac/aggregate?aggregations=total_count")
        assert (answer.status_code, answer.json()["code"]) == (503, "QUERY_TIMEOUT")
        assert answer.headers["retry-after"]
        assert client.get(f"{url}/stac/aggregate?aggregations=total_count").status_code == 200


def test_a_new_item_counts_at_once(stac: httpx.Client, database: DatabaseSettings) -> None:
    wanted = {"aggregations": ["total_count"], "collections": ["uploads"]}
    assert aggregated(stac.post("/aggregate", json=wanted)) == {"total_count": 0}
    with psycopg.connect(database.conninfo, autocommit=True, options="-c search_path=pgstac,public") as conn:
        for number in range(3):
            one = {**odd_item(number), "collection": "uploads", "id": f"new-{number}"}
            conn.execute("select pgstac.create_item(%s::jsonb)", (json.dumps(one),))
            assert aggregated(stac.post("/aggregate", json=wanted)) == {"total_count": number + 1}
        conn.execute("delete from pgstac.items where collection = 'uploads'")
    assert aggregated(stac.post("/aggregate", json=wanted)) == {"total_count": 0}
