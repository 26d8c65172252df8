"""Equal work at the same moment is done once: whoever comes while it is being done waits for its result."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable


class SingleFlight[K: Hashable, V]:
    """Work by key; of one event loop."""

    def __init__(self) -> None:
        self._flights: dict[K, tuple[asyncio.Task[V], list[int]]] = {}

    def __len__(self) -> int:
        """How many are being done."""
        return len(self._flights)

    async def do(self, key: K, work: Callable[[], Awaitable[V]]) -> tuple[V, bool]:
        """Return the result of the work, and whether this call has begun it.

        The work ends early only when all who wait for it have gone. Raises what it raises, to each of them.
        """
        found = self._flights.get(key)
        begun_here = found is None
        if found is None:
            found = self._flights[key] = asyncio.create_task(self._done(key, work)), [0]
        task, waiting = found
        waiting[0] += 1
        try:
            return await asyncio.shield(task), begun_here
        finally:
            waiting[0] -= 1
            if not waiting[0] and not task.done():
                task.cancel()
                self._flights.pop(key, None)  # whoever comes now begins anew

    async def _done(self, key: K, work: Callable[[], Awaitable[V]]) -> V:
        try:
            return await work()
        finally:
            found = self._flights.get(key)
            if found is not None and found[0] is asyncio.current_task():
                del self._flights[key]
