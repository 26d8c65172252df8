"""Walks through the graph: ancestors, descendants, the shortest way. What a caller may see is decided by the database at each step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from itertools import batched, pairwise, zip_longest
from typing import Any, Literal, NamedTuple
from uuid import UUID

import orjson
from psycopg.rows import TupleRow, tuple_row

from db.pools import Connection
from db.queries import sql
from lineage.names import file_id
from lineage.rules import ASSERTIONS, AUX, ROLES

Direction = Literal["up", "down", "both"]
#: Auxiliary files are parents of 10^5 products: they are shown when they are asked for.
USUAL_ROLES = tuple(role for role in ROLES if role != AUX)
#: Entities, and between which children of theirs.
_Portion = tuple[tuple[str, ...], tuple[UUID | None, UUID | None]]
_FRONTIER = 500  # entities that are asked for at once: the first come early, and a step takes some milliseconds
_PAGE = 1000  # the same of the children of one
MAX_DEPTH = 100


@dataclass(frozen=True, slots=True)
class Filter:
    """Which edges are walked, and for whom. `as_of`: only what a log of so many events said."""

    principals: tuple[str, ...]
    as_of: int
    depth: int = MAX_DEPTH
    min_confidence: float = 0.0
    assertions: tuple[str, ...] = ASSERTIONS
    roles: tuple[str, ...] = USUAL_ROLES


class Node(NamedTuple):
    """An entity as a caller may see it.

    Attributes:
        id: entity's id; of a redacted node a text that means something in this answer only.
        kind: product, item, file, dataset; "redacted": a parent that the caller may not see, or several.
        name: None when redacted.
        places: where it is in the catalogue: (collection, item, status); none for what is only named.
        depth: steps from where the walk began; below 0: descendants.
    """

    id: str
    kind: str
    name: str | None
    places: tuple[tuple[str, str, str], ...]
    depth: int

    @property
    def status(self) -> str:
        """current before superseded before withdrawn before deleted, of all places; "unknown" of what is in no catalogue."""
        if len(self.places) == 1:
            return self.places[0][2]
        order = ("current", "superseded", "withdrawn", "deleted")
        return min((place[2] for place in self.places), key=order.index, default="unknown")


class Link(NamedTuple):
    """An edge: `child` came of `parent`."""

    child: str
    parent: str
    role: str
    assertion: str
    confidence: float
    rule: str
    seq: int | None
    run: str | None = None
    label: str | None = None


class Found(NamedTuple):
    """One step of a walk: a node that was not met before, or None, and the edge that led there, or None of the root."""

    node: Node | None
    link: Link | None


@dataclass(slots=True)
class Graph:
    """A walk's result. `truncated`: there is more than was asked for."""

    roots: list[str]
    as_of: int
    nodes: list[Node] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    truncated: bool = False


async def log_size(conn: Connection, at: datetime | None = None) -> int:
    """How many events the graph knows; of those that were recorded until `at`."""
    row = await (await conn.execute(sql("graph.log_size"))).fetchone()
    size = int(row["size"]) if row else 0
    if at is not None:
        row = await (await conn.execute(sql("graph.size_at"), (at,))).fetchone()
        size = min(size, int(row["size"]) if row else 0)
    return size


async def entity_of_item(conn: Connection, collection: str, item: str, principals: Sequence[str]) -> UUID | None:
    """The entity of an item; None when there is none that the caller may see."""
    row = await (await conn.execute(sql("graph.entity_of_item"), (collection, item, list(principals)))).fetchone()
    return row["entity"] if row else None


async def entities_of_items(
    conn: Connection, items: Sequence[tuple[str, str]], principals: Sequence[str]
) -> list[UUID]:
    """The entities of items (collection, id), those that the caller may see."""
    columns = [one[0] for one in items], [one[1] for one in items]
    cursor = await conn.execute(sql("graph.seen_items"), (*columns, list(principals)))
    return [row["entity"] for row in await cursor.fetchall()]


async def entities_of_hashes(conn: Connection, digests: Sequence[bytes], principals: Sequence[str]) -> list[UUID]:
    """Entities whose events name a hash, and the files of those hashes themselves."""
    rows = await (
        await conn.execute(sql("graph.entities_of_hashes"), (list(digests), list(principals)))
    ).fetchall()  # fmt: skip
    algorithms = ("SHA256", "BLAKE3", "MD5", "SHA3-256")
    files = [file_id(algorithm, digest.hex()) for digest in digests for algorithm in algorithms]
    return list(dict.fromkeys([*(row["entity"] for row in rows), *files]))


async def known(conn: Connection, wanted: Sequence[UUID], principals: Sequence[str]) -> list[Node]:
    """Those of these entities that the caller may ask about, as the roots of a walk."""
    rows = await (await conn.execute(sql("graph.known"), (list(wanted), list(principals)))).fetchall()
    return [Node(str(row["id"]), row["kind"], row["name"], _places(row["items"]), 0) for row in rows]


