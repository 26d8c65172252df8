"""stac-fastapi's clients of the transaction extensions over `ingest.edits`. Documents come as they were sent (`api.stac.edit_routes`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import attr
import orjson
from stac_fastapi.extensions.bulk_transactions import AsyncBaseBulkTransactionsClient
from stac_fastapi.extensions.transaction import AsyncBaseTransactionsClient
from starlette.responses import Response

from api.access import require
from api.problems import Problem
from api.stac.edits import GEOJSON, PLAIN_JSON, Edit, document_of
from ingest.edits import collections, items
from ingest.edits.batches import ready_items
from ingest.edits.documents import checked_collection, checked_item
from ingest.edits.items import Change, Ready
from ingest.edits.stored import Stored
from ingest.edits.streams import BATCH, Stream, Unstreamable, bulk_of, create_streamed
from ingest.errors import EditRefused
from ingest.model import JSON

METHODS = ("insert", "upsert")


@attr.s
class TransactionsClient(AsyncBaseTransactionsClient):
    """Items and collections, one by one, and item collections."""

    async def create_item(self, collection_id: str, item: Any, **kwargs: Any) -> Response:
        """`POST /collections/{collection_id}/items`: an item, or an item collection, all of it or nothing."""
        edit = Edit.of(kwargs["request"])
        if isinstance(item, dict) and item.get("type") == "FeatureCollection":
            await _store_many(edit, collection_id, _features(item), is_upsert=False)
            return Response(status_code=201)
        ready = Ready.of(checked_item(edit.sent(item), collection_id, own_root=edit.parts.root))
        stored = await edit.do(lambda conn: items.create_item(conn, edit.author, collection_id, ready, edit.permit_new))
        edit.note_items()
        return edit.created(edit.item_body(stored), GEOJSON, edit.href(collection_id, ready.id))

    async def update_item(self, collection_id: str, item_id: str, item: Any, **kwargs: Any) -> Response:
        """`PUT /collections/{collection_id}/items/{item_id}`: in place of one that is there."""
        edit = Edit.of(kwargs["request"])
        new = checked_item(edit.sent(item), collection_id, item_id, own_root=edit.parts.root)

        def replaced(stored: Stored) -> JSON:
            edit.permit_item(stored)
            return new

        return await _change_item(edit, collection_id, item_id, replaced)

    async def patch_item(self, collection_id: str, item_id: str, patch: Any, **kwargs: Any) -> Response:
        """`PATCH /collections/{collection_id}/items/{item_id}`, of the item as GET answers it."""
        edit = Edit.of(kwargs["request"])
        changed = edit.patching(patch)

        def patched(stored: Stored) -> JSON:
            edit.permit_item(stored)
            document = changed(orjson.loads(edit.item_body(stored)))
            return checked_item(edit.sent(document), collection_id, item_id, own_root=edit.parts.root)

        return await _change_item(edit, collection_id, item_id, patched)

    async def delete_item(self, item_id: str, collection_id: str, **kwargs: Any) -> Response:
        """`DELETE /collections/{collection_id}/items/{item_id}`; to delete what is not there is no error."""
        edit = Edit.of(kwargs["request"])
        await edit.do(lambda conn: items.delete_item(conn, edit.author, collection_id, item_id, edit.permit_item))
        edit.note_items()
        return Response(status_code=204)

    async def create_collection(self, collection: Any, **kwargs: Any) -> Response:
        """`POST /collections`."""
        edit = await Edit.of_collection(kwargs["request"])
        new = checked_collection(edit.sent_collection(collection), own_root=edit.parts.root)
        stored = await edit.do(lambda conn: collections.create_collection(conn, edit.author, new, edit.permit_new))
        edit.note_collections()
        return edit.created(edit.collection_body(stored), PLAIN_JSON, edit.href(new["id"]))

    async def update_collection(self, collection_id: str, collection: Any, **kwargs: Any) -> Response:
        """`PUT /collections/{collection_id}`: in place of one that is there."""
        edit = await Edit.of_collection(kwargs["request"])
        new = checked_collection(edit.sent_collection(collection), collection_id, own_root=edit.parts.root)

        def replaced(before: JSON) -> JSON:
            edit.permit_collection(before)
            return new

        return await _change_collection(edit, collection_id, replaced)

    async def patch_collection(self, collection_id: str, patch: Any, **kwargs: Any) -> Response:
        """`PATCH /collections/{collection_id}`, of the collection as GET answers it."""
        edit = await Edit.of_collection(kwargs["request"])
        changed = edit.patching(patch)

        def patched(before: JSON) -> JSON:
            edit.permit_collection(before)
            document = changed(orjson.loads(edit.collection_body(before)))
            return checked_collection(edit.sent_collection(document), collection_id, own_root=edit.parts.root)

        return await _change_collection(edit, collection_id, patched)

    async def delete_collection(self, collection_id: str, **kwargs: Any) -> Response:
        """`DELETE /collections/{collection_id}`: with all its items."""
        edit = await Edit.of_collection(kwargs["request"])
        await edit.do(
            lambda conn: collections.delete_collection(conn, edit.author, collection_id, edit.permit_collection),
            timeout_ms=collections.DELETE_TIMEOUT_MS,
        )
        edit.note_collections()
        return Response(status_code=204)


@attr.s
class BulkClient(AsyncBaseBulkTransactionsClient):
    """Many items at once."""

    async def bulk_item_insert(self, items: Any, **kwargs: Any) -> Response:
        """`POST /collections/{collection_id}/bulk_items`: all of them or nothing; "upsert" replaces those that are there.

        `items` is the body as it was sent.
        """
        edit = Edit.of(kwargs["request"])
        if (number := await _streamed(edit, items)) is None:
            number = await _stored(edit, document_of(items))
        told = {"received": number, "success": number, "skipped": 0, "errors": []}
        return Response(orjson.dumps(told), media_type=PLAIN_JSON)


async def _streamed(edit: Edit, body: bytes) -> int | None:
    """Store many new items with which nothing is wrong; returns how many, None when they are left to `_stored`."""
    bulk = bulk_of(body)
    if bulk is None or bulk.method not in METHODS or not BATCH <= len(bulk.items) <= edit.settings.max_bulk_items:
        return None
    stream = Stream(edit.request.path_params["collection_id"], bulk.items, edit.parts.root, edit.sent)
    try:
        _permit(edit, bulk.method)
        edit.permit_new()
        await edit.do(lambda conn: create_streamed(conn, edit.author, stream))
    except (Problem, Unstreamable):
        return None
    edit.note_items()
    return len(bulk.items)


def _permit(edit: Edit, method: str) -> None:
    if method == "upsert":
        require(edit.request, "stac:item:update")  # besides stac:item:create, which its route has asked for


async def _stored(edit: Edit, body: Any) -> int:
    """Store many items, or say what is wrong; returns how many."""
    given = body.get("items") if isinstance(body, dict) else None
    if not isinstance(given, dict):
        raise EditRefused("INVALID_BODY", "the body is an object with items, an object of items by their ids")
    method = body.get("method", "insert")
    if method not in METHODS:
        raise EditRefused("INVALID_METHOD", "method is insert or upsert", place="/method")
    _permit(edit, method)
    documents = list(given.items())
    await _store_many(edit, edit.request.path_params["collection_id"], documents, is_upsert=method == "upsert")
    return len(documents)


async def _change_item(edit: Edit, collection_id: str, item_id: str, change: Change) -> Response:
    stored = await edit.do(lambda conn: items.change_item(conn, edit.author, collection_id, item_id, change))
    edit.note_items()
    href = edit.href(collection_id, item_id)
    return edit.changed(edit.item_body(stored), GEOJSON, href)


async def _change_collection(edit: Edit, collection_id: str, change: Callable[[JSON], JSON]) -> Response:
    stored = await edit.do(lambda conn: collections.change_collection(conn, edit.author, collection_id, change))
    edit.note_collections()
    href = edit.href(collection_id)
    return edit.changed(edit.collection_body(stored), PLAIN_JSON, href)


def _features(collection: JSON) -> list[tuple[str | None, Any]]:
    features = collection.get("features")
    if not isinstance(features, list):
        raise EditRefused("INVALID_BODY", "an item collection has a list features", place="/features")
    return [(None, feature) for feature in features]


async def _store_many(
    edit: Edit, collection_id: str, documents: list[tuple[str | None, Any]], *, is_upsert: bool
) -> None:
    if len(documents) > edit.settings.max_bulk_items:
        limit = edit.settings.max_bulk_items
        raise EditRefused("TOO_MANY", f"at most {limit} items at once", status=413, limit=limit, actual=len(documents))
    sent = [(item_id, edit.sent(document)) for item_id, document in documents]
    ready = await asyncio.to_thread(ready_items, sent, collection_id, own_root=edit.parts.root)
    write = items.put_items if is_upsert else items.create_items
    await edit.do(lambda conn: write(conn, edit.author, collection_id, ready, edit.permit_new))
    edit.note_items()
