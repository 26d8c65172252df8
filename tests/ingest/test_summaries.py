"""Summaries: pure ones by Hypothesis, those in the database by writers, deletions and a making anew beside them."""

from __future__ import annotations

import asyncio
import copy
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from db.pools import Pool
from db.queries import sql
from ingest.collection_files import ensure_collections
from ingest.repacking import pack_waiting
from ingest.store import delete_items, lock_items, write_items
from ingest.summaries import LONGEST_VALUE, MOST_VALUES, merged, summarise, summary_of
from ingest.summary_making import rebuild_all, rebuild_due
from tests.api.corpus import L1C, L2A, odd_item

Item = dict[str, Any]

NUMBERS = st.one_of(st.integers(-(10**9), 10**9), st.floats(-1e6, 1e6, allow_nan=False))
VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), NUMBERS, st.sampled_from(["", "a", "b", "é", "2026-01-01"]),
        st.just("2026-01-01T00:00:00Z"), st.just({"x": 1}),
    ),
    lambda inner: st.lists(inner, max_size=3), max_leaves=6,
)  # fmt: skip
PROPERTIES = st.dictionaries(st.sampled_from(["one", "two", "three", "datetime"]), VALUES, max_size=4)
LONGITUDES, LATITUDES = st.floats(-180, 180), st.floats(-90, 90)
BOXES = st.one_of(
    st.none(),
    st.just([1, 2]),
    st.builds(lambda w, s, e, n: [w, min(s, n), e, max(s, n)], LONGITUDES, LATITUDES, LONGITUDES, LATITUDES),
)
ITEMS = st.lists(st.tuples(PROPERTIES, BOXES), max_size=12)


def of(items: list[tuple[Item, Any]]) -> Item:
    when = [datetime(2026, 1, 1 + number % 28, tzinfo=UTC) for number in range(len(items))]
    first, last = (min(when), max(when)) if items else (None, None)
    return summarise([one for one, _ in items], [box for _, box in items], first, last)


def told(summary: Item) -> Item:
    """A summary but for the time, which `of` invents."""
    return {name: value for name, value in summary.items() if name != "interval"}


@given(ITEMS, st.integers(0, 12))
def test_two_lots_merged_are_all(items: list[tuple[Item, Any]], cut: int) -> None:
    assert told(merged(of(items[:cut]), of(items[cut:]))) == told(of(items))
    assert told(merged(of(items), of(items[cut:]))) == told(of(items)), "items twice change nothing"


@given(ITEMS)
def test_a_summary_holds_for_each_item(items: list[tuple[Item, Any]]) -> None:
    summary = of(items)
    for properties, box in items:
        for name, value in properties.items():
            if value is None:
                continue
            one = summary["properties"][name]
            if "values" in one and isinstance(value, str):
                assert value in one["values"]
            if isinstance(value, int | float) and not isinstance(value, bool) and name != "datetime":
                assert one["minimum"] <= value <= one["maximum"]
        if box and len(box) == 4:
            west, south, east, north = summary["bbox"]
            assert (south <= box[1], box[3] <= north, west <= box[0], box[2] <= east) == (True,) * 4


def test_many_or_long_texts_are_not_told() -> None:
    many = summarise([{"name": f"value {n}"} for n in range(MOST_VALUES + 1)], [], None, None)
    long = summarise([{"name": "x" * (LONGEST_VALUE + 1)}], [], None, None)
    few = summarise([{"name": f"value {n}"} for n in range(MOST_VALUES)], [], None, None)
    assert many == long == {"properties": {"name": {"types": ["string"]}}}
    assert len(few["properties"]["name"]["values"]) == MOST_VALUES


@pytest.fixture
async def filled(pool: Pool) -> Pool:
    await ensure_collections(pool)
    return pool


async def write(pool: Pool, *items: Item) -> None:
    async with pool.connection() as conn, conn.transaction():
        await lock_items(conn, items[0]["collection"])
        await write_items(conn, items[0]["collection"], list(items), {})


async def known(pool: Pool, collection: str = L2A) -> Any:
    async with pool.connection() as conn:
        return await (await conn.execute(sql("summaries.read"), (collection,))).fetchone()


def item(number: int, **properties: Any) -> Item:
    one = copy.deepcopy(odd_item(number * 3))  # of Sentinel-2 L2A
    one["properties"] |= properties
    return one


def whole(*items: Item) -> Item:
    when = [datetime.fromisoformat(one["properties"]["datetime"]) for one in items]
    ends = [
        datetime.fromisoformat(one["properties"].get("end_datetime", one["properties"]["datetime"])) for one in items
    ]
    return summary_of(items, min(when), max(ends))


async def test_writers_widen_the_summary_in_their_transaction(filled: Pool) -> None:
    items = [item(number, platform=f"platform-{number // 4}") for number in range(12)]
    await write(filled, *items[:4])
    assert (await known(filled))["summary"] == whole(*items[:4])
    await write(filled, *items[4:])
    assert (await known(filled))["summary"] == whole(*items)
    async with filled.connection() as conn, conn.transaction(force_rollback=True):
        await lock_items(conn, L2A)
        await write_items(conn, L2A, [item(40, platform="never")], {})
    assert (await known(filled))["summary"] == whole(*items)
    assert await known(filled, L1C) is None


