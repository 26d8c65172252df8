"""What a client accepts: lists with weights, as RFC 9110, 12.4.2 has them. Whatever does not read as one is not there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

#: Longer ones are nobody's.
_MOST_BYTES = 2000
_WEIGHT = re.compile(r"(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)")


def qualities(value: bytes) -> dict[str, float]:
    """Return name -> weight of an Accept or Accept-Encoding, names in lower case and without parameters; the highest of several."""
    found: dict[str, float] = {}
    if len(value) > _MOST_BYTES:
        return found
    for entry in value.decode("latin-1").split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        weight = 1.0
        for parameter in parameters:
            key, _, text = parameter.partition("=")
            if key.strip().lower() == "q":
                weight = float(text.strip()) if _WEIGHT.fullmatch(text.strip()) else 0.0
        if name:
            found[name.lower()] = max(weight, found.get(name.lower(), 0.0))
    return found


@lru_cache(maxsize=512)
def best_of(accepted: bytes, offered: Sequence[str]) -> str | None:
    """Return the media type of `offered` that is accepted best, the earlier of two that are equal; None: none of them is."""
    asked = qualities(accepted)
    weights = [_weight(asked, media_type) for media_type in offered]
    best = max(weights, default=0.0)
    return offered[weights.index(best)] if best > 0 else None


def _weight(asked: dict[str, float], media_type: str) -> float:
    """The weight of the most specific range that a type is in."""
    for name in (media_type, media_type.partition("/")[0] + "/*", "*/*"):
        if name in asked:
            return asked[name]
    return 0.0
