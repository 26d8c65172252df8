"""Arithmetic of quotas: windows of time, tokens of a lease, and how long to wait. No clock, no database.

A window is a minute or a calendar month, in UTC. Of each a caller has so many tokens; a process takes some at once from the counter that
all processes share (a lease) and spends them from memory. Nobody ever gets more than the limit; with P processes somebody may be refused
up to (P - 1) leases early, while the others still hold what they have taken. A lease is `LEASE` tokens; of a minute with very many requests
it is a hundredth of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Final

#: Tokens that a process takes at once, at most.
LEASE: Final = 20
_SHARE: Final = 100
#: Seconds for which it is believed that nothing is left.
_DOUBT_S: Final = 20


class Period(Enum):
    """How long a quota lasts."""

    MINUTE = "minute"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Window:
    """From `start` to before `end`, seconds since 1970."""

    start: int
    end: int

    @property
    def seconds(self) -> int:
        """Its length."""
        return self.end - self.start

    def wait_s(self, now: float) -> int:
        """Whole seconds from `now` on after which the next window has begun; at least one."""
        return max(1, math.ceil(self.end - now))


def window_of(period: Period, now: float) -> Window:
    """The window that a moment lies in."""
    if period is Period.MINUTE:
        start = math.floor(now / 60) * 60
        return Window(start, start + 60)
    moment = datetime.fromtimestamp(now, UTC)
    first = datetime(moment.year, moment.month, 1, tzinfo=UTC)
    after = datetime(moment.year + moment.month // 12, moment.month % 12 + 1, 1, tzinfo=UTC)
    return Window(int(first.timestamp()), int(after.timestamp()))


@dataclass(slots=True)
class Lease:
    """What a process holds of one caller's quota in one window.

    `left` tokens are its own; `elsewhere` were free at the counter when it asked last, less what it took then; `borrowed` were given out
    while the counter did not answer; it was asked last at `asked_at`, seconds since 1970.
    """

    window: Window
    left: int = 0
    elsewhere: int | None = None
    borrowed: int = 0
    asked_at: float = 0.0

    @property
    def remaining(self) -> int:
        """What is left as far as this process knows."""
        return self.left + (self.elsewhere or 0)

    @property
    def is_spent(self) -> bool:
        """Nothing here, and nothing at the counter when it was asked."""
        return self.left == 0 and self.elsewhere == 0

    def doubt(self, now: float) -> None:
        """A counter that had nothing is asked again after a while: others may have given back, or it did not answer then."""
        if self.is_spent and now - self.asked_at >= _DOUBT_S:
            self.elsewhere = None

    def wants(self, limit: int) -> int:
        """How many tokens to ask the counter for; 0: enough are here, or it has none."""
        if self.left or self.elsewhere == 0:
            return 0
        return max(LEASE, limit // _SHARE) if self.window.seconds <= 60 else LEASE

    def granted(self, tokens: int, elsewhere: int) -> None:
        """The counter has given so many tokens and has so many left."""
        self.left += tokens
        self.elsewhere = max(0, elsewhere)

    def borrow(self, limit: int) -> None:
        """The counter does not answer: go on with tokens of nobody's, in this window no more than the limit."""
        tokens = min(LEASE, limit - self.borrowed)
        self.borrowed += tokens
        self.granted(tokens, limit - self.borrowed)

    def spend(self) -> None:
        """One request; call when `left` is not zero."""
        self.left -= 1

    def give_back(self, window: Window) -> None:
        """A request that does not count after all, spent in this window."""
        if window == self.window:
            self.left += 1
