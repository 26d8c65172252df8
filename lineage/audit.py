"""Recomputes the whole log from its rows and compares: bodies, leaves, signatures, order, keys, tiles, every checkpoint, those kept outside
the database, and what is derived from the events. Judged by the reader's code (`lineage.verify`), not by that which wrote it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import AsyncConnection

from db.queries import sql
from lineage.audit_claims import claim_faults
from lineage.audit_commitments import commitment_faults
from lineage.audit_items import item_faults
from lineage.audit_signatures import (
    PORTION,
    all_of,
    facts_in,
    judge_keys,
    judge_stamps,
    judge_traces,
    judge_unsigned,
)
from lineage.audit_traces import trace_faults
from lineage.hashes import hashes_of
from lineage.trace import SIGNED
from lineage.verify import (
    Entry,
    Fault,
    History,
    Unreadable,
    VerifierKey,
    checkpoint_verdict,
    claims_of,
    parse_checkpoint,
    parse_vkey,
)

#: Faults of one kind that are listed; then only their number is: nobody hides one behind many of another kind.
LISTED = 20
#: Events of which nothing is left, in all, up to which the rest is judged: who edits a row may give it any number.
MAX_MISSING = 2**20
_LARGEST = 2**62
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Row = dict[str, Any]
#: A comparison of something that is derived from the events with them; runs in the audit's snapshot.
Check = Callable[[AsyncConnection[Row]], AsyncIterator[Fault]]
#: What the whole audit compares beside the log itself.
CHECKS: list[Check] = [item_faults, trace_faults, claim_faults, commitment_faults]


async def audit(
    conn: AsyncConnection[Row],
    *,
    kept: Sequence[str] = (),
    witnesses: Sequence[str] = (),
    checks: Sequence[Check] | None = None,
) -> list[Fault]:
    """Return the faults found, each with its code, words and number; empty when all is whole. One consistent snapshot is read.

    Args:
        kept: signed checkpoints from outside the database.
        witnesses: verifier keys of witnesses, whose cosignatures are checked.
        checks: comparisons beside the log itself; None: all.
    """
    async with conn.transaction():
        await conn.execute("set transaction isolation level repeatable read read only")
        return await faults_of(conn, kept, [parse_vkey(one) for one in witnesses], CHECKS if checks is None else checks)


async def faults_of(
    conn: AsyncConnection[Row], kept: Sequence[str], witnesses: Sequence[VerifierKey], checks: Sequence[Check]
) -> list[Fault]:
    """The same in the caller's transaction."""
    faults = await _log_faults(conn, kept, witnesses)
    for check in checks:
        faults += await _checked(conn, check, is_damaged=bool(faults))
    return faults


async def _checked(conn: AsyncConnection[Row], check: Check, *, is_damaged: bool) -> list[Fault]:
    """What a comparison finds. Where the log itself was changed, what cannot be compared any more is a fault and no error."""
    found, seen = [], Counter[str]()
    try:
        async with conn.transaction():
            async for fault in check(conn):
                seen[fault.code] += 1
                if seen[fault.code] <= LISTED:
                    found.append(fault)
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
        found.append(Fault("table-missing", "a table beside the log, or a column of one, is gone"))
    except Exception as error:
        if not is_damaged:
            raise
        found.append(uncomparable(error))
    return [
        *found,
        *(Fault(code, f"{number - LISTED} more of these") for code, number in seen.items() if number > LISTED),
    ]


def uncomparable(error: Exception) -> Fault:
    """For a comparison that a changed event has broken off."""
    return Fault(
        "not-compared", f"an event that was changed cannot be compared with what was made of it: {type(error).__name__}"
    )


