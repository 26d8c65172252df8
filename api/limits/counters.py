"""Leases of tokens in this process, taken from counters in PostgreSQL that all processes share.

A request costs no question to the database while the lease lasts. kill -9 loses what the process had leased, of a month at most `LEASE`
requests of each caller and quota, to the caller's disadvantage; a clean end gives the month's rest back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import psycopg
from psycopg_pool import PoolTimeout

from api.limits.tiers import Quota
from api.limits.windows import Lease, Period, Window, window_of
from db.pools import Pool
from db.queries import sql

log = logging.getLogger(__name__)

#: Seconds that the counter may take to answer, and for which nobody asks it after it did not.
PATIENCE_S = 2.0
REST_S = 2.0
#: Seconds without a request after which a caller's rest of the month goes back.
IDLE_S = 60.0
#: How often to ask for a lease: once more when its window has ended meanwhile.
_TRIES = 2


class StoreDown(Exception):
    """The shared counters do not answer."""


class Refused(Exception):
    """Nothing is left of a quota. `wait_s`: whole seconds after which there is again; `window_s`: None for what has no window."""

    def __init__(self, quota: str, limit: int, wait_s: int, window_s: int | None = None) -> None:
        super().__init__(quota)
        self.quota, self.limit, self.wait_s, self.window_s = quota, limit, wait_s, window_s


@dataclass(frozen=True, slots=True)
class Ask:
    """One request of this quota."""

    quota: Quota
    limit: int


@dataclass(frozen=True, slots=True)
class Spent:
    """One request that was let through, of one quota; `remaining` as far as this process knows."""

    ask: Ask
    window: Window
    remaining: int


@dataclass(slots=True)
class _Held:
    """What this process holds of one caller's quotas."""

    leases: dict[Quota, Lease] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    used_at: float = 0.0

    def lease(self, quota: Quota, now: float) -> Lease:
        """Of the window that is now."""
        found = self.leases.get(quota)
        if found is None or not found.window.start <= now < found.window.end:
            found = self.leases[quota] = Lease(window_of(quota.period, now))
        return found


class Counters:
    """Spends requests of callers' quotas."""

    def __init__(self, pool: Pool, clock: Callable[[], float] = time.time) -> None:
        self._pool, self._clock = pool, clock
        self._held: dict[str, _Held] = {}
        self._down_until = 0.0

    async def spend(self, subject: str, asks: Sequence[Ask], *, may_borrow: bool) -> list[Spent]:
        """Take one request from each quota, or from none.

        Args:
            may_borrow: when the counters are down, let through up to the limit from memory, a window and process.

        Raises:
            Refused: a quota is used up; of several the one that takes longest.
            StoreDown: the counters do not answer, and nothing may be borrowed.
        """
        held = self._held.get(subject)
        if held is None:
            held = self._held[subject] = _Held()
        spent = self._spent(held, asks)
        if spent is not None:
            return spent
        async with held.lock:
            for _ in range(_TRIES):
                spent = self._spent(held, asks)
                if spent is not None:
                    return spent
                await self._lease(subject, held, asks, may_borrow=may_borrow)
            spent = self._spent(held, asks)
        if spent is None:
            raise StoreDown
        return spent

    def give_back(self, subject: str, spent: Sequence[Spent]) -> None:
        """These do not count after all."""
        if (held := self._held.get(subject)) is not None:
            for one in spent:
                if (lease := held.leases.get(one.ask.quota)) is not None:
                    lease.give_back(one.window)

    def unspent(self, subject: str, quota: Quota, window: Window) -> int:
        """What this process has leased and not spent."""
        lease = self._held[subject].leases.get(quota) if subject in self._held else None
        return lease.left if lease is not None and lease.window == window else 0

    def _spent(self, held: _Held, asks: Sequence[Ask]) -> list[Spent] | None:
        """Spend from memory. None: the counter has to be asked."""
        now = held.used_at = self._clock()
        leases = [held.lease(ask.quota, now) for ask in asks]
        for lease in leases:
            lease.doubt(now)
        if not all(lease.left for lease in leases):
            over = [
                Refused(ask.quota.name, ask.limit, lease.window.wait_s(now), lease.window.seconds)
                for ask, lease in zip(asks, leases, strict=True)
                if lease.is_spent
            ]
            if over:
                raise max(over, key=lambda one: one.wait_s)
            return None
        for lease in leases:
            lease.spend()
        return [Spent(ask, lease.window, lease.remaining) for ask, lease in zip(asks, leases, strict=True)]

    async def _lease(self, subject: str, held: _Held, asks: Sequence[Ask], *, may_borrow: bool) -> None:
        now = self._clock()
        wanted = [(ask, held.lease(ask.quota, now)) for ask in asks]
        wanted = [(ask, lease) for ask, lease in wanted if lease.wants(ask.limit)]
        for _, lease in wanted:
            lease.asked_at = now
        try:
            rows = await self._take(subject, [(ask, lease.window, lease.wants(ask.limit)) for ask, lease in wanted])
        except StoreDown:
            if not may_borrow:
                raise
            for ask, lease in wanted:
                lease.borrow(ask.limit)
            return
        for ask, lease in wanted:
            granted, taken = rows[ask.quota.name]
            lease.granted(granted, ask.limit - taken)

    async def _take(self, subject: str, wanted: Sequence[tuple[Ask, Window, int]]) -> dict[str, tuple[int, int]]:
        """Quota -> (tokens given, tokens taken by everybody)."""
        if self._clock() < self._down_until:
            raise StoreDown
        ordered = sorted(wanted, key=lambda one: one[0].quota.name)  # everybody locks rows in the same order
        values = (
            subject,
            [ask.quota.name for ask, _, _ in ordered],
            [window.start for _, window, _ in ordered],
            [ask.limit for ask, _, _ in ordered],
            [tokens for _, _, tokens in ordered],
        )
        try:
            async with asyncio.timeout(PATIENCE_S), self._pool.connection(timeout=PATIENCE_S) as conn:
                rows = await (await conn.execute(sql("limits.take"), values)).fetchall()
        except (psycopg.Error, PoolTimeout, OSError, TimeoutError) as error:
            self._down_until = self._clock() + REST_S
            log.error("the counters of quotas do not answer", extra={"reason": type(error).__name__})
            raise StoreDown from error
        return {row["quota"]: (row["granted"], row["taken"]) for row in rows}

    async def settle(self, *, is_end: bool = False) -> None:
        """Give back what idle callers (at the end: all) have left of the month, and forget them."""
        now = self._clock()
        for subject, held in list(self._held.items()):
            if not is_end and (now - held.used_at < IDLE_S or held.lock.locked()):
                continue
            del self._held[subject]
            back = [
                (Ask(quota, 0), lease.window, -lease.left)
                for quota, lease in held.leases.items()
                if quota.period is Period.MONTH and lease.left and now < lease.window.end
            ]
            if back:
                try:
                    await self._take(subject, back)
                except StoreDown:
                    return
