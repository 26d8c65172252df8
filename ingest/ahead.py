"""Work done while its results are used: a thread makes the next value while the loop waits, for PostgreSQL say, with the one before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator


async def ahead[T](values: Iterator[T]) -> AsyncGenerator[T]:
    """The values of an iterator that takes its time, each made in a thread; one of them is in hand at most. To be closed (`aclosing`).

    Raises:
        Whatever the iterator raises, when its turn comes.
    """
    following = _next(values)
    try:
        while (found := await following) is not None:
            following = _next(values)
            yield found[0]
    finally:  # a thread cannot be stopped, and nobody may ask the iterator for more while it works
        await asyncio.wait({following})
        if not following.cancelled():
            following.exception()


def _next[T](values: Iterator[T]) -> asyncio.Task[tuple[T] | None]:
    return asyncio.create_task(asyncio.to_thread(_taken, values))


def _taken[T](values: Iterator[T]) -> tuple[T] | None:
    """The next value, wrapped; None at the end."""
    for value in values:
        return (value,)
    return None
