"""What a STAC item search asks, read from a POST body or query parameters, and the test of items that it makes.

CQL2 (text and JSON): comparisons of properties with TIMESTAMP('...'), texts or numbers, joined by AND.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
import shapely
from shapely.geometry import box, shape

JSON = dict[str, Any]
MAX_LIMIT = 1_000

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "<>": operator.ne, ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le,
    "eq": operator.eq, "neq": operator.ne, "gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le,
}  # fmt: skip
_TERM = re.compile(
    r"\s*\"?(?P<name>[\w:.]+)\"?\s*(?P<op><=|>=|<>|=|<|>)\s*"
    r"(?:TIMESTAMP\('(?P<time>[^']+)'\)|'(?P<text>(?:[^']|'')*)'|(?P<number>-?\d+(?:\.\d+)?))\s*",
    re.IGNORECASE,
)


class SearchInvalid(Exception):
    """The search cannot be understood; the server answers 400."""


@dataclass(frozen=True, slots=True)
class Term:
    """A comparison of one property; times are datetimes, on both sides."""

    name: str
    op: str
    value: Any

    def passes(self, found: Any) -> bool:
        """Whether an item's value passes; one that is missing does not."""
        number = (int, float)
        same = type(found) is type(self.value) or (isinstance(found, number) and isinstance(self.value, number))
        if not same:
            return False
        return _OPERATORS[self.op](found, self.value)


@dataclass(frozen=True, slots=True)
class Search:
    """A search: None means "any". `sortby` is (property, descending)."""

    collections: tuple[str, ...] | None
    ids: tuple[str, ...] | None
    limit: int
    sortby: tuple[str, bool]
    terms: tuple[Term, ...]
    area: Any
    during: tuple[datetime | None, datetime | None] | None
    token: str | None
    asked: JSON  # as asked, for links


def instant(text: Any) -> datetime:
    """RFC 3339; a time without zone is UTC. Raises SearchInvalid."""
    try:
        when = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise SearchInvalid(f"no time: {text!r}") from None
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)


def from_query(query: Mapping[str, str]) -> JSON:
    """A GET search as the body that a POST would have. Raises SearchInvalid."""
    body: JSON = dict(query)
    for name in ("collections", "ids"):
        if name in body:
            body[name] = [part for part in body[name].split(",") if part]
    try:
        if "limit" in body:
            body["limit"] = int(body["limit"])
        if "bbox" in body:
            body["bbox"] = [float(part) for part in body["bbox"].split(",")]
        for name in ("query", "intersects"):
            if name in body:
                body[name] = orjson.loads(body[name])
        if body.get("filter-lang") == "cql2-json" and "filter" in body:
            body["filter"] = orjson.loads(body["filter"])
    except ValueError as error:
        raise SearchInvalid(f"unreadable parameter: {error}") from None
    if "sortby" in body:
        keys = [part.strip() for part in body["sortby"].split(",")]
        body["sortby"] = [{"field": k.lstrip("+-"), "direction": "desc" if k.startswith("-") else "asc"} for k in keys]
    return body


def read(body: Any, *, default_limit: int, max_limit: int) -> Search:
    """Read a search. Raises SearchInvalid."""
    if not isinstance(body, dict):
        raise SearchInvalid("the body is no object")
    limit = body.get("limit", default_limit)
    if not isinstance(limit, int) or not 1 <= limit <= max_limit:
        raise SearchInvalid(f"limit must be 1 to {max_limit}")
    if "bbox" in body and "intersects" in body:
        raise SearchInvalid("either bbox or intersects")
    token = body.get("token") or body.get("next")
    return Search(
        _texts(body, "collections"), _texts(body, "ids"), limit, _sortby(body.get("sortby")), _terms(body), _area(body),
        _during(body.get("datetime")), token, body,
    )  # fmt: skip


def _texts(body: JSON, name: str) -> tuple[str, ...] | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise SearchInvalid(f"{name} must be a list of texts")
    return tuple(value)


def _sortby(value: Any) -> tuple[str, bool]:
    if not value:
        return "datetime", True
    try:
        return str(value[0]["field"]).removeprefix("properties."), value[0].get("direction", "asc") == "desc"
    except (KeyError, TypeError, AttributeError):
        raise SearchInvalid("sortby must be a list of {field, direction}") from None


def _terms(body: JSON) -> tuple[Term, ...]:
    found: list[Term] = []
    if (query := body.get("query")) is not None:
        try:
            found += [_term(name, op, value) for name, ops in query.items() for op, value in ops.items()]
        except AttributeError:
            raise SearchInvalid("query must be {property: {operator: value}}") from None
    if (filter_ := body.get("filter")) is not None:
        found += _cql2_text(filter_) if isinstance(filter_, str) else _cql2_json(filter_)
    return tuple(found)


def _term(name: str, op: str, value: Any) -> Term:
    if op not in _OPERATORS:
        raise SearchInvalid(f"no operator {op!r}")
    name = name.removeprefix("properties.")
    is_time = isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\dT", value)
    return Term(name, op, instant(value) if is_time else value)


def _cql2_text(text: str) -> list[Term]:
    terms = []
    for part in re.split(r"\s+AND\s+", text, flags=re.IGNORECASE):
        match = _TERM.fullmatch(part)
        if match is None:
            raise SearchInvalid(f"cannot read {part[:80]!r}")
        number = match["number"]
        terms.append(_term(match["name"], match["op"], match["time"] or (float(number) if number else match["text"])))
    return terms


def _cql2_json(node: Any) -> list[Term]:
    try:
        if node["op"] == "and":
            return [term for part in node["args"] for term in _cql2_json(part)]
        name, value = node["args"]
        literal = value["timestamp"] if isinstance(value, dict) else value
        return [_term(name["property"], node["op"], literal)]
    except (KeyError, TypeError, ValueError):
        raise SearchInvalid("cannot read the filter") from None


def _area(body: JSON) -> Any:
    """The area as a shape; a box whose west lies east of its east goes over the antimeridian."""
    try:
        if (value := body.get("intersects")) is not None:
            return shape(value)
        if (value := body.get("bbox")) is None:
            return None
        west, south, east, north = value if len(value) == 4 else (*value[:2], *value[3:5])
        if west <= east:
            return box(west, south, east, north)
        return shapely.union(box(west, south, 180, north), box(-180, south, east, north))
    except (TypeError, ValueError, KeyError, AttributeError, shapely.errors.ShapelyError):
        raise SearchInvalid("cannot read the area") from None


def _during(text: Any) -> tuple[datetime | None, datetime | None] | None:
    if text is None:
        return None
    ends = str(text).split("/")
    if len(ends) > 2:
        raise SearchInvalid("datetime has more than two ends")
    first, last = (None if end in ("", "..") else instant(end) for end in (ends[0], ends[-1]))
    return first, last
