"""Settling acquisitions: what their holdings make of them becomes the catalogue's items, with one event for each change.

Called inside the caller's transaction, under the collection's lock. Items are made anew from all holdings (`ingest.versions`); only
what differs from what was written last is written.
"""

from __future__ import annotations

import hashlib
import logging
import re
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import orjson

from db.pools import Connection
from db.queries import sql
from ingest.adapters import adapter_for
from ingest.errors import RecordRejected
from ingest.model import JSON, Record, Source
from ingest.normalise import MAPPING_VERSION
from ingest.packing import without_nulls
from ingest.republication import Republication, lateness, name_of, product_facts, republications
from ingest.rows import item_range
from ingest.store import delete_items, write_items
from ingest.upstream_lineage import want
from ingest.versions import Held, Version, resolve
from lineage import log as lineage_log
from lineage.canonical import item_sha256
from lineage.events import Event, Kind
from lineage.ids import uuid7
from lineage.rules import R2

log = logging.getLogger(__name__)

#: What an item says of its merge (`ingest.merge`).
_DECISIONS = ("federation:backends", "federator:fields")
#: Parents of one item that are taken from its links.
MAX_INPUTS = 1000
#: After these others may have more to say of the product.
_ASKED_ABOUT = frozenset({Kind.REGISTER, Kind.COPY, Kind.REPLACE, Kind.RESTORE})
_MIN_TIME = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Cause:
    """On whose word the catalogue changes: a source's, and why when it is no plain harvest."""

    source_id: str
    actor: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Fresh:
    """A record that is new or changed: what it says, and the hash of its bytes."""

    held: Held
    sha256: bytes


@dataclass(slots=True)
class Settled:
    """What was settled: the item of each holding, and which of the fresh ones were held before."""

    item_of: dict[tuple[str, str], str] = field(default_factory=dict)
    known: set[tuple[str, str]] = field(default_factory=set)


@dataclass(slots=True)
class _Change:
    """An item after settling, beside what was written of it last."""

    version: Version
    before: Any
    sha256: str
    content_sha256: bytes
    kind: Kind | None
    newest: Fresh | None
    again: Republication | None

    @property
    def is_written(self) -> bool:
        """True when nothing needs to be written."""
        return (
            self.before is not None
            and not self.before["is_withdrawn"]
            and self.before["content_sha256"] is not None
            and bytes(self.before["content_sha256"]) == self.content_sha256
        )


async def settle(
    conn: Connection,
    collection: str,
    sources: Mapping[str, Source],
    cause: Cause,
    acquisitions: Sequence[str],
    fresh: Sequence[Fresh] = (),
    *,
    check_stored: bool = False,
) -> Settled:
    """Bring the items of `acquisitions` to what their holdings say, `fresh` ones in place of stored ones.

    The caller stores the fresh holdings themselves, with the item ids that are returned.

    Args:
        check_stored: look whether the items are there at all, and put back those that somebody deleted.

    Raises:
        CollectionUnknown, NotStored: see `ingest.store.write_items`.
    """
    settled = Settled()
    if not acquisitions:
        return settled
    names = sorted(set(acquisitions))
    cursor = await conn.execute(sql("harvest.items_of_acquisitions"), (collection, names))
    items = {row["item_id"]: row for row in await cursor.fetchall()}
    if check_stored:
        cursor = await conn.execute(sql("harvest.items_not_stored"), (collection, names))
        for row in await cursor.fetchall():
            items[row["item_id"]] = {**items[row["item_id"]], "is_withdrawn": True}  # by whoever it was
    cursor = await conn.execute(sql("harvest.holdings_of_acquisitions"), (collection, names))
    rows = await cursor.fetchall()
    versions = _resolved(collection, sources, fresh, rows)
    new = {one.held.key: one for one in fresh}
    its_own = {row["item_id"] for row in rows if row["source_id"] == cause.source_id}
    spoke = _spoke_before(collection, sources, fresh, rows)
    changes = [
        _change(version, items.get(version.id), new, spoke, had_it=version.id in its_own) for version in versions
    ]
    settled.item_of = {one.key: version.id for version in versions for one in version.members}
    settled.known = {(row["source_id"], row["record_id"]) for row in rows}
    gone = _gone(items, versions, rows, settled.item_of)
    await _write(conn, collection, changes, gone, items, cause)
    asked = [
        (one.version.id, one.version.name.product, one.newest.held.contribution.item.get("assets", {}))
        for one in changes
        if one.newest is not None and one.kind in _ASKED_ABOUT
    ]
    await want(conn, sources.get(cause.source_id), collection, asked)
    await _move(conn, collection, rows, settled.item_of, set(new))
    return settled


def _resolved(
    collection: str, sources: Mapping[str, Source], fresh: Sequence[Fresh], rows: Sequence[Any]
) -> list[Version]:
    """The items of every acquisition, from fresh records and stored holdings."""
    replaced = {one.held.key for one in fresh}
    held: dict[str, list[Held]] = defaultdict(list)
    for one in fresh:
        held[one.held.name.acquisition].append(one.held)
    for row in rows:
        if (row["source_id"], row["record_id"]) not in replaced:
            held[row["acquisition"]] += _renormalised(collection, sources, row)
    return [version for acquisition in sorted(held) for version in resolve(held[acquisition])]


