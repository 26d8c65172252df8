"""Versions of an item when one of them goes: the others' links lead to what is there, and the newest is no older version any more."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from db.pools import Connection
from db.queries import sql
from ingest.edits.stored import stored_item
from ingest.model import JSON
from ingest.packing import with_datetime, without_nulls
from ingest.sanitise import time_text
from ingest.store import write_items
from ingest.uploads.composing import version_id, with_versions
from lineage.visibility import EVERYTHING

#: Of the others' events.
GONE_VERSION = "another version was deleted"
_OLDER = re.compile(r"(.+)~v\d+")


async def close_ranks(conn: Connection, collection: str, gone: JSON) -> list[JSON]:
    """Change the other versions of an item that was just deleted; returns them as they are now, for their events.

    The caller holds the collection's lock. Only versions that are kept beside each other by `placing` are touched, and of those only
    links to what is gone: an item's author may write whatever links he likes.
    """
    now = time_text(datetime.now(UTC))
    before = await _neighbour(conn, collection, gone, "predecessor-version", "successor-version")
    after = await _neighbour(conn, collection, gone, "successor-version", "predecessor-version")
    changed: list[JSON] = []
    is_one = before is not None and after is not None and before["id"] == after["id"]
    if is_one:  # links that somebody wrote by hand
        before = None
    if after is not None:
        links = {"predecessor-version": before["id"] if before else None}
        changed.append(with_versions(after, links | ({"successor-version": None} if is_one else {}), updated=now))
        if before is not None:
            changed.append(with_versions(before, {"successor-version": after["id"]}, updated=now))
    elif before is not None:
        newest = before["id"]
        changed.append(with_versions(before, {"successor-version": None, "latest-version": None}, updated=now))
        changed[0]["properties"]["deprecated"] = False
        while before is not None and len(changed) < 1000:
            before = await _neighbour(conn, collection, before, "predecessor-version", "successor-version")
            if before is not None:
                changed.append(with_versions(before, {"latest-version": newest}, updated=now))
        await conn.execute(sql("uploads.promote"), (collection, newest))
    await write_items(conn, collection, changed, {})
    return changed


async def _neighbour(conn: Connection, collection: str, item: JSON, rel: str, back: str) -> JSON | None:
    """The version that a link of the item leads to, when it is one of the same item and leads back to it."""
    item_id, name = str(item["id"]), version_id(item, rel)
    if name is None or _base(name) != _base(item_id):
        return None
    found = await stored_item(conn, collection, name, EVERYTHING)
    if found is None:
        return None
    other = with_datetime(without_nulls(found.document()))
    return other if version_id(other, back) == item_id else None


def _base(item_id: str) -> str:
    """Id of the newest version: of `x` and of `x~v1` it is `x`."""
    match = _OLDER.fullmatch(item_id)
    return match[1] if match else item_id