async def test_a_page_with_nothing_new_writes_nothing(filled: Pool) -> None:
    await write(filled, *(item(number) for number in range(10)))
    async with filled.connection() as conn:
        before = await (await conn.execute("select xmin::text from federator.collection_summary")).fetchall()
        await write(filled, *(item(number) for number in range(10)))
        assert await (await conn.execute("select xmin::text from federator.collection_summary")).fetchall() == before


@pytest.mark.parametrize("slice_size", [2, 5000])
async def test_it_is_made_anew_when_items_are_gone(filled: Pool, slice_size: int) -> None:
    items = [item(number, platform=f"platform-{number}") for number in range(9)]
    await write(filled, *items)
    async with filled.connection() as conn, conn.transaction():
        await delete_items(conn, L2A, [one["id"] for one in items[5:]], {})
    while await rebuild_due(filled, 0, slice_size=slice_size):
        await asyncio.sleep(0.05)
    async with filled.connection() as conn:  # PostgreSQL counts changes some time after they are made
        await conn.execute(sql("summaries.begin_soon"), (None,))
    while await rebuild_due(filled, 1e6, slice_size=slice_size):
        pass
    assert (await known(filled))["summary"] == whole(*items[:5])


async def test_what_is_written_while_it_is_made_anew_is_in_it(filled: Pool) -> None:
    items = [item(number, platform=f"platform-{number}") for number in range(12)]
    await write(filled, *items[:8])
    async with filled.connection() as conn:
        await conn.execute(sql("summaries.begin_soon"), ([L2A],))
    await rebuild_due(filled, 1e6, slice_size=2, round_s=0)  # begun, nothing read
    assert (await known(filled))["rebuilding"] == {"properties": {}}
    await write(filled, *items[8:])
    while await rebuild_due(filled, 1e6, slice_size=2):
        pass
    assert await known(filled) == {"summary": whole(*items), "rebuilding": None}


async def test_a_private_item_leaves_the_summary(filled: Pool) -> None:
    items = [item(number, platform=f"platform-{number}") for number in range(4)]
    await write(filled, *items)
    async with filled.connection() as conn:
        await conn.execute("update pgstac.items set private = '{\"readers\": []}' where id = $1", (items[0]["id"],))
    assert await rebuild_due(filled, 1e6) == 0
    assert (await known(filled))["summary"]["properties"]["platform"]["values"] == [
        "platform-1",
        "platform-2",
        "platform-3",
    ]


async def test_a_private_item_that_is_written_anew_tells_nothing_and_makes_nothing_anew(filled: Pool) -> None:
    items = [item(number, platform=f"platform-{number}") for number in range(4)]
    await write(filled, *items)
    async with filled.connection() as conn:
        await conn.execute("update pgstac.items set private = '{\"readers\": []}' where id = $1", (items[0]["id"],))
    assert await rebuild_due(filled, 1e6) == 0
    before = await known(filled)
    await write(filled, item(0, platform="secret"))
    assert await known(filled) == before
    async with filled.connection() as conn:
        row = await (
            await conn.execute("select rebuilt_at from federator.collection_summary where collection_id = $1", (L2A,))
        ).fetchone()
    assert row is not None and row["rebuilt_at"] is not None  # noqa: PT018


async def test_a_property_of_texts_and_numbers_is_not_summed_up_in_the_collection(filled: Pool) -> None:
    await write(filled, item(0, platform="a", mixed="3.14"), item(1, platform="b", mixed=3.14))
    async with filled.connection() as conn:
        asked = "select federator.described('{}', summary) as shown from federator.collection_summary where collection_id = $1"
        row = await (await conn.execute(asked, (L2A,))).fetchone()
    assert row is not None
    assert row["shown"]["summaries"]["platform"] == ["a", "b"]
    assert "mixed" not in row["shown"]["summaries"]


async def test_nothing_is_told_of_what_was_there_before_until_it_was_read(filled: Pool) -> None:
    items = [item(number, platform=f"platform-{number}") for number in range(4)]
    await write(filled, *items[:3])
    async with filled.connection() as conn:  # as the migration leaves it
        await conn.execute("update federator.collection_summary set summary = null, rebuilt_at = null")
    await write(filled, items[3])
    assert (await known(filled))["summary"] is None
    assert await rebuild_due(filled, 1e6) == 0
    assert (await known(filled))["summary"] == whole(*items)


async def test_items_that_another_program_stores_are_added(filled: Pool) -> None:
    await write(filled, item(0, platform="ours"))
    other = item(1, platform="theirs")
    async with filled.connection() as conn:
        await conn.execute("select pgstac.create_item($1)", (Jsonb(other),))
    assert await pack_waiting(filled)
    assert (await known(filled))["summary"]["properties"]["platform"]["values"] == ["ours", "theirs"]


async def test_two_at_a_making_anew_do_not_disturb_each_other(filled: Pool) -> None:
    items = [item(number, platform=f"platform-{number}") for number in range(20)]
    await write(filled, *items)
    assert set(await asyncio.gather(rebuild_all(filled), rebuild_all(filled, [L2A]))) == {1}
    assert await known(filled) == {"summary": whole(*items), "rebuilding": None}
