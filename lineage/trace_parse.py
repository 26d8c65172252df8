"""Reading traces that others made: strict, bounded, and never surprised. Pure.

Shape: service description 1.1.0 of the Copernicus traceability service (RegisterTrace, Trace), and one real reply.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from lineage.trace_message import agreement

EVENTS = ("CREATE", "COPY", "DELETE", "OBSOLETE")
#: A product of 5,000 files has some 1.5 MB of trace and message.
MAX_TRACE_BYTES = 2 * 2**20
MAX_NAME, MAX_PATH, MAX_ENTRIES, MAX_TEXT = 512, 2048, 10_000, 2000
_MAX_SIZE = 2**63 - 1
_HEX = re.compile(r"(?:[0-9a-f]{2}){0,64}")
_ALGORITHM = re.compile(r"[A-Za-z0-9/_-]{1,32}")
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", re.ASCII)
_SPACE = re.compile(r"[ \t\r\n]*")


class TraceInvalid(ValueError):
    """No trace. The message names the place and the reason, never a foreign exception's text."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}" if place else reason)
        self.place, self.reason = place, reason


class TooManyTraces(TraceInvalid):
    """More than were allowed."""


@dataclass(frozen=True, slots=True)
class Signature:
    """As it came: texts, not decoded yet. An unsigned trace has empty ones."""

    signature: str
    algorithm: str
    certificate: str
    message: str


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace as somebody made it.

    Attributes:
        product: name, hash (lower-case hex, may be empty), size in bytes, contents [{path, hash}] or None, inputs [{name, hash}] or None.
        event: one of `EVENTS`.
        obsolescence: reason, of an OBSOLETE.
        timestamp, origin, id: what a service says; None of a trace that is not registered yet.
        raw: the bytes as they came, as text.
    """

    product: dict[str, Any]
    event: str
    obsolescence: str | None
    hash_algorithm: str
    signature: Signature
    timestamp: datetime | None
    origin: str | None
    id: str | None
    raw: str

    @property
    def name(self) -> str:
        return str(self.product["name"])

    @property
    def hash(self) -> str:
        return str(self.product["hash"])

    @property
    def is_signed(self) -> bool:
        return self.signature.signature != ""

    @property
    def agreement(self) -> str:
        """How far the signed message says the same; see `trace_message.agreement`."""
        return agreement(self.signature.message, self.product, self.event)

    @property
    def digests(self) -> set[bytes]:
        """Every hash that the trace names, of the product and of its contents."""
        named = [self.hash, *(one["hash"] for one in self.product["contents"] or [])]
        return {bytes.fromhex(one) for one in named if one}


def parse_traces(data: bytes, *, most: int) -> list[Trace]:
    """Read a list of traces, or a single one.

    Raises:
        TooManyTraces: more than `most`.
        TraceInvalid
    """
    text = _decoded(data)
    start = _skip(text, 0)
    if text[start : start + 1] != "[":
        return [_parsed("", text.strip())]
    places: list[str] = []
    decoder = json.JSONDecoder(object_pairs_hook=_without_doubles)
    at = _skip(text, start + 1)
    while text[at : at + 1] != "]":
        if len(places) == most:
            raise TooManyTraces("", f"at most {most} traces")
        _, end = decoder.raw_decode(text, at)
        places.append(text[at:end])
        at = _skip(text, end)
        if text[at : at + 1] == ",":
            at = _skip(text, at + 1)
    return [_parsed(f"/{number}", raw) for number, raw in enumerate(places)]


def parse_trace(data: bytes) -> Trace:
    """Read one trace, or a list of one.

    Raises:
        TraceInvalid
    """
    found = parse_traces(data, most=1)
    if not found:
        raise TraceInvalid("", "there is no trace")
    return found[0]


def _decoded(data: bytes) -> str:
    """The text of what is JSON, is not nested beyond measure, has no member twice and no half characters."""
    try:
        orjson.loads(data)
        text = data.decode()
        json.loads(text, object_pairs_hook=_without_doubles)
    except TraceInvalid:
        raise
    except (ValueError, RecursionError):
        raise TraceInvalid("", "no valid JSON") from None
    return text


def _without_doubles(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise TraceInvalid("", "a member is there twice")
    return found


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    assert match is not None
    return match.end()


def _parsed(place: str, raw: str) -> Trace:
    if len(raw.encode()) > MAX_TRACE_BYTES:
        raise TraceInvalid(place, f"a trace has at most {MAX_TRACE_BYTES} bytes")
    value = json.loads(raw)
    if not isinstance(value, dict):
        raise TraceInvalid(place, "a trace is an object")
    event = value.get("event")
    if event not in EVENTS:
        raise TraceInvalid(f"{place}/event", f"one of {', '.join(EVENTS)}")
    algorithm = _text(value, "hash_algorithm", place, 32)
    if not _ALGORITHM.fullmatch(algorithm):
        raise TraceInvalid(f"{place}/hash_algorithm", "no name of an algorithm")
    reason = None if value.get("obsolescence") is None else _text(value, "obsolescence", place, MAX_TEXT)
    origin = None if value.get("origin") is None else _text(value, "origin", place, MAX_NAME)
    identity = None if value.get("id") is None else _text(value, "id", place, 64)
    return Trace(
        _product(value.get("product"), f"{place}/product"), event, reason, algorithm,
        _signature(value.get("signature"), f"{place}/signature"), _time(value.get("timestamp"), f"{place}/timestamp"),
        origin, identity, raw,
    )  # fmt: skip


def _product(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TraceInvalid(place, "an object is needed")
    size = value.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _MAX_SIZE:
        raise TraceInvalid(f"{place}/size", "a number of bytes is needed")
    name = _text(value, "name", place, MAX_NAME)
    if not name:
        raise TraceInvalid(f"{place}/name", "a product has a name")
    return {
        "name": name,
        "hash": _hash(value, place),
        "size": size,
        "contents": _entries(value.get("contents"), "path", MAX_PATH, f"{place}/contents"),
        "inputs": _entries(value.get("inputs"), "name", MAX_NAME, f"{place}/inputs"),
    }


def _entries(value: Any, name: str, longest: int, place: str) -> list[dict[str, str]] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) > MAX_ENTRIES:
        raise TraceInvalid(place, f"a list of at most {MAX_ENTRIES} is needed")
    found = []
    for number, one in enumerate(value):
        if not isinstance(one, dict):
            raise TraceInvalid(f"{place}/{number}", "an object is needed")
        found.append({name: _text(one, name, f"{place}/{number}", longest), "hash": _hash(one, f"{place}/{number}")})
    return found


def _signature(value: Any, place: str) -> Signature:
    if not isinstance(value, dict):
        raise TraceInvalid(place, "an object is needed")
    return Signature(
        _text(value, "signature", place, 16_384),
        _text(value, "algorithm", place, 64),
        _text(value, "certificate", place, 65_536),
        _text(value, "message", place, MAX_TRACE_BYTES),
    )


def _text(value: dict[str, Any], name: str, place: str, longest: int) -> str:
    """A text; no NUL, which the database does not know."""
    text = value.get(name)
    if not isinstance(text, str) or len(text) > longest or "\0" in text:
        raise TraceInvalid(f"{place}/{name}", f"a text of at most {longest} characters is needed")
    return text


def _hash(value: dict[str, Any], place: str) -> str:
    text = _text(value, "hash", place, 128)
    if not _HEX.fullmatch(text):
        raise TraceInvalid(f"{place}/hash", "a hash is written in lower-case hex")
    return text


def _time(value: Any, place: str) -> datetime | None:
    """RFC 3339 with up to nine decimals, as Go writes times; what is below a microsecond is cut off."""
    if value is None:
        return None
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    try:
        if match is not None:
            found = datetime.fromisoformat(f"{match[1]}.{(match[2] or '0')[:6].ljust(6, '0')}{match[3]}")
            return found.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise TraceInvalid(place, "a time is written 2024-06-19T02:19:24.020063Z")
