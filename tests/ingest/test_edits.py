"""Edits beside harvests and kills: harvested items are the harvest's, nothing that a caller wrote is lost, item and event go together."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from typing import Any

import psycopg
import pytest

from db.pools import Pool, open_pool
from db.settings import DatabaseSettings
from ingest.collection_files import ensure_collections
from ingest.edits import items
from ingest.edits.author import Author, in_transaction
from ingest.edits.batches import ready_items
from ingest.edits.documents import checked_item
from ingest.edits.items import Ready
from ingest.errors import EditRefused
from tests.api.editing import item
from tests.ingest.bench import L1C, Bench
from tests.ingest.odata_server import ODataServer, s2_product
from tests.size import sized

WRITER = Author("user:test", ("role:admin",))
OTHER = Author("user:other", ("user:other",))
CHILD = "import asyncio, sys; from tests.ingest.test_edits import write_without_end; asyncio.run(write_without_end(int(sys.argv[1])))"


@pytest.fixture
async def bench(pool: Pool) -> Bench:
    await ensure_collections(pool)
    return Bench(pool)


def name(number: int) -> str:
    return str(s2_product(number)["Name"]).removesuffix(".SAFE")


def permit(*_: object) -> None:
    """No conditions."""


async def create(bench: Bench, *names: str, author: Author = WRITER, **properties: Any) -> None:
    ready = [Ready.of(checked_item(item(one, within=L1C, **properties), L1C)) for one in names]
    await in_transaction(bench.pool, lambda conn: items.create_items(conn, author, L1C, ready, permit))


async def change(bench: Bench, item_id: str, **properties: Any) -> None:
    new = checked_item(item(item_id, within=L1C, **properties), L1C)
    await in_transaction(bench.pool, lambda conn: items.change_item(conn, WRITER, L1C, item_id, lambda _: new))


async def delete(bench: Bench, item_id: str, author: Author = WRITER) -> None:
    await in_transaction(bench.pool, lambda conn: items.delete_item(conn, author, L1C, item_id, permit))


async def test_what_sources_hold_is_written_by_harvest_alone(bench: Bench) -> None:
    await bench.run(ODataServer([s2_product(0)]))
    before = await bench.item(name(0))
    for attempt in (create(bench, name(0)), change(bench, name(0)), delete(bench, name(0))):
        with pytest.raises(EditRefused) as refused:
            await attempt
        assert (refused.value.status, refused.value.code) in ((409, "ITEM_HARVESTED"), (409, "ITEM_EXISTS"))
    ready = [Ready.of(checked_item(item(name(0), within=L1C), L1C))]
    with pytest.raises(EditRefused, match="harvest writes them"):
        await in_transaction(bench.pool, lambda conn: items.put_items(conn, WRITER, L1C, ready, permit))
    assert await bench.item(name(0)) == before
    assert await bench.events() == {"REGISTER": 1}


async def test_own_items_stand_beside_harvested_ones(bench: Bench) -> None:
    await create(bench, "own-1")
    upstream = ODataServer([s2_product(n) for n in range(3)])
    await bench.run(upstream)
    await bench.run(upstream)
    assert await bench.items() == sorted([*(name(n) for n in range(3)), "own-1"])
    assert await bench.events() == {"CREATE": 1, "REGISTER": 3}
    await change(bench, "own-1", changed=True)
    await delete(bench, "own-1")
    assert await bench.items() == sorted(name(n) for n in range(3))


async def test_an_own_item_in_whose_place_a_product_comes_is_kept_aside(bench: Bench) -> None:
    await create(bench, name(1), note="mine", datetime="2020-01-01T00:00:00Z")
    mine = await bench.item(name(1))
    await bench.run(ODataServer([s2_product(n) for n in range(3)]))
    assert await bench.items() == sorted(name(n) for n in range(3)), "once, although its time is another"
    assert "note" not in (await bench.item(name(1)))["properties"]
    (row,) = await bench.rows("select collection_id, item_id, content from federator.displaced_item")
    assert row == {"collection_id": L1C, "item_id": name(1), "content": mine}


async def test_what_was_withdrawn_may_be_written_and_comes_back_by_harvest(bench: Bench) -> None:
    upstream = ODataServer([s2_product(n) for n in range(5)])
    await bench.run(upstream)
    upstream.delete(2, 1000)
    await bench.run(upstream)
    await create(bench, name(2), note="mine")
    await change(bench, name(2), note="mine, again")
    assert (await bench.item(name(2)))["properties"]["note"] == "mine, again"
    assert (await bench.run(upstream)).withdrawn == 0
    assert (await bench.item(name(2)))["properties"]["note"] == "mine, again"


async def test_what_an_author_may_not_see_is_not_there(bench: Bench) -> None:
    await create(bench, "hidden")
    await bench.rows("update pgstac.items set private = '{\"readers\": [\"user:o\"]}' where id = 'hidden' returning id")
    with pytest.raises(EditRefused) as refused:
        await delete(bench, "hidden", OTHER)
    assert refused.value.status == 404
    await bench.rows(
        "insert into federator.collection_access (collection_id, visibility, writers) values ($1, 'public', '{user:other}') returning 1",
        L1C,
    )
    new = checked_item(item("hidden", within=L1C), L1C)
    with pytest.raises(EditRefused) as refused:
        await in_transaction(bench.pool, lambda conn: items.change_item(conn, OTHER, L1C, "hidden", lambda _: new))
    assert refused.value.status == 404
    await delete(bench, "hidden", OTHER)
    assert await bench.items() == ["hidden"]
    with pytest.raises(EditRefused, match="exist"):
        await create(bench, "hidden", author=OTHER)


async def test_what_breaks_after_the_item_was_written_leaves_nothing(bench: Bench) -> None:
    async def broken(conn: Any) -> None:
        await items.create_items(conn, WRITER, L1C, ready_items([(None, item("lost", within=L1C))], L1C), permit)
        raise KeyError

    with pytest.raises(KeyError):
        await in_transaction(bench.pool, broken)
    assert (await bench.items(), await bench.events()) == ([], {})


async def test_who_waits_too_long_is_told_to_come_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.edits.author.LOCK_TIMEOUT_MS", "200")
    async with bench.pool.connection() as conn, conn.transaction():
        await conn.execute("select pg_advisory_xact_lock(hashtext('federator.items'), hashtext($1))", (L1C,))
        with pytest.raises(EditRefused) as refused:
            await create(bench, "waits")
    assert (refused.value.status, refused.value.code) == (503, "CATALOGUE_BUSY")


async def write_without_end(start: int) -> None:
    """Make, change and delete items until killed; what the test below starts as a process."""
    async with open_pool(DatabaseSettings(), min_size=1, max_size=3) as pool:
        bench = Bench(pool)
        for number in range(start, start + 1_000_000):
            await create(bench, *(f"k{number}-{n}" for n in range(20)))
            await change(bench, f"k{number}-0", changed=True)
            await delete(bench, f"k{number}-1")


@pytest.mark.slow
async def test_kill_9_leaves_items_and_events_together(bench: Bench, database: DatabaseSettings) -> None:
    environment = {
        **os.environ, "PGHOST": database.pghost, "PGPORT": str(database.pgport), "PGDATABASE": database.pgdatabase,
        "PGUSER": database.pguser, "PGPASSWORD": database.pgpassword.get_secret_value(),
    }  # fmt: skip
    rng = random.Random(1)
    for attempt in range(sized(2, 5)):
        with subprocess.Popen([sys.executable, "-c", CHILD, str(attempt * 10_000)], env=environment) as child:
            await until_written(database, attempt * 10_000)
            time.sleep(rng.uniform(0, 0.3))
            os.kill(child.pid, signal.SIGKILL)
            child.wait(10)
    counts = await bench.events()
    assert counts["CREATE"] - counts["DELETE"] == len(await bench.items()) > 0
    assert await bench.column("select count(*) from pgstac.items where content -> 'properties' ? 'changed'") == [
        counts["UPDATE"]
    ]


async def until_written(database: DatabaseSettings, number: int) -> None:
    with psycopg.connect(database.conninfo, autocommit=True) as conn:
        for _ in range(600):
            if conn.execute("select from pgstac.items where id = %s", (f"k{number}-0",)).fetchone() is not None:
                return
            await asyncio.sleep(0.05)
    raise AssertionError("the writer has written nothing")
