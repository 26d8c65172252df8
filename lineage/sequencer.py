"""The sequencer: gives committed events consecutive numbers, extends the Merkle tree, signs the checkpoint.

One at a time, by an advisory lock; each batch is one transaction, so a crash leaves the batch before or the batch after.
Numbers come from the log's size, not from a database sequence, so there are no gaps.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow
from psycopg_pool import AsyncConnectionPool

from db.queries import sql
from lineage.canonical import canonical
from lineage.errors import KeyMismatch, LogConflict
from lineage.events import Event, Kind
from lineage.hashes import hashes_of
from lineage.ids import uuid7
from lineage.keys import Signer
from lineage.log import body_text
from lineage.note import checkpoint_text, pae, sign_note
from lineage.trace import certificate_text, sign_trace
from lineage.tree import Appender, edge_tiles, leaf_hash

EVENT_TYPE = "application/vnd.stac-federator.event+json"
MAX_LEAF_BYTES = 65_535  # tlog-tiles: entries are prefixed by a uint16 length

Connection = AsyncConnection[DictRow]


@dataclass(frozen=True, slots=True)
class Head:
    """Newest checkpoint: size and root; size 0 before the log has begun."""

    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class Sealed:
    """An event with its number and leaf."""

    seq: int
    row: dict[str, Any]
    body: str
    leaf: bytes
    signature: bytes | None
    key_id: str | None


async def sequence(pool: AsyncConnectionPool[Connection], signer: Signer, *, batch_size: int = 5000) -> int:
    """Sequence everything that waits in the outbox; return the number of events (0 when another process is at it).

    Raises:
        LogConflict: what is stored disagrees with the newest checkpoint; nothing was written.
        KeyMismatch: the log was begun with another key.
    """
    total = 0
    async with pool.connection() as conn:
        while True:
            done = await sequence_batch(conn, signer, batch_size)
            total += done
            if done < batch_size:
                return total


async def sequence_batch(conn: Connection, signer: Signer, batch_size: int) -> int:
    """One batch in one transaction; see `sequence`."""
    try:
        async with conn.transaction():
            if not await _lock(conn):
                return 0
            rows = await (await conn.execute(sql("lineage.take_outbox"), (batch_size,))).fetchall()
            if not rows:
                return 0
            head = await _head(conn)
            if head.size == 0:
                rows = [await _begin(conn, signer), *sorted(rows, key=_position)]
            else:
                await _check_key(conn, signer)
                rows = sorted(rows, key=_position)
            recorded_at = await _clock(conn)
            sealed = [_seal(head.size + offset, row, signer) for offset, row in enumerate(rows)]
            await _extend_tree(conn, head, sealed, signer)
            await _insert(conn, sealed, recorded_at)
            await _sign_traces(conn, sealed, signer, recorded_at)
            return len(rows)
    except psycopg.errors.UniqueViolation as error:
        raise LogConflict("a number, tile or checkpoint of this batch is taken already") from error


def _position(row: dict[str, Any]) -> int:
    return int(row["position"])


async def _lock(conn: Connection) -> bool:
    row = await (await conn.execute(sql("lineage.try_sequencer_lock"))).fetchone()
    return bool(row and row["locked"])


async def _head(conn: Connection) -> Head:
    row = await (await conn.execute(sql("lineage.newest_checkpoint"))).fetchone()
    return Head(row["size"], bytes(row["root"])) if row else Head(0, b"")


async def _begin(conn: Connection, signer: Signer) -> dict[str, Any]:
    """Note the keys and make the log's first event."""
    certificate = certificate_text(signer.facade_certificate)
    for purpose, text in (("log", signer.log_vkey), ("event", signer.event_vkey)):
        await conn.execute(sql("lineage.insert_signing_key"), (key_id(text), text, purpose, 0, None))
    facade_id = hashlib.sha256(certificate.encode()).hexdigest()[:16]
    await conn.execute(sql("lineage.insert_signing_key"), (facade_id, "", "facade", 0, certificate))
    body = {"log": signer.origin, "keys": {"log": signer.log_vkey, "event": signer.event_vkey}}
    event = Event(uuid7(), Kind.GENESIS, signer.origin, "own", None, None, "sequencer", datetime.now(UTC), body)
    return {
        "id": event.id, "kind": event.kind.value, "name": event.name, "source": event.source, "collection": None,
        "item_id": None, "actor_id": event.actor, "claimed_at": event.at, "body": body_text(event),
    }  # fmt: skip


async def _check_key(conn: Connection, signer: Signer) -> None:
    rows = await (await conn.execute(sql("lineage.signing_keys"))).fetchall()
    if signer.log_vkey not in {row["vkey"] for row in rows if row["purpose"] == "log"}:
        raise KeyMismatch(
            f"this database's log is signed by another key than {signer.log_vkey}; put the right one into the keys folder"
        )


async def _clock(conn: Connection) -> datetime:
    """The database's time, never before the last event's."""
    row = await (await conn.execute(sql("lineage.last_recorded"))).fetchone()
    assert row is not None
    now: datetime = row["now"]
    return max(now, row["last"]) if row["last"] else now


