"""What is known of everything that a batch of events touches, read from the tables of the graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson
from psycopg.rows import TupleRow, tuple_row

from db.pools import Connection
from db.queries import sql
from lineage.names import Key, item_key, product_key, read, stem_of
from lineage.projected import Edge, Entity, Fact, ItemVersion, Located, Place, Run, State
from lineage.projection import is_original, parent_id, parents_told
from lineage.rules import INFERRED


@dataclass(slots=True)
class Wanted:
    """Everything that a batch may look at. `children`: entities that may have parents, also those that are behind `places`, `families`."""

    places: set[Place] = field(default_factory=set)
    entities: set[Key] = field(default_factory=set)
    children: set[Key] = field(default_factory=set)
    families: set[str] = field(default_factory=set)
    commitments: set[bytes] = field(default_factory=set)
    runs: set[Key] = field(default_factory=set)


class Seen:
    """Which keys a rebuild has written, so that it need not ask for those that it has not: one bit for each key, of its hash.

    Never wrong about what was written; what was not is asked for as often as the bits are full (1 % after 10^6 events, all after 10^9).
    """

    _MASK = (1 << 28) - 1

    def __init__(self) -> None:
        self._bits = bytearray((self._MASK + 1) // 8)

    def add(self, keys: Iterable[Key | Place]) -> None:
        """Note that these were written."""
        bits, mask = self._bits, self._MASK
        for key in keys:
            place = hash(key) & mask
            bits[place >> 3] |= 1 << (place & 7)

    def those_of[K: (Key, Place)](self, keys: Iterable[K]) -> set[K]:
        """Those that may have been written."""
        bits, mask = self._bits, self._MASK
        return {key for key in keys if bits[(place := hash(key) & mask) >> 3] >> (place & 7) & 1}

    def those_wanted(self, wanted: Wanted) -> Wanted:
        """What of it can be in a table. What is behind hashes and runs is asked for in any case: few are."""
        return Wanted(
            self.those_of(wanted.places), self.those_of(wanted.entities), self.those_of(wanted.children), self.those_of(wanted.families),
            wanted.commitments, wanted.runs,
        )  # fmt: skip


def wanted_of(facts: Iterable[Fact]) -> Wanted:
    """What the fold of these events may ask for. Pure."""
    found = Wanted()
    for fact in facts:
        if fact.collection is not None and fact.item is not None:
            found.places.add((fact.collection, fact.item))
            found.children.add(item_key(fact.collection, fact.item) if fact.source == "own" else product_key(fact.name))
            if name := read(stem_of(fact.name)):
                found.families.add(name.family)
        if not _LEADING.isdisjoint(fact.body):
            _want_others(found, fact)
    return found


#: Members of a body that lead to others than the event's own item.
_LEADING = frozenset({"inputs", "run", "formerly", "predecessor", "successor", "derivations"})


def _want_others(found: Wanted, fact: Fact) -> None:
    body = fact.body
    for number, entry in parents_told(body):
        _want_parent(found, fact, number, entry)
    if "run" in body:
        _want_run(found, fact)
    if fact.collection is None or fact.item is None:
        return
    for member in ("formerly", "predecessor", "successor"):
        if isinstance(other := body.get(member), str):
            found.places.add((fact.collection, other))
            found.children |= {item_key(fact.collection, other), product_key(other)}
    for entry in body.get("derivations") or ():
        if isinstance(entry, dict) and isinstance(entry.get("child"), str):
            found.children.add(product_key(entry["child"]))
            _want_parent(found, fact, -1, entry)


def _want_run(found: Wanted, fact: Fact) -> None:
    run = fact.body["run"]
    if not isinstance(run, dict):
        return
    with suppress(ValueError):
        found.runs.add(str(UUID(str(run.get("id")))))
    for output in fact.body.get("outputs") or ():
        if isinstance(output, dict) and (named := parent_id(output, fact.actor, is_file=False)):
            found.children.add(named[0])


def _want_parent(found: Wanted, fact: Fact, number: int, entry: Any) -> None:
    if isinstance(entry.get("collection"), str) and isinstance(entry.get("item"), str):
        found.places.add((entry["collection"], entry["item"]))
    if isinstance(entry.get("commitment"), str):
        with suppress(ValueError):
            found.commitments.add(bytes.fromhex(entry["commitment"]))
    elif named := parent_id(entry, fact.actor, is_file=is_original(number, entry, fact.body)):
        found.entities.add(named[0])


async def read_state(conn: Connection, wanted: Wanted) -> State:
    """The rows that are there."""
    state, children, places, families = State(), set(wanted.children), wanted.places, wanted.families
    if places:
        await _read_places(conn, state, places)
        children |= {located.entity for located in state.places.values()}
    if families:
        for identity, stem, family in await _rows(conn, "graph.families", _array(families)):
            name = read(stem)
            if name is not None:
                state.families[family][stem] = name
                children.add(identity)
    if entities := wanted.entities | children:
        for row in await _rows(conn, "graph.entities", _array(entities)):
            state.entities[row[0]] = Entity(*row)
    if children:
        for row in await _rows(conn, "graph.holding_edges", _array(children)):
            state.edges[row[0]].append(Edge(*row))
    tellers = {
        (one.told_in, one.told_of)
        for held in state.edges.values()
        for one in held
        if one.told_in is not None and one.told_of is not None and one.assertion != INFERRED
    }
    if strangers := tellers - places:
        await _read_places(conn, state, strangers)
    if wanted.commitments:
        state.commitments = dict(await _rows(conn, "graph.commitments", list(wanted.commitments)))
    if wanted.runs:
        state.runs = {row[0]: Run(*row) for row in await _rows(conn, "graph.runs", _array(wanted.runs))}
    return state


async def _read_places(conn: Connection, state: State, places: Iterable[Place]) -> None:
    asked = orjson.dumps([{"collection": one, "item_id": item} for one, item in sorted(places)]).decode()
    for collection, item, *columns in await _rows(conn, "graph.places", asked):
        state.places[collection, item] = Located(*columns)
    for collection, item, *columns in await _rows(conn, "graph.open_versions", asked):
        state.open_versions[collection, item] = ItemVersion(*columns)


async def _rows(conn: Connection, statement: str, *values: Any) -> Sequence[TupleRow]:
    async with conn.cursor(row_factory=tuple_row) as cursor:
        return await (await cursor.execute(sql(statement), values)).fetchall()


def _array(texts: Iterable[str]) -> str:
    """An array as PostgreSQL reads it, of texts without blanks and signs."""
    return f"{{{','.join(sorted(texts))}}}"
