"""How many items a search finds: exact where that is cheap or asked for, else a guess that says so; told again for a while."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from api.stac.kept import Kept
from api.stac.partitions import Partition
from db.queries import sql

log = logging.getLogger(__name__)

#: How long a count is told again, in seconds.
KEPT_S = 60.0
#: Items in partitions of so many bytes together are counted beside the first page, for some milliseconds.
COUNTED_BYTES = 8_000_000
#: Up to this cost, in the planner's units, who asks for one item, and so for the number, gets it exactly: about half a second.
ASKED_COST = 200_000.0
#: These parts of a search read an item's content: some 40 microseconds each, where a row without takes one or two; counted up to some 80
#: milliseconds, as what the planner expects of them is far off.
_READ_CONTENT, _CONTENT_COSTS = ("filter", "query", "q"), 5


@dataclass(frozen=True, slots=True)
class Matched:
    """How many items a search finds."""

    number: int
    is_exact: bool


@dataclass(frozen=True, slots=True)
class Question:
    """A search in its canonical form and who asks.

    `size` is of what has to be looked through, in bytes; `costs` how many times as much as usual a byte takes; `rows` about how many items
    there are in it, None when that must not be told.
    """

    key: bytes
    principals: tuple[str, ...]
    costs: int
    size: int
    rows: int | None

    @classmethod
    def of(
        cls, key: bytes, search: Mapping[str, Any], principals: Sequence[str], partitions: Sequence[Partition]
    ) -> Question:
        """The question that goes with a search over these partitions."""
        costs = _CONTENT_COSTS if any(name in search for name in _READ_CONTENT) else 1
        size = sum(one.bytes for one in partitions)
        rows = sum(one.rows for one in partitions) if all(one.is_public for one in partitions) else None
        return cls(key, tuple(sorted(principals)), costs, size, rows)


class Counts:
    """Numbers that are known or can be found out."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._told: Kept[tuple[bytes, tuple[str, ...]], tuple[float, Matched]] = Kept()
        self._running: set[asyncio.Task[Matched | None]] = set()

    def clear(self) -> None:
        """Nothing is known any more."""
        self._told.clear()

    def begin(self, asked: Question, *, is_first: bool, is_wanted: bool) -> asyncio.Task[Matched | None]:
        """Find out beside the page what is known, cheap to count, or `is_wanted` by the caller; None for anything else.

        When nobody waits for it the task ends by itself, soon: to break a query off costs more than its rest.
        """
        return self._start(self._found(asked, is_first, is_wanted))

    def keep(self, asked: Question, matched: Matched) -> Matched:
        """Remember a number."""
        self._told.keep((asked.key, asked.principals), (time.monotonic(), matched))
        return matched

    async def estimated(self, asked: Question) -> Matched:
        """What the planner expects."""
        return (await self._estimate(asked))[0]

    async def _found(self, asked: Question, is_first: bool, is_wanted: bool) -> Matched | None:
        told_at, matched = self._told.get((asked.key, asked.principals), (0.0, None))
        if matched and time.monotonic() - told_at < KEPT_S and (matched.is_exact or not is_wanted):
            return matched
        if not is_first:
            return None
        try:
            if asked.size * asked.costs <= COUNTED_BYTES:
                return await self._count(asked)
            if is_wanted:
                matched, cost = await self._estimate(asked)
                return await self._count(asked) if cost <= ASKED_COST else matched
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            log.warning("count failed", extra={"reason": type(error).__name__})
        return None

    async def _count(self, asked: Question) -> Matched:
        number = await self._pool.fetchval(sql("api.search_count"), asked.key.decode(), asked.principals)
        return self.keep(asked, Matched(number, True))

    async def _estimate(self, asked: Question) -> tuple[Matched, float]:
        row: Any = await self._pool.fetchrow(sql("api.search_estimate"), asked.key.decode(), asked.principals)
        # Where nothing was analysed yet the planner expects more items than there are.
        number = row["matched"] if asked.rows is None else min(row["matched"], max(asked.rows, 1))
        return self.keep(asked, Matched(number, False)), row["cost"] * asked.costs

    def _start(self, work: Coroutine[Any, Any, Matched | None]) -> asyncio.Task[Matched | None]:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task
