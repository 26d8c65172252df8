"""Partitions are those that pgstac would have made, by however many at once, or none."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from db.pools import Connection, Pool
from ingest.collection_files import ensure_collections
from ingest.edits.author import Author, in_transaction
from ingest.edits.streams import BATCH, Stream, bulk_of, create_streamed
from ingest.partitions import Partitions, _bounds
from tests.api.editing import item

L1C, L2A = "sentinel-2-l1c", "sentinel-2-l2a"
MONTHS = [datetime(2025, 11 + n, 1, tzinfo=UTC) if n < 2 else datetime(2026, n - 1, 1, tzinfo=UTC) for n in range(4)]
#: What a partition is: itself, its indexes, constraints, triggers and rights, and what pgstac keeps of it.
DESCRIBED = (
    "select relname, relkind, relowner::regrole::text, relacl::text, pg_get_expr(relpartbound, oid), reloptions"
    " from pg_class where relnamespace = 'pgstac'::regnamespace and relname ~ '^_items_' order by 1",
    "select indexrelid::regclass::text, indrelid::regclass::text, pg_get_indexdef(indexrelid), indisunique, indisvalid"
    " from pg_index where indrelid::regclass::text ~ '_items_' order by 1",
    "select conrelid::regclass::text, conname, pg_get_constraintdef(oid), convalidated from pg_constraint"
    " where conrelid::regclass::text ~ '_items_' order by 1, 2",
    "select tgrelid::regclass::text, tgname, tgenabled, tgfoid::regproc::text from pg_trigger"
    " where tgrelid::regclass::text ~ '_items_' and not tgisinternal order by 1, 2",
    "select inhrelid::regclass::text, inhparent::regclass::text from pg_inherits order by 1, 2",
    "select (to_jsonb(s) - 'last_updated')::text from pgstac.partition_stats as s order by partition",
    "select query from pgstac.query_queue order by 1",
)


class _RolledBack(Exception):
    pass


@pytest.fixture
async def conn(pool: Pool) -> AsyncIterator[Connection]:
    await ensure_collections(pool)
    async with pool.connection() as conn:
        yield conn


async def _described(conn: Connection, function: str, before: str) -> list[Any]:
    """The catalogue after partitions were made by a function, and one of them was asked for again, wider."""
    found: list[Any] = []
    with contextlib.suppress(_RolledBack):
        async with conn.transaction():
            await conn.execute(before.encode())
            for when in [*MONTHS, MONTHS[0]]:
                first, last = _bounds(when, "month")
                ends = last + timedelta(days=40 if found else 31)
                query = f"select {function}($1, tstzrange($2, $3, '[]'), tstzrange($2, $4, '[]')) as name"
                made = await (await conn.execute(query.encode(), (L2A, first, last, ends))).fetchone()
                found.append(made)
            for query in DESCRIBED:
                found.append(await (await conn.execute(query.encode())).fetchall())
            raise _RolledBack
    return found


@pytest.mark.parametrize(
    "before",
    [
        "select",
        "select pgstac.upsert_queryable('eo:cloud_cover', '{\"type\": \"number\"}', null, 'BTREE')",
        f"update pgstac.collections set partition_trunc = 'year' where id = '{L2A}'",
        f"update pgstac.collections set partition_trunc = null where id = '{L2A}'",
        "select set_config('pgstac.use_queue', 'true', true)",
        "select set_config('pgstac.update_collection_extent', 'true', true)",
        "set local timezone = 'America/Lima'",
        "update pgstac.migrations set version = '0.10.99' where version = '0.10.0'",
    ],
)
async def test_partitions_are_made_as_pgstac_makes_them(conn: Connection, before: str) -> None:
    theirs = await _described(conn, "pgstac.check_partition", before)
    ours = await _described(conn, "federator.make_partition", before)
    assert len(theirs[5]) > 1
    assert ours == theirs


async def test_pgstac_is_the_one_that_partitions_were_held_against(conn: Connection) -> None:
    """Another one makes its partitions itself: to be compared (`check_partition` in its migration), and named in a new function."""
    source = (
        "select position(pgstac.get_version() in prosrc) > 0 as is_named from pg_proc where proname = 'make_partition'"
    )
    assert await (await conn.execute(source.encode())).fetchall() == [{"is_named": True}]


async def test_what_pgstac_refuses_is_refused(conn: Connection) -> None:
    with pytest.raises(Exception, match="does not exist"):
        await _described(conn, "federator.make_partition", f"delete from pgstac.collections where id = '{L2A}'")


@dataclass(frozen=True)
class _Span:
    start: datetime
    end: datetime


def _spans(days: list[tuple[int, int]]) -> list[_Span]:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    spans = [_Span(begin + timedelta(days=day), begin + timedelta(days=day + length)) for day, length in days]
    return sorted(spans, key=lambda span: span.start)


@given(lots=st.lists(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 90)), max_size=5), max_size=4))
@settings(max_examples=15)
def test_rows_fit_into_the_partitions_that_they_are_told(lots: list[list[tuple[int, int]]]) -> None:
    """Without a database: it answers as one would that has no partition yet."""

    class _Connection:
        def __init__(self) -> None:
            self.made: dict[str, tuple[datetime, datetime, datetime]] = {}

        async def execute(self, query: str, parameters: Any) -> Any:
            rows = []
            for number, *bounds in zip(*parameters[1:], strict=True):
                name = f"{bounds[0]:%Y%m}"
                is_there = name in self.made and self.made[name][2] >= bounds[2]
                if not is_there and "make_partition" in query:
                    self.made[name] = (bounds[0], bounds[1], max(bounds[2], self.made.get(name, bounds)[2]))
                    is_there = True
                if is_there:
                    rows.append({"number": number, "partition": name})
            return _Cursor(rows)

    class _Cursor:
        def __init__(self, rows: list[Any]) -> None:
            self.rows = rows

        async def fetchall(self) -> list[Any]:
            return self.rows

    async def walk() -> None:
        database = _Connection()
        partitions = Partitions(database, L2A, "month")  # type: ignore[arg-type]
        for lot in lots:
            spans = _spans(lot)
            found = await partitions.of(spans)
            assert [span for name in sorted(found) for span in found[name]] == spans
            for name, members in found.items():
                first, last, latest_end = database.made[name]
                assert all(first <= span.start <= last and span.end <= latest_end for span in members)

    asyncio.run(walk())


def _stream(collection: str, prefix: str, months: list[int]) -> Stream:
    sent = {}
    for n in range(BATCH):
        one = item(f"{prefix}-{n:04}", within=collection, assets=1)
        one["properties"]["datetime"] = f"2024-{months[n % len(months)]:02}-0{1 + n % 9}T00:00:00Z"
        sent[one["id"]] = one
    bulk = bulk_of(orjson.dumps({"items": sent}))
    assert bulk is not None
    return Stream(collection, bulk.items, "", lambda document: document)


async def test_requests_that_make_the_same_partitions_do_not_stand_in_each_other_s_way(pool: Pool) -> None:
    """In other orders, and in collections that had none: each request is stored at its first attempt."""
    await ensure_collections(pool)
    streams = [
        _stream(L2A, "a", [1, 2, 3, 4]),
        _stream(L2A, "b", [4, 3, 2, 1]),
        _stream(L1C, "c", [3, 1, 4, 2]),
        _stream(L1C, "d", [2, 4, 1, 3]),
    ]
    attempts = 0

    async def store(stream: Stream) -> None:
        async def work(conn: Connection) -> None:
            nonlocal attempts
            attempts += 1
            await create_streamed(conn, Author("user:test", ("role:admin",)), stream)

        await in_transaction(pool, work)

    await asyncio.gather(*map(store, streams))
    assert attempts == len(streams)
    async with pool.connection() as conn:
        found = await (await conn.execute("select collection, count(*) as n from pgstac.items group by 1")).fetchall()
    assert {row["collection"]: row["n"] for row in found} == {L1C: 2 * BATCH, L2A: 2 * BATCH}


async def test_partitions_of_a_request_that_fails_are_taken_back(conn: Connection) -> None:
    count = "select count(*) as n from pgstac.partition_stats"
    before = await (await conn.execute(count)).fetchall()
    with contextlib.suppress(_RolledBack):
        async with conn.transaction():
            await create_streamed(conn, Author("user:test", ("role:admin",)), _stream(L2A, "a", [5, 6, 7]))
            assert await (await conn.execute(count)).fetchall() != before
            raise _RolledBack
    assert await (await conn.execute(count)).fetchall() == before
