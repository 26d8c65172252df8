"""What the user knows from elsewhere, and judging checkpoints by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lineage.verify.hashing import root_from_consistency
from lineage.verify.notes import Checkpoint, Unreadable, Verdict, VerifierKey, checkpoint_verdict, parse_vkey

NO_MLDSA = "the `cryptography` of this Python has no ML-DSA-44; 48 and later have it"


def compare(old: Checkpoint, new: Checkpoint, path: Sequence[bytes] | None) -> tuple[str, str]:
    """(verdict of the log, words) of two checkpoints, the older one first; `path` proves that the newer goes on from it."""
    if old.origin != new.origin:
        return "inconsistent", f"the checkpoints are of two logs, {old.origin} and {new.origin}"
    if old.size == new.size:
        if old.root == new.root:
            return "consistent", f"the same checkpoint of size {new.size}"
        return "forked", f"two checkpoints of size {new.size} with different roots: the log was forked"
    if new.size < old.size:
        return "shrunk", f"the log has {new.size} events, and had {old.size}: its size went down"
    if old.size == 0:
        return "consistent", "every log goes on from the empty one"
    if path is None:
        return "unproven", f"no proof that the log of {new.size} events goes on from that of {old.size}"
    if root_from_consistency(old.size, new.size, old.root, path) == new.root:
        return "consistent", f"the log of {new.size} events goes on from that of {old.size}"
    return "inconsistent", f"the log of {new.size} events does not go on from that of {old.size}: it was rewritten"


@dataclass
class Policy:
    """The log's key, checkpoints from before, witnesses and how many of them must have signed, and proofs of consistency given beside."""

    key: VerifierKey | None = None
    kept: list[Checkpoint] = field(default_factory=list)
    witnesses: list[VerifierKey] = field(default_factory=list)
    quorum: int = 0
    paths: dict[tuple[int, int], list[bytes]] = field(default_factory=dict)

    def keys(self, embedded: Sequence[Any], verdict: Verdict) -> list[VerifierKey]:
        """The log's keys: the pinned one first. What a file itself names is believed only where nothing is pinned."""
        named = [parse_vkey(one) for one in embedded]
        if self.key is None:
            return named
        verdict.key = "pinned"
        if named and self.key not in named:
            verdict.fault("key-differs", "the proof names another log key than the pinned one")
        return [self.key, *(one for one in named if one != self.key)]

    def compare_kept(self, shown: Checkpoint, verdict: Verdict) -> None:
        """Hold a checkpoint against those from before."""
        for old in self.kept:
            word, why = compare(old, shown, self.paths.get((old.size, shown.size)))
            if word == "shrunk" and shown.size and (path := self.paths.get((shown.size, old.size))) is not None:
                word, why = compare(shown, old, path)  # an older checkpoint of the same log
            judge_pair(word, why, shown.size, verdict)


def judge_pair(word: str, why: str, size: int, verdict: Verdict) -> None:
    """Note what `compare` has found."""
    if word == "unproven":
        verdict.notes.append(why + "; get one from /lineage/v1/log/consistency and give it as a further file")
    elif word != "consistent":
        verdict.fault({"forked": "fork"}.get(word, word), why, size, log=word)


def judge_signatures(checkpoint: Checkpoint, keys: Sequence[VerifierKey], verdict: Verdict) -> None:
    """One of the log's keys must have signed; what any of them has signed must hold."""
    plain = [checkpoint_verdict(checkpoint, key) for key in keys]
    timed = [checkpoint_verdict(checkpoint, key.cosigner) for key in keys]
    size = checkpoint.size
    if "bad" in plain + timed:
        verdict.fault("checkpoint-signature", f"checkpoint {size}: the signature does not hold", size, checkpoint="bad")
    elif "ok" not in plain and "unjudged" in plain:
        words = f"checkpoint {size}: the signature was not judged: {NO_MLDSA}"
        verdict.fault("checkpoint-unjudged", words, size, checkpoint="unjudged")
    elif "ok" not in plain:
        names = " or ".join(sorted({key.name for key in keys})) or "any key of the log"
        words = f"checkpoint {size}: the checkpoint is not signed by the key of {names}"
        verdict.fault("checkpoint-key", words, size, checkpoint="unknown_key")
    elif not any(fault.code.startswith("checkpoint-") for fault in verdict.faults):
        verdict.checkpoint = "ok"


def judge_lines(checkpoint: Checkpoint, keys: Sequence[VerifierKey], verdict: Verdict) -> None:
    """A proof holds no line of a key that nobody has named: it could be changed unseen."""
    known = {(one.name, one.short) for key in keys for one in (key, key.cosigner)}
    if any((name, blob[:4]) not in known for name, blob in checkpoint.signatures):
        verdict.fault("checkpoint-key", "a line of the checkpoint is of a key that nobody has named")


def judge_witnesses(checkpoint: Checkpoint, policy: Policy, verdict: Verdict) -> None:
    """Enough of the witnesses that the user trusts must have cosigned. Keys of one name are one witness: any of them will do."""
    if not policy.witnesses:
        return
    found: dict[str, set[str]] = {}
    for key in policy.witnesses:
        found.setdefault(key.name, set()).add(checkpoint_verdict(checkpoint, key))
    good = [name for name, words in found.items() if "ok" in words]
    unjudged = [name for name, words in found.items() if "unjudged" in words and name not in good]
    wanted = policy.quorum if policy.quorum > 0 else len(found)
    if any("bad" in words for words in found.values()):
        verdict.fault("witness-bad", "a witness's signature does not hold", checkpoint.size, witness="bad")
        return
    if unjudged:
        verdict.notes.append(f"the cosignature of {', '.join(unjudged)} was not judged and does not count: {NO_MLDSA}")
    if len(good) >= wanted:
        verdict.witness = "cosigned"
        return
    words = f"{len(good)} of {wanted} witnesses have cosigned checkpoint {checkpoint.size}"
    if len(good) + len(unjudged) >= wanted:
        words += f"; {len(unjudged)} more could not be judged"
        verdict.fault("witness-unjudged", words, checkpoint.size, witness="unjudged", log="unwitnessed")
    else:
        verdict.fault("unwitnessed", words, checkpoint.size, witness="missing", log="unwitnessed")


def judge_named(checkpoint: Checkpoint, named: Sequence[VerifierKey], policy: Policy, verdict: Verdict) -> None:
    """Lines of the witnesses that a file itself names: they must hold, and tell nothing more to whoever does not know the witnesses."""
    found = {key: checkpoint_verdict(checkpoint, key) for key in named}
    if "unknown_key" in found.values():
        raise Unreadable("the proof names a witness that has not cosigned its checkpoint")
    if "bad" in found.values():
        verdict.fault("witness-bad", "a witness's signature does not hold", checkpoint.size, witness="bad")
    elif named and not policy.witnesses:
        names = ", ".join(sorted({key.name for key in named}))
        verdict.notes.append(f"it has lines of witnesses that only it itself names (--witness requires them): {names}")
        if "unjudged" in found.values():
            verdict.notes.append(f"such a line was not judged: {NO_MLDSA}")
