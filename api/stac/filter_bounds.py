"""How large a filter or a query may be, looked at before any parser or database sees it: linear scans of our own.

cql2 0.6.0 dies with a segmentation fault on 3,000 nested brackets and grows without end on 3,000 NOTs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import cql2
import orjson

from api.bounds import check_text, measure, refuse
from api.settings import ApiSettings
from api.stac.predicates import is_predicate

_WORD = re.compile(r"[A-Za-z_][\w:.-]*|\d[\w.]*|'(?:[^']|'')*'|\"[^\"]*\"|\S")


def check_filter(value: Any, language: str, settings: ApiSettings) -> None:
    """A filter in CQL2 text, or in CQL2 JSON as a text or as JSON. Raises Problem: 400 with a code of what is wrong with it."""
    if isinstance(value, str):
        check_text(value, "filter")
        if language != "cql2-json":
            check_cql2_text(value, settings)
            return
        if len(value) > settings.max_filter_bytes:
            raise refuse(
                "FILTER_TOO_LONG",
                f"a filter has at most {settings.max_filter_bytes} bytes",
                limit=settings.max_filter_bytes,
            )
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            raise refuse("INVALID_FILTER", "the filter is no JSON", field="filter") from None
    check_cql2_json(value, settings)


def check_cql2_text(text: str, settings: ApiSettings) -> None:
    """Bound bytes, nesting of brackets and NOT, and terms; then let the parser see whether it is CQL2."""
    if len(text.encode("utf-8", "surrogatepass")) > settings.max_filter_bytes:
        raise refuse(
            "FILTER_TOO_LONG",
            f"a filter has at most {settings.max_filter_bytes} bytes",
            limit=settings.max_filter_bytes,
        )
    depth = deepest = nots = terms = 0
    for match in _WORD.finditer(text):
        word = match[0]
        terms += 1
        nots = nots + 1 if word.upper() == "NOT" else nots
        depth += (word == "(") - (word == ")")
        deepest = max(deepest, depth)
    if deepest > settings.max_filter_depth or nots > settings.max_filter_depth:
        raise refuse(
            "FILTER_TOO_DEEP",
            f"brackets and NOT nest at most {settings.max_filter_depth} deep",
            limit=settings.max_filter_depth,
        )
    if terms > settings.max_filter_terms:
        raise refuse(
            "FILTER_TOO_LONG",
            f"a filter has at most {settings.max_filter_terms} terms",
            limit=settings.max_filter_terms,
        )
    _parse(lambda: cql2.parse_text(text))


def check_cql2_json(value: Any, settings: ApiSettings) -> None:
    """Bound depth and size, then let the parser see whether it is CQL2."""
    if not isinstance(value, dict):
        raise refuse("INVALID_FILTER", "a CQL2 JSON filter is an object", field="filter")
    most = settings.max_filter_terms * 20
    too_long = refuse("FILTER_TOO_LONG", "the filter has too many members", limit=most)
    if measure(value, most, too_long) > settings.max_filter_depth * 2:
        raise refuse(
            "FILTER_TOO_DEEP",
            f"a filter nests at most {settings.max_filter_depth} deep",
            limit=settings.max_filter_depth,
        )
    check_operators(_operators(value), settings)
    _parse(lambda: cql2.parse_json(orjson.dumps(value).decode()))


def _parse(work: Callable[[], cql2.Expr]) -> None:
    try:
        expression = work().to_json()
    except Exception:  # noqa: BLE001 - a foreign parser; whatever it says, the filter is not usable
        expression = None
    if not is_predicate(expression):
        raise refuse("INVALID_FILTER", "the filter is not valid CQL2", field="filter")


def check_operators(number: int, settings: ApiSettings) -> None:
    """PostgreSQL plans each operator of a filter for each month that it looks through."""
    most = settings.max_filter_operators
    if number > most:
        raise refuse("FILTER_TOO_LONG", f"a filter has at most {most} operators", limit=most, actual=number)


def _operators(expression: Any) -> int:
    number, pending = 0, [expression]
    while pending:
        one = pending.pop()
        number += isinstance(one, dict) and "op" in one
        pending += one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
    return number


def check_query(value: Any, settings: ApiSettings) -> None:
    """The query extension: an object, as JSON text in a GET, that asks no more than a filter may."""
    query = value
    if isinstance(value, str):
        try:
            query = orjson.loads(value)
        except orjson.JSONDecodeError:
            raise refuse("INVALID_QUERY", "query is a JSON object", field="query") from None
    if not isinstance(query, dict):
        raise refuse("INVALID_QUERY", "query is a JSON object", field="query")
    asked = list(query.values())
    check_operators(sum(len(one) if isinstance(one, dict) else 1 for one in asked), settings)
    most = settings.max_filter_terms * 20
    measure(query, most, refuse("FILTER_TOO_LONG", "the query has too many members", limit=most))
