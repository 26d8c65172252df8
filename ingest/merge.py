"""Contributions of one product become one item. Pure; the order of the contributions does not matter.

Fields: the lowest rank wins, ties by source id. Assets: the best rank's stays, the other sources' copies become its `alternate`s. Storage
and login schemes of all are united; equal names with other content are renamed to `<source>-<name>`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from ingest.model import JSON, Contribution, Source
from ingest.normalise.fields import own_extensions

SCHEMES = ("auth:schemes", "storage:schemes")
REFS = {"auth:schemes": "auth:refs", "storage:schemes": "storage:refs"}
#: Members of an asset that an alternate may carry (alternate-assets 1.2).
ALTERNATE_MEMBERS = ("href", "auth:refs", "storage:refs", "file:size", "file:checksum", "alternate:name")


def merge(contributions: Sequence[tuple[Source, Contribution]], item_id: str) -> JSON:
    """Return the item of one product, with the id `item_id`.

    `federation:backends` names the sources; `federator:fields` says which properties are not the first one's, and whose they are.

    Raises:
        ValueError: no contribution, or they are of different collections.
    """
    ranked = sorted(contributions, key=_order)
    if not ranked or len({one.item["collection"] for _, one in ranked}) != 1:
        raise ValueError("a merge needs contributions of one collection")
    schemes: dict[str, JSON] = {name: {} for name in SCHEMES}
    items = [(source.id, _renamed(source.id, one.item, schemes)) for source, one in ranked]
    leading, best = items[0]
    properties: JSON = {}
    given: dict[str, list[str]] = {}
    for source_id, item in items:
        for name, value in item["properties"].items():
            if name not in properties and name not in SCHEMES:
                properties[name] = value
                given.setdefault(source_id, []).append(name)
    properties |= {name: value for name, value in schemes.items() if value}
    properties["federation:backends"] = sorted({source_id for source_id, _ in items})
    if len(properties["federation:backends"]) > 1:
        others = {source_id: sorted(names) for source_id, names in sorted(given.items()) if source_id != leading}
        properties["federator:fields"] = {leading: ["*"], **others}
    merged = {
        **best,
        "id": item_id,
        "properties": properties,
        "links": _links(items),
        "assets": _assets(items),
    }
    merged["stac_extensions"] = own_extensions(merged)
    return merged


def _order(one: tuple[Source, Contribution]) -> tuple[Any, ...]:
    """Who speaks first: the product before its COG twin, then by the source's rank."""
    source, contribution = one
    name = contribution.name
    return name.is_cog, source.rank, source.id, name.is_partial, name.stem, name.part


def _copy(value: Any) -> Any:
    return orjson.loads(orjson.dumps(value))


def _renamed(source_id: str, item: JSON, schemes: dict[str, JSON]) -> JSON:
    """A copy of the item whose scheme names do not clash with those collected so far; collects its own."""
    item = _copy(item)
    for kind in SCHEMES:
        names: dict[str, str] = {}
        for name, scheme in (item["properties"].pop(kind, None) or {}).items():
            new = name if schemes[kind].get(name, scheme) == scheme else f"{source_id}-{name}"
            schemes[kind][new] = scheme
            names[name] = new
        _rename_refs(item, REFS[kind], names)
    return item


def _rename_refs(value: Any, member: str, names: dict[str, str]) -> None:
    if isinstance(value, dict):
        if isinstance(value.get(member), list):
            value[member] = [names.get(ref, ref) for ref in value[member]]
        for one in value.values():
            _rename_refs(one, member, names)
    elif isinstance(value, list):
        for one in value:
            _rename_refs(one, member, names)


def _links(items: Sequence[tuple[str, JSON]]) -> list[JSON]:
    """All links, each once."""
    seen: dict[tuple[str, str], JSON] = {}
    for _, item in items:
        for link in item["links"]:
            seen.setdefault((link["rel"], link["href"]), link)
    return list(seen.values())


def _assets(items: Sequence[tuple[str, JSON]]) -> dict[str, JSON]:
    found: dict[str, JSON] = {}
    for source_id, item in items:
        for key, asset in item["assets"].items():
            if key not in found:
                found[key] = asset
            else:
                _add_alternate(found[key], source_id, asset)
    return found


def _add_alternate(main: JSON, source_id: str, other: JSON) -> None:
    """Put another source's copy beside the main one, with its own alternates, unless the place is known already."""
    copies = {source_id: other, **{f"{source_id}-{name}": one for name, one in (other.get("alternate") or {}).items()}}
    alternates = main.get("alternate") or {}
    known = {main["href"], *(one["href"] for one in alternates.values())}
    for name, copy in copies.items():
        if copy["href"] not in known:
            known.add(copy["href"])
            free = next(
                key for n in range(len(alternates) + 1) if (key := f"{name}-{n + 1}" if n else name) not in alternates
            )
            alternates[free] = {member: copy[member] for member in ALTERNATE_MEMBERS if member in copy}
    if alternates:
        main["alternate"] = alternates
    if "file:size" not in main and "file:size" in other and main["href"] == other["href"]:
        main["file:size"] = other["file:size"]
