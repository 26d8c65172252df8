"""Harvests from the demonstration upstreams and from replayed recordings, through the real adapters and the real loop."""

from __future__ import annotations

import contextlib
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from db.pools import Pool
from ingest.adapters import adapter_for
from ingest.collection_files import ensure_collections
from ingest.errors import RecordRejected
from ingest.harvest import Order, Progress, Tools, harvest
from ingest.http import Patience, open_client
from ingest.identity import parse, stem_of
from ingest.model import Query, Source
from ingest.source_files import read_source
from tests.shared import shared_path
from tests.size import sized
from tests.stac_schemas import faults
from tests.upstreams import Upstreams, replay, serve, source_files
from tests.upstreams.products import catalogue
from tests.upstreams.stac import copernicus_entries, earth_search_entries

OFFERED = catalogue(800)
BASIC = ("demo-odata", "demo-stac", "demo-earth-search")


def sources(upstreams: Upstreams, folder: Path) -> dict[str, Source]:
    found = {}
    for name, text in source_files(upstreams.url).items():
        assert "invented" in tomllib.loads(text)["title"]
        (folder / name).write_text(text, encoding="utf-8")
        source = read_source(folder / name)
        found[source.id] = source
    return found


@pytest.mark.parametrize("source_id", ["demo-odata", "demo-stac", "demo-earth-search"])
async def test_every_adapter_reads_everything_through_all_faults(tmp_path: Path, source_id: str) -> None:
    with serve(products=800) as upstreams:
        source = sources(upstreams, tmp_path)[source_id]
        mapping = source.collections[0]
        for number, kind in enumerate(("429", "500", "html", "cut", "reset")):
            upstreams.control.fail(kind, after=number, retry_after=0 if kind == "429" else None)
        adapter = adapter_for(source, mapping, Query(), 60)
        read: list[str] = []
        async with open_client(source, Patience(attempts=8, base_s=0)) as http:
            async for page in adapter.pages(http, None):
                read += [adapter.item(record).product for record in page.records]
        assert upstreams.control.state()["faults"] == []
    offered = OFFERED if source_id != "demo-earth-search" else [e.product for e in earth_search_entries(OFFERED)]
    assert Counter(read) == Counter(one.name for one in offered if one.kind == "L2A")


@pytest.mark.slow
@pytest.mark.parametrize("source_id", ["demo-eumetsat", "demo-geodes", "demo-mundi"])
async def test_many_products_behind_a_source_file_through_all_faults(tmp_path: Path, source_id: str) -> None:
    with serve(products=sized(3_000, 25_000)) as upstreams:
        source = sources(upstreams, tmp_path)[source_id]
        mapping = source.collections[0]
        for number, kind in enumerate(("429", "500", "html", "cut", "reset")):
            upstreams.control.fail(kind, after=2 * number, retry_after=0 if kind == "429" else None)
        adapter = adapter_for(source, mapping, Query(), 100)
        read: list[str] = []
        async with open_client(source, Patience(attempts=8, base_s=0)) as http:
            async for page in adapter.pages(http, None):
                for record in page.records:
                    with contextlib.suppress(RecordRejected):  # one marine product in twenty has no footprint
                        read.append(stem_of(adapter.item(record).product))
        assert upstreams.control.state()["faults"] == []
    offered = upstreams.items | upstreams.marine
    assert len(read) > 200
    assert Counter(read) == Counter(stem_of(name) for name in offered[mapping.id])


