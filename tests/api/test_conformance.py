"""Each conformance class that is declared has a test that proves it, and no other is declared."""

from __future__ import annotations

import importlib
import json
from typing import Any

import httpx
import pytest

from tests.api.conftest import ITEMS
from tests.api.cql2_items import EXPRESSIONS
from tests.stac_schemas import faults

STAC, RC1, RC2 = (
    "https://api.stacspec.org/v1.0.0",
    "https://api.stacspec.org/v1.0.0-rc.1",
    "https://api.stacspec.org/v1.0.0-rc.2",
)
SORT = "https://api.stacspec.org/v1.1.0"
OGC = "http://www.opengis.net/spec"
CQL2 = f"{OGC}/cql2/1.0/conf"
HERE, COLLECTIONS = "test_conformance:test_", "test_transactions_collections:test_"

#: Class -> test, as module of `tests.api`, function and parameter.
PROOFS = {
    f"{STAC}/core": "test_stac:test_every_link_of_the_landing_page_answers_and_stays_here",
    f"{STAC}/collections": "test_stac:test_collections_are_valid_and_searchable",
    f"{STAC}/ogcapi-features": f"{HERE}items_of_a_collection",
    f"{STAC}/item-search": "test_stac:test_search_by_bbox_time_and_cql2",
    f"{OGC}/ogcapi-features-1/1.0/conf/core": f"{HERE}items_of_a_collection",
    f"{OGC}/ogcapi-features-1/1.0/conf/oas30": f"{HERE}the_description_is_openapi_3_0",
    f"{OGC}/ogcapi-features-1/1.0/conf/geojson": f"{HERE}features_are_geojson",
    # Filter
    f"{STAC}/item-search#filter": f"{HERE}text_and_json_find_the_same",
    f"{RC2}/item-search#filter": f"{HERE}text_and_json_find_the_same",
    f"{OGC}/ogcapi-features-3/1.0/conf/filter": "test_queryables:test_every_value_that_is_told_finds_something_and_no_other_does",
    f"{OGC}/ogcapi-features-3/1.0/conf/features-filter": "test_queryables:test_every_value_that_is_told_finds_something_and_no_other_does",
    f"{OGC}/ogcapi-features-3/1.0/conf/queryables": "test_queryables:test_documents_are_json_schemas_of_the_items[queryables]",
    f"{CQL2}/cql2-text": f"{HERE}text_and_json_find_the_same",
    f"{CQL2}/cql2-json": f"{HERE}text_and_json_find_the_same",
    **{f"{CQL2}/{name}": f"test_cql2:test_a_class_finds_what_the_standard_says[{name}]" for name in EXPRESSIONS},
    # Sort
    f"{STAC}/item-search#sort": "test_queryables:test_sortables_sort",
    f"{SORT}/item-search#sort": "test_queryables:test_sortables_sort",
    f"{SORT}/item-search#sortables": "test_queryables:test_sortables_sort",
    f"{SORT}/ogcapi-features#sort": f"{HERE}items_of_a_collection_are_sorted",
    f"{OGC}/ogcapi-features-5/1.0/conf/sortables": "test_queryables:test_documents_are_json_schemas_of_the_items[sortables]",
    # Fields and query
    f"{STAC}/item-search#fields": "test_stac:test_sort_fields_and_query",
    f"{STAC}/ogcapi-features#fields": f"{HERE}items_of_a_collection_have_the_fields_that_are_asked",
    f"{STAC}/item-search#query": f"{HERE}query_knows_every_operator",
    f"{STAC}/ogcapi-features#query": f"{HERE}query_knows_every_operator",
    # Collection search
    f"{RC1}/collection-search": f"{HERE}collection_search",
    f"{OGC}/ogcapi-common-2/1.0/conf/simple-query": "test_queryables:test_collection_search_sees_the_extents_of_the_items",
    f"{RC1}/collection-search#filter": "test_queryables:test_collections_are_sorted_and_filtered_by_what_they_say",
    f"{RC1}/collection-search#free-text": f"{HERE}collection_search",
    f"{RC1}/collection-search#fields": f"{HERE}collection_search",
    f"{RC1}/collection-search#query": f"{HERE}collection_search",
    f"{SORT}/collection-search#sort": "test_queryables:test_collections_are_sorted_and_filtered_by_what_they_say",
    f"{SORT}/collection-search#sortables": "test_queryables:test_collections_are_sorted_and_filtered_by_what_they_say",
    # Aggregation
    "https://api.stacspec.org/v0.3.0/aggregation": "test_aggregate:test_aggregations_are_those_of_the_items_that_the_search_finds",
    "https://api.stacspec.org/v0.3.0/aggregation#filter": "test_aggregate:test_every_filter_of_the_search_by_get_and_by_post",
    "https://api.stacspec.org/v0.3.0/aggregation#query": "test_aggregate:test_every_filter_of_the_search_by_get_and_by_post",
    # Transactions
    f"{STAC}/ogcapi-features/extensions/transaction": "test_transactions:test_an_item_is_made_read_changed_and_deleted",
    f"{STAC}/collections/extensions/transaction": f"{COLLECTIONS}a_collection_is_made_changed_and_deleted_and_every_answer_is_new_at_once",
    # Catalogs
    f"{STAC}/children": "test_catalogs:test_children_of_the_root_are_its_catalogs_and_collections",
    f"{STAC}/children#type-filter": "test_catalogs:test_children_of_the_root_are_its_catalogs_and_collections",
    f"{RC2}/children": "test_catalogs:test_children_of_the_root_are_its_catalogs_and_collections",
    f"{STAC}/multi-tenant-catalogs": "test_catalogs:test_all_links_of_a_catalog_answer",
    f"{STAC}/multi-tenant-catalogs/search": "test_catalogs:test_a_scoped_search_finds_nothing_outside",
    f"{RC2}/multi-tenant-catalogs": "test_catalogs:test_all_links_of_a_catalog_answer",
    f"{RC2}/multi-tenant-catalogs/search": "test_catalogs:test_a_scoped_search_finds_nothing_outside",
}
#: Only where there is more than one source.
SOMETIMES = {
    "https://api.openeo.org/extensions/federation/0.1.0": "test_catalogs:test_sources_are_named_in_the_words_of_openeo"
}
ITEMS_PATH = "/stac/collections/sentinel-2-l2a/items"


