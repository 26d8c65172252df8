"""Many new items of one request, looked at while PostgreSQL stores those before them: each of the two has a core.

This is the way of requests with which nothing is wrong. Whatever stands in the way, the transaction is given up and `Unstreamable` raised;
what is wrong is then found, and told, by those who look at all items before anything is stored (`ingest.edits.batches`,
`ingest.edits.items`). A few items are read, checked, hashed and made rows before the next ones are read: a thousand of them read at once
cost three times as much, as none is in the processor's caches any more.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import batched, islice
from typing import Any
from uuid import UUID

import msgspec
import orjson
import psycopg

from db.pools import Connection
from db.queries import sql
from ingest.ahead import ahead
from ingest.edits.author import Author
from ingest.edits.geometry import are_valid
from ingest.edits.items import check_uploads, enter, events_of
from ingest.edits.plain import Prepared, prepared
from ingest.errors import EditRefused, IngestError, RecordRejected
from ingest.model import JSON
from ingest.partitions import Partitions
from ingest.rows import Base, Row, packed_row
from ingest.sanitise import check_id
from ingest.store import CollectionUnknown, base_of, copy_packed, copy_rows, loading, lock_items
from ingest.summaries import merged, summarise
from ingest.summary_store import widen
from lineage import log as lineage_log
from lineage.errors import EventInvalid
from lineage.events import Kind

#: Items that are made ready at once; fewer in all are not worth a stream.
BATCH = 100
#: Events of longer ones have to be looked at one by one (`lineage.log.append`).
_LONGEST_ACTOR = 1000
#: So many are the first ones, as PostgreSQL waits for them, and the last ones, after which it has to be waited for.
_FIRST, _LAST = (20, 40), (20,)
#: Items that are looked at together.
_GROUP = 8
#: Batches that may wait for PostgreSQL, which takes longer where it makes partitions.
_AHEAD = 4
#: What is raised when not all is well.
_FAULTS = (
    CollectionUnknown,
    EditRefused,
    EventInvalid,
    RecordRejected,
    orjson.JSONDecodeError,
    psycopg.errors.UniqueViolation,
)


class Unstreamable(IngestError):
    """Not all is well with these items: the transaction must not commit, and somebody else has to say why."""


class Bulk(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a bulk request; its items are not read yet."""

    items: dict[str, msgspec.Raw]
    method: str = "insert"


_BULK = msgspec.json.Decoder(Bulk)


def bulk_of(body: bytes) -> Bulk | None:
    """A body taken apart, at a tenth of the cost of reading it; None for one that is not as it should be, which its reader will explain."""
    try:
        return _BULK.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


@dataclass(frozen=True, slots=True)
class _Row:
    """An item as PostgreSQL gets it; `start` and `end` choose its partition."""

    start: datetime
    end: datetime
    id: str
    row: bytes


@dataclass(frozen=True, slots=True)
class _Batch:
    """Items that are ready, in order of time: rows, packed forms, and what is told of them; events by their items."""

    rows: Sequence[_Row]
    packed: bytes
    footprints: Sequence[bytes]
    events: Mapping[str, bytes]
    summary: JSON
    uploads: frozenset[UUID]


