"""The limits of one application: settings and tiers at once, counters and downloads while it is open."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable

import psycopg
from psycopg_pool import PoolTimeout
from starlette.requests import Request

from api.access import caller_of
from api.limits.callers import Counted, client_address, counted
from api.limits.counters import Ask, Counters
from api.limits.downloads import Downloads
from api.limits.tiers import Quota, Tier, load_tiers
from api.settings import ApiSettings
from db.pools import Pool
from db.queries import sql

log = logging.getLogger(__name__)

#: Seconds between two looks at downloads, and looks between two at idle callers and at those that are to be forgotten.
_BEAT_S = 1.0
_IDLE_BEATS, _FORGET_BEATS = 10, 3600
_FORGET_S = 40 * 86400
#: Signs at the end of X-Forwarded-For that are looked at: more proxies of ours than anybody has.
_MOST_FORWARDED = 500


class Limits:
    """Who asks, what he may ask, and where it is counted. `counters` and `downloads` are None while nothing is open, or limits are off.

    Raises:
        TiersInvalid: the operator's file of tiers cannot be used.
    """

    def __init__(self, settings: ApiSettings, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.is_on = settings.rate_limits
        self.tiers = load_tiers(settings.tiers_file)
        self._trusted = settings.proxies()
        self._key = b""
        self.counters: Counters | None = None
        self.downloads: Downloads | None = None

    def address(self, request: Request) -> str:
        """The address that a request comes from (of IPv6 the network), behind the operator's proxies too."""
        peer = request.client.host if request.client else None
        forwarded = ",".join(request.headers.getlist("x-forwarded-for"))[-_MOST_FORWARDED:] if self._trusted else ""
        return client_address(peer, forwarded, self._trusted)

    def who(self, request: Request) -> Counted | None:
        """Whom to count a request for; None: nobody."""
        return counted(caller_of(request), self.address(request), self._key)

    @contextlib.asynccontextmanager
    async def running(self, pool: Pool, key: bytes) -> AsyncIterator[None]:
        """Count while the block runs. `key`: what addresses are hashed with; the same for all processes."""
        if not self.is_on:
            yield
            return
        self._key, self.counters, self.downloads = key, Counters(pool, self.clock), Downloads(pool, self.clock)
        beat = asyncio.create_task(self._beat(pool, self.counters, self.downloads))
        try:
            yield
        finally:
            beat.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await beat
            await self.downloads.end()
            await self.counters.settle(is_end=True)
            self.counters = self.downloads = None

    async def _beat(self, pool: Pool, counters: Counters, downloads: Downloads) -> None:
        beats = 0
        while True:
            await asyncio.sleep(_BEAT_S)
            beats += 1
            try:
                await downloads.settle()
                if beats % _IDLE_BEATS == 0:
                    await counters.settle()
                if beats % _FORGET_BEATS == 0:
                    async with pool.connection() as conn:
                        await conn.execute(sql("limits.forget"), (int(self.clock()) - _FORGET_S,))
            except (psycopg.Error, PoolTimeout, OSError) as error:
                log.warning("quotas are not kept up", extra={"reason": type(error).__name__})


def asks_of(tier: Tier, quotas: tuple[Quota, ...]) -> list[Ask]:
    """Those of the quotas that the tier limits."""
    return [Ask(quota, limit) for quota in quotas if (limit := tier.limit(quota)) is not None]
