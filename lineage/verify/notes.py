"""Verdicts and faults, keys and signatures, checkpoints (C2SP signed-note, tlog-checkpoint, tlog-cosignature)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from lineage.verify.mldsa import MLDSA_PUBLIC_BYTES, cosigned_message, mldsa_verdict

MAX_FAULTS = 200
#: What a checkpoint may have: a line of ML-DSA-44 is 3.3 kB, and sixteen lines of any kind must be read (signed-note).
MAX_LINES, MAX_NOTE = 64, 300_000
MAX_TIME_S = 2**63 - 1
SIGNS, COSIGNS = b"\x01", b"\x04"  # Ed25519 over a note; over a checkpoint and a time
COSIGNS_MLDSA = b"\x06"  # ML-DSA-44 over a checkpoint, a time and the cosigner's name
_PUBLIC_BYTES = {SIGNS: 32, COSIGNS: 32, COSIGNS_MLDSA: MLDSA_PUBLIC_BYTES}
EVENT_TYPE = b"application/vnd.stac-federator.event+json"
LEAF_MEMBERS = {"v", "log", "id", "kind", "name", "body", "alg", "at", "actor", "key"}


class Unreadable(Exception):
    """The file is none of ours; the message says where it differs."""


@dataclass(frozen=True)
class Fault:
    """What is wrong: a short code that stays the same, words, and the number of the event or the size that it is about."""

    code: str
    words: str
    seq: int | None = None

    def __str__(self) -> str:
        return self.words

    def __contains__(self, text: str) -> bool:
        return text in self.words


@dataclass
class Verdict:
    """What was found. `faults` is empty when everything that was checked holds; `notes` are no faults, but worth knowing."""

    signature: str = "none"
    content: str = "absent"
    log: str = "inconsistent"
    checkpoint: str = "bad"
    witness: str = "none"
    key: str = "not_pinned"
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """True when there is no fault."""
        return not self.faults

    def fault(self, code: str, words: str, seq: int | None = None, **verdicts: str) -> None:
        """Note a fault, and verdicts that come with it."""
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(Fault(code, words, seq))
        for name, value in verdicts.items():
            setattr(self, name, value)


@dataclass(frozen=True)
class VerifierKey:
    """A C2SP verifier key: name, four-byte hash, public key, and whether it signs notes or cosigns checkpoints, and how."""

    name: str
    short: bytes
    public: bytes
    kind: bytes = SIGNS

    @property
    def id(self) -> str:
        """Name and hash: how leaves name the key."""
        return f"{self.name}+{self.short.hex()}"

    @property
    def cosigner(self) -> VerifierKey:
        """The same key as it cosigns."""
        if self.kind == COSIGNS_MLDSA:
            return self
        return VerifierKey(self.name, _key_hash(self.name, COSIGNS + self.public), self.public, COSIGNS)

    def holds(self, signature: bytes, message: bytes) -> bool:
        """True when the signature is this Ed25519 key's over the message."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True

    def verdict(self, blob: bytes, checkpoint: Checkpoint) -> str:
        """ok, bad, or unjudged (`mldsa_verdict`): what a signature line's blob is as this key's over a checkpoint."""
        if self.kind == SIGNS:
            return "ok" if self.holds(blob[4:], checkpoint.text) else "bad"
        time_s = cosigned_at(blob)
        if time_s > MAX_TIME_S:
            return "bad"
        if self.kind == COSIGNS:
            message = b"cosignature/v1\ntime %d\n%s" % (time_s, checkpoint.text)
            return "ok" if self.holds(blob[12:], message) else "bad"
        structure = cosigned_message(self.name, time_s, checkpoint.origin, checkpoint.size, checkpoint.root)
        return "bad" if structure is None else mldsa_verdict(self.public, blob[12:], structure)


def cosigned_at(blob: bytes) -> int:
    """Seconds since 1970 that a cosignature tells."""
    return int.from_bytes(blob[4:12], "big")


def decode64(text: Any, what: str) -> bytes:
    """Canonical base64 only: text that decodes but would be written otherwise is refused."""
    if not isinstance(text, str):
        raise Unreadable(f"{what} is no text")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Unreadable(f"{what} is no base64") from None
    if base64.b64encode(data).decode() != text:
        raise Unreadable(f"{what} is not canonical base64")
    return data


def _key_hash(name: str, blob: bytes) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass") + b"\n" + blob).digest()[:4]


def parse_vkey(text: Any) -> VerifierKey:
    """Parse name+hash+key and check that the hash fits."""
    parts = text.split("+", 2) if isinstance(text, str) else []
    if len(parts) != 3 or not parts[0]:
        raise Unreadable("a key is not of the form name+hash+key")
    name, short_hex, encoded = parts
    blob = decode64(encoded, "a key")
    short = _key_hash(name, blob)
    if len(blob) - 1 != _PUBLIC_BYTES.get(blob[:1]):
        raise Unreadable("a key is none of Ed25519 (types 0x01 and 0x04) or ML-DSA-44 (0x06)")
    if short.hex() != short_hex:
        raise Unreadable(f"the key of {name} does not fit its own hash")
    return VerifierKey(name, short, blob[1:], blob[:1])


