"""Appending to the log, in the transaction of the change."""

from __future__ import annotations

from typing import Any

import orjson
from psycopg import AsyncConnection

from db.queries import sql
from lineage.canonical import NotCanonical, canonical
from lineage.errors import EventInvalid
from lineage.events import Event


async def append(conn: AsyncConnection[Any], *events: Event) -> None:
    """Write events into the outbox, in order, in the caller's transaction: with it they commit or vanish.

    Raises:
        EventInvalid: a body has no canonical form, or a time has no zone.
    """
    if not events:
        return
    rows = [
        {
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
        for event in events
    ]
    await conn.execute(sql("lineage.append"), (orjson.dumps(rows).decode(),))


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
        return canonical(body).decode()
    except NotCanonical as error:
        raise EventInvalid(f"event {event.id}: {error}") from error
