"""What JSON texts of items show, looked at in many at once: one look at ten costs little more than at one. Texts as orjson writes them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
from pypgstac.hydration import DO_NOT_MERGE_MARKER

_MARKER = DO_NOT_MERGE_MARKER.encode()
#: What follows a number.
_ENDS = frozenset(b",]}")
_EXPONENT = re.compile(rb"\de[-+]\d+[,\]}]")
_POINT_ZERO, _E_MINUS, _E_PLUS, _NU = (np.frombuffer(pair, np.uint16)[0] for pair in (b".0", b"e-", b"e+", b"nu"))


def is_good(text: bytes) -> bool:
    """Whether a text may be stored, as far as it shows."""
    if not text.isascii() and _MARKER in text:
        return False
    return b"\\" not in text or b"\\u0000" not in text


def with_null(texts: Sequence[bytes]) -> list[bool]:
    """Which of them may have a null in them."""
    whole = b"\n".join(texts)
    is_there = any((pairs == _NU).any() for _, pairs in _pairs(whole)) and b"null" in whole
    return [is_there and b"null" in text for text in texts]


def doubtful(texts: Sequence[bytes]) -> list[bool]:
    """For which of them RFC 8785 may ask for other bytes: whole floats, exponents, keys in another order."""
    is_there = _is_doubtful(b"\n".join(texts))
    return [is_there and _is_doubtful(text) for text in texts]


def _is_doubtful(text: bytes) -> bool:
    if not text.isascii():
        return True
    signs = np.frombuffer(text, np.uint8)
    for first, pairs in _pairs(text):
        if not _ENDS.isdisjoint(signs[np.flatnonzero(pairs == _POINT_ZERO) * 2 + first + 2].tobytes()):
            return True
        for place in np.flatnonzero((pairs == _E_MINUS) | (pairs == _E_PLUS)).tolist():
            if _EXPONENT.match(text, max(place * 2 + first - 1, 0)):
                return True
    return False


def _pairs(text: bytes) -> Iterator[tuple[int, np.typing.NDArray[np.uint16]]]:
    """Two signs at once: all that begin at even places, and all that begin at odd ones."""
    for first in (0, 1):
        yield first, np.frombuffer(text, np.uint16, max(len(text) - first, 0) // 2, first if len(text) > first else 0)
