"""An item as it is stored: what the API answers of it, but for the links that are made when it is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from db.pools import Connection
from db.queries import sql
from ingest.hydration import dumped, item_of, parsed
from ingest.model import JSON
from ingest.packing import OWN_RELS, unpack


@dataclass(frozen=True, slots=True)
class Stored:
    """An item: its JSON without links, byte for byte as the API answers it, and its links that are stored."""

    collection: str
    id: str
    body: bytes
    links: list[JSON]

    def document(self) -> JSON:
        """The item as an object; nobody changes its links in place."""
        return {**orjson.loads(self.body), "links": self.links}


async def stored_item(conn: Connection, collection: str, item_id: str, principals: Sequence[str]) -> Stored | None:
    """Read one item; None when there is none that these principals may see."""
    cursor = await conn.execute(sql("edits.stored_item"), (collection, item_id, list(principals)))
    row = await cursor.fetchone()
    if row is None:
        return None
    if row["packed"] is not None:
        return Stored(collection, item_id, *unpack(row["packed"]))
    content, tag = parsed(row["content"])
    base = await (await conn.execute(sql("harvest.base_item_of"), (collection, tag))).fetchone()
    known = {name: value for name, value in ((base or {}).get("base_item") or {}).items() if value is not None}
    item = item_of(row, content, known)
    links = [link for link in item.pop("links", None) or () if link.get("rel") not in OWN_RELS]
    return Stored(collection, item_id, dumped(item), links)
