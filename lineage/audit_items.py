"""Compares the catalogue with the log: an item must be what the newest event about it says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
from psycopg import AsyncConnection

from db.queries import sql
from lineage.canonical import item_hashes
from lineage.verify import Fault

PORTION = 500

Row = dict[str, Any]


async def item_faults(conn: AsyncConnection[Row]) -> AsyncIterator[Fault]:
    """Items that differ from the newest event that tells their hash, that came or went without one, or that a hand has changed.

    Events that still wait for their number count: they were committed with the change.
    """
    collection, item = "", ""
    while True:
        cursor = await conn.execute(sql("lineage.items_and_events"), (collection, item, PORTION))
        rows = await cursor.fetchall()
        for row in rows:
            if (fault := _fault(row)) is not None:
                yield fault
        if len(rows) < PORTION:
            break
        collection, item = rows[-1]["collection"], rows[-1]["id"]
    cursor = await conn.execute(sql("lineage.items_that_are_gone"))
    for row in await cursor.fetchall():
        words = f"item {row['collection']}/{row['item_id']} is gone, and no event says so"
        yield Fault("item-missing", words, row["seq"])


def _fault(row: Row) -> Fault | None:
    where = f"item {row['collection']}/{row['id']}"
    if row["kind"] is None:
        return Fault("unattributed", f"{where} is in no event of the log: an unattributed change")
    if row["actor_id"] == "unattributed":
        return Fault(
            "unattributed", f"{where} was changed without an event of its own: an unattributed change", row["seq"]
        )
    if row["kind"] in ("DELETE", "WITHDRAW"):
        return Fault("item-added", f"{where} is there, and the newest event says that it is gone", row["seq"])
    if row["item_sha256"] not in item_hashes(orjson.loads(row["content"])):
        return Fault("item-differs", f"{where} is not what its newest event says: an unattributed change", row["seq"])
    return None
