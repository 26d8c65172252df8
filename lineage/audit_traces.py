"""Compares foreign traces, which are kept beside the log, with what their events say of them."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from db.queries import sql
from lineage.verify import Fault

PORTION = 500
_FIRST = UUID(int=0)

Row = dict[str, Any]


async def trace_faults(conn: AsyncConnection[Row]) -> AsyncIterator[Fault]:
    """Foreign traces that were changed, put in without an event, or taken away."""
    last = _FIRST
    while rows := await (await conn.execute(sql("trace.foreign_traces"), (last, PORTION))).fetchall():
        for row in rows:
            digest = hashlib.sha256(row["raw"].encode()).digest()
            if row["logged"] is None:
                yield Fault("trace-added", f"the foreign trace {row['event_id']} is in no event of the log")
            elif (row["logged"], digest) != (digest.hex(), bytes(row["raw_sha256"])):
                words = f"event {row['seq']}: the foreign trace beside it is another than it says"
                yield Fault("trace-differs", words, row["seq"])
        last = rows[-1]["event_id"]
    for row in await (await conn.execute(sql("trace.missing_foreign_traces"))).fetchall():
        yield Fault("trace-missing", f"event {row['seq']}: the foreign trace that it says is gone", row["seq"])