def _renormalised(collection: str, sources: Mapping[str, Source], row: Any) -> list[Held]:
    """A stored holding, mapped anew; nothing when its source is gone or the present mapping refuses it."""
    source = sources.get(row["source_id"])
    mapping = next((m for m in source.collections if m.id == collection), None) if source else None
    if source is None or mapping is None:
        log.warning("holding of an unknown source left out", extra={"source": row["source_id"]})
        return []
    record = Record(row["record_id"], zlib.decompress(row["record"]))
    try:
        return [Held(source, record.id, adapter_for(source, mapping).item(record))]
    except RecordRejected as error:
        log.warning("holding no longer accepted", extra={"source": source.id, "record": record.id, "code": error.code})
        return []


def _spoke_before(
    collection: str, sources: Mapping[str, Source], fresh: Sequence[Fresh], rows: Sequence[Any]
) -> dict[tuple[str, str, str], Held]:
    """The stored records that spoke for the products of fresh ones, by `name_of`; none of those that came again byte for byte."""
    products = {(one.held.source.id, one.held.contribution.product) for one in fresh}
    keys = {one.held.key for one in fresh}
    same = {(*one.held.key, one.sha256) for one in fresh}
    found: dict[tuple[str, str, str], Held] = {}
    for row in rows:
        key = (row["source_id"], row["record_id"])
        if key not in keys and (row["source_id"], row["product"]) not in products:
            continue
        if key in keys and (*key, hashlib.sha256(zlib.decompress(row["record"])).digest()) in same:
            continue
        for held in _renormalised(collection, sources, row):
            name = name_of(held)
            if name not in found or lateness(found[name]) < lateness(held):
                found[name] = held
    return found


def _change(
    version: Version,
    before: Any,
    fresh: Mapping[tuple[str, str], Fresh],
    spoke: Mapping[tuple[str, str, str], Held],
    *,
    had_it: bool,
) -> _Change:
    """What becomes of one item; `spoke`: records that spoke before; `had_it`: whether the source that causes it held the item."""
    version.item = item = without_nulls(version.item)
    new = [fresh[one.key] for one in version.members if one.key in fresh]
    newest = max(new, key=lambda one: (one.held.contribution.published or _MIN_TIME, one.held.record_id), default=None)
    content = hashlib.sha256(orjson.dumps(item, option=orjson.OPT_SORT_KEYS)).digest()
    again = next(iter(republications([one.held for one in new], version.members, spoke)), None) if new else None
    change = _Change(version, before, item_sha256(item), content, None, newest, again)
    change.kind = _kind(change, had_it=had_it)
    return change


def _kind(change: _Change, *, had_it: bool) -> Kind | None:
    before, version = change.before, change.version
    if before is None:
        return Kind.REGISTER
    if before["is_withdrawn"]:
        return Kind.RESTORE
    if change.newest is not None and not had_it:
        return Kind.COPY
    if change.again is not None and change.again.is_replaced:
        return Kind.REPLACE
    if change.is_written:
        return None
    return Kind.OBSOLETE if version.successor_id and not before["successor_id"] else Kind.UPDATE


def _gone(
    items: Mapping[str, Any], versions: Sequence[Version], rows: Sequence[Any], item_of: Mapping[tuple[str, str], str]
) -> dict[str, str | None]:
    """Items that no holding stands for any more -> the item that took their holdings over."""
    present = {version.id for version in versions}
    # A holding that cannot be read now (its source is not configured, the mapping refuses it) is no reason to withdraw its item.
    unread = {row["item_id"] for row in rows if (row["source_id"], row["record_id"]) not in item_of}
    gone: dict[str, str | None] = {
        item_id: None for item_id, row in items.items() if item_id not in present | unread and not row["is_withdrawn"]
    }
    for row in rows:
        if row["item_id"] in gone:
            gone[row["item_id"]] = item_of.get((row["source_id"], row["record_id"]), gone[row["item_id"]])
    return gone


async def _write(
    conn: Connection,
    collection: str,
    changes: Sequence[_Change],
    gone: Mapping[str, str | None],
    items: Mapping[str, Any],
    cause: Cause,
) -> None:
    written = [change for change in changes if not change.is_written]
    if gone:
        ids = sorted(gone)
        await delete_items(conn, collection, ids, {item_id: items[item_id]["datetime"] for item_id in ids})
        reason = cause.reason or "named anew"
        parameters = (collection, ids, [gone[item_id] for item_id in ids], reason)
        await conn.execute(sql("harvest.withdraw_items"), parameters)
    before = await _places(conn, collection, written)
    await write_items(conn, collection, [one.version.item for one in written], before)
    await _put_harvested_items(conn, collection, written)
    events = [_event(collection, one, cause) for one in changes if one.kind is not None]
    events += [_withdrawal(collection, items[item_id], successor, cause) for item_id, successor in sorted(gone.items())]
    await lineage_log.append(conn, *events)


