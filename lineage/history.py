"""Reading the log: events of an item, the change feed, keys, the newest checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from psycopg import AsyncConnection

from db.queries import sql
from lineage.export import entry_bundle
from lineage.tree import TILE_WIDTH
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


async def size(conn: AsyncConnection[Row]) -> int:
    """How many events have a number; those are all there for who asks for them afterwards."""
    row = await (await conn.execute(sql("lineage.newest_checkpoint"))).fetchone()
    return int(row["size"]) if row else 0


async def newest_note(conn: AsyncConnection[Row], *, cosigned: bool = False) -> str | None:
    """The newest signed checkpoint, None before the log has begun; `cosigned`: with the lines of witnesses that there are."""
    row = await (await conn.execute(sql("lineage.newest_checkpoint"))).fetchone()
    if row is None:
        return None
    lines = await (await conn.execute(sql("lineage.cosignatures"), ([row["size"]],))).fetchall() if cosigned else []
    return str(row["note"]) + "".join(one["line"] for one in lines)


async def tile(conn: AsyncConnection[Row], level: int, index: int, width: int) -> bytes | None:
    """A tile of exactly this width, 256 for a full one; None when there is none."""
    row = await (await conn.execute(sql("lineage.tile"), (level, index, width))).fetchone()
    return bytes(row["data"]) if row else None


async def entries(
    conn: AsyncConnection[Row], index: int, width: int, principals: Sequence[str] = EVERYTHING
) -> bytes | None:
    """The entry bundle that belongs to a tile of leaves; None when there is none, or one of its events is hidden from the caller."""
    if await tile(conn, 0, index, width) is None:
        return None
    start = index * TILE_WIDTH
    cursor = await conn.execute(sql("lineage.leaves_seen"), (start, start + width, list(principals)))
    leaves = [bytes(row["leaf"]) for row in await cursor.fetchall()]
    return entry_bundle(leaves) if len(leaves) == width else None


async def note_of(conn: AsyncConnection[Row], size: int) -> str | None:
    """The signed checkpoint of a size, None when there is none."""
    rows = await (await conn.execute(sql("lineage.checkpoints_of"), ([size],))).fetchall()
    return str(rows[0]["note"]) if rows else None


async def stamps(conn: AsyncConnection[Row], before: int, limit: int) -> list[Row]:
    """Stamps of checkpoints smaller than `before`, newest first: size, authority, stamped_at."""
    return await (await conn.execute(sql("lineage.stamps"), (before, limit))).fetchall()


async def stamp(conn: AsyncConnection[Row], size: int) -> Row | None:
    """One stamp (`reply`) and the checkpoint that it is of (`note`)."""
    return await (await conn.execute(sql("lineage.stamp"), (size,))).fetchone()


async def keys(conn: AsyncConnection[Row]) -> list[Row]:
    """All keys that ever signed, public parts only."""
    return await (await conn.execute(sql("lineage.signing_keys"))).fetchall()
