"""Work done while its results are used: a thread makes the next values while the loop waits for PostgreSQL, say, with those before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator

type _Made[T] = asyncio.Task[tuple[T] | None]


async def ahead[T](values: Iterator[T], number: int = 1) -> AsyncGenerator[T]:
    """The values of an iterator that takes its time, made in a thread in their order, so many ahead at most. To be closed (`aclosing`).

    Raises:
        Whatever the iterator raises, when its turn comes.
    """
    room = asyncio.Semaphore(number)
    ready: asyncio.Queue[_Made[T]] = asyncio.Queue()
    making = asyncio.create_task(_make(values, room, ready))
    try:
        while (found := (await ready.get()).result()) is not None:
            room.release()
            yield found[0]
    finally:  # a thread cannot be stopped, and nobody may ask the iterator for more while it works
        making.cancel()
        await asyncio.wait({making})
        while not ready.empty():
            ready.get_nowait().exception()


async def _make[T](values: Iterator[T], room: asyncio.Semaphore, ready: asyncio.Queue[_Made[T]]) -> None:
    """Put values, and at last their end or what was raised, where they are waited for. Ends no earlier than the thread's work."""
    while True:
        await room.acquire()
        one = asyncio.create_task(asyncio.to_thread(_taken, values))
        try:
            await asyncio.wait({one})  # which leaves it at work when the waiting is cancelled
        except asyncio.CancelledError:
            await asyncio.wait({one})
            one.exception()
            raise
        ready.put_nowait(one)
        if one.exception() is not None or one.result() is None:
            return


def _taken[T](values: Iterator[T]) -> tuple[T] | None:
    """The next value, wrapped; None at the end."""
    for value in values:
        return (value,)
    return None
