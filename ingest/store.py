"""Writing items into pgstac, quickly and in the caller's transaction.

pgstac's own `upsert_items` stores about 100 Sentinel-2 items a second; COPY of rows made in Python stores thousands (figures:
benchmarks/RESULTS.md). Like pypgstac's loader this sees to the partitions first (`ingest.partitions`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import batched
from types import MappingProxyType

import psycopg
from psycopg.rows import DictRow
from psycopg.sql import SQL, Identifier

from db.pools import Connection
from db.queries import sql
from ingest.errors import IngestError
from ingest.model import JSON
from ingest.packing import pack
from ingest.partitions import Partitions
from ingest.rows import COPY_END, COPY_HEAD, Base, Row, packed_row, row_of
from ingest.summaries import summary_of
from ingest.summary_store import widen
from lineage import log as lineage_log
from lineage.events import Event

#: Raised by PostgreSQL when partitions are made while others write; the whole transaction may simply be run again.
RETRYABLE = (
    psycopg.errors.DeadlockDetected,
    psycopg.errors.CheckViolation,
    psycopg.errors.UndefinedTable,
    psycopg.errors.SerializationFailure,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.ObjectInUse,
)

#: Rows that are made while PostgreSQL reads those before them.
_BATCH = 4


class CollectionUnknown(IngestError):
    """pgstac has no collection of that id, so it cannot hold items of it."""


class NotStored(IngestError):
    """PostgreSQL took the statement and some items are not there; the transaction must not commit."""


async def put_item(conn: Connection, item: JSON, event: Event) -> None:
    """Insert or replace one item and append its event, in the caller's transaction.

    Raises:
        CollectionUnknown: pgstac has no collection `item["collection"]`.
    """
    collection = str(item["collection"])
    await lock_items(conn, collection)
    await write_items(conn, collection, [item], {})
    await lineage_log.append(conn, event)


async def lock_items(conn: Connection, collection: str) -> None:
    """Wait until no other transaction writes items of `collection`; held to the transaction's end."""
    await conn.execute(sql("harvest.lock_items"), (collection,))


