"""Changes of keys as KEY events: rotation, retirement, revocation. They take effect when the sequencer gives them their number.

Rotation makes the new key in the keys folder before its event is committed: a crash in between leaves a file that nobody uses.
"""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime
from typing import Any

from psycopg import AsyncConnection

from db.queries import sql
from lineage import history, log
from lineage.errors import KeyMismatch, KeyRefused
from lineage.events import Event, Kind
from lineage.ids import uuid7
from lineage.keyring import Body, Keyring, Known, facade_id, facade_print, statement
from lineage.keys import Signer
from lineage.note import key_id

Row = dict[str, Any]
#: Larger than any number that the log will have: what is active "now".
_NOW = 2**62


async def rotate(conn: AsyncConnection[Row], signer: Signer, purpose: str) -> str:
    """Let a new key follow the present one; returns its verifier key, of the façade's key its id.

    An event key takes over at once, and the façade's. A log key signs checkpoints beside the present one until that is retired (`retire`).

    Raises:
        KeyRefused: the log has not begun.
        KeyMismatch: this machine does not have the present key.
    """
    async with conn.transaction():
        ring = await _keyring(conn, signer)
        old = _active(ring, purpose)
        if purpose == "facade":
            return await _follow_facade(conn, ring, signer, old.key_id)
        new = signer.make(purpose)
        body = {"action": "add", "purpose": purpose, "vkey": new, "replaces": old.key_id}
        await _append(conn, ring, key_id(new), _signed(body, signer, purpose, old.key_id, key_id(new)))
    return new


async def retire(conn: AsyncConnection[Row], signer: Signer, which: str, reason: str = "") -> None:
    """Let a key sign no more. Raises as `rotate`; KeyRefused: an unknown key, or none would be left."""
    async with conn.transaction():
        ring = await _keyring(conn, signer)
        known = _known(ring, which)
        body = {"action": "retire", "purpose": known.purpose, "key": which, "reason": reason}
        await _append(conn, ring, which, _signed(body, signer, "event", _active(ring, "event").key_id))


async def revoke(conn: AsyncConnection[Row], signer: Signer, which: str, since: int, reason: str = "") -> str | None:
    """Trust a key no more: events that it signed from the number `since` on are suspect. Where no other key of its kind is left, a new one
    follows first; returns that one's verifier key.

    Raises:
        KeyRefused: an unknown key, or a number that the log does not have yet.
        KeyMismatch: this machine does not have the present key.
    """
    async with conn.transaction():
        ring = await _keyring(conn, signer)
        known = _known(ring, which)
        size = await history.size(conn)
        if not 0 <= since <= size:
            raise KeyRefused(f"the log has {size} events: none has the number {since}")
        others = [one for one in ring.active(known.purpose, _NOW) if one.key_id != which]
        made = None if others else await rotate(conn, signer, known.purpose)
        body = {
            "action": "revoke",
            "purpose": known.purpose,
            "key": which,
            "compromised_since": since,
            "reason": reason,
        }
        ring = await _keyring(conn, signer)  # with the rotation
        await _append(conn, ring, which, _signed(body, signer, "event", _active(ring, "event").key_id))
    return made


async def _follow_facade(conn: AsyncConnection[Row], ring: Keyring, signer: Signer, old: str) -> str:
    certificate = (await asyncio.to_thread(signer.make_facade)).text
    body = {
        "action": "add",
        "purpose": "facade",
        "vkey": facade_print(certificate),
        "certificate": certificate,
        "replaces": old,
    }
    await _append(conn, ring, facade_id(certificate), _signed(body, signer, "event", _active(ring, "event").key_id))
    return facade_id(certificate)


async def _keyring(conn: AsyncConnection[Row], signer: Signer) -> Keyring:
    """The keys as they will be when all that waits has its number. To the transaction's end nobody else changes keys."""
    await conn.execute(sql("lineage.lock_keys"))
    ring = Keyring.of(signer.origin, await (await conn.execute(sql("lineage.signing_keys"))).fetchall())
    waiting = await (await conn.execute(sql("lineage.waiting_key_events"))).fetchall()
    for offset, row in enumerate(waiting):
        ring.apply(_NOW // 2 + offset, row["body"])
    return ring


def _active(ring: Keyring, purpose: str) -> Known:
    found = ring.active(purpose, _NOW)
    if not found:
        raise KeyRefused("the log has not begun")
    return found[0]


def _known(ring: Keyring, which: str) -> Known:
    if which not in ring.keys:
        raise KeyRefused(f"the log has no key {which}")
    return ring.keys[which]


def _signed(body: Body, signer: Signer, purpose: str, *ids: str) -> Body:
    """The body with the signatures of these keys. Raises KeyMismatch: one is not on this machine."""
    said = statement(signer.origin, body)
    signatures = {}
    for which in ids:
        private = signer.private(purpose, which)
        if private is None:
            raise KeyMismatch(f"the key {which} is not in the keys folder")
        signatures[which] = base64.b64encode(private.sign(said)).decode()
    return {**body, "signatures": signatures}


async def _append(conn: AsyncConnection[Row], ring: Keyring, name: str, body: Body) -> None:
    """Commit the event, when it can be done."""
    ring.apply(_NOW - 2, body)
    event = Event(uuid7(), Kind.KEY, name, "own", None, None, "operator", datetime.now(UTC), body)
    await log.append(conn, event)
