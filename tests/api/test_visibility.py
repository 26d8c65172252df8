"""What a caller may not see does not exist: a private collection and a private item, on every route of the STAC API."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest

from api.settings import ApiSettings
from db.settings import DatabaseSettings
from tests.api.corpus import GRD, L1C, L2A, fill
from tests.api.server import listening, running
from tests.conftest import cloned

TOKEN = "a-token-for-the-test"
ADMIN = {"Authorization": f"Bearer {TOKEN}"}
HIDDEN_ITEM = "item-0000"  # of Sentinel-2 L2A; another item of this id is public
NUMBER = 120


@pytest.fixture(scope="module")
def service(
    postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    listener, url = listening()
    settings = ApiSettings(data_dir=tmp_path_factory.mktemp("visibility"), public_url=url, api_token=TOKEN)
    with cloned(postgres, template) as database:
        asyncio.run(fill(database, NUMBER))
        with psycopg.connect(database.conninfo, autocommit=True) as conn:
            conn.execute(
                "insert into federator.collection_access (collection_id, visibility, owner) values (%s, 'private', 'user:o')",
                (GRD,),
            )
            conn.execute(
                'update pgstac.items set private = \'{"readers": ["user:o"]}\' where collection = %s and id = %s',
                (L2A, HIDDEN_ITEM),
            )
        with running(settings, database, listener), httpx.Client(base_url=f"{url}/stac", timeout=30) as client:
            yield client


def features(answer: httpx.Response) -> list[tuple[str, str]]:
    assert answer.status_code == 200, answer.text
    return [(one["collection"], one["id"]) for one in answer.json()["features"]]


def problem(answer: httpx.Response) -> dict[str, Any]:
    body: dict[str, Any] = answer.json()
    return {name: value for name, value in body.items() if name != "instance"}


IS_GRD = {"op": "=", "args": [{"property": "collection"}, GRD]}
HAS_GSD = {"op": ">", "args": [{"property": "gsd"}, 0]}
SEARCHES: tuple[dict[str, Any], ...] = (
    {},
    {"collections": [GRD]},
    {"collections": [GRD, L1C]},
    {"ids": [HIDDEN_ITEM]},
    {"filter-lang": "cql2-json", "filter": IS_GRD},
    {"filter-lang": "cql2-json", "filter": {"op": "or", "args": [IS_GRD, HAS_GSD]}},
    {"sortby": [{"field": "properties.eo:cloud_cover", "direction": "desc"}]},
    {"bbox": [-180, -90, 180, 90]},
    {"query": {"gsd": {"gt": 0}}},
)


@pytest.mark.parametrize("search", SEARCHES, ids=str)
def test_no_search_finds_or_counts_them(service: httpx.Client, search: dict[str, Any]) -> None:
    everything = service.post("/search", json={**search, "limit": 1000}, headers=ADMIN)
    seen = service.post("/search", json={**search, "limit": 1000})
    public = [one for one in features(everything) if one[0] != GRD and one != (L2A, HIDDEN_ITEM)]
    assert len(public) < len(features(everything))
    assert features(seen) == public
    assert seen.json()["numberMatched"] == len(public)
    assert service.post("/search", json={**search, "limit": 1}).json().get("numberMatched", 0) == len(public)


@pytest.mark.parametrize("search", SEARCHES, ids=str)
def test_no_aggregation_counts_them(service: httpx.Client, search: dict[str, Any]) -> None:
    names = [one["name"] for one in service.get("/aggregations").json()["aggregations"]]
    asked = {name: value for name, value in search.items() if name != "sortby"} | {"aggregations": names}
    everything, seen = (service.post("/aggregate", json=asked, headers=headers) for headers in (ADMIN, {}))
    assert everything.status_code == seen.status_code == 200
    assert GRD not in seen.text
    public = features(service.post("/search", json={**search, "limit": 1000}))
    counted = {one["name"]: one for one in seen.json()["aggregations"]}
    of_all = {one["name"]: one for one in everything.json()["aggregations"]}
    assert counted["total_count"]["value"] == len(public) < of_all["total_count"]["value"]
    for name in ("collection_frequency", "datetime_frequency", "centroid_geohash_grid_frequency", "platform_frequency"):
        assert sum(bucket["frequency"] for bucket in counted[name]["buckets"]) == len(public), name
        assert counted[name]["overflow"] == 0
    (cell,) = counted["geometry_geotile_grid_frequency"]["buckets"] or [{"frequency": 0}]
    assert cell["frequency"] == len(public)


def test_a_walk_turns_no_page_to_them(service: httpx.Client) -> None:
    page = service.get("/search", params={"limit": 7}).json()
    found = [(one["collection"], one["id"]) for one in page["features"]]
    while link := next((one for one in page["links"] if one["rel"] == "next"), None):
        page = service.get(link["href"]).json()
        found += [(one["collection"], one["id"]) for one in page["features"]]
    assert {collection for collection, _ in found} == {L2A, L1C}
    assert (L2A, HIDDEN_ITEM) not in found
    assert len(found) == len(set(found)) == NUMBER * 2 // 3 - 1


def test_a_token_of_one_caller_is_refused_to_another(service: httpx.Client) -> None:
    body = {"limit": 3}
    link = next(
        one for one in service.post("/search", json=body, headers=ADMIN).json()["links"] if one["rel"] == "next"
    )
    answer = service.post("/search", json=link["body"])
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_TOKEN")
    assert service.post("/search", json=link["body"], headers=ADMIN).status_code == 200


@pytest.mark.parametrize(
    ("hidden", "absent"),
    [
        (f"/collections/{GRD}", "/collections/no-such"),
        (f"/collections/{GRD}/items", "/collections/no-such/items"),
        (f"/collections/{GRD}/items/item-0001", "/collections/no-such/items/item-0001"),
        (f"/collections/{GRD}/queryables", "/collections/no-such/queryables"),
        (f"/collections/{GRD}/aggregations", "/collections/no-such/aggregations"),
        (
            f"/collections/{GRD}/aggregate?aggregations=total_count",
            "/collections/no-such/aggregate?aggregations=total_count",
        ),
        (f"/collections/{L2A}/items/{HIDDEN_ITEM}", f"/collections/{L2A}/items/no-such"),
    ],
)
def test_they_answer_as_what_does_not_exist(service: httpx.Client, hidden: str, absent: str) -> None:
    answers = [service.get(path) for path in (hidden, absent)]
    assert answers[0].status_code == answers[1].status_code == 404
    assert problem(answers[0]) == problem(answers[1])
    assert set(answers[0].headers) == set(answers[1].headers)
    assert service.get(hidden, headers=ADMIN).status_code == 200


def test_collections_and_landing_page_do_not_name_them(service: httpx.Client) -> None:
    for path in (
        "/collections",
        "/",
        "/collections?q=sentinel",
        "/collections?limit=1",
        "/queryables",
        "/aggregations",
        "/collections?bbox=-180,-90,180,90",
    ):
        answer = service.get(path)
        assert answer.status_code == 200, path
        assert GRD not in answer.text, path
    assert service.get("/collections").json()["numberMatched"] == 3
    assert service.get("/collections", headers=ADMIN).json()["numberMatched"] == 4
    assert GRD in service.get("/collections", headers=ADMIN).text


def test_a_wrong_token_is_told_so(service: httpx.Client) -> None:
    answers = [
        service.get(f"/collections/{name}", headers={"Authorization": "Bearer wrong"}) for name in (GRD, L2A, "no-such")
    ]
    assert {(one.status_code, one.content) for one in answers} == {(401, answers[0].content)}
