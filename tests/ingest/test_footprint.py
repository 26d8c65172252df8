"""Footprints: valid, closed, two-dimensional, split at the antimeridian, or refused."""

from __future__ import annotations

from typing import Any

import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import box, shape

from ingest.errors import RecordRejected
from ingest.footprint import clean


def polygon(*points: tuple[float, ...]) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [[list(point) for point in points]]}


SQUARE = [(10, 50), (11, 50), (11, 51), (10, 51), (10, 50)]


def test_a_sound_polygon_keeps_its_coordinates() -> None:
    geometry, bbox = clean(polygon(*SQUARE))
    assert geometry == polygon(*SQUARE)
    assert bbox == [10, 50, 11, 51]


@pytest.mark.parametrize(
    "points",
    [SQUARE[::-1], SQUARE[:-1], [(*point, 5.0) for point in SQUARE], [SQUARE[0], *SQUARE]],
    ids=["clockwise", "open", "heights", "doubled corner"],
)
def test_small_faults_are_repaired(points: list[tuple[float, ...]]) -> None:
    geometry, bbox = clean({**polygon(*points), "crs": {"type": "name"}})
    assert shape(geometry).equals(box(10, 50, 11, 51))
    assert shape(geometry).exterior.is_ccw
    assert set(geometry) == {"type", "coordinates"}
    assert bbox == [10, 50, 11, 51]


CROSSINGS = {
    "jump": [(179, 10), (-179, 10), (-179, 12), (179, 12), (179, 10)],
    "beyond 180": [(179, 10), (181, 10), (181, 12), (179, 12), (179, 10)],
    "below -180": [(-181, 10), (-179, 10), (-179, 12), (-181, 12), (-181, 10)],
    "jump, clockwise": [(179, 10), (179, 12), (-179, 12), (-179, 10), (179, 10)],
}


@pytest.mark.parametrize("points", CROSSINGS.values(), ids=CROSSINGS)
def test_crossing_the_antimeridian_is_split(points: list[tuple[float, float]]) -> None:
    geometry, bbox = clean(polygon(*points))
    assert geometry["type"] == "MultiPolygon"
    assert shape(geometry).equals(box(179, 10, 180, 12).union(box(-180, 10, -179, 12)))
    assert bbox == [179, 10, -179, 12]
    assert not shape(geometry).intersects(shapely.Point(0, 11))


def test_a_multipolygon_cut_at_180_stays() -> None:
    parts = [
        [list(map(list, box(179, 10, 180, 12).exterior.coords))],
        [list(map(list, box(-180, 10, -179, 12).exterior.coords))],
    ]
    geometry, bbox = clean({"type": "MultiPolygon", "coordinates": parts})
    assert shape(geometry).area == pytest.approx(4)
    assert bbox == [179, 10, -179, 12]


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("turn", [1, -1])
def test_a_ring_around_a_pole_reaches_it(sign: int, turn: int) -> None:
    points = [(float(lon) * turn, 80.0 * sign) for lon in range(-180, 180, 30)]
    geometry, bbox = clean(polygon(*points, points[0]))
    assert shape(geometry).is_valid
    assert bbox[0:3:2] == [-180, 180]
    assert 90.0 * sign in (bbox[1], bbox[3])
    assert shape(geometry).contains(shapely.Point(7, 85 * sign))
    assert not shape(geometry).contains(shapely.Point(7, 75 * sign))


def test_a_bow_tie_becomes_its_two_parts() -> None:
    geometry, _ = clean(polygon((0, 0), (2, 2), (2, 0), (0, 2), (0, 0)))
    assert shape(geometry).is_valid
    assert shape(geometry).area == pytest.approx(2)


@pytest.mark.parametrize(
    "geometry", [None, {}, {"type": "MultiPolygon", "coordinates": []}, polygon(*[(1, 1), (2, 2), (3, 3), (1, 1)])]
)
def test_nothing_is_missing(geometry: Any) -> None:
    with pytest.raises(RecordRejected) as caught:
        clean(geometry)
    assert caught.value.code == "footprint-missing"


BAD = [
    [], "POLYGON", {"type": "Point", "coordinates": [1, 2]}, {"type": "Polygon"}, {"type": "Polygon", "coordinates": [[]]},
    polygon((1, 95), (2, 95), (2, 96)), polygon((1e308, 0), (2, 0), (2, 1)), polygon((float("nan"), 0), (2, 0), (2, 1)),
    polygon((1, 0), (2, 0)), {"type": "Polygon", "coordinates": [[["a", "b"], [1, 2], [3, 4]]]},
    {"type": "Polygon", "coordinates": [[[True, 1], [1, 2], [3, 4]]]}, {"type": "Polygon", "coordinates": {"0": 1}},
    {"type": "GeometryCollection", "geometries": []},
]  # fmt: skip


@pytest.mark.parametrize("geometry", BAD)
def test_what_cannot_be_understood_is_refused(geometry: Any) -> None:
    with pytest.raises(RecordRejected):
        clean(geometry)


@given(st.lists(st.tuples(st.floats(-400, 400), st.floats(-90, 90)), min_size=3, max_size=9))
def test_any_ring_gives_a_valid_shape_or_a_refusal(points: list[tuple[float, float]]) -> None:
    try:
        geometry, bbox = clean(polygon(*points))
    except RecordRejected:
        return
    found = shape(geometry)
    assert found.is_valid
    assert not found.is_empty
    west, south, east, north = found.bounds
    assert -180 <= west <= east <= 180
    assert [bbox[1], bbox[3]] == [south, north]
