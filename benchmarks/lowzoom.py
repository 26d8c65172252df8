"""z0 to z8 of 100,000 items (`FEDERATOR_BENCH_ITEMS`): density tiles over HTTP, none twice, and what it costs to keep them up to date."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.client import Client, Request
from benchmarks.peers import Peer, new_database
from db.pools import Pool, open_pool
from db.settings import DatabaseSettings
from ingest.collection_files import ensure_collections
from ingest.overviews.cells import cells_of
from ingest.overviews.density import keep_density
from ingest.store import lock_items, write_items
from tests.api.editing import item

ITEMS, PAGE, TILES = int(os.environ.get("FEDERATOR_BENCH_ITEMS", "100000")), 1000, 60
COLLECTION = "sentinel-2-l2a"


def generated(number: int, chance: random.Random) -> dict[str, Any]:
    """An item with a footprint of a Sentinel-2 tile, somewhere on land or sea, one of 6,000 places at one of many days."""
    place = random.Random(chance.randrange(6000))  # noqa: S311
    lon, lat, cut = (
        place.uniform(-180, 178),
        place.uniform(-60, 75),
        chance.uniform(0.3, 1) if chance.random() < 0.3 else 1.0,
    )
    ring = [[lon, lat], [lon + cut, lat + 0.02], [lon + cut, lat + 1], [lon + 0.05, lat + 0.98], [lon, lat]]
    document = item(f"item-{number}", COLLECTION)
    document["geometry"] = {"type": "Polygon", "coordinates": [ring]}
    document["bbox"] = [lon, lat, lon + cut, lat + 1]
    document["properties"]["datetime"] = f"2026-{chance.randrange(1, 13):02}-{chance.randrange(1, 28):02}T10:00:00Z"
    return document


async def _fill(database: DatabaseSettings) -> dict[str, float]:
    chance = random.Random(1)  # noqa: S311
    async with open_pool(database) as pool:
        await ensure_collections(pool)
        stored = reckoned = 0.0
        for first in range(0, ITEMS, PAGE):
            items = [generated(number, chance) for number in range(first, first + PAGE)]
            begun = time.perf_counter()
            async with pool.connection() as conn, conn.transaction():
                await lock_items(conn, COLLECTION)
                await write_items(conn, COLLECTION, items, {one["id"]: None for one in items})
            middle = time.perf_counter()
            await keep_density(pool)
            stored, reckoned = stored + middle - begun, reckoned + time.perf_counter() - middle
        cells_of.cache_clear()
        begun = time.perf_counter()
        for number in range(100):
            await _move(pool, number)
        alone = time.perf_counter() - begun
    return {
        "items": float(ITEMS), "store an item, us": stored / ITEMS * 1e6, "reckon an item (pages of 1,000), us": reckoned / ITEMS * 1e6,
        "one item changed and reckoned alone, ms": alone / 100 * 1e3,
    }  # fmt: skip


async def _move(pool: Pool, number: int) -> None:
    """Move one item, and reckon."""
    async with pool.connection() as conn:
        await conn.execute(
            "update pgstac.items set geometry = st_translate(geometry, 0.5, 0) where collection = $1 and id = $2",
            (COLLECTION, f"item-{number}"),
        )
    await keep_density(pool)


def run(server: DatabaseSettings) -> dict[str, float]:
    """Milliseconds by zoom (p50, p95), cost per item in microseconds."""
    database = new_database(server, "lowzoom")
    found = asyncio.run(_fill(database))
    chance, spent = random.Random(2), []  # noqa: S311
    with tempfile.TemporaryDirectory() as folder, peers.ours(database, Path(folder)) as ours:
        client = Client(Peer(ours.name, ours.port))
        with contextlib.closing(client):
            for zoom in range(9):
                tiles = [(chance.randrange(1 << zoom), chance.randrange(1 << zoom)) for _ in range(TILES)]
                times = []
                for x, y in dict.fromkeys(tiles):
                    client.reopen()
                    path = f"/raster/collections/{COLLECTION}/density/{zoom}/{x}/{y}.png"
                    times.append(client.timed(Request(path))[0])
                spent += times
                found[f"z{zoom}, median of {len(times)}, ms"] = statistics.median(times) * 1000
    found["all, p95, ms (goal 200)"] = statistics.quantiles(spent, n=20)[-1] * 1000
    found["all, slowest, ms"] = max(spent) * 1000
    return found
