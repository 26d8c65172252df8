"""Judging files: the proof of an event, of consistency, of a fork, and a checkpoint alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from lineage.verify.hashing import root_from_path
from lineage.verify.notes import (
    MAX_LINES,
    Checkpoint,
    Unreadable,
    Verdict,
    VerifierKey,
    claims_of,
    decode64,
    facts_of,
    list_of,
    members_of,
    must_be_signed,
    number_of,
    pae,
    parse_checkpoint,
    parse_vkey,
    refuse_doubles,
)
from lineage.verify.policy import (
    Policy,
    compare,
    judge_lines,
    judge_named,
    judge_pair,
    judge_signatures,
    judge_witnesses,
)

OLD_PROOF, PROOF = "stac-federator/proof@1", "stac-federator/proof@2"
CONSISTENCY, FORK = "stac-federator/consistency@1", "stac-federator/fork@1"
#: The same with the lines of witnesses, and their keys as `witnesses`.
COSIGNED_PROOF, COSIGNED_CONSISTENCY = "stac-federator/proof@3", "stac-federator/consistency@2"
MAX_BYTES = 4_000_000
MAX_PATH = 64
MAX_KEYS = 16
_FORMATS = (OLD_PROOF, PROOF, COSIGNED_PROOF, CONSISTENCY, COSIGNED_CONSISTENCY, FORK)


def load(data: bytes) -> dict[str, Any]:
    """Parse a file strictly: size, and canonical form."""
    if len(data) > MAX_BYTES:
        raise Unreadable("the file is too large for a proof")
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=refuse_doubles)
    except (UnicodeDecodeError, ValueError, RecursionError):
        raise Unreadable("the file is no JSON") from None
    if not isinstance(value, dict) or value.get("format") not in _FORMATS:
        raise Unreadable(f"the file is no {PROOF}")
    try:
        canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    except (UnicodeEncodeError, RecursionError):
        raise Unreadable("the file holds half a character") from None
    if canonical != data:
        raise Unreadable("the file is not canonical JSON: something was added or written otherwise")
    return value


def verify(data: bytes, pinned: str | None = None) -> Verdict:
    """Judge a file; `pinned` is the log's verifier key from another place than the file itself.

    Raises:
        Unreadable: it is none of ours.
    """
    return judge_file(load(data), Policy(parse_vkey(pinned) if pinned is not None else None))


def judge_file(document: dict[str, Any], policy: Policy) -> Verdict:
    """Judge what `load` has read. Raises Unreadable."""
    if document["format"] in (CONSISTENCY, COSIGNED_CONSISTENCY):
        return _judge_consistency(document, policy)
    if document["format"] == FORK:
        return _judge_fork(document, policy)
    return _judge_proof(document, policy)


def path_of(proof: dict[str, Any]) -> list[bytes]:
    """The hashes of a proof. Raises Unreadable."""
    return [decode64(one, "the path") for one in list_of(proof["path"], "the path", MAX_PATH)]


def _judge_proof(proof: dict[str, Any], policy: Policy) -> Verdict:
    is_old = proof["format"] == OLD_PROOF
    members = {"format", "event", "index", "path", "checkpoint", "keys"}
    members_of(proof, (members if is_old else members | {"revocations"}) | _of_witnesses(proof), "the proof")
    members_of(proof["event"], {"body", "leaf", "signature"}, "the event")
    signed = proof["event"]["signature"] is not None
    members_of(proof["keys"], {"log", "event"} if signed else {"log"}, "the list of keys")
    embedded = [proof["keys"]["log"]] if is_old else list_of(proof["keys"]["log"], "the list of keys", MAX_KEYS)
    if not embedded:
        raise Unreadable("the proof names no key of the log")
    verdict = Verdict(content="mismatch")
    keys = policy.keys(embedded, verdict)
    checkpoint = parse_checkpoint(proof["checkpoint"])
    leaf = decode64(proof["event"]["leaf"], "the leaf")
    claims = claims_of(leaf)
    _judge_content(proof["event"]["body"], claims, verdict)
    _judge_event_signature(proof, leaf, claims, verdict)
    index = number_of(proof["index"], "the index")
    if root_from_path(leaf, index, checkpoint.size, path_of(proof)) == checkpoint.root:
        verdict.log = "included"
    else:
        verdict.fault("not-included", "the inclusion path does not lead from the leaf to the checkpoint's root", index)
    judge_signatures(checkpoint, keys, verdict)
    _judge_cosignatures(proof, checkpoint, keys, policy, verdict)
    if not checkpoint.origin == keys[0].name == claims["log"]:
        verdict.fault("other-log", "leaf, checkpoint and key name different logs")
    for one in [] if is_old else list_of(proof["revocations"], "the list of revocations", MAX_KEYS):
        _judge_revocation(one, claims, index, checkpoint, verdict)
    policy.compare_kept(checkpoint, verdict)
    names = ("log", "kind", "name", "at", "actor", "id")
    verdict.facts = {name: claims[name] for name in names}
    verdict.facts |= {"index": index, "size": checkpoint.size, "vkey": embedded[0]}
    return verdict


def _of_witnesses(document: dict[str, Any]) -> set[str]:
    return {"witnesses"} if document["format"] in (COSIGNED_PROOF, COSIGNED_CONSISTENCY) else set()


def _judge_cosignatures(
    document: dict[str, Any], checkpoint: Checkpoint, keys: Sequence[VerifierKey], policy: Policy, verdict: Verdict
) -> None:
    """The lines of a proof's checkpoint beside the log's own."""
    named = [parse_vkey(one) for one in list_of(document.get("witnesses", []), "the list of witnesses", MAX_LINES)]
    judge_lines(checkpoint, [*keys, *policy.witnesses, *named], verdict)
    judge_named(checkpoint, named, policy, verdict)
    judge_witnesses(checkpoint, policy, verdict)


def _judge_content(body: Any, claims: dict[str, Any], verdict: Verdict) -> None:
    if isinstance(body, str) and hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest() == claims["body"]:
        verdict.content = "match"
    else:
        verdict.fault("body-changed", "the event's body is not the one whose hash is in the leaf", content="mismatch")


def _judge_event_signature(proof: dict[str, Any], leaf: bytes, claims: dict[str, Any], verdict: Verdict) -> None:
    encoded = proof["event"]["signature"]
    if encoded is None:
        if claims["key"] is not None:
            verdict.fault("signature-missing", "the event's signature is missing", signature="bad")
        elif must_be_signed(proof["event"]["body"], claims):
            words = "an own event or a person's, and nobody has signed it"
            verdict.fault("signature-missing", words, signature="bad")
        return
    key = parse_vkey(proof["keys"]["event"])
    if claims["key"] != key.id:
        verdict.fault("key-differs", "the leaf names another event key than the proof", signature="unknown_key")
    elif key.holds(decode64(encoded, "the event's signature"), pae(leaf)):
        verdict.signature = "ok"
    else:
        verdict.fault("signature-bad", "the event's signature does not hold over the leaf", signature="bad")


def _judge_revocation(one: Any, claims: dict[str, Any], index: int, checkpoint: Checkpoint, verdict: Verdict) -> None:
    """A KEY event of the same log that revokes the event's key: what it signed from `compromised_since` on is suspect."""
    members_of(one, {"body", "leaf", "index", "path"}, "a revocation")
    leaf = decode64(one["leaf"], "a revocation's leaf")
    said = claims_of(leaf)
    place = number_of(one["index"], "a revocation's index")
    facts = facts_of(one["body"], said)
    if facts is None or root_from_path(leaf, place, checkpoint.size, path_of(one)) != checkpoint.root:
        verdict.fault("not-included", "a revocation of the key is not of this log", place)
    elif said["kind"] != "KEY" or facts.get("action") != "revoke" or facts.get("key") != claims["key"]:
        raise Unreadable("a revocation revokes another key")
    elif (since := number_of(facts.get("compromised_since"), "compromised_since")) <= index:
        words = f"the key that signed is compromised since event {since}; the event's place in the log still holds"
        verdict.fault("suspect", words, index, signature="suspect")