async def write_items(
    conn: Connection,
    collection: str,
    items: Sequence[JSON],
    before: Mapping[str, datetime | None],
    *,
    new_readers: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Insert or replace items of one collection; the caller holds `lock_items`. Who may read a replaced item stays as it was.

    Args:
        before: datetime under which an item is stored now; None says that there is no such item. An item
            missing here is looked for in every partition.
        new_readers: column `private`, as JSON text, of items that have none in the database.

    Raises:
        CollectionUnknown: pgstac has no such collection.
        NotStored: an item is not there afterwards.
    """
    if not items:
        return
    base = await base_of(conn, collection)
    packing = asyncio.create_task(asyncio.to_thread(_packed, collection, items))
    rows = sorted(map(row_of, items), key=lambda row: (row.start, row.id))
    summing = asyncio.create_task(asyncio.to_thread(_summed, rows))
    partitions = Partitions(conn, collection, base.partition_trunc)
    parts = await partitions.of(rows)
    readers = {**new_readers, **await delete_items(conn, collection, [row.id for row in rows], before)}
    collection_id = collection.encode()
    try:
        async with conn.transaction(), loading(conn, collection) as footprints:
            for partition, members in parts.items():
                pieces = _pieces(members, collection_id, base, footprints)
                await copy_rows(conn, collection, partition, len(members), pieces)
            await partitions.note_stored(parts)
            await copy_packed(conn, await packing)
    except psycopg.errors.UniqueViolation:
        # Someone else stored it, or an older state of the database: what we were told is not so.
        readers |= await _write_over(conn, collection, base, rows)
        await copy_packed(conn, await packing)
    await _put_readers(conn, collection, readers)
    told = await summing
    if readers:  # what not everybody may see is in no summary
        told = await asyncio.to_thread(_summed, [row for row in rows if row.id not in readers])
    if told is not None:
        await widen(conn, collection, told)


def _summed(rows: Sequence[Row]) -> JSON | None:
    """The summary of the items of rows (`ingest.summaries`); None when there are none."""
    if not rows:
        return None
    items = [row.item for row in rows]
    return summary_of(items, min(row.start for row in rows), max(row.end for row in rows))


async def _write_over(conn: Connection, collection: str, base: Base, rows: Sequence[Row]) -> dict[str, str]:
    """Insert rows, and replace what is in their way; returns its readers as `delete_items`.

    Raises:
        NotStored: an item is not there afterwards.
    """
    readers: dict[str, str] = {}
    missing = await _insert(conn, collection, base, rows)
    if missing:
        readers = await delete_items(conn, collection, [row.id for row in missing], {})
        missing = await _insert(conn, collection, base, missing)
    if missing:
        raise NotStored(f"{len(missing)} of {len(rows)} items of {collection} were not stored, first: {missing[0].id}")
    return readers


async def _put_readers(conn: Connection, collection: str, readers: Mapping[str, str]) -> None:
    """Give items their column `private` again, which COPY leaves empty: what not everybody may see stays hidden."""
    if readers:
        await conn.execute(sql("harvest.put_readers"), (collection, list(readers), list(readers.values())))


def _pieces(rows: Sequence[Row], collection_id: bytes, base: Base, footprints: list[bytes]) -> Iterator[bytes]:
    """Rows for COPY, some at once, and the footprints of them all."""
    for few in batched(rows, _BATCH):
        places = [row.geometry() for row in few]
        footprints += places
        yield b"".join(row.packed(collection_id, base, place) for row, place in zip(few, places, strict=True))


@asynccontextmanager
async def loading(conn: Connection, collection: str) -> AsyncGenerator[list[bytes]]:
    """Within this, rows are copied and nothing else becomes an item: their footprints (EWKB) are noted at its end, all at once.

    What is raised within must take the transaction, or the savepoint around this, back with it.
    """
    await conn.execute(sql("harvest.begin_load"))
    footprints: list[bytes] = []
    yield footprints
    await conn.execute(sql("harvest.end_load"), (collection, footprints))


async def copy_rows(conn: Connection, collection: str, partition: str, number: int, pieces: Iterable[bytes]) -> None:
    """Copy rows (`ingest.rows.Row.packed`) into their partition: routed by the parent table it costs a quarter more. The caller notes them
    (`Partitions.note_stored`).

    Some rows a piece: while PostgreSQL reads one piece the next is being made.

    Raises:
        NotStored: fewer than `number` are there afterwards.
    """
    async with conn.cursor() as cursor:
        async with cursor.copy(SQL(sql("harvest.copy_items")).format(Identifier(partition))) as copy:
            await copy.write(COPY_HEAD)
            for piece in pieces:
                await copy.write(piece)
            await copy.write(COPY_END)
        stored = cursor.rowcount
    if stored != number:
        raise NotStored(f"{number - stored} of {number} items of {collection} were not stored")


def _packed(collection: str, items: Sequence[JSON]) -> bytes:
    """Rows of large items, ready to be answered. Made in a thread while PostgreSQL reads the items themselves."""
    collection_id = collection.encode()
    bodies = ((str(item["id"]), pack(item)) for item in items)
    return b"".join(packed_row(collection_id, item_id, body) for item_id, body in bodies if body is not None)


async def copy_packed(conn: Connection, rows: bytes) -> None:
    """Store packed items; those that they replace went with their items."""
    if rows:
        async with conn.cursor() as cursor, cursor.copy(SQL(sql("harvest.copy_packed_items"))) as copy:
            await copy.write(COPY_HEAD + rows + COPY_END)


async def base_of(conn: Connection, collection: str) -> Base:
    """What pgstac adds to items of a collection. Raises CollectionUnknown."""
    row = await (await conn.execute(sql("harvest.base_item"), (collection,))).fetchone()
    if row is None:
        raise CollectionUnknown(f"there is no collection {collection!r}")
    return Base(row["base_item"], row["base_item_id"], row["partition_trunc"])


async def delete_items(
    conn: Connection, collection: str, ids: Sequence[str], before: Mapping[str, datetime | None]
) -> dict[str, str]:
    """Delete items of one collection, if they are there; `before` as in `write_items`. The caller holds `lock_items`.

    Returns the column `private`, as JSON text, of those that had one.
    """
    known = [(item_id, stored) for item_id in ids if (stored := before.get(item_id)) is not None]
    unknown = [item_id for item_id in ids if item_id not in before]
    gone: list[DictRow] = []
    if known:
        old_ids, datetimes = (list(column) for column in zip(*known, strict=True))
        cursor = await conn.execute(sql("harvest.delete_items"), (collection, old_ids, datetimes))
        gone += await cursor.fetchall()
    if unknown:
        cursor = await conn.execute(sql("harvest.delete_items_anywhere"), (collection, unknown))
        gone += await cursor.fetchall()
    return {row["id"]: row["private"] for row in gone}


async def _insert(conn: Connection, collection: str, base: Base, rows: Sequence[Row]) -> list[Row]:
    """Insert rows; return those that were there already."""
    columns = (
        [row.id for row in rows],
        [row.start for row in rows],
        [row.end for row in rows],
        [row.geometry().hex() for row in rows],
        [row.content(base).decode() for row in rows],
    )
    cursor = await conn.execute(sql("harvest.insert_items"), (collection, *columns))
    stored = {row["id"] for row in await cursor.fetchall()}
    return [row for row in rows if row.id not in stored]
