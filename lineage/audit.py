"""Recomputes the whole log from its rows and compares: bodies, leaves, signatures, order, keys, tiles, every checkpoint, those kept outside
the database, and what is derived from the events. Judged by the reader's code (`lineage.verify`), not by that which wrote it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from psycopg import AsyncConnection

from db.queries import sql
from lineage.audit_items import item_faults
from lineage.audit_traces import trace_faults
from lineage.hashes import hashes_of
from lineage.keyring import facade_print
from lineage.stamping import is_stamp_of
from lineage.trace import message_of, product_of
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

PORTION = 256 * 40
MAX_FAULTS = 200
_LARGEST = 2**62
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Row = dict[str, Any]
#: A comparison of something that is derived from the events with them; runs in the audit's snapshot.
Check = Callable[[AsyncConnection[Row]], AsyncIterator[Fault]]
#: What the whole audit compares beside the log itself.
CHECKS: list[Check] = [item_faults, trace_faults]


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
        faults = await _log_faults(conn, kept, [parse_vkey(one) for one in witnesses])
        for check in CHECKS if checks is None else checks:
            faults += [fault async for fault in check(conn)]
        return faults[:MAX_FAULTS]


async def _log_faults(conn: AsyncConnection[Row], kept: Sequence[str], witnesses: Sequence[VerifierKey]) -> list[Fault]:
    history = History()
    outside = _Kept(kept, history)
    number_of_hashes = 0
    async for rows in _portions(conn):
        tiles = await _leaf_tiles(conn, rows)
        between = (history.tree.size, rows[-1]["seq"] + 1)
        stored = {row["size"]: row for row in await _all(conn, "lineage.checkpoints_between", between)}
        cosigned = await _cosignatures(conn, list(stored)) if witnesses else {}
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
    for row in await _all(conn, "lineage.checkpoints_between", (history.tree.size, _LARGEST)):
        size = row["size"]
        words = f"checkpoint {size} speaks of {size - history.tree.size} events more than there are: the last ones are missing"
        history.fault("shrunk", words, size)
    outside.end()
    await _judge_number_of_hashes(conn, number_of_hashes, history)
    await _judge_tiles(conn, history)
    await _judge_keys(conn, history)
    await _judge_traces(conn, history)
    await _judge_stamps(conn, history)
    verdict = history.end()
    return verdict.faults


async def _cosignatures(conn: AsyncConnection[Row], sizes: list[int]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for row in await _all(conn, "lineage.cosignatures", (sizes,)):
        found.setdefault(row["size"], []).append(row["line"])
    return found


async def _all(conn: AsyncConnection[Row], name: str, values: Sequence[Any] = ()) -> list[Row]:
    return await (await conn.execute(sql(name), values)).fetchall()


async def _portions(conn: AsyncConnection[Row]) -> AsyncIterator[list[Row]]:
    start = 0
    while rows := await _all(conn, "lineage.leaves_from", (start, PORTION)):
        yield rows
        start = rows[-1]["seq"] + 1


async def _leaf_tiles(conn: AsyncConnection[Row], rows: Sequence[Row]) -> dict[int, bytes]:
    """Leaf hashes as the tiles have them, of the blocks that these rows are in."""
    blocks = range(rows[0]["seq"] // 256, rows[-1]["seq"] // 256 + 1)
    found = await _all(conn, "lineage.widest_tiles", ([0] * len(blocks), list(blocks)))
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
        facts = orjson.loads(row["body"])
    except (Unreadable, orjson.JSONDecodeError):
        return  # found elsewhere
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
    for row in rows:
        try:
            facts = orjson.loads(row["body"])
        except orjson.JSONDecodeError:
            continue
        expected |= {(digest, algorithm, row["seq"]) for algorithm, digest in hashes_of(facts)}
    if expected:
        digests, algorithms, numbers = (list(column) for column in zip(*expected, strict=True))
        for one in await _all(conn, "lineage.missing_hashes", (digests, algorithms, numbers)):
            words = f"event {one['seq']}: its hash {one['alg']} is not among those that are looked up"
            history.fault("hash-missing", words, one["seq"])
    return len(expected)


async def _judge_number_of_hashes(conn: AsyncConnection[Row], expected: int, history: History) -> None:
    (row,) = await _all(conn, "lineage.number_of_hashes")
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


async def _judge_keys(conn: AsyncConnection[Row], history: History) -> None:
    """The table of keys against what the events say of them."""
    rows = {row["key_id"]: row for row in await _all(conn, "lineage.signing_keys") if row["vkey"]}
    for name in rows.keys() | history.keys.keys():
        row, known = rows.get(name), history.keys.get(name)
        if row is None or known is None:
            history.fault(
                "key-differs", f"the key {name} is {'not in the table' if row is None else 'in no event of the log'}"
            )
            continue
        told = (row["vkey"], row["purpose"], row["from_size"], row["to_size"], row["compromised_since"])
        if told != (known.vkey, known.purpose, known.from_size, known.to_size, known.compromised_since):
            history.fault("key-differs", f"the table of keys says otherwise of {name} than the log's events")
    if history.facades:
        await _judge_facades(conn, history)


async def _judge_facades(conn: AsyncConnection[Row], history: History) -> None:
    """The table's keys of the façade against what the events say of them. A log that did not name its first takes it from the table."""
    rows = {row["key_id"]: row for row in await _all(conn, "lineage.signing_keys") if row["purpose"] == "facade"}
    for name in rows.keys() | history.facades.keys():
        row, known = rows.get(name), history.facades.get(name)
        if row is not None and known is not None and not known.print_:
            known = history.facades[name] = replace(known, print_=_print_of(row))
        told = (_print_of(row), row["from_size"], row["to_size"], row["compromised_since"]) if row else None
        said = (known.print_, known.from_size, known.to_size, known.compromised_since) if known else None
        if told != said:
            words = f"the table of keys says otherwise of the façade's key {name} than the log's events"
            history.fault("key-differs", words)


