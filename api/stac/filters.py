"""CQL2 as pgstac takes it: the same filter in those of its operators that it evaluates rightly, and in operators of ours for the rest.

pgstac 0.10 reads comparisons with dates as texts, drops brackets of arithmetic, compares numbers of two properties as texts, arrays in
order, and takes the string 'lower' for a function (`tests/api/test_cql2.py` holds every operator against plain Python). Its table
`cql2_ops` takes further operators: ours (`0011_queryables.sql`) begin with `federator_`. All of this is pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from api.problems import Problem
from api.stac.geometries import spatial
from api.stac.lineage_filters import NotComparable, comparison, lineage_property
from api.stac.queries import as_filter

JSON = dict[str, Any]

#: Names of drafts of the standard, which clients still send.
_ALIASES = {
    "eq": "=", "neq": "<>", "ne": "<>", "!=": "<>", "lt": "<", "lte": "<=", "le": "<=", "gt": ">", "gte": ">=", "ge": ">=",
    "intersects": "s_intersects", "anyinteracts": "t_intersects", "a_contained_by": "a_containedby",
}  # fmt: skip
_COMPARISONS = {"=": "eq", "<>": "ne", "<": "lt", ">": "gt", "<=": "le", ">=": "ge"}
_ARITHMETIC = {"+": "add", "-": "subtract", "*": "multiply", "/": "divide", "^": "power", "%": "modulo", "div": "div"}
_TEXT = frozenset({"casei", "accenti", "upper", "lower"})
#: A comparison with a time -> the temporal function that says the same, and whether it is denied.
_AS_TEMPORAL = {
    "=": ("t_intersects", False),
    "<>": ("t_intersects", True),
    "<": ("t_before", False),
    ">": ("t_after", False),
    "<=": ("t_after", True),
    ">=": ("t_before", True),
}
_TEMPORAL = frozenset(
    f"t_{name}"
    for name in (
        "after", "before", "contains", "disjoint", "during", "equals", "finishedby", "finishes", "intersects", "meets", "metby",
        "overlappedby", "overlaps", "startedby", "starts",
    )
)  # fmt: skip
_ARRAYS = ("a_contains", "a_containedby", "a_equals", "a_overlaps")
#: Properties that pgstac reads as times by themselves.
_TIMES = frozenset({"datetime", "start_datetime", "end_datetime", "created", "updated", "published"})
#: Up to here every whole number is a float.
_EXACT = 2**53
#: Strings that pgstac takes for parts of a filter's structure.
_STRUCTURE = frozenset({"op", "args", "filter", "property", "upper", "lower", "timestamp", "interval"})
#: True of no item; the planner sees that at once.
_NEVER: JSON = {"op": "federator_never", "args": [{"property": "id"}]}
#: With a column that is a text among an operator's arguments pgstac gives the others as they are stored.
_RAW: JSON = {"property": "id"}


def refused(detail: str, code: str = "INVALID_FILTER", **facts: Any) -> Problem:
    """A 400 for a filter."""
    return Problem(400, code, detail, field="filter", **facts)


def for_pgstac(expression: Any) -> Any:
    """Return the filter as pgstac takes it; True or False when it is that of every item. Its depth must have been bounded.

    Args:
        expression: a predicate in CQL2 JSON.

    Raises:
        Problem: 400 `UNKNOWN_FUNCTION`, `UNSUPPORTED_GEOMETRY` or `INVALID_FILTER`.
    """
    if isinstance(expression, bool):
        return expression
    op, args = _node(expression)
    if op in ("and", "or"):
        return _joined(op, [for_pgstac(one) for one in args])
    if any(map(lineage_property, args)):
        return _of_lineage(op, args)
    if op == "not":
        inner = for_pgstac(args[0])
        return (not inner) if isinstance(inner, bool) else _made("not", inner)
    if op in _COMPARISONS:
        return _comparison(op, *args)
    if op in _TEMPORAL:
        return _made(op, *map(_temporal, args))
    if op.startswith("s_"):
        return spatial(op, args)
    if op in _ARRAYS:
        return _array(op, *map(_array_operand, args))
    if op in _PREDICATES:
        return _PREDICATES[op](*args)
    raise refused(f"there is no function {op!r} here", "UNKNOWN_FUNCTION", function=op)


def _of_lineage(op: str, args: list[Any]) -> Any:
    try:
        return comparison(op, args)
    except NotComparable as error:
        raise refused(str(error)) from None


def planned(search: Mapping[str, Any]) -> JSON:
    """Return a search whose filter, and query, are a filter as pgstac takes it, and without one that is true of every item.

    Raises:
        Problem: as `for_pgstac`, and 400 `INVALID_QUERY`.
    """
    rest = {name: value for name, value in search.items() if name not in ("filter", "query")}
    asked = [search.get("filter"), as_filter(search.get("query") or {})]
    found = _joined("and", [for_pgstac(one) for one in asked if one is not None])
    return rest if found is True else {**rest, "filter": _NEVER if found is False else found}


def _made(op: str, *args: Any) -> JSON:
    return {"op": op, "args": list(args)}


def _node(expression: Any) -> tuple[str, list[Any]]:
    if not isinstance(expression, dict) or not isinstance(expression.get("op"), str):
        raise refused("something in the filter is no predicate")
    op, args = expression["op"].lower(), expression.get("args")
    if not isinstance(args, list) or not args:
        raise refused(f"{op!r} has no arguments")
    return _ALIASES.get(op, op), args


def _joined(op: str, parts: list[Any]) -> Any:
    """`and` or `or` without the literals true and false, which pgstac takes for texts."""
    deciding = op == "or"
    if any(part is deciding for part in parts):
        return deciding
    rest = [part for part in parts if not isinstance(part, bool)]
    return _made(op, *rest) if rest else not deciding


# Scalars


def _scalar(value: Any) -> Any:
    if value is None or isinstance(value, list):
        raise refused("a value is a text, a number, true, false, a time, a property or a function")
    if isinstance(value, float):
        return _plain(value)
    if isinstance(value, str):
        return _made("federator_concat", value[:1], value[1:]) if value in _STRUCTURE else value
    if not isinstance(value, dict):
        return value
    if "property" in value:
        return _property(value)
    if _is_time(value):
        return _temporal(value)
    op, args = _node(value)
    if op in _ARITHMETIC:
        return _calculated(op, args)
    if op not in _TEXT:
        raise refused(f"there is no function {op!r} here", "UNKNOWN_FUNCTION", function=op)
    if len(args) != 1:
        raise refused(f"{op!r} takes one argument")
    return _made(op, _scalar(args[0]))


def _property(value: JSON) -> JSON:
    name = value["property"]
    if not isinstance(name, str) or not name.strip() or len(name) > 200:
        raise refused("a property has a name")
    return {"property": name}


def _is_property(value: Any) -> bool:
    return isinstance(value, dict) and "property" in value


def _is_time(value: Any) -> bool:
    return isinstance(value, dict) and ("timestamp" in value or "date" in value)


def _calculated(op: str, args: list[Any]) -> JSON:
    if len(args) != 2:
        raise refused(f"{op!r} takes two arguments")
    return _made(f"federator_{_ARITHMETIC[op]}", *map(_number, args))


def _number(value: Any) -> Any:
    return _scalar(value) if _is_arithmetic(value) else _made("federator_number", _scalar(value))


def _is_arithmetic(value: Any) -> bool:
    return isinstance(value, dict) and value.get("op") in _ARITHMETIC


# Comparisons


def _comparison(op: str, *args: Any) -> Any:
    if len(args) != 2:
        raise refused(f"{op!r} takes two arguments")
    if any(map(_is_time, args)):
        function, is_denied = _AS_TEMPORAL[op]
        said = _made(function, *map(_temporal, args))
        return _made("not", said) if is_denied else said
    if any(map(_is_arithmetic, args)):
        return _made(op, *map(_number, args))
    if all(map(_is_property, args)) and not any(_named(one) in _TIMES for one in args):
        return _made(f"federator_json_{_COMPARISONS[op]}", *map(_property, args), _RAW)
    return _made(op, *map(_scalar, args))


def _named(value: JSON) -> str:
    return str(value["property"]).removeprefix("properties.")


def _between(*args: Any) -> Any:
    if len(args) == 2 and isinstance(args[1], list):  # as in a draft of the standard
        args = (args[0], *args[1])
    if len(args) != 3:
        raise refused("'between' takes three arguments")
    value, low, high = args
    if any(_is_time(one) or _is_arithmetic(one) for one in args) or any(map(_is_property, (low, high))):
        return _made("and", _comparison(">=", value, low), _comparison("<=", value, high))
    return _made("between", *map(_scalar, args))


def _in(*args: Any) -> Any:
    if len(args) != 2 or not isinstance(args[1], list) or not args[1]:
        raise refused("'in' takes a value and a list of values")
    value, values = args
    if _is_arithmetic(value) or any(_is_time(one) or _is_arithmetic(one) or _is_property(one) for one in values):
        return _joined("or", [_comparison("=", value, one) for one in values])
    return _made("in", _scalar(value), [_scalar(one) for one in values])


def _like(*args: Any) -> Any:
    if len(args) != 2:
        raise refused("'like' takes two arguments")
    return _made("like", *map(_scalar, args))


def _is_null(*args: Any) -> Any:
    if len(args) != 1:
        raise refused("'isNull' takes one argument")
    return _made("isNull", _scalar(args[0]))


_PREDICATES: Mapping[str, Callable[..., Any]] = {"between": _between, "in": _in, "like": _like, "isnull": _is_null}


# Times


def _temporal(value: Any) -> Any:
    """An instant, a date or an interval of them; pgstac reads them."""
    if isinstance(value, str) or _is_property(value):
        return value if isinstance(value, str) else _property(value)
    if isinstance(value, dict):
        for kind in ("timestamp", "date"):
            if isinstance(value.get(kind), str):
                return {kind: value[kind]}
        ends = value.get("interval")
        if isinstance(ends, list) and len(ends) == 2:
            return {"interval": [_temporal(one) for one in ends]}
    raise refused("a time is a timestamp, a date, a property or an interval of two of them")


# Arrays


def _array_operand(value: Any) -> Any:
    if _is_property(value):
        return _property(value)
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str | int | float) for one in values):
        raise refused("an array holds texts, numbers, true and false")
    return [_plain(one) for one in values]


def _plain(value: Any) -> Any:
    """A number that is whole without the point that pgstac's texts of integers have not, as far as it is exact."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT else value


def _array(op: str, *args: Any) -> Any:
    """An array function. pgstac compares arrays as texts and in order; arrays of the standard are sets of values."""
    if len(args) != 2:
        raise refused(f"{op!r} takes two arguments")
    if op == "a_equals":
        return _made("and", _array("a_contains", *args), _array("a_containedby", *args))
    first, second = args
    if isinstance(first, list) and isinstance(second, list):
        return _SETS[op](set(map(repr, first)), set(map(repr, second)))
    if all(_is_property(one) or _is_texts(one) for one in args) and not all(map(_is_property, args)):
        return _made("a_contained_by" if op == "a_containedby" else op, *args)
    return _made(f"federator_json_{op[2:]}", _as_json(first), _as_json(second), _RAW)


_SETS: Mapping[str, Callable[[set[str], set[str]], bool]] = {
    "a_contains": lambda a, b: a >= b,
    "a_containedby": lambda a, b: a <= b,
    "a_overlaps": lambda a, b: bool(a & b),
}


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value) and "property" not in value


def _as_json(value: Any) -> Any:
    """A literal as JSON text: within a list pgstac would look for its own words."""
    return value if _is_property(value) else orjson.dumps(value).decode()
