"""`/stac/catalogs`: each source's view, read with a plain client and with pystac-client."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cql2
import httpx
import psycopg
import pystac
import pystac_client
import pytest

from api.federation import CONFORMANCE as FEDERATION
from api.settings import ApiSettings
from db.pools import open_pool
from db.settings import DatabaseSettings
from ingest.collection_files import ensure_collections
from ingest.store import put_item
from tests.api.samples import creation, item
from tests.api.server import listening, running
from tests.conftest import cloned

HELD = {"cdse-odata": range(30), "earth-search": range(20, 40)}


async def fill(database: DatabaseSettings) -> None:
    async with open_pool(database) as pool:
        await ensure_collections(pool)
        async with pool.connection() as conn:
            for source in HELD:
                await conn.execute(
                    "insert into federator.harvest_run (source_id, collection_id, status, finished_at)"
                    " values ($1, 'sentinel-2-l2a', 'done', now())", (source,),
                )  # fmt: skip
            for number in range(40):
                one = item(number)
                one["properties"]["federation:backends"] = [name for name, held in HELD.items() if number in held]
                async with conn.transaction():
                    await put_item(conn, one, creation(one))


@pytest.fixture(scope="module")
def filled(postgres: DatabaseSettings, template: str) -> Iterator[DatabaseSettings]:
    with cloned(postgres, template) as database:
        yield database


@pytest.fixture(scope="module")
def site(filled: DatabaseSettings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    data_dir: Path = tmp_path_factory.mktemp("catalogs")
    listener, url = listening()
    asyncio.run(fill(filled))
    settings = ApiSettings(data_dir=data_dir, public_url=url)
    with running(settings, filled, listener), httpx.Client(base_url=url, timeout=30) as client:
        yield client


def test_the_sources_that_were_harvested_are_catalogs(site: httpx.Client) -> None:
    found = site.get("/stac/catalogs").json()
    assert {one["id"] for one in found["catalogs"]} == set(HELD)
    assert found["numberReturned"] == 2
    one = site.get("/stac/catalogs/earth-search").json()
    assert pystac.Catalog.from_dict(one).title == one["title"]
    children = [link["href"] for link in one["links"] if link["rel"] == "child"]
    assert children == [f"{site.base_url}/stac/catalogs/earth-search/collections/sentinel-2-l2a"]
    assert "https://api.stacspec.org/v1.0.0/multi-tenant-catalogs" in site.get("/stac").json()["conformsTo"]


def test_all_links_of_a_catalog_answer(site: httpx.Client) -> None:
    paths = ("", "/collections", "/children", "/catalogs")
    for path in ("/stac/catalogs", "/stac/children", *(f"/stac/catalogs/cdse-odata{one}" for one in paths)):
        for link in site.get(path).json()["links"]:
            assert site.get(link["href"], follow_redirects=True).status_code == 200, link
    (collection,) = site.get("/stac/catalogs/cdse-odata/children").json()["children"]
    for link in collection["links"]:
        if str(link["href"]).startswith(str(site.base_url)):
            assert site.get(link["href"]).status_code == 200, link
    assert site.get("/stac/catalogs/cdse-odata/conformance").json()["conformsTo"]


@pytest.mark.parametrize("source", list(HELD))
def test_items_of_a_catalog_are_those_that_the_source_holds(site: httpx.Client, source: str) -> None:
    found, url = [], f"/stac/catalogs/{source}/collections/sentinel-2-l2a/items?limit=7"
    while url:
        page = site.get(url).json()
        found += [feature["id"] for feature in page["features"]]
        url = next((link["href"] for link in page["links"] if link["rel"] == "next"), "")
        assert not url or "/catalogs/" in url
    assert sorted(found) == [f"SAMPLE_{number:03}" for number in HELD[source]]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ({}, range(20, 40)),
        ({"collections": ["sentinel-2-l2a", "uploads"]}, range(20, 40)),
        ({"collections": ["uploads"]}, range(0)),
        ({"filter": "eo:cloud_cover < 23 OR eo:cloud_cover > 37"}, [20, 21, 22, 38, 39]),
        ({"filter": "TRUE OR eo:cloud_cover < 23"}, range(20, 40)),
        ({"filter": "FALSE"}, range(0)),
        ({"query": {"eo:cloud_cover": {"gte": 38}}}, [38, 39]),
        ({"ids": ["SAMPLE_001", "SAMPLE_025"]}, [25]),
    ],
)
def test_a_scoped_search_finds_nothing_outside(site: httpx.Client, method: str, search: Any, expected: Any) -> None:
    url = "/stac/catalogs/earth-search/search"
    if method == "POST":
        body = {**search, "limit": 50}
        if "filter" in search:
            body |= {"filter": as_object(search["filter"]), "filter-lang": "cql2-json"}
        answer = site.post(url, json=body)
    else:
        asked = {name: ",".join(value) if isinstance(value, list) else value for name, value in search.items()}
        if "query" in asked:
            asked["query"] = json.dumps(asked["query"])
        answer = site.get(url, params={**asked, "limit": 50})
    assert answer.status_code == 200, answer.text
    assert sorted(one["id"] for one in answer.json()["features"]) == [f"SAMPLE_{number:03}" for number in expected]
    assert answer.headers["content-type"] == "application/geo+json"


def as_object(text: str) -> Any:
    found = cql2.parse_text(text).to_json()
    return found if isinstance(found, dict) else {"op": "and", "args": [found]}


def test_pages_of_a_scoped_search_stay_inside(site: httpx.Client) -> None:
    page = site.post("/stac/catalogs/earth-search/search", json={"limit": 6}).json()
    found = [one["id"] for one in page["features"]]
    while link := next((one for one in page["links"] if one["rel"] == "next"), None):
        assert "/catalogs/earth-search/search" in link["href"]
        page = site.post(link["href"], json=link["body"]).json()
        found += [one["id"] for one in page["features"]]
    assert sorted(found) == [f"SAMPLE_{number:03}" for number in HELD["earth-search"]]
    outside = site.post(
        "/stac/search", json={"limit": 6, "token": link["body"]["token"]} if link else {"limit": 6, "token": "x"}
    )
    assert outside.status_code == 400


def test_an_item_is_in_the_catalogs_of_those_that_hold_it(site: httpx.Client) -> None:
    path = "/stac/catalogs/{}/collections/sentinel-2-l2a/items/SAMPLE_035"
    assert site.get(path.format("earth-search")).json()["id"] == "SAMPLE_035"
    assert site.get(path.format("cdse-odata")).status_code == 404


def test_children_of_the_root_are_its_catalogs_and_collections(site: httpx.Client) -> None:
    landing = site.get("/stac").json()
    linked = {link["href"] for link in landing["links"] if link["rel"] == "child"}
    everything = site.get("/stac/children").json()["children"]
    own = [next(link["href"] for link in one["links"] if link["rel"] == "self") for one in everything]
    assert linked == set(own)
    assert len(own) == len(linked) == 6
    for kind in ("Catalog", "Collection"):
        found = site.get("/stac/children", params={"type": kind}).json()["children"]
        assert found == [one for one in everything if one["type"] == kind]
    assert site.get("/stac/children", params={"type": "Item"}).status_code == 400
    assert site.get("/stac/catalogs/cdse-odata/children", params={"type": "Catalog"}).json()["children"] == []


def test_scoped_collections_lead_back_to_their_catalog(site: httpx.Client) -> None:
    root = f"{site.base_url}/stac"
    one = site.get("/stac/catalogs/cdse-odata/collections/sentinel-2-l2a").json()
    links = [(link["rel"], link["href"]) for link in one["links"]]
    for rel, href in (
        ("self", f"{root}/catalogs/cdse-odata/collections/sentinel-2-l2a"),
        ("parent", f"{root}/catalogs/cdse-odata"),
        ("root", f"{root}/"),
        ("canonical", f"{root}/collections/sentinel-2-l2a"),
    ):
        assert [found for name, found in links if name == rel] == [href]


def test_queryables_of_a_catalog_are_those_of_its_collections(site: httpx.Client) -> None:
    schema = site.get("/stac/catalogs/cdse-odata/queryables").json()
    assert schema["$id"] == f"{site.base_url}/stac/catalogs/cdse-odata/queryables"
    assert schema["properties"]["collection"]["enum"] == ["sentinel-2-l2a"]
    assert schema["properties"]["federation:backends"]["items"]["enum"] == sorted(HELD)


def test_sources_are_named_in_the_words_of_openeo(site: httpx.Client) -> None:
    landing = site.get("/stac").json()
    assert set(landing["federation"]) == set(HELD)
    assert FEDERATION in landing["conformsTo"]
    assert site.get("/stac/conformance").json()["conformsTo"] == landing["conformsTo"]
    for one in landing["federation"].values():
        assert one["url"].startswith("https://")
        assert one["status"] == "online"
        assert one["last_status_check"] == one["last_successful_check"]
    for one in (
        site.get("/stac/collections/sentinel-2-l2a").json(),
        next(one for one in site.get("/stac/collections").json()["collections"] if one["id"] == "sentinel-2-l2a"),
    ):
        assert one["federation:backends"] == sorted(HELD)
    assert "federation:backends" not in site.get("/stac/collections/uploads").json()
    assert "federation:missing" not in site.get("/stac/collections").json()


def test_a_source_that_fails_is_offline_and_missing_at_once(site: httpx.Client, filled: DatabaseSettings) -> None:
    def run(status: str) -> None:
        with psycopg.connect(filled.conninfo, autocommit=True) as conn:
            conn.execute(
                "insert into federator.harvest_run (source_id, collection_id, status, finished_at)"
                " values ('earth-search', 'sentinel-2-l2a', %s, now())", (status,),
            )  # fmt: skip

    assert site.get("/stac").json()["federation"]["earth-search"]["status"] == "online"
    run("failed")
    assert soon(lambda: site.get("/stac").json()["federation"]["earth-search"]["status"] == "offline")
    one = site.get("/stac").json()["federation"]["earth-search"]
    assert one["last_successful_check"] < one["last_status_check"]
    assert site.get("/stac/collections").json()["federation:missing"] == ["earth-search"]
    run("done")
    assert soon(lambda: "federation:missing" not in site.get("/stac/collections").json())


def test_a_source_of_hidden_collections_alone_does_not_exist(site: httpx.Client, filled: DatabaseSettings) -> None:
    def execute(statement: str) -> None:
        with psycopg.connect(filled.conninfo, autocommit=True) as conn:
            conn.execute(statement.encode())

    execute(
        "insert into federator.harvest_run (source_id, collection_id, status, finished_at)"
        " values ('creodias', 'sentinel-1-grd', 'done', now())"
    )
    assert soon(lambda: "creodias" in site.get("/stac/catalogs").text)
    execute("insert into federator.collection_access (collection_id, visibility) values ('sentinel-1-grd', 'private')")
    assert soon(lambda: "creodias" not in site.get("/stac/catalogs").text)
    for path in (
        "/stac",
        "/stac/children",
        "/stac/collections",
        "/stac/catalogs",
        "/stac/queryables",
        "/stac/sortables",
    ):
        text = site.get(path).text
        assert "creodias" not in text, path
        assert "sentinel-1-grd" not in text, path
    for rest in ("", "/collections", "/children", "/search", "/queryables", "/conformance"):
        assert site.get(f"/stac/catalogs/creodias{rest}").status_code == 404
    execute("delete from federator.collection_access")
    execute("delete from federator.harvest_run where source_id = 'creodias'")


def soon(claim: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 5
    while not (is_so := claim()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return is_so


def test_a_crawling_client_walks_a_catalog(site: httpx.Client) -> None:
    catalog = pystac_client.Client.open(f"{site.base_url}/stac").get_collections()
    assert "sentinel-2-l2a" in {one.id for one in catalog}


@pytest.mark.parametrize(
    "path",
    [
        "/stac/catalogs/nobody",
        "/stac/catalogs/creodias",
        "/stac/catalogs/nobody/collections",
        "/stac/catalogs/cdse-odata/collections/nothing",
        "/stac/catalogs/cdse-odata/collections/uploads/items",
        "/stac/catalogs/%00/collections",
    ],
)
def test_what_is_not_there_is_404(site: httpx.Client, path: str) -> None:
    answer = site.get(path)
    assert answer.status_code == 404
    assert answer.json()["code"] == "NOT_FOUND"


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=x", "bbox=1,2", "bbox=a,b,c,d", "datetime=yesterday", "token=next:nonsense"]
)
def test_wrong_questions_are_400(site: httpx.Client, query: str) -> None:
    assert site.get(f"/stac/catalogs/cdse-odata/collections/sentinel-2-l2a/items?{query}").status_code == 400


def test_a_catalog_declares_what_it_has_and_no_more(site: httpx.Client) -> None:
    here = "/stac/catalogs/earth-search"
    declared = site.get(f"{here}/conformance").json()["conformsTo"]
    assert site.get(here).json()["conformsTo"] == declared
    everything = site.get("/stac/conformance").json()["conformsTo"]
    routes = {
        "aggregation": "/aggregations", "sortables": "/sortables", "collection-search": "/collections-queryables",
        "transaction": "/nowhere", "item-search": "/search", "children": "/children",
    }  # fmt: skip
    for name, route in routes.items():
        is_there = site.get(f"{here}{route}").status_code == 200
        assert any(name in one for one in declared) == is_there, name
    assert set(declared) < set(everything)
    client = pystac_client.Client.open(f"{site.base_url}{here}")
    assert (
        len(
            list(
                client.search(
                    filter="eo:cloud_cover >= 35", sortby="-id", fields=["id", "links", "assets"]
                ).items_as_dicts()
            )
        )
        == 5
    )
