"""One page of records becomes items, holdings, quarantine, events and a cursor: all of it or nothing.

Normalising is pure and done before the transaction. Inside it, under the collection's lock: what is known of these
records and items is read, items are merged anew from all their holdings, and only what changed is written.
"""

from __future__ import annotations

import hashlib
import logging
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from psycopg.types.json import Jsonb

from db.pools import Connection
from db.queries import sql
from ingest.adapters import adapter_for
from ingest.errors import RecordRejected
from ingest.merge import merge
from ingest.model import JSON, Adapter, CollectionMapping, Contribution, Cursor, Record, Source
from ingest.normalise import MAPPING_VERSION
from ingest.store import item_range, lock_items, write_items
from lineage import log as lineage_log
from lineage import multihash
from lineage.canonical import item_sha256
from lineage.events import Event, Kind
from lineage.ids import uuid7

log = logging.getLogger(__name__)

_MIN_TIME = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A record that can become an item."""

    record_id: str
    packed: bytes
    sha256: bytes
    contribution: Contribution

    @property
    def item_id(self) -> str:
        return str(self.contribution.item["id"])


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that cannot, and why."""

    record_id: str
    packed: bytes
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Normalised:
    """A page after normalising. `warnings` counts upstream fields that nobody read."""

    accepted: tuple[Accepted, ...]
    refused: tuple[Refused, ...]
    warnings: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Counts:
    """What a page or a run did: records fetched = added + changed + unchanged + quarantined."""

    fetched: int = 0
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    quarantined: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.fetched + other.fetched,
            self.added + other.added,
            self.changed + other.changed,
            self.unchanged + other.unchanged,
            self.quarantined + other.quarantined,
        )


@dataclass(frozen=True, slots=True)
class Harvested:
    """Whose page it is: the run, its source and collection, and all sources (to merge their holdings)."""

    run_id: int
    source: Source
    mapping: CollectionMapping
    sources: Mapping[str, Source]
    query_key: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return self.source.id, self.mapping.id


def normalise(adapter: Adapter, mapping: CollectionMapping, records: Iterable[Record]) -> Normalised:
    """Normalise records; the last of several with one id wins. Pure, may run in a thread."""
    accepted: dict[str, Accepted] = {}
    refused: dict[str, Refused] = {}
    warnings: dict[str, int] = defaultdict(int)
    for record in records:
        record_id = _plain(record.id)
        packed = zlib.compress(record.raw, 6)
        accepted.pop(record_id, None)
        refused.pop(record_id, None)
        try:
            contribution = adapter.item(record)
            if contribution.item.get("collection") != mapping.id:
                raise RecordRejected("collection-other", f"belongs to {contribution.item.get('collection')!r}")
        except RecordRejected as error:
            refused[record_id] = Refused(record_id, packed, error.code, _plain(str(error))[:1000])
            continue
        accepted[record_id] = Accepted(record_id, packed, hashlib.sha256(record.raw).digest(), contribution)
        for warning in contribution.warnings:
            warnings[warning] += 1
    return Normalised(tuple(accepted.values()), tuple(refused.values()), dict(warnings))


async def store_page(
    conn: Connection, harvested: Harvested, page: Normalised, cursor: Cursor | None, total: int | None = None
) -> Counts:
    """Store one page in one transaction; `cursor` None leaves the stored cursor as it is.

    Raises:
        CollectionUnknown, NotStored: see `ingest.store.write_items`.
        psycopg.Error: as raised; those of `ingest.store.RETRYABLE` may be tried again as a whole.
    """
    async with conn.transaction():
        await lock_items(conn, harvested.mapping.id)
        fresh, same, strayed = await _compare(conn, harvested, page.accepted)
        counts = await _store_fresh(conn, harvested, fresh)
        if same:
            await conn.execute(sql("harvest.touch_holdings"), (*harvested.key, [one.record_id for one in same]))
        refused = [*page.refused, *strayed]
        await _store_quarantine(conn, harvested, refused, [one.record_id for one in (*fresh, *same)])
        counts += Counts(len(fresh) + len(same) + len(refused), unchanged=len(same), quarantined=len(refused))
        if cursor is not None:
            parameters = (*harvested.key, harvested.query_key, Jsonb(cursor), harvested.run_id)
            await conn.execute(sql("harvest.save_cursor"), parameters)
        await _count(conn, harvested.run_id, counts, total)
    return counts


