"""The query extension's `query` as CQL2 JSON: then one way leads to the database. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel
from stac_fastapi.extensions.query import QueryExtension as StockQueryExtension

from api.problems import Problem

JSON = dict[str, Any]

_COMPARED = {"eq": "=", "neq": "<>", "ne": "<>", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}


class QueryRequest(BaseModel):
    """The member `query` of a posted search."""

    query: dict[str, dict[str, Any]] | None = None


class QueryExtension(StockQueryExtension):
    """stac-fastapi's, with all operators of the extension."""

    POST = QueryRequest


def as_filter(query: Mapping[str, Any]) -> JSON | None:
    """Return a filter that finds the same; None for an empty query, which finds everything.

    Raises:
        Problem: 400 `INVALID_QUERY`.
    """
    parts = [_predicate(name, op, value) for name, asked in query.items() for op, value in _asked(name, asked)]
    return {"op": "and", "args": parts} if parts else None


def _asked(name: str, asked: Any) -> list[tuple[str, Any]]:
    """Operators and values of a property; a value alone is compared."""
    if isinstance(asked, dict):
        return list(asked.items())
    return [("eq", asked)]


def _predicate(name: str, op: str, value: Any) -> JSON:
    prop = {"property": name}
    if op in _COMPARED and isinstance(value, str | int | float):
        return {"op": _COMPARED[op], "args": [prop, value]}
    if op in _PATTERNS and isinstance(value, str):
        return {"op": "like", "args": [prop, _PATTERNS[op](_escaped(value))]}
    if op == "in" and isinstance(value, list) and value and all(isinstance(one, str | int | float) for one in value):
        return {"op": "in", "args": [prop, value]}
    raise Problem(400, "INVALID_QUERY", f"{name!r} is not asked by {op!r} and such a value", field="query")


_PATTERNS: Mapping[str, Callable[[str], str]] = {
    "startsWith": lambda text: f"{text}%",
    "endsWith": lambda text: f"%{text}",
    "contains": lambda text: f"%{text}%",
}


def _escaped(text: str) -> str:
    """A text whose wildcards stand for themselves."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
