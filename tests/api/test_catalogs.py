"""`/stac/catalogs`: each source's view, read with a plain client and with pystac-client."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pystac
import pystac_client
import pytest

from api.settings import ApiSettings
from db.pools import open_pool
from db.settings import DatabaseSettings
from ingest.collection_files import ensure_collections
from ingest.store import put_item
from tests.api.samples import creation, item
from tests.api.server import running
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
def site(postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    data_dir: Path = tmp_path_factory.mktemp("catalogs")
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with cloned(postgres, template) as database:
        asyncio.run(fill(database))
        settings = ApiSettings(data_dir=data_dir, public_url=url)
        with running(settings, database, listener), httpx.Client(base_url=url, timeout=30) as client:
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
    for path in ("/stac/catalogs", "/stac/catalogs/cdse-odata", "/stac/catalogs/cdse-odata/collections"):
        for link in site.get(path).json()["links"]:
            assert site.get(link["href"]).status_code == 200, link
    (collection,) = site.get("/stac/catalogs/cdse-odata/children").json()["collections"]
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
