"""Proofs that an event is in the log and that the log only grows, to be judged anywhere by `lineage.verify`."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from db.queries import sql
from lineage.canonical import canonical
from lineage.errors import ProofPending
from lineage.keyring import Keyring
from lineage.note import key_id
from lineage.tiles import read_consistency, read_inclusion
from lineage.verify.proofs import CONSISTENCY, COSIGNED_CONSISTENCY, COSIGNED_PROOF, PROOF
from lineage.visibility import EVERYTHING

Row = dict[str, Any]


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def bundle(
    conn: AsyncConnection[Row],
    event_id: UUID,
    principals: Sequence[str] = EVERYTHING,
    *,
    witnesses: Sequence[str] | None = None,
) -> bytes | None:
    """Return the proof of an event as one canonical JSON file; None when there is no such event.

    Members: format, event {body (text whose SHA-256 is in the leaf), leaf, signature}, index, path, checkpoint (signed
    note), keys {log: [those that signed the checkpoint], event} as C2SP verifier keys, revocations (KEY events that revoke the event's
    key, each with its own path). Binary members are base64.

    Args:
        witnesses: verifier keys, whose lines the checkpoint is to have; those that it has are `witnesses` in the file. None: no lines.

    Raises:
        ProofPending: the event waits for its number.
        LogConflict: a tile is missing.
    """
    async with conn.transaction():
        row = await _event(conn, event_id, principals)
        if row is None:
            return None
        keyring = Keyring.of("", await (await conn.execute(sql("lineage.signing_keys"))).fetchall())
        revoked = await _revocations(conn, row["key_id"], keyring)
        head, named = await _cosigned_head(conn, max(one["seq"] for one in [row, *revoked]) + 1, witnesses)
        path = await read_inclusion(conn, row["seq"], head["size"])
        revocations = [
            {
                "body": one["body"],
                "leaf": _text(one["leaf"]),
                "index": one["seq"],
                "path": await _path(conn, one["seq"], head["size"]),
            }
            for one in revoked
        ]
    keys: dict[str, Any] = {"log": [one.vkey for one in keyring.active("log", head["size"])]}
    if row["sig"] is not None:
        keys["event"] = keyring.keys[row["key_id"]].vkey
    signature = None if row["sig"] is None else _text(row["sig"])
    return canonical(
        {
            "format": PROOF if witnesses is None else COSIGNED_PROOF,
            "event": {"body": row["body"], "leaf": _text(row["leaf"]), "signature": signature},
            "index": row["seq"],
            "path": [_text(one) for one in path],
            "checkpoint": head["note"],
            "keys": keys,
            "revocations": revocations,
            **({} if witnesses is None else {"witnesses": named}),
        }
    )


async def tlog_proof(
    conn: AsyncConnection[Row],
    event_id: UUID,
    principals: Sequence[str] = EVERYTHING,
    *,
    witnesses: Sequence[str] | None = None,
) -> str | None:
    """The same proof as `c2sp.org/tlog-proof@v1` text: index, path, checkpoint, which has lines of the witnesses as in `bundle`. None when
    there is no such event.

    Raises:
        ProofPending, LogConflict
    """
    async with conn.transaction():
        row = await _event(conn, event_id, principals)
        if row is None:
            return None
        head, _ = await _cosigned_head(conn, row["seq"] + 1, witnesses)
        path = await _path(conn, row["seq"], head["size"])
        lines = ["c2sp.org/tlog-proof@v1", f"index {row['seq']}", *path]
        return "\n".join(lines) + "\n\n" + str(head["note"])


async def consistency(
    conn: AsyncConnection[Row], old: int, new: int | None = None, *, witnesses: Sequence[str] | None = None
) -> bytes | None:
    """Return the proof that the log of `new` events goes on from that of `old`, as one canonical JSON file with both checkpoints; None
    when there is no checkpoint of one of these sizes.

    Args:
        new: None: the newest.
        witnesses: as in `bundle`, of the newer checkpoint.

    Raises:
        LogConflict: a tile is missing.
    """
    async with conn.transaction():
        wanted = [old, (await _newest(conn, old, witnesses)) if new is None else new]
        rows = await (await conn.execute(sql("lineage.checkpoints_of"), (wanted,))).fetchall()
        notes = {row["size"]: row["note"] for row in rows}
        if not all(size in notes for size in wanted) or wanted[0] > wanted[1]:
            return None
        path = await read_consistency(conn, *wanted)
        lines, named = await _lines(conn, wanted[1], witnesses)
        keyring = Keyring.of("", await (await conn.execute(sql("lineage.signing_keys"))).fetchall())
    active = [*keyring.active("log", wanted[1]), *keyring.active("log", wanted[0])]
    return canonical(
        {
            "format": CONSISTENCY if witnesses is None else COSIGNED_CONSISTENCY,
            "old": notes[wanted[0]],
            "new": notes[wanted[1]] + lines,
            "path": [_text(one) for one in path],
            "keys": list(dict.fromkeys(one.vkey for one in active)),
            **({} if witnesses is None else {"witnesses": named}),
        }
    )


async def _event(conn: AsyncConnection[Row], event_id: UUID, principals: Sequence[str]) -> Row | None:
    row = await (await conn.execute(sql("lineage.event_by_id"), (event_id, list(principals)))).fetchone()
    if (
        row is None
        and await (await conn.execute(sql("lineage.pending_event"), (event_id, list(principals)))).fetchone()
    ):
        raise ProofPending(f"event {event_id} is not in the log yet")
    return row


async def _cosigned_head(
    conn: AsyncConnection[Row], least: int, witnesses: Sequence[str] | None
) -> tuple[Row, list[str]]:
    """A checkpoint of at least so many events, and the witnesses' keys whose lines its note has: the newest that most of them have
    cosigned, else the newest. It is there: there is an event.
    """
    size = await _newest(conn, least, witnesses)
    (row,) = await (await conn.execute(sql("lineage.checkpoints_of"), ([size],))).fetchall()
    lines, named = await _lines(conn, size, witnesses)
    return {**row, "note": row["note"] + lines}, named


async def _newest(conn: AsyncConnection[Row], least: int, witnesses: Sequence[str] | None) -> int:
    """Size of this checkpoint; -1 when the log has not begun."""
    row = None
    if witnesses:
        ids = [key_id(one) for one in witnesses]
        row = await (await conn.execute(sql("lineage.cosigned_size"), (least, ids))).fetchone()
    if row is None:
        row = await (await conn.execute(sql("lineage.newest_checkpoint"))).fetchone()
    return int(row["size"]) if row else -1


async def _lines(conn: AsyncConnection[Row], size: int, witnesses: Sequence[str] | None) -> tuple[str, list[str]]:
    """The witnesses' lines of a checkpoint, and the keys that they are of."""
    if not witnesses:
        return "", []
    rows = await (await conn.execute(sql("lineage.cosignatures"), ([size],))).fetchall()
    found = {row["witness"]: row["line"] for row in rows}
    named = [one for one in dict.fromkeys(witnesses) if key_id(one) in found]
    return "".join(found[key_id(one)] for one in named), named


async def _path(conn: AsyncConnection[Row], index: int, size: int) -> list[str]:
    return [_text(one) for one in await read_inclusion(conn, index, size)]


async def _revocations(conn: AsyncConnection[Row], key_id: str | None, keyring: Keyring) -> list[Row]:
    """KEY events that revoke this key."""
    if key_id is None or keyring.keys[key_id].compromised_since is None:
        return []
    return await (await conn.execute(sql("lineage.revocations"), (key_id,))).fetchall()
