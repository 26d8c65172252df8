"""Appending to the log, in the transaction of the change."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from psycopg import AsyncConnection

from db.queries import sql
from lineage.canonical import NotCanonical, canonical
from lineage.errors import EventInvalid
from lineage.events import Event
from lineage.sealing import MAX_LEAF_BYTES, is_signed, leaf_bytes

_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
#: Below this, names and actors cannot make a leaf too large, whatever the log is called.
_SMALL_TEXT = 8_000
#: The longest name of a log (settings.py) and of its event key.
_LONGEST_ORIGIN = 200


async def append(conn: AsyncConnection[Any], *events: Event) -> None:
    """Write events into the outbox, in order, in the caller's transaction: with it they commit or vanish.

    Raises:
        EventInvalid: a body has no canonical form, a time has no zone, or the leaf would be too large.
    """
    if not events:
        return
    if not all(map(is_small, events)):
        await _check_leaves(conn, events)
    await append_rows(conn, map(row_text, events))


def is_small(event: Event) -> bool:
    """Whether an event can become a leaf for sure, whatever the log is called."""
    return len(event.name) + len(event.actor) <= _SMALL_TEXT


def row_text(event: Event) -> bytes:
    """Return an event as `append_rows` takes it. Raises EventInvalid."""
    row = {
        "id": event.id,
        "kind": event.kind,
        "name": event.name,
        "source": event.source,
        "collection": event.collection,
        "item_id": event.item_id,
        "actor_id": event.actor,
        "claimed_at": event.at,
        "body": body_text(event),
    }
    return orjson.dumps(row)


async def append_rows(conn: AsyncConnection[Any], rows: Iterable[bytes]) -> None:
    """The same as `append` of small events that were made rows before."""
    await conn.execute(sql("lineage.append"), ((b"[%s]" % b",".join(rows)).decode(),))


async def _check_leaves(conn: AsyncConnection[Any], events: Sequence[Event]) -> None:
    """An event that cannot become a leaf must not be committed: it would stop the sequencer."""
    row = await (await conn.execute(sql("lineage.log_name"))).fetchone()
    origin = "x" * _LONGEST_ORIGIN if row is None else str(row["name"])
    key = f"{origin}/event+00000000"
    for event in events:
        row = {"id": event.id, "kind": event.kind, "name": event.name, "claimed_at": event.at, "actor_id": event.actor,
               "source": event.source}  # fmt: skip
        try:
            size = len(leaf_bytes(row, "0" * 64, origin, key if is_signed(row) else None))
        except NotCanonical as error:
            raise EventInvalid(f"event {event.id}: {error}") from error
        if size > MAX_LEAF_BYTES:
            raise EventInvalid(f"event {event.id}: its leaf would have {size} bytes, {MAX_LEAF_BYTES} is the most")


def body_text(event: Event) -> str:
    """Return the canonical text of an event's body, with source, collection and item in it, so that the leaf covers them.

    Raises:
        EventInvalid
    """
    if event.at.tzinfo is None:
        raise EventInvalid(f"event {event.id}: the time {event.at} has no zone")
    where = {"source": event.source, "collection": event.collection, "item": event.item_id}
    body = {**event.body, **{key: value for key, value in where.items() if value is not None}}
    try:
        text = canonical(body).decode()
    except NotCanonical as error:
        raise EventInvalid(f"event {event.id}: {error}") from error
    if _NUL.search(text):  # the database has no such character
        raise EventInvalid(f"event {event.id}: the body holds a NUL character")
    return text
