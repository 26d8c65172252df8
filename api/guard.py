"""What a search may ask, checked before any parser or database sees it: linear scans of our own.

cql2 0.6.0 dies with a segmentation fault on 3,000 nested brackets and grows without end on 3,000 NOTs; pgstac takes "yesterday" as a
datetime. Every refusal is a 400 with a stable code.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import cql2
import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive

from api.problems import Problem
from api.settings import ApiSettings
from api.stac.predicates import is_predicate
from api.stac.tokens import MAX_TOKEN
from ingest.errors import RecordRejected
from ingest.sanitise import parse_time

_WORD = re.compile(r"[A-Za-z_][\w:.-]*|\d[\w.]*|'(?:[^']|'')*'|\"[^\"]*\"|\S")
_TOKEN = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_TOKEN}}}")
#: A time as QGIS writes it (Qt::ISODateWithMs). RFC 3339 has none without a zone, and others like it are refused.
_BY_QGIS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}", re.ASCII)
MAX_DEPTH = 64
#: Members of items and collections that cannot be sorted by.
_WITHOUT_ORDER = frozenset(
    {"geometry", "bbox", "links", "assets", "stac_extensions", "extent", "summaries", "providers"}
)


def refuse(code: str, detail: str, **facts: Any) -> Problem:
    """A 400."""
    return Problem(400, code, detail, **facts)


async def read_body(request: Request, limit: int) -> bytes:
    """Read a body.

    Raises:
        Problem: 413 when it is longer than `limit` bytes, 400 when its sender went away.
    """
    chunks: list[bytes] = []
    length = 0
    try:
        async for chunk in request.stream():
            chunks.append(chunk)
            length += len(chunk)
            if length > limit:
                raise Problem(413, "BODY_TOO_LARGE", f"a body has at most {limit} bytes", limit=limit)
    except ClientDisconnect:
        raise Problem(400, "INCOMPLETE_BODY", "the body ended early") from None  # nobody reads it
    return b"".join(chunks)


def replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body that was read already, and then waits for the client to go away as the server's does."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


def check_text(value: str, field: str) -> None:
    """No NUL, no half characters."""
    if "\0" in value or (not value.isascii() and any("\ud800" <= sign <= "\udfff" for sign in value)):
        raise refuse("INVALID_TEXT", f"{field} holds a character that is not allowed", field=field)


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
    members, deepest = _measure(value)
    if deepest > settings.max_filter_depth * 2:
        raise refuse(
            "FILTER_TOO_DEEP",
            f"a filter nests at most {settings.max_filter_depth} deep",
            limit=settings.max_filter_depth,
        )
    if members > settings.max_filter_terms * 20:
        raise refuse("FILTER_TOO_LONG", "the filter has too many members", limit=settings.max_filter_terms * 20)
    _parse(lambda: cql2.parse_json(orjson.dumps(value).decode()))


def _parse(work: Callable[[], cql2.Expr]) -> None:
    try:
        expression = work().to_json()
    except Exception:  # noqa: BLE001 - a foreign parser; whatever it says, the filter is not usable
        expression = None
    if not is_predicate(expression):
        raise refuse("INVALID_FILTER", "the filter is not valid CQL2", field="filter")


def _measure(value: Any) -> tuple[int, int]:
    """(members, depth) without recursion, so that no input exhausts the stack."""
    members = deepest = 0
    pending = [(value, 1)]
    while pending:
        one, depth = pending.pop()
        deepest = max(deepest, depth)
        children = list(one.values()) if isinstance(one, dict) else one if isinstance(one, list) else []
        members += len(children)
        pending += [(child, depth + 1) for child in children if isinstance(child, dict | list)]
        if isinstance(one, dict):
            for key in one:
                check_text(str(key), "body")
        for child in children:
            if isinstance(child, str):
                check_text(child, "body")
            elif isinstance(child, float) and not math.isfinite(child):
                raise refuse("INVALID_NUMBER", "a number that is not finite")
    return members, deepest


def check_bbox(value: Any) -> None:
    """Four or six finite numbers, on the Earth, south not above north; west of more than east crosses the antimeridian (RFC 7946, 5.2)."""
    numbers = value.split(",") if isinstance(value, str) else value
    try:
        box = [float(number) for number in numbers]
    except (TypeError, ValueError):
        raise refuse("INVALID_BBOX", "a bbox is four or six numbers", field="bbox") from None
    if len(box) not in (4, 6) or not all(math.isfinite(number) for number in box):
        raise refuse("INVALID_BBOX", "a bbox is four or six finite numbers", field="bbox")
    west, south = box[0], box[1]
    east, north = (box[2], box[3]) if len(box) == 4 else (box[3], box[4])
    if not (-90 <= south <= north <= 90 and -180 <= west <= 180 and -180 <= east <= 180):
        raise refuse(
            "INVALID_BBOX", "a bbox is west, south, east, north in degrees, south not above north", field="bbox"
        )


def check_datetime(value: Any) -> None:
    """An RFC 3339 time with zone, or two with `/` between, `..` or nothing for an open end."""
    if not isinstance(value, str):
        raise refuse("INVALID_DATETIME", "datetime is a text", field="datetime")
    parts = value.split("/")
    try:
        times = [None if part in ("", "..") else parse_time(part, years=(1, 10_000)) for part in parts]
    except RecordRejected:
        raise refuse(
            "INVALID_DATETIME", "datetime is RFC 3339 with zone, or an interval of two", field="datetime"
        ) from None
    if len(times) > 2 or not any(times) or (len(times) == 2 and times[0] and times[1] and times[0] > times[1]):
        raise refuse("INVALID_DATETIME", "an interval has a start, an end, or both in order", field="datetime")


def zoned(value: Any) -> Any:
    """Times as QGIS writes them, without a zone, are in UTC, as all of STAC. Anything else is as it was."""
    if not isinstance(value, str):
        return value
    return "/".join(f"{part}Z" if _BY_QGIS.fullmatch(part) else part for part in value.split("/"))


def check_names(value: Any, field: str, settings: ApiSettings) -> None:
    """ids or collections: a list of texts, not too many."""
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise refuse("INVALID_PARAMETER", f"{field} is a list of texts", field=field)
    if len(names) > settings.max_ids:
        raise refuse(
            "TOO_MANY", f"at most {settings.max_ids} {field}", field=field, limit=settings.max_ids, actual=len(names)
        )
    for name in names:
        check_text(name, field)


def check_limit(value: Any) -> None:
    """A positive integer."""
    try:
        number = int(value)
    except (TypeError, ValueError):
        raise refuse("INVALID_LIMIT", "limit is a positive integer", field="limit") from None
    if number < 1 or isinstance(value, bool | float):
        raise refuse("INVALID_LIMIT", "limit is a positive integer", field="limit")


def check_token(value: Any) -> None:
    """Only what we hand out ourselves."""
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise refuse("INVALID_TOKEN", "this token is not one of ours", field="token")


def check_intersects(value: Any, settings: ApiSettings) -> None:
    """A GeoJSON geometry of a bounded number of finite numbers."""
    geometry = value
    if isinstance(value, str):
        try:
            geometry = orjson.loads(value)
        except orjson.JSONDecodeError:
            raise refuse("INVALID_GEOMETRY", "intersects is a GeoJSON geometry", field="intersects") from None
    if not isinstance(geometry, dict) or not isinstance(geometry.get("coordinates", geometry.get("geometries")), list):
        raise refuse("INVALID_GEOMETRY", "intersects is a GeoJSON geometry", field="intersects")
    numbers, depth = _measure(geometry)
    if numbers > settings.max_vertices * 3 or depth > 12:
        raise refuse(
            "GEOMETRY_TOO_LARGE",
            f"intersects has at most {settings.max_vertices} vertices",
            limit=settings.max_vertices,
        )


def check_query(value: Any) -> None:
    """The query extension: an object, as JSON text in a GET."""
    query = value
    if isinstance(value, str):
        try:
            query = orjson.loads(value)
        except orjson.JSONDecodeError:
            raise refuse("INVALID_QUERY", "query is a JSON object", field="query") from None
    if not isinstance(query, dict):
        raise refuse("INVALID_QUERY", "query is a JSON object", field="query")


def check_fields(value: Any) -> None:
    """Names with or without a sign in a GET; lists `include` and `exclude` in a body."""
    lists = [value.split(",")] if isinstance(value, str) else []
    if isinstance(value, dict):
        lists = [value[side] for side in ("include", "exclude") if value.get(side) is not None]
    elif not lists:
        raise refuse("INVALID_FIELDS", "fields has lists include and exclude", field="fields")
    for names in lists:
        if not isinstance(names, list) or not all(
            isinstance(name, str) and name.strip().lstrip("+-") for name in names
        ):
            raise refuse("INVALID_FIELDS", "fields are names of fields", field="fields")


def check_sortby(value: Any) -> None:
    """Names with or without a sign in a GET; objects with `field` and `direction` in a body. Only what has an order."""
    if isinstance(value, str):
        names = [name.strip().lstrip("+-") for name in value.split(",")]
        if not all(names):
            raise refuse("INVALID_SORTBY", "sortby are names of fields", field="sortby")
    elif isinstance(value, list) and all(
        isinstance(one, dict) and isinstance(one.get("field"), str) and one["field"] for one in value
    ):
        names = [one["field"] for one in value]
    else:
        raise refuse("INVALID_SORTBY", "sortby is a list of objects with field and direction", field="sortby")
    for name in names:
        if name.split(".")[0] in _WITHOUT_ORDER or name == "properties":
            raise refuse("NOT_SORTABLE", f"{name!r} has no order; see the sortables", field="sortby")


def check_search(parameters: Mapping[str, Any], settings: ApiSettings) -> None:
    """Check the parameters of a search, from a query string (texts) or a body (JSON).

    Raises:
        Problem: 400 with a stable code.
    """
    if not isinstance(parameters, dict):
        raise refuse("INVALID_BODY", "the body is a JSON object")
    _, depth = _measure(parameters)
    if depth > MAX_DEPTH * 2:
        raise refuse("FILTER_TOO_DEEP", "the body nests too deep")
    present = {name: value for name, value in parameters.items() if value is not None}
    for name, check in {
        "bbox": check_bbox,
        "datetime": check_datetime,
        "limit": check_limit,
        "token": check_token,
        "query": check_query,
        "sortby": check_sortby,
    }.items():
        if name in present:
            check(present[name])
    for name in ("ids", "collections"):
        if name in present:
            check_names(present[name], name, settings)
    if "fields" in parameters:  # null is no fields
        check_fields(parameters["fields"])
    if "intersects" in present:
        check_intersects(present["intersects"], settings)
    if "filter" in present:
        _check_filter(present["filter"], str(present.get("filter-lang", present.get("filter_lang", ""))), settings)


def _check_filter(value: Any, language: str, settings: ApiSettings) -> None:
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
