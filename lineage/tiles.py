"""Tiles as the database has them, and proofs read from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import AsyncConnection

from db.queries import sql
from lineage.errors import LogConflict
from lineage.tree import Appender, consistency_path, edge_tiles, inclusion_path, tiles_needed

Row = dict[str, Any]


async def read_tiles(conn: AsyncConnection[Row], places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
    """The newest state of these tiles.

    Raises:
        LogConflict: one is missing.
    """
    levels, indexes = [level for level, _ in places], [index for _, index in places]
    rows = await (await conn.execute(sql("lineage.widest_tiles"), (levels, indexes))).fetchall()
    found = {(int(row["level"]), int(row["idx"])): bytes(row["data"]) for row in rows}
    if missing := set(places) - set(found):
        raise LogConflict(f"tile {min(missing)} of the log is missing")
    return found


async def tree_at(conn: AsyncConnection[Row], size: int) -> Appender:
    """The tree of the first `size` leaves, ready to be extended.

    Raises:
        LogConflict: a tile is missing or too short.
    """
    places = edge_tiles(size)
    stored = await read_tiles(conn, places)
    edge = {place: stored[place][: 32 * width] for place, width in zip(places, _widths(size), strict=True)}
    if any(len(edge[place]) != 32 * width for place, width in zip(places, _widths(size), strict=True)):
        raise LogConflict(f"the tiles of the log are too short for {size} leaves")
    return Appender(size, edge)


def _widths(size: int) -> list[int]:
    """Widths of the edge tiles of a tree of `size` leaves, in the order of `edge_tiles`."""
    found = []
    while size > 0:
        if size % 256:
            found.append(size % 256)
        size //= 256
    return found


async def read_inclusion(conn: AsyncConnection[Row], index: int, size: int) -> list[bytes]:
    """The path from a leaf to the root of the tree of `size` leaves. Raises LogConflict: a tile is missing."""
    tiles = await read_tiles(conn, tiles_needed(lambda read: inclusion_path(read, index, size)))
    return inclusion_path(tiles.__getitem__, index, size)


async def read_consistency(conn: AsyncConnection[Row], old: int, new: int) -> list[bytes]:
    """The proof that the tree of `old` leaves is the beginning of that of `new`. Raises LogConflict: a tile is missing."""
    tiles = await read_tiles(conn, tiles_needed(lambda read: consistency_path(read, old, new)))
    return consistency_path(tiles.__getitem__, old, new)
