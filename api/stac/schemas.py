"""Queryables and sortables as JSON schemas (2020-12), from what is registered with pgstac and what items really have. All of it is pure.

After OGC API - Features, parts 3 (queryables) and 5 (sortables), and STAC's filter and sort extensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api.stac.lineage_filters import QUERYABLES
from ingest.summaries import merged

JSON = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TIME: JSON = {"type": "string", "format": "date-time"}
#: Members of an item that can be filtered by beside its properties.
_CORE: Mapping[str, JSON] = {
    "id": {"title": "Item identifier", "type": "string"},
    "collection": {"title": "Collection identifier", "type": "string"},
    "geometry": {"title": "Footprint", "$ref": "https://geojson.org/schema/Geometry.json"},
    "datetime": {"title": "Begin of what was sensed", **_TIME},
    "start_datetime": {"title": "Begin of what was sensed", **_TIME},
    "end_datetime": {"title": "End of what was sensed", **_TIME},
}
_ALWAYS = ("id", "collection", "geometry", "datetime")
#: Of a registered definition these give way to what items have.
_SEEN_INSTEAD = frozenset({"type", "format", "items", "enum", "minimum", "maximum", "const"})
_CONSTRAINTS = frozenset({"enum", "minimum", "maximum", "const"})
_SORTED_TYPES = frozenset({"string", "number", "integer"})


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of the properties of some collections.

    `registered` are pgstac's queryables ({"name", "definition", "everywhere"}), those of a collection before those of all; `summaries`
    are of the collections that have items, None where that is not known yet; `is_open` says whether other names may be used too.
    """

    collections: Sequence[str]
    registered: Sequence[JSON]
    summaries: Sequence[JSON | None]
    is_open: bool

    @property
    def summary(self) -> JSON | None:
        """The summary of all; None when it is not known."""
        found: JSON | None = {"properties": {}}
        for one in self.summaries:
            found = None if found is None or one is None else merged(found, one)
        return found

    def definitions(self) -> dict[str, JSON]:
        """Name -> what pgstac has registered of it."""
        found: dict[str, JSON] = {}
        for one in self.registered:
            found.setdefault(one["name"], one["definition"])
        return found


def queryables(facts: Facts, url: str, *, of_one: bool) -> JSON:
    """Return the document at `url`; `of_one`: of a single collection, where what none of its items has is left out."""
    properties = {**_properties(facts, of_one=of_one), **QUERYABLES}
    return _document("Queryables", url, properties, facts.is_open)


def sortables(facts: Facts, url: str, *, of_one: bool) -> JSON:
    """Return the document at `url`: the queryables that are texts, numbers or times."""
    properties = {
        name: {key: value for key, value in schema.items() if key not in _CONSTRAINTS}
        for name, schema in _properties(facts, of_one=of_one).items()
        if _types(schema) and _types(schema) <= _SORTED_TYPES
    }
    return _document("Sortables", url, properties, facts.is_open)


def of_collections(title: str, url: str) -> JSON:
    """Return queryables or sortables of collection search: members of collections that it knows by their names."""
    text: JSON = {"type": "string"}
    properties = {
        "id": {"title": "Collection identifier", **text},
        "title": {"title": "Title", **text},
        "description": {"title": "Description", **text},
        "license": {"title": "License", **text},
        "datetime": {"title": "Begin of the temporal extent", **_TIME},
    }
    return _document(title, url, properties, is_open=True)


def _document(title: str, url: str, properties: JSON, is_open: bool) -> JSON:
    ordered = {name: properties[name] for name in sorted(properties)}
    return {
        "$schema": DIALECT,
        "$id": url,
        "type": "object",
        "title": title,
        "properties": ordered,
        "additionalProperties": is_open,
    }


def _properties(facts: Facts, *, of_one: bool) -> dict[str, JSON]:
    registered, summary = facts.definitions(), facts.summary
    seen = summary["properties"] if summary else {}
    is_bare = of_one and bool(seen)
    own = {one["name"] for one in facts.registered if not one["everywhere"]}
    found = {name: dict(_CORE[name]) for name in _ALWAYS}
    if facts.collections:
        found["collection"]["enum"] = sorted(facts.collections)
    for name in {*registered, *seen}:
        if name in _CORE:
            if name in seen or not is_bare:
                found.setdefault(name, dict(_CORE[name]))
            continue
        if name in seen:
            schema = _seen(seen[name])
            if schema is not None:
                found[name] = {**_told(registered.get(name, {}), _SEEN_INSTEAD), **schema}
        elif not is_bare or name in own:
            found[name] = dict(registered[name]) or {"type": "string"}
    if summary and "interval" in summary:
        first, last = summary["interval"]
        for name in ("datetime", "start_datetime", "end_datetime"):
            if name in found:
                found[name] |= {"formatMinimum": first, "formatMaximum": last}
    return found


def _types(schema: JSON) -> set[str]:
    types = schema.get("type", [])
    return {types} if isinstance(types, str) else set(types)


def _told(definition: JSON, without: frozenset[str]) -> JSON:
    return {key: value for key, value in definition.items() if key not in without}


def _seen(one: JSON) -> JSON | None:
    """What a property's summary says, as a schema; None for what cannot be filtered by: objects, and arrays of them."""
    types = _json_types(one["types"])
    if "object" in types:
        return None
    schema: JSON = {"type": types[0] if len(types) == 1 else types}
    if one["types"] == ["date-time"]:
        schema["format"] = "date-time"
    if types == ["string"] and "values" in one:
        schema["enum"] = one["values"]
    if "minimum" in one:
        schema |= {"minimum": one["minimum"], "maximum": one["maximum"]}
    if "items" in one:
        elements = _seen(one["items"])
        if elements is None:
            return None
        schema["items"] = elements
    return schema


def _json_types(types: Sequence[str]) -> list[str]:
    """JSON schema's names; a number may be an integer."""
    found = {"string" if one == "date-time" else one for one in types}
    return sorted(found - {"integer"} if "number" in found else found)
