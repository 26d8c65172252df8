"""Clients that nobody changes for us."""

from __future__ import annotations

from typing import Any

import httpx
import pystac
import pytest
from odc.stac import parse_items
from pystac_client import Client

from tests.contract.conftest import ITEMS, Served


@pytest.fixture
def qgis(served: Served) -> Any:
    with httpx.Client(timeout=30, headers={"User-Agent": "Mozilla/5.0 QGIS/34400"}) as client:
        yield client


def _qgis_urls(landing: dict[str, Any]) -> tuple[str, str]:
    """As `QgsStacSourceSelect::onStacObjectRequestFinished`: the last link whose end is /collections, and the last with rel search."""
    collections = search = ""
    for link in landing["links"]:
        if link["href"].endswith("/collections"):
            collections = link["href"]
        elif link["rel"] == "search":
            search = link["href"]
    return collections, search


def _qgis_pages(qgis: httpx.Client, url: str, parameters: dict[str, str]) -> list[dict[str, Any]]:
    """As `QgsStacItemCollection`: the href of the link `next` is asked for by GET until there is none."""
    page = qgis.get(url, params=parameters).raise_for_status().json()
    assert isinstance(page.get("numberMatched", 0), int)
    found = list(page["features"])
    while following := {link["rel"]: link["href"] for link in page["links"]}.get("next"):
        page = qgis.get(following).raise_for_status().json()
        found += page["features"]
    for item in found:  # `QgsStacParser::parseItem` drops an item without these
        assert item["geometry"] is None or len(item["bbox"]) in (4, 6)
        assert item["properties"]["datetime"] or (
            item["properties"]["start_datetime"],
            item["properties"]["end_datetime"],
        )
        assert all(asset["href"] for asset in item["assets"].values())
        assert all(link["href"] and link["rel"] for link in item["links"])
    return found


def test_qgis_connects_lists_collections_and_scrolls_to_the_end(served: Served, qgis: httpx.Client) -> None:
    landing = qgis.get(f"{served.url}/stac/").raise_for_status().json()
    assert landing["type"] == "Catalog"
    assert "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/oas30" in landing["conformsTo"]
    collections_url, search_url = _qgis_urls(landing)
    assert (collections_url, search_url) == (f"{served.url}/stac/collections", f"{served.url}/stac/search")
    collections = qgis.get(collections_url).raise_for_status().json()["collections"]
    assert all(
        one["extent"]["spatial"]["bbox"] and len(one["extent"]["temporal"]["interval"][0]) == 2 for one in collections
    )
    everything = {"collections": ",".join(one["id"] for one in collections)}
    found = _qgis_pages(qgis, search_url, everything)
    assert len({(one["collection"], one["id"]) for one in found}) == len(found) == ITEMS


def test_qgis_sends_times_without_a_zone_and_boxes_of_its_map(served: Served, qgis: httpx.Client) -> None:
    search_url = f"{served.url}/stac/search"
    times = "2025-02-01T00:00:00.000/2025-06-30T23:59:59.000"
    place = {"collections": "sentinel-2-l2a,sentinel-2-l1c", "bbox": "-170,-80,100.5,80"}
    found = _qgis_pages(qgis, search_url, {**place, "datetime": times})
    in_utc = _qgis_pages(qgis, search_url, {**place, "datetime": times.replace(".000", "Z")})
    assert [one["id"] for one in found] == [one["id"] for one in in_utc] != []
    assert len(_qgis_pages(qgis, search_url, {**place, "datetime": "../2025-03-01T00:00:00.000"})) > 0
    body = {"datetime": times, "limit": 1}
    assert qgis.post(search_url, json=body).raise_for_status().json()["features"]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_pystac_client_searches_with_everything_it_has(served: Served, method: str) -> None:
    client = Client.open(f"{served.url}/stac", headers={"Accept-Encoding": "gzip"})
    search = client.search(
        method=method, collections=["sentinel-2-l2a", "sentinel-1-grd"], datetime="2025", max_items=60, limit=7,
        filter={"op": "<", "args": [{"property": "eo:cloud_cover"}, 50]}, filter_lang="cql2-json" if method == "POST" else None,
        sortby="-properties.datetime",
    )  # fmt: skip
    items = list(search.items())
    assert items
    assert all(item.properties["eo:cloud_cover"] < 50 for item in items)
    times = [item.datetime for item in items]
    assert times == sorted(times, reverse=True)  # type: ignore[type-var]
    assert search.matched() >= len(items)


def test_pystac_client_reads_collections_queryables_and_single_items(served: Served) -> None:
    client = Client.open(f"{served.url}/stac")
    collection = client.get_collection("sentinel-2-l2a")
    assert collection is not None
    assert "eo:cloud_cover" in collection.get_queryables()["properties"]  # type: ignore[attr-defined]
    item = next(iter(collection.get_items()))
    again = collection.get_item(item.id)
    assert again is not None
    assert {**again.to_dict(), "links": []} == {**item.to_dict(), "links": []}
    assert {one.id for one in client.collection_search(q="sentinel-1").collections()} >= {"sentinel-1-grd"}
    assert isinstance(client.search(ids=[item.id]).item_collection(), pystac.ItemCollection)


def test_odc_stac_understands_our_items(served: Served) -> None:
    items = list(Client.open(f"{served.url}/stac").search(collections=["sentinel-2-l2a"], max_items=20).items())
    parsed = list(parse_items(items))
    assert len(parsed) == 20
    assert all(one.collection.name == "sentinel-2-l2a" and one.bands for one in parsed)
