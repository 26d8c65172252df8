"""From a waiting event to a leaf: number, canonical body, leaf, signature. Pure but for the keys."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lineage.canonical import NotCanonical, canonical
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
    body_hash: bytes
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
    """The canonical bytes that enter the tree: who did what when, and the hash of the body.

    Members are in RFC 8785's order and all of them texts, null or 1, which are written as it asks.

    Raises:
        NotCanonical: a text with a lone surrogate.
    """
    members = {
        "actor": row["actor_id"], "alg": "sha256", "at": time_text(row["claimed_at"]), "body": body_sha256, "id": str(row["id"]),
        "key": key, "kind": row["kind"], "log": origin, "name": row["name"], "v": 1,
    }  # fmt: skip
    try:
        return orjson.dumps(members)
    except TypeError as error:
        raise NotCanonical(f"not canonical JSON: {error}") from error


def time_text(moment: datetime) -> str:
    """A time as leaves and answers write it: RFC 3339, UTC, microseconds."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def is_signed(row: Row) -> bool:
    """Own events and those of people are signed one by one; harvested ones rely on leaf and checkpoint."""
    return row["source"] == "own" or str(row["actor_id"]).startswith("user:")


class Sealer:
    """Gives events the numbers from `seq` on, one by one.

    Attributes:
        seq: number of the next event.
        changed: keys that KEY events among them have changed.
    """

    def __init__(self, seq: int, signer: Signer, keyring: Keyring, moment: Moment) -> None:
        self.seq, self.changed = seq, dict[str, Known]()
        self._signer, self._keyring, self._moment = signer, keyring, moment
        self._privates: dict[str, Ed25519PrivateKey] = {}
        self._active = ""  # id of the event key that signs now; "": not looked up

    def seal(self, row: Row) -> Sealed:
        """The next event.

        Raises:
            KeyMismatch: this machine does not have the event key of the log.
            KeyRefused: a KEY event cannot be done.
            LogConflict: a leaf is too large.
        """
        key_id = self._key_id() if is_signed(row) else None
        private = None if key_id is None else self._privates[key_id]
        one = _sealed(self.seq, row, self._signer.origin, self._moment, key_id, private)
        if row["kind"] == Kind.KEY:
            self.changed |= {key.key_id: key for key in self._keyring.apply(self.seq, one.facts)}
            self._active = ""
        self.seq += 1
        return one

    def _key_id(self) -> str:
        """The key that signs the next event: another one after a KEY event only."""
        if not self._active:
            self._active = self._keyring.active("event", self.seq)[0].key_id
            if self._active not in self._privates:
                self._privates[self._active] = _private(self._signer, self._active)
        return self._active


def _private(signer: Signer, key_id: str) -> Ed25519PrivateKey:
    private = signer.private("event", key_id)
    if private is None:
        raise KeyMismatch(f"the event key {key_id} is not in the keys folder")
    return private


def _sealed(
    seq: int, row: Row, origin: str, moment: Moment, key_id: str | None, private: Ed25519PrivateKey | None
) -> Sealed:
    facts = _facts(row)
    where = {"source": row["source"], "collection": row["collection"], "item": row["item_id"]}
    facts |= {name: value for name, value in where.items() if value is not None}
    if moment.clock is not None:
        facts["clock_went_back"] = {"clock": time_text(moment.clock), "recorded_at": time_text(moment.recorded_at)}
    try:
        body = canonical(facts)
        body_hash = hashlib.sha256(body).digest()
        leaf = leaf_bytes(row, body_hash.hex(), origin, key_id)
    except NotCanonical as error:
        raise LogConflict(f"the event {row['id']} in the outbox has no canonical form") from error
    if len(leaf) > MAX_LEAF_BYTES:
        raise LogConflict(f"the leaf of event {row['id']} has {len(leaf)} bytes")
    signature = None if private is None else private.sign(pae(EVENT_TYPE, leaf))
    return Sealed(seq, row, body, body_hash, facts, leaf, signature, key_id)


def _facts(row: Row) -> dict[str, Any]:
    """The body as an object. Raises LogConflict: `log.append` has not written it."""
    try:
        found = orjson.loads(row["body"])
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise LogConflict(f"the body of event {row['id']} in the outbox is no object of JSON")
    return found