def _print_of(row: Row) -> str:
    try:
        return facade_print(row["certificate"] or "")
    except ValueError:
        return ""


async def _judge_traces(conn: AsyncConnection[Row], history: History) -> None:
    """The signatures in the shape of the Copernicus service."""
    start = 0
    while rows := await _all(conn, "lineage.trace_signatures", (start, PORTION)):
        for row in rows:
            seq = row["seq"]
            if row["message"] != message_of(product_of(row["name"], orjson.loads(row["body"])), "CREATE"):
                history.fault("trace-differs", f"event {seq}: its trace does not say what the event says", seq)
            elif history.facades and not _may_sign(history, row):
                words = f"event {seq}: its trace has another certificate than the façade's of then"
                history.fault("trace-signature", words, seq)
            elif not _is_signed(row):
                history.fault("trace-signature", f"event {seq}: the signature of its trace does not hold", seq)
        start = rows[-1]["seq"] + 1


async def _judge_stamps(conn: AsyncConnection[Row], history: History) -> None:
    """Stamps against the checkpoints that they are of: another checkpoint of the same size was made later."""
    for row in await _all(conn, "lineage.all_stamps"):
        if not is_stamp_of(bytes(row["reply"]), row["note"] or ""):
            history.fault("stamp-differs", f"checkpoint {row['size']} is another than the stamped one", row["size"])


def _may_sign(history: History, row: Row) -> bool:
    print_ = _print_of(row)
    return any(known.print_ == print_ and known.signs(row["seq"]) for known in history.facades.values())


def _is_signed(row: Row) -> bool:
    try:
        key = x509.load_der_x509_certificate(base64.b64decode(row["certificate"])).public_key()
        if not isinstance(key, rsa.RSAPublicKey):
            return False
        key.verify(base64.b64decode(row["signature"]), row["message"].encode(), padding.PKCS1v15(), hashes.SHA256())
    except (ValueError, InvalidSignature):
        return False
    return True
