"""Six workers write the same month partitions while readers search: what was acknowledged is there, no deadlock reaches anybody."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import orjson
import psycopg
import pytest

from db.pools import Pool, open_pool
from db.settings import DatabaseSettings
from ingest.adapters import adapter_for
from ingest.collection_files import ensure_collections
from ingest.harvest import store_with_retries
from ingest.model import Page
from ingest.page import Counts, Harvested
from tests.ingest.providers import PROVIDERS, record_of
from tests.ingest.test_interleaving import Offer, in_pages, offers
from tests.size import sized
from tests.upstreams.products import FEDERATED, catalogue

WORKERS = 6


async def work(pool: Pool, pages: list[list[Offer]]) -> Counts:
    done = Counts()
    for page in pages:
        parts: dict[tuple[str, str], list[Offer]] = {}
        for provider, product in page:
            parts.setdefault((provider, FEDERATED[product.kind]), []).append((provider, product))
        for (provider, collection), some in parts.items():
            source = PROVIDERS[provider]
            mapping = next(one for one in source.collections if one.id == collection)
            records = tuple(record_of(*offer) for offer in some)
            harvested = Harvested(0, source, mapping, PROVIDERS)
            page = Page(records, {})
            done += (await store_with_retries(pool, adapter_for(source, mapping), harvested, page, cut=True)).counts
    return done


async def read(pool: Pool, stop: asyncio.Event) -> Counter[str]:
    """Searches as the API asks them; a reader may be told to wait, never that it lost."""
    seen: Counter[str] = Counter()
    rng = random.Random(1)
    while not stop.is_set():
        month = rng.randint(1, 12)
        body = {"datetime": f"2025-{month:02d}-01T00:00:00Z/2025-{month:02d}-28T00:00:00Z", "limit": 50}
        async with pool.connection() as conn:
            try:
                row = await (
                    await conn.execute("select pgstac.search($1::jsonb) as found", (orjson.dumps(body).decode(),))
                ).fetchone()
                assert row is not None
                seen["answers"] += 1
                seen["items"] += len(row["found"]["features"])
            except psycopg.errors.DeadlockDetected:
                seen["deadlocks"] += 1
    return seen


@pytest.mark.slow
async def test_six_workers_and_two_readers(database: DatabaseSettings) -> None:
    products = [one for one in catalogue(sized(80, 320), seed=9) if one.geometry()]
    everything = in_pages(offers(products), random.Random(4), 40)
    async with open_pool(database, min_size=2, max_size=WORKERS + 4) as pool:
        await ensure_collections(pool)
        stop = asyncio.Event()
        readers = [asyncio.create_task(read(pool, stop)) for _ in range(2)]
        counts = await asyncio.gather(*(work(pool, everything[number::WORKERS]) for number in range(WORKERS)))
        stop.set()
        seen = sum((reader.result() for reader in await _all(readers)), Counter())
        async with pool.connection() as conn:
            rows = await (await conn.execute("select collection, id from pgstac.items")).fetchall()
            holdings = await (await conn.execute("select count(*) as held from federator.holding")).fetchone()
    total = sum(counts, Counts())
    assert (total.added, total.quarantined) == (len(offers(products)), 0)
    assert holdings == {"held": len(offers(products))}
    assert {(row["collection"], row["id"]) for row in rows} == {
        (FEDERATED[one.kind], one.stem) for one in products if one.kind != "COG"
    }
    assert seen["answers"] > 10
    assert seen["items"] > 0
    assert seen["deadlocks"] == 0


async def _all(tasks: list[asyncio.Task[Counter[str]]]) -> list[asyncio.Task[Counter[str]]]:
    await asyncio.gather(*tasks)
    return tasks
