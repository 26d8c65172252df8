"""Changing who sees a collection or an item: each in the caller's transaction, with its event. Who may is asked in the database."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from psycopg.types.json import Jsonb

from db.pools import Connection
from db.queries import sql
from ingest.edits.author import Author, not_allowed, not_found
from ingest.sharing import Sharing, changed_members, private_of, sharing_of
from ingest.store import lock_items
from lineage import log as lineage_log
from lineage.events import Event, Kind
from lineage.ids import uuid7

#: What becomes of it, from how it is now. May refuse by raising.
Change = Callable[[Sharing], Sharing]


async def collection_sharing(conn: Connection, author: Author, collection_id: str) -> Sharing:
    """Who sees a collection and who writes into it.

    Raises:
        EditRefused: NOT_FOUND, NOT_ALLOWED (403: the author is neither its owner nor an administrator).
    """
    parameters = (collection_id, list(author.principals), list(author.rights))
    row = _allowed(await (await conn.execute(sql("sharing.collection"), parameters)).fetchone())
    return Sharing(row["visibility"], row["owner"], tuple(row["readers"]), tuple(row["writers"]))


async def share_collection(conn: Connection, author: Author, collection_id: str, change: Change) -> Sharing:
    """Let others see or not see a collection; returns how it is then. What comes out as it was is no change.

    Raises:
        EditRefused: as `collection_sharing`, and what `change` raises.
    """
    await collection_sharing(conn, author, collection_id)  # who may not keeps nobody waiting
    await conn.execute(sql("sharing.lock_collection"), (collection_id,))
    before = await collection_sharing(conn, author, collection_id)
    after = change(before)
    if before != after:
        parameters = (collection_id, after.visibility, after.owner, list(after.readers), list(after.writers))
        await conn.execute(sql("sharing.set_collection"), parameters)
        await lineage_log.append(conn, _event(author, collection_id, None, before, after))
    return after


async def item_sharing(conn: Connection, author: Author, collection_id: str, item_id: str) -> Sharing:
    """Who sees an item, of those who see its collection.

    Raises:
        EditRefused: NOT_FOUND, NOT_ALLOWED (403: the author has not uploaded it, does not own its collection, and is no administrator).
    """
    return (await _item(conn, author, collection_id, item_id))[0]


async def share_item(conn: Connection, author: Author, collection_id: str, item_id: str, change: Change) -> Sharing:
    """Let others see or not see an item; returns how it is then. What comes out as it was is no change.

    Raises:
        EditRefused: as `item_sharing`, and what `change` raises.
    """
    await lock_items(conn, collection_id)
    await conn.execute(sql("sharing.lock_item"), (collection_id, item_id))
    before, collection_owner = await _item(conn, author, collection_id, item_id)
    after = change(before)
    if before != after:
        private = private_of(after, collection_owner)
        parameters = (collection_id, item_id, None if private is None else Jsonb(private))
        await conn.execute(sql("sharing.set_item"), parameters)
        await lineage_log.append(conn, _event(author, collection_id, item_id, before, after))
    return after


async def _item(conn: Connection, author: Author, collection_id: str, item_id: str) -> tuple[Sharing, str | None]:
    parameters = (collection_id, item_id, list(author.principals), list(author.rights))
    row = _allowed(await (await conn.execute(sql("sharing.item"), parameters)).fetchone())
    owner = row["uploader"] or row["collection_owner"]
    return sharing_of(row["private"], owner), row["collection_owner"]


def _allowed(row: Any) -> Any:
    if row is None:
        raise not_found()
    if not row["may_share"]:
        raise not_allowed()
    return row


def _event(author: Author, collection_id: str, item_id: str | None, before: Sharing, after: Sharing) -> Event:
    """The log is for ever, and for all who see the item later: it says how visible, and not to whom."""
    body = {
        "changed": changed_members(before, after),
        "visibility": {"from": before.visibility, "to": after.visibility},
    }
    name = item_id or collection_id
    return Event(uuid7(), Kind.UPDATE, name, "own", collection_id, item_id, author.actor, datetime.now(UTC), body)