@dataclass(frozen=True, slots=True)
class Stream:
    """New items of one collection, by their ids.

    Attributes:
        documents: JSON of each item.
        own_root: see `checked_item`.
        clean: what is done to an item that was read, before it is looked at.
    """

    collection: str
    documents: Mapping[str, msgspec.Raw]
    own_root: str
    clean: Callable[[Any], Any]

    def batches(self, base: Base, author: Author) -> Iterator[_Batch]:
        """The items, roughly in order of time, so that a batch has few partitions.

        Raises:
            EditRefused, EventInvalid, orjson.JSONDecodeError: something is wrong with one.
        """
        ids = iter(sorted(self.documents, key=self._time))
        for number in _sizes(len(self.documents)):
            yield self._batch(list(islice(ids, number)), base, author)

    def _batch(self, ids: Sequence[str], base: Base, author: Author) -> _Batch:
        rows: list[_Row] = []
        packed: list[bytes] = []
        footprints: list[bytes] = []
        uploads: set[UUID] = set()
        properties, boxes, facts = [], [], []
        collection = self.collection.encode()
        for item_id, one in self._prepared(ids):
            row = Row(one.item, one.start, one.end).packed(collection, base, one.footprint)
            rows.append(_Row(one.start, one.end, item_id, row))
            if one.packed is not None:
                packed.append(packed_row(collection, item_id, one.packed))
            footprints.append(one.footprint)
            uploads |= one.uploads
            properties.append(one.item["properties"])
            boxes.append(one.item["bbox"])
            facts.append((item_id, {"item_sha256": one.sha256}))
        if not are_valid(footprints):
            raise EditRefused("INVALID_GEOMETRY", "a geometry crosses or touches itself")
        rows.sort(key=lambda row: (row.start, row.id))
        summary = summarise(properties, boxes, rows[0].start, max(row.end for row in rows))
        events = events_of(author, Kind.CREATE, self.collection, facts)
        texts = {str(event.item_id): lineage_log.row_text(event) for event in events}
        return _Batch(rows, b"".join(packed), footprints, texts, summary, frozenset(uploads))

    def _prepared(self, ids: Sequence[str]) -> Iterator[tuple[str, Prepared]]:
        for few in batched(ids, _GROUP):
            read = [(item_id, self.clean(orjson.loads(memoryview(self.documents[item_id])))) for item_id in few]
            yield from zip(few, prepared(read, self.collection, self.own_root), strict=True)

    def _time(self, item_id: str) -> bytes:
        """Where an item's time probably is; a wrong one costs a little time and nothing else."""
        text = memoryview(self.documents[item_id]).tobytes()
        place = text.find(b'"datetime"')
        return text[place + 11 : place + 35]


def _sizes(number: int) -> Iterator[int]:
    """Of batches: the first are few, the last are few, and the others `BATCH` at most."""
    left = number - sum(_FIRST) - sum(_LAST)
    if left < 0:
        yield number
        return
    yield from _FIRST
    for _ in range(left // BATCH):
        yield BATCH
    if left % BATCH:
        yield left % BATCH
    yield from _LAST


async def create_streamed(conn: Connection, author: Author, stream: Stream) -> None:
    """Store new items, all or none.

    Raises:
        Unstreamable: something is wrong with one, it is there already, or the author may not.
    """
    try:
        for item_id in stream.documents:
            check_id(item_id)
        await lock_items(conn, stream.collection)
        base = await base_of(conn, stream.collection)
        async with ahead(stream.batches(base, author), _AHEAD) as batches:
            place = await enter(conn, author, stream.collection, list(stream.documents))
            if not place.may_write or place.present or place.harvested or len(author.actor) > _LONGEST_ACTOR:
                raise Unstreamable("these items are not simply new")
            await _store(conn, author, stream, base, batches)
    except _FAULTS as error:
        raise Unstreamable(str(error)) from error


async def _store(conn: Connection, author: Author, stream: Stream, base: Base, batches: AsyncGenerator[_Batch]) -> None:
    collection = stream.collection
    partitions = Partitions(conn, collection, base.partition_trunc)
    stored_in: set[str] = set()
    events: dict[str, bytes] = {}
    told: JSON | None = None
    async with loading(conn, collection) as footprints:
        async for batch in batches:
            await check_uploads(conn, author, batch.uploads)
            for partition, rows in (await partitions.of(batch.rows)).items():
                await copy_rows(conn, collection, partition, len(rows), [b"".join(row.row for row in rows)])
                stored_in.add(partition)
            await copy_packed(conn, batch.packed)
            footprints += batch.footprints
            events |= batch.events
            told = merged(told, batch.summary)
        await partitions.note_stored(stored_in)
    await conn.execute(sql("edits.note_edited"), (collection,))
    if told is not None:
        await widen(conn, collection, told)
    await lineage_log.append_rows(conn, [events[item_id] for item_id in stream.documents])
