"""Looks whether what opens a hash of parents (`lineage.commitments`) still does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from psycopg import AsyncConnection

from db.queries import sql
from lineage.verify import Fault

Row = dict[str, Any]


async def commitment_faults(conn: AsyncConnection[Row]) -> AsyncIterator[Fault]:
    """Rows that do not open their hash: other parents were put in. A row that is gone is none: it may be deleted."""
    for row in await (await conn.execute(sql("audit.commitments"))).fetchall():
        yield Fault("commitment-differs", f"the parents behind the hash {row['digest']} are others than it stands for")
