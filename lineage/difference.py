"""What differs between two documents. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

MISSING: Any = object()
MAX_CHANGES = 10_000


def differences(one: Any, other: Any, place: str = "") -> Iterator[dict[str, Any]]:
    """{path (JSON Pointer), kind, from, to}: members that were added, removed or changed; arrays are compared as values.

    `kind` tells what it is about: checksum, asset, property, geometry, or other.
    """
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            step = key.replace("~", "~0").replace("/", "~1")
            yield from differences(one.get(key, MISSING), other.get(key, MISSING), f"{place}/{step}")
    elif one is MISSING or other is MISSING or one != other or type(one) is not type(other):
        change = {"path": place, "kind": _kind(place)}
        if one is not MISSING:
            change["from"] = one
        if other is not MISSING:
            change["to"] = other
        yield change


def _kind(place: str) -> str:
    if place.endswith(("/file:checksum", "/file:size")):
        return "checksum"
    if place.startswith(("/properties/processing:", "/properties/version")):
        return "processing"
    return {"assets": "asset", "properties": "property", "geometry": "geometry", "bbox": "geometry"}.get(
        place.split("/")[1] if place else "", "other"
    )