def test_what_is_declared_is_proved_and_the_other_way_round(api: httpx.Client) -> None:
    declared = api.get("/stac/conformance").json()["conformsTo"]
    assert sorted(declared) == sorted(PROOFS)
    assert len(declared) == len(set(declared))
    assert api.get("/stac").json()["conformsTo"] == declared


@pytest.mark.parametrize("uri", [*PROOFS, *SOMETIMES])
def test_the_proof_is_there(uri: str) -> None:
    module, _, rest = {**PROOFS, **SOMETIMES}[uri].partition(":")
    function, _, parameter = rest.partition("[")
    proof = getattr(importlib.import_module(f"tests.api.{module}"), function)
    if parameter:
        (mark,) = [one for one in proof.pytestmark if one.name == "parametrize"]
        assert parameter.rstrip("]") in mark.args[1]


def numbers(answer: httpx.Response) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [int(one["id"].removeprefix("SAMPLE_")) for one in answer.json()["features"]]


def test_items_of_a_collection(api: httpx.Client) -> None:
    found, url = [], f"{ITEMS_PATH}?limit=10"
    while url:
        page = api.get(url)
        found += numbers(page)
        url = next((link["href"] for link in page.json()["links"] if link["rel"] == "next"), "")
    assert sorted(found) == list(range(ITEMS))
    assert sorted(numbers(api.get(ITEMS_PATH, params={"bbox": "0.95,45,1.25,45.1"}))) == [9, 10, 11, 12]
    assert sorted(numbers(api.get(ITEMS_PATH, params={"datetime": "2026-03-03T00:00:00Z/2026-03-05T00:00:00Z"}))) == [
        2,
        3,
        4,
    ]
    assert api.get("/stac/collections/no-such/items").status_code == 404


