"""What is taken for plain at a glance is what the closer look lets through, and is stored as it would be."""

from __future__ import annotations

import copy
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.edits.documents import checked_item
from ingest.edits.geometry import are_valid
from ingest.edits.hrefs import named_uploads
from ingest.edits.plain import Prepared, plain_items, prepared
from ingest.errors import EditRefused
from ingest.packing import pack, unpack
from ingest.rows import Base, Row, ewkb, item_range
from lineage.canonical import item_sha256
from tests.ingest.test_edit_models import GOOD, ODD, changed, paths
from tests.size import sized

ROOT = "https://catalogue.example.org"
BASE = Base(
    {
        "type": "Feature",
        "stac_version": "1.1.0",
        "collection": "c",
        "assets": {"a": {"type": "image/tiff", "title": "u", "x": 1}},
    },
    7,
    None,
)
UPLOAD = "0f8fad5b-d9cb-469f-a165-70867728950e"
ITEM: dict[str, Any] = copy.deepcopy(GOOD) | {
    "geometry": {"type": "Polygon", "coordinates": [[[1.5, 2.5], [3.5, 2.5], [3.5, 4.25], [1.5, 2.5]]]},
    "bbox": [1.5, 2.5, 3.5, 4.25],
}
ITEM["assets"]["a"] |= {
    "href": "https://example.org/a.tif",
    "alternate": {"s3": {"href": "s3://bucket/a.tif", "x": [1.25, 3]}},
}
ITEM["assets"] |= {
    f"b{n}": {"href": f"https://example.org/v1.0.0/{n}e-7.tif", "description": "words " * 30} for n in range(20)
}
ITEM["links"] += [{"rel": "self", "href": "https://example.org/self"}]
ITEM["properties"] |= {"start_datetime": "2026-01-01T00:00:00Z", "end_datetime": "2026-01-02T00:00:00.5Z"}
ITEM_SHA256 = item_sha256(checked_item(copy.deepcopy(ITEM), "c", "a", own_root=ROOT))
PLACES = [path for path in paths(ITEM) if len(path) < 3 or path[1] != "b3"]
TIMES = ["2026-01-01T00:00:00+00:00", "2026-01-01t00:00:00z", "2026-01-01T01:00:00+01:00", "2026-02-30T00:00:00Z", "1899-12-31T23:59:59Z",
         "2026-01-01T00:00:00.1234567Z", "2026-01-01", "٢٠٢٦-01-01T00:00:00Z", "2099-01-01T00:00:00Z"]  # fmt: skip
HREFS = ["/vsicurl/x", "file:///etc/passwd", "http://localhost/x", "https://example.org/a b", f"{ROOT}/uploads/{UPLOAD}/a.tif", "a.tif",
         f"https://other.example.org/uploads/{UPLOAD}", "https://example.org/\\x", "https://127.1/x", "HTTPS://example.org/x"]  # fmt: skip
NUMBERS = [
    10.0,
    -0.0,
    1e-7,
    1e22,
    1e16,
    123456789.5,
    2**53,
    2**53 - 1,
    2**60,
    -(2**63),
    71000000000000000,
    [1.0],
    {"e": [2.0, 3e-9]},
]
TEXTS = [
    "a\0b",
    "null",
    "x.0,",
    "1e-7,",
    'a"b\\',
    "ü",
    "\U0001f600",
    "𒍟※",
    "\x1f",
    [None, {"a": None}],
    {"\U0001f600": 1, "\uffff": 2},
]
RING = ITEM["geometry"]["coordinates"][0]
RINGS = [
    [],
    [[[0.5, 0.5], [1.5, 1.5], [1.5, 0.5], [0.5, 1.5], [0.5, 0.5]]],
    [[[0, 0], [1, 0], [1, 1.0], [0, 0]]],
    [[[0.5, 0.5], [190.5, 1.5], [1.5, 0.5], [0.5, 0.5]]],
    [[[0.5, 0.5], [1.5, 1.5], [1.5, 0.5]]],
    [[[0.5, 0.5], [True, 1.5], [1.5, 0.5], [0.5, 0.5]]],
    [[[0.5, 0.5], [1.5, 1.5, 3.5], [1.5, 0.5], [0.5, 0.5]]],
    [RING, [[1.75, 2.625], [2.25, 2.625], [2.25, 2.75], [1.75, 2.625]]],
]
POLYGON = {"type": "Polygon", "coordinates": [RING]}
SHAPES: list[dict[str, Any]] = [
    {"type": "Point", "coordinates": [1, 2]},
    {"type": "Point", "coordinates": [1.5, 2.5, 7.0]},
    {"type": "MultiPolygon", "coordinates": [[RING]]},
    POLYGON | {"x": "a\0"},
    POLYGON | {"crs": {}},
    *({"type": "Polygon", "coordinates": rings} for rings in RINGS),
]


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