def _places(items: Any) -> tuple[tuple[str, str, str], ...]:
    return tuple((one[0], one[1], one[2]) for one in items or ())


async def walk(conn: Connection, roots: Sequence[Node], *, upward: bool, wanted: Filter) -> AsyncIterator[Found]:
    """Breadth first, each node once and each edge once; the roots come first, without an edge. For who goes to the end; see `portions`."""
    async with aclosing(portions(conn, roots, upward=upward, wanted=wanted)) as walked:
        async for some in walked:
            for found in some:
                yield found


async def portions(
    conn: Connection, roots: Sequence[Node], *, upward: bool, wanted: Filter
) -> AsyncGenerator[Sequence[Found]]:
    """`walk` by portions. Whoever leaves before the end closes it (`aclosing`): the next portion is on its way on the connection."""
    first = {root.id: root for root in reversed(roots)}
    frontier = list(dict.fromkeys(root.id for root in roots))
    yield [Found(first[one], None) for one in frontier]
    seen, ahead = set(frontier), _Ahead(conn, upward, wanted)
    async with aclosing(ahead):
        for depth in range(1, wanted.depth + 1):
            if not frontier:
                return
            following: list[str] = []
            async for rows in ahead.level(frontier):
                following += _those_to_go_on_from(rows, seen, 1 if upward else 0)
                if depth < wanted.depth:
                    ahead.ask_for(following)
                yield _met(rows, seen, depth if upward else -depth)
            frontier = following


def _those_to_go_on_from(rows: Sequence[TupleRow], seen: set[str], end: int) -> Iterable[str]:
    """Of the nodes that were not met before those that the caller sees whole, in their order."""
    return dict.fromkeys([row[end] for row in rows if row[-1] == "whole" and row[end] not in seen])


def _met(rows: Sequence[TupleRow], seen: set[str], depth: int) -> list[Found]:
    """The edges of one portion, and the nodes that were not met before."""
    found: list[Found] = []
    end = 1 if depth > 0 else 0
    for row in rows:
        shown = row[-1]
        if shown == "hidden":
            link = _hidden(row)
            other = link.parent
            if other in seen:
                continue  # several look like one
        else:
            # What `Link._make` does after a look at the number of values, for each of very many.
            link, other = tuple.__new__(Link, row[:9]), row[end]
        if other in seen:
            found.append(tuple.__new__(Found, (None, link)))
            continue
        seen.add(other)
        found.append(tuple.__new__(Found, (_node_of(row, other, depth), link)))
    return found


class _Ahead:
    """Steps of a walk: while the rows of one are looked at, PostgreSQL is at the next."""

    def __init__(self, conn: Connection, upward: bool, wanted: Filter) -> None:
        self._conn, self._upward, self._wanted = conn, upward, wanted
        self._asked: tuple[_Portion, asyncio.Task[list[TupleRow]]] | None = None
        self._is_whole = False

    async def level(self, frontier: Sequence[str]) -> AsyncIterator[list[TupleRow]]:
        """The edges of a whole level, in portions."""
        portions = await self._portions(frontier)
        self._is_whole = len(portions) == 1
        for portion, following in zip_longest(portions, portions[1:]):
            rows = await self._rows(portion)
            if following:
                self._ask(following)
            yield rows

    async def _portions(self, frontier: Sequence[str]) -> list[_Portion]:
        if self._upward or len(frontier) > 1:
            return [(some, (None, None)) for some in batched(frontier, _FRONTIER)]
        ends = await (await self._conn.execute(sql("graph.page_ends"), (frontier[0], _PAGE))).fetchall()
        bounds = [None, *dict.fromkeys(row["child"] for row in ends), None]
        return [((frontier[0],), pair) for pair in pairwise(bounds)]

    def ask_for(self, frontier: Sequence[str]) -> None:
        """Begin with the next level, when the present one was one portion, so that the next is known before its turn."""
        if not self._is_whole:
            return
        if (self._upward and frontier) or len(frontier) > 1:
            self._ask((tuple(frontier[:_FRONTIER]), (None, None)))

    def _ask(self, portion: _Portion) -> None:
        some, between = portion
        step = _step(self._conn, some, upward=self._upward, wanted=self._wanted, between=between)
        # Eager: the question is sent before whoever gets the last rows looks at them.
        self._asked = portion, asyncio.Task(step, loop=asyncio.get_running_loop(), eager_start=True)

    async def _rows(self, portion: _Portion) -> list[TupleRow]:
        if self._asked is None:
            self._ask(portion)
        assert self._asked is not None
        assert self._asked[0] == portion
        rows = await self._asked[1]
        self._asked = None
        return rows

    async def aclose(self) -> None:
        """Nobody else may find the connection at work."""
        if self._asked is not None:
            await asyncio.wait({self._asked[1]})
            self._asked[1].cancelled() or self._asked[1].exception()