async def _count(conn: Connection, run_id: int, counts: Counts, total: int | None) -> None:
    numbers = (counts.fetched, counts.added, counts.changed, counts.unchanged, counts.quarantined)
    await conn.execute(sql("harvest.count_page"), (run_id, *numbers, total))


async def _compare(
    conn: Connection, harvested: Harvested, accepted: Sequence[Accepted]
) -> tuple[list[Accepted], list[Accepted], list[Refused]]:
    """Split records into those to store, those that are held unchanged, and those that became another product."""
    ids = [one.record_id for one in accepted]
    cursor = await conn.execute(sql("harvest.holdings_of_records"), (*harvested.key, ids))
    known = {row["record_id"]: row for row in await cursor.fetchall()}
    fresh: list[Accepted] = []
    same: list[Accepted] = []
    strayed: list[Refused] = []
    for one in accepted:
        row = known.get(one.record_id)
        if row is None:
            fresh.append(one)
        elif row["item_id"] != one.item_id:
            detail = f"was {row['item_id']!r} and says now that it is {one.item_id!r}"
            strayed.append(Refused(one.record_id, one.packed, "identity-changed", _plain(detail)))
        elif bytes(row["record_sha256"]) == one.sha256 and row["mapping_version"] == MAPPING_VERSION:
            same.append(one)
        else:
            fresh.append(one)
    return fresh, same, strayed


@dataclass(frozen=True, slots=True)
class _Held:
    """One holding of an item as the merge needs it."""

    source: Source
    record_id: str
    contribution: Contribution


@dataclass(frozen=True, slots=True)
class _Merged:
    """An item merged anew and what is known of it."""

    item: JSON
    sha256: str
    newest: Accepted
    kind: Kind | None
    stored_at: datetime | None
    is_written: bool


async def _store_fresh(conn: Connection, harvested: Harvested, fresh: Sequence[Accepted]) -> Counts:
    """Merge, write and report the items of new or changed records."""
    if not fresh:
        return Counts()
    collection = harvested.mapping.id
    by_item: dict[str, list[Accepted]] = defaultdict(list)
    for one in fresh:
        by_item[one.item_id].append(one)
    ids = sorted(by_item)
    cursor = await conn.execute(sql("harvest.items_before"), (collection, ids))
    before = {row["item_id"]: row for row in await cursor.fetchall()}
    cursor = await conn.execute(sql("harvest.holdings_of_items"), (collection, ids))
    rows: dict[str, list[Any]] = defaultdict(list)
    for row in await cursor.fetchall():
        rows[row["item_id"]].append(row)
    merged = [_merged(harvested, by_item[item], rows[item], before.get(item)) for item in ids]
    changed = [one for one in merged if not one.is_written]
    await write_items(
        conn, collection, [one.item for one in changed], {one.item["id"]: one.stored_at for one in changed}
    )
    await _put_harvested_items(conn, collection, changed)
    await _put_holdings(conn, harvested, fresh)
    await lineage_log.append(conn, *(_event(harvested, one, one.kind) for one in merged if one.kind is not None))
    held = {(row["source_id"], row["record_id"]) for item in ids for row in rows[item]}
    again = sum((harvested.source.id, one.record_id) in held for one in fresh)
    return Counts(added=len(fresh) - again, changed=again)


def _merged(harvested: Harvested, fresh: Sequence[Accepted], rows: Sequence[Any], before: Any) -> _Merged:
    """Merge one item from its fresh records and its other holdings."""
    source = harvested.source
    replaced = {one.record_id for one in fresh}
    held = [_Held(source, one.record_id, one.contribution) for one in fresh]
    for row in rows:
        if row["source_id"] != source.id or row["record_id"] not in replaced:
            held.extend(_renormalised(harvested, row))
    item = without_nulls(merge([(one.source, one.contribution) for one in _latest_of_each_source(held)]))
    sha256 = item_sha256(item)
    is_written = before is not None and bytes(before["item_sha256"]).hex() == sha256
    kind: Kind | None = None
    if before is None:
        kind = Kind.REGISTER
    elif all(row["source_id"] != source.id for row in rows):
        kind = Kind.COPY
    elif not is_written:
        kind = Kind.UPDATE
    newest = max(fresh, key=lambda one: (one.contribution.published or _MIN_TIME, one.record_id))
    return _Merged(item, sha256, newest, kind, before["datetime"] if before else None, is_written)


