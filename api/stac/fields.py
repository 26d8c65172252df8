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
#: Member -> what of it; None: all of it.
Tree = dict[str, "Tree | None"]

#: What is answered when a caller names nothing.
DEFAULT = (
    "type", "stac_version", "stac_extensions", "id", "collection", "geometry", "bbox", "links", "assets",
    "properties.datetime", "properties.start_datetime", "properties.end_datetime",
)  # fmt: skip
#: Short, and without them a client cannot tell what it got.
_ALWAYS = ("type", "stac_version", "id", "collection")


@dataclass(frozen=True, slots=True)
class Fields:
    """What to take and what to leave out; `include` None takes everything."""

    include: Tree | None
    exclude: Tree

    def apply(self, item: JSON) -> JSON:
        """The wanted members of an item; shares what it takes with the item, and changes nothing in it."""
        found = item if self.include is None else _included(item, self.include)
        return _without(found, self.exclude) if self.exclude else found

    def has_links(self) -> bool:
        """True when links are wanted."""
        return self.exclude.get("links", {}) is not None and (self.include is None or "links" in self.include)


def fields_of(include: Iterable[str] | None, exclude: Iterable[str] | None, *, names_include: bool = False) -> Fields:
    """What a caller asks for. `names_include` tells that `include` was given, although empty: then excludes are taken from the default."""
    named, excluded = _paths(include), _paths(exclude)
    # An included member of an excluded object is wanted, and so is one that is named twice.
    around = {path[:length] for path in named for length in range(1, len(path) + 1)}
    excluded -= around
    if named:
        return Fields(_tree(named | _paths(_ALWAYS)), _tree(excluded))
    return Fields(_tree(_paths(DEFAULT)) if names_include or not excluded else None, _tree(excluded))


def _paths(names: Iterable[str] | None) -> set[Path]:
    return {tuple(name.split(".")) for name in names or () if name}


def _tree(paths: Iterable[Path]) -> Tree:
    root: Tree = {}
    for path in sorted(paths, key=len):  # all of an object before a member of it
        _grow(root, path)
    return root


def _grow(node: Tree, path: Path) -> None:
    for part in path[:-1]:
        below = node.setdefault(part, {})
        if below is None:
            return
        node = below
    node[path[-1]] = None


def _at(tree: Tree, key: str) -> Tree | None:
    """What is asked of a member; {}: nothing. Keys of assets may have dots, which stand between members too."""
    if key in tree or "." not in key:
        return tree.get(key, {})
    *parts, last = key.split(".")
    node: Tree | None = tree
    for part in parts:
        node = node.get(part) if node else None
    return node.get(last, {}) if node else {}


def _included(item: JSON, tree: Tree) -> JSON:
    found: JSON = {}
    for key, value in item.items():
        wanted = _at(tree, key)
        if wanted is None:
            found[key] = value
        elif wanted and isinstance(value, dict):
            found[key] = _included(value, wanted)
    return found


def _without(item: JSON, tree: Tree) -> JSON:
    found: JSON = {}
    for key, value in item.items():
        unwanted = _at(tree, key)
        if unwanted is not None:
            found[key] = _without(value, unwanted) if unwanted and isinstance(value, dict) else value
    return found
