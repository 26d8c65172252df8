"""Histories of few things to which much happens: rows of lineage.event, without a tree, for tests of what is made of events."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from db.pools import Connection
from lineage.ids import uuid7

START = datetime(2020, 1, 1, tzinfo=UTC)
OWN = [f"own{number}" for number in range(12)]
_OWN_KINDS = ["CREATE", "UPDATE", "REPLACE", "DELETE", "OBSOLETE", "RESTORE", "VERIFY", "WITHDRAW"]
_OTHER_KINDS = ["REGISTER", "REGISTER", "COPY", "UPDATE", "WITHDRAW", "OBSOLETE", "CORRECT", "RESTORE"]
_COLUMNS = "seq, id, kind, name, source, collection, item_id, actor_id, claimed_at, recorded_at, body, body_hash, leaf"


async def fill(conn: Connection, seed: int, number: int) -> None:
    """Put events into the table, as if they had been numbered."""
    chance = random.Random(seed)
    async with conn.cursor() as cursor, cursor.copy(f"copy lineage.event ({_COLUMNS}) from stdin".encode()) as copy:
        for seq in range(number):
            kind, name, source, collection, item, actor, body = _event(chance)
            at, text = START + timedelta(seconds=chance.randrange(1000)), orjson.dumps(body).decode()
            digest = hashlib.sha256(text.encode()).digest()
            recorded = START + timedelta(seconds=seq)
            await copy.write_row(
                (seq, uuid7(), kind, name, source, collection, item, actor, at, recorded, text, digest, b"\0")
            )


def _event(chance: random.Random) -> tuple[str, str, str, str | None, str | None, str, dict[str, Any]]:
    body = dict(_members(chance))
    if chance.random() < 0.3:
        kind, item, actor = chance.choice(_OWN_KINDS), chance.choice(OWN), chance.choice(["user:ann", "user:bob"])
        if kind == "OBSOLETE" and chance.random() < 0.6:
            body["formerly"] = chance.choice(OWN)
        if chance.random() < 0.15:
            told = {"run": _run(chance), "outputs": [_entry(chance) for _ in range(2)]}
            return "STATE", "run/1", "own", None, None, actor, body | told
        return kind, item, "own", "mine", item, actor, body
    name = _name(chance)
    item = chance.choice([name, name, chance.choice(OWN)])
    name += chance.choice(["", ".SAFE", ".zip"])
    return (
        chance.choice(_OTHER_KINDS),
        name,
        "demo",
        chance.choice(["s2", "mine"]),
        item,
        "harvest:demo",
        body,
    )


def _members(chance: random.Random) -> Iterator[tuple[str, Any]]:
    if chance.random() < 0.6:
        yield "item_sha256", chance.choice(["01", "02", "0C"]) * 32
    if chance.random() < 0.4:
        yield "inputs", [_entry(chance) for _ in range(chance.randrange(4))]
    for member, value in (
        ("derivations", [{**_entry(chance), "child": _name(chance)}]),
        ("upload", "u"),
        ("predecessor", chance.choice(OWN)),
        ("successor", _name(chance)),
        ("run", _run(chance)),
    ):
        if chance.random() < 0.1:
            yield member, value


def _name(chance: random.Random) -> str:
    start = START + timedelta(days=chance.randrange(4))
    made, level = start + timedelta(hours=chance.randrange(1, 5)), chance.choice(["L1C", "L2A"])
    take = f"2021080{chance.randrange(1, 3)}T17{30 + chance.randrange(3)}"
    kind, end = chance.choice(["RAW__", "SLC__", "GRDH_", "OCN__"]), chance.choice(["3092", "AAAA", "AAAA_COG"])
    return chance.choice(
        [
            f"S2A_MSI{level}_{start:%Y%m%dT%H%M%S}_N0{chance.choice(['510', '500'])}_R022_T33UXP_{made:%Y%m%dT%H%M%S}",
            f"S1A_IW_{kind}1SDV_{take}00_{take}30_039156_049F13_{end}",
            chance.choice(OWN),
            chance.choice(["odd\\N\t", "\n"]) + chance.choice("ab"),
        ]
    )


def _entry(chance: random.Random) -> dict[str, Any]:
    digest = chance.choice(["07", "08"]) * 32
    told = chance.choice(["declared", "inferred", "explicit"])
    found: dict[str, Any] = chance.choice(
        [
            {"name": _name(chance)},
            {"collection": "mine", "item": chance.choice(OWN), "name": "x"},
            {"name": "f", "hash": digest},
            {"hash": digest},
            {"namespace": "ns", "name": chance.choice(OWN)},
            {"name": _name(chance), "rule": "R3/1", "assertion": told, "confidence": chance.choice([0.5, 0.98, 1])},
        ]
    )
    return found | ({"role": chance.choice(["aux", "original", "copy_of"])} if chance.random() < 0.2 else {})


def _run(chance: random.Random) -> dict[str, Any]:
    identity = f"01900000-0000-7000-8000-00000000000{chance.randrange(4)}"
    state, software = chance.choice(["START", "COMPLETE"]), {chance.choice("ab"): "1"}
    return {"id": identity, "namespace": "a", "job": chance.choice("xy"), "state": state, "software": software}
