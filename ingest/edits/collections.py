"""Writing collections for a caller: each in the caller's transaction, with its event.

A collection that a file of ours describes is kept by that file, which is put into pgstac at every start: an edit of it is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson

from db.pools import Connection
from db.queries import sql
from ingest.collection_files import BASIC, is_described
from ingest.edits.author import Author, not_allowed, not_found
from ingest.edits.items import Permit
from ingest.errors import EditRefused
from ingest.harvest import BEAT_S
from ingest.model import JSON
from ingest.sharing import PRIVATE, PUBLIC
from ingest.store import lock_items
from ingest.uploads.detaching import detach
from lineage import log as lineage_log
from lineage.canonical import item_sha256
from lineage.events import Event, Kind
from lineage.ids import uuid7

#: Writers of collections queue up behind this name.
LOCK = "collections"
#: Members that are shown as the items tell them, once there are some.
_TOLD_BY_ITEMS = ("extent", "summaries")
#: A run that has not beaten for so long is dead.
SILENT_S = 6 * BEAT_S
#: To delete a collection of millions takes minutes.
DELETE_TIMEOUT_MS = "600000"


async def create_collection(conn: Connection, author: Author, document: JSON, permit: Permit) -> JSON:
    """Store a new collection; returns it as it is shown.

    It belongs to the person who makes it, and is private until its owner says otherwise; an administrator's is public.

    Raises:
        EditRefused: COLLECTION_EXISTS (409), COLLECTION_IS_KEPT (409).
    """
    collection_id = str(document["id"])
    await lock_items(conn, LOCK)
    _leave_to_file(collection_id)
    cursor = await conn.execute(
        sql("edits.insert_collection"), (orjson.dumps(document).decode(), list(author.principals))
    )
    row = await cursor.fetchone()
    if row is None:
        raise EditRefused("COLLECTION_EXISTS", "there is a collection of that id", status=409, ids=[collection_id])
    permit()
    owner = author.actor if author.is_person else None
    await conn.execute(sql("sharing.claim_collection"), (collection_id, PUBLIC if author.is_admin else PRIVATE, owner))
    await lineage_log.append(
        conn, _event(author, Kind.CREATE, collection_id, {"collection_sha256": item_sha256(document)})
    )
    return (await _now(conn, author, collection_id)).shown


async def change_collection(
    conn: Connection, author: Author, collection_id: str, change: Callable[[JSON], JSON]
) -> JSON:
    """Replace a collection's document by what `change` makes of it as it is shown; returns it as it is shown then.

    What comes out as it was is left alone.

    Raises:
        EditRefused: NOT_FOUND, NOT_ALLOWED (403), COLLECTION_IS_KEPT (409), and what `change` raises.
    """
    await lock_items(conn, LOCK)
    now = await _now(conn, author, collection_id)
    _leave_to_file(collection_id)
    before, after = now.stored, now.without_told(change(now.shown))
    if orjson.dumps(before, option=orjson.OPT_SORT_KEYS) == orjson.dumps(after, option=orjson.OPT_SORT_KEYS):
        return now.shown
    await conn.execute(sql("edits.replace_collection"), (collection_id, orjson.dumps(after).decode()))
    changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    body = {"collection_sha256": item_sha256(after), "changed": changed}
    await lineage_log.append(conn, _event(author, Kind.UPDATE, collection_id, body))
    return (await _now(conn, author, collection_id)).shown


async def delete_collection(
    conn: Connection, author: Author, collection_id: str, permit: Callable[[JSON], None]
) -> int:
    """Delete a collection with its items and with what is known of their harvest; returns how many items there were. Uploads are detached.

    Raises:
        EditRefused: NOT_FOUND, NOT_ALLOWED (403), COLLECTION_IS_KEPT (409: one that is always there), HARVEST_RUNNING (409), and what
            `permit` raises.
    """
    await lock_items(conn, LOCK)
    await lock_items(conn, collection_id)
    now = await _now(conn, author, collection_id)
    if collection_id in BASIC:
        raise EditRefused("COLLECTION_IS_KEPT", "this collection is always there", status=409)
    cursor = await conn.execute(sql("edits.running_harvest"), (collection_id, SILENT_S))
    if row := await cursor.fetchone():
        raise EditRefused("HARVEST_RUNNING", f"{row['source_id']} is being harvested into this collection", status=409)
    permit(now.shown)
    await detach(conn, collection_id, None, author.actor)
    row = await (await conn.execute(sql("edits.delete_collection"), (collection_id, author.actor))).fetchone()
    assert row is not None
    number = int(row["items"])
    body = {"collection_sha256": item_sha256(now.stored), "items": number}
    await lineage_log.append(conn, _event(author, Kind.DELETE, collection_id, body))
    return number


@dataclass(frozen=True, slots=True)
class _Now:
    """A collection as it is stored, and as it is shown: with what its items tell of it."""

    stored: JSON
    shown: JSON

    def without_told(self, document: JSON) -> JSON:
        """A document that was made of the shown one, as it is to be stored: what the items tell and nobody has changed is as before."""
        result = dict(document)
        for name in _TOLD_BY_ITEMS:
            if document.get(name) == self.shown.get(name):
                result.pop(name, None)
                result |= {name: self.stored[name]} if name in self.stored else {}
        return result


async def _now(conn: Connection, author: Author, collection_id: str) -> _Now:
    """A collection that the author may change. Raises EditRefused: NOT_FOUND, NOT_ALLOWED."""
    parameters = (collection_id, list(author.principals), list(author.rights))
    row = await (await conn.execute(sql("edits.collection_now"), parameters)).fetchone()
    if row is None:
        raise not_found()
    if not row["may_change"]:
        raise not_allowed()
    return _Now(orjson.loads(row["content"]), orjson.loads(row["shown"]))


def _leave_to_file(collection_id: str) -> None:
    if is_described(collection_id):
        why = "a file of this service describes this collection, and would write over what you change"
        raise EditRefused("COLLECTION_IS_KEPT", why, status=409)


def _event(author: Author, kind: Kind, collection_id: str, body: JSON) -> Event:
    return Event(uuid7(), kind, collection_id, "own", collection_id, None, author.actor, datetime.now(UTC), body)