anything = st.one_of(
    ODD, *map(st.sampled_from, (TIMES, HREFS, NUMBERS, TEXTS)), st.sampled_from([30, 59, 60, 61, 62, 63, 90]).map(deep)
)
places = st.sampled_from(PLACES)
NEW = [
    ("new",), ("private",), ("pgstac:base_item",), ("properties", "new"), ("properties", "updated"), ("assets", "a", "new"),
    ("links", 0, "new"), ("assets", "a", "alternate", "s3", "new"),
]  # fmt: skip
news = st.sampled_from(NEW)
shaped = st.sampled_from(SHAPES).map(lambda shape: ITEM | {"geometry": shape, "bbox": None})


@st.composite
def items(draw: st.DrawFn) -> dict[str, Any]:
    item = draw(st.one_of(st.just(ITEM), shaped))
    for path in draw(st.lists(st.one_of(places, news), min_size=0, max_size=2)):
        try:
            item = changed(path, draw(anything), draw(st.booleans()), item)
        except (KeyError, TypeError, IndexError):
            continue
    return item


def plain(document: Any) -> Prepared | None:
    """What is made of it among others, which are plain: the same as of it alone."""
    some = [("a", copy.deepcopy(one)) for one in (ITEM, document, ITEM)]
    before, found, after = plain_items(some, "c", ROOT)
    assert before == after
    assert before is not None
    assert before.sha256 == ITEM_SHA256
    return found


def check(document: Any) -> bool:
    """Whether it is plain; then all that is made of it is as the closer look makes it."""
    found = plain(document)
    if found is None or not are_valid([found.footprint]):
        return False
    item = checked_item(copy.deepcopy(document), "c", "a", own_root=ROOT)
    assert found.item == item
    assert found.sha256 == item_sha256(item)
    assert (found.start, found.end) == item_range(item)
    assert found.footprint == ewkb(item["geometry"])
    assert found.uploads == named_uploads([item])
    assert orjson.loads(Row(found.item, found.start, found.end).content(BASE)) == orjson.loads(
        Row(item, *item_range(item)).content(BASE)
    )
    long = pack(item)
    assert (found.packed is None) == (long is None)
    if found.packed is not None and long is not None:
        (body, links), (other, others) = unpack(found.packed), unpack(long)
        assert (orjson.loads(body), links) == (orjson.loads(other), others)
    return True


@settings(max_examples=sized(300, 3_000), deadline=None)
@given(items())
def test_what_is_plain_is_stored_as_after_a_closer_look(item: dict[str, Any]) -> None:
    try:
        document = orjson.loads(orjson.dumps(item))
    except TypeError:  # half a character
        return
    check(document)


def test_a_plain_item_is_plain() -> None:
    assert check(ITEM)


COMMON: list[dict[str, Any]] = [
    {"bbox": None}, {"geometry": SHAPES[0], "bbox": None}, {"links": []}, {"new": 10.0}, {"new": 1e-7}, {"new": [None]}, {"new": "ü"},
    {"new": "a\"\\n"},
]  # fmt: skip


@pytest.mark.parametrize("change", COMMON)
def test_what_is_common_is_plain(change: dict[str, Any]) -> None:
    assert check(ITEM | change)


@pytest.mark.parametrize("value", ["a\0b", 2**60, "𒍟※", deep(70), "x" * 1_000_000])
def test_what_cannot_be_stored_is_refused_with_its_code(value: Any) -> None:
    assert plain(ITEM | {"new": value}) is None
    with pytest.raises(EditRefused):
        prepared([("a", ITEM | {"new": value})], "c", ROOT)
