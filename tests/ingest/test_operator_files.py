"""The operator's collection files: what they change, and that what they index is indexed and used."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from db.pools import Connection, Pool
from ingest.collection_files import collections, ensure_collections
from ingest.errors import SourceInvalid
from ingest.operator_files import adopt_files, build_indexes, read_files
from ingest.store import lock_items, write_items
from tests.api.corpus import L1C, L2A, odd_item

NAME = "eo:cloud_cover"
#: A plan that enters an index by the property.
INDEXED = re.compile(rf"Index Cond: .*{NAME}")


def files(folder: Path, **contents: Any) -> Path:
    """A folder with these files and no others; `_` in names stands for `-`."""
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.json"):
        old.unlink()
    for name, content in contents.items():
        (folder / f"{name.replace('_', '-')}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


async def start(pool: Pool, folder: Path) -> None:
    """As the API and the worker do."""
    await adopt_files(pool, folder)
    await ensure_collections(pool)
    await build_indexes(pool)


async def write(pool: Pool, number: int, collection: str = L2A) -> None:
    items = []
    for n in range(number):
        item = copy.deepcopy(odd_item(n % 300))
        item |= {"id": f"one-{n:05}", "collection": collection}
        item["properties"] |= {
            "datetime": f"2025-03-{n % 28 + 1:02}T00:00:00Z",
            NAME: n / number * 100,
            "mine:score": n % 10,
        }
        for key in ("start_datetime", "end_datetime"):
            item["properties"].pop(key, None)
        items.append(item)
    async with pool.connection() as conn, conn.transaction():
        await lock_items(conn, collection)
        await write_items(conn, collection, items, {})


async def rows(conn: Connection, query: str, *values: Any) -> list[Any]:
    return await (await conn.execute(query.encode(), values)).fetchall()


async def indexes(pool: Pool, name: str = NAME) -> dict[str, int]:
    """Collection -> partitions with an index on the property."""
    async with pool.connection() as conn:
        found = await rows(
            conn,
            "select p.collection, count(*) as n from pgstac.partition_stats as p join pg_indexes as i"
            " on i.schemaname = 'pgstac' and i.tablename = p.partition where strpos(i.indexdef, $1) > 0 group by 1",
            f"'{name}'",
        )
    return {row["collection"]: row["n"] for row in found}


async def explained(pool: Pool, search: dict[str, Any]) -> str:
    """The plan of the page that a search leads to."""
    async with pool.connection() as conn:
        (plan,) = await rows(conn, "select * from federator.search_plan($1)", Jsonb(search))
        (order,) = await rows(conn, "select federator.order_by($1) as by", Jsonb(plan["keys"]))
        query = f"explain select * from pgstac.items where {plan['condition']} and private is null order by {order['by']} limit 11"
        return "\n".join(row["QUERY PLAN"] for row in await rows(conn, query))


FILTER = {"op": "<", "args": [{"property": NAME}, 0.5]}
SEARCH = {
    "collections": [L2A],
    "filter": FILTER,
    "filter-lang": "cql2-json",
    "sortby": [{"field": "id", "direction": "asc"}],
}
SORTED = {"collections": [L2A], "sortby": [{"field": f"properties.{NAME}", "direction": "asc"}]}


async def test_what_a_file_indexes_is_indexed_and_used(pool: Pool, tmp_path: Path) -> None:
    await start(pool, files(tmp_path))
    await write(pool, 3000)
    await write(pool, 30, L1C)
    async with pool.connection() as conn:
        await conn.execute("analyze pgstac.items")
    assert await indexes(pool) == {}
    assert INDEXED.search(await explained(pool, SEARCH)) is None
    assert "Sort Key" in await explained(pool, SORTED)
    await start(pool, files(tmp_path, sentinel_2_l2a={"index": [NAME]}))
    assert await indexes(pool) == {L2A: 1}
    async with pool.connection() as conn:
        await conn.execute("analyze pgstac.items")
    assert INDEXED.search(plan := await explained(pool, SEARCH)), plan
    assert "Presorted Key" in (plan := await explained(pool, SORTED)), plan


async def test_new_partitions_and_collections_are_covered(pool: Pool, tmp_path: Path) -> None:
    folder = files(tmp_path, sentinel_2_l2a={"index": [NAME]}, sentinel_1_slc={"index": [NAME]})
    await start(pool, folder)
    await write(pool, 30)
    assert await indexes(pool) == {L2A: 1}
    await ensure_collections(pool, ["sentinel-1-slc"])
    await write(pool, 3, "sentinel-1-slc")
    await build_indexes(pool)
    assert await indexes(pool) == {L2A: 1, "sentinel-1-slc": 1}


async def test_an_index_goes_with_its_word_in_the_file_and_others_stay(pool: Pool, tmp_path: Path) -> None:
    async with pool.connection() as conn:
        before = await rows(conn, "select name, definition, property_wrapper from pgstac.queryables order by name")
    await start(pool, files(tmp_path, sentinel_2_l2a={"index": [NAME, "gsd"]}, sentinel_2_l1c={"index": [NAME]}))
    await write(pool, 30)
    await write(pool, 30, L1C)
    async with pool.connection() as conn:
        (partition,) = await rows(conn, "select partition from pgstac.partition_stats where collection = $1", L2A)
        await conn.execute(f"create index by_hand on pgstac.{partition['partition']} (upper(id))".encode())
    assert (await indexes(pool), await indexes(pool, "gsd")) == ({L2A: 1, L1C: 1}, {L2A: 1})
    await start(pool, files(tmp_path, sentinel_2_l2a={"index": ["gsd"]}, sentinel_2_l1c={"index": [NAME]}))
    assert (await indexes(pool), await indexes(pool, "gsd")) == ({L1C: 1}, {L2A: 1})
    await start(pool, files(tmp_path))
    assert (await indexes(pool), await indexes(pool, "gsd")) == ({}, {})
    async with pool.connection() as conn:
        assert (
            await rows(conn, "select name, definition, property_wrapper from pgstac.queryables order by name") == before
        )
        assert await rows(conn, "select 1 as one from pg_indexes where indexname = 'by_hand'") == [{"one": 1}]
        assert await rows(conn, "select * from pgstac.query_queue") == []


async def test_a_start_without_news_changes_nothing(pool: Pool, tmp_path: Path) -> None:
    folder = files(
        tmp_path, sentinel_2_l2a={"index": [NAME], "title": "Ours", "queryables": {"mine:score": {"type": "integer"}}}
    )
    await start(pool, folder)
    async with pool.connection() as conn:
        before = await rows(conn, "select id, xmin::text from pgstac.queryables order by id")
        await start(pool, folder)
        await adopt_files(pool, None)
        await ensure_collections(pool)
        assert await rows(conn, "select id, xmin::text from pgstac.queryables order by id") == before


async def test_own_queryables_are_read_as_they_say(pool: Pool, tmp_path: Path) -> None:
    schema = {"title": "Score", "type": "integer", "minimum": 0}
    await start(pool, files(tmp_path, sentinel_2_l2a={"queryables": {"mine:score": schema}, "index": ["mine:score"]}))
    await write(pool, 40)
    assert await indexes(pool, "mine:score") == {L2A: 1}
    async with pool.connection() as conn:
        (row,) = await rows(conn, "select * from pgstac.queryables where name = 'mine:score'")
    assert (row["definition"], row["property_wrapper"], row["collection_ids"]) == (schema, "to_float", [L2A])


async def test_documents_are_patched_and_put_back(pool: Pool, tmp_path: Path) -> None:
    async def title(name: str) -> Any:
        async with pool.connection() as conn:
            found = await rows(conn, "select content ->> 'title' as title from pgstac.collections where id = $1", name)
        return found[0]["title"] if found else None

    own = {**collections()[L1C], "id": "mine", "title": "Mine"}
    await start(pool, files(tmp_path, sentinel_2_l2a={"title": "Other"}, mine=own))
    assert (await title(L2A), await title("mine")) == ("Other", "Mine")
    await ensure_collections(pool)  # by a process that knows no folder
    assert await title(L2A) == "Other"
    await start(pool, files(tmp_path))
    assert await title(L2A) == collections()[L2A]["title"]


@pytest.mark.parametrize(
    "content",
    [
        [], "text", {"id": "another"}, {"index": "eo:cloud_cover"}, {"index": [7]}, {"index": [""]}, {"index": ["a"] * 17},
        {"queryables": []}, {"queryables": {"a": 7}}, {"index": ["a\0"]},
    ],
)  # fmt: skip
async def test_a_wrong_file_is_named(tmp_path: Path, content: Any) -> None:
    with pytest.raises(SourceInvalid, match=r"sentinel-2-l2a\.json"):
        read_files(files(tmp_path, sentinel_2_l2a=content))


def test_a_patch_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceInvalid, match="whole STAC Collection"):
        read_files(files(tmp_path, nowhere={"title": "x"}))
    assert read_files(files(tmp_path, nowhere={"index": ["x"]}))
    (tmp_path / "broken.json").write_text("{", encoding="utf-8")
    with pytest.raises(SourceInvalid, match=r"broken\.json"):
        read_files(tmp_path)
