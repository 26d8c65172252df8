"""Canonical JSON (RFC 8785) and the hash of an item."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import orjson
import rfc8785

#: Members of an item that say nothing about the product: made by the service, or different at every reading.
SERVICE_MADE = frozenset({"links", "pgstac:base_item", "stac_version"})

_SORTED = (
    orjson.OPT_SORT_KEYS
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)
_ALL_EXACT = 2**53 - 1  # the largest that rfc8785 takes as an integer
_64_BITS = -(2**63), 2**64  # what orjson reads and writes as an integer
#: All digits alike: then a look for a fixed text shows whether some number can be there, in a twentieth of a regular expression's time.
_DIGITS = bytes.maketrans(b"123456789", b"0" * 9)
_LONG, _MAYBE_EXPONENT = b"0" * 16, re.compile(rb"0e[-+]0")
_EXPONENT = re.compile(rb"e[-+]\d{1,3}[,\]}]")
_WHOLE_FLOAT = re.compile(rb"\.0[,\]}]")
#: Keys with such characters sort by UTF-16 otherwise than by UTF-8.
_BEYOND_BASIC_PLANE = re.compile(rb"[\xf0-\xf4]")


def canonical(value: Any) -> bytes:
    """Return the RFC 8785 bytes of a JSON value.

    Raises:
        NotCanonical: an integer that `is_exact` refuses, a non-finite number, a lone surrogate, or no JSON at all.
    """
    if isinstance(value, dict | list) and (text := _quickly(value)) is not None:
        return text
    try:
        return rfc8785.dumps(_with_long_numbers_as_floats(value))
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, RecursionError) as error:
        raise NotCanonical(f"not canonical JSON: {type(error).__name__}") from error


def is_exact(number: int) -> bool:
    """True when RFC 8785, which writes every number as a float, keeps all digits: up to 2**53, and where a whole float came back from JSON
    as an integer (7.1e16 as 71000000000000000).
    """
    if abs(number) <= _ALL_EXACT:
        return True
    return _64_BITS[0] <= number < _64_BITS[1] and str(number).encode() == rfc8785.dumps(float(number))


def _with_long_numbers_as_floats(value: Any) -> Any:
    """The value with integers beyond 2**53 as the floats that they are; the others are left for rfc8785 to refuse."""
    match value:
        case dict():
            return {key: _with_long_numbers_as_floats(member) for key, member in value.items()}
        case list():
            return [_with_long_numbers_as_floats(member) for member in value]
        case int() if abs(value) > _ALL_EXACT and is_exact(value):
            return float(value)
        case _:
            return value


def _quickly(value: Any) -> bytes | None:
    """The same bytes by orjson, in a tenth of the time; None where they may differ."""
    try:
        text = orjson.dumps(value, option=_SORTED)
    except TypeError:
        return None
    if not text.isascii() and _BEYOND_BASIC_PLANE.search(text):
        return None
    if not _is_doubtful(text) and _WHOLE_FLOAT.search(text) is None:
        return text
    return None if b"-0.0" in text or b"\\" in text else _outside_texts(text, value)


def _is_doubtful(text: bytes) -> bool:
    """What orjson may write otherwise than RFC 8785 asks, apart from whole floats: null for a number that is not finite, exponents, and
    numbers beyond 2**53. Texts that look like it are taken for it.
    """
    digits = text.translate(_DIGITS)
    if b"null" in text or _has_long_number(digits):
        return True
    return _MAYBE_EXPONENT.search(digits) is not None and _EXPONENT.search(text) is not None


def _outside_texts(text: bytes, value: Any) -> bytes | None:
    """What orjson has written of a value, without escapes, with whole floats as RFC 8785 writes them; None where more may differ.

    Between quotation marks are in turn what is outside of texts, and texts.
    """
    parts = text.split(b'"')
    outside = b'"'.join(parts[::2])
    if has_long_number(outside) or _EXPONENT.search(outside) or (b"null" in outside and not _is_finite(value)):
        return None
    for end in (b",", b"]", b"}"):
        outside = outside.replace(b".0" + end, end)
    parts[::2] = outside.split(b'"')
    return b'"'.join(parts)


def _is_finite(value: Any) -> bool:
    """Whether each null that was written stands for None, and not for a number that is not finite."""
    try:
        json.dumps(value, allow_nan=False, check_circular=False)
    except (TypeError, ValueError):
        return False
    return True


def has_long_number(text: bytes) -> bool:
    """True when a number of 16 digits or more before its point may be in a JSON text without blanks: only then one is beyond 2**53."""
    return _has_long_number(text.translate(_DIGITS))


def _has_long_number(digits: bytes) -> bool:
    place = digits.find(_LONG)
    while place >= 0:
        if digits[max(0, place - 2) : place].rstrip(b"-")[-1:] in (b":", b",", b"["):
            return True
        place = digits.find(_LONG, place + len(_LONG))
    return False


class NotCanonical(ValueError):
    """The value has no RFC 8785 form."""


def item_sha256(item: dict[str, Any]) -> str:
    """Return the SHA-256 (hex) of a STAC item's canonical bytes without `links` and service-made members."""
    return hashlib.sha256(canonical({key: value for key, value in item.items() if key not in SERVICE_MADE})).hexdigest()


def item_hashes(stored: dict[str, Any]) -> set[str]:
    """Hashes with which an item may have been logged, from what is stored of it: pgstac drops nulls, and a null in `datetime` comes back.

    Empty for one that has no RFC 8785 form.
    """
    bare = _without_nulls(stored)
    properties = bare.get("properties", {})
    shapes = [bare]
    if "datetime" not in properties:
        shapes.append({**bare, "properties": {**properties, "datetime": None}})
    try:
        return {item_sha256(shape) for shape in shapes}
    except NotCanonical:
        return set()


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(member) for key, member in value.items() if member is not None}
    if isinstance(value, list):
        return [_without_nulls(element) for element in value]
    return value
