"""Work done while its results are used: a thread makes the next values while the loop waits for PostgreSQL, say, with those before."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, asynccontextmanager

#: How long one thread may keep the interpreter from another that waits for it, while there is work ahead. Python's 5 ms are longer than
#: PostgreSQL takes for a statement: the loop, which has little to do, would be late for each.
_TURN_S = 0.0005


class _ShortTurns:
    """Within this the threads of the process take turns more often; entered by several at once, left with the last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._usual_s = 0.0

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._usual_s = sys.getswitchinterval()
                sys.setswitchinterval(min(_TURN_S, self._usual_s))
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                sys.setswitchinterval(self._usual_s)


short_turns = _ShortTurns()

type _Made[T] = asyncio.Task[tuple[T] | None]


@asynccontextmanager
async def ahead[T](values: Iterator[T], number: int = 1) -> AsyncGenerator[AsyncGenerator[T]]:
    """The values of an iterator that takes its time, made in a thread in their order, so many ahead at most; from now on, asked for or not.

    The values raise whatever the iterator raises, when its turn comes.
    """
    room = asyncio.Semaphore(number)
    ready: asyncio.Queue[_Made[T]] = asyncio.Queue()
    with short_turns:
        making = asyncio.create_task(_make(values, room, ready))
        try:
            async with aclosing(_taken_over(room, ready)) as made:
                yield made
        finally:  # a thread cannot be stopped, and nobody may ask the iterator for more while it works
            making.cancel()
            await asyncio.wait({making})
            while not ready.empty():
                ready.get_nowait().exception()


async def _taken_over[T](room: asyncio.Semaphore, ready: asyncio.Queue[_Made[T]]) -> AsyncGenerator[T]:
    while (found := (await ready.get()).result()) is not None:
        room.release()
        yield found[0]


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
