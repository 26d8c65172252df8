"""`RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers, -08 and later), as structured fields (RFC 9651)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from api.limits.counters import Refused, Spent

#: What scripts in browsers may read.
EXPOSED = ("RateLimit", "RateLimit-Policy", "Retry-After")


def of_answer(spent: Sequence[Spent], now: float) -> list[tuple[bytes, bytes]]:
    """Of a request that was let through, for each quota: how many are left and seconds to the next window; how many in how many seconds."""
    left = [f'"{one.ask.quota.name}";r={one.remaining};t={max(0, math.ceil(one.window.end - now))}' for one in spent]
    policy = [f'"{one.ask.quota.name}";q={one.ask.limit};w={one.window.seconds}' for one in spent]
    return [(b"ratelimit", ", ".join(left).encode()), (b"ratelimit-policy", ", ".join(policy).encode())]


def of_refusal(refused: Refused) -> dict[str, str]:
    """Of one that was not."""
    headers = {"Retry-After": str(refused.wait_s), "Cache-Control": "no-store"}
    if refused.window_s is not None:
        headers["RateLimit"] = f'"{refused.quota}";r=0;t={refused.wait_s}'
        headers["RateLimit-Policy"] = f'"{refused.quota}";q={refused.limit};w={refused.window_s}'
    return headers
