"""Makes the graph again of the events alone: PostgreSQL writes one batch and is asked about another while the one between is folded.

A long log is folded by a process of its own, which knows no database: events and rows go there, texts for COPY come back. So the fold has
one core and PostgreSQL the other. The fold is the same, so are the rows.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import multiprocessing
import os
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from multiprocessing.connection import Connection as Link

from psycopg.rows import TupleRow

from db.pools import Connection
from db.queries import sql
from lineage.errors import LineageError
from lineage.projected import State
from lineage.projected_reads import Seen, Wanted, read_state
from lineage.projected_writes import Changes, write
from lineage.projector import BATCH, Batch, events, folded, prepared

#: Events from which on a process of its own is worth its start.
LONG = 50_000

#: Takes the state of the oldest batch that waits (None: nothing is folded yet) and the events of a new one; gives what the oldest
#: changes and what the new one asks for.
Step = Callable[[State | None, Sequence[TupleRow]], Awaitable[tuple[Changes, Wanted]]]


async def rebuild(conn: Connection, *, batch_size: int = BATCH, long: int = LONG) -> int:
    """Drop the graph and make it again of the events alone, in one transaction; return how many there were.

    Args:
        long: from so many events on another process folds them.
    """
    async with conn.transaction():
        await conn.execute(sql("graph.lock"))
        await conn.execute(sql("graph.try_lock"))
        await conn.execute(sql("graph.empty"))
        is_long = await _last(conn) >= long and (os.cpu_count() or 1) > 1
        with _uncollected(), _elsewhere() if is_long else _here() as step:
            total, following = await _refill(conn, batch_size, step)
        await conn.execute(sql("graph.advance"), (following,))
        await conn.execute(sql("graph.analyze"))
        return total


async def _last(conn: Connection) -> int:
    row = await (await conn.execute(sql("graph.last_seq"))).fetchone()
    return int(row["seq"]) if row else 0


async def _refill(conn: Connection, batch_size: int, step: Step) -> tuple[int, int]:
    """How many events were taken in, and the first number after them.

    While a batch is folded, what the one before has changed is written, then the rows for the one behind it are read, without what the
    fold is about to change: that is carried on (`lineage.projected.carry`). What was never written is not asked for.
    """
    total, start = 0, 0

    async def take() -> list[TupleRow]:
        nonlocal start
        rows = await events(conn, start, batch_size)
        start = rows[-1][0] + 1 if rows else start
        return rows

    async def store_and_ask(changes: Changes, wanted: Wanted) -> tuple[State, list[TupleRow]]:
        await write(conn, changes)
        return await read_state(conn, wanted), await take()

    now, following = await take(), await take()
    _, wanted = await step(None, now)
    state = await read_state(conn, wanted)
    _, wanted = await step(None, following)
    rows, changes = await take(), Changes()
    while now:
        storing = asyncio.create_task(store_and_ask(changes, wanted))
        try:
            changes, wanted = await step(state, rows)
        finally:  # nothing may be written after the transaction's end
            state, after = await storing
        total += len(now)
        now, following, rows = following, rows, after
    await write(conn, changes)
    return total, start


class _Folder:
    """The part of a rebuild that needs no database."""

    def __init__(self) -> None:
        self._seen, self._before, self._batches = Seen(), State(), deque[Batch]()

    def step(self, state: State | None, rows: Sequence[TupleRow]) -> tuple[Changes, Wanted]:
        """See `Step`."""
        changes = Changes() if state is None else self._fold(state)
        batch = prepared(rows)
        self._batches.append(batch)
        return changes, self._seen.those_wanted(batch.wanted)

    def _fold(self, state: State) -> Changes:
        changes = folded(self._batches.popleft(), state, self._before)
        self._before = state
        self._seen.add(state.touched_entities)
        self._seen.add(state.touched_places)
        self._seen.add({one.family for one in state.touched_entities.values() if one.family})
        return changes


@contextlib.contextmanager
def _here() -> Iterator[Step]:
    folder = _Folder()

    async def step(state: State | None, rows: Sequence[TupleRow]) -> tuple[Changes, Wanted]:
        return await asyncio.to_thread(folder.step, state, rows)

    yield step


@contextlib.contextmanager
def _elsewhere() -> Iterator[Step]:
    """In a process of its own, which ends with its end of the pipe: also when this one is killed."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), name="fold", daemon=True)
    process.start()
    theirs.close()

    def ask(state: State | None, rows: Sequence[TupleRow]) -> tuple[Changes, Wanted]:
        try:
            ours.send((state, rows))
            answer = ours.recv()
        except (EOFError, OSError) as error:
            raise LineageError(f"the process that folds events ended with {process.exitcode}") from error
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    async def step(state: State | None, rows: Sequence[TupleRow]) -> tuple[Changes, Wanted]:
        return await asyncio.to_thread(ask, state, rows)

    try:
        yield step
    finally:
        ours.close()
        process.join()
        process.close()


def _serve(link: Link) -> None:
    folder = _Folder()
    with _uncollected(), contextlib.suppress(EOFError, KeyboardInterrupt, BrokenPipeError), link:
        while True:
            state, rows = link.recv()
            try:
                answer: object = folder.step(state, rows)
            except Exception as error:  # noqa: BLE001 - it belongs to who asked
                answer = error
            link.send(answer)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without the search for cycles: events and rows have none, and to look through so many of them took a tenth of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
