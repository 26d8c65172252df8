"""Canonical JSON (RFC 8785) and the hash of an item."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import orjson
import rfc8785

#: Members of an item that say nothing about the product: made by the service, or different at every reading.
SERVICE_MADE = frozenset({"links", "pgstac:base_item", "stac_version"})

_SORTED = (
    orjson.OPT_SORT_KEYS
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)
#: What orjson may write otherwise than RFC 8785 asks, apart from whole floats: null for a number that is not finite, exponents, and numbers
#: beyond 2**53. Texts that look like it are taken for it. Each begins with a fixed byte, for which the engine is quick to look.
_DOUBTFUL = tuple(
    re.compile(one) for one in (rb"null", rb"e[-+]\d{1,3}[,\]}]", rb":-?\d{16}", rb",-?\d{16}", rb"\[-?\d{16}")
)
_WHOLE_FLOAT = re.compile(rb"\.0[,\]}]")
_TEXT_OR_WHOLE_FLOAT = re.compile(rb'("(?:[^"\\]|\\.)*")|(-?\d+)\.0(?=[,\]}])')
#: Keys with such characters sort by UTF-16 otherwise than by UTF-8.
_BEYOND_BASIC_PLANE = re.compile(rb"[\xf0-\xf4]")


def canonical(value: Any) -> bytes:
    """Return the RFC 8785 bytes of a JSON value.

    Raises:
        NotCanonical: an integer beyond 2**53, a non-finite number, a lone surrogate, or no JSON at all.
    """
    if isinstance(value, dict | list) and (text := _quickly(value)) is not None:
        return text
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, RecursionError) as error:
        raise NotCanonical(f"not canonical JSON: {type(error).__name__}") from error


def _quickly(value: Any) -> bytes | None:
    """The same bytes by orjson, in a tenth of the time; None where they may differ."""
    try:
        text = orjson.dumps(value, option=_SORTED)
    except TypeError:
        return None
    if any(one.search(text) for one in _DOUBTFUL) or (not text.isascii() and _BEYOND_BASIC_PLANE.search(text)):
        return None
    if not _WHOLE_FLOAT.search(text):
        return text
    return None if b"-0.0" in text else _TEXT_OR_WHOLE_FLOAT.sub(rb"\1\2", text)


class NotCanonical(ValueError):
    """The value has no RFC 8785 form."""


def item_sha256(item: dict[str, Any]) -> str:
    """Return the SHA-256 (hex) of a STAC item's canonical bytes without `links` and service-made members."""
    return hashlib.sha256(canonical({key: value for key, value in item.items() if key not in SERVICE_MADE})).hexdigest()
