"""The short way past stac-pydantic's models lets through what they let through, and refuses what they refuse."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from stac_pydantic import Item

from ingest.edits.models import validate_item

GOOD: dict[str, Any] = {
    "type": "Feature", "stac_version": "1.1.0", "id": "a", "collection": "c", "stac_extensions": ["https://example.org/v1/schema.json"],
    "geometry": {"type": "Point", "coordinates": [1, 2]}, "bbox": [1, 2, 1, 2],
    "properties": {
        "datetime": "2026-01-01T00:00:00Z", "created": "2026-01-01T00:00:00Z", "title": "t", "gsd": 10, "instruments": ["msi"],
        "providers": [{"name": "n", "roles": ["host"], "url": "https://example.org"}], "platform": "p", "other": {"a": [1]},
    },
    "links": [{"rel": "via", "href": "https://example.org", "type": "text/html", "title": "t", "other": 1}],
    "assets": {"a": {"href": "a.tif", "type": "image/tiff", "title": "t", "description": "d", "roles": ["data"], "bands": [{"name": "b"}]}},
}  # fmt: skip
ODD = st.sampled_from(
    [
        None,
        "",
        "x",
        0,
        -1,
        1.5,
        True,
        [],
        ["x"],
        [None],
        [""],
        {},
        {"x": 1},
        [{}],
        {"href": "x"},
        "2026-13-01",
        "not a url",
    ]
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [*([path] if path else []), *(one for key, child in children for one in paths(child, (*path, key)))]


#: Geometry and bbox are looked at by others.
PLACES = [path for path in paths(GOOD) if path[0] not in ("geometry", "bbox")]


def changed(path: tuple[Any, ...], new: Any, remove: bool, good: dict[str, Any] = GOOD) -> dict[str, Any]:
    item = copy.deepcopy(good)
    parent: Any = item
    for step in path[:-1]:
        parent = parent[step]
    if remove:
        del parent[path[-1]]
    else:
        parent[path[-1]] = new
    return item


def is_valid(validate: Any, item: dict[str, Any]) -> bool:
    try:
        validate(item)
    except ValidationError:
        return False
    return True


def test_a_good_item_is_good() -> None:
    validate_item(GOOD)


@settings(max_examples=500)
@given(st.sampled_from(PLACES), ODD, st.booleans())
def test_both_ways_agree(path: tuple[Any, ...], new: Any, remove: bool) -> None:
    item = changed(path, new, remove)
    assert is_valid(validate_item, copy.deepcopy(item)) == is_valid(Item.model_validate, item)