@dataclass(frozen=True)
class Checkpoint:
    """A parsed signed checkpoint."""

    origin: str
    size: int
    root: bytes
    text: bytes
    signatures: tuple[tuple[str, bytes], ...]  # (key name, hash and signature)


def parse_checkpoint(note: Any) -> Checkpoint:
    """Parse a checkpoint note: three lines, a blank one, signature lines."""
    if not isinstance(note, str) or len(note) > MAX_NOTE or not note.endswith("\n") or "\n\n" not in note:
        raise Unreadable("the checkpoint is no signed note")
    text, _, tail = note.rpartition("\n\n")
    lines = text.split("\n")
    if len(lines) != 3 or not re.fullmatch(r"0|[1-9][0-9]{0,18}", lines[1]):
        raise Unreadable("the checkpoint does not have origin, size and root")
    if tail.count("\n") > MAX_LINES:
        raise Unreadable(f"the checkpoint has more than {MAX_LINES} signature lines")
    signatures = []
    for line in tail.removesuffix("\n").split("\n"):
        dash, _, rest = line.partition(" ")
        name, _, blob = rest.partition(" ")
        if dash != "\u2014" or not name:
            raise Unreadable("a signature line of the checkpoint is malformed")
        signatures.append((name, decode64(blob, "the checkpoint's signature")))
    if len({(name, blob[:4]) for name, blob in signatures}) != len(signatures):
        raise Unreadable("a key has signed the checkpoint twice")
    try:
        text_bytes = (text + "\n").encode()
    except UnicodeEncodeError:
        raise Unreadable("the checkpoint holds half a character") from None
    return Checkpoint(
        lines[0], int(lines[1]), decode64(lines[2], "the checkpoint's root"), text_bytes, tuple(signatures)
    )


def checkpoint_verdict(checkpoint: Checkpoint, key: VerifierKey) -> str:
    """ok, bad, unjudged or unknown_key: what this key has to do with the checkpoint. Lines of other keys are left alone."""
    ours = [blob for name, blob in checkpoint.signatures if (name, blob[:4]) == (key.name, key.short)]
    if not ours:
        return "unknown_key"
    return key.verdict(ours[0], checkpoint)


def time_of(checkpoint: Checkpoint, key: VerifierKey) -> int | None:
    """When the checkpoint was the newest, as this key's cosignature says, seconds since 1970; None when it says nothing that holds."""
    cosigner = key.cosigner
    for name, blob in checkpoint.signatures:
        if (name, blob[:4]) == (cosigner.name, cosigner.short) and cosigner.verdict(blob, checkpoint) == "ok":
            return cosigned_at(blob) or None  # 0: no statement of a time
    return None


def pae(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding of a leaf."""
    return b"DSSEv1 %d %s %d %s" % (len(EVENT_TYPE), EVENT_TYPE, len(payload), payload)


def claims_of(leaf: bytes) -> dict[str, Any]:
    """What a leaf says, parsed strictly; raises Unreadable."""
    try:
        claims = json.loads(leaf.decode("utf-8"), object_pairs_hook=refuse_doubles)
    except (UnicodeDecodeError, ValueError, RecursionError):
        raise Unreadable("the leaf is no JSON") from None
    members_of(claims, LEAF_MEMBERS, "the leaf")
    texts = [claims[name] for name in LEAF_MEMBERS - {"v", "key"}]
    if not all(isinstance(one, str) for one in texts) or not isinstance(claims["key"], str | None):
        raise Unreadable("the leaf holds something that is no text")
    return dict(claims)


def must_be_signed(body: Any, claims: dict[str, Any]) -> bool:
    """Whether somebody must have signed this event by itself: an own one, or a person's. What was harvested relies on the tree."""
    if claims["actor"].startswith("user:"):
        return True
    if not isinstance(body, str) or '"source":"own"' not in body:
        return False
    facts = facts_of(body, claims)
    return facts is not None and facts.get("source") == "own"


def facts_of(body: Any, claims: dict[str, Any]) -> dict[str, Any] | None:
    """A body as an object, when it is the one that the leaf names."""
    if not isinstance(body, str) or hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest() != claims["body"]:
        return None
    try:
        facts = json.loads(body, object_pairs_hook=refuse_doubles)
    except (ValueError, RecursionError, Unreadable):
        return None
    return facts if isinstance(facts, dict) else None


def refuse_doubles(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise Unreadable("a member is named twice")
    return dict(pairs)


def members_of(value: Any, expected: set[str], what: str) -> None:
    if not isinstance(value, dict) or set(value) != expected:
        raise Unreadable(f"{what} does not have the members {', '.join(sorted(expected))}")


def list_of(value: Any, what: str, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise Unreadable(f"{what} is no list, or too long")
    return value


def earliest(since: Any, before: int | None) -> int:
    """From which number on a key is suspect when it is revoked, perhaps once more. Raises Unreadable."""
    number = number_of(since, "compromised_since")
    return number if before is None else min(number, before)


def number_of(value: Any, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise Unreadable(f"{what} is no number")
    return value
