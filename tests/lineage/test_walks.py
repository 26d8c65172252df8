"""Walks against a plain one: level by level, one question for each portion, by the older SQL function."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import orjson
import pytest
from psycopg.types.json import Jsonb

from db.pools import Connection
from db.queries import sql
from lineage import graph, impact
from lineage.formats.value import edge_of, node_of
from lineage.graph import Filter, Found, Link, Node, known, log_size, portions, walk
from lineage.projector import project_batch
from lineage.visibility import EVERYTHING
from tests.lineage.histories import fill
from tests.size import sized

ANN = ("user:ann",)


async def plain(conn: Connection, roots: Sequence[Node], upward: bool, wanted: Filter, size: int) -> list[Found]:
    """The walk as it is promised."""
    frontier = list(dict.fromkeys(root.id for root in roots))
    found, seen = [Found({root.id: root for root in roots}[one], None) for one in frontier], set(frontier)
    for depth in range(1, wanted.depth + 1):
        following: list[str] = []
        for start in range(0, len(frontier), size):
            hidden: set[str] = set()
            for row in await steps(conn, frontier[start : start + size], upward, wanted):
                link, node = link_and_node(row, upward, depth)
                if row["shown"] == "hidden":
                    if node.id in hidden:
                        continue
                    hidden.add(node.id)
                found.append(Found(None if node.id in seen else node, link))
                if node.id not in seen and row["shown"] == "whole":
                    following.append(node.id)
                seen.add(node.id)
        frontier = following
    return found


async def steps(conn: Connection, some: list[str], upward: bool, wanted: Filter) -> list[dict[str, Any]]:
    text = (
        "select child::text, parent::text, role, assertion, confidence, rule, seq, run::text, label, kind, name, items, shown"
        " from lineage.step($1::uuid[], $2, $3::text[], $4, $5::real, $6::text[], $7::text[], null, null)"
    )
    given = (some, upward, list(wanted.principals), wanted.as_of, wanted.min_confidence, list(wanted.assertions))
    return await (await conn.execute(text.encode(), (*given, list(wanted.roles)))).fetchall()


def link_and_node(row: dict[str, Any], upward: bool, depth: int) -> tuple[Link, Node]:
    child, role, assertion = row["child"], row["role"], row["assertion"]
    if row["shown"] == "hidden":
        identity = f"hidden:{child}"
        return Link(child, identity, role, assertion, 0.0, "", None), Node(identity, "redacted", None, (), depth)
    link = Link(
        child, row["parent"], role, assertion, row["confidence"], row["rule"], row["seq"], row["run"], row["label"]
    )
    places = tuple(tuple(one) for one in row["items"] or ()) if row["shown"] == "whole" else ()
    return link, Node(row["parent"] if upward else child, row["kind"], row["name"], places, depth if upward else -depth)


async def filled(conn: Connection, seed: int) -> list[Any]:
    """A graph of which some is hidden; the ids of its entities."""
    await fill(conn, seed, 250)
    while await project_batch(conn, 100):
        pass
    private = b"insert into federator.private_item select 'mine', 'own' || n, $1 from generate_series(0, 5) as n"
    await conn.execute(private, (Jsonb({"readers": list(ANN)}),))
    if seed % 2:
        await conn.execute(b"insert into federator.gone_collection values ('s2', null, '{user:ann}')")
    rows = await (await conn.execute(b"select id from lineage.entity order by id")).fetchall()
    return [row["id"] for row in rows]


@pytest.mark.parametrize("seed", range(sized(2, 40)))
async def test_a_walk_gives_what_a_plain_one_gives_in_its_order(
    conn: Connection, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    entities, size = await filled(conn, seed), await log_size(conn)
    monkeypatch.setattr(graph, "_FRONTIER", 3)
    monkeypatch.setattr(graph, "_PAGE", 2)
    met: set[str] = set()
    for principals in ((), ANN, EVERYTHING):
        for wanted in (Filter(principals, size), Filter(principals, size // 2, depth=2, min_confidence=0.6)):
            roots = await known(conn, entities[seed :: len(entities) // 4], principals)
            for upward in (True, False):
                found = [one async for one in walk(conn, roots, upward=upward, wanted=wanted)]
                assert found == await plain(conn, roots, upward, wanted, 3)
                met |= {one.node.kind for one in found if one.node}
            for root in roots[:2]:  # by pages of its children
                found = [one async for one in walk(conn, [root], upward=False, wanted=wanted)]
                assert found == await plain(conn, [root], False, wanted, 3)
    assert met >= {"product", "item", "redacted"}


async def test_lines_are_those_of_a_walk_and_go_on_where_they_were_cut(conn: Connection) -> None:
    entities = await filled(conn, 0)
    roots, wanted = await known(conn, entities[::9], ()), Filter((), await log_size(conn))
    walked = [one async for one in walk(conn, roots, upward=False, wanted=wanted)]
    told = [{"node": node_of(one.node), "via": edge_of(one.link)} for one in walked if one.node and one.link]
    assert len(told) > 5
    for limit in (1, 4, len(told), len(told) + 1):
        found, skip, is_truncated = [], 0, True
        while is_truncated:
            text = b"".join([some async for some in impact.lines(conn, roots, wanted, skip=skip, limit=limit)])
            *lines, last = [orjson.loads(line) for line in text.splitlines()]
            is_truncated = last["done"]["truncated"]
            skip = last["done"]["next"]["skip"] if is_truncated else skip
            assert len(lines) == last["done"]["nodes"] == (limit if is_truncated else len(told) - len(found))
            found += lines
        assert found == told
    own = {one["node"]["id"] for one in told[::2]}
    text = b"".join([some async for some in impact.lines(conn, roots, wanted, skip=1, limit=100, own=own)])
    assert [orjson.loads(line) for line in text.splitlines()[:-1]] == [
        one for one in told[1:] if one["node"]["id"] in own
    ]


async def test_who_leaves_a_walk_finds_the_connection_at_rest(
    conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    entities = await filled(conn, 0)
    monkeypatch.setattr(graph, "_FRONTIER", 1)
    roots, wanted = await known(conn, entities, ()), Filter((), await log_size(conn))
    for number in range(1, 6):
        async with aclosing(portions(conn, roots, upward=True, wanted=wanted)) as walked:
            for _ in range(number):
                await anext(walked)
        assert not conn.lock.locked()
        assert await (await conn.execute(sql("graph.log_size"))).fetchone() == {"size": 250}
