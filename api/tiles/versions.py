"""What an answer of pixels is made of, and whether the caller may see it: asked of the primary at every request, in one statement.

The version of an item changes with every edit, whoever makes it: it is the transaction that wrote its row (PostgreSQL's `xmin`), and that
of its collection. Files behind an item never change: an upload's raster has a name of its own (docs/rasters.md).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol
from uuid import UUID

import asyncpg

from db.queries import sql

_MOST_NAMED: Final = 20_000


@dataclass(frozen=True, slots=True)
class State:
    """What an answer is made of now: `audience` tells apart callers who see different things of it."""

    version: str
    is_public: bool
    audience: str


@dataclass(frozen=True, slots=True)
class Asker:
    """Principals of the caller; `is_signed`: those of one who has signed the URL, worth what they are worth now."""

    principals: tuple[str, ...]
    is_signed: bool


class Versions(Protocol):
    """Tells the state of what a path names; the groups of the path's pattern are given. None: the caller may see nothing there."""

    async def state(self, names: tuple[str, ...], asker: Asker) -> State | None:
        """Ask."""
        ...


class ItemVersions:
    """Of items. What uploads an item's assets name is remembered, for callers may be allowed to read some of them only."""

    def __init__(self, pool: Callable[[], asyncpg.Pool]) -> None:
        self._pool = pool
        self._named: OrderedDict[tuple[str, ...], tuple[str, list[UUID]]] = OrderedDict()

    async def state(self, names: tuple[str, ...], asker: Asker) -> State | None:
        """As `Versions`."""
        known, named = self._named.get(names, (None, []))
        collection, item = names
        row: Any = await self._pool().fetchrow(
            sql("tiles.item_state"), collection, item, list(asker.principals), asker.is_signed, known, named
        )
        if row is None:
            return None
        if row["version"] != known:
            self._named[names] = row["version"], row["named"]
            if len(self._named) > _MOST_NAMED:
                self._named.popitem(last=False)
        return State(row["version"], row["is_public"], ",".join(sorted(map(str, row["readable"]))))


class CollectionVersions:
    """Of all items of a collection together; callers with other principals may see other items."""

    def __init__(self, pool: Callable[[], asyncpg.Pool]) -> None:
        self._pool = pool

    async def state(self, names: tuple[str, ...], asker: Asker) -> State | None:
        """As `Versions`."""
        row: Any = await self._pool().fetchrow(
            sql("tiles.collection_state"), names[0], list(asker.principals), asker.is_signed
        )
        if row is None:
            return None
        return State(row["version"], row["is_public"] and not row["principals"], ",".join(sorted(row["principals"])))
