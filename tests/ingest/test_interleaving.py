"""Four providers offer the same products in four naming styles: one item each, the same rows in whatever order they come."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from db.pools import Connection, Pool
from ingest.adapters import adapter_for
from ingest.collection_files import ensure_collections
from ingest.page import Counts, Harvested, normalise, store_page, unchanged
from tests.ingest.providers import PROVIDERS, record_of
from tests.size import sized
from tests.upstreams.products import FEDERATED, Product, catalogue

ROWS = (
    "select id, collection, datetime, end_datetime, st_astext(geometry) as geometry, content from pgstac.items order by collection, id",
    "select collection_id, item_id, acquisition, product, datetime, item_sha256, content_sha256, successor_id"
    " from federator.harvested_item where withdrawn_at is null order by collection_id, item_id",
    "select source_id, collection_id, record_id, item_id, acquisition, product from federator.holding order by 1, 2, 3",
)
Offer = tuple[str, Product]


def offers(products: Sequence[Product]) -> list[Offer]:
    """What each provider offers; the one that shortens names has one record for a product and its COG twin."""
    return [(name, one) for one in products for name in PROVIDERS if (name, one.kind) != ("shortened", "COG")]


async def store(pool: Pool, pages: Sequence[Sequence[Offer]]) -> Counts:
    total = Counts()
    for page in pages:
        parts: dict[tuple[str, str], list[Product]] = {}
        for provider, product in page:
            parts.setdefault((provider, FEDERATED[product.kind]), []).append(product)
        for (provider, collection), products in parts.items():
            source = PROVIDERS[provider]
            mapping = next(one for one in source.collections if one.id == collection)
            harvested = Harvested(0, source, mapping, PROVIDERS)
            records = [record_of(provider, product) for product in products]
            async with pool.connection() as conn:
                same = await unchanged(conn, harvested, records)
                normalised = normalise(adapter_for(source, mapping), mapping, records, same)
                total += await store_page(conn, harvested, normalised, None)
    return total


async def rows(pool: Pool) -> list[Any]:
    async with pool.connection() as conn:
        return [await (await conn.execute(statement.encode())).fetchall() for statement in ROWS]


async def clear(conn: Connection) -> None:
    await conn.execute("truncate federator.holding, federator.harvested_item, federator.quarantine")
    await conn.execute("delete from pgstac.items")
    await conn.execute("delete from lineage.event_outbox where actor_id = 'unattributed'")  # this very deletion


def in_pages(offered: list[Offer], rng: random.Random, largest: int) -> list[list[Offer]]:
    rng.shuffle(offered)
    pages = []
    while offered:
        size = rng.randint(1, largest)
        pages.append(offered[:size])
        offered = offered[size:]
    return pages


async def check(pool: Pool, products: list[Product], orders: int, largest: int) -> None:
    await ensure_collections(pool)
    expected: list[Any] = []
    for seed in range(orders):
        pages = in_pages(offers(products), random.Random(seed), largest)
        async with pool.connection() as conn:
            await clear(conn)
        counts = await store(pool, pages)
        assert (counts.added, counts.quarantined) == (len(offers(products)), 0)
        if seed == 0:  # again, in yet another order: nothing changes
            again = await store(pool, in_pages(offers(products), random.Random(1000), largest))
            assert again.unchanged == again.fetched == len(offers(products))
        found = await rows(pool)
        expected = expected or found
        assert found == expected
    items = expected[0]
    plain = [one for one in products if one.kind != "COG"]
    assert {(item["collection"], item["id"]) for item in items} == {(FEDERATED[one.kind], one.stem) for one in plain}
    assert all(set(item["content"]["properties"]["federation:backends"]) == set(PROVIDERS) for item in items)
    assert all("alternate" in item["content"]["assets"]["Product"] for item in items)
    async with pool.connection() as conn:
        stray = await (
            await conn.execute("select * from lineage.event_outbox where actor_id = 'unattributed'")
        ).fetchall()
    assert stray == []


async def test_twenty_products_of_four_providers_in_many_orders(pool: Pool) -> None:
    await check(pool, [one for one in catalogue(24, seed=5) if one.geometry()], orders=sized(3, 6), largest=7)


@pytest.mark.slow
@pytest.mark.timeout(500)
async def test_many_products_of_four_providers_in_two_orders(pool: Pool) -> None:
    """A thousand at full size."""
    products = [one for one in catalogue(1360, seed=6) if one.geometry()]
    plain = [one for one in products if one.kind != "COG"][: sized(120, 1000)]
    acquisitions = {one.scene for one in plain if one.kind == "GRD"}
    chosen = [*plain, *(one for one in products if one.kind == "COG" and one.scene in acquisitions)]
    await check(pool, chosen, orders=2, largest=400)
