"""Rows are those that pypgstac's loader would write."""

from __future__ import annotations

from typing import Any

import pytest
import shapely
from hypothesis import assume, given
from hypothesis import strategies as st
from pypgstac.hydration import dehydrate
from shapely.geometry import shape

from ingest.rows import ewkb, stripped

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from(["a", "b", ""]))
VALUES: Any = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from("abcdef"), VALUES, max_size=6)


def agree(base: Any, item: Any) -> bool:
    """True when no member is an object or a list on one side only: there pypgstac raises, or makes keys that are no text."""
    if isinstance(base, dict) and isinstance(item, dict):
        return all(
            agree(base[key], item[key]) for key in base if key in item and item[key] is not None and item[key] != []
        )
    if isinstance(base, list) and isinstance(item, list):
        return len(base) != len(item) or all(agree(one, other) for one, other in zip(base, item, strict=True))
    kinds = [next((kind for kind in (dict, list) if isinstance(one, kind)), None) for one in (base, item)]
    return kinds[0] is kinds[1]


@given(OBJECTS, OBJECTS)
def test_dehydration_is_that_of_pypgstac(base: dict[str, Any], item: dict[str, Any]) -> None:
    assume(agree(base, item))
    assert stripped(base, item) == dehydrate(base, item)


@given(OBJECTS, OBJECTS)
def test_dehydrating_never_fails(base: dict[str, Any], item: dict[str, Any]) -> None:
    assert set(stripped(base, item)) <= {*base, *item}


def test_an_object_where_the_base_has_a_plain_value_is_kept() -> None:
    assert stripped({"a": 1, "b": 2}, {"a": {"c": 3}, "b": 2}) == {"a": {"c": 3}}


NUMBERS = st.floats(-180, 180, allow_nan=False)


@given(
    st.lists(
        st.lists(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=3, max_size=6), min_size=1, max_size=2),
        min_size=1,
        max_size=3,
    )
)
def test_polygons_are_packed_as_shapely_does(parts: list[list[list[tuple[float, float]]]]) -> None:
    closed = [[[*ring, ring[0]] for ring in part] for part in parts]
    for geometry in ({"type": "Polygon", "coordinates": closed[0]}, {"type": "MultiPolygon", "coordinates": closed}):
        assert ewkb(geometry) == shapely.to_wkb(shapely.set_srid(shape(geometry), 4326), include_srid=True)


@pytest.mark.parametrize(
    "geometry",
    [
        {"type": "Point", "coordinates": [1.5, 2.5, 9.0]},
        {"type": "LineString", "coordinates": [[0, 0], [1, 1]]},
        {"type": "Polygon", "coordinates": [[[0, 0, 7], [1, 0, 7], [1, 1, 7], [0, 0, 7]]]},
        {"type": "MultiPolygon", "coordinates": [[[[0, 0, 7], [1, 0, 7], [1, 1, 7], [0, 0, 7]]]]},
        {"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": [1, 2, 3]}]},
        {"type": "GeometryCollection", "geometries": [{"type": "MultiPoint", "coordinates": [[1, 2]]}]},
    ],
)
def test_other_geometries_and_heights(geometry: dict[str, Any]) -> None:
    back = shapely.from_wkb(ewkb(geometry))
    assert shapely.get_srid(back) == 4326
    assert back.equals_exact(shape(geometry))
    assert back.has_z == shape(geometry).has_z