def test_the_description_is_openapi_3_0(api: httpx.Client) -> None:
    (link,) = [one for one in api.get("/stac").json()["links"] if one["rel"] == "service-desc"]
    answer = api.get(link["href"])
    assert link["type"] == answer.headers["content-type"] == "application/vnd.oai.openapi+json;version=3.0"
    assert answer.json()["openapi"].startswith("3.0")
    assert not_of_3_0(answer.json()) == []
    assert {"/", "/conformance", "/collections", "/search", "/queryables", "/sortables", "/children"} <= set(
        answer.json()["paths"]
    )


def not_of_3_0(node: Any, path: str = "") -> list[str]:
    """Where something is said in words that came with OpenAPI 3.1."""
    found = []
    if isinstance(node, list):
        for place, one in enumerate(node):
            found += not_of_3_0(one, f"{path}/{place}")
    if isinstance(node, dict):
        is_schema = not path.endswith(("/properties", "/schemas", "/example", "/default"))
        found += [f"{path}/{name}" for name in ("const", "prefixItems", "$defs", "if") if is_schema and name in node]
        found += [path] if is_schema and (node.get("type") == "null" or isinstance(node.get("type"), list)) else []
        found += [path] if is_schema and not isinstance(node.get("exclusiveMinimum", True), bool) else []
        found += [path] if is_schema and "$ref" in node and len(node) > 1 else []
        found += [path] if is_schema and node.get("type") == "array" and "items" not in node else []
        for name, one in node.items():
            found += not_of_3_0(one, f"{path}/{name}")
    return found


def test_a_geometry_in_a_url_is_read_once(api: httpx.Client) -> None:
    geometry = '{"type": "Point", "coordinates": [1.05e+0, 4505e-2]}'
    assert numbers(api.get("/stac/search", params={"intersects": geometry})) == [10]


def test_features_are_geojson(api: httpx.Client) -> None:
    for path in ("/stac/search", ITEMS_PATH, f"{ITEMS_PATH}/SAMPLE_003"):
        answer = api.get(path)
        assert answer.headers["content-type"] == "application/geo+json"
        found = answer.json()
        for one in found.get("features", [found]):
            assert faults(one) == []


@pytest.mark.parametrize("path", ["/stac/search", ITEMS_PATH])
def test_text_and_json_find_the_same(api: httpx.Client, path: str) -> None:
    text = "eo:cloud_cover >= 7 AND (eo:cloud_cover < 12 OR platform = 'none')"
    as_json = {
        "op": "and",
        "args": [
            {"op": ">=", "args": [{"property": "eo:cloud_cover"}, 7]},
            {
                "op": "or",
                "args": [
                    {"op": "<", "args": [{"property": "eo:cloud_cover"}, 12]},
                    {"op": "=", "args": [{"property": "platform"}, "none"]},
                ],
            },
        ],
    }
    asked = [
        api.get(path, params={"filter": text}),
        api.get(path, params={"filter": text, "filter-lang": "cql2-text"}),
        api.get(path, params={"filter": json.dumps(as_json), "filter-lang": "cql2-json"}),
    ]
    if path.endswith("search"):
        asked.append(api.post(path, json={"filter": as_json, "filter-lang": "cql2-json"}))
        asked.append(api.post(path, json={"filter": as_json}))
    assert [sorted(numbers(one)) for one in asked] == [[7, 8, 9, 10, 11]] * len(asked)


def test_items_of_a_collection_are_sorted(api: httpx.Client) -> None:
    assert numbers(api.get(ITEMS_PATH, params={"sortby": "-properties.eo:cloud_cover", "limit": 3})) == [
        ITEMS - n for n in (1, 2, 3)
    ]
    assert numbers(api.get(ITEMS_PATH, params={"sortby": "+eo:cloud_cover", "limit": 3})) == [0, 1, 2]
    assert numbers(api.get(ITEMS_PATH, params={"sortby": "platform,-id", "limit": 2})) == [ITEMS - 1, ITEMS - 2]


