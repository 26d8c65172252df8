"""Keeps the number of footprints in each cell, of each collection: in the worker, from what the database noted of changes.

The same changes mark the kept pictures (`federator.overview`) in which they are to be seen.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable

from db.pools import Connection, Pool
from db.queries import sql
from ingest.overviews.cells import FIRST, LAST, cells_of
from ingest.overviews.stale import marks_of

_BATCH = 2000

#: (level, x, y) -> items, and those of them that are in no finer level.
Cells = dict[tuple[int, int, int], list[int]]


async def keep_density(pool: Pool) -> int:
    """Reckon what waits; return how many changes there were. Any number of workers may do this at once."""
    done = 0
    while number := await _batch(pool):
        done += number
    async with pool.connection() as conn:
        await conn.execute(sql("tiles.add_up_touches"))
    return done


async def _batch(pool: Pool) -> int:
    async with pool.connection() as conn, conn.transaction():
        rows = await (await conn.execute(sql("tiles.take_footprint_changes"), (_BATCH,))).fetchall()
        changes: dict[str, Counter[bytes]] = defaultdict(Counter)
        seen: dict[str, dict[bytes, bool]] = defaultdict(dict)
        for row in rows:
            collection, geometry = row["collection_id"], bytes(row["geometry"])
            changes[collection][geometry] += row["step"]
            seen[collection][geometry] = seen[collection].get(geometry, False) or row["step"] <= 0
        for collection, steps in sorted(changes.items()):
            cells = await asyncio.to_thread(summed, steps.items())
            if cells:
                keys = sorted(cells)
                columns = [list(column) for column in zip(*keys, strict=True)]
                counts = [[cells[key][place] for key in keys] for place in (0, 1)]
                await conn.execute(sql("tiles.add_footprints"), (collection, *columns, *counts))
        await _mark(conn, seen)
        return len(rows)


async def _mark(conn: Connection, seen: dict[str, dict[bytes, bool]]) -> None:
    """Mark kept pictures; asked after footprints are added, which waits for who begins to keep a collection's."""
    kept = await (await conn.execute(sql("tiles.kept_overviews"), (list(seen),))).fetchall()
    for collection in sorted(row["collection_id"] for row in kept):
        marks = await asyncio.to_thread(marks_of, seen[collection].items())
        if marks:
            columns = [list(column) for column in zip(*marks, strict=True)]
            await conn.execute(sql("tiles.mark_overviews"), (collection, *columns, list(marks.values())))


def summed(footprints: Iterable[tuple[bytes, int]]) -> Cells:
    """What these footprints, each so many times, add to cells; what cancels out is left out."""
    cells: Cells = defaultdict(lambda: [0, 0])
    for geometry, times in footprints:
        if not times:
            continue
        levels = cells_of(geometry)
        for number, found in enumerate(levels):
            is_last = number == len(levels) - 1 and FIRST + number < LAST
            for x, y in found:
                cell = cells[FIRST + number, x, y]
                cell[0] += times
                if is_last:
                    cell[1] += times
    return {key: cell for key, cell in cells.items() if cell != [0, 0]}
