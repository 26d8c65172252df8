"""The log: what an event costs, how fast they are numbered, how soon they are proven, what checking takes, what it needs on disk (targets
P1-P3, P6, P7, P9).

`FEDERATOR_BENCH_EVENTS` sets how many events are numbered (a million unless it is set), and a quarter more that are signed one by one. With
`--folder` a run that broke off goes on where it was. Proofs are also read from the tiles of a log of ten million leaves, whose hashes are
invented. CPU is that of this process and, where a session of the server is at work for it, of that too (benchmarks/spent.py).
"""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import psycopg

from benchmarks.spent import cpu_s, p95, quantile
from benchmarks.steps import Steps
from db.migrate import migrate
from db.pools import Connection, Pool, open_pool
from db.settings import DatabaseSettings
from ingest.store import put_item
from lineage import log, verify
from lineage.audit import audit
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
_TABLES = ("event", "event_hash", "log_tile", "checkpoint")


def kept(server: DatabaseSettings, name: str) -> DatabaseSettings:
    """A migrated database of this name, as it was left."""
    with psycopg.connect(server.conninfo, autocommit=True) as conn:
        if conn.execute("select 1 from pg_database where datname = %s", (name,)).fetchone() is None:
            conn.execute(f'create database "{name}"'.encode())
    database = server.model_copy(update={"pgdatabase": name})
    migrate(database)
    return database


def run(server: DatabaseSettings) -> dict[str, float]:
    """Measure; milliseconds where a name ends in ms."""
    folder = server.data_dir / f"bench-log-{EVENTS}"
    signer = load_signer(LineageSettings(data_dir=folder))
    steps = Steps(folder)
    asyncio.run(_numbering(kept(server, f"bench_log_{EVENTS}"), signer, steps))
    asyncio.run(steps.do("large", partial(_large, kept(server, "bench_log_large"))))
    return steps.figures()


def _event(number: int, source: str) -> Event:
    body = {"size": number, "hashes": [{"alg": "SHA256", "digest": f"{number:064x}"}], "item_sha256": f"{number:064x}"}
    name = f"S2A_MSIL2A_{number:09}.SAFE"
    kind = Kind.UPDATE if source == "own" else Kind.REGISTER
    return Event(
        uuid7(), kind, name, source, "things", name, "user:ann" if source == "own" else "harvest:x", _NOW, body
    )


async def _fill(pool: Pool, first: int, number: int, source: str) -> dict[str, float]:
    async with pool.connection() as conn:
        row = await (await conn.execute(b"select count(*) as number from lineage.event_outbox")).fetchone()
        start = first + (row["number"] if row else 0)  # a run that broke off
        spent, left = cpu_s(conn), first + number - start
        for place in range(start, first + number, 5000):
            async with conn.transaction():
                await log.append(
                    conn, *(_event(one, source) for one in range(place, min(place + 5000, first + number)))
                )
        return {f"P1 CPU us an event by thousands, {source}": 1e6 * (cpu_s(conn) - spent) / max(left, 1)}


async def _number(pool: Pool, signer: Signer, published: Published, name: str) -> dict[str, float]:
    async with pool.connection() as conn:  # the pool's only one, which the sequencer takes next
        session, before, begun, spent = conn, _resident_mb(), time.perf_counter(), cpu_s(conn)
        ours = time.process_time()
    number = await sequence(pool, signer, published=published)
    seconds, ours = time.perf_counter() - begun, time.process_time() - ours
    return {
        f"P2 events numbered a second, {name}": number / seconds,
        f"P2 CPU us an event, {name}": 1e6 * (cpu_s(session) - spent) / number,
        f"P2 of that our process, {name}": 1e6 * ours / number,
        f"P9 MB resident before {number} events, {name}": before,
        f"P9 MB resident after, {name}": _resident_mb(),
    }


