"""Putting an upload into its item and taking it out again: in the caller's transaction, under the collection's lock, with the events.

An item may be made of several uploads (its assets), and a newer version takes an item's place while the older goes on under another id.
Order of locks: the collection first, then the rows of uploads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
from psycopg.types.json import Jsonb

from db.pools import Connection
from db.queries import sql
from ingest.edits.stored import stored_item
from ingest.errors import RecordRejected, UploadRejected
from ingest.model import JSON
from ingest.packing import with_datetime, without_nulls
from ingest.sanitise import time_text
from ingest.settings import IngestSettings
from ingest.sharing import PUBLIC, Sharing, private_of
from ingest.store import delete_items, lock_items, write_items
from ingest.uploads import composing
from ingest.uploads.chain import GONE_VERSION, close_ranks
from ingest.uploads.item import item_id_of
from ingest.uploads.model import IllegalArrow, Role, State, Upload, from_row
from ingest.uploads.service import asset_href, move
from lineage import log as lineage_log
from lineage.canonical import item_sha256
from lineage.events import Event, Kind
from lineage.ids import uuid7
from lineage.visibility import EVERYTHING


@dataclass(frozen=True, slots=True)
class Own:
    """What an upload brings: the item as it would be alone, its footprint and render hint, its warnings."""

    item: JSON
    warnings: list[str]

    @property
    def shown(self) -> JSON:
        """What the item needs of it when its other parts change."""
        return {"geometry": self.item["geometry"], "render": self.item["properties"]["renders"]["default"]}


async def entered(conn: Connection, upload: Upload, state: State) -> Upload:
    """Wait for the collection and for the upload; return it as it is now.

    Raises:
        IllegalArrow: it is in another state: taken back, or in the hands of another worker.
    """
    await lock_items(conn, upload.collection_id)
    row = await (await conn.execute(sql("uploads.lock"), (upload.id,))).fetchone()
    if row is None or row["state"] != state:
        raise IllegalArrow(f"the upload is not {state} any more")
    return from_row(row)


async def place(
    conn: Connection, settings: IngestSettings, upload: Upload, own: Callable[[Upload], Own], body: JSON
) -> Upload:
    """Put the upload into its item; returns the upload as it is then. The caller has `entered`.

    Args:
        own: makes the item that the upload alone would be, under the id that it has now.
        body: facts for the event.

    Raises:
        UploadRejected: ASSET_EXISTS, ITEM_EXISTS, ITEM_GONE (409), ITEM_INVALID.
    """
    parts = await parts_of(conn, upload.collection_id, item_id_of(upload))
    others = [part for part in parts if part.id != upload.id and part.item_id is not None]
    stored = await item_now(conn, upload)
    version, kind = max((part.version for part in others), default=upload.version), Kind.CREATE
    made = own(upload)
    if upload.role is Role.VERSION:
        if stored is None or not others:
            raise UploadRejected("ITEM_GONE", "the item that was to be replaced is gone", status=409, field="replaces")
        await _supersede(conn, settings, upload, stored, version)
        body |= {"predecessor": composing.older_id(stored["id"], version)}
        item, kind, version, others = composing.newer_version(made.item, version + 1), Kind.REPLACE, version + 1, []
    else:
        replaced = await _make_room(conn, upload, others)
        others = [part for part in others if part.id != replaced]
        if stored is not None:
            kind = Kind.REPLACE if upload.item_id is not None or replaced else Kind.UPDATE
        item = _joined(upload, made, stored, others)
        body |= {"asset": upload.asset_key} if kind is Kind.UPDATE else {}
        body |= {"replaced": str(replaced)} if replaced else {}
    shown = {part.asset_key: part.shown for part in others if part.shown} | {upload.asset_key: made.shown}
    try:
        item = composing.finished(item, shown, max_vertices=settings.raster_max_vertices)
    except RecordRejected as error:
        raise UploadRejected("ITEM_INVALID", f"no valid item can be made of the file: {error}") from None
    readers = await _readers_of_new(conn, upload, item) if stored is None else {}
    await write_items(conn, upload.collection_id, [item], {}, new_readers=readers)
    await lineage_log.append(conn, fact(upload, kind, item, body))
    values = (upload.id, item["id"], made.warnings, version, Jsonb(made.shown))
    row = await (await conn.execute(sql("uploads.set_item"), values)).fetchone()
    assert row is not None
    return from_row(row)


async def _readers_of_new(conn: Connection, upload: Upload, item: JSON) -> dict[str, str]:
    """Who may read an item that is not there yet, as its upload says; of one that is there its owner may have decided anew."""
    row = await (await conn.execute(sql("sharing.collection_owner"), (upload.collection_id,))).fetchone()
    wished = Sharing(upload.visibility or PUBLIC, f"user:{upload.owner}", upload.readers)
    private = private_of(wished, row["owner"] if row else None)
    return {} if private is None else {str(item["id"]): orjson.dumps(private).decode()}


def _joined(upload: Upload, made: Own, stored: JSON | None, others: list[Upload]) -> JSON:
    """The item with the upload's asset: its own, when nothing else is in it."""
    if stored is None or not (others or (upload.role is Role.ASSET and upload.item_id is None)):
        if stored is None or upload.version == 1:
            return made.item
        kept = {name: stored["properties"][name] for name in ("version", "deprecated") if name in stored["properties"]}
        links = [*made.item["links"], *composing.version_links(stored)]
        return {**made.item, "properties": {**made.item["properties"], **kept}, "links": links}
    return composing.with_asset(stored, made.item, upload.asset_key, leads=upload.role is not Role.ASSET)


