"""Writing items for a caller: each in the caller's transaction, under the collection's lock, with its event.

An item that a source holds a copy of is the harvest's to write: it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from db.pools import Connection
from db.queries import sql
from ingest.edits.author import Author, not_allowed, not_found
from ingest.edits.hrefs import named_uploads
from ingest.edits.stored import Stored, stored_item
from ingest.errors import EditRefused
from ingest.model import JSON
from ingest.packing import without_nulls
from ingest.store import NotStored, delete_items, lock_items, write_items
from ingest.uploads.chain import GONE_VERSION, close_ranks
from ingest.uploads.detaching import detach
from lineage import log as lineage_log
from lineage.canonical import item_sha256
from lineage.events import Event, Kind
from lineage.ids import uuid7

#: Most ids that a refusal names.
NAMED = 10
#: What becomes of an item: the new document as `documents.checked_item` returns it. May refuse by raising.
Change = Callable[[Stored], JSON]
#: Asked when nothing else is in the way; may refuse by raising.
Permit = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Ready:
    """An item that may be stored, and its hash for the log."""

    item: JSON
    sha256: str

    @classmethod
    def of(cls, item: JSON) -> Ready:
        """`item` as `documents.checked_item` returns it."""
        return cls(item, item_sha256(item))

    @property
    def id(self) -> str:
        return str(self.item["id"])


@dataclass(frozen=True, slots=True)
class _Present:
    """An item that is there: the instant under which it is stored (None: it is there several times), and whether the author may see it."""

    datetime: datetime | None
    is_seen: bool


@dataclass(frozen=True, slots=True)
class Place:
    """A collection: which of the items are there, which of them a source holds a copy of, and what the author may write."""

    present: dict[str, _Present]
    harvested: list[str]
    may_write: bool
    own: frozenset[str]

    def check_may_write(self, item_id: str | None = None) -> None:
        """May the author write here, or this item, which he has uploaded? Raises EditRefused: NOT_ALLOWED."""
        if not (self.may_write or item_id in self.own):
            raise not_allowed()


async def create_item(conn: Connection, author: Author, collection: str, item: Ready, permit: Permit) -> Stored:
    """Store a new item; returns it as it is stored. Raises as `create_items`."""
    await create_items(conn, author, collection, [item], permit)
    return await _stored(conn, author, collection, item.id)


async def create_items(
    conn: Connection, author: Author, collection: str, items: Sequence[Ready], permit: Permit
) -> None:
    """Store new items of one collection, all or none.

    Raises:
        EditRefused: NOT_FOUND, NOT_ALLOWED (403), ITEM_EXISTS (409), ITEM_HARVESTED (409), HREF_REFUSED.
    """
    place = await enter(conn, author, collection, [one.id for one in items])
    place.check_may_write()
    if place.present:
        raise _refusal("ITEM_EXISTS", "these items exist already", place.present)
    _leave_to_harvest(place.harvested)
    permit()
    await _write(conn, author, collection, items, place.present)


async def put_items(conn: Connection, author: Author, collection: str, items: Sequence[Ready], permit: Permit) -> None:
    """Store items of one collection, new or in place of what is there, all or none.

    Raises:
        EditRefused: NOT_FOUND, NOT_ALLOWED (403), HREF_REFUSED, ITEM_EXISTS (409: one that the author may not see), ITEM_HARVESTED (409).
    """
    place = await enter(conn, author, collection, [one.id for one in items])
    place.check_may_write()
    if hidden := [item_id for item_id, one in place.present.items() if not one.is_seen]:
        raise _refusal("ITEM_EXISTS", "these items cannot be replaced", hidden)
    _leave_to_harvest(place.harvested)
    permit()
    await _write(conn, author, collection, items, place.present)


async def change_item(conn: Connection, author: Author, collection: str, item_id: str, change: Change) -> Stored:
    """Replace one item by what `change` makes of it; returns it as it is then.

    What comes out as it was is left alone: nothing is written and no event.

    Raises:
        EditRefused: NOT_FOUND, NOT_ALLOWED (403), ITEM_HARVESTED (409), HREF_REFUSED, and what `change` raises.
    """
    place = await enter(conn, author, collection, [item_id])
    stored = await _seen(conn, author, collection, item_id, place.present)
    if stored is None:
        raise not_found()
    place.check_may_write(item_id)
    _leave_to_harvest(place.harvested)
    before, after = without_nulls(stored.document()), change(stored)
    if _text(before) == _text(after):
        return stored
    body: JSON = {"item_sha256": item_sha256(after), "changed": changed_members(before, after)}
    await _store(conn, author, collection, [after], place.present)
    await lineage_log.append(conn, *events_of(author, Kind.UPDATE, collection, [(item_id, body)]))
    return await _stored(conn, author, collection, item_id)


async def delete_item(
    conn: Connection, author: Author, collection: str, item_id: str, permit: Callable[[Stored | None], None]
) -> None:
    """Delete one item, without an event when there is none that the author may see. Uploads that it was made of are detached.

    Args:
        permit: asked with the item, None when there is none; may refuse by raising.

    Raises:
        EditRefused: NOT_FOUND: there is no such collection, or no such item for an author who may not write here; NOT_ALLOWED (403),
            ITEM_HARVESTED (409), and what `permit` raises.
    """
    place = await enter(conn, author, collection, [item_id])
    stored = await _seen(conn, author, collection, item_id, place.present)
    if stored is None and not place.may_write:
        raise not_found()
    place.check_may_write(item_id)
    if stored is None:
        permit(None)
        return
    _leave_to_harvest(place.harvested)
    permit(stored)
    await delete_items(conn, collection, [item_id], _before(place.present, [item_id]))
    gone = {"item_sha256": item_sha256(stored.document())}
    await lineage_log.append(conn, *events_of(author, Kind.DELETE, collection, [(item_id, gone)]))
    await detach(conn, collection, item_id, author.actor)
    rest = await close_ranks(conn, collection, {**stored.document(), "id": item_id})
    facts = [(str(one["id"]), {"item_sha256": item_sha256(one), "reason": GONE_VERSION}) for one in rest]
    await lineage_log.append(conn, *events_of(author, Kind.UPDATE, collection, facts))


async def _seen(
    conn: Connection, author: Author, collection: str, item_id: str, found: Mapping[str, _Present]
) -> Stored | None:
    """One item that is there, if the author may see it."""
    present = found.get(item_id)
    return await stored_item(conn, collection, item_id, author.principals) if present and present.is_seen else None


async def _stored(conn: Connection, author: Author, collection: str, item_id: str) -> Stored:
    """An item that was just written."""
    stored = await stored_item(conn, collection, item_id, author.principals)
    if stored is None:
        raise NotStored(f"{item_id} of {collection} cannot be read again")
    return stored


def changed_members(before: JSON, after: JSON) -> list[str]:
    """Names of members that differ, those of `properties` with that in front."""
    found = [name for name in {*before, *after} - {"properties"} if _text(before.get(name)) != _text(after.get(name))]
    old, new = before["properties"], after["properties"]
    found += [f"properties.{name}" for name in {*old, *new} if _text(old.get(name)) != _text(new.get(name))]
    return sorted(found)


async def enter(conn: Connection, author: Author, collection: str, ids: Sequence[str]) -> Place:
    """Wait for the collection; return what is there of the items, and what the author may do.

    Raises:
        EditRefused: NOT_FOUND: there is no such collection.
    """
    await lock_items(conn, collection)
    parameters = (collection, list(author.principals), list(author.rights))
    entered = await (await conn.execute(sql("edits.enter_collection"), parameters)).fetchone()
    if entered is None:
        raise not_found()
    own: list[str] = []
    if not entered["may_write"]:
        cursor = await conn.execute(sql("sharing.uploaded_by"), (collection, list(ids), list(author.principals)))
        own = [row["item_id"] for row in await cursor.fetchall()]
    present: dict[str, _Present] = {}
    cursor = await conn.execute(sql("edits.items_now"), (collection, list(ids), list(author.principals)))
    for row in await cursor.fetchall():
        is_seen = row["is_seen"] and (row["id"] not in present or present[row["id"]].is_seen)
        present[row["id"]] = _Present(None if row["id"] in present else row["datetime"], is_seen)
    cursor = await conn.execute(sql("edits.harvested_items"), (collection, list(ids)))
    harvested = [row["item_id"] for row in await cursor.fetchall()]
    return Place(present, harvested, entered["may_write"], frozenset(own))


def _leave_to_harvest(harvested: Sequence[str]) -> None:
    if harvested:
        raise _refusal("ITEM_HARVESTED", "sources hold copies of these items, so harvest writes them", harvested)


def _refusal(code: str, why: str, ids: Iterable[str]) -> EditRefused:
    named = sorted(ids)
    return EditRefused(code, f"{why}: {', '.join(named[:NAMED])}", status=409, ids=named[:NAMED], number=len(named))


async def _write(
    conn: Connection, author: Author, collection: str, items: Sequence[Ready], present: Mapping[str, _Present]
) -> None:
    await _store(conn, author, collection, [one.item for one in items], present)
    for kind, ones in (
        (Kind.CREATE, [one for one in items if one.id not in present]),
        (Kind.UPDATE, [one for one in items if one.id in present]),
    ):
        facts = [(one.id, {"item_sha256": one.sha256}) for one in ones]
        await lineage_log.append(conn, *events_of(author, kind, collection, facts))


async def _store(
    conn: Connection, author: Author, collection: str, items: Sequence[JSON], present: Mapping[str, _Present]
) -> None:
    await check_uploads(conn, author, named_uploads(items))
    await conn.execute(sql("edits.note_edited"), (collection,))
    await write_items(conn, collection, items, _before(present, [str(item["id"]) for item in items]))


async def check_uploads(conn: Connection, author: Author, named: Set[UUID]) -> None:
    """No item may show the raster of an upload that its author cannot read. Raises EditRefused: HREF_REFUSED."""
    if named:
        cursor = await conn.execute(sql("sharing.readable_uploads"), (list(named), list(author.rights)))
        if named != {row["id"] for row in await cursor.fetchall()}:
            raise EditRefused("HREF_REFUSED", "an asset names the file of an upload that is not there", place="/assets")


def _before(present: Mapping[str, _Present], ids: Sequence[str]) -> dict[str, datetime | None]:
    """Where items are, for `ingest.store`; one that is there several times is left out, so that it is looked for."""
    return {
        item_id: present[item_id].datetime if item_id in present else None
        for item_id in ids
        if item_id not in present or present[item_id].datetime is not None
    }


def events_of(author: Author, kind: Kind, collection: str, facts: Iterable[tuple[str, Any]]) -> list[Event]:
    now = datetime.now(UTC)
    return [
        Event(uuid7(), kind, item_id, "own", collection, item_id, author.actor, now, body) for item_id, body in facts
    ]


def _text(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
