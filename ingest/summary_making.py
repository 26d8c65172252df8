"""Summaries of collections made anew from all their items, in slices: writers only widen them, and so they shrink too."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

import orjson
import psycopg
from psycopg.types.json import Jsonb

from db.pools import Pool
from db.queries import sql
from ingest.store import RETRYABLE, lock_items
from ingest.summaries import JSON, merged, summarise

log = logging.getLogger(__name__)

#: Items that are read at once, and seconds that one round of the worker may take.
SLICE = 5000
ROUND_S = 5.0
#: A writer has the collection's lock for longer than one waits, or has been quicker.
_LATER = (*RETRYABLE, psycopg.errors.QueryCanceled)
#: Seconds that stand for no round's end and for no rest's.
_EVER_S = 1e9


async def rebuild_all(pool: Pool, collections: Sequence[str] | None = None) -> int:
    """Make the summaries of these collections (None: of all) anew, whether something has changed or not; return how many they are."""
    async with pool.connection() as conn:
        cursor = await conn.execute(sql("summaries.begin_soon"), (None if collections is None else list(collections),))
    wanted = cursor.rowcount
    while True:
        if not await rebuild_due(pool, _EVER_S, round_s=_EVER_S):
            return wanted
        await asyncio.sleep(0.2)  # a worker is at some of them


async def rebuild_due(pool: Pool, rest_s: float, *, slice_size: int = SLICE, round_s: float = ROUND_S) -> int:
    """Go on with the summaries that must be made anew, for about `round_s` seconds; return how many are left.

    Args:
        rest_s: seconds between two makings of one summary whose collection has lost or changed items.
    """
    until = time.monotonic() + round_s
    async with pool.connection() as conn:
        due = await (await conn.execute(sql("summaries.due"), (rest_s,))).fetchall()
    left = len(due)
    for row in due:
        try:
            left -= await _go_on(pool, row, slice_size, until)
        except _LATER as error:
            log.warning(
                "summary not made anew yet", extra={"collection": row["collection_id"], "reason": type(error).__name__}
            )
    return left


async def _go_on(pool: Pool, row: Any, slice_size: int, until: float) -> bool:
    """Go on with one summary; True when it was finished."""
    if not row["is_begun"]:
        await _begin(pool, row["collection_id"], row["churn"])
    is_done: bool | None = False
    while is_done is False and time.monotonic() < until:
        is_done = await _slice(pool, row["collection_id"], slice_size)
    return bool(is_done)


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
        place = reached["reached_datetime"], reached["reached_id"]
        rows = await (await conn.execute(sql("summaries.slice"), (collection, *place, size))).fetchall()
        found = await asyncio.to_thread(_summary_of, [row for row in rows if row["is_public"]])
        await lock_items(conn, collection)
        known = await (await conn.execute(sql("summaries.lock"), (collection,))).fetchone()
        if known is None or known["rebuilding"] is None:
            return None
        made = merged(known["rebuilding"], found)
        if len(rows) < size:
            await conn.execute(sql("summaries.finish"), (collection, Jsonb(made)))
            log.info("summary made anew", extra={"collection": collection})
            return True
        last = rows[-1]
        await conn.execute(sql("summaries.reach"), (collection, Jsonb(made), last["place"], last["id"]))
        return False


def _summary_of(rows: list[Any]) -> JSON:
    """The summary of rows as they are stored."""
    properties = [orjson.loads(row["properties"]) for row in rows if row["properties"] is not None]
    boxes = [orjson.loads(row["bbox"]) for row in rows if row["bbox"] is not None]
    first = min((row["first"] for row in rows), default=None)
    last = max((row["last"] for row in rows), default=None)
    return summarise((one for one in properties if isinstance(one, dict)), boxes, first, last)
