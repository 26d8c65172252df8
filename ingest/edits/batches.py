"""Many items at once: all are looked at, and what is wrong with each is told. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ingest.edits.documents import checked_item
from ingest.edits.items import Ready
from ingest.errors import EditRefused
from ingest.sanitise import pointer

#: Most wrong items that one refusal names.
MAX_ERRORS = 20


def ready_items(documents: Sequence[tuple[str | None, Any]], collection: str, *, own_root: str = "") -> list[Ready]:
    """Return items of one collection as they may be stored.

    Args:
        documents: items as callers give them, each with the id that it must have; None: its own.
        own_root: see `checked_item`.

    Raises:
        EditRefused: INVALID_ITEMS, with `errors`, a list of {number, id, code, detail, place}; ID_TWICE.
    """
    found: list[Ready] = []
    errors: list[dict[str, Any]] = []
    for number, (item_id, document) in enumerate(documents):
        try:
            found.append(Ready.of(checked_item(document, collection, item_id, own_root=own_root)))
        except EditRefused as error:
            errors.append(_fault(number, document, error))
            if len(errors) == MAX_ERRORS:
                break
    if errors:
        first = errors[0]
        words = f"nothing was stored; item {first['number']}: {first['detail']}"
        raise EditRefused("INVALID_ITEMS", words, errors=errors)
    _check_ids(found)
    return found


def _fault(number: int, document: Any, error: EditRefused) -> dict[str, Any]:
    item_id = document.get("id") if isinstance(document, dict) else None
    return {
        "number": number,
        "id": item_id[:100] if isinstance(item_id, str) else None,
        "code": error.code,
        "detail": str(error),
        "place": error.facts.get("place", ""),
    }


def _check_ids(items: Sequence[Ready]) -> None:
    seen: set[str] = set()
    for number, one in enumerate(items):
        if one.id in seen:
            raise EditRefused("ID_TWICE", f"two items have the id {one.id}", place=pointer("features", number, "id"))
        seen.add(one.id)
