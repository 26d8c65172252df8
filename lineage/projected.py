"""What the graph is made of, as its fold works with it: events as they are read, rows as they are written (0024_graph.sql)."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from lineage.names import Key, Name, product_key

#: Collection and item.
Place = tuple[str, str]


@dataclass(slots=True)
class Fact:
    """One event as it is read from the log; `body` parsed."""

    seq: int
    kind: str
    name: str
    source: str
    collection: str | None
    item: str | None
    actor: str
    at: datetime
    recorded_at: datetime
    body: dict[str, Any]


@dataclass(slots=True)
class Entity:
    id: Key
    kind: str
    name: str
    first_seq: int
    family: str | None = None
    owner: str | None = None
    is_stored: bool = False  # it was read from its table


@dataclass(slots=True)
class Located:
    """An entity's place in the catalogue."""

    entity: Key
    status: str
    successor: str | None
    first_seq: int
    status_seq: int
    is_stored: bool = False


@dataclass(slots=True)
class Edge:
    child: Key
    parent: Key
    role: str
    assertion: str
    confidence: float
    rule: str
    seq: int
    superseded_by: int | None = None
    run: Key | None = None
    label: str | None = None
    told_in: str | None = None
    told_of: str | None = None
    by_name: bool = False
    is_stored: bool = False


@dataclass(slots=True)
class ItemVersion:
    version: int
    kind: str
    from_seq: int
    valid_from: datetime
    item_sha256: str | None  # hex
    to_seq: int | None = None
    valid_to: datetime | None = None


@dataclass(slots=True)
class Run:
    id: Key
    namespace: str
    job: str
    owner: str
    state: str
    software: dict[str, Any]
    params: dict[str, Any]
    facility: str | None
    started: datetime | None
    ended: datetime | None
    first_seq: int
    last_seq: int


@dataclass(slots=True)
class State:
    """What is known of everything that a batch touches; read before, changed by the fold, written afterwards.

    `edges` has those that hold, by child; `touched_edges` and `versions` all that came or changed.
    """

    entities: dict[Key, Entity] = field(default_factory=dict)
    places: dict[Place, Located] = field(default_factory=dict)
    edges: dict[Key, list[Edge]] = field(default_factory=lambda: defaultdict(list))
    families: dict[str, dict[str, Name]] = field(default_factory=lambda: defaultdict(dict))
    open_versions: dict[Place, ItemVersion] = field(default_factory=dict)
    commitments: dict[str, list[Key]] = field(default_factory=dict)
    runs: dict[Key, Run] = field(default_factory=dict)
    touched_entities: dict[Key, Entity] = field(default_factory=dict)
    touched_places: dict[Place, Located] = field(default_factory=dict)
    touched_edges: dict[tuple[Key, Key, str, int], Edge] = field(default_factory=dict)
    versions: list[tuple[Place, ItemVersion]] = field(default_factory=list)
    touched_runs: dict[Key, Run] = field(default_factory=dict)


def carry(before: State, state: State) -> None:
    """Put what a batch has changed into the state of the next one, which was read before that was written."""
    for table in (before.touched_entities, before.touched_places, before.touched_edges):
        for one in table.values():
            one.is_stored = True
    state.entities |= before.touched_entities
    state.places |= before.touched_places
    state.runs |= before.touched_runs
    for place, _ in before.versions:
        state.open_versions[place] = before.open_versions[place]
    beside = {located.entity for located in before.touched_places.values()}
    beside |= {edge.child for edge in before.touched_edges.values()}
    for family in {one.family for one in before.touched_entities.values() if one.family}:
        state.families[family] |= before.families.get(family, {})
        beside |= {product_key(stem) for stem in state.families[family]}
    for child in beside:
        if child in before.entities:
            state.entities[child] = before.entities[child]
        if child in before.edges:
            state.edges[child] = before.edges[child]
            _carry_places(before, state, state.edges[child])


def _carry_places(before: State, state: State, edges: list[Edge]) -> None:
    """Where edges are told: whoever reads edges reads those places too."""
    for edge in edges:
        if edge.told_in is not None and edge.told_of is not None:
            place = (edge.told_in, edge.told_of)
            if place in before.places:
                state.places[place] = before.places[place]
