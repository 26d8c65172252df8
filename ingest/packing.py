"""Large items as the API answers them, packed: to read one is a hundredth of the work of hydrating it from pgstac's columns.

A packed item is a byte for the format and a zstd frame of two JSON texts, one on a line: the item without `links`, and those of its links
that are stored. The links that tell where an item is are added when it is read.
"""

from __future__ import annotations

import threading
from typing import Any

import orjson
import zstandard

JSON = dict[str, Any]
#: Smaller items are read from pgstac's columns as quickly.
MIN_BYTES = 3000
#: More than an item can have (`ingest.limits`), with its links.
MAX_BYTES = 4 * 2**20
FORMAT = b"\x01"
#: Links that are made of where an item is, whatever is stored.
OWN_RELS = frozenset({"self", "item", "parent", "collection", "root", "items", "child"})
_LEVEL = 1


class _Codecs(threading.local):
    """zstd contexts are not shared between threads."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=_LEVEL)
        self.decompressor = zstandard.ZstdDecompressor()


_codecs = _Codecs()


def without_nulls(value: Any) -> Any:
    """The same JSON without members that are null: pgstac drops them when it reads."""
    if isinstance(value, dict):
        return {key: without_nulls(member) for key, member in value.items() if member is not None}
    if isinstance(value, list):
        return [without_nulls(element) for element in value]
    return value


def with_datetime(item: JSON) -> JSON:
    """The same item with the null in `datetime` that says that only its range is known; without it no item is valid."""
    if "datetime" in item.get("properties", ("datetime",)):
        return item
    return {**item, "properties": {"datetime": None, **item["properties"]}}


def pack(item: JSON) -> bytes | None:
    """Return the packed form of an item as it will be read; None for one that is not worth it."""
    body = _body(item)
    if len(body) < MIN_BYTES:
        return None
    if b"null" in body or "datetime" not in item["properties"]:
        body = _body(with_datetime(without_nulls(item)))
    return pack_text(body, [link for link in item.get("links") or () if link.get("rel") not in OWN_RELS])


def pack_text(body: bytes, links: list[JSON]) -> bytes | None:
    """The same of an item's JSON without links, which is as it will be read, and of its links that are stored."""
    if len(body) < MIN_BYTES:
        return None
    return FORMAT + _codecs.compressor.compress(body + b"\n" + orjson.dumps(links))


def _body(item: JSON) -> bytes:
    return orjson.dumps({name: value for name, value in item.items() if name != "links"})


def unpack(packed: bytes) -> tuple[bytes, list[JSON]]:
    """Return the JSON of the item without links, and its stored links.

    Raises:
        ValueError: it is of another format, or damaged.
    """
    if packed[:1] != FORMAT:
        raise ValueError("a packed item of another format")
    try:
        body, _, links = _codecs.decompressor.decompress(packed[1:], max_output_size=MAX_BYTES).rpartition(b"\n")
    except zstandard.ZstdError as error:
        raise ValueError("a packed item that is damaged") from error
    return body, orjson.loads(links)
