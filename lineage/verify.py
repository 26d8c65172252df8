"""Checks a proof without our database and without the code that wrote it: standard library and `cryptography` only.

    python -m lineage verify proof.json [--key VKEY]        (or, as a single file: python verify.py proof.json)

Verdicts, each {word}: signature {ok, bad, none, unknown_key, undecodable}, content {match, mismatch}, log {included,
inconsistent}, checkpoint {ok, bad, unknown_key}, key {pinned, not_pinned}. The file must be canonical JSON and every base64 text
canonical too, so that no byte can be changed unseen.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

FORMAT = "stac-federator/proof@1"
EVENT_TYPE = b"application/vnd.stac-federator.event+json"
MAX_BYTES = 4_000_000
MAX_PATH = 64
LEAF_MEMBERS = {"v", "log", "id", "kind", "name", "body", "alg", "at", "actor", "key"}


class Unreadable(Exception):
    """The file is no proof of this format; the message says where it differs."""


@dataclass
class Verdict:
    """What was found. `faults` is empty when everything that was checked holds."""

    signature: str = "none"
    content: str = "mismatch"
    log: str = "inconsistent"
    checkpoint: str = "bad"
    key: str = "not_pinned"
    faults: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """True when there is no fault."""
        return not self.faults


@dataclass(frozen=True)
class VerifierKey:
    """A C2SP verifier key: name, four-byte hash, Ed25519 public key."""

    name: str
    short: bytes
    public: bytes

    def holds(self, signature: bytes, message: bytes) -> bool:
        """True when the signature is this key's over the message."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


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


def parse_vkey(text: Any) -> VerifierKey:
    """Parse name+hash+key and check that the hash fits."""
    parts = text.split("+", 2) if isinstance(text, str) else []
    if len(parts) != 3 or not parts[0]:
        raise Unreadable("a key is not of the form name+hash+key")
    name, short_hex, encoded = parts
    blob = decode64(encoded, "a key")
    short = hashlib.sha256(name.encode() + b"\n" + blob).digest()[:4]
    if len(blob) != 33 or blob[:1] != b"\x01":
        raise Unreadable("a key is no Ed25519 key")
    if short.hex() != short_hex:
        raise Unreadable(f"the key of {name} does not fit its own hash")
    return VerifierKey(name, short, blob[1:])


def _refuse_doubles(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise Unreadable("a member is named twice")
    return dict(pairs)


def load(data: bytes) -> dict[str, Any]:
    """Parse a proof strictly: size, canonical form, exactly the members of the format."""
    if len(data) > MAX_BYTES:
        raise Unreadable("the file is too large for a proof")
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_refuse_doubles)
    except (UnicodeDecodeError, ValueError, RecursionError):
        raise Unreadable("the file is no JSON") from None
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise Unreadable(f"the file is no {FORMAT}")
    _members(value, {"format", "event", "index", "path", "checkpoint", "keys"}, "the proof")
    _members(value["event"], {"body", "leaf", "signature"}, "the event")
    try:
        canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise Unreadable("the file holds half a character") from None
    if canonical != data:
        raise Unreadable("the file is not canonical JSON: something was added or written otherwise")
    return value


def _members(value: Any, expected: set[str], what: str) -> None:
    if not isinstance(value, dict) or set(value) != expected:
        raise Unreadable(f"{what} does not have the members {', '.join(sorted(expected))}")


