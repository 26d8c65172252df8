"""The last look at an item before the database, harvested or own: what pgstac would take and later choke on is refused here.

Measured on pgstac 0.10.0: it accepts "yesterday" as a datetime, unclosed rings, years 1 and 9999, ids with slashes, 800 nested lists.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Any

import orjson

from ingest.errors import RecordRejected
from lineage.canonical import has_long_number, is_exact

MAX_BYTES = 1_000_000
MAX_DEPTH = 64
YEARS = (1900, 2100)
#: pgstac's API cannot address ids with these: : / ? # [ ] @ ! $ & ' ( ) * + , ; =
#: Of collections and items: what stands in a URL as it is.
ID = r"[A-Za-z0-9._~-]{1,512}"
_ID = re.compile(rf"(?!\.{{1,2}}$){ID}")
#: What may hide in the JSON text of a value: NUL, a number that is not finite (orjson writes null), an integer beyond 2**53.
_NUL_OR_NULL = (b"\\u0000", b"null")
_DEEP_LINE = b"\n" + b" " * 2 * MAX_DEPTH
_STRICTLY = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS
_RFC3339 = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})")


def parse_time(value: Any, years: tuple[int, int] = YEARS) -> datetime:
    """Read an RFC 3339 time with zone, as UTC; `years` is from, before.

    Raises:
        RecordRejected: "datetime-invalid" for anything else ("now", no zone, year out of range).
    """
    if not isinstance(value, str) or not _RFC3339.fullmatch(value):
        raise RecordRejected("datetime-invalid", f"no RFC 3339 time with zone: {str(value)[:60]!r}")
    try:
        parsed = datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise RecordRejected("datetime-invalid", f"no such time: {value[:60]!r}") from None
    if not years[0] <= parsed.year < years[1]:
        raise RecordRejected("datetime-invalid", f"year {parsed.year} is out of range")
    return parsed


def time_text(value: datetime) -> str:
    """RFC 3339 in UTC with microseconds and Z."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def check_id(value: Any) -> None:
    """Look at an id of an item or a collection.

    Raises:
        RecordRejected: "id-invalid".
    """
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise RecordRejected("id-invalid", f"not an id of letters, digits and ._~-: {str(value)[:80]!r}", "/id")


def check_item(item: dict[str, Any]) -> dict[str, Any]:
    """Return the item when it may be stored. Raises as `item_text`."""
    item_text(item)
    return item


def item_text(item: dict[str, Any]) -> bytes:
    """Return the JSON of an item that may be stored.

    Raises:
        RecordRejected: "id-invalid", "datetime-invalid", "content-invalid" (NUL, half characters, non-finite or huge
            numbers), "too-deep", "too-large".
    """
    check_id(item.get("id"))
    text = check_content(item)
    _check_times(item["properties"])
    if len(text) > MAX_BYTES:
        raise RecordRejected("too-large", f"the item is larger than {MAX_BYTES} bytes")
    return text


def check_content(value: Any) -> bytes:
    """Look at any JSON that is to be stored; returns its text.

    Raises:
        RecordRejected: "content-invalid", "too-deep".
    """
    text = _plainly_good(value)
    if text is None:
        _check_value(value, 0)
        text = orjson.dumps(value)
    return text


def _plainly_good(value: Any) -> bytes | None:
    """The JSON text when a look at it shows that nothing is wrong: a tenth of the time of looking at every member."""
    try:
        text = orjson.dumps(value, option=_STRICTLY)
    except TypeError:
        return None
    if any(one in text for one in _NUL_OR_NULL) or has_long_number(text) or is_deep(value):
        return None
    return text


def is_deep(value: Any) -> bool:
    """True when lists and objects nest so deep that it must be looked at closely. A level indents two blanks; texts have no line ends."""
    return _DEEP_LINE in orjson.dumps(value, option=_STRICTLY | orjson.OPT_INDENT_2)


def _check_times(properties: dict[str, Any]) -> None:
    start, end = properties.get("start_datetime"), properties.get("end_datetime")
    if properties.get("datetime") is None and (start is None or end is None):
        raise RecordRejected("datetime-invalid", "neither datetime nor start and end", "/properties/datetime")
    times = {
        name: time_of(properties, name)
        for name in ("datetime", "start_datetime", "end_datetime")
        if properties.get(name) is not None
    }
    if start is not None and end is not None and times["start_datetime"] > times["end_datetime"]:
        raise RecordRejected("datetime-invalid", "ends before it starts", "/properties/end_datetime")


def time_of(properties: dict[str, Any], name: str, years: tuple[int, int] = YEARS) -> datetime:
    """Read the time in a member of an item's properties. Raises RecordRejected: "datetime-invalid", with the place."""
    try:
        return parse_time(properties[name], years)
    except RecordRejected as error:
        error.place = f"/properties/{name}"
        raise


def pointer(*parts: str | int) -> str:
    """The JSON pointer (RFC 6901) to a place; endless names are cut."""
    return "".join(f"/{str(part)[:100].replace('~', '~0').replace('/', '~1')}" for part in parts)


def _check_value(value: Any, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise RecordRejected("too-deep", f"nested deeper than {MAX_DEPTH}")
    match value:
        case dict():
            for key, member in value.items():
                _check_text(key)
                _check_member(key, member, depth)
        case list():
            for place, member in enumerate(value):
                _check_member(place, member, depth)
        case str():
            _check_text(value)
        case bool() | None:
            pass
        case int():
            if not is_exact(value):
                raise RecordRejected("content-invalid", "an integer beyond 2^53 that loses digits as a float")
        case float():
            if not math.isfinite(value):
                raise RecordRejected("content-invalid", "a number that is not finite")
        case _:
            raise RecordRejected("content-invalid", f"no JSON: {type(value).__name__}")


def _check_member(part: str | int, member: Any, depth: int) -> None:
    try:
        _check_value(member, depth + 1)
    except RecordRejected as error:
        error.place = pointer(part) + error.place
        raise


def _check_text(text: Any) -> None:
    if isinstance(text, str) and "\0" not in text:
        if text.isascii():
            return
        try:
            text.encode()
        except UnicodeEncodeError:  # half a character
            pass
        else:
            return
    raise RecordRejected("content-invalid", "a text with NUL or half a character")
