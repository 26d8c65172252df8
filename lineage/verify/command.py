"""`python -m lineage verify`, or the single file `verify.py`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lineage.verify.folder import judge_folder
from lineage.verify.notes import Unreadable, Verdict, VerifierKey, parse_checkpoint, parse_vkey
from lineage.verify.policy import Policy
from lineage.verify.proofs import (
    CONSISTENCY,
    COSIGNED_CONSISTENCY,
    MAX_BYTES,
    fork_evidence,
    judge_file,
    judge_note,
    load,
    path_of,
)

MARKS = ("signature", "content", "log", "checkpoint", "witness", "key")


def report(verdict: Verdict) -> str:
    """The verdict in words, one line first."""
    facts = verdict.facts
    lines = ["OK" if verdict.ok else "FAULT: " + "; ".join(map(str, verdict.faults))]
    if "kind" in facts:
        lines.append(f"{facts['kind']} {facts['name']} at {facts['at']} by {facts['actor']}")
        lines.append(f"entry {facts['index']} of {facts['size']} in log {facts['log']}")
    elif "from" in facts:
        lines.append(f"from {facts['from']} to {facts['size']} events of log {facts['log']}")
    else:
        lines.append(f"{facts['size']} events of log {facts['log']}")
    lines.append(", ".join(f"{name}={getattr(verdict, name)}" for name in MARKS))
    lines += verdict.notes
    if verdict.key != "pinned" and facts["vkey"]:
        lines.append(f"key not pinned; compare it with one from elsewhere (--key): {facts['vkey']}")
    return "\n".join(lines)


def as_json(verdict: Verdict) -> dict[str, Any]:
    """The verdict as one JSON object."""
    faults = [{"code": one.code, "words": one.words, "seq": one.seq} for one in verdict.faults]
    return {"ok": verdict.ok, **vars(verdict), "faults": faults}


def judge(path: Path, policy: Policy) -> Verdict:
    """Judge a file or a folder. Raises Unreadable, OSError."""
    if path.is_dir():
        return judge_folder(path, policy)
    data = _read(path)
    return judge_file(load(data), policy) if data[:1] == b"{" else judge_note(_utf8(data), policy)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def _utf8(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise Unreadable("the file is neither a proof nor a checkpoint") from None


def _learn_paths(files: Sequence[Path], policy: Policy) -> None:
    """Proofs of consistency among the files serve the others too."""
    for path in files:
        if path.is_dir():
            continue
        try:
            document = load(_read(path))
            if document["format"] in (CONSISTENCY, COSIGNED_CONSISTENCY):
                old, new = parse_checkpoint(document["old"]), parse_checkpoint(document["new"])
                policy.paths[old.size, new.size] = path_of(document)
        except (Unreadable, OSError, KeyError):
            continue


def _write_evidence(options: argparse.Namespace, keys: Sequence[VerifierKey], write: Callable[[str], None]) -> None:
    """When a checkpoint among the files and a kept one are a fork, keep the proof of it."""
    notes = {path: _utf8(_read(path)) for path in [*options.kept, *options.files] if path.is_file()}
    checkpoints = []
    for note in notes.values():
        try:
            checkpoints.append((parse_checkpoint(note), note))
        except Unreadable:
            continue
    for one, note in checkpoints:
        for other, second in checkpoints:
            if (one.origin, one.size) == (other.origin, other.size) and one.root < other.root:
                options.evidence.write_bytes(fork_evidence(note, second, [options.key] if keys else []))
                write(f"proof of the fork: {options.evidence}")


def main(arguments: Sequence[str] | None = None, say: Callable[[str], None] | None = None) -> int:
    """Command line. Exit status: 0 all holds, 1 a fault, 2 a file is unreadable."""
    parser = argparse.ArgumentParser(
        prog="lineage verify", description="check proofs, checkpoints and whole logs offline"
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="proof, checkpoint, or folder of a log")
    parser.add_argument("--key", metavar="VKEY", help="the log's verifier key, from a place that you trust")
    parser.add_argument(
        "--kept", action="append", type=Path, default=[], metavar="NOTE", help="a checkpoint that you kept"
    )
    parser.add_argument(
        "--witness",
        action="append",
        default=[],
        metavar="VKEY",
        help="a witness that must have cosigned; keys of one name are one witness",
    )
    parser.add_argument("--quorum", type=int, default=0, help="how many of the witnesses must have (default: all)")
    parser.add_argument("--evidence", type=Path, metavar="FILE", help="where to write the proof of a fork")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args(arguments)
    if options.quorum < 0 or (options.quorum and not options.witness):
        parser.error("--quorum is a number of the witnesses that --witness names")
    write = say or (lambda text: print(text))
    try:
        key = parse_vkey(options.key) if options.key else None
        kept = [parse_checkpoint(_utf8(_read(path))) for path in options.kept]
        policy = Policy(key, kept, [parse_vkey(one) for one in options.witness], options.quorum)
    except (Unreadable, OSError) as error:
        write(f"UNREADABLE: {error}")
        return 2
    _learn_paths(options.files, policy)
    status = max(_judged(path, policy, options.json, write) for path in options.files)
    if options.evidence:
        _write_evidence(options, [key] if key else [], write)
    return status


def _judged(path: Path, policy: Policy, as_lines: bool, write: Callable[[str], None]) -> int:
    try:
        verdict = judge(path, policy)
    except (Unreadable, OSError) as error:
        reason = str(error) if isinstance(error, Unreadable) else f"cannot read {path}: {error.strerror}"
        write(json.dumps({"file": str(path), "ok": False, "faults": [reason]}) if as_lines else f"UNREADABLE: {reason}")
        return 2
    write(json.dumps({"file": str(path), **as_json(verdict)}) if as_lines else report(verdict))
    return 0 if verdict.ok else 1


if __name__ == "__main__":
    sys.exit(main())
