"""How often an upstream may be asked, and when not at all: in one process, or shared by all workers of all hosts in PostgreSQL.

A budget paces requests, counts them against a monthly limit, and keeps the circuit breaker: five failures in a row, whoever met them,
and nobody asks for a minute; then one request may try.
"""

from __future__ import annotations

import time
from typing import Protocol

from db.pools import Pool
from db.queries import sql
from ingest.errors import UpstreamUnavailable
from ingest.model import Source


class Budget(Protocol):
    """What a transport asks before and tells after each request."""

    async def admit(self) -> float:
        """Seconds to wait before the request may begin.

        Raises:
            UpstreamUnavailable: the breaker is open, or the month's requests are spent.
        """
        ...

    async def succeeded(self) -> None:
        """The upstream answered."""
        ...

    async def failed(self) -> None:
        """It did not, or with a fault of its own."""
        ...

    async def hold(self, seconds: float) -> None:
        """It asked for patience: nobody may ask before."""
        ...


class LocalBudget:
    """Paces this process alone, for commands without a database."""

    def __init__(self, source: Source) -> None:
        self._interval_s = 1 / source.requests_per_second
        self._next_at = 0.0

    async def admit(self) -> float:
        """See `Budget`."""
        now = time.monotonic()
        begin = max(now, self._next_at)
        self._next_at = begin + self._interval_s
        return begin - now

    async def succeeded(self) -> None:
        """Nothing to note."""

    async def failed(self) -> None:
        """Nothing to note."""

    async def hold(self, seconds: float) -> None:
        """Who was told to wait waits by itself."""


class SharedBudget:
    """The budget of a source for everyone who works on this database."""

    def __init__(self, pool: Pool, source: Source) -> None:
        self._pool = pool
        self._source = source
        self._failures = 0

    async def admit(self) -> float:
        """See `Budget`."""
        parameters = (self._source.id, 1 / self._source.requests_per_second, self._source.requests_per_month)
        async with self._pool.connection() as conn:
            row = await (await conn.execute(sql("upstream.admit"), parameters)).fetchone()
        assert row is not None
        wait_s, refusal = float(row["wait_s"]), row["refusal"]
        self._failures = row["failures"]
        if refusal == "breaker":
            raise UpstreamUnavailable(
                f"{self._source.id}: failed {self._failures} times in a row; nobody asks it for {wait_s:.0f} s",
                retry_after_s=wait_s,
            )
        if refusal == "budget":
            raise UpstreamUnavailable(
                f"{self._source.id}: the {self._source.requests_per_month} requests of this month are spent",
                retry_after_s=wait_s,
            )
        return wait_s

    async def succeeded(self) -> None:
        """Costs a statement only when there was a failure before."""
        if self._failures:
            self._failures = 0
            await self._note("upstream.note_success")

    async def failed(self) -> None:
        """See `Budget`."""
        self._failures += 1
        await self._note("upstream.note_failure")

    async def hold(self, seconds: float) -> None:
        """See `Budget`."""
        async with self._pool.connection() as conn:
            await conn.execute(sql("upstream.hold"), (self._source.id, seconds))

    async def _note(self, statement: str) -> None:
        async with self._pool.connection() as conn:
            await conn.execute(sql(statement), (self._source.id,))
