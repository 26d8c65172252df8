"""Keeps the graph up with the log: reads events by number, folds them (`lineage.projection`), writes what changed, in one transaction.

Whoever is killed repeats a batch. Nothing here is in the way of who writes items: it reads the log only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson

from db.pools import Connection, Pool
from db.queries import sql
from lineage.names import item_id, product_id, read, stem_of
from lineage.projected import Edge, Entity, Fact, ItemVersion, Located, Place, Run, State
from lineage.projection import fold, is_original, parent_id, parents_told, subject_id
from lineage.rules import INFERRED

BATCH = 2000


async def project(pool: Pool, *, batch_size: int = BATCH) -> int:
    """Take all new events into the graph; return their number (0 when another process is at it)."""
    total = 0
    async with pool.connection() as conn:
        while True:
            done = await project_batch(conn, batch_size)
            total += done
            if done < batch_size:
                return total


async def rebuild(conn: Connection, *, batch_size: int = BATCH) -> int:
    """Drop the graph and make it again of the events alone, in one transaction; return how many there were."""
    async with conn.transaction():
        await conn.execute(sql("graph.lock"))
        await conn.execute(sql("graph.empty"))
        await conn.execute(sql("graph.advance"), (0,))
        total = 0
        while done := await project_batch(conn, batch_size):
            total += done
        await conn.execute(sql("graph.analyze"))
        return total


async def project_batch(conn: Connection, batch_size: int) -> int:
    """One batch in one transaction."""
    async with conn.transaction():
        row = await (await conn.execute(sql("graph.try_lock"))).fetchone()
        if not (row and row["locked"]):
            return 0
        row = await (await conn.execute(sql("graph.next_seq"))).fetchone()
        assert row is not None
        rows = await (await conn.execute(sql("graph.facts"), (row["next_seq"], batch_size))).fetchall()
        if not rows:
            return 0
        facts = [_fact(one) for one in rows]
        state = await _read(conn, facts)
        were_open = dict(state.open_versions)
        fold(state, facts)
        await _write(conn, state, {place: one for place, one in were_open.items() if one.to_seq is not None})
        await conn.execute(sql("graph.advance"), (facts[-1].seq + 1,))
        return len(facts)


def _fact(row: Any) -> Fact:
    return Fact(
        row["seq"], row["kind"], row["name"], row["source"], row["collection"], row["item_id"], row["actor_id"],
        row["claimed_at"], row["recorded_at"], orjson.loads(row["body"]),
    )  # fmt: skip


@dataclass(slots=True)
class _Wanted:
    """Everything that a batch may look at."""

    places: set[Place] = field(default_factory=set)
    entities: set[UUID] = field(default_factory=set)
    children: set[UUID] = field(default_factory=set)
    families: set[str] = field(default_factory=set)
    commitments: set[bytes] = field(default_factory=set)
    runs: set[UUID] = field(default_factory=set)


def _wanted(facts: Iterable[Fact]) -> _Wanted:
    found = _Wanted()
    for fact in facts:
        if "inputs" in fact.body:
            _want_parents(found, fact, fact.body)
        run = fact.body.get("run")
        if isinstance(run, dict):
            with suppress(ValueError):
                found.runs.add(UUID(str(run.get("id"))))
            for output in fact.body.get("outputs") or ():
                if isinstance(output, dict) and (named := parent_id(output, fact.actor, is_file=False)):
                    found.children.add(named[0])
        if fact.collection is None or fact.item is None:
            continue
        place = (fact.collection, fact.item)
        found.places.add(place)
        found.children |= {item_id(*place), product_id(fact.name)}
        if name := read(stem_of(fact.name)):
            found.families.add(name.family)
        for member in ("formerly", "predecessor", "successor"):
            if isinstance(other := fact.body.get(member), str):
                found.places.add((fact.collection, other))
                found.children |= {item_id(fact.collection, other), product_id(other)}
        for entry in fact.body.get("derivations") or ():
            if isinstance(entry, dict) and isinstance(entry.get("child"), str):
                found.children.add(product_id(entry["child"]))
                _want_parents(found, fact, {"inputs": [entry]})
    return found


def _want_parents(found: _Wanted, fact: Fact, body: dict[str, Any]) -> None:
    for number, entry in parents_told(body):
        if isinstance(entry.get("collection"), str) and isinstance(entry.get("item"), str):
            found.places.add((entry["collection"], entry["item"]))
        if isinstance(entry.get("commitment"), str):
            try:
                found.commitments.add(bytes.fromhex(entry["commitment"]))
            except ValueError:
                continue
        elif named := parent_id(entry, fact.actor, is_file=is_original(number, entry, fact.body)):
            found.entities.add(named[0])


async def _read(conn: Connection, facts: Sequence[Fact]) -> State:
    wanted, state = _wanted(facts), State()
    asked = await _read_places(conn, state, wanted.places)
    wanted.children |= {located.entity for located in state.places.values()}
    if wanted.families:
        for row in await (
            await conn.execute(sql("graph.families"), (f"{{{','.join(sorted(wanted.families))}}}",))
        ).fetchall():
            name = read(row["name"])
            if name is not None:
                state.families[row["family"]][row["name"]] = name
                wanted.children.add(row["id"])
    ids = _uuids(wanted.entities | wanted.children | _subjects(facts, state))
    for row in await (await conn.execute(sql("graph.entities"), (ids,))).fetchall():
        state.entities[row["id"]] = Entity(
            row["id"], row["kind"], row["name"], row["first_seq"], row["family"], row["owner"]
        )
    for row in await (await conn.execute(sql("graph.holding_edges"), (_uuids(wanted.children),))).fetchall():
        state.edges[row["child"]].append(Edge(**row))
    tellers = {(one.told_in, one.told_of) for held in state.edges.values() for one in held if one.assertion != INFERRED}
    await _read_places(conn, state, {(one, other) for one, other in tellers if one and other} - wanted.places)
    for row in await (await conn.execute(sql("graph.open_versions"), asked)).fetchall():
        place = row.pop("collection"), row.pop("item_id")
        digest = row.pop("item_sha256")
        state.open_versions[place] = ItemVersion(**row, item_sha256=None if digest is None else bytes(digest))
    if wanted.commitments:
        cursor = await conn.execute(sql("graph.commitments"), (list(wanted.commitments),))
        state.commitments = {row["digest"]: row["entities"] for row in await cursor.fetchall()}
    if wanted.runs:
        cursor = await conn.execute(sql("graph.runs"), (list(wanted.runs),))
        state.runs = {row["id"]: Run(**row) for row in await cursor.fetchall()}
    return state


async def _read_places(conn: Connection, state: State, places: Iterable[Place]) -> tuple[str]:
    """Take what is known of these places into the state; returns the parameter that names them."""
    asked = (orjson.dumps([_at(place) for place in sorted(places)]).decode(),)
    if asked[0] != "[]":
        for row in await (await conn.execute(sql("graph.places"), asked)).fetchall():
            located = Located(row["entity"], row["status"], row["successor"], row["first_seq"], row["status_seq"])
            state.places[row["collection"], row["item_id"]] = located
    return asked


def _subjects(facts: Iterable[Fact], state: State) -> set[UUID]:
    return {
        subject_id(fact, (fact.collection, fact.item), state.places.get((fact.collection, fact.item)))
        for fact in facts
        if fact.collection is not None and fact.item is not None
    }


async def _write(conn: Connection, state: State, ended: dict[Place, ItemVersion]) -> None:
    await _put(conn, "graph.put_entities", list(state.touched_entities.values()))
    await _put(conn, "graph.put_places", [_row(place, one) for place, one in state.touched_places.items()])
    await _put(conn, "graph.put_edges", list(state.touched_edges.values()))
    await _put(conn, "graph.end_versions", [_row(place, one) for place, one in ended.items()])
    await _put(conn, "graph.put_versions", [_row(place, one) for place, one in state.versions])
    await _put(conn, "graph.put_runs", list(state.touched_runs.values()))


def _at(place: Place) -> dict[str, Any]:
    return {"collection": place[0], "item_id": place[1]}


def _row(place: Place, one: Located | ItemVersion) -> dict[str, Any]:
    """Columns of a row; `dataclasses.asdict` copies each value, which took a third of the fold's time."""
    return _at(place) | {name: getattr(one, name) for name in one.__slots__}


async def _put(conn: Connection, statement: str, rows: Sequence[Any]) -> None:
    if rows:
        await conn.execute(sql(statement), (orjson.dumps(rows, default=_bytea).decode(),))


def _bytea(value: Any) -> str:
    """Bytes as PostgreSQL reads them."""
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    raise TypeError(type(value).__name__)


def _uuids(ids: Iterable[UUID]) -> str:
    """An array as PostgreSQL reads it."""
    return f"{{{','.join(map(str, ids))}}}"
