"""Questions to a STAC API's item search and the times in its answers. Nothing here asks anybody."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from ingest.model import JSON


@dataclass(frozen=True, slots=True)
class Window:
    """What a search is limited to: the watermark from `lower` to before `upper`, ids from `first_id` on."""

    lower: datetime | None = None
    upper: datetime | None = None
    first_id: str | None = None


def bounds(window: Window, name: str, language: str) -> JSON:
    """Bound the property `name` in the source's filter language: "query", "cql2", or "datetime" (the parameter of that name)."""
    if language == "cql2":
        return _as_cql2(_terms(window, name))
    found: JSON = {}
    query: JSON = {}
    if language == "datetime" and (window.lower or window.upper):
        last = window.upper - timedelta(microseconds=1) if window.upper else None  # `datetime` includes both ends
        found["datetime"] = f"{rfc3339(window.lower) if window.lower else '..'}/{rfc3339(last) if last else '..'}"
    elif window.lower or window.upper:
        ends = {"gte": window.lower, "lt": window.upper}
        query[name] = {op: rfc3339(end) for op, end in ends.items() if end}
    if window.first_id is not None:
        query["id"] = {"gte": window.first_id}
    return found | ({"query": query} if query else {})


def _terms(window: Window, name: str) -> list[JSON]:
    ends = ((">=", window.lower), ("<", window.upper))
    terms = [{"op": op, "args": [{"property": name}, {"timestamp": rfc3339(end)}]} for op, end in ends if end]
    if window.first_id is not None:
        terms.append({"op": ">=", "args": [{"property": "id"}, window.first_id]})
    return terms


def _as_cql2(terms: list[JSON]) -> JSON:
    if not terms:
        return {}
    return {"filter-lang": "cql2-json", "filter": terms[0] if len(terms) == 1 else {"op": "and", "args": terms}}


def area(bbox: tuple[float, float, float, float]) -> JSON:
    """A bbox; across the antimeridian two polygons, because pgstac answers such a bbox with the whole world."""
    west, south, east, north = bbox
    if west <= east:
        return {"bbox": list(bbox)}
    sides = ((west, 180.0), (-180.0, east))
    rings = [[[[w, south], [e, south], [e, north], [w, north], [w, south]]] for w, e in sides]
    return {"intersects": {"type": "MultiPolygon", "coordinates": rings}}


def as_get(body: JSON) -> dict[str, str]:
    """The same search as query parameters (STAC API, item search, GET)."""
    out = {"collections": ",".join(body["collections"]), "limit": str(body["limit"])}
    out["sortby"] = ",".join(f"{'-' if key['direction'] == 'desc' else '+'}{key['field']}" for key in body["sortby"])
    if "datetime" in body:
        out["datetime"] = body["datetime"]
    if "bbox" in body:
        out["bbox"] = ",".join(str(number) for number in body["bbox"])
    for name in ("intersects", "query"):
        if name in body:
            out[name] = orjson.dumps(body[name]).decode()
    if "filter" in body:
        out |= {"filter-lang": "cql2-text", "filter": _cql2_text(body["filter"])}
    return out


def _cql2_text(term: JSON) -> str:
    if term["op"] == "and":
        return " AND ".join(_cql2_text(part) for part in term["args"])
    name, value = term["args"]
    literal = f"TIMESTAMP('{value['timestamp']}')" if isinstance(value, dict) else _quoted(value)
    return f'"{name["property"]}" {term["op"]} {literal}'


def _quoted(text: str) -> str:
    escaped = text.replace("'", "''")
    return f"'{escaped}'"


def total_of(answer: JSON) -> int | None:
    """How many the source says there are: `numberMatched`, or `context.matched` of older servers."""
    context = answer.get("context")
    for value in (answer.get("numberMatched"), context.get("matched") if isinstance(context, dict) else None):
        if isinstance(value, int):
            return value
    return None


def watermark_of(feature: JSON, name: str) -> str | None:
    """The property that a source is walked along, as the source wrote it.

    pgstac keeps the begin of an item's interval in its column `datetime`, and sorts and filters by that.
    """
    properties: Any = feature.get("properties")
    if not isinstance(properties, dict):
        return None
    value = properties.get(name)
    if name == "datetime" and properties.get("start_datetime") and properties.get("end_datetime"):
        value = properties["start_datetime"]
    return value if isinstance(value, str) else None


def instant(text: str) -> datetime:
    """Parse RFC 3339; no zone means UTC. Raises ValueError."""
    when = datetime.fromisoformat(text)
    try:
        return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    except OverflowError:  # the year 1 east of Greenwich
        raise ValueError(text) from None


def next_instant(text: str) -> datetime:
    """The next instant that the source could write in the precision of `text`."""
    fraction = text.partition(".")[2].rstrip("Zz").partition("+")[0]
    step = timedelta(seconds=1) if not fraction else timedelta(milliseconds=1 if len(fraction) <= 3 else 0.001)
    return instant(text) + step


def rfc3339(when: datetime) -> str:
    """UTC with microseconds and Z."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
