"""Whatever a caller sends to be stored is stored as it is or refused with a reason: never a 5xx, and searches go on afterwards."""

from __future__ import annotations

import copy
import json
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.editing import OWN, Editor, is_problem, item
from tests.size import sized

ITEMS = f"/collections/{OWN}/items"
JSON, MERGE = {"Content-Type": "application/json"}, {"Content-Type": "application/merge-patch+json"}
PATCH = {"Content-Type": "application/json-patch+json"}


def geometry(kind: str, coordinates: Any) -> dict[str, Any]:
    return {"type": kind, "coordinates": coordinates}


SQUARE = [[16, 48], [17, 48], [17, 49], [16, 49], [16, 48]]
GEOMETRIES = [
    None,
    {},
    [],
    "POINT(1 2)",
    geometry("Point", []),
    geometry("Point", [1]),
    geometry("Point", [1, 2, 3, 4]),
    geometry("Point", ["1", 2]),
    geometry("Point", [181, 0]),
    geometry("Point", [0, -91]),
    geometry("Point", [True, 0]),
    geometry("Point", [None, 0]),
    geometry("Polygon", [SQUARE[:-1]]),
    geometry("Polygon", [SQUARE[:3]]),
    geometry("Polygon", [[]]),
    geometry("Polygon", []),
    geometry("Polygon", [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]]),
    geometry("Polygon", [[[0, 0]] * 4]),
    geometry("Polygon", [SQUARE, SQUARE]),
    geometry("LineString", [[0, 0]]),
    geometry("MultiPolygon", []),
    geometry("MultiPolygon", [SQUARE]),
    geometry("Circle", [0, 0]),
    geometry("Polygon", [[[16, 48, 1], [17, 48], [17, 49], [16, 49], [16, 48, 1]]]),
    {"type": "GeometryCollection", "geometries": []},
    {
        "type": "GeometryCollection",
        "geometries": [{"type": "GeometryCollection", "geometries": [geometry("Point", [0, 0])]}],
    },
    {"type": ["Point"], "coordinates": [0, 0]},
    {"type": "Point", "coordinates": [0, 0], "crs": {"type": "name"}},
]
GOOD_GEOMETRIES = [
    geometry("Point", [1, 2]),
    geometry("Point", [1, 2, 3]),
    geometry("LineString", [[0, 0], [1, 1]]),
    geometry("MultiPoint", [[0, 0], [1, 1]]),
    geometry("MultiPolygon", [[SQUARE]]),
    geometry("Polygon", [[[a, b, 5.5] for a, b in SQUARE]]),
    {"type": "GeometryCollection", "geometries": [geometry("Point", [0, 0]), geometry("LineString", [[0, 0], [1, 1]])]},
]


@pytest.mark.parametrize("wrong", GEOMETRIES, ids=lambda one: str(one)[:60])
def test_geometries_that_pgstac_would_choke_on(editor: Editor, wrong: Any) -> None:
    code = "GEOMETRY_REQUIRED" if wrong is None else "INVALID_GEOMETRY"
    answer = is_problem(editor.client.post(ITEMS, json=item("wrong") | {"geometry": wrong}), 400, code)
    assert answer["place"].startswith("/geometry")


