"""The graph: taking events in, rebuilding it, walks, time travel, hashes, what it needs on disk; what keeping the past costs who writes.

Events are made here and put straight into the log's table, without a tree: the graph reads nothing of it. They are a million;
`FEDERATOR_BENCH_EVENTS` says another number. With `--folder` a run that broke off goes on where it was. CPU is that of this process and of
its session in the server together (benchmarks/spent.py).
"""

from __future__ import annotations

import asyncio
import hashlib
import resource
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import orjson

from benchmarks.catalogue import items
from benchmarks.log import EVENTS, kept
from benchmarks.spent import cpu_s, p95
from benchmarks.steps import Steps
from db.pools import Connection, open_pool
from db.queries import sql
from db.settings import DatabaseSettings
from ingest.collection_files import ensure_collections
from ingest.past_items import document_of
from ingest.store import lock_items, write_items
from lineage import graph, impact, trace
from lineage.ids import uuid7
from lineage.names import item_id
from lineage.projector import project_batch
from lineage.rebuilding import rebuild
from lineage.visibility import EVERYTHING

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


async def _filled(conn: Connection) -> dict[str, float]:
    row = await (await conn.execute(b"select count(*) as number from lineage.event")).fetchone()
    if row is None or row["number"] == 0:
        await _fill(conn, _products(EVENTS))
    hashes = (
        b"insert into lineage.event_hash select decode(body::jsonb #>> '{hashes,0,digest}', 'hex'), 'SHA256', seq from lineage.event"
        b" on conflict do nothing"
    )
    await conn.execute(hashes)
    await conn.execute(b"vacuum analyze lineage.event, lineage.event_hash")
    return {"events": EVENTS}


async def _take_in(conn: Connection) -> int:
    total = 0
    while done := await project_batch(conn, 5000):
        total += done
    return total


async def _projected(conn: Connection) -> dict[str, float]:
    begun, spent = time.perf_counter(), cpu_s(conn)
    number = await _take_in(conn)
    return {
        "events/s taken in": number / (time.perf_counter() - begun),
        "taking an event in, CPU us": (cpu_s(conn) - spent) / max(number, 1) * 1e6,
    }


def _children_s() -> float:
    """CPU of processes that have ended, which were started here."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


async def _rebuilt(conn: Connection) -> dict[str, float]:
    begun, spent, ours, folding = time.perf_counter(), cpu_s(conn), time.process_time(), _children_s()
    await rebuild(conn, batch_size=5000)
    figures = {
        "P10: events/s of a rebuild": EVENTS / (time.perf_counter() - begun),
        "P10: an event of a rebuild, CPU us": (cpu_s(conn) - spent + _children_s() - folding) / EVENTS * 1e6,
        "P10: of that our process": (time.process_time() - ours) / EVENTS * 1e6,
        "P10: of that the process that folds": (_children_s() - folding) / EVENTS * 1e6,
    }
    for table in ("entity", "entity_item", "edge", "item_version"):
        row = await (await conn.execute("select pg_total_relation_size($1) as size", (f"lineage.{table}",))).fetchone()
        figures[f"bytes an event, {table}"] = row["size"] / EVENTS if row else 0
    return figures


async def _derived_too(conn: Connection) -> dict[str, float]:
    row = await (await conn.execute(b"select max(seq) as last from lineage.event")).fetchone()
    if row is not None and row["last"] < EVENTS:
        await _fill(conn, _derived(EVENTS))
    await _take_in(conn)
    await conn.execute(
        b"vacuum analyze lineage.entity, lineage.entity_item, lineage.edge, lineage.item_version, lineage.event"
    )
    return {}


async def _walks(conn: Connection) -> dict[str, float]:
    figures: dict[str, float] = {}
    for who, principals in (("everybody", NOBODY), ("an administrator", EVERYTHING)):
        wanted = graph.Filter(principals, await graph.log_size(conn))
        (tip,) = await graph.known(conn, [item_id("own", "tip")], principals)

        async def ancestry(_: int, tip: graph.Node = tip, wanted: graph.Filter = wanted) -> None:
            found = await graph.gather(conn, [tip], "up", wanted, limit=10_000)
            assert len(found.nodes) == LAYERS * WIDTH + 1, len(found.nodes)

        figures |= await p95(f"P5: ancestry of 1,000 nodes, depth 10, {who}", conn, ancestry, 40)
    (root,) = await graph.known(conn, [item_id("own", "root")], NOBODY)
    begun, spent = time.perf_counter(), cpu_s(conn)
    number, first = 0, 0.0
    async for _ in graph.walk(conn, [root], upward=False, wanted=graph.Filter(NOBODY, await graph.log_size(conn))):
        number += 1
        if number == 2:
            first = time.perf_counter() - begun
    figures |= {
        "P5: descendants, nodes": number - 1,
        "P5: descendants, s": time.perf_counter() - begun,
        "P5: descendants, CPU s": cpu_s(conn) - spent,
        "P5: descendants, first line, ms": first * 1000,
    }
    begun, spent, number = time.perf_counter(), cpu_s(conn), 0
    wanted = graph.Filter(NOBODY, await graph.log_size(conn))
    async for some in impact.lines(conn, [root], wanted, skip=0, limit=FAN):
        number += some.count(b"\n")
    assert number == FAN + 1, number
    return figures | {
        "P5: descendants as lines of JSON, s": time.perf_counter() - begun,
        "P5: descendants as lines of JSON, CPU s": cpu_s(conn) - spent,
    }


async def _reads(conn: Connection) -> dict[str, float]:
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

    return {
        **await p95("P4: trace by name", conn, by_name, 500),
        **await p95("P4: trace by hash", conn, by_hash, 500),
        **await p95("P8: version of an item at a time", conn, at_a_time, 500),
        **await p95("P8: 1,000 hashes", conn, bulk, 40),
    }


async def _replacing(conn: Connection) -> dict[str, float]:
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
            begun, so_far = time.perf_counter(), cpu_s(conn)
            async with conn.transaction():
                await lock_items(conn, COLLECTION)
                await write_items(conn, COLLECTION, documents, before)
            times.append((time.perf_counter() - begun, cpu_s(conn) - so_far))
    await conn.execute(b"alter table pgstac.items enable trigger keep_past_item_deleted")
    figures: dict[str, float] = {}
    for words, times in zip(("past kept", "past not kept"), spent.values(), strict=True):
        for number, unit in enumerate(("ms", "CPU ms")):
            seen = statistics.median(one[number] for one in times[1:])
            figures[f"replacing an item, {unit}, {words}"] = seen / len(documents) * 1000

    async def document(number: int) -> None:
        await document_of(conn, COLLECTION, documents[number]["id"], b"\0" * 32)

    return figures | await p95("P8: looking through an item's waiting documents", conn, document, 50)


async def _measure(database: DatabaseSettings, steps: Steps) -> dict[str, float]:
    async with open_pool(database) as pool:
        await ensure_collections(pool)
        async with pool.connection() as conn:
            await conn.execute(b"set statement_timeout = 0")
            for name, step in {
                "filled": _filled, "projected": _projected, "rebuilt": _rebuilt, "derived": _derived_too, "walks": _walks, "reads": _reads,
                "replaced": _replacing,
            }.items():  # fmt: skip
                await steps.do(name, partial(step, conn))
    return steps.figures()


def run(server: DatabaseSettings) -> dict[str, float]:
    """Measure on a database of its own."""
    steps = Steps(server.data_dir / f"bench-graph-{EVENTS}")
    return asyncio.run(_measure(kept(server, f"bench_graph_{EVENTS}"), steps))
