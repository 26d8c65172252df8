"""Asking the log in the shape of the Copernicus traceability service: by name, by hash, by id, and what became obsolete."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from db.queries import sql
from lineage.trace_message import message_of
from lineage.trace_shape import (
    SHOWN,
    SIGNED,
    Shown,
    event_id_of,
    product_of,
    sign_trace,
    status_of,
    traces_of,
)
from lineage.visibility import EVERYTHING

__all__ = [
    "MAX_TRACES",
    "SIGNED",
    "Page",
    "message_of",
    "names_like",
    "obsolete_traces",
    "product_of",
    "sign_trace",
    "status_by_hash",
    "trace_by_id",
    "traces_by_hash",
    "traces_by_name",
    "validate",
]

SUFFIXES = ("", ".SAFE", ".zip", ".SAFE.zip", ".SEN3", ".SEN3.zip")
MAX_TRACES = 50
#: Traces that are looked through to say what a hash is; nothing honest has as many.
_MOST_LOOKED_AT = 2000
#: Events that are read at once, and the characters from which on a page ends: a trace of others may have two million.
_ROWS, _MOST_CHARACTERS = MAX_TRACES + 2, 8 * 2**20

Row = dict[str, Any]
Connection = AsyncConnection[Row]
#: (first number, most) -> events.
_Read = Callable[[int, int], Awaitable[list[Row]]]


@dataclass(frozen=True, slots=True)
class Page:
    """Traces, oldest first; `next`: where those after them begin, None at the end."""

    traces: tuple[Shown, ...]
    next: int | None = None

    def documents(self) -> list[dict[str, Any]]:
        """As objects."""
        return [one.document() for one in self.traces]

    def text(self) -> str:
        """As the JSON that is answered."""
        return "[" + ",".join(one.text for one in self.traces) + "]"


def names_like(name: str) -> list[str]:
    """The name with every suffix under which it may be logged."""
    stem = name
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if suffix and stem.endswith(suffix):
            stem = stem.removesuffix(suffix)
            break
    return [stem + suffix for suffix in SUFFIXES]


async def traces_by_name(
    conn: Connection,
    name: str,
    *,
    after: int = -1,
    limit: int = MAX_TRACES,
    principals: Sequence[str] = EVERYTHING,
) -> Page:
    """Traces of a product, with or without the suffix of the delivered file; `after`: a page's `next`."""
    return await _page(_of_name(conn, name, principals), after, limit, lambda _: True)


async def traces_by_hash(
    conn: Connection,
    digest_hex: str,
    *,
    after: int = -1,
    limit: int = MAX_TRACES,
    principals: Sequence[str] = EVERYTHING,
) -> Page:
    """Traces of products that have this hash or a content with it, and those that ended them.

    Raises:
        ValueError: no hex.
    """
    digest = bytes.fromhex(digest_hex)
    return await _page(_of_hash(conn, digest, principals), after, limit, lambda one: digest in one.digests)


async def obsolete_traces(
    conn: Connection,
    prefix: str,
    start: datetime | None,
    end: datetime | None,
    *,
    after: int = -1,
    limit: int = MAX_TRACES,
    principals: Sequence[str] = EVERYTHING,
) -> Page:
    """OBSOLETE traces of products whose names begin so, registered within a time (`start` is in it, `end` is not)."""

    async def read(first: int, most: int) -> list[Row]:
        parameters = (prefix, start, end, first, most, list(principals))
        return await (await conn.execute(sql("trace.obsolete"), parameters)).fetchall()

    return await _page(read, after, limit, lambda one: one.event == "OBSOLETE")


