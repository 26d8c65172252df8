"""The log: what an event costs, how fast they are numbered, how soon they are proven, what checking takes (targets P1-P3, P6, P7, P9).

`FEDERATOR_BENCH_EVENTS` sets how many events are numbered (default a million, half an hour). Proofs are also read from the tiles of a log
of ten million leaves, whose hashes are invented. CPU is that of this process alone, which a busy machine does not stretch.
"""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from db.migrate import migrate
from db.pools import Connection, Pool, open_pool
from db.settings import DatabaseSettings
from ingest.store import put_item
from lineage import log, verify
from lineage.errors import ProofPending
from lineage.events import Event, Kind
from lineage.export import export
from lineage.ids import uuid7
from lineage.keys import Signer, load_signer
from lineage.proof import bundle
from lineage.published import Published
from lineage.sequencer import sequence
from lineage.settings import LineageSettings
from lineage.tiles import read_consistency, read_inclusion
from tests.api.samples import creation, item

EVENTS = int(os.environ.get("FEDERATOR_BENCH_EVENTS", "1000000"))
#: Of a log that is not computed, only read: 39,063 tiles of leaves.
LARGE = 10_000_000
_NOW = datetime(2026, 5, 1, tzinfo=UTC)


@contextmanager
def fresh(server: DatabaseSettings) -> Iterator[DatabaseSettings]:
    """A migrated database of its own."""
    database = server.model_copy(update={"pgdatabase": f"log_{time.time_ns()}"})
    with psycopg.connect(server.conninfo, autocommit=True) as conn:
        conn.execute(f'create database "{database.pgdatabase}"'.encode())
    migrate(database)
    try:
        yield database
    finally:
        with psycopg.connect(server.conninfo, autocommit=True) as conn:
            conn.execute(f'drop database "{database.pgdatabase}" with (force)'.encode())


def run(server: DatabaseSettings) -> dict[str, float]:
    """Measure; milliseconds where a name ends in ms."""
    with tempfile.TemporaryDirectory(prefix="federator-bench-log-") as folder:
        signer = load_signer(LineageSettings(data_dir=Path(folder)))
        found: dict[str, float] = {}
        with fresh(server) as database:
            found |= asyncio.run(_numbering(database, signer, Path(folder)))
        with fresh(server) as database:
            found |= asyncio.run(_large(database))
        return found


def _event(number: int, source: str) -> Event:
    body = {"size": number, "hashes": [{"alg": "SHA256", "digest": f"{number:064x}"}], "item_sha256": f"{number:064x}"}
    name = f"S2A_MSIL2A_{number:09}.SAFE"
    kind = Kind.UPDATE if source == "own" else Kind.REGISTER
    return Event(
        uuid7(), kind, name, source, "things", name, "user:ann" if source == "own" else "harvest:x", _NOW, body
    )


async def _fill(pool: Pool, first: int, number: int, source: str) -> None:
    for start in range(first, first + number, 5000):
        async with pool.connection() as conn, conn.transaction():
            await log.append(conn, *(_event(one, source) for one in range(start, min(start + 5000, first + number))))


async def _numbering(database: DatabaseSettings, signer: Signer, folder: Path) -> dict[str, float]:
    found: dict[str, float] = {}
    published = Published(folder / "log", folder / "copies")
    async with open_pool(database, min_size=1, max_size=4) as pool:
        found |= await _writes(pool)
        await sequence(pool, signer, published=published)
        for name, source, share in (("signed", "own", 4), ("unsigned", "demo", 1)):
            number = EVENTS // share
            await _fill(pool, 0 if source == "own" else EVENTS, number, source)
            before, begun, spent = _resident_mb(), time.perf_counter(), time.process_time()
            assert await sequence(pool, signer, published=published) == number
            found[f"P2 events numbered a second, {name}"] = number / (time.perf_counter() - begun)
            found[f"P2 CPU us an event, {name}"] = 1e6 * (time.process_time() - spent) / number
            found[f"P9 MB resident before {number} events, {name}"] = before
            found[f"P9 MB resident after, {name}"] = _resident_mb()
        found |= await _published(pool, signer, published)
        async with pool.connection() as conn:
            size = await export(conn, folder / "exported")
            found |= await _proofs(conn, size, f"of {size}")
    found |= _offline(folder / "exported", signer, size)
    return found


