"""Asking the log in the shape of the Copernicus traceability service: by name, by hash, by id, and what became obsolete."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
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
    certificate_text,
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
    "certificate_text",
    "message_of",
    "names_like",
    "obsolete_traces",
    "product_of",
    "sign_trace",
    "trace_by_id",
    "traces_by_hash",
    "traces_by_name",
    "validate",
]

SUFFIXES = ("", ".SAFE", ".zip", ".SAFE.zip", ".SEN3", ".SEN3.zip")
MAX_TRACES = 50
#: A product's traces are looked through to say whether a hash is its own; no product has as many.
_MOST_OF_A_PRODUCT = 2000

Row = dict[str, Any]
Connection = AsyncConnection[Row]


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

    async def read(first: int, most: int) -> list[Row]:
        parameters = (names_like(name), list(SHOWN), first, most, list(principals))
        return await (await conn.execute(sql("trace.by_name"), parameters)).fetchall()

    return await _page(read, after, limit, lambda _: True)


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

    async def read(first: int, most: int) -> list[Row]:
        parameters = (digest, list(SHOWN), first, most, list(principals))
        return await (await conn.execute(sql("trace.by_hash"), parameters)).fetchall()

    return await _page(read, after, limit, lambda one: digest in one.digests)


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
    found = traces_of(row) if row else []
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
    page = await traces_by_name(conn, name, limit=_MOST_OF_A_PRODUCT, principals=principals)
    if not page.traces:
        return False, "there are no traces of this product"
    naming = [one for one in page.traces if digest in one.digests]
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


async def _page(
    read: Callable[[int, int], Awaitable[list[Row]]], after: int, limit: int, is_meant: Callable[[Shown], bool]
) -> Page:
    """Read events until there are traces enough: one event may be two of them, or none."""
    found: list[Shown] = []
    first = max(0, (after + 1) // 2)
    while len(found) <= limit:
        rows = await read(first, limit + 2)
        found += [one for row in rows for one in traces_of(row) if one.position > after and is_meant(one)]
        if len(rows) < limit + 2:
            return Page(tuple(found[:limit]), found[limit - 1].position if len(found) > limit else None)
        first = rows[-1]["seq"] + 1
    return Page(tuple(found[:limit]), found[limit - 1].position)
