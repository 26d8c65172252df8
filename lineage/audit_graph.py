"""Compares what is made of the events (the graph, item versions) with itself made again, row for row, and past documents with their hashes.

It is done in a transaction that is rolled back: readers see nothing of it, the projector waits.
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import AsyncConnection

from db.queries import sql
from lineage.audit import uncomparable
from lineage.projector import BATCH, project_batch
from lineage.rebuilding import rebuild
from lineage.verify import Fault

Row = dict[str, Any]


async def graph_faults(conn: AsyncConnection[Row], *, is_damaged: bool = False) -> list[Fault]:
    """Rows of the projections that the events do not give or that are missing, and past documents that are not those that the log names.

    Args:
        is_damaged: the log itself was changed: events of which no graph can be made are a fault and no error.
    """
    try:
        return await _graph_faults(conn)
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
        return [Fault("table-missing", "a table that is made of the events, or a column of one, is gone")]
    except Exception as error:
        if not is_damaged:
            raise
        return [uncomparable(error)]


async def _graph_faults(conn: AsyncConnection[Row]) -> list[Fault]:
    faults = [
        Fault(
            "past-item-differs", f"the kept document of {row['collection']}/{row['item_id']} is not the one of its hash"
        )
        for row in await (await conn.execute(sql("audit.past_items"))).fetchall()
    ]
    async with conn.transaction(force_rollback=True):
        faults += await _caught_up(conn)
        await conn.execute(sql("audit.keep_projections"))
        await rebuild(conn)
        for row in await (await conn.execute(sql("audit.projections_that_differ"))).fetchall():
            words = f"a row of lineage.{row['part']} is {row['what']}: {row['told']}"
            faults.append(Fault(f"{row['part'].replace('_', '-')}-differs", words, row["seq"]))
    return faults


async def _caught_up(conn: AsyncConnection[Row]) -> list[Fault]:
    """Take in what is new. What was taken in before does not fit a second time: then somebody has set back how far that is."""
    try:
        async with conn.transaction():
            while await project_batch(conn, BATCH):
                pass
    except (psycopg.IntegrityError, AssertionError):
        return [Fault("projection-differs", "lineage.projection is not how far the events were taken into the graph")]
    return []
