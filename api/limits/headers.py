"""`RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers, -08 and later), as structured fields (RFC 9651)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from api.limits.counters import Ask, Spent
from api.limits.windows import Window, window_of

#: What scripts in browsers may read.
EXPOSED = ("RateLimit", "RateLimit-Policy", "Retry-After")


def rate_limit(states: Sequence[tuple[str, int, Window]], now: float) -> str:
    """Of each quota by name: how many requests are left, and seconds to the next window."""
    return ", ".join(
        f'"{name}";r={remaining};t={max(0, math.ceil(window.end - now))}' for name, remaining, window in states
    )


def policy(asks: Sequence[Ask], now: float) -> str:
    """Of each quota: how many requests, in how many seconds."""
    return ", ".join(f'"{ask.quota.name}";q={ask.limit};w={window_of(ask.quota.period, now).seconds}' for ask in asks)


def of_answer(spent: Sequence[Spent], now: float) -> list[tuple[bytes, bytes]]:
    """Headers of a request that was let through."""
    states = [(one.ask.quota.name, one.remaining, one.window) for one in spent]
    return [
        (b"ratelimit", rate_limit(states, now).encode()),
        (b"ratelimit-policy", policy([one.ask for one in spent], now).encode()),
    ]