def root_from_path(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """Root that an inclusion proof leads to (RFC 9162, 2.1.3.2); None when the proof has another length than it must."""
    if not 0 <= index < size or any(len(one) != 32 for one in path):
        return None
    node = hashlib.sha256(b"\x00" + leaf).digest()
    position, last = index, size - 1
    for sibling in path:
        if last == 0:
            return None
        if position % 2 or position == last:
            node = hashlib.sha256(b"\x01" + sibling + node).digest()
            while position % 2 == 0 and position:
                position, last = position // 2, last // 2
        else:
            node = hashlib.sha256(b"\x01" + node + sibling).digest()
        position, last = position // 2, last // 2
    return node if last == 0 else None


def root_from_consistency(old: int, new: int, old_root: bytes, path: Sequence[bytes]) -> bytes | None:
    """Root of the new tree that a consistency proof leads to (RFC 9162, 2.1.4.2); None when it does not fit `old_root`."""
    if not 0 < old <= new or len(old_root) != 32 or any(len(one) != 32 for one in path):
        return None
    if old == new:
        return old_root if not path else None
    nodes = [old_root, *path] if old & (old - 1) == 0 else list(path)
    if not nodes:
        return None
    position, last = old - 1, new - 1
    while position % 2:
        position, last = position // 2, last // 2
    first = second = nodes[0]
    for node in nodes[1:]:
        if last == 0:
            return None
        if position % 2 or position == last:
            first = hashlib.sha256(b"\x01" + node + first).digest()
            second = hashlib.sha256(b"\x01" + node + second).digest()
            while position % 2 == 0 and position:
                position, last = position // 2, last // 2
        else:
            second = hashlib.sha256(b"\x01" + second + node).digest()
        position, last = position // 2, last // 2
    return second if last == 0 and first == old_root else None


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
    if not isinstance(note, str) or not note.endswith("\n") or "\n\n" not in note:
        raise Unreadable("the checkpoint is no signed note")
    text, _, tail = note.rpartition("\n\n")
    lines = text.split("\n")
    if len(lines) != 3 or not lines[1].isascii() or not lines[1].isdigit() or str(int(lines[1])) != lines[1]:
        raise Unreadable("the checkpoint does not have origin, size and root")
    signatures = []
    for line in tail.removesuffix("\n").split("\n"):
        dash, _, rest = line.partition(" ")
        name, _, blob = rest.partition(" ")
        if dash != "\u2014" or not name:
            raise Unreadable("a signature line of the checkpoint is malformed")
        signatures.append((name, decode64(blob, "the checkpoint's signature")))
    if len(set(signatures)) != len(signatures):
        raise Unreadable("a signature line of the checkpoint stands twice")
    root = decode64(lines[2], "the checkpoint's root")
    return Checkpoint(lines[0], int(lines[1]), root, (text + "\n").encode(), tuple(signatures))


def checkpoint_verdict(checkpoint: Checkpoint, key: VerifierKey) -> str:
    """ok, bad, or unknown_key."""
    ours = [blob for name, blob in checkpoint.signatures if (name, blob[:4]) == (key.name, key.short)]
    if len(ours) != 1 or len(checkpoint.signatures) != 1:
        return "unknown_key"
    return "ok" if key.holds(ours[0][4:], checkpoint.text) else "bad"


def pae(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding of a leaf."""
    return b"DSSEv1 %d %s %d %s" % (len(EVENT_TYPE), EVENT_TYPE, len(payload), payload)


def verify(data: bytes, pinned: str | None = None) -> Verdict:
    """Judge a proof; `pinned` is the log's verifier key from another place than the proof itself.

    Raises:
        Unreadable: no proof of this format.
    """
    proof = load(data)
    verdict = Verdict()
    leaf = decode64(proof["event"]["leaf"], "the leaf")
    claims = claims_of(leaf)
    log_key = _log_key(proof, pinned, verdict)
    checkpoint = parse_checkpoint(proof["checkpoint"])
    _judge_content(proof["event"]["body"], claims, verdict)
    _judge_event_signature(proof, leaf, claims, verdict)
    _judge_inclusion(proof, leaf, checkpoint, verdict)
    verdict.checkpoint = checkpoint_verdict(checkpoint, log_key)
    if verdict.checkpoint == "bad":
        verdict.faults.append("the checkpoint's signature does not hold")
    elif verdict.checkpoint == "unknown_key":
        verdict.faults.append(f"the checkpoint is not signed by the key of {log_key.name}")
    if not checkpoint.origin == log_key.name == claims["log"]:
        verdict.faults.append("leaf, checkpoint and key name different logs")
    names = ("kind", "name", "at", "actor", "id")
    verdict.facts = {
        "log": claims["log"],
        "index": proof["index"],
        "size": checkpoint.size,
        **{n: claims[n] for n in names},
    }
    verdict.facts["vkey"] = pinned or proof["keys"]["log"]
    return verdict


def claims_of(leaf: bytes) -> dict[str, Any]:
    """What a leaf says, parsed strictly; raises Unreadable."""
    try:
        claims = json.loads(leaf.decode("utf-8"), object_pairs_hook=_refuse_doubles)
    except (UnicodeDecodeError, ValueError, RecursionError):
        raise Unreadable("the leaf is no JSON") from None
    _members(claims, LEAF_MEMBERS, "the leaf")
    return dict(claims)


def _log_key(proof: dict[str, Any], pinned: str | None, verdict: Verdict) -> VerifierKey:
    keys = proof["keys"]
    signed = proof["event"]["signature"] is not None
    _members(keys, {"log", "event"} if signed else {"log"}, "the list of keys")
    embedded = parse_vkey(keys["log"])
    if pinned is None:
        return embedded
    verdict.key = "pinned"
    if (key := parse_vkey(pinned)) != embedded:
        verdict.faults.append("the proof names another log key than the pinned one")
    return key


def _judge_content(body: Any, claims: dict[str, Any], verdict: Verdict) -> None:
    if isinstance(body, str) and hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest() == claims["body"]:
        verdict.content = "match"
    else:
        verdict.faults.append("the event's body is not the one whose hash is in the leaf")


def _judge_event_signature(proof: dict[str, Any], leaf: bytes, claims: dict[str, Any], verdict: Verdict) -> None:
    encoded = proof["event"]["signature"]
    if encoded is None:
        if claims["key"] is not None:
            verdict.signature = "bad"
            verdict.faults.append("the event's signature is missing")
        return
    key = parse_vkey(proof["keys"]["event"])
    if claims["key"] != f"{key.name}+{key.short.hex()}":
        verdict.signature = "unknown_key"
        verdict.faults.append("the leaf names another event key than the proof")
        return
    verdict.signature = "ok" if key.holds(decode64(encoded, "the event's signature"), pae(leaf)) else "bad"
    if verdict.signature == "bad":
        verdict.faults.append("the event's signature does not hold over the leaf")


def _judge_inclusion(proof: dict[str, Any], leaf: bytes, checkpoint: Checkpoint, verdict: Verdict) -> None:
    index, path = proof["index"], proof["path"]
    if not isinstance(index, int) or isinstance(index, bool) or not isinstance(path, list) or len(path) > MAX_PATH:
        raise Unreadable("index or path is malformed")
    hashes = [decode64(one, "the path") for one in path]
    if root_from_path(leaf, index, checkpoint.size, hashes) == checkpoint.root:
        verdict.log = "included"
    else:
        verdict.faults.append("the inclusion path does not lead from the leaf to the checkpoint's root")


def report(verdict: Verdict) -> str:
    """The verdict in words, one line first."""
    facts = verdict.facts
    what = f"{facts['kind']} {facts['name']} at {facts['at']} by {facts['actor']}"
    where = f"entry {facts['index']} of {facts['size']} in log {facts['log']}"
    marks = ", ".join(
        f"{name}={getattr(verdict, name)}" for name in ("signature", "content", "log", "checkpoint", "key")
    )
    head = "OK" if verdict.ok else "FAULT: " + "; ".join(verdict.faults)
    hint = (
        ""
        if verdict.key == "pinned"
        else f"\nkey not pinned; compare it with one from elsewhere (--key): {facts['vkey']}"
    )
    return f"{head}\n{what}\n{where}\n{marks}{hint}"


def main(arguments: Sequence[str] | None = None, say: Callable[[str], None] | None = None) -> int:
    """Command line. Exit status: 0 all proofs hold, 1 a fault, 2 a file is unreadable."""
    parser = argparse.ArgumentParser(prog="lineage verify", description="check proofs offline")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--key", metavar="VKEY", help="the log's verifier key, from a place that you trust")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args(arguments)
    write = say or (lambda text: print(text))  # noqa: T201 - the program's answer
    status = 0
    for path in options.files:
        try:
            verdict = verify(path.read_bytes(), options.key)
        except (Unreadable, OSError) as error:
            reason = str(error) if isinstance(error, Unreadable) else f"cannot read {path}: {error.strerror}"
            write(
                json.dumps({"file": str(path), "ok": False, "faults": [reason]})
                if options.json
                else f"UNREADABLE: {reason}"
            )
            status = 2
            continue
        write(json.dumps({"file": str(path), "ok": verdict.ok, **vars(verdict)}) if options.json else report(verdict))
        if not verdict.ok:
            status = max(status, 1)
    return status


if __name__ == "__main__":
    sys.exit(main())
