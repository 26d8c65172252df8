"""Summaries of collections (`ingest.summaries`) in the database: widened by every writer of items in its transaction."""

from __future__ import annotations

from typing import Any

from psycopg.types.json import Jsonb

from db.pools import Connection
from db.queries import sql
from ingest.summaries import JSON, merged


async def widen(conn: Connection, collection: str, summary: JSON) -> None:
    """Make the collection's summary cover these items too, in the caller's transaction.

    Most pages have nothing new, and then nothing is written or locked: writers hold the collection's lock (`lock_items`), and a making
    anew waits for it when it begins.
    """
    known = await _read(conn, "summaries.read", collection)
    if known is None:
        await conn.execute(sql("summaries.make"), (collection,))
    elif not _widened(known, summary):
        return
    known = await _read(conn, "summaries.lock", collection)
    if known is not None and (wider := _widened(known, summary)):
        await conn.execute(sql("summaries.widen"), (collection, *wider))


async def _read(conn: Connection, query: str, collection: str) -> Any:
    return await (await conn.execute(sql(query), (collection,))).fetchone()


def _widened(known: Any, summary: JSON) -> tuple[Jsonb | None, Jsonb | None] | None:
    """The columns `summary` and `rebuilding` with these items too; None when they cover them."""
    before = known["summary"], known["rebuilding"]
    after = tuple(
        None if one is None else merged(one, summary) for one in before
    )  # of a part nothing is made that is not known
    if after == before:
        return None
    first, second = (None if one is None else Jsonb(one) for one in after)
    return first, second
