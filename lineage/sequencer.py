"""The sequencer: gives committed events consecutive numbers, extends the Merkle tree, signs the checkpoint.

One at a time, by an advisory lock; each batch is one transaction, so a crash leaves the batch before or the batch after.
Numbers come from the log's size, not from a database sequence, so there are no gaps. Before anything is signed, what is stored is held
against the newest checkpoint, and that against the one that was last published outside the database: a log is never forked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from psycopg import AsyncConnection
from psycopg.rows import DictRow
from psycopg_pool import AsyncConnectionPool

from db.queries import sql
from lineage import verify
from lineage.errors import KeyMismatch, LogConflict
from lineage.events import Event, Kind
from lineage.hashes import hashes_of
from lineage.ids import uuid7
from lineage.keyring import Keyring, Known, facade_id, facade_print
from lineage.keys import Facade, Signer
from lineage.log import body_text
from lineage.note import checkpoint_text, key_id, sign_note
from lineage.published import Published
from lineage.sealing import Moment, Sealed, Sealer
from lineage.tiles import tree_at
from lineage.trace import SIGNED, sign_trace
from lineage.tree import Appender, leaf_hash

Connection = AsyncConnection[DictRow]
#: Of the columns of `lineage.copy_events`.
_EVENT_TYPES = (
    "int8", "uuid", "text", "text", "text", "text", "text", "text", "timestamptz", "timestamptz", "text", "bytea", "bytea", "bytea", "text",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Head:
    """Newest checkpoint: size and root; size 0 before the log has begun."""

    size: int
    root: bytes
    note: str


async def sequence(
    pool: AsyncConnectionPool[Connection],
    signer: Signer,
    *,
    batch_size: int = 5000,
    published: Published | None = None,
) -> int:
    """Sequence everything that waits in the outbox; return the number of events (0 when another process is at it).

    Args:
        published: where checkpoints are kept outside the database; None: nowhere.

    Raises:
        LogConflict: what is stored disagrees with the newest checkpoint, or that with a published one; nothing was written.
        KeyMismatch: the log was begun with another key.
        KeyRefused: a KEY event that waits cannot be done.
    """
    total = 0
    async with pool.connection() as conn:
        while True:
            done = await sequence_batch(conn, signer, batch_size, published)
            total += done
            if done < batch_size:
                return total


async def sequence_batch(conn: Connection, signer: Signer, batch_size: int, published: Published | None = None) -> int:
    """One batch in one transaction, then published; see `sequence`."""
    try:
        async with conn.transaction():
            if not await _lock(conn):
                return 0
            head = await read_head(conn)
            if published is not None:
                await check_published(conn, head, published.newest())
            before = head.size
            rows = await (await conn.execute(sql("lineage.take_outbox"), (batch_size,))).fetchall()
            if rows:
                head = await _append(conn, head, sorted(rows, key=_position), signer)
    except psycopg.errors.UniqueViolation as error:
        raise LogConflict("a number, tile or checkpoint of this batch is taken already") from error
    except (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.InsufficientPrivilege) as error:
        reason = type(error).__name__
        raise LogConflict(f"the outbox or the table of keys holds what the log cannot take: {reason}") from error
    if published is not None and head.size:
        await _publish(published, head.note)
    return head.size - before


async def _publish(published: Published, note: str) -> None:
    try:
        await asyncio.to_thread(published.keep, note)
    except (OSError, verify.Unreadable) as error:
        raise LogConflict(f"the checkpoint cannot be kept in {published.folder}: {error}") from error


def _position(row: dict[str, Any]) -> int:
    return int(row["position"])


async def _lock(conn: Connection) -> bool:
    row = await (await conn.execute(sql("lineage.try_sequencer_lock"))).fetchone()
    return bool(row and row["locked"])


async def read_head(conn: Connection) -> Head:
    """The newest checkpoint.

    Raises:
        LogConflict: its note says otherwise than its row.
    """
    row = await (await conn.execute(sql("lineage.newest_checkpoint"))).fetchone()
    if row is None:
        return Head(0, b"", "")
    head = Head(row["size"], bytes(row["root"]), row["note"])
    noted = _parsed(head.note, f"the note of checkpoint {head.size}")
    if (noted.size, noted.root) != (head.size, head.root):
        raise LogConflict(f"the note of checkpoint {head.size} says otherwise than its row")
    return head


def _parsed(note: str, what: str) -> verify.Checkpoint:
    try:
        return verify.parse_checkpoint(note)
    except verify.Unreadable as error:
        raise LogConflict(f"{what} cannot be read: {error}") from error


async def check_published(conn: Connection, head: Head, note: str | None) -> None:
    """Does the log go on from a checkpoint that was published before? None: there was none.

    Raises:
        LogConflict: it does not. A person must find out which of the two is right before anything is signed.
    """
    if note is None:
        return
    kept = _parsed(note, "the checkpoint that was published last")
    if (kept.size, kept.root) == (head.size, head.root):
        return
    if kept.size > head.size:
        reason = f"the log in the database has {head.size} events, and {kept.size} were published: was it set back?"
        raise LogConflict(reason)
    if (await tree_at(conn, kept.size)).root() != kept.root:
        raise LogConflict(f"the log in the database is another than the one published at size {kept.size}")


async def _append(conn: Connection, head: Head, rows: list[dict[str, Any]], signer: Signer) -> Head:
    """Number, sign and store events; returns the new head."""
    moment = await _clock(conn)
    if any(row["kind"] == Kind.GENESIS for row in rows):
        raise LogConflict("a second beginning of the log is in the outbox")
    if head.size == 0:
        rows = [await _begin(conn, signer), *rows]
    keyring = Keyring.of(signer.origin, await (await conn.execute(sql("lineage.signing_keys"))).fetchall())
    _log_keys(keyring, head.size, signer)  # another key may not even look at the tiles
    tree = await tree_at(conn, head.size)
    if head.size and tree.root() != head.root:
        raise LogConflict(f"the tiles do not lead to the root of checkpoint {head.size}")
    sealer = Sealer(head.size, signer, keyring, moment)
    sealed = await _insert(conn, rows, sealer, moment.recorded_at)
    for key in sealer.changed.values():
        await _store_key(conn, key)
    tree.append([leaf_hash(one.leaf) for one in sealed])
    await _store_tiles(conn, tree)
    text = checkpoint_text(signer.origin, tree.size, tree.root())
    note = sign_note(
        text,
        signer.origin,
        *_log_keys(keyring, tree.size, signer),
        time_s=int(moment.recorded_at.timestamp()),
    )
    await conn.execute(sql("lineage.insert_checkpoint"), (tree.size, tree.root(), note))
    await _sign_traces(conn, sealed, signer, keyring)
    return Head(tree.size, tree.root(), note)


async def _begin(conn: Connection, signer: Signer) -> dict[str, Any]:
    """Note the keys and make the log's first event."""
    certificate = signer.facade.text
    for purpose, text in (("log", signer.log_vkey), ("event", signer.event_vkey)):
        await conn.execute(sql("lineage.insert_signing_key"), (key_id(text), text, purpose, 0, None))
    await conn.execute(sql("lineage.insert_signing_key"), (facade_id(certificate), "", "facade", 0, certificate))
    named = {"log": signer.log_vkey, "event": signer.event_vkey, "facade": facade_print(certificate)}
    body = {"log": signer.origin, "keys": named}
    event = Event(uuid7(), Kind.GENESIS, signer.origin, "own", None, None, "sequencer", datetime.now(UTC), body)
    return {
        "id": event.id, "kind": event.kind.value, "name": event.name, "source": event.source, "collection": None,
        "item_id": None, "actor_id": event.actor, "claimed_at": event.at, "body": body_text(event),
    }  # fmt: skip


