"""What a batch of events has changed, written into the tables of the graph: new rows by COPY, rows that were there by their keys."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from psycopg.errors import UniqueViolation

from db.pools import Connection
from db.queries import sql
from lineage.projected import Edge, Entity, ItemVersion, Located, Place, State

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Changes:
    """Rows of one batch, ready to be sent: texts as COPY reads them, and JSON."""

    entities: str = ""
    new: tuple[tuple[str, str], ...] = ()  # statement, rows
    changed: tuple[tuple[str, str], ...] = ()
    fallback: str = ""  # the new entities as JSON


def changes_of(state: State, ended: dict[Place, ItemVersion]) -> Changes:
    """Pure. `ended`: versions that were open before."""
    entities, edges = list(state.touched_entities.values()), list(state.touched_edges.values())
    new_entities = [one for one in entities if not one.is_stored]
    new = (
        ("graph.copy_places", "".join([_place(at, one) for at, one in state.touched_places.items() if not one.is_stored])),
        ("graph.copy_edges", "".join([_edge(one) for one in edges if not one.is_stored])),
        ("graph.copy_versions", "".join([_version(at, one) for at, one in state.versions])),
    )  # fmt: skip
    changed = (
        ("graph.put_entities", [one for one in entities if one.is_stored]),
        ("graph.put_places", [_row(at, one) for at, one in state.touched_places.items() if one.is_stored]),
        ("graph.put_edges", [one for one in edges if one.is_stored]),
        ("graph.end_versions", [_row(at, one) for at, one in ended.items()]),
        ("graph.put_runs", list(state.touched_runs.values())),
    )
    return Changes(
        "".join([_entity(one) for one in new_entities]),
        tuple((statement, rows) for statement, rows in new if rows),
        tuple((statement, orjson.dumps(rows).decode()) for statement, rows in changed if rows),
        orjson.dumps(new_entities).decode(),
    )


async def write(conn: Connection, changes: Changes) -> None:
    """In the caller's transaction."""
    if changes.entities:
        await _add_entities(conn, changes)
    # What ends before what begins: one version of an item is open at a time.
    for statement, rows in changes.changed:
        await conn.execute(sql(statement), (rows,))
    for statement, rows in changes.new:
        await _copy(conn, statement, rows)


async def _add_entities(conn: Connection, changes: Changes) -> None:
    """An event of an odd shape must not stop the projector: one that names an entity which nobody has looked up takes the slow way."""
    try:
        async with conn.transaction():
            await _copy(conn, "graph.copy_entities", changes.entities)
    except UniqueViolation:
        log.warning("entity was there already")
        await conn.execute(sql("graph.put_entities"), (changes.fallback,))


async def _copy(conn: Connection, statement: str, rows: str) -> None:
    async with conn.cursor() as cursor, cursor.copy(sql(statement)) as copy:
        await copy.write(rows)


# --- rows as COPY reads them


def _entity(one: Entity) -> str:
    return f"{one.id}\t{one.kind}\t{_text(one.name)}\t{_text(one.family)}\t{_text(one.owner)}\t{one.first_seq}\n"


def _place(place: Place, one: Located) -> str:
    return (
        f"{_text(place[0])}\t{_text(place[1])}\t{one.entity}\t{one.status}\t{_text(one.successor)}\t{one.first_seq}\t{one.status_seq}\n"
    )  # fmt: skip


def _edge(one: Edge) -> str:
    return (
        f"{one.child}\t{one.parent}\t{one.role}\t{one.assertion}\t{one.confidence}\t{_text(one.rule)}\t{one.seq}\t{_number(one.superseded_by)}"
        f"\t{_text(one.run)}\t{_text(one.label)}\t{_text(one.told_in)}\t{_text(one.told_of)}\t{one.by_name}\n"
    )


def _version(place: Place, one: ItemVersion) -> str:
    sha256 = _NULL if one.item_sha256 is None else f"\\\\x{one.item_sha256}"
    return (
        f"{_text(place[0])}\t{_text(place[1])}\t{one.version}\t{one.kind}\t{one.from_seq}\t{_number(one.to_seq)}\t{one.valid_from.isoformat()}"
        f"\t{_time(one.valid_to)}\t{sha256}\n"
    )


_NULL = "\\N"
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def _text(value: str | None) -> str:
    if value is None:
        return _NULL
    return value if value.isprintable() and "\\" not in value else value.translate(_ESCAPES)


def _number(value: int | None) -> int | str:
    return _NULL if value is None else value


def _time(value: datetime | None) -> str:
    return _NULL if value is None else value.isoformat()


def _row(place: Place, one: Located | ItemVersion) -> dict[str, Any]:
    """Columns of a row; `dataclasses.asdict` copies each value, which took a third of the fold's time."""
    columns = {name: getattr(one, name) for name in one.__slots__} | {"collection": place[0], "item_id": place[1]}
    if isinstance(one, ItemVersion) and one.item_sha256 is not None:
        columns["item_sha256"] = f"\\x{one.item_sha256}"
    return columns
