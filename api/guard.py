"""What a search may ask, checked before any parser or database sees it: linear scans of our own.

pgstac takes "yesterday" as a datetime. Every refusal is a 400 with a stable code.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive

from api.bounds import check_text, measure, refuse
from api.problems import Problem
from api.settings import ApiSettings
from api.stac.filter_bounds import check_filter, check_query
from api.stac.intersects import check_intersects
from api.stac.tokens import MAX_TOKEN
from ingest.errors import RecordRejected
from ingest.sanitise import parse_time, time_text

_CRS84 = re.compile(
    r"(https?://www\.opengis\.net/def/crs/OGC/(1\.3|0)/|urn:ogc:def:crs:OGC:(1\.3)?:|\[?OGC:)CRS84h?\]?", re.IGNORECASE
)
_TOKEN = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_TOKEN}}}")
#: A time as QGIS writes it (Qt::ISODateWithMs). RFC 3339 has none without a zone, and others like it are refused.
_BY_QGIS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}", re.ASCII)
#: A second that RFC 3339 has and Python has not: at the end of June or December, in UTC.
_LEAP_SECOND = re.compile(r"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:)60(?:\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_ENDS_WITH_LEAP_SECOND = ("06-30T23:59:59", "12-31T23:59:59")
MAX_DEPTH = 64
#: Members of all objects and lists of a request together; what may be in it is bounded far below.
MAX_MEMBERS = 50_000
MAX_SORT_FIELDS, MAX_FIELDS, MAX_NAME = 20, 500, 500
#: Members of items and collections that cannot be sorted by.
_WITHOUT_ORDER = frozenset(
    {"geometry", "bbox", "links", "assets", "stac_extensions", "extent", "summaries", "providers"}
)


async def read_body(request: Request, limit: int) -> bytes:
    """Read a body; one that says itself that it is too long is not waited for.

    Raises:
        Problem: 413 when it is longer than `limit` bytes, 400 when its sender went away.
    """
    said = request.headers.get("content-length", "")
    if said.isascii() and said.isdecimal() and int(said[:20]) > limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    length = 0
    try:
        async for chunk in request.stream():
            if chunk:  # the last one is often empty; and what came in one is not copied
                chunks.append(chunk)
            length += len(chunk)
            if length > limit:
                raise _too_large(limit)
    except ClientDisconnect:
        raise Problem(400, "INCOMPLETE_BODY", "the body ended early") from None  # nobody reads it
    return b"".join(chunks)


def _too_large(limit: int) -> Problem:
    return Problem(413, "BODY_TOO_LARGE", f"a body has at most {limit} bytes", limit=limit)


def replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body that was read already, and then waits for the client to go away as the server's does."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


def check_bbox(value: Any) -> None:
    """Four or six finite numbers, on the Earth, south not above north; west of more than east crosses the antimeridian (RFC 7946, 5.2)."""
    numbers = value.split(",") if isinstance(value, str) else value
    try:
        box = [float(number) for number in numbers]
    except (TypeError, ValueError):
        raise refuse("INVALID_BBOX", "a bbox is four or six numbers", field="bbox") from None
    if any(isinstance(number, bool) for number in numbers):
        raise refuse("INVALID_BBOX", "a bbox is four or six numbers", field="bbox")
    if len(box) not in (4, 6) or not all(math.isfinite(number) for number in box):
        raise refuse("INVALID_BBOX", "a bbox is four or six finite numbers", field="bbox")
    west, south = box[0], box[1]
    east, north = (box[2], box[3]) if len(box) == 4 else (box[3], box[4])
    if not (-90 <= south <= north <= 90 and -180 <= west <= 180 and -180 <= east <= 180):
        raise refuse(
            "INVALID_BBOX", "a bbox is west, south, east, north in degrees, south not above north", field="bbox"
        )
    if len(box) == 6 and box[2] > box[5]:
        raise refuse("INVALID_BBOX", "a bbox ends above where it begins", field="bbox")


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
    """Times as the frameworks read them. QGIS writes none with a zone: they are in UTC, as all of STAC. Anything else is as it was."""
    if not isinstance(value, str):
        return value
    return "/".join(map(_zoned, value.split("/")))


def _zoned(part: str) -> str:
    if _BY_QGIS.fullmatch(part):
        return f"{part}Z"
    leap = _LEAP_SECOND.fullmatch(part)
    if leap is None:
        return part
    try:
        second = parse_time(f"{leap[1]}59{leap[2]}", years=(1972, 10_000))
    except RecordRejected:
        return part
    # What happens in a leap second is after all that is before it, and still in its day.
    is_one = time_text(second)[5:19] in _ENDS_WITH_LEAP_SECOND
    return time_text(second + timedelta(microseconds=999_999)) if is_one else part


def check_number(value: Any, field: str, settings: ApiSettings) -> None:
    """ids or collections: not too many."""
    number = value.count(",") + 1 if isinstance(value, str) else len(value) if isinstance(value, list) else 0
    if number > settings.max_ids:
        raise refuse(
            "TOO_MANY", f"at most {settings.max_ids} {field}", field=field, limit=settings.max_ids, actual=number
        )


def check_names(value: Any, field: str) -> None:
    """ids or collections: a list of texts, or one text."""
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise refuse("INVALID_PARAMETER", f"{field} is a list of texts", field=field)
    for name in names:
        check_text(name, field)


def check_limit(value: Any) -> None:
    """A positive integer."""
    if not _is_count(value) or int(value) < 1:
        raise refuse("INVALID_LIMIT", "limit is a positive integer", field="limit")


def check_offset(value: Any) -> None:
    """How many collections to skip."""
    if not _is_count(value):
        raise refuse("INVALID_PARAMETER", "offset is an integer, 0 or more", field="offset")


def _is_count(value: Any) -> bool:
    """An integer that is not negative, in decimal digits when it is a text; a plus sign in a URL means a space."""
    if isinstance(value, str):
        digits = value.strip().removeprefix("+")
        return digits.isascii() and digits.isdecimal() and len(digits) <= 40
    return type(value) is int and value >= 0


def check_token(value: Any) -> None:
    """Only what we hand out ourselves."""
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise refuse("INVALID_TOKEN", "this token is not one of ours", field="token")


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
    number = sum(map(len, lists))
    if number > MAX_FIELDS:
        raise refuse("TOO_MANY", f"at most {MAX_FIELDS} fields", field="fields", limit=MAX_FIELDS, actual=number)
    if any(len(name) > MAX_NAME for names in lists for name in names):
        raise refuse("INVALID_FIELDS", f"a field's name has at most {MAX_NAME} characters", field="fields")


def check_sortby(value: Any) -> None:
    """Names with or without a sign in a GET; objects with `field` and `direction` in a body. Only what has an order."""
    if isinstance(value, str):
        names = [name.strip().lstrip("+-") for name in value.split(",")]
        if not all(name.removeprefix("properties.") for name in names):
            raise refuse("INVALID_SORTBY", "sortby are names of fields", field="sortby")
    elif isinstance(value, list) and all(
        isinstance(one, dict) and isinstance(one.get("field"), str) and one["field"].removeprefix("properties.")
        for one in value
    ):
        names = [one["field"] for one in value]
    else:
        raise refuse("INVALID_SORTBY", "sortby is a list of objects with field and direction", field="sortby")
    if len(names) > MAX_SORT_FIELDS:
        most = MAX_SORT_FIELDS
        raise refuse("TOO_MANY", f"at most {most} fields to sort by", field="sortby", limit=most, actual=len(names))
    for name in names:
        if name.split(".")[0] in _WITHOUT_ORDER or name == "properties":
            raise refuse("NOT_SORTABLE", f"{name!r} has no order; see the sortables", field="sortby")


def check_crs(value: Any, field: str) -> None:
    """Coordinates are longitudes and latitudes in WGS 84; those of another system would be taken for them."""
    if not isinstance(value, str) or not _CRS84.fullmatch(value.strip()):
        raise refuse("INVALID_PARAMETER", f"{field}: coordinates are in OGC:CRS84 here", field=field)


def check_search(parameters: Mapping[str, Any], settings: ApiSettings) -> None:
    """Check the parameters of a search, from a query string (texts) or a body (JSON).

    Raises:
        Problem: 400 with a stable code.
    """
    if not isinstance(parameters, dict):
        raise refuse("INVALID_BODY", "the body is a JSON object")
    too_many = refuse("TOO_MANY", "the request has too many members")
    present = {name: value for name, value in parameters.items() if value is not None}
    # First what may be large: what is refused for its size is looked at no further.
    for name in ("ids", "collections"):
        if name in present:
            check_number(present[name], name, settings)
    if "intersects" in present:
        if "bbox" in present:
            raise refuse("INVALID_PARAMETER", "bbox or intersects, not both", field="intersects")
        geometry = check_intersects(present["intersects"], settings.max_vertices)
        if geometry is not present["intersects"]:  # it was a text
            measure(geometry, MAX_MEMBERS, too_many)
    if "filter" in present:
        check_filter(present["filter"], str(present.get("filter-lang", present.get("filter_lang", ""))), settings)
    if "query" in present:
        check_query(present["query"], settings)
    if measure(parameters, MAX_MEMBERS, too_many) > MAX_DEPTH * 2:
        raise refuse("FILTER_TOO_DEEP", "the body nests too deep")
    for name, check in {
        "bbox": check_bbox,
        "datetime": check_datetime,
        "limit": check_limit,
        "offset": check_offset,
        "token": check_token,
        "sortby": check_sortby,
    }.items():
        if name in present:
            check(present[name])
    for name in ("filter-crs", "filter_crs"):
        if name in present:
            check_crs(present[name], name)
    for name in ("ids", "collections"):
        if name in present:
            check_names(present[name], name)
    if "fields" in parameters:  # null is no fields
        check_fields(parameters["fields"])