async def _log_faults(conn: AsyncConnection[Row], kept: Sequence[str], witnesses: Sequence[VerifierKey]) -> list[Fault]:
    history = History()
    outside = _Kept(kept, history)
    number_of_hashes = 0
    left = MAX_MISSING
    async for portion in _portions(conn):
        rows, left = _before_the_gap(portion, history.tree.size, left)
        if len(rows) < len(portion):
            words = f"events from {rows[-1]['seq'] + 1 if rows else history.tree.size} on are missing: what follows is not judged"
            history.fault("event-missing", words, history.tree.size)
        if not rows:
            break
        tiles = await _leaf_tiles(conn, rows)
        between = (history.tree.size, rows[-1]["seq"] + 1)
        stored = {row["size"]: row for row in await all_of(conn, "lineage.checkpoints_between", between)}
        cosigned = await _cosignatures(conn, list(stored))
        for row in rows:
            while history.tree.size < row["seq"]:
                history.missing(_hash_in(tiles, history.tree.size))
            if row["seq"] < history.tree.size:
                continue  # a number that is there twice is refused by the table
            _judge_row(row, history)
            history.add(_entry(row), _hash_in(tiles, row["seq"]))
            size = history.tree.size
            if (checkpoint := stored.get(size)) is not None:
                history.checkpoint(checkpoint["note"], size, bytes(checkpoint["root"]))
                _judge_cosignatures(checkpoint["note"], cosigned.get(size, ()), witnesses, history)
            outside.judge(size, checkpoint)
        number_of_hashes += await _judge_hashes(conn, rows, history)
        if len(rows) < len(portion):
            break
    await _judge_last_checkpoint(conn, history)
    for row in await all_of(conn, "lineage.checkpoints_between", (history.tree.size, _LARGEST)):
        size = row["size"]
        words = f"checkpoint {size} speaks of {size - history.tree.size} events more than there are: the last ones are missing"
        history.fault("shrunk", words, size)
    outside.end()
    await _judge_number_of_hashes(conn, number_of_hashes, history)
    await _judge_tiles(conn, history)
    await judge_keys(conn, history)
    await judge_traces(conn, history)
    await judge_stamps(conn, history)
    verdict = history.end()
    return verdict.faults


def _before_the_gap(rows: list[Row], following: int, left: int) -> tuple[list[Row], int]:
    """The rows before so many are missing that the rest is not worth it, and how many more may be."""
    for place, row in enumerate(rows):
        left -= max(0, row["seq"] - following)
        if left < 0:
            return rows[:place], 0
        following = row["seq"] + 1
    return rows, left


async def _judge_last_checkpoint(conn: AsyncConnection[Row], history: History) -> None:
    """Every event is under a checkpoint: both are committed at once."""
    rows = await all_of(conn, "lineage.newest_checkpoint")
    size = rows[0]["size"] if rows else 0
    if size < history.tree.size:
        words = f"no checkpoint covers the events from {size} on: the newest ones are missing"
        history.fault("checkpoint-missing", words, size)


