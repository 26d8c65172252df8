"""The full text search's language as harvesters use it: `field:"value"`, `field:[A TO B]`, `(... OR ...)`, `AND` or a blank."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import shapely

from tests.upstreams.products import Product

#: Ends of a range, both included; None is open.
Range = tuple[datetime | None, datetime | None]
Test = Callable[[Product], bool]
_TERM = re.compile(
    r'(?P<field>\w+):(?:\[(?P<low>[^\]]+?) TO (?P<high>[^\]]+?)\]|"(?P<phrase>(?:[^"\\]|\\.)*)"|(?P<word>[^\s()"]+))'
)
TIMES = ("ingestiondate", "creationdate", "beginposition")
TEXTS: dict[str, Callable[[Product], str]] = {
    "platformname": lambda p: p.collection.capitalize(),
    "producttype": lambda p: "GRD" if p.kind == "GRD" else p.product_type,
    "identifier": lambda p: p.stem,
}


class QueryInvalid(Exception):
    """The search engine does not understand it; the message is its own."""


@dataclass(frozen=True, slots=True)
class SolrQuery:
    """Times are ranges; all else are tests, whose `key` is the same for the same tests."""

    key: str
    tests: tuple[Test, ...] = ()
    ranges: dict[str, Range] = field(default_factory=dict)


def parse(text: str) -> SolrQuery:
    """Read a query. Raises QueryInvalid."""
    key: list[str] = []
    tests: list[Test] = []
    ranges: dict[str, Range] = {}
    at = 0
    while at < len(text):
        if gap := re.compile(r"\s+|AND\b").match(text, at):
            at = gap.end()
            continue
        begin = at
        any_of, at = _group(text, at)
        if len(any_of) == 1 and any_of[0]["field"].lower() in TIMES:
            ranges[any_of[0]["field"].lower()] = _range(any_of[0])
            continue
        key.append(text[begin:at])
        alternatives = [_test(match) for match in any_of]
        tests.append(lambda p, alternatives=alternatives: any(test(p) for test in alternatives))  # type: ignore[misc]
    return SolrQuery(" ".join(key), tuple(tests), ranges)


def _group(text: str, at: int) -> tuple[list[re.Match[str]], int]:
    """One term, or several in parentheses with OR between."""
    in_group = text[at] == "("
    at += in_group
    found = []
    while True:
        match = _TERM.match(text, at)
        if match is None:
            raise QueryInvalid(f"org.apache.solr.search.SyntaxError: Cannot parse '{text}' at {at}")
        found.append(match)
        at = match.end()
        if not in_group:
            return found, at
        if text[at : at + 1] == ")":
            return found, at + 1
        if not text.startswith(" OR ", at):
            raise QueryInvalid(f"org.apache.solr.search.SyntaxError: Cannot parse '{text}' at {at}")
        at += 4


def _test(match: re.Match[str]) -> Test:
    name = match["field"].lower()
    value = match["phrase"] if match["phrase"] is not None else match["word"]
    if name == "footprint" and value is not None:
        return _meets(value)
    if name not in TEXTS or value is None:
        raise QueryInvalid(f"undefined field {match['field']}")
    read = TEXTS[name]
    return lambda p: read(p) == value


def _meets(value: str) -> Test:
    inner = re.fullmatch(r"Intersects\((.*)\)", value)
    try:
        area = shapely.from_wkt(inner[1]) if inner else None
    except shapely.errors.ShapelyError:
        area = None
    if area is None:
        raise QueryInvalid(f"Unable to parse shape given formats: {value}")

    def test(product: Product) -> bool:
        geometry: Any = product.geometry()
        return geometry is not None and bool(shapely.geometry.shape(geometry).intersects(area))

    return test


def _range(match: re.Match[str]) -> Range:
    if match["low"] is None:
        raise QueryInvalid(f"Invalid Date String:'{match['phrase'] or match['word']}'")
    return _instant(match["low"]), _instant(match["high"])


def _instant(text: str) -> datetime | None:
    """A time in UTC, in quotes or bare; None for `*`."""
    bare = text.strip('"')
    if bare == "*":
        return None
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", bare):
        raise QueryInvalid(f"Invalid Date String:'{bare}'")
    return datetime.fromisoformat(bare).astimezone(UTC)
