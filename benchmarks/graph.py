"""The graph: taking events in, rebuilding it, walks, time travel, hashes; and what keeping the past costs who writes.

Events are made here and put straight into the log's table, without a tree: the graph reads nothing of it. `EVENTS` is 200,000; with
`GRAPH_EVENTS=1000000` in the environment it is as many. CPU is that of this process and of its session in the server together: on a busy
machine it says more than the time.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import psycopg

from benchmarks.catalogue import items
from db.migrate import migrate
from db.pools import Connection, open_pool
from db.queries import sql
from db.settings import DatabaseSettings
from ingest.collection_files import ensure_collections
from ingest.past_items import document_of
from ingest.store import lock_items, write_items
from lineage import graph, trace
from lineage.ids import uuid7
from lineage.names import item_id
from lineage.projector import project_batch, rebuild
from lineage.visibility import EVERYTHING

DATABASE = "bench_graph"
EVENTS = int(os.environ.get("GRAPH_EVENTS", "200000"))
#: Children of one parent; ten layers of a hundred, each child with three parents.
FAN, LAYERS, WIDTH, PARENTS = min(100_000, EVENTS // 2), 10, 100, 3
COLLECTION = "sentinel-2-l2a"
START = datetime(2020, 1, 1, tzinfo=UTC)
NOBODY: tuple[str, ...] = ()

Row = tuple[Any, ...]


def _row(seq: int, kind: str, name: str, source: str, collection: str, item: str, body: dict[str, Any]) -> Row:
    text = orjson.dumps(body).decode()
    at = START + timedelta(seconds=seq)
    digest = hashlib.sha256(text.encode()).digest()
    return seq, uuid7(), kind, name, source, collection, item, "user:bench", at, at, text, digest, b"\0"


def _products(number: int) -> Iterator[Row]:
    """Pairs of Sentinel-2 products, each L1C before its L2A."""
    for seq in range(number):
        sensed = START + timedelta(seconds=7 * (seq // 2))
        made = sensed + timedelta(hours=1 + seq % 2)
        level = "L2A" if seq % 2 else "L1C"
        name = f"S2A_MSI{level}_{sensed:%Y%m%dT%H%M%S}_N0510_R022_T33UXP_{made:%Y%m%dT%H%M%S}"
        digest = hashlib.sha256(name.encode()).hexdigest()
        body = {
            "hashes": [{"alg": "SHA256", "digest": digest}],
            "item_sha256": digest,
            "record_id": str(seq),
            "size": 7e8,
        }
        yield _row(seq, "REGISTER", f"{name}.SAFE", "bench", f"sentinel-2-{level.lower()}", name, body)


def _derived(seq: int) -> Iterator[Row]:
    def told(name: str, parents: list[str]) -> Row:
        nonlocal seq
        seq += 1
        inputs = [{"collection": "own", "item": parent, "name": parent} for parent in parents]
        return _row(seq - 1, "CREATE", name, "own", "own", name, {"inputs": inputs})

    yield told("root", [])
    for number in range(FAN):
        yield told(f"fan-{number}", ["root"])
    for layer in range(LAYERS):
        for number in range(WIDTH):
            parents = [f"layer-{layer - 1}-{(number * 7 + k) % WIDTH}" for k in range(PARENTS)] if layer else []
            yield told(f"layer-{layer}-{number}", parents)
    yield told("tip", [f"layer-{LAYERS - 1}-{number}" for number in range(WIDTH)])


async def _fill(conn: Connection, rows: Iterator[Row]) -> int:
    statement = (
        b"copy lineage.event (seq, id, kind, name, source, collection, item_id, actor_id, claimed_at, recorded_at, body, body_hash, leaf)"
        b" from stdin"
    )
    number = 0
    async with conn.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            await copy.write_row(row)
            number += 1
    return number


def _cpu_s(conn: Connection) -> float:
    """Seconds of CPU so far, of this process and of its session in the server (on this machine; in steps of 10 ms)."""
    words = Path(f"/proc/{conn.info.backend_pid}/stat").read_text().rsplit(")", 1)[1].split()
    return time.process_time() + (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


async def _p95(work: Callable[[int], Awaitable[object]], times: int) -> float:
    """Milliseconds."""
    spent = []
    for number in range(times):
        begun = time.perf_counter()
        await work(number)
        spent.append((time.perf_counter() - begun) * 1000)
    return statistics.quantiles(spent, n=20)[-1]


async def _projecting(conn: Connection, figures: dict[str, float]) -> None:
    await _fill(conn, _products(EVENTS))
    hashes = b"insert into lineage.event_hash select decode(body::jsonb #>> '{hashes,0,digest}', 'hex'), 'SHA256', seq from lineage.event"
    await conn.execute(hashes)
    await conn.execute(b"vacuum analyze lineage.event, lineage.event_hash")
    begun, spent = time.perf_counter(), _cpu_s(conn)
    while await project_batch(conn, 5000):
        pass
    figures["events/s taken in"] = EVENTS / (time.perf_counter() - begun)
    figures["taking an event in, CPU us"] = (_cpu_s(conn) - spent) / EVENTS * 1e6
    begun, spent = time.perf_counter(), _cpu_s(conn)
    await rebuild(conn, batch_size=5000)
    figures["P10: events/s of a rebuild"] = EVENTS / (time.perf_counter() - begun)
    figures["P10: an event of a rebuild, CPU us"] = (_cpu_s(conn) - spent) / EVENTS * 1e6
    await _fill(conn, _derived(EVENTS))
    while await project_batch(conn, 5000):
        pass
    await conn.execute(
        b"vacuum analyze lineage.entity, lineage.entity_item, lineage.edge, lineage.item_version, lineage.event"
    )


async def _walks(conn: Connection, figures: dict[str, float]) -> None:
    for who, principals in (("everybody", NOBODY), ("an administrator", EVERYTHING)):
        wanted = graph.Filter(principals, await graph.log_size(conn))
        (tip,) = await graph.known(conn, [item_id("own", "tip")], principals)

        async def ancestry(_: int, tip: graph.Node = tip, wanted: graph.Filter = wanted) -> None:
            found = await graph.gather(conn, [tip], "up", wanted, limit=10_000)
            assert len(found.nodes) == LAYERS * WIDTH + 1, len(found.nodes)

        spent = _cpu_s(conn)
        figures[f"P5: ancestry of 1,000 nodes, depth 10, ms p95, {who}"] = await _p95(ancestry, 20)
        figures[f"P5: the same, CPU ms, {who}"] = (_cpu_s(conn) - spent) / 20 * 1e3
    (root,) = await graph.known(conn, [item_id("own", "root")], NOBODY)
    begun, spent = time.perf_counter(), _cpu_s(conn)
    number, first = 0, 0.0
    async for _ in graph.walk(conn, [root], upward=False, wanted=graph.Filter(NOBODY, await graph.log_size(conn))):
        number += 1
        if number == 2:
            first = time.perf_counter() - begun
    figures["P5: descendants, nodes"] = number - 1
    figures["P5: descendants, s"] = time.perf_counter() - begun
    figures["P5: descendants, CPU s"] = _cpu_s(conn) - spent
    figures["P5: descendants, first line, ms"] = first * 1000


async def _reads(conn: Connection, figures: dict[str, float]) -> None:
    rows = await (
        await conn.execute(
            b"select name, item_id, collection from lineage.event where source = 'bench' order by md5(name) limit 1000"
        )
    ).fetchall()
    digests = [hashlib.sha256(row["item_id"].encode()).digest() for row in rows]

    async def by_name(number: int) -> None:
        assert (await trace.traces_by_name(conn, rows[number]["name"], principals=NOBODY)).traces

    async def by_hash(number: int) -> None:
        assert (await trace.traces_by_hash(conn, digests[number].hex(), principals=NOBODY)).traces

    async def at_a_time(number: int) -> None:
        row = rows[number]
        parameters = (row["collection"], row["item_id"], [], datetime.now(UTC), None, None)
        assert await (await conn.execute(sql("graph.version_at"), parameters)).fetchone()

    async def bulk(_: int) -> None:
        columns = (list(range(len(digests))), digests, [""] * len(digests))
        found = await (await conn.execute(sql("graph.hash_matches"), (*columns, [], []))).fetchall()
        assert len(found) == len(digests)

    figures["P4: trace by name, ms p95"] = await _p95(by_name, 500)
    figures["P4: trace by hash, ms p95"] = await _p95(by_hash, 500)
    figures["P8: version of an item at a time, ms p95"] = await _p95(at_a_time, 500)
    spent = _cpu_s(conn)
    figures["P8: 1,000 hashes, ms p95"] = await _p95(bulk, 20)
    figures["P8: the same, CPU ms"] = (_cpu_s(conn) - spent) / 20 * 1e3


async def _replacing(conn: Connection, figures: dict[str, float]) -> None:
    """Pages of items that are replaced, with and without the trigger that keeps the past, by turns."""
    documents = list(items(COLLECTION, 0, 500))
    spent: dict[str, list[tuple[float, float]]] = {"enable": [], "disable": []}
    for round_number in range(7):
        for word, times in spent.items():
            await conn.execute(f"alter table pgstac.items {word} trigger keep_past_item_deleted".encode())
            for one in documents:
                one["properties"]["round"] = f"{round_number} {word}"
            before = (
                {one["id"]: datetime.fromisoformat(one["properties"]["datetime"]) for one in documents}
                if round_number
                else {}
            )
            begun, so_far = time.perf_counter(), _cpu_s(conn)
            async with conn.transaction():
                await lock_items(conn, COLLECTION)
                await write_items(conn, COLLECTION, documents, before)
            times.append((time.perf_counter() - begun, _cpu_s(conn) - so_far))
    await conn.execute(b"alter table pgstac.items enable trigger keep_past_item_deleted")
    for words, times in zip(("past kept", "past not kept"), spent.values(), strict=True):
        for number, unit in enumerate(("ms", "CPU ms")):
            seen = statistics.median(one[number] for one in times[1:])
            figures[f"replacing an item, {unit}, {words}"] = seen / len(documents) * 1000

    async def document(number: int) -> None:
        await document_of(conn, COLLECTION, documents[number]["id"], b"\0" * 32)

    figures["P8: looking through an item's waiting documents, ms p95"] = await _p95(document, 50)


async def _measure(database: DatabaseSettings) -> dict[str, float]:
    figures: dict[str, float] = {"events": EVENTS}
    async with open_pool(database) as pool:
        await ensure_collections(pool)
        async with pool.connection() as conn:
            await conn.execute(b"set statement_timeout = 0")
            await _projecting(conn, figures)
            await _walks(conn, figures)
            await _reads(conn, figures)
            await _replacing(conn, figures)
    return figures


def run(server: DatabaseSettings) -> dict[str, float]:
    """Measure on a database of its own."""
    with psycopg.connect(server.conninfo, autocommit=True) as conn:
        conn.execute(f"drop database if exists {DATABASE}".encode())
        conn.execute(f"create database {DATABASE}".encode())
    database = server.model_copy(update={"pgdatabase": DATABASE})
    migrate(database)
    return asyncio.run(_measure(database))
