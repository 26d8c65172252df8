"""Downloads: how many connections one caller has at a time on all processes together, how fast each is, how many bytes in a month.

A connection holds a place in PostgreSQL that its process renews every second; what nobody renews, as after kill -9, is free after `LIFE_S`.
Who has used up the month's bytes is slowed, not refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import psycopg
from psycopg_pool import PoolTimeout
from starlette.types import Message, Send

from api.limits.counters import PATIENCE_S, Refused
from api.limits.tiers import CONNECTIONS, DOWNLOAD, Tier
from api.limits.windows import window_of
from db.pools import Pool
from db.queries import sql

log = logging.getLogger(__name__)

#: Seconds after which a place that nobody renews is free.
LIFE_S = 4.0
#: Seconds that a connection waits for a place before it is refused, and between two looks.
WAIT_S = 10.0
LOOK_S = 0.1
#: Seconds of silence that a connection may make up for at once.
BURST_S = 0.1
#: Shorter waits are added up: each costs a turn of the loop, which on a busy machine takes longer than the wait.
LEAST_WAIT_S = 0.02
_DOWN = (psycopg.Error, PoolTimeout, OSError, TimeoutError)


@dataclass(slots=True)
class Pace:
    """When the next bytes of a connection may go. Times in seconds of one clock."""

    ready_at: float = 0.0

    def wait_s(self, size: int, rate: float, now: float) -> float:
        """Seconds to wait before `size` bytes may go at `rate` bytes a second."""
        begin = max(self.ready_at, now - BURST_S)
        self.ready_at = begin + size / rate
        return max(0.0, begin - now)


@dataclass(slots=True)
class _Caller:
    """What this process knows of one caller's downloads: how many are `here`, how many of these hold a place."""

    here: int = 0
    held: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    used: int = 0
    known_at: float = field(default=-1e9)


class Downloads:
    """Places, speeds and bytes of the connections of this process."""

    def __init__(self, pool: Pool, clock: Callable[[], float] = time.time) -> None:
        self._pool, self._clock = pool, clock
        self._callers: dict[str, _Caller] = {}
        self._bytes: Counter[str] = Counter()
        self._places: set[UUID] = set()

    @contextlib.asynccontextmanager
    async def place(self, subject: str, tier: Tier) -> AsyncIterator[None]:
        """Hold a place of this caller's while the block runs; waits for a free one.

        Raises:
            Refused: there was none for `WAIT_S` seconds.
        """
        caller = self._callers.setdefault(subject, _Caller())
        caller.here += 1  # keeps what is known of the caller
        place = None
        try:
            await self._look_up(subject, tier)
            place = await self._take(subject, caller, tier)
            yield
        finally:
            caller.here -= 1
            if place is not None:
                caller.held -= 1
                await self._free(place)

    async def _take(self, subject: str, caller: _Caller, tier: Tier) -> UUID | None:
        """A place, when places are limited. Of one caller's connections here one looks and the others stand behind it."""
        try:
            async with asyncio.timeout(WAIT_S), caller.turn:
                while (places := self._places_of(caller, tier)) is not None:
                    if (place := await self._take_one_of(subject, caller, places)) is not None:
                        return place
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            raise Refused(CONNECTIONS, self._places_of(caller, tier) or 0, round(WAIT_S)) from None
        return None

    async def _take_one_of(self, subject: str, caller: _Caller, places: int) -> UUID | None:
        place = uuid4()
        try:
            async with self._pool.connection(timeout=PATIENCE_S) as conn:
                row = await (await conn.execute(sql("limits.take_place"), (place, subject, places, LIFE_S))).fetchone()
            is_taken = row is not None and bool(row["is_taken"])
        except (psycopg.Error, PoolTimeout, OSError):
            is_taken = caller.held < places  # this process alone
        if not is_taken:
            return None
        caller.held += 1
        self._places.add(place)
        return place

    async def _free(self, *places: UUID) -> None:
        self._places.difference_update(places)
        try:
            async with self._pool.connection(timeout=PATIENCE_S) as conn:
                await conn.execute(sql("limits.free_places"), (list(places),))
        except _DOWN:
            log.warning("places of downloads are left to run out")

    def _is_slow(self, caller: _Caller, tier: Tier) -> bool:
        limit = tier.download_bytes_per_month
        return limit is not None and caller.used >= limit

    def _places_of(self, caller: _Caller, tier: Tier) -> int | None:
        return tier.slow_connections if self._is_slow(caller, tier) else tier.connections

    def paced(self, send: Send, subject: str, tier: Tier) -> Send:
        """A `send` that keeps to the caller's speed and counts bytes."""
        caller, pace = self._callers[subject], Pace()

        async def slowed(message: Message) -> None:
            if size := len(message.get("body", b"")):
                rate = tier.slow_bytes_per_second if self._is_slow(caller, tier) else tier.bytes_per_second
                wait_s = pace.wait_s(size, rate, time.monotonic()) if rate is not None else 0.0
                if wait_s >= LEAST_WAIT_S:
                    await asyncio.sleep(wait_s)
                self._bytes[subject] += size
                caller.used += size
            await send(message)

        return slowed

    async def _look_up(self, subject: str, tier: Tier) -> None:
        """Learn what the caller has used this month, on whatever process."""
        caller = self._callers[subject]
        if tier.download_bytes_per_month is not None and time.monotonic() - caller.known_at > 1.0:
            await self._count({subject: 0})

    async def _count(self, amounts: Mapping[str, int]) -> None:
        window = window_of(DOWNLOAD.period, self._clock())
        values = (list(amounts), DOWNLOAD.name, window.start, list(amounts.values()))
        try:
            async with asyncio.timeout(PATIENCE_S), self._pool.connection(timeout=PATIENCE_S) as conn:
                rows = await (await conn.execute(sql("limits.count"), values)).fetchall()
        except _DOWN:
            self._bytes.update(amounts)  # next time
            return
        for row in rows:
            if (caller := self._callers.get(row["subject"])) is not None:
                caller.used, caller.known_at = row["taken"] + self._bytes[row["subject"]], time.monotonic()

    async def settle(self) -> None:
        """Renew places and write bytes down; call every second."""
        counted, self._bytes = self._bytes, Counter()
        if any(counted.values()):
            await self._count({subject: size for subject, size in counted.items() if size})
        if self._places:
            try:
                async with self._pool.connection(timeout=PATIENCE_S) as conn:
                    await conn.execute(sql("limits.keep_places"), (list(self._places), LIFE_S))
            except _DOWN:
                log.warning("places of downloads are not renewed")
        for subject in [one for one, caller in self._callers.items() if not caller.here and not self._bytes[one]]:
            del self._callers[subject]

    async def end(self) -> None:
        """Give up everything."""
        await self.settle()
        if self._places:
            await self._free(*self._places)
