"""Does loading slow down while a catalogue grows from nothing to a million items?

At each tenth of the way chunks of Sentinel-2 items are loaded into the growing catalogue and, in turns, into a fresh empty one on the
same server: the quotient of the two is free of what else happens on the machine. The grown catalogue is kept for the search's part.
"""

from __future__ import annotations

import asyncio
import statistics
import time

import psycopg

from benchmarks.catalogue import TENTHS, Item, items
from benchmarks.peers import new_database
from db.pools import Connection, open_pool
from db.settings import DatabaseSettings
from ingest.collection_files import ensure_collections
from ingest.store import lock_items, write_items

DATABASE = "bench_million"
EMPTY = "bench_empty"
TOTAL = 1_000_000
STEPS = 10
#: Items a transaction, as a harvest's pages.
PAGE = 1000
#: Chunks of this size are timed, so many at each step.
CHUNK, CHUNKS = 2000, 5
TIMED = "sentinel-2-l2a"


async def _write(conn: Connection, collection: str, documents: list[Item]) -> None:
    for start in range(0, len(documents), PAGE):
        page = documents[start : start + PAGE]
        async with conn.transaction():
            await lock_items(conn, collection)
            await write_items(conn, collection, page, {item["id"]: None for item in page})


async def _timed(conn: Connection, documents: list[Item]) -> float:
    begun = time.perf_counter()
    await _write(conn, TIMED, documents)
    return len(documents) / (time.perf_counter() - begun)


async def _grow(conn: Connection, step: int, total: int) -> None:
    """Load one step's share of every collection; what is timed of Sentinel-2 counts to its share."""
    for collection, tenths in TENTHS.items():
        number = total // STEPS * tenths // 10
        begin = step * number
        if collection == TIMED:
            begin, number = begin + CHUNK * CHUNKS, number - CHUNK * CHUNKS
        for start in range(begin, begin + number, 5000):
            await _write(conn, collection, list(items(collection, start, min(5000, begin + number - start))))


async def _compare(grown: Connection, empty: Connection, step: int, total: int) -> tuple[float, float]:
    """Median items a second of the step's chunks: into the grown catalogue, into the empty one."""
    begin = step * (total // STEPS * TENTHS[TIMED] // 10)
    rates: dict[str, list[float]] = {"grown": [], "empty": []}
    for chunk in range(CHUNKS):
        documents = list(items(TIMED, begin + chunk * CHUNK, CHUNK))
        ways = [("grown", grown), ("empty", empty)]
        for name, conn in ways if chunk % 2 else reversed(ways):
            rates[name].append(await _timed(conn, documents))
    await empty.execute("truncate pgstac.items")  # its partitions stay
    return statistics.median(rates["grown"]), statistics.median(rates["empty"])


async def _run(grown: DatabaseSettings, empty: DatabaseSettings, total: int) -> dict[str, float]:
    found: dict[str, float] = {}
    quotients: list[float] = []
    async with open_pool(grown, max_size=1) as one, open_pool(empty, max_size=1) as other:
        for pool in (one, other):
            await ensure_collections(pool, TENTHS)
        async with one.connection() as conn, other.connection() as fresh:
            for warming in (conn, fresh):  # makes the partitions
                await _write(warming, TIMED, list(items(TIMED, TOTAL, CHUNK)))
            for step in range(STEPS):
                big, small = await _compare(conn, fresh, step, total)
                found[f"Sentinel-2 items/s from {step * total // STEPS:,} items on"] = big
                quotients.append(big / small)
                await _grow(conn, step, total)
            await conn.execute("analyze pgstac.items")
    found["into a fresh catalogue at the same moments, median items/s of the last step"] = big / quotients[-1]
    found["of the fresh one's speed in the first two steps"] = statistics.mean(quotients[:2])
    found["of the fresh one's speed in the last two steps"] = statistics.mean(quotients[-2:])
    found["decline, percent"] = 100 * (1 - statistics.mean(quotients[-2:]) / statistics.mean(quotients[:2]))
    return found


async def _fill(database: DatabaseSettings, total: int) -> None:
    async with open_pool(database, max_size=1) as pool:
        await ensure_collections(pool, TENTHS)
        async with pool.connection() as conn:
            for collection, tenths in TENTHS.items():
                number = total * tenths // 10
                for start in range(0, number, 5000):
                    await _write(conn, collection, list(items(collection, start, min(5000, number - start))))
            await conn.execute("analyze pgstac.items")


def fill(server: DatabaseSettings, name: str, total: int) -> None:
    """Make a catalogue of so many items, without measuring; it has its name when it is complete."""
    asyncio.run(_fill(new_database(server, f"{name}_unfinished"), total))
    with psycopg.connect(server.conninfo, autocommit=True) as conn:
        conn.execute(f'drop database if exists "{name}" with (force)'.encode())
        conn.execute(f'alter database "{name}_unfinished" rename to "{name}"'.encode())


def run(server: DatabaseSettings, total: int = TOTAL) -> dict[str, float]:
    """Return rates along the way and the decline."""
    return asyncio.run(_run(new_database(server, DATABASE), new_database(server, EMPTY), total))
