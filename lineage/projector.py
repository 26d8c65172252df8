"""Keeps the graph up with the log: reads events by number, folds them (`lineage.projection`), writes what changed, in one transaction.

Whoever is killed repeats a batch. Nothing here is in the way of who writes items: it reads the log only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from psycopg.rows import TupleRow, tuple_row

from db.pools import Connection, Pool
from db.queries import sql
from lineage.projected import Fact, State, carry
from lineage.projected_reads import Wanted, read_state, wanted_of
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
        rows = await events(conn, row["next_seq"], batch_size)
        if not rows:
            return 0
        batch = prepared(rows)
        changes = folded(batch, await read_state(conn, batch.wanted))
        await write(conn, changes)
        await conn.execute(sql("graph.advance"), (batch.facts[-1].seq + 1,))
        return len(rows)


@dataclass(slots=True)
class Batch:
    """Events, and what their fold may ask for."""

    facts: list[Fact]
    wanted: Wanted


async def events(conn: Connection, start: int, number: int) -> list[TupleRow]:
    """So many from a number on."""
    async with conn.cursor(row_factory=tuple_row) as cursor:
        return await (await cursor.execute(sql("graph.facts"), (start, number))).fetchall()


def prepared(rows: Sequence[TupleRow]) -> Batch:
    """Pure."""
    facts = [Fact(*row) for row in rows]
    for fact in facts:
        fact.body = orjson.loads(fact.body)  # type: ignore[arg-type]  # a text until now
    return Batch(facts, wanted_of(facts))


def folded(batch: Batch, state: State, before: State | None = None) -> Changes:
    """What is to be written. Pure, but for the state, which is that after the batch then.

    Args:
        before: of the batch before this one, when the state was read without it.
    """
    if before is not None:
        carry(before, state)
    were_open = dict(state.open_versions)
    fold(state, batch.facts)
    return changes_of(state, {place: one for place, one in were_open.items() if one.to_seq is not None})