async def trace_by_id(conn: Connection, trace_id: str, principals: Sequence[str] = EVERYTHING) -> Shown | None:
    """One trace by its id, or by the one that an upstream gave it; None when there is none."""
    try:
        identity: UUID | None = UUID(trace_id)
    except ValueError:
        identity = None
    event_id = event_id_of(identity) if identity else None
    parameters = (event_id, trace_id, list(SHOWN), list(principals))
    row = await (await conn.execute(sql("trace.by_id"), parameters)).fetchone()
    found = await asyncio.to_thread(traces_of, row) if row else []
    wants_replaced = identity is not None and identity != event_id
    if wants_replaced and not (row and row["foreign_raw"]):
        return next((one for one in found if one.position % 2 == 0), None)
    return found[-1] if found else None


async def validate(
    conn: Connection, name: str, digest_hex: str, principals: Sequence[str] = EVERYTHING
) -> tuple[bool, str]:
    """(whether this is the hash of the product as it is now, a sentence).

    Raises:
        ValueError: no hex.
    """
    digest = bytes.fromhex(digest_hex)
    is_known, naming = await _naming(_of_name(conn, name, principals), digest)
    if not is_known:
        return False, "there are no traces of this product"
    if not naming:
        return False, "no trace of this product has this hash"
    outcome = status_of(naming)
    words = {
        "current": "the hash is in a trace of this product",
        "superseded": "the product of this hash was replaced by a newer one",
        "obsolete": "the product of this hash is obsolete",
        "deleted_here": "the product of this hash was deleted",
        "unknown": "somebody has deleted his copy of the product of this hash",
    }
    return outcome == "current", words[outcome]


async def status_by_hash(
    conn: Connection, digest_hex: str, key: bytes | None, principals: Sequence[str] = EVERYTHING
) -> str:
    """What the traces that name a hash say of it now; see `status_of`.

    Raises:
        ValueError: no hex.
    """
    digest = bytes.fromhex(digest_hex)
    _, naming = await _naming(_of_hash(conn, digest, principals), digest)
    return status_of(naming, key)


def _of_name(conn: Connection, name: str, principals: Sequence[str]) -> _Read:
    async def read(first: int, most: int) -> list[Row]:
        parameters = (names_like(name), list(SHOWN), first, most, list(principals))
        return await (await conn.execute(sql("trace.by_name"), parameters)).fetchall()

    return read


def _of_hash(conn: Connection, digest: bytes, principals: Sequence[str]) -> _Read:
    async def read(first: int, most: int) -> list[Row]:
        parameters = (digest, list(SHOWN), first, most, list(principals))
        return await (await conn.execute(sql("trace.by_hash"), parameters)).fetchall()

    return read


async def _naming(read: _Read, digest: bytes) -> tuple[bool, list[Shown]]:
    """(whether there is any trace, those that name the hash, oldest first and without their texts)."""
    seen, naming = 0, list[Shown]()
    async with aclosing(_each(read, -1)) as traces:
        async for one in traces:
            seen += 1
            if digest in one.digests:
                naming.append(replace(one, text=""))
            if seen == _MOST_LOOKED_AT:
                break
    return seen > 0, naming


async def _page(read: _Read, after: int, limit: int, is_meant: Callable[[Shown], bool]) -> Page:
    """At most `limit` traces; fewer when they are long, one at least."""
    found, size = list[Shown](), 0
    async with aclosing(_each(read, after)) as traces:
        async for one in traces:
            if not is_meant(one):
                continue
            if len(found) == limit or size > _MOST_CHARACTERS:
                return Page(tuple(found), found[-1].position)
            found.append(one)
            size += len(one.text)
    return Page(tuple(found))


async def _each(read: _Read, after: int) -> AsyncGenerator[Shown]:
    """Traces after a position, in the log's order: one event may be two of them, or none."""
    first = max(0, (after + 1) // 2)
    while True:
        rows = await read(first, _ROWS)
        for one in await asyncio.to_thread(_shown_in, rows):
            if one.position > after:
                yield one
        if len(rows) < _ROWS:
            return
        first = rows[-1]["seq"] + 1


def _shown_in(rows: list[Row]) -> list[Shown]:
    return [one for row in rows for one in traces_of(row)]