def without_nulls(value: Any) -> Any:
    """The same JSON without members that are null: pgstac drops them when it reads, and the hash must fit what is read."""
    if isinstance(value, dict):
        return {key: without_nulls(member) for key, member in value.items() if member is not None}
    if isinstance(value, list):
        return [without_nulls(element) for element in value]
    return value


def _renormalised(harvested: Harvested, row: Any) -> list[_Held]:
    """A stored holding, mapped anew; nothing when its source is gone or the present mapping refuses it."""
    source = harvested.sources.get(row["source_id"])
    mapping = next((m for m in source.collections if m.id == harvested.mapping.id), None) if source else None
    if source is None or mapping is None:
        log.warning("holding of an unknown source left out", extra={"source": row["source_id"]})
        return []
    record = Record(row["record_id"], zlib.decompress(row["record"]))
    try:
        return [_Held(source, record.id, adapter_for(source, mapping).item(record))]
    except RecordRejected as error:
        log.warning("holding no longer accepted", extra={"source": source.id, "record": record.id, "code": error.code})
        return []


def _latest_of_each_source(held: Sequence[_Held]) -> list[_Held]:
    """Two records of one name at one source are a re-publication: the later one speaks for the source."""
    latest: dict[str, _Held] = {}
    for one in sorted(held, key=lambda one: (one.contribution.published or _MIN_TIME, one.record_id)):
        latest[one.source.id] = one
    return list(latest.values())


async def _put_harvested_items(conn: Connection, collection: str, changed: Sequence[_Merged]) -> None:
    parameters = (
        [one.item["id"] for one in changed],
        [one.newest.contribution.product for one in changed],
        [item_range(one.item)[0] for one in changed],
        [bytes.fromhex(one.sha256) for one in changed],
    )
    await conn.execute(sql("harvest.put_harvested_items"), (collection, *parameters))


async def _put_holdings(conn: Connection, harvested: Harvested, fresh: Sequence[Accepted]) -> None:
    rows = sorted(fresh, key=lambda one: one.record_id)
    parameters = (
        [one.record_id for one in rows],
        [one.item_id for one in rows],
        [one.contribution.product for one in rows],
        [one.packed for one in rows],
        [one.sha256 for one in rows],
        [one.contribution.published for one in rows],
    )
    await conn.execute(sql("harvest.put_holdings"), (*harvested.key, MAPPING_VERSION, *parameters))


async def _store_quarantine(
    conn: Connection, harvested: Harvested, refused: Sequence[Refused], good: Sequence[str]
) -> None:
    if good:
        await conn.execute(sql("harvest.leave_quarantine"), (*harvested.key, list(good)))
    if refused:
        rows = sorted(refused, key=lambda one: one.record_id)
        parameters = (
            [one.record_id for one in rows],
            [one.packed for one in rows],
            [one.code for one in rows],
            [one.detail for one in rows],
        )
        await conn.execute(sql("harvest.put_quarantine"), (*harvested.key, *parameters))


def _event(harvested: Harvested, merged: _Merged, kind: Kind) -> Event:
    newest = merged.newest
    body: JSON = {
        "item_sha256": merged.sha256,
        "record_id": newest.record_id,
        "record_sha256": newest.sha256.hex(),
        **_product_facts(newest.contribution.item),
    }
    if newest.contribution.published is not None:
        body["published"] = newest.contribution.published.isoformat()
    return Event(
        id=uuid7(),
        kind=kind,
        name=newest.contribution.product,
        source=harvested.source.id,
        collection=harvested.mapping.id,
        item_id=str(merged.item["id"]),
        actor=f"harvest:{harvested.source.id}",
        at=datetime.now(UTC),
        body=body,
    )


def _product_facts(item: JSON) -> JSON:
    """Size in bytes and hash of the whole product, where the source says them (asset "Product")."""
    asset = item.get("assets", {}).get("Product", {})
    facts: JSON = {}
    size = asset.get("file:size")
    if isinstance(size, int) and 0 < size < 2**53:
        facts["size"] = size
    try:
        alg, digest = multihash.decode(str(asset.get("file:checksum", "")))
    except ValueError:  # none, or one that says nothing: an MD5 code with 32 bytes occurs upstream
        return facts
    return facts | {"hashes": [{"alg": alg, "digest": digest}]}


def _plain(text: str) -> str:
    """Text that PostgreSQL can hold: no NUL, no lone surrogates."""
    return text.replace("\x00", "�").encode("utf-8", "replace").decode("utf-8")
