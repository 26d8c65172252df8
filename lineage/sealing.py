"""From a waiting event to a leaf: number, canonical body, leaf, signature. Pure but for the keys."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lineage.canonical import canonical
from lineage.errors import KeyMismatch, LogConflict
from lineage.events import Kind
from lineage.keyring import Keyring, Known
from lineage.keys import Signer
from lineage.note import pae

EVENT_TYPE = "application/vnd.stac-federator.event+json"
MAX_LEAF_BYTES = 65_535  # tlog-tiles: entries are prefixed by a uint16 length

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sealed:
    """An event with its number and leaf; `facts` is the body as an object."""

    seq: int
    row: Row
    body: bytes
    facts: dict[str, Any]
    leaf: bytes
    signature: bytes | None
    key_id: str | None


@dataclass(frozen=True, slots=True)
class Moment:
    """When a batch is recorded. `clock`: what the database's clock said, where that is before the last event's time."""

    recorded_at: datetime
    clock: datetime | None = None


def leaf_bytes(row: Row, body_sha256: str, origin: str, key: str | None) -> bytes:
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
            "at": time_text(row["claimed_at"]),
            "actor": row["actor_id"],
            "key": key,
        }
    )


def time_text(moment: datetime) -> str:
    """A time as leaves and answers write it: RFC 3339, UTC, microseconds."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def is_signed(row: Row) -> bool:
    """Own events and those of people are signed one by one; harvested ones rely on leaf and checkpoint."""
    return row["source"] == "own" or str(row["actor_id"]).startswith("user:")


def seal(
    start: int, rows: Sequence[Row], signer: Signer, keyring: Keyring, moment: Moment
) -> tuple[list[Sealed], list[Known]]:
    """Give rows the numbers from `start` on; returns them and the keys that KEY events among them have changed.

    Raises:
        KeyMismatch: this machine does not have the event key of the log.
        KeyRefused: a KEY event cannot be done.
        LogConflict: a leaf is too large.
    """
    sealed: list[Sealed] = []
    changed: dict[str, Known] = {}
    privates: dict[str, Ed25519PrivateKey] = {}
    for seq, row in enumerate(rows, start):
        key_id = keyring.active("event", seq)[0].key_id if is_signed(row) else None
        if key_id is not None and key_id not in privates:
            privates[key_id] = _private(signer, key_id)
        one = _sealed(seq, row, signer.origin, moment, key_id, privates)
        sealed.append(one)
        if row["kind"] == Kind.KEY:
            changed |= {key.key_id: key for key in keyring.apply(seq, one.facts)}
    return sealed, list(changed.values())


def _private(signer: Signer, key_id: str) -> Ed25519PrivateKey:
    private = signer.private("event", key_id)
    if private is None:
        raise KeyMismatch(f"the event key {key_id} is not in the keys folder")
    return private


def _sealed(
    seq: int, row: Row, origin: str, moment: Moment, key_id: str | None, privates: dict[str, Ed25519PrivateKey]
) -> Sealed:
    facts = orjson.loads(row["body"])
    where = {"source": row["source"], "collection": row["collection"], "item": row["item_id"]}
    facts |= {name: value for name, value in where.items() if value is not None}
    if moment.clock is not None:
        facts["clock_went_back"] = {"clock": time_text(moment.clock), "recorded_at": time_text(moment.recorded_at)}
    body = canonical(facts)
    leaf = leaf_bytes(row, hashlib.sha256(body).hexdigest(), origin, key_id)
    if len(leaf) > MAX_LEAF_BYTES:
        raise LogConflict(f"the leaf of event {row['id']} has {len(leaf)} bytes")
    signature = None if key_id is None else privates[key_id].sign(pae(EVENT_TYPE, leaf))
    return Sealed(seq, row, body, facts, leaf, signature, key_id)
