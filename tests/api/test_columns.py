"""Items become columns whatever is in them, and come back."""

from __future__ import annotations

from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.stac.columns import MOST_LEAVES, Shape, TooWide, rows_of

ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(-1e6, 1e6) | st.text(max_size=5)
    | st.just("2026-01-01T00:00:00Z") | st.just("2026-01-01"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


def item(number: int, **properties: Any) -> dict[str, Any]:
    return {
        "type": "Feature", "stac_version": "1.1.0", "id": f"item {number}", "collection": "c", "bbox": [0, 0, 1, 1.5],
        "geometry": {"type": "Point", "coordinates": [0.5, 1]}, "links": [], "assets": {},
        "properties": {"datetime": "2026-01-01T00:00:00Z", **properties},
    }  # fmt: skip


def table_of(*parts: list[dict[str, Any]]) -> tuple[pa.Table, Shape]:
    """As an export does: learn from all, then make batches."""
    shape, rows = Shape(), [rows_of(orjson.loads(orjson.dumps(part))) for part in parts]
    for one in rows:
        shape.learn(one)
    table = pa.concat_tables([shape.batch(one) for one in rows])
    table.validate(full=True)
    return table, shape


def test_members_that_some_lack_are_null_and_numbers_meet() -> None:
    table, shape = table_of([item(1, a=1, b="x")], [item(2, a=1.5), item(3)])
    assert table["a"].to_pylist() == [1.0, 1.5, None]
    assert table["b"].to_pylist() == ["x", None, None]
    assert pa.types.is_timestamp(table.schema.field("datetime").type)
    assert not shape.as_text


@pytest.mark.parametrize("together", [True, False])
def test_types_that_do_not_meet_become_json_text(together: bool) -> None:
    items = [item(1, a=[1], b={"c": "x"}), item(2, a="y", b={"c": [True]})]
    table, shape = table_of(items) if together else table_of(items[:1], items[1:])
    assert table["a"].to_pylist() == ["[1]", '"y"']
    assert table["b"].to_pylist() == [{"c": '"x"'}, {"c": "[true]"}]
    assert shape.as_text == {("a",), ("b", "c")}


def test_times_that_are_none_stay_texts() -> None:
    table, _ = table_of([item(1, created="2026-01-01T00:00:00Z", updated="soon")])
    assert table["updated"].to_pylist() == ["soon"]
    assert table["created"].to_pylist()[0].year == 2026


def test_boxes_with_heights_and_without_go_together() -> None:
    high = {**item(1), "bbox": [0, 0, 10, 1, 1, 20]}
    table, _ = table_of([high, item(2)])
    assert table["bbox"].to_pylist()[0] == {"xmin": 0, "ymin": 0, "xmax": 1, "ymax": 1, "zmin": 10, "zmax": 20}
    assert table["bbox"].to_pylist()[1]["zmin"] is None


def test_items_that_are_all_different_are_refused() -> None:
    with pytest.raises(TooWide):
        table_of([item(1, **{f"own {n}": n for n in range(MOST_LEAVES)})])


PROPERTIES = st.dictionaries(st.sampled_from(["p", "q", "datetime", "created", "id"]), ANY, max_size=3)


@given(st.lists(st.lists(PROPERTIES, min_size=1, max_size=3), min_size=1, max_size=3))
@settings(deadline=None, max_examples=150)
def test_any_properties_make_a_table_or_are_refused(parts: list[list[dict[str, Any]]]) -> None:
    items = [[item(number, **properties) for number, properties in enumerate(part)] for part in parts]
    try:
        table, shape = table_of(*items)
    except TooWide:
        return
    assert table.num_rows == sum(map(len, parts))
    assert table["id"].to_pylist() == [one["id"] for part in items for one in part]
    for properties, value in zip([one for part in parts for one in part], table.to_pylist(), strict=True):
        if ("p",) in shape.as_text and properties.get("p") is not None:
            assert orjson.loads(value["p"]) == properties["p"]
