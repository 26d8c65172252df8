"""The item that a tile is made of, out of a row of `api.item`."""

from __future__ import annotations

from typing import Any

import orjson

from ingest.hydration import dumped, item_of, parsed
from ingest.packing import unpack

JSON = dict[str, Any]


def stored_item(row: JSON) -> JSON:
    """The item without the links that the API makes.

    Args:
        row: `packed`, or `content`, `geometry` and `base`, the item that pgstac merges into it.

    Raises:
        ValueError: what is stored is damaged.
    """
    if row["packed"] is not None:
        body, links = unpack(row["packed"])
        item: JSON = orjson.loads(body)
        return {**item, "links": links}
    content, _ = parsed(row["content"])
    base = {name: value for name, value in (row["base"] or {}).items() if value is not None}
    found: JSON = orjson.loads(dumped(item_of(row, content, base)))
    return found
