"""Kept pictures from afar: which are marked when items come, change and go, and what is taken for good of what was drawn."""

from __future__ import annotations

from typing import Any

import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from db.pools import Connection, Pool
from ingest.collection_files import ensure_collections
from ingest.overviews.cells import MOST, within
from ingest.overviews.density import keep_density
from ingest.overviews.stale import FINEST, marks_of
from ingest.store import delete_items, lock_items, write_items
from tests.ingest.test_density import COLLECTION, footprint, made, places
from tests.size import sized


def expanded(marks: dict[tuple[int, int, int], bool]) -> dict[tuple[int, int], bool]:
    found: dict[tuple[int, int], bool] = {}
    for (level, x, y), is_gone in marks.items():
        side = 1 << (FINEST - level)
        for place in ((x * side + across, y * side + down) for across in range(side) for down in range(side)):
            found[place] = found.get(place, False) or is_gone
    return found


@settings(max_examples=sized(25, 250), deadline=None)
@given(st.lists(st.tuples(places, st.booleans()), max_size=3))
def test_whatever_shows_a_footprint_is_marked(footprints: list[tuple[shapely.Geometry, bool]]) -> None:
    found = expanded(marks_of((shapely.to_wkb(place), is_gone) for place, is_gone in footprints))
    for place, is_gone in footprints:
        cells = within([place], FINEST)
        if len(cells) != MOST + 1:  # which also stands for too many
            assert set(cells) <= set(found)
            assert all(found[cell] for cell in cells if is_gone)
    if not any(is_gone for _, is_gone in footprints):
        assert not any(found.values())


@pytest.fixture
async def kept(pool: Pool, conn: Connection) -> Connection:
    await ensure_collections(pool)
    assert await rows(conn, "select federator.keep_overview($1) as is_new", COLLECTION) == [(True,)]
    return conn


async def rows(conn: Connection, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    cursor = await conn.execute(statement.encode(), values)
    return [tuple(row.values()) for row in await cursor.fetchall()] if cursor.description else []


async def dirty(conn: Connection) -> dict[tuple[int, int], bool]:
    found = await rows(conn, "select x, y, is_gone from federator.overview_dirty where level = 8")
    return {(x, y): is_gone for x, y, is_gone in found}


async def write(conn: Connection, *documents: dict[str, Any]) -> None:
    async with conn.transaction():
        await lock_items(conn, COLLECTION)
        await write_items(conn, COLLECTION, list(documents), {one["id"]: None for one in documents})


async def test_items_that_come_change_move_and_go_mark_where_they_are(pool: Pool, kept: Connection) -> None:
    async def marked() -> dict[tuple[int, int], bool]:
        await keep_density(pool)
        found = await dirty(kept)
        await kept.execute("delete from federator.overview_dirty")
        return found

    there, moved = footprint(0.1, 0.1, 1, 1), footprint(20.1, 0.1, 1, 1)
    cells = dict.fromkeys(within([there], 8), False)
    await write(kept, made(1, there))
    assert await marked() == cells
    document = made(1, there)
    document["assets"] = {"data": {"href": "https://example.org/other.tif"}}
    await write(kept, document)
    assert await marked() == dict.fromkeys(cells, True), "the same place, another picture"
    document = made(1, moved)
    document["assets"] = {"data": {"href": "https://example.org/other.tif"}}
    await write(kept, document)
    found = await marked()
    assert set(found) == {*cells, *within([moved], 8)}
    assert all(found[cell] for cell in cells), "it is not there any more"
    await kept.execute("update pgstac.items set private = '{\"readers\": []}'")
    assert all((await marked()).values())
    await kept.execute('update pgstac.items set private = \'{"readers": ["user:ann"]}\'')
    assert await marked() == {}, "what nobody sees there changes nothing"
    await kept.execute("update pgstac.items set private = null")
    assert await marked() == dict.fromkeys(within([moved], 8), False)
    async with kept.transaction():
        await delete_items(kept, COLLECTION, ["item-1"], {})
    assert all((await marked()).values())


async def test_a_collection_that_is_kept_from_now_on_is_drawn_wholly(pool: Pool, conn: Connection) -> None:
    await ensure_collections(pool)
    small, wide = footprint(0.1, 0.1, 1, 1), footprint(40, 10, 30, 8)
    await write(conn, made(1, small), made(2, wide))
    await keep_density(pool)
    await write(conn, made(3, footprint(-50.1, 0.1, 1, 1)))
    await conn.execute("select federator.keep_overview($1)", (COLLECTION,))
    assert {*within([small], 8), *within([wide], 8)} <= set(await dirty(conn))
    await keep_density(pool)
    assert set(within([footprint(-50.1, 0.1, 1, 1)], 8)) <= set(await dirty(conn)), "what had not been counted yet"
    assert await rows(conn, "select federator.keep_overview($1)", COLLECTION) == [(False,)]
    await conn.execute("delete from pgstac.collections where id = $1", (COLLECTION,))
    assert (
        await rows(conn, "select 1 from federator.overview")
        == await rows(conn, "select 1 from federator.overview_dirty")
        == []
    )


async def test_what_was_drawn_before_the_last_change_is_not_taken(kept: Connection) -> None:
    async def mark(gone: str) -> None:
        await kept.execute(
            f"select federator.mark_overviews($1, '{{5}}', '{{3}}', '{{4}}', '{{{gone}}}')".encode(), (COLLECTION,)
        )

    async def taken(level: int, seconds: float = 60) -> list[tuple[Any, ...]]:
        return sorted(
            await rows(kept, "select * from federator.take_overviews($1, $2, 100, $3)", COLLECTION, level, seconds)
        )

    async def stored(x: int, y: int, level: int, number: int) -> bool:
        found = await rows(
            kept,
            "select federator.store_overview($1, $2, $3, $4, $5, 'a picture', null)",
            COLLECTION,
            level,
            x,
            y,
            number,
        )
        return bool(found[0][0])

    await mark("true")
    first = await taken(8)
    assert [one[:2] for one in first] == [(x, y) for x in range(24, 32) for y in range(32, 40)], "all that lies in it"
    assert await taken(8) == [], "others have them"
    await mark("false")
    assert not await stored(*first[0][:2], 8, first[0][2])
    assert await rows(kept, "select 1 from federator.overview_tile") == []
    second = await taken(8, -1)
    assert len(await taken(8)) == 64, "whoever took them has not come back in time"
    assert await stored(*second[0][:2], 8, second[0][2])
    above = "select level, x, y, is_gone from federator.overview_dirty where level < 8"
    assert await rows(kept, above) == [(7, 12, 16, True)], "what has gone has gone from all zooms, whatever came later"
    for level in range(7, -1, -1):
        ((x, y, number),) = await taken(level)
        assert await stored(x, y, level, number)
    await kept.execute("select federator.mark_overviews($1, '{8}', '{24}', '{32}', '{false}')", (COLLECTION,))
    ((x, y, number),) = [one for one in await taken(8, -1) if one[:2] == (24, 32)]
    assert await stored(x, y, 8, number)
    assert await rows(kept, above) == [], "the same picture again changes nothing above"
    for bytes_, thinned, finest in ((900, 1, 7), (560, 3, 4), (0, 1, None)):
        assert await rows(kept, "select federator.thin_overviews($1)", bytes_) == [(thinned,)]
        assert await rows(kept, "select base from federator.overview") == ([(finest,)] if finest else [])