@pytest.mark.parametrize("right", GOOD_GEOMETRIES, ids=lambda one: str(one)[:40])
def test_geometries_of_every_kind(editor: Editor, right: Any) -> None:
    document = {name: value for name, value in item("right").items() if name != "bbox"} | {"geometry": right}
    made = editor.client.post(ITEMS, json=document)
    assert made.status_code == 201, made.text
    assert editor.nobody.get(f"{ITEMS}/right").json()["geometry"] == right
    assert editor.client.delete(f"{ITEMS}/right").status_code == 204


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"id": "a/b"}, 400, "INVALID_ID"),
        ({"id": ".."}, 400, "INVALID_ID"),
        ({"id": 7}, 400, "INVALID_ID"),
        ({"id": "x" * 600}, 400, "INVALID_ID"),
        ({"id": None}, 400, "INVALID_ID"),
        ({"collection": 7}, 400, "COLLECTION_MISMATCH"),
        ({"type": "Collection"}, 400, "INVALID_ITEM"),
        ({"properties": None}, 400, "INVALID_ITEM"),
        ({"properties": {}}, 400, "INVALID_DATETIME"),
        ({"properties": {"datetime": "2026-02-30T00:00:00Z"}}, 400, "INVALID_DATETIME"),
        ({"properties": {"datetime": "0001-01-01T00:00:00Z"}}, 400, "INVALID_DATETIME"),
        (
            {
                "properties": {
                    "datetime": None,
                    "start_datetime": "2026-01-02T00:00:00Z",
                    "end_datetime": "2026-01-01T00:00:00Z",
                }
            },
            400,
            "INVALID_DATETIME",
        ),
        ({"properties": {"datetime": "2026-01-02T00:00:00Z", "created": "soon"}}, 400, None),
        ({"properties": {"datetime": "2026-01-02T00:00:00Z", "x": "nul \0"}}, 400, "INVALID_CONTENT"),
        ({"properties": {"datetime": "2026-01-02T00:00:00Z", "x": 2**60}}, 400, "INVALID_CONTENT"),
        ({"properties": {"datetime": "2026-01-02T00:00:00Z", "x": "𒍟※"}}, 400, "INVALID_CONTENT"),
        ({"stac_version": "0.9.0"}, 400, "STAC_VERSION_UNSUPPORTED"),
        ({"stac_version": None}, 400, "STAC_VERSION_UNSUPPORTED"),
        ({"links": {}}, 400, "INVALID_ITEM"),
        ({"links": [1]}, 400, "INVALID_ITEM"),
        ({"assets": []}, 400, "INVALID_ITEM"),
        ({"assets": {"a": {"title": "no href"}}}, 400, "INVALID_ITEM"),
        ({"bbox": [1]}, 400, "INVALID_BBOX"),
        ({"bbox": "x"}, 400, "INVALID_BBOX"),
        ({"bbox": [0, 10, 1, 5]}, 400, "INVALID_BBOX"),
        ({"private": {"readers": []}}, 400, "MEMBER_RESERVED"),
        ({"pgstac:base_item": 1}, 400, "MEMBER_RESERVED"),
        ({"stac_extensions": [7]}, 400, "INVALID_ITEM"),
    ],
    ids=lambda one: str(one)[:60],
)
def test_members_that_are_wrong(editor: Editor, change: dict[str, Any], status: int, code: str | None) -> None:
    answer = editor.client.post(ITEMS, content=orjson.dumps(item("wrong") | change), headers=JSON)
    assert answer.status_code == status, answer.text
    assert code is None or is_problem(answer, status, code)


def test_json_that_is_none(editor: Editor) -> None:
    deep = b'{"a":' * 3000 + b"1" + b"}" * 3000
    nested = orjson.dumps(item("deep"))[:-1] + b',"x":' + b"[" * 200 + b"]" * 200 + b"}"
    for body, code in (
        (b"", "INVALID_BODY"), (b"{", "INVALID_BODY"), (deep, "INVALID_BODY"), (b'{"a": NaN}', "INVALID_BODY"), (b"\xff", "INVALID_BODY"),
        (b'{"a": "\\ud800"}', "INVALID_BODY"), (b"null", "INVALID_ITEM"), (b"[]", "INVALID_ITEM"), (b"7", "INVALID_ITEM"),
        (nested, "TOO_DEEP"), (b'{"type": "FeatureCollection"}', "INVALID_BODY"),
    ):  # fmt: skip
        is_problem(editor.client.post(ITEMS, content=body, headers=JSON), 400, code)


def test_bodies_of_other_types(editor: Editor) -> None:
    form = editor.client.post(ITEMS, data={"a": "b"})
    assert is_problem(form, 415, "UNSUPPORTED_MEDIA_TYPE")
    xml = editor.client.patch(f"{ITEMS}/x", content=b"<a/>", headers={"Content-Type": "application/xml"})
    assert is_problem(xml, 415, "UNSUPPORTED_MEDIA_TYPE")
    assert "application/json-patch+json" in xml.headers["accept-patch"]
    made = editor.client.post(
        ITEMS, json=item("typed"), headers={"Content-Type": "application/geo+json; charset=utf-8"}
    )
    assert made.status_code == 201


def test_paths_that_are_wrong(editor: Editor) -> None:
    is_problem(editor.client.delete(f"{ITEMS}/a%00b"), 400, "INVALID_TEXT")
    is_problem(editor.client.put("/collections/a%00b", json={}), 400, "INVALID_TEXT")
    is_problem(editor.client.put(f"{ITEMS}/{'x' * 600}", json=item("y")), 400, "ID_MISMATCH")
    assert editor.client.delete(f"{ITEMS}/%ff%fe").status_code == 204


