"""The fields extension: which members of an item are answered."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from api.stac.fields import DEFAULT, fields_of

ITEM: dict[str, Any] = {
    "type": "Feature", "stac_version": "1.1.0", "id": "i", "collection": "c", "geometry": {"type": "Point", "coordinates": [1, 2]},
    "bbox": [1, 2, 1, 2], "links": [{"rel": "self", "href": "x"}], "assets": {"data": {"href": "y", "roles": ["data"]}},
    "properties": {"datetime": "2026-01-01T00:00:00Z", "gsd": 10, "eo:cloud_cover": 5, "deep": {"a": 1, "b": 2}},
}  # fmt: skip
WHAT_IT_IS = {name: ITEM[name] for name in ("type", "stac_version", "id", "collection")}
PATHS = st.sampled_from(
    [
        "id",
        "geometry",
        "assets",
        "assets.data",
        "properties",
        "properties.gsd",
        "properties.deep.a",
        "none",
        "none.x",
        "",
    ]
)


def test_nothing_named_gives_a_valid_item() -> None:
    found = fields_of([], []).apply(ITEM)
    assert set(found) == set(ITEM)
    assert found["properties"] == {"datetime": "2026-01-01T00:00:00Z"}


def test_only_includes_give_these_and_what_the_item_is() -> None:
    assert fields_of(["properties.gsd"], None).apply(ITEM) == {**WHAT_IT_IS, "properties": {"gsd": 10}}


def test_only_excludes_give_all_but_these() -> None:
    found = fields_of(None, ["geometry", "properties.deep.a"]).apply(ITEM)
    assert "geometry" not in found
    assert found["properties"] == {**ITEM["properties"], "deep": {"b": 2}}


def test_excludes_beside_empty_includes_are_taken_from_the_default() -> None:
    found = fields_of([], ["geometry"], names_include=True).apply(ITEM)
    assert "geometry" not in found
    assert found["properties"] == {"datetime": "2026-01-01T00:00:00Z"}


def test_what_is_included_within_what_is_excluded_is_given() -> None:
    assert fields_of(["properties.gsd"], ["properties"]).apply(ITEM)["properties"] == {"gsd": 10}
    assert "geometry" in fields_of(["geometry"], ["geometry"]).apply(ITEM)


def test_an_excluded_member_of_an_included_object_is_left_out() -> None:
    assert "gsd" not in fields_of(["properties"], ["properties.gsd"]).apply(ITEM)["properties"]


@given(st.lists(PATHS, max_size=4), st.lists(PATHS, max_size=4), st.booleans())
def test_no_fields_change_the_item_or_invent_members(
    include: list[str], exclude: list[str], names_include: bool
) -> None:
    before = copy.deepcopy(ITEM)
    found = fields_of(include, exclude, names_include=names_include).apply(ITEM)
    assert before == ITEM
    assert is_part(found, ITEM)
    for path in {one for one in exclude if one} - {one for one in include if one}:
        if not any(one.startswith(f"{path}.") for one in include):
            assert not has(found, path.split("."))
    for path in (one for one in include if one in DEFAULT and one not in exclude):
        assert has(found, path.split("."))


def is_part(part: Any, whole: Any) -> bool:
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and is_part(value, whole[key]) for key, value in part.items())
    return bool(part == whole)


def has(item: Any, path: list[str]) -> bool:
    return isinstance(item, dict) and path[0] in item and (len(path) == 1 or has(item[path[0]], path[1:]))


def test_a_member_whose_name_has_dots_can_be_named() -> None:
    item = {**ITEM, "assets": {"B02.jp2": {"href": "y", "roles": ["data"]}, "B02": {"href": "z"}}}
    assert fields_of(["assets.B02.jp2.href"], None).apply(item)["assets"] == {"B02.jp2": {"href": "y"}, "B02": {}}
    assert fields_of(None, ["assets.B02.jp2"]).apply(item)["assets"] == {"B02": {"href": "z"}}
    assert fields_of(["assets.B02"], None).apply(item)["assets"] == {"B02": {"href": "z"}}