def test_items_of_a_collection_have_the_fields_that_are_asked(api: httpx.Client) -> None:
    (one,) = api.get(ITEMS_PATH, params={"fields": "id,properties.platform,-geometry", "limit": 1}).json()["features"]
    assert one["properties"] == {"platform": "sentinel-2a"}
    assert "assets" not in one
    assert "geometry" not in one


COVER = "eo:cloud_cover"
QUERIES: list[tuple[Any, Any]] = [
    ({COVER: {"eq": 5}}, [5]),
    ({COVER: {"neq": 5}, "id": {"in": ["SAMPLE_004", "SAMPLE_005"]}}, [4]),
    ({COVER: {"lt": 2}}, [0, 1]),
    ({COVER: {"lte": 2}}, [0, 1, 2]),
    ({COVER: {"gt": ITEMS - 3}}, [ITEMS - 2, ITEMS - 1]),
    ({COVER: {"gte": ITEMS - 2}}, [ITEMS - 2, ITEMS - 1]),
    ({COVER: {"gte": 3, "lt": 5.5}}, [3, 4, 5]),
    ({"id": {"startsWith": "SAMPLE_00"}, COVER: {"lt": 2}}, [0, 1]),
    ({"id": {"endsWith": "_007"}}, [7]),
    ({"id": {"contains": "E_00"}, COVER: {"gt": 8}}, [9]),
    ({"id": {"contains": "E%00"}}, []),
    ({"id": {"contains": "\\"}}, []),
    ({COVER: {"in": [1, 3, 99]}}, [1, 3]),
    ({"platform": {"in": ["sentinel-2a"]}, COVER: {"eq": 1}}, [1]),
    ({"datetime": {"lt": "2026-03-03T00:00:00Z"}}, [0, 1]),
    ({}, range(ITEMS)),
]


@pytest.mark.parametrize(("query", "expected"), QUERIES, ids=str)
def test_query_knows_every_operator(api: httpx.Client, query: Any, expected: Any) -> None:
    text = json.dumps(query)
    asked = [
        api.post("/stac/search", json={"query": query, "limit": 100}),
        api.get("/stac/search", params={"query": text, "limit": 100}),
        api.get(ITEMS_PATH, params={"query": text, "limit": 100}),
    ]
    assert [sorted(numbers(one)) for one in asked] == [list(expected)] * 3


@pytest.mark.parametrize(
    "query",
    [
        {COVER: {"near": 5}},
        {COVER: {"eq": None}},
        {COVER: {"eq": {}}},
        {COVER: {"in": []}},
        {"id": {"startsWith": 5}},
        {COVER: {"in": 5}},
    ],
)
def test_queries_that_mean_nothing_are_refused(api: httpx.Client, query: Any) -> None:
    for answer in (
        api.post("/stac/search", json={"query": query}),
        api.get("/stac/search", params={"query": json.dumps(query)}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_QUERY")


def test_collection_search(api: httpx.Client) -> None:
    def ids(**asked: str) -> list[str]:
        answer = api.get("/stac/collections", params=asked)
        assert answer.status_code == 200, answer.text
        return [one["id"] for one in answer.json()["collections"]]

    assert len(ids()) == api.get("/stac/collections").json()["numberMatched"] == 4
    assert ids(q="radar") == ["sentinel-1-grd"]
    assert set(ids(q="radar,rasters")) == {"sentinel-1-grd", "uploads"}
    assert ids(query=json.dumps({"id": {"eq": "uploads"}})) == ["uploads"]
    assert ids(query=json.dumps({"id": {"startsWith": "sentinel-1"}})) == ["sentinel-1-grd"]
    assert ids(filter="id LIKE 'sentinel-1%'") == ["sentinel-1-grd"]
    assert ids(filter='{"op": "=", "args": [{"property": "id"}, "uploads"]}', **{"filter-lang": "cql2-json"}) == [
        "uploads"
    ]
    assert ids(datetime="1900-01-01T00:00:00Z/1950-01-01T00:00:00Z") == ["uploads"]
    (one, *_) = api.get("/stac/collections", params={"fields": "id,title"}).json()["collections"]
    assert "title" in one
    assert "extent" not in one
