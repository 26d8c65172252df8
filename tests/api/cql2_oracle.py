"""CQL2 evaluated on an item in plain Python, straight from the standard's words (OGC 21-065r2): what the tests hold the service against.

Three-valued: True, False or None (unknown), as in SQL. Times are compared as closed intervals [first, last]; a date is its whole day.
An item's `datetime` is the beginning of what it was sensed in, `end_datetime` its end, as the whole service sees items.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import shapely
from shapely.geometry import box, shape

Truth = bool | None
Range = tuple[datetime | None, datetime | None]
_EVER = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


def evaluate(expression: Any, item: dict[str, Any]) -> Truth:
    """Whether an expression (CQL2 JSON) is true of an item."""
    if isinstance(expression, bool):
        return expression
    op, args = expression["op"].lower(), expression["args"]
    if op == "and":
        return _and([evaluate(one, item) for one in args])
    if op == "or":
        return _not(_and([_not(evaluate(one, item)) for one in args]))
    if op == "not":
        return _not(evaluate(args[0], item))
    if op == "isnull":
        return value(args[0], item) is None
    if op == "between":
        args = [args[0], *args[1]] if len(args) == 2 else args
        parts = [{"op": ">=", "args": args[:2]}, {"op": "<=", "args": [args[0], args[2]]}]
        return evaluate({"op": "and", "args": parts}, item)
    if op == "in":
        return evaluate({"op": "or", "args": [{"op": "=", "args": [args[0], one]} for one in args[1]]}, item)
    if op == "like":
        return _known(_like, *(value(one, item) for one in args))
    if op.startswith("s_"):
        return _known(getattr(shapely, _SPATIAL[op]), *(_geometry(one, item) for one in args))
    if op.startswith("t_"):
        return _known(_TEMPORAL[op], *(_range(one, item) for one in args))
    if op.startswith("a_"):
        return _known(_ARRAY[op], *(_set(one, item) for one in args))
    return _compared(op, args, item)


def value(expression: Any, item: dict[str, Any]) -> Any:
    """What a scalar expression is for an item; None when it is not known."""
    if not isinstance(expression, dict):
        return expression
    if "property" in expression:
        name = expression["property"].removeprefix("properties.")
        return item[name] if name in ("id", "collection", "geometry") else item["properties"].get(name)
    values = [value(one, item) for one in expression["args"]]
    return None if None in values else _FUNCTIONS[expression["op"].lower()](*values)


def _and(parts: list[Truth]) -> Truth:
    return False if False in parts else None if None in parts else True


def _not(truth: Truth) -> Truth:
    return None if truth is None else not truth


def _known(function: Callable[..., Any], *values: Any) -> Truth:
    if any(one is None for one in values):
        return None
    try:
        return bool(function(*values))
    except TypeError:  # the end of an interval is not known
        return None


def _compared(op: str, args: list[Any], item: dict[str, Any]) -> Truth:
    if any(_is_temporal(one) for one in args):
        return _known(_TIMES[op], *(_range(one, item) for one in args))
    return _known(_COMPARED[op], *(value(one, item) for one in args))


_COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: a == b,
    "<>": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
}
#: A time is before a day when it is before its begin, and not after it up to its end.
_TIMES: dict[str, Callable[[Range, Range], bool]] = {
    "=": lambda a, b: a[0] <= b[1] and b[0] <= a[1],
    "<>": lambda a, b: a[1] < b[0] or a[0] > b[1],
    "<": lambda a, b: a[1] < b[0],
    ">": lambda a, b: a[0] > b[1],
    "<=": lambda a, b: a[0] <= b[1],
    ">=": lambda a, b: a[1] >= b[0],
}


def _accents_gone(text: str) -> str:
    return "".join(sign for sign in unicodedata.normalize("NFD", text) if not unicodedata.combining(sign))


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "casei": str.casefold,
    "upper": str.upper,
    "lower": str.lower,
    "accenti": _accents_gone,
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b if b else None,
    "^": lambda a, b: a**b,
    "%": lambda a, b: math.fmod(a, b) if b else None,
    "div": lambda a, b: math.trunc(a / b) if b else None,
}


def _like(text: str, pattern: str) -> bool:
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    regex = "".join({"%": ".*", "_": "."}.get(part, re.escape(part[-1])) for part in parts)
    return re.fullmatch(regex, text, re.DOTALL) is not None


# Geometries

_SPATIAL = {
    f"s_{name}": name
    for name in ("intersects", "disjoint", "equals", "touches", "crosses", "within", "contains", "overlaps")
}


def _geometry(expression: Any, item: dict[str, Any]) -> Any:
    if "property" in expression:
        return shape(value(expression, item))
    if "bbox" in expression:
        numbers = expression["bbox"]
        west, south, east, north = numbers if len(numbers) == 4 else (*numbers[:2], *numbers[3:5])
        if west > east:
            return shapely.union_all([box(west, south, 180, north), box(-180, south, east, north)])
        return box(west, south, east, north)
    return shape(expression)


# Times


def _same(one: datetime | None, other: datetime | None) -> bool:
    if one is None or other is None:
        raise TypeError("not known")
    return one == other


_TEMPORAL: dict[str, Callable[[Range, Range], bool]] = {
    "t_after": lambda a, b: a[0] > b[1],
    "t_before": lambda a, b: a[1] < b[0],
    "t_contains": lambda a, b: a[0] < b[0] and a[1] > b[1],
    "t_disjoint": lambda a, b: a[1] < b[0] or a[0] > b[1],
    "t_during": lambda a, b: a[0] > b[0] and a[1] < b[1],
    "t_equals": lambda a, b: _same(a[0], b[0]) and _same(a[1], b[1]),
    "t_finishedby": lambda a, b: a[0] < b[0] and _same(a[1], b[1]),
    "t_finishes": lambda a, b: a[0] > b[0] and _same(a[1], b[1]),
    "t_intersects": lambda a, b: a[0] <= b[1] and a[1] >= b[0],
    "t_meets": lambda a, b: _same(a[1], b[0]),
    "t_metby": lambda a, b: _same(a[0], b[1]),
    "t_overlappedby": lambda a, b: b[0] < a[0] < b[1] < a[1],
    "t_overlaps": lambda a, b: a[0] < b[0] < a[1] < b[1],
    "t_startedby": lambda a, b: _same(a[0], b[0]) and a[1] > b[1],
    "t_starts": lambda a, b: _same(a[0], b[0]) and a[1] < b[1],
}
_NAMES = ("datetime", "start_datetime", "end_datetime", "created", "updated")


def _is_temporal(expression: Any) -> bool:
    if not isinstance(expression, dict):
        return False
    return "timestamp" in expression or "date" in expression or expression.get("property") in _NAMES


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _range(expression: Any, item: dict[str, Any]) -> Range | None:
    if isinstance(expression, str):
        return _day(expression) if len(expression) == 10 else (_instant(expression), _instant(expression))
    if "interval" in expression:
        first, last = expression["interval"]
        begin = _EVER if first == ".." else _range(first, item)
        end = _EVER if last == ".." else _range(last, item)
        return (begin and begin[0], end and end[1])
    if "date" in expression:
        return _day(expression["date"])
    if "timestamp" in expression:
        return _instant(expression["timestamp"]), _instant(expression["timestamp"])
    properties, name = item["properties"], expression["property"]
    begin = properties.get("start_datetime") or properties["datetime"]
    known = {"datetime": begin, "start_datetime": begin, "end_datetime": properties.get("end_datetime") or begin}
    text = known.get(name, properties.get(name))
    return None if text is None else (_instant(text), _instant(text))


def _day(text: str) -> Range:
    begin = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return begin, begin + timedelta(days=1) - timedelta(microseconds=1)


# Arrays, as sets

_ARRAY: dict[str, Callable[[set[Any], set[Any]], bool]] = {
    "a_contains": lambda a, b: a >= b,
    "a_containedby": lambda a, b: a <= b,
    "a_equals": lambda a, b: a == b,
    "a_overlaps": lambda a, b: bool(a & b),
}


def _set(expression: Any, item: dict[str, Any]) -> set[Any] | None:
    found = value(expression, item) if isinstance(expression, dict) else expression
    return None if found is None else set(found) if isinstance(found, list) else {found}
