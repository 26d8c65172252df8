"""Documents of items as they were: what was replaced or deleted is kept as pgstac stored it, and becomes a document when somebody looks.

The trigger of 0030_past_items.sql keeps rows in the transaction of the change; a worker makes documents of them. A document is found by the
hash that the event of its making names, so it is proven by the log or not given out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import orjson

from db.pools import Connection, Pool
from db.queries import sql
from ingest.edits.stored import stored_item
from ingest.hydration import dumped, item_of, parsed
from ingest.model import JSON
from ingest.packing import OWN_RELS
from lineage.canonical import SERVICE_MADE, NotCanonical, canonical
from lineage.visibility import EVERYTHING

_BATCH = 200


async def settle_past_items(pool: Pool) -> int:
    """Make documents of all rows that wait; return their number. Any number of workers may do this at once."""
    done = 0
    while True:
        async with pool.connection() as conn, conn.transaction():
            rows = await (await conn.execute(sql("graph.raw_past_items"), (_BATCH,))).fetchall()
            if not rows:
                return done
            made = [(row["id"], *_document(row)) for row in rows]
            await conn.execute(sql("graph.settle_past_items"), [list(column) for column in zip(*made, strict=True)])
            done += len(rows)


def _document(row: Any) -> tuple[bytes, str, str]:
    """(SHA-256, canonical text without links, links as JSON) of a kept row."""
    content, _ = parsed(row["content"])
    base = orjson.loads(row["base_item"]) if row["base_item"] else {}
    known = {name: value for name, value in base.items() if value is not None}
    columns = {
        "id": row["item_id"],
        "collection": row["collection"],
        "geometry": row["geometry"],
        "content": row["content"],
    }
    item: JSON = orjson.loads(dumped(item_of(columns, content, known)))
    links = [link for link in item.get("links") or () if link.get("rel") not in OWN_RELS]
    sha256, text = hashed(item)
    return sha256, text.decode(), orjson.dumps(links).decode()


def hashed(item: JSON) -> tuple[bytes, bytes]:
    """(SHA-256, canonical text) of an item without links and service-made members, as events name it."""
    plain = {name: value for name, value in item.items() if name not in SERVICE_MADE}
    try:
        text = canonical(plain)
    except NotCanonical:  # written by nobody of ours: no event names its hash
        text = orjson.dumps(plain)
    return hashlib.sha256(text).digest(), text


async def document_of(conn: Connection, collection: str, item_id: str, sha256: bytes) -> JSON | None:
    """The document with this hash, with the links that were stored with it; None when it is not kept.

    The caller has asked whether its reader may see the item's history.
    """
    row = await (await conn.execute(sql("graph.past_document"), (collection, item_id, sha256))).fetchone()
    if row is not None:
        return {**orjson.loads(row["doc"]), "links": orjson.loads(row["links"])}
    stored = await stored_item(conn, collection, item_id, EVERYTHING)
    if stored is not None and hashed(item := stored.document())[0] == sha256:
        return item
    rows: Sequence[Any] = await (
        await conn.execute(sql("graph.raw_past_items_of"), (collection, item_id))
    ).fetchall()  # fmt: skip
    for raw in rows:
        found, text, links = _document(raw)
        if found == sha256:
            return {**orjson.loads(text), "links": orjson.loads(links)}
    return None