async def _writes(pool: Pool) -> dict[str, float]:
    """An item with its event, and what of that is the event."""
    whole, events = [], []
    async with pool.connection() as conn:
        await conn.execute(_COLLECTION)
        for number in range(300):
            one = {**item(number), "collection": "things"}
            begun = time.perf_counter()
            async with conn.transaction():
                await put_item(conn, one, creation(one))
            whole.append(time.perf_counter() - begun)
            async with conn.transaction():
                begun = time.perf_counter()
                await log.append(conn, _event(number, "demo"))
                events.append(time.perf_counter() - begun)
    return {"P1 item write p95 ms": _p95(whole), "P1 of that the event p95 ms": _p95(events)}


_COLLECTION = (
    b'insert into pgstac.collections (content) values (\'{"id": "things", "type": "Collection", "stac_version": "1.1.0", "links": [],'
    b' "description": "", "license": "other", '
    b'"extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[null, null]]}}}\')'
)


async def _published(pool: Pool, signer: Signer, published: Published) -> dict[str, float]:
    """From the commit of an event to its proof, beside a sequencer that looks each half second."""

    async def sequencer() -> None:
        while True:
            await sequence(pool, signer, published=published)
            await asyncio.sleep(0.5)

    task = asyncio.create_task(sequencer())
    waits = []
    for number in range(60):
        one = _event(10**8 + number, "own")
        async with pool.connection() as conn, conn.transaction():
            await log.append(conn, one)
        begun = time.perf_counter()
        while not await _is_proven(pool, one):  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.02)
        waits.append(time.perf_counter() - begun)
    task.cancel()
    await asyncio.wait({task})
    return {"P3 commit to proof p99 s": sorted(waits)[-1], "P3 median s": statistics.median(waits)}


async def _is_proven(pool: Pool, one: Event) -> bool:
    async with pool.connection() as conn:
        try:
            return await bundle(conn, one.id) is not None
        except ProofPending:
            return False


async def _proofs(conn: Connection, size: int, what: str) -> dict[str, float]:
    inclusion, consistency = [], []
    for number in range(300):
        begun = time.perf_counter()
        await read_inclusion(conn, number * 7919 % size, size)
        inclusion.append(time.perf_counter() - begun)
    for _ in range(50):
        begun = time.perf_counter()
        await read_consistency(conn, 1, size)
        consistency.append(time.perf_counter() - begun)
    return {f"P6 inclusion {what} p95 ms": _p95(inclusion), f"P6 consistency 1 to all {what} p95 ms": _p95(consistency)}


async def _large(database: DatabaseSettings) -> dict[str, float]:
    async with open_pool(database, min_size=1, max_size=2) as pool, pool.connection() as conn:
        async with (
            conn.transaction(),
            conn.cursor() as cursor,
            cursor.copy("copy lineage.log_tile from stdin (format binary)") as copy,
        ):
            copy.set_types(["int4", "int8", "int4", "bytea"])
            for level, index, width in _tiles(LARGE):
                await copy.write_row((level, index, width, os.urandom(32 * width)))
        return await _proofs(conn, LARGE, f"of {LARGE}")


def _tiles(size: int) -> Iterator[tuple[int, int, int]]:
    level = 0
    while size:
        for index in range((size + 255) // 256):
            yield level, index, min(256, size - index * 256)
        size, level = size // 256, level + 1


def _offline(folder: Path, signer: Signer, size: int) -> dict[str, float]:
    policy = verify.Policy(verify.parse_vkey(signer.log_vkey))
    found: dict[str, float] = {}
    with _timed(found, f"P7 offline check of {size} leaves with bodies and signatures s"):
        assert verify.judge_folder(folder, policy).ok
    shutil.rmtree(folder / "events")
    with _timed(found, f"P7 offline check of {size} leaves, hashes s"):
        assert verify.judge_folder(folder, policy).ok
    return found


@contextmanager
def _timed(found: dict[str, float], name: str) -> Iterator[None]:
    begun, spent = time.perf_counter(), time.process_time()
    yield
    found[name] = time.perf_counter() - begun
    found[f"{name}, CPU"] = time.process_time() - spent


def _p95(seconds: list[float]) -> float:
    return 1000 * sorted(seconds)[int(len(seconds) * 0.95)]


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6
