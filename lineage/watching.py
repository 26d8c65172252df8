"""What watches tell: what happened to what somebody built on, with what he may see now."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from typing import Any
from uuid import UUID

from db.pools import Connection
from db.queries import sql
from lineage import graph

#: What of a caller's own is looked at, and how many ancestors of it.
MAX_MINE, MAX_ANCESTORS = 10_000, 100_000
#: Alerts of one answer, unless more are asked for.
USUAL_LIMIT = 100


async def alerts(
    conn: Connection,
    entity: UUID | None,
    owner: str,
    principals: Sequence[str],
    from_seq: int,
    upto: int,
    limit: int = USUAL_LIMIT,
) -> list[dict[str, Any]]:
    """Events from one number to another that a watch tells of, in their order, as rows.

    Args:
        entity: what is watched; None: all that the owner's own items came of.
    """
    entities = [entity] if entity else await _ancestors(conn, owner, principals, upto)
    parameters = (entities, from_seq, list(principals), limit, upto)
    return await (await conn.execute(sql("graph.alerts"), parameters)).fetchall()


async def _ancestors(conn: Connection, owner: str, principals: Sequence[str], size: int) -> list[UUID]:
    """All that the owner's own items came of, as far as he may see it."""
    rows = await (await conn.execute(sql("graph.mine"), (owner, MAX_MINE))).fetchall()
    roots = await graph.known(conn, [row["id"] for row in rows], principals)
    found: list[UUID] = []
    walked = graph.portions(conn, roots, upward=True, wanted=graph.Filter(tuple(principals), size))
    async with aclosing(walked) as portions:
        async for some in portions:
            found += [
                UUID(one.node.id) for one in some if one.node and one.link is not None and one.node.kind != "redacted"
            ]
            if len(found) >= MAX_ANCESTORS:
                break
    return found[:MAX_ANCESTORS]
