"""Items that are stored while others are looked at are stored as if all had been looked at before."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from db.pools import Connection, Pool
from ingest.ahead import ahead
from ingest.collection_files import ensure_collections
from ingest.edits.author import Author
from ingest.edits.batches import ready_items
from ingest.edits.items import create_items
from ingest.edits.streams import BATCH, Bulk, Stream, Unstreamable, _sizes, bulk_of, create_streamed
from ingest.packing import unpack
from tests.api.editing import item

L1C = "sentinel-2-l1c"
WRITER = Author("user:test", ("role:admin",))
STORED = (
    "select id, datetime, end_datetime, geometry::text, content::text, private::text from pgstac.items order by id",
    "select collection, id, body from federator.packed_item order by id",
    "select kind, name, source, collection, item_id, actor_id, body from lineage.event_outbox order by position",
    "select collection_id, summary::text from federator.collection_summary order by 1",
    "select * from federator.edited_collection",
    "select * from federator.unpacked_item",
    "select collection_id, st_astext(unnest(geometries)::geometry) as place from federator.footprint_load order by 1, 2",
    "select collection_id, geometry, step from federator.footprint_change order by id",
)


class _RolledBack(Exception):
    pass


@pytest.fixture
async def conn(pool: Pool) -> Any:
    await ensure_collections(pool)
    async with pool.connection() as conn:
        yield conn


def items(number: int) -> dict[str, dict[str, Any]]:
    """Items of several months that come in no order, small and large, some with things that are stored otherwise than they are sent."""
    made = {}
    for n in range(number):
        one = item(f"i-{n * 37 % number:04}", within=L1C, assets=1 + 30 * (n % 2), nothing=None, whole=float(n))
        when = f"2026-{1 + n % 5:02}-0{1 + n % 7}t00:00:00z"
        one["properties"]["datetime"] = when.upper() if n % 3 else when  # the others are not plain
        one["links"] = [
            {"rel": "self", "href": "https://example.org/x"},
            {"rel": "via", "href": "https://example.org/y"},
        ]
        made[one["id"]] = one
    return made


def stream(sent: dict[str, Any]) -> Stream:
    bulk = bulk_of(orjson.dumps({"items": sent}))
    assert bulk is not None
    return Stream(L1C, bulk.items, "", lambda document: document)


def _read(name: str, value: Any) -> Any:
    """A packed item without the order of its members; what else a column holds as it is."""
    if name == "body" and isinstance(value, bytes):
        text, links = unpack(value)
        return orjson.loads(text), links
    return value


async def stored_by(conn: Connection, write: Callable[[], Awaitable[None]]) -> list[Any]:
    """What a way of storing leaves in the tables, before all of it is taken back."""
    found = []
    with contextlib.suppress(_RolledBack):
        async with conn.transaction():
            await write()
            await conn.execute("set constraints all immediate")
            for query in STORED:
                rows = await (await conn.execute(query)).fetchall()
                found.append([{name: _read(name, value) for name, value in row.items()} for row in rows])
            raise _RolledBack
    return found


async def test_a_stream_stores_what_the_long_way_stores(conn: Connection) -> None:
    sent = items(2 * BATCH + 30)
    ready = ready_items(list(sent.items()), L1C)
    before = await stored_by(conn, lambda: create_items(conn, WRITER, L1C, ready, lambda: None))
    after = await stored_by(conn, lambda: create_streamed(conn, WRITER, stream(sent)))
    assert len(before[0]) == len(sent)
    assert after == before


@pytest.mark.parametrize("wrong", ["content", "id", "there", "text", "rights", "half"])
async def test_whatever_is_wrong_gives_the_stream_up(conn: Connection, wrong: str) -> None:
    sent: dict[str, Any] = items(2 * BATCH)
    author, last = WRITER, next(reversed(sent))
    given = stream(sent)
    match wrong:
        case "content":
            sent[last]["geometry"]["coordinates"][0][-1] = [16.5, 48.5]
        case "id":
            sent["a/b"] = sent.pop(last)
        case "there":
            await create_items(conn, WRITER, L1C, ready_items([(last, sent[last])], L1C), lambda: None)
        case "rights":
            author = Author("user:other", ("user:other",))
        case "text" | "half":
            given.documents[last] = bulk_of(
                b'{"items": {"x": %s}}' % {"text": b'"\xff"', "half": b"1e999"}[wrong]
            ).items["x"]  # type: ignore[index,union-attr]
    if wrong in ("content", "id"):
        given = stream(sent)
    with pytest.raises(Unstreamable):
        async with conn.transaction():
            await create_streamed(conn, author, given)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"items": []}',
        b'{"items": {}, "more": 1}',
        b'{"items": {"\\ud800": 1}}',
        b'{"items": {}',
        b'{"\xff": 1}',
    ],
)
def test_a_body_that_is_not_as_it_should_be_is_left_to_its_reader(body: bytes) -> None:
    assert bulk_of(body) is None


def test_items_of_a_body_are_not_read() -> None:
    found = bulk_of(b'{"method": "upsert", "items": {"a": {"x": [1 , 2]}, "b": null}}')
    assert isinstance(found, Bulk)
    assert {name: bytes(raw) for name, raw in found.items.items()} == {"a": b'{"x": [1 , 2]}', "b": b"null"}
    assert found.method == "upsert"


async def test_what_fails_ahead_fails_when_its_turn_comes() -> None:
    def values() -> Any:
        yield 1
        yield None
        raise psycopg.Error("third")

    async with ahead(values()) as walk:
        assert [await anext(walk), await anext(walk)] == [1, None]
        with pytest.raises(psycopg.Error, match="third"):
            await anext(walk)


async def test_who_leaves_early_waits_for_the_thread() -> None:
    made, begun, may_end = [], threading.Event(), threading.Event()

    def values() -> Any:
        for number in range(5):
            if number == 1:
                begun.set()
                may_end.wait()
            made.append(number)
            yield number

    async def walk_and_leave() -> None:
        async with ahead(values()) as walk:
            assert await anext(walk) == 0
            await asyncio.to_thread(begun.wait)

    leaving = asyncio.ensure_future(walk_and_leave())
    await asyncio.to_thread(begun.wait)
    await asyncio.sleep(0.01)
    assert not leaving.done()
    may_end.set()
    await leaving
    assert made == [0, 1]


async def test_threads_take_turns_as_before_when_all_is_made() -> None:
    usual = sys.getswitchinterval()
    async with ahead(iter([1, 2])) as one, ahead(iter([1, 2])) as other:
        assert [await anext(one), await anext(other)] == [1, 1]
        assert sys.getswitchinterval() == pytest.approx(0.0005)
        assert [value async for value in one] == [2]
        assert sys.getswitchinterval() == pytest.approx(0.0005)
    assert sys.getswitchinterval() == pytest.approx(usual)


async def test_work_begins_before_it_is_asked_for() -> None:
    begun = threading.Event()

    def values() -> Any:
        begun.set()
        yield 1

    async with ahead(values()):
        assert await asyncio.to_thread(begun.wait, 30)


async def test_no_more_are_made_ahead_than_there_is_room_for() -> None:
    made, third = [], threading.Event()

    def values() -> Any:
        for number in range(6):
            made.append(number)
            if number == 3:
                third.set()
            yield number

    async with ahead(values(), 2) as walk:
        assert await anext(walk) == 0
        assert await anext(walk) == 1
        await asyncio.to_thread(third.wait)
        await asyncio.sleep(0.01)
        assert made == [0, 1, 2, 3]
        assert [one async for one in walk] == [2, 3, 4, 5]


@given(st.integers(1, 5 * BATCH))
@settings(max_examples=20)
def test_batches_have_all_items_and_are_small_at_both_ends(number: int) -> None:
    sizes = list(_sizes(number))
    assert sum(sizes) == number
    assert min(sizes) > 0
    assert max(sizes) <= BATCH
    assert max(sizes[0], sizes[-1]) <= 20 or number < BATCH
