"""Checks the log without our database and without the code that wrote it: standard library and `cryptography` only.

    python -m lineage verify FILE|FOLDER... [--key VKEY] [--kept NOTE] [--witness VKEY] [--json]

A FILE is a proof of one event, a proof of consistency of two checkpoints, a proof that the log was forked, or a checkpoint; a FOLDER is
a log as `python -m lineage export` writes it (or any tlog-tiles folder): everything in it is computed again. `--key` is the log's verifier
key and `--kept` a checkpoint from before, both from a place that you trust. `single_file.py` makes one file of it all.

Verdicts, each one word: signature {ok, bad, none, unknown_key, suspect}, content {match, mismatch, absent}, log {included, consistent,
inconsistent, shrunk, forked, unproven, unwitnessed}, checkpoint {ok, bad, unknown_key, unjudged}, witness {none, cosigned, missing, bad,
unjudged}, key {pinned, not_pinned}. `unjudged`: only a signature with ML-DSA-44 would do, and the `cryptography` here cannot judge it.
Files must be canonical JSON and every base64 text canonical too, so that no byte can be changed unseen.
"""

from lineage.verify.command import main, report
from lineage.verify.folder import judge_folder, split_entries, tile_name
from lineage.verify.hashing import root_from_consistency, root_from_hash, root_from_path
from lineage.verify.history import Entry, History
from lineage.verify.notes import (
    Checkpoint,
    Fault,
    Unreadable,
    Verdict,
    VerifierKey,
    checkpoint_verdict,
    claims_of,
    decode64,
    earliest,
    pae,
    parse_checkpoint,
    parse_vkey,
    time_of,
)
from lineage.verify.policy import Policy, compare
from lineage.verify.proofs import fork_evidence, judge_file, judge_note, load, verify

__all__ = [
    "Checkpoint", "Entry", "Fault", "History", "Policy", "Unreadable", "Verdict", "VerifierKey", "checkpoint_verdict",
    "claims_of", "compare", "decode64", "earliest", "fork_evidence", "judge_file", "judge_folder", "judge_note", "load", "main", "pae",
    "parse_checkpoint", "parse_vkey", "report", "root_from_consistency", "root_from_hash", "root_from_path", "split_entries",
    "tile_name", "time_of", "verify",
]  # fmt: skip
