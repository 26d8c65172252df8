"""What the items of a collection have: each property's types, values where they are few, ranges of numbers; where and when items are.

A summary is plain JSON. It is a function of the set of items alone: to summarise two lots and to merge gives the same as to summarise all,
so that it can grow with each page of a harvest and be made anew in slices. Ranges are rounded outwards, numbers to three digits and times
to days: bounds that hold and that a growing collection seldom moves.

    {"properties": {"platform": {"types": ["string"], "values": ["sentinel-2a"]},
                    "eo:cloud_cover": {"types": ["integer", "number"], "minimum": 0, "maximum": 99.8},
                    "instruments": {"types": ["array"], "items": {"types": ["string"], "values": ["msi"]}}},
     "bbox": [west, south, east, north], "interval": ["2026-01-01T00:00:00Z", "2026-03-01T23:59:59.999999Z"]}

`values` is missing when they are many. "date-time" is a type of its own here. What is missing or null counts for nothing.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from itertools import chain
from operator import gt
from types import NoneType
from typing import Any

JSON = dict[str, Any]

#: Distinct texts of a property that are told, and the longest of them; a property with more or longer ones has none.
MOST_VALUES = 30
LONGEST_VALUE = 100
#: Properties of a collection; those that come later in the alphabet are not told.
MOST_PROPERTIES = 500
#: Properties that are times by STAC's definition (and by `ingest.sanitise`): nobody looks at each of them.
_TIMES = frozenset({"datetime", "start_datetime", "end_datetime", "created", "updated", "published", "expires"})
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_FLOOR, _CEILING = (Context(prec=3, rounding=rounding) for rounding in (ROUND_FLOOR, ROUND_CEILING))
_EMPTY: JSON = {"properties": {}}


def summarise(properties: Iterable[JSON], boxes: Iterable[Any], first: datetime | None, last: datetime | None) -> JSON:
    """Return the summary of some items.

    Args:
        properties: each item's.
        boxes: each item's bbox (RFC 7946), degrees; what is none is passed over.
        first: when the earliest item begins.
        last: when the latest one ends.
    """
    alike: defaultdict[tuple[str, ...], list[Iterable[Any]]] = defaultdict(list)
    for one in properties:  # most items of a collection have the same properties
        alike[tuple(one)].append(one.values())
    found: JSON = {"properties": _columns(alike)}
    if box := _around([box for box in boxes if isinstance(box, list)]):
        found["bbox"] = box
    if first is not None and last is not None:
        found["interval"] = [
            f"{first.astimezone(UTC):%Y-%m-%d}T00:00:00Z",
            f"{last.astimezone(UTC):%Y-%m-%d}T23:59:59.999999Z",
        ]
    return found


def summary_of(items: Sequence[JSON], first: datetime | None, last: datetime | None) -> JSON:
    """The summary of whole items, whoever has made them."""
    properties = (item.get("properties") for item in items)
    objects = (one for one in properties if isinstance(one, dict))
    return summarise(objects, (item.get("bbox") for item in items), first, last)


def merged(one: JSON | None, other: JSON | None) -> JSON:
    """Return the summary of the items of both."""
    if not one or not other:
        return one or other or _EMPTY
    mine, yours = one["properties"], other["properties"]
    names = sorted({*mine, *yours})[:MOST_PROPERTIES]
    found: JSON = {"properties": {name: _both(mine.get(name), yours.get(name)) for name in names}}
    if box := _around([summary["bbox"] for summary in (one, other) if "bbox" in summary]):
        found["bbox"] = box
    if intervals := [summary["interval"] for summary in (one, other) if "interval" in summary]:
        found["interval"] = [min(begin for begin, _ in intervals), max(end for _, end in intervals)]
    return found


def _columns(alike: Mapping[tuple[str, ...], Sequence[Iterable[Any]]]) -> JSON:
    """The summaries of the properties of items, of which some have the same names in the same order."""
    found: JSON = {}
    for names, rows in alike.items():
        for name, values in zip(names, zip(*rows, strict=True), strict=True):
            told = _time(values) if name in _TIMES else _column(values)
            if told["types"]:
                found[name] = _both(told, found.get(name))
    return {name: found[name] for name in sorted(found)[:MOST_PROPERTIES]}


def _time(values: Iterable[Any]) -> JSON:
    return {"types": ["date-time"] if any(value is not None for value in values) else []}


def _column(values: Sequence[Any]) -> JSON:
    """The summary of some values; nulls are none."""
    kinds = set(map(type, values))
    if len(kinds) == 1 and NoneType not in kinds:
        return _alike(kinds.pop(), values)
    found: JSON = {"types": []}
    for kind in kinds - {NoneType}:
        found = _both(found, _alike(kind, [value for value in values if type(value) is kind]))
    return found


def _alike(kind: type, values: Sequence[Any]) -> JSON:
    """The summary of values of one Python type."""
    if kind is str:
        return _texts(values)
    if kind is bool:
        return {"types": ["boolean"]}
    if kind is int or kind is float:
        low, high = min(values), max(values)
        return {"types": ["integer" if kind is int else "number"], "minimum": _down(low), "maximum": _up(high)}
    if kind is list:
        elements = _column(list(chain.from_iterable(values)))
        return {"types": ["array"], "items": elements} if elements["types"] else {"types": ["array"]}
    return {"types": ["object"]}


def _texts(values: Sequence[str]) -> JSON:
    distinct = set(values)
    words = [value for value in distinct if not _TIME.fullmatch(value)]
    if not words:
        return {"types": ["date-time"]}
    if len(words) < len(distinct):
        return {"types": ["date-time", "string"]}
    if len(words) > MOST_VALUES or max(map(len, words)) > LONGEST_VALUE:
        return {"types": ["string"]}
    return {"types": ["string"], "values": sorted(words)}


def _both(one: JSON | None, other: JSON | None) -> JSON:
    """The summary of one property's values in two lots."""
    if one is None or other is None:
        found = one if other is None else other
        assert found is not None
        return found
    if one == other:
        return one
    types = {*one["types"], *other["types"]}
    found = {"types": sorted(types)}
    lots = [lot.get("values") for lot in (one, other) if "string" in lot["types"]]
    if "date-time" not in types and lots and None not in lots:
        values = sorted({value for lot in lots for value in lot or ()})
        if len(values) <= MOST_VALUES:
            found["values"] = values
    for name, choose in (("minimum", min), ("maximum", max)):
        if bounds := [lot[name] for lot in (one, other) if name in lot]:
            found[name] = choose(bounds)
    if elements := [lot["items"] for lot in (one, other) if "items" in lot]:
        found["items"] = _both(elements[0], elements[-1])
    return found


def _down(number: float) -> float:
    return _rounded(number, _FLOOR)


def _up(number: float) -> float:
    return _rounded(number, _CEILING)


def _rounded(number: float, context: Context) -> float:
    rounded = context.create_decimal(repr(number))
    return int(rounded) if isinstance(number, int) else float(rounded)


def _around(boxes: Sequence[list[Any]]) -> list[float] | None:
    """A box around all; one that crosses the antimeridian reaches around the Earth."""
    if set(map(len, boxes)) != {4}:
        boxes = [box if len(box) == 4 else [*box[:2], *box[3:5]] for box in boxes if len(box) in (4, 6)]
    if not set(map(type, chain.from_iterable(boxes))) <= {int, float}:
        boxes = [box for box in boxes if set(map(type, box)) <= {int, float}]
    if not boxes:
        return None
    wests, souths, easts, norths = zip(*boxes, strict=True)
    south, north = min(souths), max(norths)
    return [-180, south, 180, north] if any(map(gt, wests, easts)) else [min(wests), south, max(easts), north]
