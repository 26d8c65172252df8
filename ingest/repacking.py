"""Packs items that others than our writers have stored (`ingest.packing`), and adds them to the summaries of their collections.

Until then the API reads them from pgstac's columns.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import orjson

from db.pools import Connection, Pool
from db.queries import sql
from ingest.hydration import dumped, item_of, parsed
from ingest.packing import pack
from ingest.summaries import summary_of
from ingest.summary_store import widen

_BATCH = 200


async def pack_waiting(pool: Pool) -> int:
    """Pack what waits; return how many items were looked at. Any number of workers may do this at once."""
    done = 0
    while number := await _pack_batch(pool):
        done += number
    return done


async def _pack_batch(pool: Pool) -> int:
    """One batch in one transaction: its items' rows are locked, so that none changes before its packed form is there."""
    async with pool.connection() as conn, conn.transaction():
        waiting = await (await conn.execute(sql("harvest.take_unpacked"), (_BATCH,))).fetchall()
        if not waiting:
            return 0
        columns = [row["collection"] for row in waiting], [row["id"] for row in waiting]
        rows = await (await conn.execute(sql("harvest.items_to_pack"), columns)).fetchall()
        items = [await _item(conn, row) for row in rows]
        packed = [
            (row["collection"], row["id"], body) for row, item in zip(rows, items, strict=True) if (body := pack(item))
        ]
        if packed:
            await conn.execute(sql("harvest.put_packed"), [list(column) for column in zip(*packed, strict=True)])
        await conn.execute(sql("harvest.drop_unpacked"), columns)
        await _widen(conn, rows, items)
        return len(waiting)


async def _item(conn: Connection, row: Any) -> dict[str, Any]:
    content, tag = parsed(row["content"])
    cursor = await conn.execute(sql("harvest.base_item_of"), (row["collection"], tag))
    base = (await cursor.fetchone() or {}).get("base_item") or {}
    known = {name: value for name, value in base.items() if value is not None}
    item: dict[str, Any] = orjson.loads(dumped(item_of(row, content, known)))
    return item


async def _widen(conn: Connection, rows: list[Any], items: list[dict[str, Any]]) -> None:
    alike = defaultdict(list)
    for row, item in zip(rows, items, strict=True):
        alike[row["collection"]].append((row, item))
    for collection, both in sorted(alike.items()):
        first, last = min(row["first"] for row, _ in both), max(row["last"] for row, _ in both)
        await widen(conn, collection, summary_of([item for _, item in both], first, last))
