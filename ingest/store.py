"""Writing items into pgstac, quickly and in the caller's transaction.

pgstac's own `upsert_items` stores about 100 Sentinel-2 items a second; dehydrating in Python and inserting rows is an
order of magnitude faster (figures: the store's benchmark in tests/ingest/test_store.py prints them). Like pypgstac's
loader this asks `check_partition` first, but for whole months, so that an ascending harvest does not rebuild the
partition's check constraint, and lock its readers out, at every page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby

import orjson
import psycopg
from pypgstac.hydration import dehydrate

from db.pools import Connection
from db.queries import sql
from ingest.errors import IngestError
from ingest.model import JSON
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

#: Bounds of the check constraint of a collection that is one partition.
_EVER = (datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC))
#: How far past its month an item may end before the constraint has to be widened.
_SLACK = timedelta(days=31)
_NOT_STORED = frozenset({"id", "collection", "geometry", "type", "private", "pgstac:base_item"})


class CollectionUnknown(IngestError):
    """pgstac has no collection of that id, so it cannot hold items of it."""


class NotStored(IngestError):
    """PostgreSQL took the statement and some items are not there; the transaction must not commit."""


@dataclass(frozen=True, slots=True)
class _Base:
    """What pgstac merges into every item of a collection when it is read."""

    item: JSON
    id: int | None
    partition_trunc: str | None


@dataclass(frozen=True, slots=True)
class _Row:
    """One row of pgstac.items."""

    id: str
    start: datetime
    end: datetime
    geometry: str
    content: str


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
    conn: Connection, collection: str, items: Sequence[JSON], before: Mapping[str, datetime | None]
) -> None:
    """Insert or replace items of one collection; the caller holds `lock_items`.

    Args:
        before: datetime under which an item is stored now; None says that there is no such item. An item
            missing here is looked for in every partition.

    Raises:
        CollectionUnknown: pgstac has no such collection.
        NotStored: an item is not there afterwards.
    """
    if not items:
        return
    base = await _base_of(conn, collection)
    rows = sorted((_row(item, base) for item in items), key=lambda row: (row.start, row.id))
    await _make_partitions(conn, collection, base, rows)
    await _delete_old(conn, collection, [row.id for row in rows], before)
    missing = await _insert(conn, collection, rows)
    if missing:  # someone else stored it, or an older state of the database: what we were told is not so
        await conn.execute(sql("harvest.delete_items_anywhere"), (collection, [row.id for row in missing]))
        missing = await _insert(conn, collection, missing)
    if missing:
        raise NotStored(f"{len(missing)} of {len(rows)} items of {collection} were not stored, first: {missing[0].id}")


async def _base_of(conn: Connection, collection: str) -> _Base:
    row = await (await conn.execute(sql("harvest.base_item"), (collection,))).fetchone()
    if row is None:
        raise CollectionUnknown(f"there is no collection {collection!r}")
    return _Base(row["base_item"], row["base_item_id"], row["partition_trunc"])


def _row(item: JSON, base: _Base) -> _Row:
    content = {key: value for key, value in dehydrate(base.item, item).items() if key not in _NOT_STORED}
    if base.id is not None:
        content["pgstac:base_item"] = base.id
    start, end = item_range(item)
    return _Row(str(item["id"]), start, end, orjson.dumps(item["geometry"]).decode(), orjson.dumps(content).decode())


def item_range(item: JSON) -> tuple[datetime, datetime]:
    """First and last instant of an item as pgstac's `stac_daterange` sees them: both ends, or `datetime` twice."""
    properties = item["properties"]
    start, end = properties.get("start_datetime"), properties.get("end_datetime")
    if not (start and end):
        start = end = properties["datetime"]
    return datetime.fromisoformat(start).astimezone(UTC), datetime.fromisoformat(end).astimezone(UTC)


def _bucket(when: datetime, trunc: str | None) -> tuple[datetime, datetime]:
    """First and last microsecond of the partition that `when` belongs to, in UTC as pgstac's `partition_name`."""
    if trunc is None:
        return _EVER
    first = datetime(when.year, when.month if trunc == "month" else 1, 1, tzinfo=UTC)
    after = (first + timedelta(days=31 if trunc == "month" else 366)).replace(day=1)
    return first, after - timedelta(microseconds=1)


async def _make_partitions(conn: Connection, collection: str, base: _Base, rows: Sequence[_Row]) -> None:
    """Ask for the rows' partitions, in order of time so that two writers cannot deadlock on the catalogue."""
    for (first, last), group in groupby(rows, key=lambda row: _bucket(row.start, base.partition_trunc)):
        members = list(group)
        start = min(first, *(row.start for row in members))
        end = max(last, *(row.start for row in members))
        latest_end = max(last + _SLACK, *(row.end for row in members))
        await conn.execute(sql("harvest.check_partition"), (collection, start, end, start, latest_end))


async def _delete_old(
    conn: Connection, collection: str, ids: Sequence[str], before: Mapping[str, datetime | None]
) -> None:
    known = [(item_id, stored) for item_id in ids if (stored := before.get(item_id)) is not None]
    unknown = [item_id for item_id in ids if item_id not in before]
    if known:
        old_ids, datetimes = (list(column) for column in zip(*known, strict=True))
        await conn.execute(sql("harvest.delete_items"), (collection, old_ids, datetimes))
    if unknown:
        await conn.execute(sql("harvest.delete_items_anywhere"), (collection, unknown))


async def _insert(conn: Connection, collection: str, rows: Sequence[_Row]) -> list[_Row]:
    """Insert rows; return those that were there already."""
    columns = (
        [row.id for row in rows],
        [row.start for row in rows],
        [row.end for row in rows],
        [row.geometry for row in rows],
        [row.content for row in rows],
    )
    cursor = await conn.execute(sql("harvest.insert_items"), (collection, *columns))
    stored = {row["id"] for row in await cursor.fetchall()}
    return [row for row in rows if row.id not in stored]
