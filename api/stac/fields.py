"""The fields extension (1.0.0): which members of an item a caller wants.

Rules, as the extension and its validator have them: nothing named gives the members that make a valid item; only includes give
these alone, with the short members that say what it is; only excludes give all but these; a member that is both included and
excluded is included, and an included member of an excluded object too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

JSON = dict[str, Any]
Path = tuple[str, ...]

#: What is answered when a caller names nothing.
DEFAULT = (
    "type", "stac_version", "stac_extensions", "id", "collection", "geometry", "bbox", "links", "assets",
    "properties.datetime", "properties.start_datetime", "properties.end_datetime",
)  # fmt: skip
#: Short, and without them a client cannot tell what it got.
_ALWAYS = ("type", "stac_version", "id", "collection")


@dataclass(frozen=True, slots=True)
class Fields:
    """Paths to take and to leave out; `include` None takes everything."""

    include: frozenset[Path] | None
    exclude: frozenset[Path]

    def apply(self, item: JSON) -> JSON:
        """The wanted members of an item; shares what it takes with the item, and changes nothing in it."""
        found = item if self.include is None else _included(item, self.include)
        return _without(found, self.exclude) if self.exclude else found

    def has_links(self) -> bool:
        """True when links are wanted."""
        return ("links",) not in self.exclude and (
            self.include is None or any(path[0] == "links" for path in self.include)
        )


def fields_of(include: Iterable[str] | None, exclude: Iterable[str] | None, *, names_include: bool = False) -> Fields:
    """What a caller asks for. `names_include` tells that `include` was given, although empty: then excludes are taken from the default."""
    named, excluded = _paths(include), _paths(exclude)
    # An included member of an excluded object is wanted, and so is one that is named twice.
    excluded = frozenset(path for path in excluded if not any(one[: len(path)] == path for one in named))
    if named:
        return Fields(named | _paths(_ALWAYS), excluded)
    return Fields(_paths(DEFAULT) if names_include or not excluded else None, excluded)


def _paths(names: Iterable[str] | None) -> frozenset[Path]:
    return frozenset(tuple(name.split(".")) for name in names or () if name)


def _included(item: JSON, paths: Iterable[Path]) -> JSON:
    wanted: dict[str, set[Path]] = {}
    for path in paths:
        wanted.setdefault(path[0], set()).add(path[1:])
    found: JSON = {}
    for key, value in item.items():
        rests = wanted.get(key, set())
        if () in rests:
            found[key] = value
        elif rests and isinstance(value, dict):
            found[key] = _included(value, rests)
    return found


def _without(item: JSON, paths: Iterable[Path]) -> JSON:
    found = dict(item)
    for path in paths:
        if len(path) == 1:
            found.pop(path[0], None)
        elif isinstance(found.get(path[0]), dict):
            found[path[0]] = _without(found[path[0]], [path[1:]])
    return found
