"""Which item an upload becomes or becomes part of, by what its owner says: `item`, `asset`, `replace`, `replaces`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from db.pools import Connection
from ingest.edits.stored import stored_item
from ingest.errors import UploadRejected
from ingest.sanitise import ID
from ingest.uploads.item import THUMBNAIL, item_id_of
from ingest.uploads.model import Role, State, Upload
from ingest.uploads.placing import asset_exists, parts_of
from ingest.uploads.service import Target, UploadUnknown, get

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ID = re.compile(ID)


@dataclass(frozen=True, slots=True)
class Wish:
    """What an owner says: `item`, an own item's id or an own upload's; `asset`, a key; `replaces`, an own item's id."""

    item: str | None = None
    asset: str | None = None
    replaces: str | None = None
    replaces_asset: bool = False


async def find_target(
    conn: Connection, collection: str, wish: Wish, *, owns: Callable[[str], bool], principals: Sequence[str]
) -> Target:
    """Return what the wish means in a collection.

    Raises:
        UploadRejected: INVALID_FIELD; ITEM_UNKNOWN (422), or 404 for a thing of somebody else; ASSET_EXISTS, SUPERSEDED, NOT_READY (409).
    """
    key = _checked_key(wish)
    if wish.item is not None and wish.replaces is not None:
        raise _refuse("replaces", "an upload is an asset of an item or a newer version of it, not both")
    if wish.replaces is not None:
        parts = await _own_parts(conn, collection, wish.replaces, "replaces", owns, principals)
        if not any(part.state is State.READY for part in parts):
            raise UploadRejected("NOT_READY", "the item is not finished yet", status=409, field="replaces")
        return Target(wish.replaces, Role.VERSION, key or "data")
    if wish.item is None:
        return Target(asset_key=key or "data")
    if key is None:
        raise _refuse("asset", "say under which key the item gets this file")
    item_id = await _item_named(conn, collection, wish.item, owns)
    parts = await _own_parts(conn, collection, item_id, "item", owns, principals)
    if any(part.asset_key == key for part in parts) and not wish.replaces_asset:
        raise asset_exists(key)
    return Target(item_id, Role.ASSET, key, wish.replaces_asset)


def _refuse(field: str, why: str) -> UploadRejected:
    return UploadRejected("INVALID_FIELD", why, field=field)


def _checked_key(wish: Wish) -> str | None:
    if wish.asset is not None and (not _KEY.fullmatch(wish.asset) or wish.asset == THUMBNAIL):
        raise _refuse("asset", "a key has 1 to 64 letters, digits, dots, dashes or underscores, and is not `thumbnail`")
    return wish.asset


async def _item_named(conn: Connection, collection: str, name: str, owns: Callable[[str], bool]) -> str:
    """The item's id, which may be told by an upload of it."""
    if not _UUID.fullmatch(name):
        return name
    try:
        upload = await get(conn, UUID(name))
    except UploadUnknown:
        upload = None
    if upload is None or not owns(upload.owner):
        raise UploadRejected("ITEM_UNKNOWN", "there is no such upload", status=404, field="item")
    if upload.collection_id != collection or upload.has_ended or upload.state in (State.REJECTED, State.FAILED):
        raise UploadRejected("ITEM_UNKNOWN", "that upload becomes no item of this collection", field="item")
    return item_id_of(upload)


async def _own_parts(
    conn: Connection, collection: str, item_id: str, field: str, owns: Callable[[str], bool], principals: Sequence[str]
) -> list[Upload]:
    """Uploads that the item is made of, all the caller's.

    What he may not see is as unknown as what is not there.

    Raises:
        UploadRejected: ITEM_UNKNOWN (404: somebody else's, 422), SUPERSEDED (409).
    """
    parts = await parts_of(conn, collection, item_id) if _ID.fullmatch(item_id) else []
    if parts and all(owns(part.owner) for part in parts):
        if any(part.is_superseded for part in parts):
            raise UploadRejected("SUPERSEDED", "name the newest version of the item", status=409, field=field)
        return parts
    is_seen = _ID.fullmatch(item_id) and await stored_item(conn, collection, item_id, principals) is not None
    why = "you have no such item in this collection"
    raise UploadRejected("ITEM_UNKNOWN", why, status=404 if is_seen else 422, field=field)
