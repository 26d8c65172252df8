"""A search bound to what one source holds (`/catalogs/{source}`): whatever is asked, nothing outside of it is found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

JSON = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Within:
    """Items of these collections that the source holds a copy of."""

    source_id: str
    collections: Sequence[str]

    def bound(self, search: Mapping[str, Any]) -> JSON:
        """Return the search in these bounds: of asked collections those that are in them."""
        asked = search.get("collections")
        collections = [name for name in self.collections if asked is None or name in asked]
        parts: list[Any] = [{"op": "a_contains", "args": [{"property": "federation:backends"}, [self.source_id]]}]
        if search.get("filter") is not None:
            parts.append(search["filter"])
        if not collections:
            return {**search, "filter": False}
        return {**search, "collections": collections, "filter": {"op": "and", "args": parts}}
