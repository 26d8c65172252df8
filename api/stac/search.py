"""A page of items: pgstac's where clause, one SELECT of ours, keyset tokens. The SQL is in `db/migrations/0008_search.sql`.

A plan (what is asked of contents, and sort keys) depends on the queryables and on the search but for place and time, and is kept: a map
asks the same of place after place, and pgstac takes as long to plan a filter as to read a page. Who may see what is applied by the database
at every request.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import orjson

from api.stac.counts import Counts, Matched, Question
from api.stac.features import JSON, Feature, hydrated, unpacked
from api.stac.kept import Kept
from api.stac.partitions import Partition, Partitions, cuts, extrapolated, rows_for
from api.stac.timings import Timings
from api.stac.tokens import Edge, Tokens
from db.queries import sql
from ingest.hydration import parsed

#: Our clock and the database's, and the longest transaction that a walk's begin may overlap.
CLOCKS_DIFFER = timedelta(minutes=5)
#: With any of these a search takes long to plan, and the plan is kept. Others are planned on the way to their page.
_LONG_TO_PLAN = ("filter", "query", "q", "sortby")
#: Parts of a search that no plan is made of: they are other ones each time, and quickly made into conditions.
_PLACE_AND_TIME = frozenset({"ids", "bbox", "intersects", "datetime"})


@dataclass(frozen=True, slots=True)
class Plan:
    """What pgstac makes of a search without place and time: the condition, the sort keys as JSON text; and how it sorts by time, None when
    it does not.
    """

    condition: str
    keys: str
    newest_first: bool | None


@dataclass(frozen=True, slots=True)
class Found:
    """Items of one page in order, tokens of the pages beside it, and the number of all when it is known."""

    features: list[Feature]
    next: str | None = None
    prev: str | None = None
    matched: Matched | None = None
    timings: Timings | None = None


@dataclass(frozen=True, slots=True)
class _Page:
    """Rows in the order of the search, the items they are, and whether there are more in the direction of the page."""

    rows: list[Any]
    features: list[Feature]
    has_more: bool
    sql_s: float
    hydrate_s: float


class Searcher:
    """Answers searches from one pool; `secret` signs the tokens."""

    def __init__(self, pool: asyncpg.Pool, secret: bytes) -> None:
        self._pool = pool
        self._tokens = Tokens(secret)
        self._partitions = Partitions(pool)
        self._plans: Kept[bytes, Plan] = Kept()
        self._counts = Counts(pool)
        self._bases: Kept[tuple[str, int | None], JSON] = Kept()

    def forget(self) -> None:
        """Collections or queryables have changed."""
        self._plans.clear()
        self._counts.clear()
        self._bases.clear()
        self._partitions.forget()

    def recount(self) -> None:
        """Items have changed: how many a search finds is asked anew."""
        self._counts.clear()

    async def page(self, search: Mapping[str, Any], limit: int, token: str | None, principals: Sequence[str]) -> Found:
        """Return a page.

        Args:
            search: as pgstac's functions take it, without `token`, `limit`, `fields` and `conf`.

        Raises:
            TokenInvalid: the token is not one of this search and caller.
            asyncpg.PostgresError: as raised, see `api.problems`.
        """
        key = _text(search)
        edge = self._tokens.read(token, key, principals) if token else Edge(None, False, int(time.time()))
        begun = time.perf_counter()
        plan = await self._plan(search)
        planned = time.perf_counter()
        newest_first = plan.newest_first if plan else True
        await self._partitions.refresh()
        partitions = self._partitions.of(search)
        asked = Question.of(key, search, principals, partitions)
        counting = self._counts.begin(asked, is_first=not token, is_wanted=limit == 1)
        page = await self._page(
            search, plan, _cuts(partitions, newest_first, edge, rows_for(search, limit + 1)), principals, edge, limit
        )
        if not token and not page.has_more:
            matched: Matched | None = self._counts.keep(asked, Matched(len(page.rows), True))
        else:
            matched = await counting
        if matched is None and not token:
            guess = _guess(partitions, search, newest_first, page.rows)
            matched = self._counts.keep(asked, Matched(guess, False)) if guess else await self._counts.estimated(asked)
        if matched is not None and not matched.is_exact and page.has_more:
            matched = Matched(max(matched.number, len(page.rows) + 1), False)  # more than these are there
        following, before = _edges(page.rows, edge, page.has_more)
        return Found(
            page.features,
            self._tokens.make(following, key, principals) if following else None,
            self._tokens.make(before, key, principals) if before else None,
            matched,
            Timings(planned - begun, page.sql_s, page.hydrate_s, len(page.rows), len(partitions)),
        )

    async def walk(
        self, search: Mapping[str, Any], page_size: int, principals: Sequence[str]
    ) -> AsyncIterator[list[Feature]]:
        """Give all items that a search finds, page by page in its order; nothing is counted.

        Raises:
            asyncpg.PostgresError: as raised, see `api.problems`.
        """
        plan = await self._plan(search)
        newest_first = plan.newest_first if plan else True
        await self._partitions.refresh()
        partitions = self._partitions.of(search)
        edge: Edge | None = Edge(None, False, int(time.time()))
        while edge is not None:
            cut_at = _cuts(partitions, newest_first, edge, rows_for(search, page_size + 1))
            page = await self._page(search, plan, cut_at, principals, edge, page_size)
            yield page.features
            edge = _edges(page.rows, edge, page.has_more)[0] if page.has_more else None

    async def item(self, collection: str, item_id: str, principals: Sequence[str]) -> Feature | None:
        """Return one item, None when there is none that the caller may see."""
        async with self._pool.acquire() as conn:
            rows = await conn.fetch(sql("api.item_row"), collection, item_id, list(principals))
            return (await self._features(conn, rows))[0] if rows else None

    async def _plan(self, search: Mapping[str, Any]) -> Plan | None:
        """None: the search is planned on the way to its page."""
        if not any(name in search for name in _LONG_TO_PLAN):
            return None
        key = _text({name: value for name, value in search.items() if name not in _PLACE_AND_TIME})
        if key in self._plans:
            return self._plans[key]
        row: Any = await self._pool.fetchrow(sql("api.search_plan"), key.decode())
        first = orjson.loads(row["keys"])[0]
        by_time = first["descending"] if first["expression"] == "datetime" else None
        return self._plans.keep(key, Plan(row["condition"], row["keys"], by_time))

    async def _page(
        self,
        search: Mapping[str, Any],
        plan: Plan | None,
        cut_at: list[datetime],
        principals: Sequence[str],
        edge: Edge,
        limit: int,
    ) -> _Page:
        since = None if edge.backward else datetime.fromtimestamp(edge.since, UTC) - CLOCKS_DIFFER
        rest = (list(principals), edge.values, edge.backward, limit + 1, cut_at, since)
        asked = _text({name: search[name] for name in search if plan is None or name in _PLACE_AND_TIME}).decode()
        query = (sql("api.search_page"), asked, plan.condition, plan.keys) if plan else (sql("api.newest_page"), asked)
        begun = time.perf_counter()
        async with self._pool.acquire() as conn:
            found = await fetched(conn, *query, *rest)
            fetched_at = time.perf_counter()
            rows = list(found[:limit])
            if edge.backward:
                rows.reverse()
            features = await self._features(conn, rows)
            return _Page(rows, features, len(found) > limit, fetched_at - begun, time.perf_counter() - fetched_at)

    async def _features(self, conn: Any, rows: Sequence[Any]) -> list[Feature]:
        return [unpacked(row) if row["packed"] is not None else await self._feature(conn, row) for row in rows]

    async def _feature(self, conn: Any, row: Any) -> Feature:
        content, tag = parsed(row["content"])
        return hydrated(row, content, await self._base(conn, row["collection"], tag))

    async def _base(self, conn: Any, collection: str, tag: int | None) -> JSON:
        if (collection, tag) in self._bases:
            return self._bases[collection, tag]
        base = await conn.fetchval(sql("api.base_item"), collection, tag) or {}
        return self._bases.keep((collection, tag), {name: value for name, value in base.items() if value is not None})


def _text(search: Mapping[str, Any]) -> bytes:
    """A search, or a part of it, in its canonical form."""
    return orjson.dumps(search, option=orjson.OPT_SORT_KEYS)


async def fetched(conn: Any, *query: Any) -> list[Any]:
    """Rows of a query; it is asked once more when it was in a deadlock with an ingest that makes partitions."""
    try:
        return list(await conn.fetch(*query))
    except asyncpg.DeadlockDetectedError:
        return list(await conn.fetch(*query))


def _cuts(partitions: Sequence[Partition], newest_first: bool | None, edge: Edge, rows: float) -> list[datetime]:
    if newest_first is None:
        return []
    begin = datetime.fromisoformat(edge.values[0]) if edge.values and edge.values[0] else None
    return cuts(partitions, descending=newest_first != edge.backward, edge=begin, rows=rows)


def _guess(
    partitions: Sequence[Partition], search: Mapping[str, Any], newest_first: bool | None, rows: Sequence[Any]
) -> int | None:
    """How many a search finds by its first rows. None: cannot be told from them."""
    if newest_first is None:
        return None
    reached = datetime.fromisoformat(rows[-1]["sort_values"][0])
    public = [one for one in partitions if one.is_public]  # a guess must not tell of what is hidden
    return extrapolated(public, search, len(rows), reached, descending=newest_first)


def _edges(rows: Sequence[Any], edge: Edge, has_more: bool) -> tuple[Edge | None, Edge | None]:
    """Where the next page and the one before begin. An empty page leads to the other end of the search, which is where one is."""
    came_from_there = edge.values is not None
    if not rows:
        back = Edge(None, not edge.backward, edge.since) if came_from_there else None
        return (back, None) if edge.backward else (None, back)
    following = Edge(tuple(rows[-1]["sort_values"]), False, edge.since)
    before = Edge(tuple(rows[0]["sort_values"]), True, edge.since)
    if edge.backward:
        return following if came_from_there else None, before if has_more else None
    return following if has_more else None, before if came_from_there else None
