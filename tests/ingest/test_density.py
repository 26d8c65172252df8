"""Kept density of footprints: what has come and gone since makes the same as counting all again."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import mapping

from db.pools import Connection, Pool
from ingest.collection_files import ensure_collections
from ingest.overviews.cells import FIRST, LAST, MOST, cells_of
from ingest.overviews.density import keep_density, summed
from ingest.store import delete_items, lock_items, write_items
from tests.api.editing import item
from tests.size import sized

COLLECTION = "sentinel-2-l2a"


def footprint(lon: float, lat: float, width: float, height: float) -> shapely.Geometry:
    return shapely.box(lon, lat, min(180, lon + width), min(90, lat + height))


places = st.builds(
    footprint, st.floats(-180, 179), st.floats(-89, 88), st.floats(0.001, 300), st.floats(0.001, 100)
)  # fmt: skip


@settings(max_examples=sized(40, 400), deadline=None)
@given(places)
def test_cells_of_a_level_are_the_parents_of_those_of_the_next(place: shapely.Geometry) -> None:
    levels = cells_of(shapely.to_wkb(place))
    for number, (coarse, fine) in enumerate(pairwise(levels)):
        assert {(x >> 1, y >> 1) for x, y in fine} <= set(coarse), FIRST + number
    assert all(len(cells) <= MOST for cells in levels[1:])
    if place.bounds[1] < 85 and place.bounds[3] > -85:
        assert levels, "whatever is within the pyramid is at its first level"


@settings(max_examples=sized(30, 300), deadline=None)
@given(st.lists(st.tuples(places, st.integers(-2, 3)), max_size=3))
def test_what_comes_and_goes_leaves_nothing(steps: list[tuple[shapely.Geometry, int]]) -> None:
    there = [(shapely.to_wkb(place), times) for place, times in steps]
    total = summed([*there, *((geometry, -times) for geometry, times in there)])
    assert total == {}


def test_a_footprint_on_both_sides_of_the_antimeridian_is_in_the_cells_at_both_ends() -> None:
    both = shapely.MultiPolygon([footprint(179.9, 10, 0.1, 0.1), footprint(-180, 10, 0.1, 0.1)])
    assert {x for x, _ in cells_of(shapely.to_wkb(both))[0]} == {0, 15}
    assert len(cells_of(shapely.to_wkb(both))) == LAST - FIRST + 1


def made(number: int, place: shapely.Geometry) -> dict[str, Any]:
    document = item(f"item-{number}", COLLECTION)
    document["geometry"], document["bbox"] = mapping(place), list(place.bounds)
    return document


async def cells(conn: Connection) -> dict[tuple[int, int, int], list[int]]:
    rows = await (await conn.execute("select level, x, y, items, wide from federator.footprint_cell")).fetchall()
    return {(row["level"], row["x"], row["y"]): [row["items"], row["wide"]] for row in rows}


async def turn(conn: Connection) -> int:
    cursor = await conn.execute(
        "select coalesce((select touches from federator.collection_turn where collection_id = $1), 0)"
        " + (select count(*) from federator.collection_touch where collection_id = $1) as turn",
        (COLLECTION,),
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row["turn"])


@pytest.fixture
async def collection(pool: Pool) -> None:
    await ensure_collections(pool)


async def test_kept_cells_are_those_of_the_items_that_everybody_may_see(
    pool: Pool, conn: Connection, collection: None
) -> None:
    random = np.random.default_rng(7)
    places = [
        footprint(float(lon), float(lat), float(side), float(side))
        for lon, lat, side in zip(
            random.uniform(-180, 170, 60), random.uniform(-70, 70, 60), random.choice([0.2, 1.1, 40.0], 60), strict=True
        )
    ]
    items = [made(number, place) for number, place in enumerate(places[: sized(20, 60)])]

    async def expected(gone: set[int] = frozenset()) -> dict[tuple[int, int, int], list[int]]:  # type: ignore[assignment]
        there = Counter(
            shapely.to_wkb(place) for number, place in enumerate(places[: len(items)]) if number not in gone
        )
        return summed(there.items())

    before = await turn(conn)
    async with conn.transaction():
        await lock_items(conn, COLLECTION)
        await write_items(conn, COLLECTION, items, {})
    assert await turn(conn) == before + 1
    assert await keep_density(pool) == len(items)
    assert await turn(conn) == before + 1, "adding up changes nothing"
    assert await cells(conn) == await expected()
    # One becomes private, one goes, one moves, one is written again as it was.
    await conn.execute("update pgstac.items set private = '{}' where id = 'item-0'")
    async with conn.transaction():
        await lock_items(conn, COLLECTION)
        await delete_items(conn, COLLECTION, ["item-1"], {})
        places[2] = footprint(5, 5, 1, 1)
        await write_items(conn, COLLECTION, [made(2, places[2]), items[3]], {})
    await keep_density(pool)
    assert await cells(conn) == await expected({0, 1})
    await conn.execute("update pgstac.items set private = null where id = 'item-0'")
    await conn.execute("update pgstac.items set content = content || '{\"a\": 1}' where id = 'item-4'")
    await keep_density(pool)
    assert await cells(conn) == await expected({1})
    assert await turn(conn) == before + 5


async def test_a_collection_that_goes_takes_its_cells_and_what_waits_with_it(
    pool: Pool, conn: Connection, collection: None
) -> None:
    async with conn.transaction():
        await lock_items(conn, COLLECTION)
        await write_items(conn, COLLECTION, [made(1, footprint(1, 1, 1, 1))], {})
    await keep_density(pool)
    async with conn.transaction():
        await lock_items(conn, COLLECTION)
        await write_items(conn, COLLECTION, [made(2, footprint(1, 1, 1, 1))], {})
    await conn.execute("select pgstac.delete_collection($1)", (COLLECTION,))
    assert await cells(conn) == {}
    assert await keep_density(pool) == 0
    assert await cells(conn) == {}
