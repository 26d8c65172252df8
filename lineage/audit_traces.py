"""Compares foreign traces, which are kept beside the log, with what their events say of them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

import orjson
from psycopg import AsyncConnection

from db.queries import sql
from lineage.trace_parse import TraceInvalid, parse_trace
from lineage.verify import Fault

PORTION = 500
_FIRST = UUID(int=0)

Row = dict[str, Any]


async def trace_faults(conn: AsyncConnection[Row]) -> AsyncIterator[Fault]:
    """Foreign traces that were changed, put in without an event, or taken away, and rows that say otherwise of one than its event."""
    last = _FIRST
    while rows := await (await conn.execute(sql("trace.foreign_traces"), (last, PORTION))).fetchall():
        for fault in await asyncio.to_thread(lambda found: [_fault(row) for row in found], rows):
            if fault is not None:
                yield fault
        last = rows[-1]["event_id"]
    for row in await (await conn.execute(sql("trace.missing_foreign_traces"))).fetchall():
        yield Fault("trace-missing", f"event {row['seq']}: the foreign trace that it says is gone", row["seq"])


def _fault(row: Row) -> Fault | None:
    facts = {} if row["body"] is None else orjson.loads(row["body"])
    logged = facts.get("trace_sha256")
    if logged is None:
        return Fault("trace-added", f"the foreign trace {row['event_id']} is in no event of the log", row["seq"])
    digest = hashlib.sha256(row["raw"].encode()).digest()
    if (logged, digest) != (digest.hex(), bytes(row["raw_sha256"])):
        words = f"event {row['seq']}: the foreign trace beside it is another than it says"
        return Fault("trace-differs", words, row["seq"])
    if wrong := list(_differing(row, facts)):
        words = f"event {row['seq']}: the row of its foreign trace says otherwise ({', '.join(wrong)})"
        return Fault("trace-differs", words, row["seq"])
    return None


def _differing(row: Row, facts: dict[str, Any]) -> Iterator[str]:
    """Columns that say otherwise than the event, which repeats what the trace says."""
    said, told = facts["trace"], orjson.loads(row["verdict"])
    key = None if row["key_sha256"] is None else bytes(row["key_sha256"]).hex()
    pairs = {
        "event": (row["event"], said["event"]),
        "product_name": (row["product_name"], said["product"]),
        "trace_id": (row["trace_id"], said.get("id")),
        "origin": (row["origin"] or said["origin"], said["origin"]),
        "key_sha256": (key, facts.get("key_sha256")),
        "collection": (row["collection"], facts.get("collection")),
        "item_id": (row["item_id"], facts.get("item")),
        "verdict": ({name: told.get(name) for name in facts["verdict"]}, facts["verdict"]),
    }
    yield from (name for name, (stored, logged) in pairs.items() if stored != logged)
    try:
        if {bytes(one) for one in row["digests"]} != parse_trace(row["raw"].encode()).digests:
            yield "hashes"
    except TraceInvalid:
        return  # taken in by a reader of before