async def _step(
    conn: Connection,
    entities: Sequence[str],
    *,
    upward: bool,
    wanted: Filter,
    between: tuple[UUID | None, UUID | None] = (None, None),
) -> list[TupleRow]:
    """Rows as `_link_of` and `_node_of` read them. Most edges lead to what was met before, so values are made as late as can be."""
    parameters = (
        f"{{{','.join(entities)}}}", upward, list(wanted.principals), wanted.as_of, wanted.min_confidence, list(wanted.assertions),
        list(wanted.roles), *between,
    )  # fmt: skip
    async with conn.cursor(row_factory=tuple_row) as cursor:
        return await (await cursor.execute(sql("graph.step"), parameters)).fetchall()


def _link_of(row: TupleRow) -> Link:
    return _hidden(row) if row[-1] == "hidden" else Link._make(row[:9])


def _hidden(row: TupleRow) -> Link:
    """An edge to a parent that the caller may not see."""
    child, _, role, assertion = row[:4]
    return Link(child, f"hidden:{child}", role, assertion, 0.0, "", None)


def _node_of(row: TupleRow, identity: str, depth: int) -> Node:
    kind, name, items, shown = row[9:]
    if shown == "hidden":
        return Node(identity, "redacted", None, (), depth)
    return Node(identity, kind, name, _told_places(items) if items and shown == "whole" else (), depth)


def _told_places(items: str) -> tuple[tuple[str, str, str], ...]:
    """In the order of collections and items."""
    places = orjson.loads(items)
    return (tuple(places[0]),) if len(places) == 1 else tuple(sorted(tuple(one) for one in places))


async def gather(
    conn: Connection, roots: Sequence[Node], direction: Direction, wanted: Filter, *, skip: int = 0, limit: int = 1000
) -> Graph:
    """A walk as one value: `limit` nodes after the first `skip`, with the edges that were met meanwhile.

    Who goes on with `skip` and the same `as_of` gets what comes next: a walk gives the same each time.
    """
    graph = Graph([root.id for root in roots], wanted.as_of)
    met: set[str] = set()
    number = 0
    for upward in (True, False):
        if direction not in ("both", "up" if upward else "down"):
            continue
        async with aclosing(portions(conn, roots, upward=upward, wanted=wanted)) as walked:
            async for some in walked:
                for node, link in some:
                    if node is not None and node.id not in met:
                        if number >= skip + limit:
                            graph.truncated = True
                            return graph
                        met.add(node.id)
                        number += 1
                        if number > skip:
                            graph.nodes.append(node)
                    if link is not None and number > skip:
                        graph.links.append(link)
    return graph


async def shortest(conn: Connection, one: Node, other: Node, wanted: Filter, *, cap: int = 20_000) -> Graph | None:
    """The shortest way by which one came of the other, in either direction; None when there is none within `cap` nodes."""
    ways = [_Way(conn, start, goal, wanted) for start, goal in ((one, other), (other, one))]
    while any(not way.is_done for way in ways):
        for way in ways:
            if (found := await way.advance()) is not None:
                return found
        if sum(len(way.nodes) for way in ways) > cap:
            return None
    return None


class _Way:
    """Ancestors of one node, level by level, until another is met."""

    def __init__(self, conn: Connection, start: Node, goal: Node, wanted: Filter) -> None:
        self._conn, self._goal, self._wanted = conn, goal, wanted
        self.nodes = {start.id: start}
        self._links: dict[str, Link] = {}
        self._frontier = [start.id]
        self._depth = 0
        self._start = start

    @property
    def is_done(self) -> bool:
        return not self._frontier or self._depth >= self._wanted.depth

    async def advance(self) -> Graph | None:
        if self._goal.id in self.nodes:
            return self._graph()
        if self.is_done:
            return None
        self._depth += 1
        rows = await _step(self._conn, self._frontier, upward=True, wanted=self._wanted)
        self._frontier = []
        for row in rows:
            link = _link_of(row)
            if row[-1] != "hidden" and link.parent not in self.nodes:
                self.nodes[link.parent], self._links[link.parent] = _node_of(row, link.parent, self._depth), link
                if row[-1] == "whole":
                    self._frontier.append(link.parent)
        return self._graph() if self._goal.id in self.nodes else None

    def _graph(self) -> Graph:
        graph = Graph([self._start.id, self._goal.id], self._wanted.as_of)
        place = self._goal.id
        while place != self._start.id:
            graph.nodes.append(self.nodes[place])
            graph.links.append(self._links[place])
            place = self._links[place].child
        graph.nodes.append(self._start)
        graph.nodes.reverse()
        graph.links.reverse()
        return graph
