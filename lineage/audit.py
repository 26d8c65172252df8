"""Recomputes the whole log from its rows and compares: bodies, leaves, signatures, tiles, every checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any

from psycopg import AsyncConnection

from db.queries import sql
from lineage import verify
from lineage.sequencer import leaf_bytes
from lineage.tree import Appender, leaf_hash

PORTION = 10_000
MAX_FAULTS = 100

Row = dict[str, Any]


async def audit(conn: AsyncConnection[Row]) -> list[str]:
    """Return the faults found, in words, with numbers; empty when the log is whole. One consistent snapshot is read."""
    async with conn.transaction():
        await conn.execute("set transaction isolation level repeatable read read only")
        return [fault async for fault in _faults(conn)][:MAX_FAULTS]


async def _rows(conn: AsyncConnection[Row]) -> AsyncIterator[Row]:
    start = 0
    while True:
        rows = await (await conn.execute(sql("lineage.leaves_from"), (start, PORTION))).fetchall()
        for row in rows:
            yield row
        if len(rows) < PORTION:
            return
        start = rows[-1]["seq"] + 1


async def _faults(conn: AsyncConnection[Row]) -> AsyncIterator[str]:
    checkpoints = {row["size"]: row for row in await (await conn.execute(sql("lineage.checkpoints"))).fetchall()}
    keys = [row for row in await (await conn.execute(sql("lineage.signing_keys"))).fetchall() if row["vkey"]]
    event_keys = {row["key_id"]: verify.parse_vkey(row["vkey"]) for row in keys}
    tree = Appender(0, {})
    async for row in _rows(conn):
        if row["seq"] != tree.size:
            yield f"event {tree.size} is missing: the next one is {row['seq']}"
            return
        for fault in _row_faults(row, event_keys):
            yield fault
        tree.append([leaf_hash(bytes(row["leaf"]))])
        if tree.size in checkpoints:
            for fault in _checkpoint_faults(checkpoints.pop(tree.size), tree.root(), event_keys):
                yield fault
    for size in checkpoints:
        yield f"checkpoint {size} speaks of {size - tree.size} events more than there are"
    async for fault in _tile_faults(conn, tree):
        yield fault


def _row_faults(row: Row, keys: dict[str, verify.VerifierKey]) -> list[str]:
    faults = []
    body_hash = hashlib.sha256(row["body"].encode()).digest()
    if body_hash != bytes(row["body_hash"]):
        faults.append(f"event {row['seq']}: the body was changed: its hash is not the stored one")
    expected = leaf_bytes(row, bytes(row["body_hash"]).hex(), _log_name(row), row["key_id"])
    if expected != bytes(row["leaf"]):
        faults.append(f"event {row['seq']}: the leaf does not say what the row says")
    if row["sig"] is not None:
        key = keys.get(row["key_id"])
        if key is None or not key.holds(bytes(row["sig"]), verify.pae(bytes(row["leaf"]))):
            faults.append(f"event {row['seq']}: the signature does not hold over the leaf")
    return faults


def _log_name(row: Row) -> str:
    """The log as the leaf names it; a wrong name is found by the checkpoints."""
    try:
        return str(verify.claims_of(bytes(row["leaf"]))["log"])
    except verify.Unreadable:
        return ""


def _checkpoint_faults(row: Row, root: bytes, keys: dict[str, verify.VerifierKey]) -> list[str]:
    size = row["size"]
    try:
        checkpoint = verify.parse_checkpoint(row["note"])
    except verify.Unreadable as error:
        return [f"checkpoint {size}: {error}"]
    faults = []
    if bytes(row["root"]) != root or checkpoint.root != root or checkpoint.size != size:
        faults.append(
            f"checkpoint {size}: its root is not that of the events up to it: an event before {size} was changed"
        )
    if "ok" not in {verify.checkpoint_verdict(checkpoint, key) for key in keys.values()}:
        faults.append(f"checkpoint {size}: the signature does not hold")
    return faults


async def _tile_faults(conn: AsyncConnection[Row], tree: Appender) -> AsyncIterator[str]:
    """Compare the stored tiles with those of the recomputed tree, prefix by prefix."""
    stored = await (await conn.execute(sql("lineage.all_tiles"))).fetchall()
    found = set()
    for row in stored:
        place = (row["level"], row["idx"])
        expected = tree.changed.get(place, b"")
        if bytes(row["data"]) != expected[: 32 * row["width"]]:
            yield f"tile {place[0]}/{place[1]} (width {row['width']}) is not that of the events"
        elif len(expected) == 32 * row["width"]:
            found.add(place)
    for place in tree.changed.keys() - found:
        yield f"tile {place[0]}/{place[1]} is missing"