async def test_harvests_of_all_sources_give_one_item_for_each_product(pool: Pool, tmp_path: Path) -> None:
    await ensure_collections(pool)
    with serve(products=120) as upstreams:
        known = {name: one for name, one in sources(upstreams, tmp_path).items() if name in BASIC}
        for source in known.values():
            for mapping in source.collections:
                tools = Tools(pool, known, 50, Patience(attempts=2, base_s=0))
                progress: Progress = await harvest(Order(source, mapping), tools)
                assert progress.counts.quarantined == 0
        async with pool.connection() as conn:
            statement = "select collection, pgstac.get_item(id, collection) as item from pgstac.items"
            rows = await (await conn.execute(statement)).fetchall()
    found = {(row["collection"], f"{row['item']['id']}.SAFE"): row["item"] for row in rows}
    assert set(found) == {(collection, name) for collection, group in upstreams.items.items() for name in group}
    offered = catalogue(120)
    # The STAC side has of Sentinel-1 the COG twins only: they are further files of the plain products.
    plain = {parse(one.name).acquisition: one.name for one in offered if one.kind == "GRD"}
    twins = {
        plain[parse(one.product.name).acquisition] for one in copernicus_entries(offered) if one.product.kind == "COG"
    }
    in_stac = {entry.product.name for entry in copernicus_entries(offered) if entry.product.kind != "COG"}
    in_earth_search = {entry.product.name for entry in earth_search_entries(offered)}
    assert in_stac
    for (_, name), item in found.items():
        backends = {"demo-odata"}
        backends |= {"demo-stac"} if name in in_stac | twins else set()
        backends |= {"demo-earth-search"} if name in in_earth_search else set()
        assert set(item["properties"]["federation:backends"]) == backends
        if name in in_stac:
            assert "alternate" in item["assets"]["Product"], name
        if name in twins:
            assert {"Product", "Product-cog", "vv-cog"} <= set(item["assets"]) | {"vv-cog"}, name
            assert "alternate" in item["assets"]["Product-cog"], name


@pytest.mark.slow
async def test_harvests_of_every_protocol_give_one_item_for_each_product(pool: Pool, tmp_path: Path) -> None:
    await ensure_collections(pool)
    with serve(products=60) as upstreams:
        known = {name: one for name, one in sources(upstreams, tmp_path).items() if one.collections}
        assert {one.protocol for one in known.values()} == {
            "odata",
            "stac",
            "static-stac",
            "opensearch",
            "dhus",
            "sentinelhub",
            "hda",
            "eumetsat",
        }
        for _ in range(2):
            for source in known.values():
                for mapping in source.collections:
                    tools = Tools(pool, known, 50, Patience(attempts=2, base_s=0))
                    progress = await harvest(Order(source, mapping), tools)
                    assert progress.counts.quarantined == 0 or source.id == "demo-eumetsat", (source.id, mapping.id)
        async with pool.connection() as conn:
            rows = await (
                await conn.execute("select pgstac.get_item(id, collection) as item from pgstac.items")
            ).fetchall()
    items = [row["item"] for row in rows]
    offered = upstreams.items | upstreams.marine  # of the latter one in twenty has no footprint
    expected = {(collection, stem_of(name)) for collection, group in offered.items() for name in group}
    assert {(item["collection"], item["id"]) for item in items} == expected
    assert {item["id"]: found for item in items if (found := faults(item))} == {}
    assert max(len(item["properties"]["federation:backends"]) for item in items) >= 6


async def test_replayed_recordings_are_harvested_by_every_source(pool: Pool, tmp_path: Path) -> None:
    shared_path("upstreams", "recordings")
    await ensure_collections(pool)
    read: Counter[str] = Counter()
    with replay.serve() as running:
        for name, text in replay.source_files(running.url).items():
            (tmp_path / name).write_text(text, encoding="utf-8")
        known = {source.id: source for source in map(read_source, tmp_path.glob("*.toml"))}
        for source in known.values():
            assert source.title.endswith("replayed")
            for mapping in source.collections:
                progress = await harvest(Order(source, mapping), Tools(pool, known, 3, Patience(attempts=1)))
                assert progress.counts.fetched == progress.counts.added + progress.counts.quarantined
                read[source.id] += progress.counts.added
    assert set(read) == {"replay-cdse-odata", "replay-creodias-odata", "replay-cdse-stac", "replay-earth-search"}
    assert all(read.values()), read
    assert (
        read["replay-cdse-odata"] == 20 + 2 + 1
    )  # two pages and one GRD of the manual; the other records are no images of ours
    assert read["replay-creodias-odata"] == 10
