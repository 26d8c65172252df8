"""Summaries of collections in the database: widened by every writer in its transaction, made anew in slices so that they shrink too."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import datetime
from typing import Any

import orjson
from psycopg.types.json import Jsonb

from db.pools import Connection, Pool
from db.queries import sql
from ingest.store import lock_items
from ingest.summaries import merged, summarise

log = logging.getLogger(__name__)

JSON = dict[str, Any]
#: Items that are read at once, and seconds that one round of the worker may take.
SLICE = 5000
ROUND_S = 5.0


async def widen(conn: Connection, collection: str, summary: JSON) -> None:
    """Make the collection's summary cover these items too, in the caller's transaction.

    Most pages have nothing new, and then nothing is written or locked: who has stored items before an anew-making began has
    committed by then (it waits for the collection's lock).
    """
    row = await (await conn.execute(sql("summaries.read"), (collection,))).fetchone()
    if row is not None and not row["is_rebuilding"] and merged(row["summary"], summary) == row["summary"]:
        return
    if row is None:
        await conn.execute(sql("summaries.make"), (collection,))
    known = await (await conn.execute(sql("summaries.lock"), (collection,))).fetchone()
    if known is None:  # the collection is gone
        return
    wider = merged(known["summary"], summary)
    rebuilding = merged(known["rebuilding"], summary) if known["rebuilding"] is not None else None
    if wider != known["summary"] or rebuilding != known["rebuilding"]:
        parameters = (collection, Jsonb(wider), Jsonb(rebuilding) if rebuilding is not None else None)
        await conn.execute(sql("summaries.widen"), parameters)


async def rebuild_due(pool: Pool, rest_s: float, *, slice_size: int = SLICE, round_s: float = ROUND_S) -> int:
    """Go on with the summaries that must be made anew, for about `round_s` seconds; return how many were finished.

    Args:
        rest_s: seconds between two makings of one summary whose collection has lost or changed items.
    """
    until = time.monotonic() + round_s
    async with pool.connection() as conn:
        due = await (await conn.execute(sql("summaries.due"), (rest_s,))).fetchall()
    finished = 0
    for row in due:
        if not row["is_begun"]:
            await _begin(pool, row["collection_id"], row["churn"])
        while time.monotonic() < until:
            is_done = await _slice(pool, row["collection_id"], slice_size)
            if is_done is None:  # another worker is at it
                break
            if is_done:
                finished += 1
                log.info("summary made anew", extra={"collection": row["collection_id"]})
                break
    return finished


async def _begin(pool: Pool, collection: str, churn: int) -> None:
    async with pool.connection() as conn, conn.transaction():
        await lock_items(conn, collection)
        await conn.execute(sql("summaries.begin"), (collection, churn))


async def _slice(pool: Pool, collection: str, size: int) -> bool | None:
    """Read on from where it was left; True when that was the end, None when it is not ours to do.

    Items are read without the collection's lock, so that harvests go on; what they store meanwhile they add themselves.
    """
    async with pool.connection() as conn, conn.transaction():
        reached = await (await conn.execute(sql("summaries.try_slice"), (collection,))).fetchone()
        if reached is None:
            return None
        place: tuple[datetime, str] = (reached["reached_datetime"], reached["reached_id"])
        rows = await (await conn.execute(sql("summaries.slice"), (collection, *place, size))).fetchall()
        found = await asyncio.to_thread(_summary_of, [row for row in rows if row["is_public"]])
        await lock_items(conn, collection)
        known = await (await conn.execute(sql("summaries.lock"), (collection,))).fetchone()
        if known is None or known["rebuilding"] is None:
            return None
        made = merged(known["rebuilding"], found)
        if len(rows) < size:
            await conn.execute(sql("summaries.finish"), (collection, Jsonb(made)))
            return True
        last = rows[-1]
        await conn.execute(sql("summaries.reach"), (collection, Jsonb(made), last["datetime"], last["id"]))
        return False


def _summary_of(rows: list[Any]) -> JSON:
    """The summary of rows as they are stored."""
    properties = [orjson.loads(row["properties"]) for row in rows if row["properties"] is not None]
    boxes = [orjson.loads(row["bbox"]) for row in rows if row["bbox"] is not None]
    first = min((row["datetime"] for row in rows), default=None)
    last = max((row["end_datetime"] for row in rows), default=None)
    return summarise((one for one in properties if isinstance(one, dict)), boxes, first, last)
