"""Where the API reads: from a replica when there is one, while it answers and keeps up; else from the primary.

What hears of changes listens at the primary and may hear of one before the replica has it: see `Reads.caught_up`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg

from db.pools import open_asyncpg
from db.queries import sql
from db.settings import DatabaseSettings

log = logging.getLogger(__name__)

_PULSE_S = 1.0
_PATIENCE_S = 2.0
_CATCH_UP_S = 0.02
_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)


class Reads:
    """Stands in for a pool; `pool` is the one that is read from now."""

    def __init__(self, primary: asyncpg.Pool, replica: asyncpg.Pool, max_lag_s: float) -> None:
        self._primary, self._replica = primary, replica
        self._max_lag_s = max_lag_s
        self._marks: deque[tuple[float, int]] = deque()
        self.pool = primary
        self.on_switch: Callable[[], None] = lambda: None
        # A request takes these from the pool itself, a switch apart.
        self._use(primary)

    def _use(self, pool: asyncpg.Pool) -> None:
        self.pool = pool
        self.acquire, self.fetch, self.fetchrow, self.fetchval = pool.acquire, pool.fetch, pool.fetchrow, pool.fetchval

    @property
    def primary(self) -> asyncpg.Pool:
        """The pool in which every change is seen at once."""
        return self._primary

    @property
    def from_replica(self) -> bool:
        """Whether the replica is read."""
        return self.pool is self._replica

    async def close(self) -> None:
        """Close both pools."""
        await self._replica.close()
        await self._primary.close()

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Look after the replica while the block runs."""
        await self.look()
        task = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_PULSE_S)
            await self.look()

    async def look(self) -> None:
        """Read from the replica from now on if it answers and is at most so far behind, else from the primary."""
        replayed = await self._replayed()
        written = await self._of_primary("api.wal_written")
        now = time.monotonic()
        if written is not None:
            self._marks.append((now, written))
        while len(self._marks) > 1 and self._marks[1][0] <= now - self._max_lag_s:
            self._marks.popleft()
        behind = (
            bool(self._marks) and self._marks[0][0] <= now - self._max_lag_s and (replayed or 0) < self._marks[0][1]
        )
        wanted = self._primary if replayed is None or behind else self._replica
        if wanted is not self.pool:
            self._use(wanted)
            log.warning(
                "reading from the %s", "replica" if self.from_replica else "primary",
                extra={"answers": replayed is not None, "behind": behind},
            )  # fmt: skip
            self.on_switch()

    async def caught_up(self) -> None:
        """Wait until what is read has everything that the primary has now."""
        made = await self._of_primary("api.wal_inserted")
        while made is not None and self.from_replica:
            replayed = await self._replayed()
            if replayed is None or replayed >= made:
                return
            await asyncio.sleep(_CATCH_UP_S)

    async def _of_primary(self, query: str) -> int | None:
        try:
            return _position(await self._primary.fetchval(sql(query), timeout=_PATIENCE_S))
        except _ERRORS:
            return None

    async def _replayed(self) -> int | None:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return _position(await self._replica.fetchval(sql("api.wal_replayed"), timeout=_PATIENCE_S))
        except _ERRORS:
            return None


def _position(lsn: str) -> int:
    """A place in the write-ahead log (`16/B374D848`) as a number."""
    high, _, low = lsn.partition("/")
    return int(high, 16) << 32 | int(low, 16)


async def open_reads(database: DatabaseSettings) -> asyncpg.Pool | Reads:
    """Return what the API reads from; the caller closes it.

    Raises:
        DatabaseUnavailable: the primary does not answer. A replica that does not is waited for.
    """
    primary = await open_asyncpg(database)
    if not database.pghost_reader:
        return primary
    return Reads(primary, await open_asyncpg(database.reader), database.reader_max_lag_s)


@contextlib.asynccontextmanager
async def watching(reads: Any) -> AsyncIterator[None]:
    """Look after what is read from, when there is something to look after."""
    if not isinstance(reads, Reads):
        yield
        return
    async with reads.watched():
        yield
