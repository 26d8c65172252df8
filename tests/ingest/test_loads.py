"""Footprints of a load are noted all at once; those of whoever else writes, one by one: together those of the items that are there."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
import shapely

from db.pools import Connection, Pool
from ingest.collection_files import ensure_collections
from ingest.overviews.density import keep_density, summed
from ingest.store import NotStored, delete_items, loading, lock_items, write_items
from tests.ingest.test_density import COLLECTION, cells, footprint, made


def some(first: int, number: int, at: float) -> list[dict[str, Any]]:
    return [made(n, footprint(at, n, 1.5, 1.5)) for n in range(first, first + number)]


async def ours(conn: Connection) -> None:
    await write_items(conn, COLLECTION, some(0, 10, 10), {})
    await write_items(conn, COLLECTION, some(5, 10, 20), {})


async def ours_misinformed(conn: Connection) -> None:
    await ours(conn)
    there = some(12, 6, 30)
    await write_items(conn, COLLECTION, there, {item["id"]: None for item in there})


async def ours_for_few(conn: Connection) -> None:
    await write_items(conn, COLLECTION, some(0, 10, 10), {}, new_readers={"item-3": "[]"})


async def with_stock_functions_between(conn: Connection) -> None:
    await ours(conn)
    await conn.execute("select pgstac.create_items($1::jsonb)", (orjson.dumps(some(20, 5, 40)).decode(),))
    await conn.execute("select pgstac.upsert_items($1::jsonb)", (orjson.dumps(some(10, 12, 50)).decode(),))
    await delete_items(conn, COLLECTION, ["item-2", "item-20"], {})
    await write_items(conn, COLLECTION, some(2, 3, 60), {})
    await conn.execute("select pgstac.delete_item('item-4', $1)", (COLLECTION,))


async def into_a_partition(conn: Connection) -> None:
    await ours(conn)
    found = await (await conn.execute("select tableoid::regclass::text as name from pgstac.items limit 1")).fetchone()
    assert found is not None
    rest = "collection, datetime, end_datetime, geometry, content"
    query = f"insert into {found['name']} (id, {rest}) select 'x' || id, {rest} from {found['name']}"
    await conn.execute(query.encode())


async def with_a_load_that_was_given_up(conn: Connection) -> None:
    await ours(conn)
    with contextlib.suppress(NotStored):
        async with conn.transaction(), loading(conn, COLLECTION) as footprints:
            footprints.append(shapely.to_wkb(footprint(0, 0, 1, 1)))
            raise NotStored
    await conn.execute("select pgstac.create_items($1::jsonb)", (orjson.dumps(some(20, 5, 40)).decode(),))


@pytest.mark.parametrize(
    "write",
    [ours, ours_misinformed, ours_for_few, with_stock_functions_between, into_a_partition, with_a_load_that_was_given_up],
)  # fmt: skip
async def test_density_is_that_of_the_items_that_are_there(
    pool: Pool, conn: Connection, write: Callable[[Connection], Awaitable[None]]
) -> None:
    await ensure_collections(pool)
    async with conn.transaction():
        await lock_items(conn, COLLECTION)
        await write(conn)
    query = "select public.st_asewkb(geometry) as place from pgstac.items where private is null"
    there = [(bytes(row["place"]), 1) for row in await (await conn.execute(query)).fetchall()]
    assert there
    await keep_density(pool)
    assert await cells(conn) == summed(there)


async def test_what_waits_of_a_load_goes_with_its_collection(pool: Pool, conn: Connection) -> None:
    await ensure_collections(pool)
    async with conn.transaction():
        await lock_items(conn, COLLECTION)
        await ours(conn)
    await conn.execute("select pgstac.delete_collection($1)", (COLLECTION,))
    left = await (await conn.execute("select count(*) as n from federator.footprint_load")).fetchone()
    assert left == {"n": 0}
    assert await keep_density(pool) == 0
