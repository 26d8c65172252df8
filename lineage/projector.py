"""Keeps the graph up with the log: reads events by number, folds them (`lineage.projection`), writes what changed, in one transaction.

Whoever is killed repeats a batch. Nothing here is in the way of who writes items: it reads the log only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from psycopg.rows import TupleRow, tuple_row

from db.pools import Connection, Pool
from db.queries import sql
from lineage.projected import Fact, State, carry
from lineage.projected_reads import Seen, Wanted, read_state, wanted_of
from lineage.projected_writes import Changes, changes_of, write
from lineage.projection import fold

BATCH = 2000


async def project(pool: Pool, *, batch_size: int = BATCH) -> int:
    """Take all new events into the graph; return their number (0 when another process is at it)."""
    total = 0
    async with pool.connection() as conn:
        while True:
            done = await project_batch(conn, batch_size)
            total += done
            if done < batch_size:
                return total


async def project_batch(conn: Connection, batch_size: int) -> int:
    """One batch in one transaction."""
    async with conn.transaction():
        row = await (await conn.execute(sql("graph.try_lock"))).fetchone()
        if not (row and row["locked"]):
            return 0
        row = await (await conn.execute(sql("graph.next_seq"))).fetchone()
        assert row is not None
        rows = await _events(conn, row["next_seq"], batch_size)
        if not rows:
            return 0
        batch = _prepared(rows)
        changes = _folded(batch, await read_state(conn, batch.wanted))
        await write(conn, changes)
        await conn.execute(sql("graph.advance"), (batch.facts[-1].seq + 1,))
        return len(rows)


async def rebuild(conn: Connection, *, batch_size: int = BATCH) -> int:
    """Drop the graph and make it again of the events alone, in one transaction; return how many there were.

    While the server writes one batch and is asked about the next but one, the one between is folded: what the server does not know then is
    carried on (`lineage.projected.carry`). What was never written is not asked for.
    """
    async with conn.transaction():
        await conn.execute(sql("graph.lock"))
        await conn.execute(sql("graph.try_lock"))
        await conn.execute(sql("graph.empty"))
        total, following = await _refill(conn, batch_size)
        await conn.execute(sql("graph.advance"), (following,))
        await conn.execute(sql("graph.analyze"))
        return total


@dataclass(slots=True)
class _Batch:
    facts: list[Fact]
    wanted: Wanted


async def _refill(conn: Connection, batch_size: int) -> tuple[int, int]:
    """How many events were taken in, and the first number after them."""
    seen, total, start = Seen(), 0, 0

    async def take() -> _Batch:
        nonlocal start
        rows = await _events(conn, start, batch_size)
        start = rows[-1][0] + 1 if rows else start
        return _prepared(rows)

    async def store_and_ask(changes: Changes, batch: _Batch) -> tuple[State, _Batch]:
        await write(conn, changes)
        return await read_state(conn, batch.wanted, seen), await take()

    now, following = await take(), await take()
    before, state, changes = State(), State(), Changes()
    while now.facts:
        storing = asyncio.create_task(store_and_ask(changes, following))
        try:
            changes = await asyncio.to_thread(_folded, now, state, before)
        finally:  # nothing may be written after the transaction's end
            read, after = await storing
        _note(seen, state)
        total += len(now.facts)
        before, state, now, following = state, read, following, after
    await write(conn, changes)
    return total, start


async def _events(conn: Connection, start: int, number: int) -> list[TupleRow]:
    async with conn.cursor(row_factory=tuple_row) as cursor:
        return await (await cursor.execute(sql("graph.facts"), (start, number))).fetchall()


def _prepared(rows: Sequence[TupleRow]) -> _Batch:
    facts = [Fact(*row) for row in rows]
    for fact in facts:
        fact.body = orjson.loads(fact.body)  # type: ignore[arg-type]  # a text until now
    return _Batch(facts, wanted_of(facts))


def _folded(batch: _Batch, state: State, before: State | None = None) -> Changes:
    """`before`: of the batch before this one, when the state was read without it."""
    if before is not None:
        carry(before, state)
    were_open = dict(state.open_versions)
    fold(state, batch.facts)
    return changes_of(state, {place: one for place, one in were_open.items() if one.to_seq is not None})


def _note(seen: Seen, state: State) -> None:
    seen.add(state.touched_entities)
    seen.add(state.touched_places)
    seen.add({one.family for one in state.touched_entities.values() if one.family})
