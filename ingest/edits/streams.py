"""Many new items of one request, looked at while PostgreSQL stores those before them: each of the two has a core.

This is the way of requests with which nothing is wrong. Whatever stands in the way, the transaction is given up and `Unstreamable` raised;
what is wrong is then found, and told, by those who look at all items before anything is stored (`ingest.edits.batches`,
`ingest.edits.items`). An item is read, checked, hashed and made a row before the next one is read: a thousand of them read at once cost
three times as much, as none is in the processor's caches any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from itertools import batched
from typing import Any
from uuid import UUID

import msgspec
import orjson
import psycopg

from db.pools import Connection
from db.queries import sql
from ingest.ahead import ahead
from ingest.edits.author import Author
from ingest.edits.documents import checked_item
from ingest.edits.hrefs import named_uploads
from ingest.edits.items import Ready, check_uploads, enter, events_of
from ingest.errors import EditRefused, IngestError, RecordRejected
from ingest.model import JSON
from ingest.packing import pack
from ingest.rows import Base, packed_row, row_of
from ingest.sanitise import check_id
from ingest.store import base_of, copy_packed, copy_rows, loading, partitioned
from ingest.summaries import merged, summarise
from ingest.summary_store import widen
from lineage import log as lineage_log
from lineage.events import Kind

#: Items that are made ready at once; fewer in all are not worth a stream.
BATCH = 100


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
    sha256: str
    row: bytes
    footprint: bytes


@dataclass(frozen=True, slots=True)
class _Batch:
    """Items that are ready, in order of time: rows, packed forms, and what is told of them."""

    rows: Sequence[_Row]
    packed: bytes
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

    def batches(self, base: Base) -> Iterator[_Batch]:
        """The items, roughly in order of time, so that a batch has few partitions.

        Raises:
            EditRefused, orjson.JSONDecodeError: something is wrong with one.
        """
        for some in batched(sorted(self.documents, key=self._time), BATCH):
            yield self._batch(some, base)

    def _batch(self, ids: Sequence[str], base: Base) -> _Batch:
        rows: list[_Row] = []
        packed: list[bytes] = []
        uploads: set[UUID] = set()
        properties, boxes = [], []
        collection = self.collection.encode()
        for item_id in ids:
            document = self.clean(orjson.loads(memoryview(self.documents[item_id])))
            ready = Ready.of(checked_item(document, self.collection, item_id, own_root=self.own_root))
            row = row_of(ready.item)
            footprint = row.geometry()
            rows.append(
                _Row(row.start, row.end, item_id, ready.sha256, row.packed(collection, base, footprint), footprint)
            )
            if (body := pack(ready.item)) is not None:
                packed.append(packed_row(collection, item_id, body))
            uploads |= named_uploads([ready.item])
            properties.append(ready.item["properties"])
            boxes.append(ready.item["bbox"])
        rows.sort(key=lambda row: (row.start, row.id))
        summary = summarise(properties, boxes, rows[0].start, max(row.end for row in rows))
        return _Batch(rows, b"".join(packed), summary, frozenset(uploads))

    def _time(self, item_id: str) -> bytes:
        """Where an item's time probably is; a wrong one costs a little time and nothing else."""
        text = memoryview(self.documents[item_id]).tobytes()
        place = text.find(b'"datetime"')
        return text[place + 11 : place + 35]


async def create_streamed(conn: Connection, author: Author, stream: Stream) -> None:
    """Store new items, all or none.

    Raises:
        Unstreamable: something is wrong with one, it is there already, or the author may not.
    """
    try:
        for item_id in stream.documents:
            check_id(item_id)
        place = await enter(conn, author, stream.collection, list(stream.documents))
        if not place.may_write or place.present or place.harvested:
            raise Unstreamable("these items are not simply new")
        await _store(conn, author, stream)
    except (EditRefused, RecordRejected, orjson.JSONDecodeError, psycopg.errors.UniqueViolation) as error:
        raise Unstreamable(str(error)) from error


async def _store(conn: Connection, author: Author, stream: Stream) -> None:
    collection = stream.collection
    base = await base_of(conn, collection)
    hashes: dict[str, str] = {}
    told: JSON | None = None
    async with loading(conn, collection) as footprints, aclosing(ahead(stream.batches(base))) as batches:
        async for batch in batches:
            await check_uploads(conn, author, batch.uploads)
            for partition, rows in sorted((await partitioned(conn, collection, base, batch.rows)).items()):
                await copy_rows(conn, collection, partition, len(rows), [b"".join(row.row for row in rows)])
            await copy_packed(conn, batch.packed)
            footprints += [row.footprint for row in batch.rows]
            hashes |= {row.id: row.sha256 for row in batch.rows}
            told = merged(told, batch.summary)
    await conn.execute(sql("edits.note_edited"), (collection,))
    if told is not None:
        await widen(conn, collection, told)
    facts = [(item_id, {"item_sha256": hashes[item_id]}) for item_id in stream.documents]
    await lineage_log.append(conn, *events_of(author, Kind.CREATE, collection, facts))
