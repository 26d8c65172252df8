"""One page of records becomes items, holdings, quarantine, events and a cursor: all of it or nothing.

Records that are held unchanged are told by the hash of their bytes before anything is read in them. The others are normalised, which is
pure and done before the transaction; inside it, under the collection's lock, their acquisitions are settled.
"""

from __future__ import annotations

import hashlib
import logging
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg.types.json import Jsonb

from db.pools import Connection
from db.queries import sql
from ingest.errors import RecordRejected
from ingest.model import Adapter, CollectionMapping, Contribution, Cursor, Record, Source
from ingest.normalise import MAPPING_VERSION
from ingest.rows import item_range
from ingest.settle import Cause, Fresh, settle
from ingest.store import lock_items
from ingest.versions import Held

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A record that can become an item."""

    record_id: str
    packed: bytes
    sha256: bytes
    contribution: Contribution


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that cannot, and why."""

    record_id: str
    packed: bytes
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Normalised:
    """A page after normalising. `same` are ids of records that are held as they are; `warnings` counts upstream fields that nobody read."""

    accepted: tuple[Accepted, ...]
    refused: tuple[Refused, ...]
    same: tuple[str, ...] = ()
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


async def unchanged(conn: Connection, harvested: Harvested, records: Sequence[Record]) -> frozenset[str]:
    """Ids of the records that are held with the same bytes and were mapped by the present mapping."""
    hashes = {_plain(record.id): hashlib.sha256(record.raw).digest() for record in records}
    known = await _known(conn, harvested, list(hashes))
    return frozenset(
        record_id
        for record_id, row in known.items()
        if bytes(row["record_sha256"]) == hashes[record_id]
        and row["mapping_version"] == MAPPING_VERSION
        and not row["is_withdrawn"]
    )


async def _known(conn: Connection, harvested: Harvested, ids: list[str]) -> dict[str, Any]:
    cursor = await conn.execute(sql("harvest.holdings_of_records"), (*harvested.key, ids))
    return {row["record_id"]: row for row in await cursor.fetchall()}


def normalise(
    adapter: Adapter, mapping: CollectionMapping, records: Iterable[Record], same: frozenset[str] = frozenset()
) -> Normalised:
    """Normalise the records that are not held unchanged; the last of several with one id wins. Pure, may run in a thread."""
    accepted: dict[str, Accepted] = {}
    refused: dict[str, Refused] = {}
    warnings: dict[str, int] = defaultdict(int)
    unread: set[str] = set()
    for record in records:
        record_id = _plain(record.id)
        accepted.pop(record_id, None)
        refused.pop(record_id, None)
        unread.discard(record_id)
        if record_id in same:
            unread.add(record_id)
            continue
        packed = zlib.compress(record.raw, 6)
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
    return Normalised(tuple(accepted.values()), tuple(refused.values()), tuple(sorted(unread)), dict(warnings))


async def store_page(
    conn: Connection,
    harvested: Harvested,
    page: Normalised,
    cursor: Cursor | None,
    total: int | None = None,
    *,
    check_stored: bool = False,
) -> Counts:
    """Store one page in one transaction; `cursor` None leaves the stored cursor as it is.

    Args:
        check_stored: put items back that should be there and are not.

    Raises:
        CollectionUnknown, NotStored: see `ingest.store.write_items`.
        psycopg.Error: as raised; those of `ingest.store.RETRYABLE` may be tried again as a whole.
    """
    async with conn.transaction():
        counts = Counts(len(page.same), unchanged=len(page.same))
        if page.accepted or page.refused:
            await lock_items(conn, harvested.mapping.id)
            fresh, strayed = await _fresh(conn, harvested, page.accepted)
            counts += await _store_fresh(conn, harvested, fresh, check_stored=check_stored)
            refused = [*page.refused, *strayed]
            await _store_quarantine(conn, harvested, refused, [one.record_id for one in fresh])
            counts += Counts(len(fresh) + len(refused), quarantined=len(refused))
        if page.same:
            await conn.execute(sql("harvest.touch_holdings"), (*harvested.key, list(page.same)))
        if cursor is not None:
            parameters = (*harvested.key, harvested.query_key, Jsonb(cursor), harvested.run_id)
            await conn.execute(sql("harvest.save_cursor"), parameters)
        await _count(conn, harvested.run_id, counts, total)
    return counts


async def _count(conn: Connection, run_id: int, counts: Counts, total: int | None) -> None:
    numbers = (counts.fetched, counts.added, counts.changed, counts.unchanged, counts.quarantined)
    await conn.execute(sql("harvest.count_page"), (run_id, *numbers, total))


async def _fresh(
    conn: Connection, harvested: Harvested, accepted: Sequence[Accepted]
) -> tuple[list[Accepted], list[Refused]]:
    """Records to store, and those that became another product."""
    known = await _known(conn, harvested, [one.record_id for one in accepted])
    fresh: list[Accepted] = []
    strayed: list[Refused] = []
    for one in accepted:
        row = known.get(one.record_id)
        acquisition = one.contribution.name.acquisition
        if row is not None and row["acquisition"] != acquisition:
            detail = f"was of {row['acquisition']!r} and says now that it is of {acquisition!r}"
            strayed.append(Refused(one.record_id, one.packed, "identity-changed", _plain(detail)))
        else:
            fresh.append(one)
    return fresh, strayed


async def _store_fresh(
    conn: Connection, harvested: Harvested, accepted: Sequence[Accepted], *, check_stored: bool
) -> Counts:
    """Settle the acquisitions of new or changed records, and keep the records."""
    if not accepted:
        return Counts()
    source = harvested.source
    fresh = [Fresh(Held(source, one.record_id, one.contribution), one.sha256) for one in accepted]
    acquisitions = [one.held.name.acquisition for one in fresh]
    cause = Cause(source.id, f"harvest:{source.id}")
    settled = await settle(
        conn, harvested.mapping.id, harvested.sources, cause, acquisitions, fresh, check_stored=check_stored
    )
    await _put_holdings(conn, harvested, accepted, settled.item_of)
    again = sum(one.held.key in settled.known for one in fresh)
    return Counts(added=len(fresh) - again, changed=again)


async def _put_holdings(
    conn: Connection, harvested: Harvested, accepted: Sequence[Accepted], item_of: Mapping[tuple[str, str], str]
) -> None:
    rows = sorted(accepted, key=lambda one: one.record_id)
    parameters = (
        [one.record_id for one in rows],
        [item_of[harvested.source.id, one.record_id] for one in rows],
        [one.contribution.name.acquisition for one in rows],
        [one.contribution.product for one in rows],
        [one.packed for one in rows],
        [one.sha256 for one in rows],
        [one.contribution.published for one in rows],
        [item_range(one.contribution.item)[0] for one in rows],
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


def _plain(text: str) -> str:
    """Text that PostgreSQL can hold: no NUL, no lone surrogates."""
    return text.replace("\x00", "�").encode("utf-8", "replace").decode("utf-8")
