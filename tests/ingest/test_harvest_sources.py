"""Recorded answers of different catalogues, harvested: one product, one item, with the places that hold it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import httpx
import pytest

from db.pools import Pool
from ingest.collection_files import ensure_collections
from ingest.harvest import Order, Progress, Tools, harvest
from ingest.http import Patience
from ingest.model import CollectionMapping, Source
from lineage.canonical import item_sha256
from tests.ingest.odata_server import ODataServer, s2_product
from tests.shared import shared_path

L2A = "sentinel-2-l2a"
BY_ODATA = CollectionMapping(L2A, {"collection": "SENTINEL-2", "product_type": "S2MSI2A"}, timedelta(hours=1))
BY_STAC = CollectionMapping(
    L2A, {"collection": L2A, "watermark": "properties.published", "filter": "cql2"}, timedelta(hours=1)
)
ODATA = Source("cdse-odata", "", "odata", "https://odata.example.org", 10, 1e6, collections=(BY_ODATA,))
STAC = Source("cdse-stac", "", "stac", "https://stac.example.org", 20, 1e6, collections=(BY_STAC,))


def recorded_item() -> dict[str, Any]:
    name = "item_S2A_MSIL2A_20220217T183431_N0510_R027_T13VEK_20240516T022440.json"
    return dict(json.loads(shared_path("upstreams", "recordings", "cdse-stac", name).read_text(encoding="utf-8")))


def same_by_odata(item: dict[str, Any]) -> dict[str, Any]:
    """The record that OData gives for the recorded STAC item: same name, times and footprint."""
    product = s2_product(1, Name=f"{item['id']}.SAFE")
    start = item["properties"]["start_datetime"]
    facts = {
        "tileId": "13VEK", "productType": "S2MSI2A", "processingLevel": "S2MSI2A", "platformSerialIdentifier": "A",
        "orbitNumber": item["properties"]["sat:absolute_orbit"], "relativeOrbitNumber": 27, "processorVersion": "05.10",
        "beginningDateTime": start, "endingDateTime": start, "processingDate": "2024-05-16T02:24:40.000000Z",
    }  # fmt: skip
    for attribute in product["Attributes"]:
        attribute["Value"] = facts.get(attribute["Name"], attribute["Value"])
    return product | {"ContentDate": {"Start": start, "End": start}, "GeoFootprint": item["geometry"]}


def stac_server(*items: dict[str, Any]) -> Any:
    return lambda request: httpx.Response(200, json={"type": "FeatureCollection", "features": items, "links": []})


async def run(pool: Pool, source: Source, handler: Any) -> Progress:
    sources = {"cdse-odata": ODATA, "cdse-stac": STAC}
    tools = Tools(pool, sources, 100, Patience(attempts=1), inner=httpx.MockTransport(handler))
    return await harvest(Order(source, source.collections[0]), tools)


@pytest.mark.parametrize("odata_first", [True, False])
async def test_a_product_from_odata_and_from_stac_is_one_item_with_alternates(pool: Pool, odata_first: bool) -> None:
    await ensure_collections(pool)
    item = recorded_item()
    runs = [(ODATA, ODataServer([same_by_odata(item)])), (STAC, stac_server(item))]
    for source, handler in runs if odata_first else reversed(runs):
        progress = await run(pool, source, handler)
        assert (progress.counts.added, progress.counts.quarantined) == (1, 0)
    async with pool.connection() as conn:
        rows = await (await conn.execute("select pgstac.get_item(id, collection) as item from pgstac.items")).fetchall()
        kinds = await (await conn.execute("select kind, source from lineage.event_outbox order by position")).fetchall()
    (merged,) = (row["item"] for row in rows)
    assert merged["id"] == item["id"]
    assert set(merged["properties"]["federation:backends"]) == {"cdse-odata", "cdse-stac"}
    assert "alternate" in merged["assets"]["Product"]
    assert len(merged["assets"]) > 10  # bands come from the STAC side alone
    first, second = ("cdse-odata", "cdse-stac") if odata_first else ("cdse-stac", "cdse-odata")
    assert [(row["kind"], row["source"]) for row in kinds] == [("REGISTER", first), ("COPY", second)]


async def test_the_same_answer_again_changes_nothing(pool: Pool) -> None:
    await ensure_collections(pool)
    item = recorded_item()
    await run(pool, STAC, stac_server(item))
    progress = await run(pool, STAC, stac_server(item))
    assert (progress.counts.fetched, progress.counts.unchanged) == (1, 1)


async def test_the_event_has_the_hash_of_the_item_as_it_is_read(pool: Pool) -> None:
    """Whoever fetches the item can compute the hash that the log names."""
    await ensure_collections(pool)
    item = recorded_item()
    await run(pool, STAC, stac_server(item))
    await run(pool, ODATA, ODataServer([same_by_odata(item)]))
    async with pool.connection() as conn:
        rows = await (await conn.execute("select pgstac.get_item(id, collection) as item from pgstac.items")).fetchall()
        query = "select body::jsonb ->> 'item_sha256' as hash from lineage.event_outbox order by position desc limit 1"
        (event,) = await (await conn.execute(query)).fetchall()
    assert event["hash"] == item_sha256(rows[0]["item"])