def _log_keys(keyring: Keyring, size: int, signer: Signer) -> list[Ed25519PrivateKey]:
    """The keys that sign the checkpoint of this size, newest first. Raises KeyMismatch: the newest is not on this machine."""
    active = keyring.active("log", size)
    found = [signer.private("log", one.key_id) for one in active]
    if not found or found[0] is None:
        ours = active[0].vkey if active else "(none)"
        raise KeyMismatch(f"this database's log is signed by {ours}; put its key into the keys folder")
    return [key for key in found if key is not None]


async def _store_key(conn: Connection, key: Known) -> None:
    values = (
        key.key_id,
        key.vkey,
        key.purpose,
        key.from_size,
        key.to_size,
        key.compromised_since,
        key.certificate,
    )
    await conn.execute(sql("lineage.store_key"), values)


async def _clock(conn: Connection) -> Moment:
    """The database's time, never before the last event's."""
    row = await (await conn.execute(sql("lineage.last_recorded"))).fetchone()
    assert row is not None
    now: datetime = row["now"]
    if row["last"] and row["last"] > now:
        return Moment(row["last"], clock=now)
    return Moment(now)


async def _store_tiles(conn: Connection, tree: Appender) -> None:
    places, tiles = list(tree.changed), list(tree.changed.values())
    levels, indexes = [level for level, _ in places], [index for _, index in places]
    await conn.execute(sql("lineage.insert_tiles"), (levels, indexes, [len(data) // 32 for data in tiles], tiles))
    full = [place for place, data in tree.changed.items() if len(data) == 32 * 256]
    if full:
        await conn.execute(sql("lineage.drop_partial_tiles"), ([level for level, _ in full], [at for _, at in full]))


async def _insert(
    conn: Connection, rows: Sequence[dict[str, Any]], sealer: Sealer, recorded_at: datetime
) -> list[Sealed]:
    """Seal and store events. They are sent as they are sealed, so that the server writes the first ones while the next ones are signed."""
    sealed = []
    async with conn.cursor() as cursor, cursor.copy(sql("lineage.copy_events")) as copy:
        copy.set_types(_EVENT_TYPES)
        for row in rows:
            one = sealer.seal(row)
            sealed.append(one)
            await copy.write_row(
                (
                    one.seq, row["id"], row["kind"], row["name"], row["source"], row["collection"], row["item_id"], row["actor_id"],
                    row["claimed_at"], recorded_at, one.body.decode(), one.body_hash, one.leaf, one.signature, one.key_id,
                )
            )  # fmt: skip
    known = [
        (digest, algorithm, one.seq) for one in sealed for algorithm, digest in dict.fromkeys(hashes_of(one.facts))
    ]
    if known:
        async with conn.cursor() as cursor, cursor.copy(sql("lineage.copy_hashes")) as copy:
            copy.set_types(("bytea", "text", "int8"))
            for one_hash in known:
                await copy.write_row(one_hash)
    return sealed


async def _sign_traces(conn: Connection, sealed: Sequence[Sealed], signer: Signer, keyring: Keyring) -> None:
    """Sign the Copernicus-shaped trace of what was made here, once."""
    for one in sealed:
        if one.row["kind"] in SIGNED and one.row["source"] == "own" and hashes_of(one.facts):
            facade = _facade(signer, keyring, one.seq)
            message, signature = sign_trace(one.row["name"], one.facts, facade.key)
            identity: UUID = one.row["id"]
            await conn.execute(sql("lineage.insert_trace_signature"), (identity, message, signature, facade.text))


def _facade(signer: Signer, keyring: Keyring, seq: int) -> Facade:
    """The façade's key for the trace of this event. Raises KeyMismatch: it is not on this machine."""
    wanted = keyring.active("facade", seq)[0]
    found = signer.facade_of(wanted.certificate or "")
    if found is None:
        raise KeyMismatch(f"the façade's key {wanted.key_id} is not in the keys folder")
    return found