@pytest.mark.parametrize(
    ("patch", "status", "code"),
    [
        ({}, 400, "INVALID_PATCH"),
        ([{"op": "burn", "path": "/id"}], 400, "INVALID_PATCH"),
        ([{"op": "add", "path": "id", "value": 1}], 400, "INVALID_PATCH"),
        ([{"op": "add", "path": "/x"}], 400, "INVALID_PATCH"),
        ([7], 400, "INVALID_PATCH"),
        ([{"op": ["add"], "path": "/x", "value": 1}], 400, "INVALID_PATCH"),
        ([{"op": "test", "path": "/properties/eo:cloud_cover", "value": 1}], 409, "PATCH_TEST_FAILED"),
        ([{"op": "remove", "path": "/nowhere"}], 409, "PATCH_CONFLICT"),
        ([{"op": "add", "path": "/bbox/99", "value": 1}], 409, "PATCH_CONFLICT"),
        ([{"op": "replace", "path": "/bbox/x", "value": 1}], 409, "PATCH_CONFLICT"),
        ([{"op": "remove", "path": ""}], None, None),
        ([{"op": "replace", "path": "", "value": []}], 400, "INVALID_ITEM"),
        ([{"op": "remove", "path": "/geometry"}], 400, "GEOMETRY_REQUIRED"),
        ([{"op": "test", "path": "/id", "value": "p"}] * 1001, 400, "PATCH_TOO_LONG"),
        ([{"op": "copy", "from": "", "path": "/properties/x"}] * 40, 400, None),
        ([{"op": "move", "from": "/properties", "path": "/properties/x"}], 409, "PATCH_CONFLICT"),
    ],
    ids=lambda one: str(one)[:60],
)
def test_patches_that_are_wrong(editor: Editor, patch: Any, status: int | None, code: str | None) -> None:
    editor.client.post(ITEMS, json=item("p"))
    before = editor.nobody.get(f"{ITEMS}/p").content
    answer = editor.client.patch(f"{ITEMS}/p", json=patch, headers=PATCH)
    assert 400 <= answer.status_code < 500
    assert status is None or answer.status_code == status, answer.text
    assert code is None or answer.json()["code"] == code
    assert editor.nobody.get(f"{ITEMS}/p").content == before


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place of a JSON value."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(one for key, child in children for one in places(child, (*path, key)))]


def put_at(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    value[path[0]] = put_at(value[path[0]], path[1:], new)
    return value


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=8), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip
PLACES = places(item("fuzzed"))


def sent(editor: Editor, method: str, path: str, document: Any, headers: dict[str, str]) -> httpx.Response:
    try:
        body = orjson.dumps(document)
    except TypeError:  # integers beyond 64 bits
        body = json.dumps(document).encode()
    return editor.client.request(method, path, content=body, headers=headers)


@pytest.mark.slow
@settings(max_examples=sized(60, 400), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from(PLACES), JUNK), min_size=1, max_size=3))
def test_any_document_is_stored_or_refused(editor: Editor, changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    document: Any = copy.deepcopy(item("fuzzed"))
    for path, new in changes:
        try:
            document = put_at(document, path, copy.deepcopy(new))
        except (KeyError, IndexError, TypeError):
            continue
    answer = sent(editor, "POST", ITEMS, document, JSON)
    assert answer.status_code in (201, 400, 413), answer.text
    if answer.status_code == 201:
        stored = answer.headers["location"]
        assert editor.nobody.get(stored).content == answer.content
        assert editor.nobody.get("/search", params={"bbox": "-180,-90,180,90", "collections": OWN}).status_code == 200
        assert editor.client.put(stored, content=answer.content).status_code == 204
        assert editor.client.delete(stored).status_code == 204


POINTERS = st.sampled_from(["/" + "/".join(map(str, path)) if path else "" for path in PLACES]) | st.text(
    max_size=5
).map(lambda text: f"/{text}")
OPERATIONS = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]), "path": POINTERS},
    optional={"from": POINTERS, "value": JUNK},
)


@pytest.mark.slow
@settings(max_examples=sized(50, 300), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(OPERATIONS, max_size=4) | st.dictionaries(st.sampled_from(sorted(item("x"))), JUNK, max_size=3))
def test_any_patch_is_done_or_refused(editor: Editor, patch: Any) -> None:
    editor.client.post(ITEMS, json=item("fuzzed-patch"))
    answer = sent(editor, "PATCH", f"{ITEMS}/fuzzed-patch", patch, PATCH if isinstance(patch, list) else MERGE)
    assert answer.status_code in (204, 400, 409, 413), answer.text
    if answer.status_code == 204:
        assert editor.client.put(f"{ITEMS}/fuzzed-patch", json=item("fuzzed-patch")).status_code == 204