def _judge_consistency(document: dict[str, Any], policy: Policy) -> Verdict:
    members_of(document, {"format", "old", "new", "path", "keys"} | _of_witnesses(document), "the proof")
    verdict = Verdict()
    embedded = list_of(document["keys"], "the list of keys", MAX_KEYS)
    keys = policy.keys(embedded, verdict)
    old, new, path = parse_checkpoint(document["old"]), parse_checkpoint(document["new"]), path_of(document)
    for one in (old, new):
        judge_signatures(one, keys, verdict)
    judge_lines(old, [*keys, *policy.witnesses], verdict)
    word, why = compare(old, new, path)
    verdict.log = word
    judge_pair(word, why, new.size, verdict)
    _judge_cosignatures(document, new, keys, policy, verdict)
    of_old = [one for one in policy.kept if one.size == old.size]
    Policy(kept=of_old).compare_kept(old, verdict)
    Policy(kept=policy.kept, paths={**policy.paths, (old.size, new.size): path}).compare_kept(new, verdict)
    verdict.facts = {"log": new.origin, "from": old.size, "size": new.size, "vkey": embedded[0] if embedded else ""}
    return verdict


def _judge_fork(document: dict[str, Any], policy: Policy) -> Verdict:
    """Evidence: two checkpoints of one size and log, both signed by the log, with different roots. It is a fault when it holds."""
    members_of(document, {"format", "keys", "notes"}, "the evidence")
    verdict = Verdict()
    embedded = list_of(document["keys"], "the list of keys", MAX_KEYS)
    keys = policy.keys(embedded, verdict)
    notes = [parse_checkpoint(one) for one in list_of(document["notes"], "the notes", 2)]
    if len(notes) != 2:
        raise Unreadable("the evidence does not have two notes")
    first, second = notes
    for one in notes:
        judge_signatures(one, keys, verdict)
    if verdict.faults:
        verdict.notes.append("this is no proof of a fork")
    elif (first.origin, first.size) == (second.origin, second.size) and first.root != second.root:
        words = f"two checkpoints of size {first.size} with different roots, both signed by the log: proof of a fork"
        verdict.fault("fork", words, first.size, log="forked")
    else:
        verdict.fault("no-fork", "the two checkpoints do not contradict each other: no proof of a fork", log="unproven")
    verdict.facts = {"log": first.origin, "size": first.size, "vkey": embedded[0] if embedded else ""}
    return verdict


def fork_evidence(first: str, second: str, keys: Sequence[str]) -> bytes:
    """The file that shows to anybody that the log was forked."""
    value = {"format": FORK, "keys": list(keys), "notes": [first, second]}
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def judge_note(note: str, policy: Policy) -> Verdict:
    """Judge a checkpoint alone, against the pinned key and those from before. Raises Unreadable."""
    checkpoint = parse_checkpoint(note)
    verdict = Verdict(log="unproven")
    verdict.facts = {"log": checkpoint.origin, "size": checkpoint.size, "vkey": ""}
    if keys := policy.keys([], verdict):
        judge_signatures(checkpoint, keys, verdict)
    else:
        verdict.checkpoint = "unknown_key"
        verdict.notes.append("the checkpoint's signature was not checked: give the log's key (--key)")
    before = len(verdict.notes)
    judge_witnesses(checkpoint, policy, verdict)
    policy.compare_kept(checkpoint, verdict)
    if policy.kept and not verdict.faults and len(verdict.notes) == before:
        verdict.log = "consistent"
    return verdict