async def _cosignatures(conn: AsyncConnection[Row], sizes: list[int]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for row in await all_of(conn, "lineage.cosignatures", (sizes,)):
        found.setdefault(row["size"], []).append(row["line"])
    return found


async def _portions(conn: AsyncConnection[Row]) -> AsyncIterator[list[Row]]:
    start = 0
    while rows := await all_of(conn, "lineage.leaves_from", (start, PORTION)):
        yield rows
        start = rows[-1]["seq"] + 1


async def _leaf_tiles(conn: AsyncConnection[Row], rows: Sequence[Row]) -> dict[int, bytes]:
    """Leaf hashes as the tiles have them, of the blocks that these rows are in."""
    blocks = range(rows[0]["seq"] // 256, rows[-1]["seq"] // 256 + 1)
    found = await all_of(conn, "lineage.widest_tiles", ([0] * len(blocks), list(blocks)))
    return {row["idx"]: bytes(row["data"]) for row in found}


def _hash_in(tiles: dict[int, bytes], seq: int) -> bytes | None:
    offset = seq % 256 * 32
    return tiles.get(seq // 256, b"")[offset : offset + 32] or None


def _entry(row: Row) -> Entry:
    passed = row["recorded_at"] - _EPOCH
    recorded_us = (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds
    return Entry(bytes(row["leaf"]), row["body"], None if row["sig"] is None else bytes(row["sig"]), recorded_us)


def _judge_row(row: Row, history: History) -> None:
    """Columns that repeat what leaf and body say."""
    seq = row["seq"]
    if hashlib.sha256(row["body"].encode()).digest() != bytes(row["body_hash"]):
        history.fault("body-changed", f"event {seq}: the body was changed: its hash is not the stored one", seq)
    try:
        claims = claims_of(bytes(row["leaf"]))
    except Unreadable:
        return  # found elsewhere
    facts = facts_in(row["body"])
    at = row["claimed_at"].astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    told = {
        "kind": row["kind"],
        "name": row["name"],
        "id": str(row["id"]),
        "actor": row["actor_id"],
        "at": at,
        "key": row["key_id"],
    }
    told["body"] = bytes(row["body_hash"]).hex()
    wrong = [name for name, value in told.items() if claims[name] != value]
    if wrong:
        history.fault("leaf-changed", f"event {seq}: the leaf does not say what the row says ({', '.join(wrong)})", seq)
    where = {"source": row["source"], "collection": row["collection"], "item": row["item_id"]}
    # Older events of changes without an event of their own do not say where in their bodies.
    differs = [name for name, value in where.items() if name in facts and facts[name] != value]
    if differs:
        history.fault(
            "row-changed", f"event {seq}: the row does not say what the body says ({', '.join(differs)})", seq
        )


class _Kept:
    """Checkpoints from outside the database."""

    def __init__(self, notes: Iterable[str], history: History) -> None:
        self._history = history
        self._by_size: dict[int, list[str]] = {}
        for note in notes:
            try:
                self._by_size.setdefault(parse_checkpoint(note).size, []).append(note)
            except Unreadable as error:
                history.fault("kept-unreadable", f"a checkpoint that was kept: {error}")

    def judge(self, size: int, stored: Row | None) -> None:
        """Compare those of the tree's present size; `stored` is the database's checkpoint of it."""
        history = self._history
        for note in self._by_size.pop(size, ()):
            kept = parse_checkpoint(note)
            if kept.root == history.tree.root():
                continue
            ours = any(checkpoint_verdict(kept, key) == "ok" for key in history.log_keys(size))
            if ours and stored is not None:
                words = f"two checkpoints of size {size} with different roots, both signed by the log: proof of a fork"
                history.fault("fork", words, size)
            elif not ours and history.keys:
                words = f"a checkpoint of size {size} that was kept is of another root, and no key of this log has signed it: it was "
                words += "forged, or the log was rewritten under other keys"
                history.fault("inconsistent", words, size)
            else:
                words = f"the log is another than the one whose checkpoint of size {size} was kept: it was rewritten"
                history.fault("inconsistent", words, size)

    def end(self) -> None:
        """Those that are left speak of more events than there are."""
        for size in self._by_size:
            words = (
                f"the log has {self._history.tree.size} events, and a checkpoint of {size} was kept: its size went down"
            )
            self._history.fault("shrunk", words, size)


def _judge_cosignatures(note: str, lines: Sequence[str], witnesses: Sequence[VerifierKey], history: History) -> None:
    if not lines:
        return
    try:
        checkpoint = parse_checkpoint(note + "".join(lines))
    except Unreadable as error:
        history.fault("witness-bad", f"a cosignature: {error}", history.tree.size)
        return
    found = {checkpoint_verdict(checkpoint, key) for key in witnesses}
    if "bad" in found:
        words = f"checkpoint {checkpoint.size}: a witness's signature does not hold"
        history.fault("witness-bad", words, checkpoint.size)
    if "unjudged" in found:
        words = f"checkpoint {checkpoint.size}: a witness's signature was not judged: the OpenSSL here has no ML-DSA"
        history.fault("witness-unjudged", words, checkpoint.size)


async def _judge_hashes(conn: AsyncConnection[Row], rows: Sequence[Row], history: History) -> int:
    """Where hashes lead to events; returns how many there must be."""
    expected = set()
    traced = {}
    for row in rows:
        named = hashes_of(facts_in(row["body"]))
        expected |= {(digest, algorithm, row["seq"]) for algorithm, digest in named}
        if named and row["source"] == "own" and row["kind"] in SIGNED:
            traced[row["id"]] = row["seq"]
    await judge_unsigned(conn, traced, history)
    if expected:
        digests, algorithms, numbers = (list(column) for column in zip(*expected, strict=True))
        for one in await all_of(conn, "lineage.missing_hashes", (digests, algorithms, numbers)):
            words = f"event {one['seq']}: its hash {one['alg']} is not among those that are looked up"
            history.fault("hash-missing", words, one["seq"])
    return len(expected)


async def _judge_number_of_hashes(conn: AsyncConnection[Row], expected: int, history: History) -> None:
    (row,) = await all_of(conn, "lineage.number_of_hashes")
    if row["number"] > expected:
        words = f"{row['number'] - expected} hashes are looked up that no event names"
        history.fault("hash-added", words)


async def _judge_tiles(conn: AsyncConnection[Row], history: History) -> None:
    """Compare the stored tiles with those of the recomputed tree, prefix by prefix."""
    found = set()
    async for row in await conn.execute(sql("lineage.all_tiles")):
        own = history.tree.tile(row["level"], row["idx"])
        place = f"{row['level']}/{row['idx']}"
        if bytes(row["data"]) != own[: 32 * row["width"]]:
            history.fault("tile-differs", f"tile {place} (width {row['width']}) is not that of the events")
        elif len(own) == 32 * row["width"]:
            found.add((row["level"], row["idx"]))
    for level, index in history.tree.places():
        if (level, index) not in found:
            history.fault("tile-missing", f"tile {level}/{index} is missing or incomplete")
