"""Proofs that an event is in the log, to be judged anywhere by `lineage.verify`."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from db.queries import sql
from lineage.canonical import canonical
from lineage.errors import ProofPending
from lineage.sequencer import read_tiles
from lineage.tree import inclusion_path, tiles_needed
from lineage.visibility import EVERYTHING

FORMAT = "stac-federator/proof@1"

Row = dict[str, Any]


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def bundle(conn: AsyncConnection[Row], event_id: UUID, principals: Sequence[str] = EVERYTHING) -> bytes | None:
    """Return the proof of an event as one canonical JSON file; None when there is no such event.

    Members: format, event {body (text whose SHA-256 is in the leaf), leaf, signature}, index, path, checkpoint (signed
    note), keys {log, event} as C2SP verifier keys. Binary members are base64.

    Raises:
        ProofPending: the event waits for its number.
    """
    async with conn.transaction():
        row = await (await conn.execute(sql("lineage.event_by_id"), (event_id, list(principals)))).fetchone()
        if row is None:
            if await (await conn.execute(sql("lineage.pending_event"), (event_id, list(principals)))).fetchone():
                raise ProofPending(f"event {event_id} is not in the log yet")
            return None
        head = await (await conn.execute(sql("lineage.newest_checkpoint"))).fetchone()
        assert head is not None
        path = await _path(conn, row["seq"], head["size"])
        vkeys = await (await conn.execute(sql("lineage.signing_keys"))).fetchall()
    signed = row["sig"] is not None
    return canonical(
        {
            "format": FORMAT,
            "event": {
                "body": row["body"],
                "leaf": _text(bytes(row["leaf"])),
                "signature": _text(bytes(row["sig"])) if signed else None,
            },
            "index": row["seq"],
            "path": [_text(one) for one in path],
            "checkpoint": head["note"],
            "keys": {
                one["purpose"]: one["vkey"]
                for one in vkeys
                if one["purpose"] in ({"log", "event"} if signed else {"log"})
            },
        }
    )


async def tlog_proof(conn: AsyncConnection[Row], event_id: UUID, principals: Sequence[str] = EVERYTHING) -> str | None:
    """The same proof as `c2sp.org/tlog-proof@v1` text: index, path, checkpoint. None when there is no such event.

    Raises:
        ProofPending
    """
    row = await (await conn.execute(sql("lineage.event_by_id"), (event_id, list(principals)))).fetchone()
    if row is None:
        if await (await conn.execute(sql("lineage.pending_event"), (event_id, list(principals)))).fetchone():
            raise ProofPending(f"event {event_id} is not in the log yet")
        return None
    head = await (await conn.execute(sql("lineage.newest_checkpoint"))).fetchone()
    assert head is not None
    path = await _path(conn, row["seq"], head["size"])
    lines = ["c2sp.org/tlog-proof@v1", f"index {row['seq']}", *(_text(one) for one in path)]
    return "\n".join(lines) + "\n\n" + str(head["note"])


async def _path(conn: AsyncConnection[Row], index: int, size: int) -> list[bytes]:
    places = tiles_needed(lambda read: inclusion_path(read, index, size))
    tiles = await read_tiles(conn, places)
    return inclusion_path(tiles.__getitem__, index, size)