async def _make_room(conn: Connection, upload: Upload, others: list[Upload]) -> UUID | None:
    """The upload whose asset gives way to this one's, which is on its way out then; None: the key is free.

    Raises:
        UploadRejected: ASSET_EXISTS (409).
    """
    taken = next((part for part in others if part.asset_key == upload.asset_key), None)
    if taken is None:
        return None
    if not upload.replaces_asset or taken.state is not State.READY:
        raise asset_exists(upload.asset_key)
    await move(conn, taken.id, State.DELETING, actor=f"user:{upload.owner}")
    return taken.id


def asset_exists(key: str) -> UploadRejected:
    """The refusal of a second file under one key."""
    why = f"the item has an asset {key!r}; choose another key, or say that it is to be replaced"
    return UploadRejected("ASSET_EXISTS", why, status=409, field="asset")


async def _supersede(conn: Connection, settings: IngestSettings, upload: Upload, stored: JSON, version: int) -> None:
    """Keep the item as it stands under the id of an older version, with its uploads and its readers.

    Raises:
        UploadRejected: ITEM_EXISTS (409): that id is taken.
    """
    collection, item_id, kept_as = upload.collection_id, str(stored["id"]), composing.older_id(stored["id"], version)
    if await stored_item(conn, collection, kept_as, EVERYTHING) is not None:
        why = f"the version before would be kept as {kept_as}, and there is such an item"
        raise UploadRejected("ITEM_EXISTS", why, status=409, field="replaces")
    now = time_text(datetime.now(UTC))
    older = [composing.older_version(stored, version, raster_url=raster_url_of(settings), updated=now)]
    before = composing.version_id(stored, "predecessor-version")
    if before is not None and (found := await stored_item(conn, collection, before, EVERYTHING)) is not None:
        older.append(composing.with_versions(document_of(found), {"successor-version": kept_as}, updated=now))
    row = await (await conn.execute(sql("uploads.readers"), (collection, item_id))).fetchone()
    await write_items(conn, collection, older, {}, new_readers={} if row is None else {kept_as: row["private"]})
    await conn.execute(sql("uploads.supersede"), (collection, item_id, kept_as))
    body = {"formerly": item_id, "successor": item_id, "upload": str(upload.id)}
    await lineage_log.append(conn, fact(upload, Kind.OBSOLETE, older[0], body))


async def take_out(conn: Connection, settings: IngestSettings, upload: Upload, reason: str) -> None:
    """Take the upload's asset out of its item, or the item out of the catalogue when nothing else is in it.

    The caller holds the collection's lock. Nothing when another has taken its place.
    """
    stored = await item_now(conn, upload) if upload.item_id is not None else None
    if stored is None or stored["assets"].get(upload.asset_key, {}).get("href") != asset_href(settings, upload.id):
        return
    parts = await parts_of(conn, upload.collection_id, str(upload.item_id))
    others = {part.asset_key: part.shown for part in parts if part.id != upload.id and part.item_id and part.shown}
    body: JSON = {"reason": reason, "upload": str(upload.id)}
    if not others:
        await delete_items(conn, upload.collection_id, [stored["id"]], {})
        await lineage_log.append(conn, fact(upload, Kind.DELETE, stored, body))
        rest = await close_ranks(conn, upload.collection_id, stored)
        await lineage_log.append(conn, *(fact(upload, Kind.UPDATE, one, {"reason": GONE_VERSION}) for one in rest))
        return
    now = time_text(datetime.now(UTC))
    item = composing.without_asset(stored, upload.asset_key, others, raster_url=raster_url_of(settings), updated=now)
    item = composing.finished(item, others, max_vertices=settings.raster_max_vertices)
    await write_items(conn, upload.collection_id, [item], {})
    await lineage_log.append(conn, fact(upload, Kind.UPDATE, item, {**body, "asset": upload.asset_key}))


async def parts_of(conn: Connection, collection: str, item_id: str) -> list[Upload]:
    """Uploads that an item is made of, or will be: living ones, oldest first."""
    rows = await (await conn.execute(sql("uploads.parts_of_item"), (collection, item_id))).fetchall()
    return [from_row(row) for row in rows]


async def item_now(conn: Connection, upload: Upload) -> JSON | None:
    """The upload's item as it is stored."""
    found = await stored_item(conn, upload.collection_id, item_id_of(upload), EVERYTHING)
    return None if found is None else document_of(found)


def document_of(found: Any) -> JSON:
    """A stored item as it may be stored again."""
    return with_datetime(without_nulls(found.document()))


def raster_url_of(settings: IngestSettings) -> str:
    """Where tiles are."""
    return f"{settings.public_url.rstrip('/')}/raster"


def fact(upload: Upload, kind: Kind, item: JSON, body: JSON) -> Event:
    """An event of the upload's item, by its owner."""
    now, name = datetime.now(UTC), str(item["id"])
    told = body if kind is Kind.DELETE else {**body, "item_sha256": item_sha256(item)}
    return Event(uuid7(), kind, name, "own", upload.collection_id, name, f"user:{upload.owner}", now, told)
