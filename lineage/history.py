"""Reading the log: events of an item, the change feed, keys, the newest checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from psycopg import AsyncConnection

from db.queries import sql
from lineage.visibility import EVERYTHING

Row = dict[str, Any]


def shown(row: Row) -> Row:
    """A row as JSON: times as RFC 3339, the body parsed."""
    out = {name: value for name, value in row.items() if name not in ("body", "actor_id")}
    for name in ("claimed_at", "recorded_at"):
        if isinstance(out[name], datetime):
            out[name] = out[name].astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return out | {"id": str(row["id"]), "actor": row["actor_id"], "body": orjson.loads(row["body"])}


async def events_of(
    conn: AsyncConnection[Row], collection: str, item_id: str, principals: Sequence[str] = EVERYTHING
) -> list[Row]:
    """Events of one item, oldest first; those without a number yet last, with `pending: true`."""
    rows = await (await conn.execute(sql("lineage.events_of_item"), (collection, item_id, list(principals)))).fetchall()
    return [shown(row) for row in rows]


async def events_from(
    conn: AsyncConnection[Row], seq: int, limit: int, principals: Sequence[str] = EVERYTHING
) -> list[Row]:
    """The change feed from number `seq` on."""
    rows = await (await conn.execute(sql("lineage.events_from"), (seq, limit, list(principals)))).fetchall()
    return [shown(row) for row in rows]


async def newest_note(conn: AsyncConnection[Row]) -> str | None:
    """The newest signed checkpoint, None before the log has begun."""
    row = await (await conn.execute(sql("lineage.newest_checkpoint"))).fetchone()
    return str(row["note"]) if row else None


async def keys(conn: AsyncConnection[Row]) -> list[Row]:
    """All keys that ever signed, public parts only."""
    return await (await conn.execute(sql("lineage.signing_keys"))).fetchall()
