"""Reads a whole log from its first event on: leaves, bodies, signatures, which key may sign what, order, tree, checkpoints."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from lineage.verify.hashing import Tree, leaf_hash
from lineage.verify.notes import (
    Checkpoint,
    Unreadable,
    Verdict,
    VerifierKey,
    claims_of,
    decode64,
    earliest,
    facts_of,
    must_be_signed,
    pae,
    parse_checkpoint,
    parse_vkey,
    time_of,
)
from lineage.verify.policy import judge_signatures

#: Faults of one kind that are listed; then only their number is.
LISTED = 20


@dataclass(frozen=True)
class Entry:
    """One event as it is stored. What is not known is None; `recorded_us` are microseconds since 1970."""

    leaf: bytes
    body: str | None = None
    signature: bytes | None = None
    recorded_us: int | None = None


@dataclass(frozen=True)
class LogKey:
    """A key of the log, and for which numbers it may sign: from_size <= n < to_size."""

    key: VerifierKey
    vkey: str
    purpose: str
    from_size: int
    to_size: int | None = None
    compromised_since: int | None = None

    def signs(self, number: int) -> bool:
        """True when it may sign this leaf or checkpoint."""
        return self.from_size <= number and (self.to_size is None or number < self.to_size)


@dataclass(frozen=True)
class FacadeKey:
    """A key that signs traces of events with from_size <= n < to_size; `print_`: SHA-256 (hex) of its SubjectPublicKeyInfo, "" unknown."""

    print_: str
    from_size: int
    to_size: int | None = None
    compromised_since: int | None = None

    def signs(self, number: int) -> bool:
        """True when it may sign the trace of this event."""
        return self.from_size <= number and (self.to_size is None or number < self.to_size)


class History:
    """Feed it the events in order; `verdict` has what is wrong, `keys` what the events say of
    keys, `facades` what they say of the façade's.

    Args:
        pinned: the log's key, from elsewhere.
        is_opaque: leaves may be anything: only the tree is judged.
    """

    def __init__(self, pinned: VerifierKey | None = None, *, is_opaque: bool = False) -> None:
        self.verdict = Verdict(log="included", checkpoint="ok")
        self.tree = Tree()
        self.keys: dict[str, LogKey] = {}
        self.facades: dict[str, FacadeKey] = {}  # logs begun long ago do not name the first
        self.origin: str | None = None
        self._pinned, self._is_opaque = pinned, is_opaque
        self._signed: Counter[tuple[str, int]] = (
            Counter()
        )  # (key, number // 256): how many leaves, for what becomes suspect
        self._times: list[int] = []  # lowest and highest of the events since the last checkpoint, microseconds
        self._last_us = 0
        self._listed: Counter[str] = Counter()
        self._seen_time = False

    def fault(self, code: str, words: str, seq: int | None = None, **verdicts: str) -> None:
        """Note a fault; of one kind only the first are listed."""
        self._listed[code] += 1
        if self._listed[code] <= LISTED:
            self.verdict.fault(code, words, seq, **verdicts)

    def missing(self, expected: bytes | None) -> None:
        """An event is not there. With its hash from the tile the rest can be judged all the same."""
        seq = self.tree.size
        self.fault("event-missing", f"event {seq} is missing", seq, content="mismatch")
        self.tree.push(expected or bytes(32))

    def add(self, entry: Entry, expected: bytes | None = None) -> None:
        """The next event; `expected` is its hash in the tile."""
        seq = self.tree.size
        own = leaf_hash(entry.leaf)
        if expected is not None and own != expected:
            self.fault(
                "leaf-differs",
                f"event {seq}: its leaf is not the one in the tile: it was changed",
                seq,
                log="inconsistent",
            )
        self.tree.push(expected or own)
        self._judge_time(seq, entry.recorded_us)
        if self._is_opaque and self.origin is not None:
            return
        try:
            claims = claims_of(entry.leaf)
        except Unreadable as error:
            if not self._is_opaque:
                self.fault("leaf-unreadable", f"event {seq}: {error}", seq, content="mismatch")
            return
        self.origin = self.origin or claims["log"]
        if claims["log"] != self.origin:
            self.fault("other-log", f"event {seq} is of the log {claims['log']}", seq)
        facts = self._judge_body(seq, entry.body, claims)
        if (claims["kind"] == "GENESIS") != (seq == 0):
            self.fault(
                "key-forged", f"event {seq}: a log has one beginning, its first event, which names its keys", seq
            )
        elif seq == 0 and facts is not None:
            self._begin(facts)
        self._judge_signature(seq, entry, claims)
        if claims["kind"] == "KEY" and facts is not None:
            self._change_keys(seq, facts)

    def _judge_time(self, seq: int, recorded_us: int | None) -> None:
        if recorded_us is None:
            return
        if recorded_us < self._last_us:
            self.fault("order", f"event {seq} was recorded before the one in front of it", seq)
        self._last_us = recorded_us
        if not self._times:
            self._times = [recorded_us, recorded_us]
        elif recorded_us != self._times[1]:
            self._times = [min(recorded_us, self._times[0]), max(recorded_us, self._times[1])]

    def _judge_body(self, seq: int, body: str | None, claims: dict[str, Any]) -> dict[str, Any] | None:
        if body is None:
            return None
        if hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest() != claims["body"]:
            words = f"event {seq}: the body was changed: its hash is not the one in the leaf"
            self.fault("body-changed", words, seq, content="mismatch")
            return None
        if self.verdict.content == "absent":
            self.verdict.content = "match"
        return facts_of(body, claims) if claims["kind"] in ("GENESIS", "KEY") else None

    def _begin(self, facts: dict[str, Any]) -> None:
        named = facts.get("keys")
        for purpose in ("log", "event"):
            try:
                text = named[purpose] if isinstance(named, dict) else None
                key = parse_vkey(text)
            except (Unreadable, KeyError):
                self.fault("key-forged", f"the log's first event names no {purpose} key", 0)
                continue
            self.keys[key.id] = LogKey(key, str(text), purpose, 0)
        if isinstance(named, dict) and "facade" in named:
            self.facades[str(named["facade"])[:16]] = FacadeKey(str(named["facade"]), 0)

    def _judge_signature(self, seq: int, entry: Entry, claims: dict[str, Any]) -> None:
        name = claims["key"]
        if name is None:
            if entry.signature is not None:
                self.fault(
                    "signature-bad", f"event {seq}: a signature that the leaf does not name", seq, signature="bad"
                )
            elif must_be_signed(entry.body, claims):
                words = f"event {seq}: an own event or a person's, and nobody has signed it"
                self.fault("signature-missing", words, seq, signature="bad")
            return
        if entry.signature is None:
            if entry.body is not None:
                self.fault("signature-missing", f"event {seq}: the signature is missing", seq, signature="bad")
            return
        known = self.keys.get(name)
        if known is None or known.purpose != "event":
            self.fault(
                "key-unknown",
                f"event {seq}: signed by the key {name}, which the log does not know",
                seq,
                signature="unknown_key",
            )
        elif not known.signs(seq):
            words = f"event {seq}: the key {name} may not sign it: it was added later, or retired or revoked before"
            self.fault("key-out-of-range", words, seq, signature="unknown_key")
        elif not known.key.holds(entry.signature, pae(entry.leaf)):
            words = f"event {seq}: the signature does not hold over the leaf"
            self.fault("signature-bad", words, seq, signature="bad")
        else:
            self._signed[name, seq // 256] += 1
            if self.verdict.signature == "none":
                self.verdict.signature = "ok"

    def _change_keys(self, seq: int, facts: dict[str, Any]) -> None:
        """What a KEY event does. One that cannot be done, or that the old and the new key have not signed, is a fault."""
        try:
            if facts.get("purpose") == "facade":
                is_good = self._change_facade(seq, facts)
            else:
                changed = self._changed(seq, facts) or []
                self.keys |= {one.key.id: one for one in changed}
                is_good = bool(changed)
        except (Unreadable, KeyError, TypeError, ValueError, AttributeError):
            is_good = False
        if not is_good:
            self.fault("key-forged", f"event {seq}: a change of keys that the keys themselves have not signed", seq)

    def _changed(self, seq: int, facts: dict[str, Any]) -> list[LogKey] | None:
        now = seq + 1
        if facts["action"] == "add":
            old, new = self.keys[facts["replaces"]], parse_vkey(facts["vkey"])
            purpose = facts["purpose"]
            if (
                old.purpose != purpose
                or not old.signs(now)
                or new.id in self.keys
                or not self._is_signed(facts, old.key, new)
            ):
                return None
            added = LogKey(new, facts["vkey"], purpose, now)
            return [added, replace(old, to_size=now)] if purpose == "event" else [added]
        key = self.keys[facts["key"]]
        if not self._is_signed_by_event_key(seq, facts):
            return None
        ended = replace(key, to_size=now if key.to_size is None else key.to_size)
        if facts["action"] == "retire":
            return [ended]
        if facts["action"] == "revoke":
            since = earliest(facts["compromised_since"], key.compromised_since)
            return [replace(ended, compromised_since=since)]
        return None

    def _change_facade(self, seq: int, facts: dict[str, Any]) -> bool:
        """What a KEY event does to the key that signs traces; False: it cannot be done, or no event key has signed it."""
        if not self._is_signed_by_event_key(seq, facts):
            return False
        now, last = seq + 1, facts["replaces"] if facts["action"] == "add" else facts["key"]
        old = self.facades.get(last, FacadeKey("", 0) if not self.facades else None)
        if old is None:
            return False
        ended = replace(old, to_size=now if old.to_size is None else old.to_size)
        if facts["action"] == "add":
            print_ = str(facts["vkey"])
            if print_[:16] in self.facades or not old.signs(now):
                return False
            self.facades |= {last: ended, print_[:16]: FacadeKey(print_, now)}
        elif facts["action"] == "revoke":
            since = earliest(facts["compromised_since"], old.compromised_since)
            self.facades[last] = replace(ended, compromised_since=since)
        else:
            self.facades[last] = ended
        return True

    def _is_signed_by_event_key(self, seq: int, facts: dict[str, Any]) -> bool:
        signing = (one.key for one in self.keys.values() if one.purpose == "event" and one.signs(seq))
        return any(self._is_signed(facts, key) for key in signing)

    def _is_signed(self, facts: dict[str, Any], *keys: VerifierKey) -> bool:
        """Whether all these keys have signed what a KEY event says."""
        names = ("action", "purpose", "vkey", "replaces", "key", "compromised_since")
        said = "\n".join(
            ["stac-federator/key@1", str(self.origin), *(str(facts.get(name, "")) for name in names), ""]
        ).encode()
        signatures = facts["signatures"]
        return all(
            key.id in signatures and key.holds(decode64(signatures[key.id], "a signature"), said) for key in keys
        )

    def checkpoint(self, note: str, size: int, root: bytes | None = None) -> Checkpoint | None:
        """Judge a checkpoint of the present size; `root` is what is stored beside it."""
        try:
            checkpoint = parse_checkpoint(note)
        except Unreadable as error:
            self.fault("checkpoint-unreadable", f"checkpoint {size}: {error}", size, checkpoint="bad")
            self._times = []
            return None
        own = self.tree.root()
        if checkpoint.size != size or checkpoint.root != own or root not in (None, own):
            words = (
                f"checkpoint {size}: its root is not that of the events up to it: an event before {size} was changed"
            )
            self.fault("root-differs", words, size, log="inconsistent")
        if self.origin is not None and checkpoint.origin != self.origin:
            self.fault("other-log", f"checkpoint {size} is of the log {checkpoint.origin}", size)
        keys = self.log_keys(size)
        found = Verdict(checkpoint="ok")
        judge_signatures(checkpoint, keys, found)
        for fault in found.faults:
            self.fault(fault.code, fault.words, size, checkpoint=found.checkpoint)
        self._judge_checkpoint_time(checkpoint, keys)
        return checkpoint

    def log_keys(self, size: int) -> list[VerifierKey]:
        """Keys that may sign the checkpoint of this size; of a log whose events are not known the pinned one."""
        known = [one.key for one in self.keys.values() if one.purpose == "log" and one.signs(size)]
        return known or ([self._pinned] if self._pinned else [])

    def _judge_checkpoint_time(self, checkpoint: Checkpoint, keys: list[VerifierKey]) -> None:
        times, self._times = self._times, []
        said = {time for key in keys if (time := time_of(checkpoint, key)) is not None}
        if not said:
            if self._seen_time:
                self.fault("time", f"checkpoint {checkpoint.size} does not say when it was made", checkpoint.size)
            return
        self._seen_time = True
        if times and said != {one // 1_000_000 for one in times}:
            words = f"checkpoint {checkpoint.size}: its events were recorded at another time than it says"
            words += ", or a checkpoint before it is missing"
            self.fault("time", words, checkpoint.size)
        elif times and times[0] != times[1]:  # events of one checkpoint are recorded at one time
            words = f"checkpoint {checkpoint.size}: its events were recorded at several times: a checkpoint before it is missing"
            self.fault("checkpoint-missing", words, checkpoint.size)

    def end(self) -> Verdict:
        """What was found in all: call it after the last event."""
        log_keys = [one.key for one in self.keys.values() if one.purpose == "log"]
        if self._pinned is not None:
            self.verdict.key = "pinned"
            if log_keys and self._pinned not in log_keys:
                self.fault("key-differs", "the log is signed by another key than the pinned one")
        for name, known in self.keys.items():
            since = known.compromised_since
            if since is None:
                continue
            if known.purpose == "log":
                self.verdict.notes.append(
                    f"checkpoints of {since} events and more that the key {name} signed are suspect"
                )
                continue
            number = sum(count for (key, block), count in self._signed.items() if key == name and block >= since // 256)
            self.verdict.notes.append(f"events from {since} on that the key {name} signed are suspect (about {number})")
            if self.verdict.signature == "ok" and number:
                self.verdict.signature = "suspect"
        for code, number in self._listed.items():
            if number > LISTED:
                self.verdict.notes.append(f"{number - LISTED} more faults of the kind {code}")
        return self.verdict