def key_id(vkey: str) -> str:
    """The short name of a key: name+hash of its verifier key (whose base64 may hold a plus sign too)."""
    return "+".join(vkey.split("+", 2)[:2])


def leaf_bytes(row: dict[str, Any], body_sha256: str, origin: str, key: str | None) -> bytes:
    """The canonical bytes that enter the tree: who did what when, and the hash of the body."""
    return canonical(
        {
            "v": 1,
            "log": origin,
            "id": str(row["id"]),
            "kind": row["kind"],
            "name": row["name"],
            "body": body_sha256,
            "alg": "sha256",
            "at": row["claimed_at"].astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "actor": row["actor_id"],
            "key": key,
        }
    )


def _is_own(row: dict[str, Any]) -> bool:
    """Own events are signed one by one; harvested ones rely on leaf and checkpoint."""
    return bool(row["source"] == "own")


def _seal(seq: int, row: dict[str, Any], signer: Signer) -> Sealed:
    body = canonical(orjson.loads(row["body"]))
    key = key_id(signer.event_vkey) if _is_own(row) else None
    leaf = leaf_bytes(row, hashlib.sha256(body).hexdigest(), signer.origin, key)
    if len(leaf) > MAX_LEAF_BYTES:
        raise LogConflict(f"the leaf of event {row['id']} has {len(leaf)} bytes")
    signature = signer.event_key.sign(pae(EVENT_TYPE, leaf)) if key else None
    return Sealed(seq, row, body.decode(), leaf, signature, key)


async def _extend_tree(conn: Connection, head: Head, sealed: Sequence[Sealed], signer: Signer) -> None:
    places = edge_tiles(head.size)
    stored = await read_tiles(conn, places)
    edge = {place: stored[place][: 32 * width] for place, width in zip(places, _widths(head.size), strict=True)}
    appender = Appender(head.size, edge)
    if head.size and appender.root() != head.root:
        raise LogConflict(f"the tiles do not lead to the root of checkpoint {head.size}")
    appender.append(leaf_hash(one.leaf) for one in sealed)
    for (level, index), data in appender.changed.items():
        await conn.execute(sql("lineage.insert_tile"), (level, index, len(data) // 32, data))
        if len(data) == 32 * 256:
            await conn.execute(sql("lineage.drop_partial_tiles"), (level, index))
    root = appender.root()
    note = sign_note(checkpoint_text(signer.origin, appender.size, root), signer.origin, signer.log_key)
    await conn.execute(sql("lineage.insert_checkpoint"), (appender.size, root, note))


def _widths(size: int) -> list[int]:
    """Widths of the edge tiles of a tree of `size` leaves, in the order of `edge_tiles`."""
    found = []
    while size > 0:
        if size % 256:
            found.append(size % 256)
        size //= 256
    return found


async def read_tiles(conn: Connection, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
    """The newest state of these tiles.

    Raises:
        LogConflict: one is missing.
    """
    levels, indexes = [level for level, _ in places], [index for _, index in places]
    rows = await (await conn.execute(sql("lineage.widest_tiles"), (levels, indexes))).fetchall()
    found = {(int(row["level"]), int(row["idx"])): bytes(row["data"]) for row in rows}
    if missing := set(places) - set(found):
        raise LogConflict(f"tile {min(missing)} of the log is missing")
    return found


async def _insert(conn: Connection, sealed: Sequence[Sealed], recorded_at: datetime) -> None:
    columns = ("id", "kind", "name", "source", "collection", "item_id", "actor_id", "claimed_at")
    values = (
        [one.seq for one in sealed],
        *([one.row[column] for one in sealed] for column in columns),
        [recorded_at] * len(sealed),
        [one.body for one in sealed],
        [hashlib.sha256(one.body.encode()).digest() for one in sealed],
        [one.leaf for one in sealed],
        [one.signature for one in sealed],
        [one.key_id for one in sealed],
    )
    await conn.execute(sql("lineage.insert_events"), values)
    known = [(digest, algorithm, one.seq) for one in sealed for algorithm, digest in hashes_of(orjson.loads(one.body))]
    if known:
        digests, algorithms, numbers = (list(column) for column in zip(*known, strict=True))
        await conn.execute(sql("lineage.insert_hashes"), (digests, algorithms, numbers))


async def _sign_traces(conn: Connection, sealed: Sequence[Sealed], signer: Signer, recorded_at: datetime) -> None:
    """Sign the Copernicus-shaped trace of what was made here, once."""
    for one in sealed:
        if one.row["kind"] == Kind.CREATE and _is_own(one.row) and hashes_of(orjson.loads(one.body)):
            message, signature = sign_trace(one.row["name"], orjson.loads(one.body), signer)
            identity: UUID = one.row["id"]
            certificate = certificate_text(signer.facade_certificate)
            await conn.execute(sql("lineage.insert_trace_signature"), (identity, message, signature, certificate))