async def _places(conn: Connection, collection: str, written: Sequence[_Change]) -> dict[str, datetime | None]:
    """Where the items are now, for `ingest.store`.

    Where callers write items too, only those that are harvested are known to be there; one of a caller's that is in the way is kept aside.
    """
    row = await (await conn.execute(sql("edits.is_edited"), (collection,))).fetchone()
    if not (row and row["is_edited"]):
        return {one.version.id: one.before["datetime"] if one.before else None for one in written}
    places = {
        one.version.id: one.before["datetime"] for one in written if one.before and not one.before["is_withdrawn"]
    }
    new = [one.version.id for one in written if one.version.id not in places]
    displaced = await (await conn.execute(sql("edits.keep_displaced"), (collection, new))).fetchall()
    if displaced:
        ids = [row["item_id"] for row in displaced]
        log.warning("harvested products take the place of callers' items", extra={"collection": collection, "ids": ids})
    return places


async def _put_harvested_items(conn: Connection, collection: str, written: Sequence[_Change]) -> None:
    rows = sorted(written, key=lambda one: one.version.id)
    parameters = (
        [one.version.id for one in rows],
        [one.version.name.acquisition for one in rows],
        [one.version.name.product for one in rows],
        [item_range(one.version.item)[0] for one in rows],
        [bytes.fromhex(one.sha256) for one in rows],
        [one.content_sha256 for one in rows],
        [one.version.successor_id for one in rows],
    )
    await conn.execute(sql("harvest.put_harvested_items"), (collection, *parameters))


async def _move(
    conn: Connection,
    collection: str,
    rows: Sequence[Any],
    item_of: Mapping[tuple[str, str], str],
    fresh: set[tuple[str, str]],
) -> None:
    """Let stored holdings stand for the item that they belong to now; the fresh ones are stored by the caller."""
    moved = [
        (*key, item_id)
        for row in rows
        if (key := (row["source_id"], row["record_id"])) not in fresh
        and (item_id := item_of.get(key, row["item_id"])) != row["item_id"]
    ]
    if moved:
        columns = [list(column) for column in zip(*sorted(moved), strict=True)]
        await conn.execute(sql("harvest.move_holdings"), (collection, *columns))


def _event(collection: str, change: _Change, cause: Cause) -> Event:
    version, newest = change.version, change.newest
    properties = version.item["properties"]
    body: JSON = {"item_sha256": change.sha256}
    if newest is not None:
        contribution = newest.held.contribution
        body |= {
            "record_id": newest.held.record_id,
            "record_sha256": newest.sha256.hex(),
            "mapping_version": MAPPING_VERSION,
            **product_facts(contribution.item),
        }
        if contribution.published is not None:
            body["published"] = contribution.published.isoformat()
    if change.again is not None:
        body |= change.again.facts()
    if len(properties.get("federation:backends", ())) > 1:  # how the merge decided: which source's properties won
        body["merged"] = {name: properties[name] for name in _DECISIONS if name in properties}
    if inputs := _inputs(version.item):
        body["inputs"] = inputs
    if version.successor_id:
        body["successor"] = version.successor_id
    if reason := cause.reason or _reason(change):
        body["reason"] = reason
    assert change.kind is not None
    return _fact(collection, change.kind, version.name.product, version.id, cause, body)


def _reason(change: _Change) -> str:
    """Why a product is not to be used any more, for readers of traces."""
    match change.kind:
        case Kind.OBSOLETE:
            return f"superseded by {change.version.successor_id}"
        case Kind.REPLACE:
            return "the source offers other bytes under the same name"
        case _:
            return ""


def _inputs(item: JSON) -> list[JSON]:
    """Parents that the sources' links declare (rule R2 of `lineage.rules`), by name."""
    hrefs = [str(link.get("href", "")) for link in item["links"] if link.get("rel") == "derived_from"]
    names = dict.fromkeys(
        unquote(re.split("[?#]", href, maxsplit=1)[0].rstrip("/").rpartition("/")[2])[:200] for href in hrefs
    )
    told = {"rule": R2.id, "assertion": R2.assertion, "confidence": R2.confidence}
    return [{"name": name, **told} for name in names if name][:MAX_INPUTS]


def _withdrawal(collection: str, row: Any, successor: str | None, cause: Cause) -> Event:
    body: JSON = {"reason": cause.reason or "named anew"}
    if successor:
        body["successor"] = successor
    return _fact(collection, Kind.WITHDRAW, row["product"], row["item_id"], cause, body)


def _fact(collection: str, kind: Kind, product: str, item_id: str, cause: Cause, body: JSON) -> Event:
    return Event(
        id=uuid7(),
        kind=kind,
        name=product,
        source=cause.source_id,
        collection=collection,
        item_id=item_id,
        actor=cause.actor,
        at=datetime.now(UTC),
        body=body,
    )
