"""The graph on a real database: made of the events alone, the same each time, and walked as a caller may see it."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from db.pools import Connection, Pool
from db.queries import sql
from lineage import log
from lineage.events import Event, Kind
from lineage.graph import Filter, Graph, gather, known, log_size, shortest
from lineage.ids import uuid7
from lineage.keys import Signer
from lineage.names import item_id, product_id, product_key
from lineage.projected import Entity, State
from lineage.projected_writes import changes_of, write
from lineage.projector import project, project_batch
from lineage.rebuilding import LONG, rebuild
from lineage.sequencer import sequence
from tests.lineage.histories import fill
from tests.lineage.parentage import GRD, GRD_COG, L1C, L2A, L2A_TWIN, SLC
from tests.lineage.samples import NOW, signer
from tests.size import FULL

TABLES = {
    "entity": "id", "entity_item": "collection, item_id", "edge": "child, parent, role, seq", "run": "id",
    "item_version": "collection, item_id, from_seq",
}  # fmt: skip
EVERYBODY, ADMIN = (), ("role:admin",)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return signer(tmp_path_factory.mktemp("keys"))


def registered(stem: str, collection: str = "s2", **body: Any) -> Event:
    return Event(
        uuid7(), Kind.REGISTER, f"{stem}.SAFE", "demo", collection, stem, "harvest:demo", NOW, {"item_sha256": "ab" * 32, **body}
    )  # fmt: skip


def own(item: str, kind: Kind = Kind.CREATE, collection: str = "mine", actor: str = "user:ann", **body: Any) -> Event:
    return Event(uuid7(), kind, item, "own", collection, item, actor, NOW, body)


async def tell(pool: Pool, keys: Signer, *events: Event) -> None:
    async with pool.connection() as conn, conn.transaction():
        await log.append(conn, *events)
    await sequence(pool, keys)
    await project(pool)


async def rows(conn: Connection) -> dict[str, list[Any]]:
    found = {}
    for table, order in TABLES.items():
        cursor = await conn.execute(f"select * from lineage.{table} order by {order}".encode())
        found[table] = await cursor.fetchall()
    return found


async def graph_of(
    conn: Connection, entity: Any, principals: tuple[str, ...] = ADMIN, direction: Any = "up", **options: Any
) -> Graph:
    roots = await known(conn, [entity], principals)
    limit, skip = options.pop("limit", 1000), options.pop("skip", 0)
    size = options.pop("as_of", None) or await log_size(conn)
    return await gather(conn, roots, direction, Filter(principals, size, **options), limit=limit, skip=skip)


def edges(graph: Graph) -> list[tuple[str | None, str | None, str, str]]:
    names = {node.id: node.name for node in graph.nodes}
    return [(names[one.child], names[one.parent], one.role, one.rule) for one in graph.links]


@pytest.mark.parametrize("order", [(L1C, L2A), (L2A, L1C)])
async def test_the_parent_is_inferred_whichever_comes_first(pool: Pool, keys: Signer, order: tuple[str, ...]) -> None:
    for stem in order:
        await tell(pool, keys, registered(stem))
    async with pool.connection() as conn:
        graph = await graph_of(conn, product_id(L2A), EVERYBODY)
        assert edges(graph) == [(L2A, L1C, "input", "R4/1")]
        assert graph.links[0].assertion == "inferred"
        assert graph.links[0].confidence == 0.95


async def test_what_is_told_supersedes_what_was_inferred_by_a_new_event(pool: Pool, keys: Signer) -> None:
    await tell(pool, keys, registered(L1C), registered(L2A))
    told = {"name": f"{L1C}.SAFE", "rule": "R3/1", "assertion": "declared", "confidence": 0.98}
    await tell(
        pool, keys, Event(uuid7(), Kind.CORRECT, f"{L2A}.SAFE", "demo", "s2", L2A, "user:ann", NOW, {"inputs": [told]})
    )
    async with pool.connection() as conn:
        assert edges(await graph_of(conn, product_id(L2A))) == [(L2A, L1C, "input", "R3/1")]
        assert edges(await graph_of(conn, product_id(L2A), as_of=3)) == [(L2A, L1C, "input", "R4/1")]


def history() -> list[Event]:
    """Everything that the fold knows, of many items, in an order that is drawn once."""
    made = [
        registered(L1C), registered(L2A), registered(L2A_TWIN), registered(L1C[:-6] + "001008"), registered(SLC, "s1"),
        registered(GRD, "s1"), registered(GRD_COG, "s1"),
        own("map", item_sha256="01" * 32, inputs=[{"name": "scan.tif", "hash": "07" * 32}, {"name": L2A}], upload="u"),
        own("map", Kind.UPDATE, item_sha256="02" * 32), own("mosaic", inputs=[{"collection": "mine", "item": "map", "name": "map"}]),
        own("map", Kind.REPLACE, item_sha256="03" * 32, predecessor="map-v1"),
        own("map-v1", Kind.OBSOLETE, item_sha256="02" * 32, formerly="map", successor="map"),
        own("map", Kind.DELETE, reason="done"), own("map", Kind.CREATE, item_sha256="01" * 32),
        registered(L2A, item_sha256="0c" * 32, successor=L2A_TWIN),
        Event(uuid7(), Kind.WITHDRAW, f"{L1C}.SAFE", "demo", "s2", L1C, "harvest:demo", NOW, {"reason": "Corrupted product"}),
        Event(uuid7(), Kind.STATE, "run/1", "own", None, None, "user:ann", NOW, {
            "run": {"id": str(uuid7()), "namespace": "airflow", "job": "mosaic", "state": "COMPLETE", "software": {"gdal": "3.12"}},
            "inputs": [{"name": L2A}], "outputs": [{"namespace": "s3://bucket", "name": "scratch"}],
        }),
        own("a\\N\t\n\r\\", actor="user:\\.\n", inputs=[{"name": "b\t\\x", "hash": "07" * 32}, {"name": "sha256:\n", "hash": "08" * 32}]),
        own("tree", upload="u", inputs=[], derivations=[{"child": GRD, "name": "g\n", "hash": "09" * 32}, {"child": "no", "name": SLC}]),
        own("tree", Kind.UPDATE, derivations=[{"child": GRD, "name": SLC}, {"child": L2A, "name": "other", "role": "aux"}]),
    ]  # fmt: skip
    random.Random(7).shuffle(made)
    return made


async def test_a_rebuild_gives_the_same_rows_whatever_the_batches(pool: Pool, keys: Signer) -> None:
    for event in history():
        await tell(pool, keys, event)
    async with pool.connection() as conn:
        first = await rows(conn)
        assert all(first.values()), {name: len(found) for name, found in first.items()}
        for size in (1, 5, 1000):
            await rebuild(conn, batch_size=size)
            assert await rows(conn) == first, size


@pytest.mark.parametrize("seed", range(40) if FULL else (9, 32))  # of these each once made a difference
async def test_whatever_happened_the_batches_make_no_difference(conn: Connection, seed: int) -> None:
    await fill(conn, seed, 250)
    while await project_batch(conn, 17):
        pass
    first = await rows(conn)
    for size, long in ((3, LONG), (1000, LONG), (17, 0)):
        await rebuild(conn, batch_size=size, long=long)
        assert await rows(conn) == first, (size, long)


async def test_parents_behind_hashes_are_found_again_also_in_the_first_batch(pool: Pool, keys: Signer) -> None:
    await tell(pool, keys, registered(L1C))
    async with pool.connection() as conn:
        await conn.execute(sql("graph.put_commitment"), (b"\1" * 32, b"salt", [product_id(L1C)]))
    await tell(pool, keys, own("map", inputs=[{"commitment": "01" * 32}]))
    async with pool.connection() as conn:
        first = await rows(conn)
        assert len(first["edge"]) == 1
        await rebuild(conn)
        assert await rows(conn) == first


async def test_who_writes_does_not_wait_for_a_rebuild(pool: Pool, keys: Signer) -> None:
    await tell(pool, keys, registered(L1C))
    async with pool.connection() as conn, conn.transaction():
        await rebuild(conn)
        async with pool.connection() as other, other.transaction():
            await other.execute(b"set local lock_timeout = '1s'")
            await log.append(other, registered(L2A))
        assert await sequence(pool, keys) == 1
    assert await project(pool) == 1


async def test_an_event_that_cannot_be_read_leaves_the_graph_as_it_was(conn: Connection) -> None:
    await fill(conn, 3, 30)
    await project_batch(conn, 100)
    before = await rows(conn)
    await conn.execute("alter table lineage.event disable trigger all")
    await conn.execute("update lineage.event set body = '{' where seq = 20")
    with pytest.raises(ValueError):
        await rebuild(conn, batch_size=5, long=0)
    assert await rows(conn) == before


async def test_a_log_with_a_gap_is_rebuilt_to_its_end(conn: Connection) -> None:
    await fill(conn, 7, 30)
    await conn.execute("alter table lineage.event disable trigger all")
    await conn.execute("delete from lineage.event where seq in (0, 5, 6, 20)")
    assert await rebuild(conn, batch_size=4) == 26
    assert await log_size(conn) == 30
    first = await rows(conn)
    await rebuild(conn, batch_size=100)
    assert await rows(conn) == first


async def test_an_entity_that_nobody_has_looked_up_does_not_stop_the_projector(pool: Pool, keys: Signer) -> None:
    await tell(pool, keys, registered(L1C))
    again = State(touched_entities={product_key(L1C): Entity(product_key(L1C), "product", L1C, 9)})
    async with pool.connection() as conn, conn.transaction():
        before = await rows(conn)
        await write(conn, changes_of(again, {}))
        assert await rows(conn) == before


async def test_what_was_planned_while_the_graph_was_empty_does_not_read_all_of_it_for_each_batch(
    pool: Pool, keys: Signer
) -> None:
    made = [registered(f"{L1C[:-6]}{number:06}") for number in range(60)] + [own("a"), own("a", Kind.UPDATE)]
    async with pool.connection() as conn, conn.transaction():
        await log.append(conn, *made)
    await sequence(pool, keys)
    async with pool.connection() as conn:
        for _ in range(15):  # a statement is prepared at its sixth time, and its plan is kept five times later
            assert await project_batch(conn, 1) == 1
        async with conn.transaction():
            assert await project_batch(conn, 100) >= len(made) - 15
            read = b"select relname, seq_scan, idx_tup_fetch from pg_stat_xact_user_tables where relid = any ($1::text[]::regclass[])"
            names = [f"lineage.{table}" for table in TABLES]
            found = await (await conn.execute(read, (names,))).fetchall()
    assert {row["relname"]: row["seq_scan"] for row in found} == dict.fromkeys(TABLES, 0)
    assert {row["relname"]: row["idx_tup_fetch"] for row in found}["item_version"] == 0, "all that come are new"


async def test_a_projector_that_is_killed_repeats_its_batch(pool: Pool, keys: Signer) -> None:
    await tell(pool, keys, registered(L1C))
    async with pool.connection() as conn, conn.transaction():
        await log.append(conn, registered(L2A))
    await sequence(pool, keys)
    async with pool.connection() as conn:
        async with conn.transaction(force_rollback=True):
            assert await project_batch(conn, 10) == 1
        assert edges(await graph_of(conn, product_id(L2A))) == []
        assert await project_batch(conn, 10) == 1
        assert len(edges(await graph_of(conn, product_id(L2A)))) == 1


async def hide(conn: Connection, item: str, *readers: str, collection: str = "mine") -> None:
    await conn.execute(
        "insert into federator.private_item values ($1, $2, $3)",
        (collection, item, Jsonb({"readers": list(readers)})),
    )


async def test_private_parents_are_one_node_without_anything(pool: Pool, keys: Signer) -> None:
    parents = [{"collection": "mine", "item": name, "name": name} for name in ("plan", "survey")]
    await tell(
        pool, keys, own("ground"), own("plan", inputs=[{"collection": "mine", "item": "ground", "name": ""}]), own("survey"),
        own("map", inputs=[*parents, {"name": L1C}]), own("poster", inputs=[{"collection": "mine", "item": "map", "name": "map"}]),
    )  # fmt: skip
    async with pool.connection() as conn:
        await hide(conn, "plan", "user:ann")
        await hide(conn, "survey", "user:ann")
        seen = await graph_of(conn, item_id("mine", "poster"), EVERYBODY)
        (redacted,) = [node for node in seen.nodes if node.kind == "redacted"]
        assert (redacted.name, redacted.places) == (None, ())
        assert [one.seq for one in seen.links if one.parent == redacted.id] == [None]
        assert "plan" not in str(seen)
        assert "survey" not in str(seen)
        assert "ground" not in str(seen), "what is behind a hidden parent is not shown"
        whole = await graph_of(conn, item_id("mine", "poster"), ("user:ann",))
        assert {node.name for node in whole.nodes} == {"poster", "map", "plan", "survey", "ground", L1C}
        # the other way round a hidden child is not there at all
        assert [node.name for node in (await graph_of(conn, item_id("mine", "ground"), EVERYBODY, "down")).nodes] == [
            "ground"
        ]
        assert await known(conn, [item_id("mine", "plan")], EVERYBODY) == []


async def test_a_product_that_only_hidden_collections_have_looks_like_one_that_nobody_has(
    pool: Pool, keys: Signer
) -> None:
    other = L1C[:-1] + "1"
    await tell(
        pool, keys, registered(L1C, "secret"), own("a", inputs=[{"name": L1C}]), own("b", inputs=[{"name": other}])
    )
    async with pool.connection() as conn:
        await conn.execute("insert into federator.gone_collection values ('secret', null, '{}')")
        answers = []
        for item, stem in (("a", L1C), ("b", other)):
            graph = await graph_of(conn, item_id("mine", item), EVERYBODY)
            answers.append(
                [
                    (node.kind, node.status, node.places, (node.name or "").replace(stem, "X"))
                    for node in graph.nodes[1:]
                ]
            )
            assert len(await known(conn, [product_id(stem)], EVERYBODY)) == 1
        assert answers[0] == answers[1] == [("product", "unknown", (), "X")]


async def test_an_edge_is_for_those_who_see_the_event_that_tells_it(pool: Pool, keys: Signer) -> None:
    chain = [{"child": SLC, "name": "S1A_IW_RAW__0SDV_20210809T173949_20210809T174021_039156_049F13_3092"}]
    await tell(
        pool, keys, own("secret", inputs=[{"name": SLC}], derivations=chain), own("open", inputs=[{"name": SLC}])
    )
    async with pool.connection() as conn:
        await hide(conn, "secret", "user:ann")
        assert len((await graph_of(conn, item_id("mine", "open"), EVERYBODY)).nodes) == 2
        assert len((await graph_of(conn, item_id("mine", "open"), ("user:ann",))).nodes) == 3


async def test_descendants_go_on_where_they_were_cut(pool: Pool, keys: Signer) -> None:
    await tell(pool, keys, registered(L1C), *(own(f"m{number:02}", inputs=[{"name": L1C}]) for number in range(25)))
    async with pool.connection() as conn:
        first = await graph_of(conn, product_id(L1C), EVERYBODY, "down", limit=10)
        assert first.truncated
        found = [node.name for node in first.nodes]
        while first.truncated:
            first = await graph_of(
                conn, product_id(L1C), EVERYBODY, "down", limit=10, skip=len(found), as_of=first.as_of
            )
            found += [node.name for node in first.nodes]
        assert sorted(str(name) for name in found) == sorted([L1C, *(f"m{number:02}" for number in range(25))])


async def test_the_shortest_way_is_found_in_either_direction(pool: Pool, keys: Signer) -> None:
    await tell(
        pool, keys, own("a"), own("b", inputs=[{"collection": "mine", "item": "a", "name": "a"}]),
        own("c", inputs=[{"collection": "mine", "item": "b", "name": "b"}, {"name": L1C}]),
        own("d", inputs=[{"collection": "mine", "item": name, "name": name} for name in ("c", "b")]),
    )  # fmt: skip
    async with pool.connection() as conn:
        wanted = Filter(EVERYBODY, await log_size(conn))
        ends = {
            node.name: node
            for node in await known(conn, [item_id("mine", "a"), item_id("mine", "d"), product_id(L1C)], EVERYBODY)
        }
        for pair in (("a", "d"), ("d", "a")):
            found = await shortest(conn, ends[pair[0]], ends[pair[1]], wanted)
            assert found is not None
            assert [node.name for node in found.nodes] == ["d", "b", "a"]
        assert await shortest(conn, ends["a"], ends[L1C], wanted) is None


async def test_versions_follow_the_events(pool: Pool, keys: Signer) -> None:
    kinds = [(Kind.CREATE, "01"), (Kind.UPDATE, "02"), (Kind.UPDATE, "02"), (Kind.DELETE, None), (Kind.RESTORE, "01")]
    for number, (kind, digest) in enumerate(kinds):
        body = {"item_sha256": digest * 32} if digest else {}
        event = own("x", kind, **body)
        await tell(
            pool,
            keys,
            Event(event.id, kind, "x", "own", "mine", "x", "user:ann", NOW + timedelta(minutes=number), body),
        )
    async with pool.connection() as conn:
        found = (await rows(conn))["item_version"]
    assert [(one["version"], one["kind"], one["from_seq"], one["to_seq"]) for one in found] == [
        (1, "CREATE", 1, 2), (2, "UPDATE", 2, 4), (3, "DELETE", 4, 5), (4, "RESTORE", 5, None),
    ]  # fmt: skip
    assert [one["valid_to"] for one in found[:-1]] == [one["valid_from"] for one in found[1:]]


def document(of: str, child: str, parent: str) -> Event:
    """What a manifest of an own item tells of another product."""
    told = {"child": child, "name": parent, "rule": "R2/1", "assertion": "declared", "confidence": 0.99}
    return own(of, Kind.CORRECT, inputs=[], derivations=[told])


@pytest.mark.parametrize("at_once", [True, False], ids=["one batch", "batches"])
@pytest.mark.parametrize("claimed", ["S2A_MSIL1C_BOGUS", L1C])
@pytest.mark.parametrize("where", ["claims", L2A])
async def test_who_writes_first_does_not_decide_where_a_later_product_comes_from(
    pool: Pool, keys: Signer, at_once: bool, claimed: str, where: str
) -> None:
    events = [
        own(where),
        document(where, L2A, claimed),
        registered(L1C),
        registered(L2A),
        document(where, L2A, "S2A_MSIL1C_LATER"),
    ]
    for some in [events] if at_once else [[event] for event in events]:
        await tell(pool, keys, *some)
    async with pool.connection() as conn:
        hidden = (where, Jsonb({"readers": ["user:ann"]}))
        await conn.execute(
            "insert into federator.private_item (collection_id, item_id, private) values ('mine', $1, $2)", hidden
        )
        assert edges(await graph_of(conn, product_id(L2A), EVERYBODY)) == [(L2A, L1C, "input", "R4/1")]
        told = edges(await graph_of(conn, product_id(L2A), ("user:ann",)))
        assert (L2A, L1C, "input", "R4/1") in told
        assert (L2A, claimed, "input", "R2/1") in told
        before = await rows(conn)
        await rebuild(conn, batch_size=2)
        assert await rows(conn) == before
    proven = {"name": f"{L1C}.SAFE", "rule": "R3/1", "assertion": "declared", "confidence": 0.98}
    await tell(
        pool,
        keys,
        Event(uuid7(), Kind.CORRECT, f"{L2A}.SAFE", "demo", "s2", L2A, "harvest:demo", NOW, {"inputs": [proven]}),
    )
    async with pool.connection() as conn:
        assert edges(await graph_of(conn, product_id(L2A), EVERYBODY)) == [(L2A, L1C, "input", "R3/1")]
