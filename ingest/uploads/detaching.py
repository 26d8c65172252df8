"""Uploads whose item its editors delete: their files stay their owners', are served no more, and can be deleted."""

from __future__ import annotations

from db.pools import Connection
from db.queries import sql
from ingest.errors import UploadRejected
from ingest.uploads.model import State
from ingest.uploads.service import move

_GONE = UploadRejected("DELETED", "its item was deleted while it was made", status=410)


async def detach(conn: Connection, collection: str, item_id: str | None, actor: str) -> None:
    """Note that an item (None: every one of the collection) is deleted, in the caller's transaction and under the collection's lock.

    An upload that is not ready yet, but shown as a preview, is taken back: else it would make the item anew.
    """
    rows = await (await conn.execute(sql("uploads.of_item"), (collection, item_id))).fetchall()
    for row in rows:
        if row["state"] == State.READY:
            await move(conn, row["id"], State.DETACHED, actor=actor)
        else:
            await move(conn, row["id"], State.REJECTED, error=_GONE, actor=actor)
