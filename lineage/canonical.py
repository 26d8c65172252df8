"""Canonical JSON (RFC 8785) and the hash of an item."""

from __future__ import annotations

import hashlib
from typing import Any

import rfc8785

#: Members of an item that say nothing about the product: made by the service, or different at every reading.
SERVICE_MADE = frozenset({"links", "pgstac:base_item", "stac_version"})


def canonical(value: Any) -> bytes:
    """Return the RFC 8785 bytes of a JSON value.

    Raises:
        NotCanonical: an integer beyond 2**53, a non-finite number, a lone surrogate, or no JSON at all.
    """
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, RecursionError) as error:
        raise NotCanonical(f"not canonical JSON: {type(error).__name__}") from error


class NotCanonical(ValueError):
    """The value has no RFC 8785 form."""


def item_sha256(item: dict[str, Any]) -> str:
    """Return the SHA-256 (hex) of a STAC item's canonical bytes without `links` and service-made members."""
    return hashlib.sha256(canonical({key: value for key, value in item.items() if key not in SERVICE_MADE})).hexdigest()