async def _numbering(database: DatabaseSettings, signer: Signer, steps: Steps) -> None:
    published = Published(steps.folder / "log", steps.folder / "copies")
    exported = steps.folder / "exported"
    async with open_pool(database, min_size=1, max_size=1) as pool:
        await steps.do("writes", partial(_writes, pool, signer, published))
        for name, source, share in (("signed", "own", 4), ("unsigned", "demo", 1)):
            first = 0 if source == "own" else EVENTS
            await steps.do(f"appended, {name}", partial(_fill, pool, first, EVENTS // share, source))
            await steps.do(f"numbered, {name}", partial(_number, pool, signer, published, name))
            if name == "signed":
                await steps.do("audit", partial(_audit, pool))
        await steps.do("stored", partial(_stored, pool))
        await steps.do("exported", partial(_export, pool, exported))
        async with pool.connection() as conn:
            await steps.do("proofs", partial(_proofs, conn, EVENTS, f"of {EVENTS}"))
    async with open_pool(database, min_size=1, max_size=4) as pool:
        await steps.do("published", partial(_published, pool, signer, published))
    await steps.do("offline", partial(_offline, exported, signer))


async def _audit(pool: Pool) -> dict[str, float]:
    async with pool.connection() as conn:
        begun, spent = time.perf_counter(), cpu_s(conn)
        assert await audit(conn, checks=[]) == []
        row = await (await conn.execute(b"select max(size) as size from lineage.checkpoint")).fetchone()
        assert row is not None
        return {
            f"audit of {row['size']} events s": time.perf_counter() - begun,
            "audit, CPU us an event": 1e6 * (cpu_s(conn) - spent) / row["size"],
        }


async def _stored(pool: Pool) -> dict[str, float]:
    """Bytes an event, indexes included."""
    found = {}
    async with pool.connection() as conn:
        await conn.execute(b"set statement_timeout = 0")
        await conn.execute(b"vacuum analyze lineage.event, lineage.event_hash, lineage.log_tile")
        row = await (await conn.execute(b"select max(size) as size from lineage.checkpoint")).fetchone()
        assert row is not None
        for table in _TABLES:
            sizes = await (
                await conn.execute(
                    "select pg_total_relation_size(t.oid) as whole, pg_indexes_size(t.oid) as indexes from to_regclass($1) as t (oid)",
                    (f"lineage.{table}",),
                )
            ).fetchone()
            assert sizes is not None
            found[f"bytes an event, {table}"] = sizes["whole"] / row["size"]
            found[f"bytes an event, of that indexes, {table}"] = sizes["indexes"] / row["size"]
    return found


async def _export(pool: Pool, folder: Path) -> dict[str, float]:
    shutil.rmtree(folder, ignore_errors=True)
    begun = time.perf_counter()
    async with pool.connection() as conn:
        size = await export(conn, folder)
    return {f"export of {size} events s": time.perf_counter() - begun}


async def _writes(pool: Pool, signer: Signer, published: Published) -> dict[str, float]:
    """An item with its event, and what of that is the event."""
    whole, events, cpus = [], [], []
    async with pool.connection() as conn:
        await conn.execute(b"delete from pgstac.collections where id = 'things'")
        await conn.execute(_COLLECTION)
        for number in range(300):
            one = {**item(number), "collection": "things"}
            begun = time.perf_counter()
            async with conn.transaction():
                await put_item(conn, one, creation(one))
            whole.append(time.perf_counter() - begun)
            async with conn.transaction():
                begun, spent = time.perf_counter(), cpu_s(conn)
                await log.append(conn, _event(number, "demo"))
                events.append(time.perf_counter() - begun)
                cpus.append(cpu_s(conn) - spent)
    await sequence(pool, signer, published=published)
    return {
        "P1 item write p95 ms": quantile(whole) * 1e3,
        "P1 of that the event p95 ms": quantile(events) * 1e3,
        "P1 of that the event, CPU p95 ms": quantile(cpus) * 1e3,
    }


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
    async def inclusion(number: int) -> None:
        await read_inclusion(conn, number * 7919 % size, size)

    async def consistency(_: int) -> None:
        await read_consistency(conn, 1, size)

    return await p95(f"P6 inclusion {what}", conn, inclusion, 300) | await p95(
        f"P6 consistency 1 to all {what}", conn, consistency, 50
    )


async def _large(database: DatabaseSettings) -> dict[str, float]:
    async with open_pool(database, min_size=1, max_size=2) as pool, pool.connection() as conn:
        row = await (await conn.execute(b"select count(*) as number from lineage.log_tile")).fetchone()
        if row is None or row["number"] == 0:
            async with (
                conn.transaction(),
                conn.cursor() as cursor,
                cursor.copy("copy lineage.log_tile from stdin (format binary)") as copy,
            ):
                copy.set_types(["int4", "int8", "int4", "bytea"])
                for level, index, width in _tiles(LARGE):
                    await copy.write_row((level, index, width, os.urandom(32 * width)))
            await conn.execute(b"analyze lineage.log_tile")
        return await _proofs(conn, LARGE, f"of {LARGE}")


def _tiles(size: int) -> Iterator[tuple[int, int, int]]:
    level = 0
    while size:
        for index in range((size + 255) // 256):
            yield level, index, min(256, size - index * 256)
        size, level = size // 256, level + 1


def _offline(folder: Path, signer: Signer) -> dict[str, float]:
    policy = verify.Policy(verify.parse_vkey(signer.log_vkey))
    found: dict[str, float] = {}
    for what in ("with bodies and signatures", "hashes"):
        begun, spent = time.perf_counter(), time.process_time()
        assert verify.judge_folder(folder, policy).ok
        found[f"P7 offline check of all, {what}, s"] = time.perf_counter() - begun
        found[f"P7 offline check of all, {what}, CPU s"] = time.process_time() - spent
        shutil.rmtree(folder / "events", ignore_errors=True)
    shutil.rmtree(folder)
    return found


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6
