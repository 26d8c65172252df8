"""Equal work at the same moment is done once: whoever comes while it is being done waits for its result."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field

import anyio

from api.tiles.leaving import LEFT, ClientLeft


@dataclass(eq=False)
class _Flight[V]:
    """Work that is being done, how many wait for it, and what tells it that nobody does any more."""

    task: asyncio.Task[V] | None = None
    waiting: int = 0
    left: threading.Event = field(default_factory=threading.Event)
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    def abandon(self) -> None:
        """End it; nobody asks how."""
        if self.task is not None:
            self.task.add_done_callback(lambda task: task.cancelled() or task.exception())
        self.left.set()
        self.scope.cancel()


class SingleFlight[K: Hashable, V]:
    """Work by key; of one event loop."""

    def __init__(self) -> None:
        self._flights: dict[K, _Flight[V]] = {}

    def __len__(self) -> int:
        """How many are being done."""
        return len(self._flights)

    async def do(self, key: K, work: Callable[[], Awaitable[V]]) -> tuple[V, bool]:
        """Return the result of the work, and whether this call has begun it.

        The work ends early only when all who wait for it have gone; its threads are told by `LEFT`. Raises what it raises, to each of them.
        """
        flight = self._flights.get(key)
        begun_here = flight is None
        if flight is None:
            flight = self._flights[key] = _Flight()
            flight.task = asyncio.create_task(self._done(key, flight, work))
        assert flight.task is not None
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task), begun_here
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                flight.abandon()
                if self._flights.get(key) is flight:
                    del self._flights[key]  # whoever comes now begins anew

    async def _done(self, key: K, flight: _Flight[V], work: Callable[[], Awaitable[V]]) -> V:
        LEFT.set(flight.left)
        try:
            with flight.scope:
                return await work()
            raise ClientLeft
        finally:
            if self._flights.get(key) is flight:
                del self._flights[key]
