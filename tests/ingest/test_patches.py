"""Patches by the examples of their RFCs, and by properties: what a patch is made for it does, and its arguments stay as they were."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import json_merge_patch
import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.edits.patches import MAX_MEMBERS, merged, patched
from ingest.errors import EditRefused

#: RFC 7396, appendix A: original, patch, result.
MERGES: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]
#: RFC 6902, appendix A: number, document, operations, result or the refusal's code.
PATCHES: list[tuple[str, Any, list[Any], Any]] = [
    ("A.1", {"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"baz": "qux", "foo": "bar"}),
    ("A.2", {"foo": ["bar", "baz"]}, [{"op": "add", "path": "/foo/1", "value": "qux"}], {"foo": ["bar", "qux", "baz"]}),
    ("A.3", {"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),
    ("A.4", {"foo": ["bar", "qux", "baz"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["bar", "baz"]}),
    ("A.5", {"baz": "qux"}, [{"op": "replace", "path": "/baz", "value": "boo"}], {"baz": "boo"}),
    (
        "A.6",
        {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
        [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
        {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
    ),
    (
        "A.7",
        {"foo": ["all", "grass", "cows", "eat"]},
        [{"op": "move", "from": "/foo/1", "path": "/foo/3"}],
        {"foo": ["all", "cows", "eat", "grass"]},
    ),
    (
        "A.8",
        {"baz": "qux", "foo": ["a", 2, "c"]},
        [{"op": "test", "path": "/baz", "value": "qux"}, {"op": "test", "path": "/foo/1", "value": 2}],
        {"baz": "qux", "foo": ["a", 2, "c"]},
    ),
    ("A.9", {"baz": "qux"}, [{"op": "test", "path": "/baz", "value": "bar"}], "PATCH_TEST_FAILED"),
    (
        "A.10",
        {"foo": "bar"},
        [{"op": "add", "path": "/child", "value": {"grandchild": {}}}],
        {"foo": "bar", "child": {"grandchild": {}}},
    ),
    ("A.11", {"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux", "xyz": 123}], {"foo": "bar", "baz": "qux"}),
    ("A.12", {"foo": "bar"}, [{"op": "add", "path": "/baz/bat", "value": "qux"}], "PATCH_CONFLICT"),
    ("A.14", {"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}),
    ("A.15", {"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": "10"}], "PATCH_TEST_FAILED"),
    (
        "A.16",
        {"foo": ["bar"]},
        [{"op": "add", "path": "/foo/-", "value": ["abc", "def"]}],
        {"foo": ["bar", ["abc", "def"]]},
    ),
    ("4.6", {"a": 1}, [{"op": "test", "path": "/a", "value": 1.0}], {"a": 1}),
    ("4.6 kinds", {"a": 1}, [{"op": "test", "path": "/a", "value": True}], "PATCH_TEST_FAILED"),
    ("4.6 within", {"a": [{"b": 0}]}, [{"op": "test", "path": "/a", "value": [{"b": False}]}], "PATCH_TEST_FAILED"),
    ("4.4 within itself", {"a": {"b": 1}}, [{"op": "move", "from": "/a", "path": "/a/b"}], "PATCH_CONFLICT"),
    ("4.3 is not there", {"a": [1]}, [{"op": "replace", "path": "/a/-", "value": 2}], "PATCH_CONFLICT"),
    ("5 one for all", {"a": 1}, [{"op": "remove", "path": "/a"}, {"op": "remove", "path": "/b"}], "PATCH_CONFLICT"),
    ("leading zero", {"a": [1, 2]}, [{"op": "remove", "path": "/a/01"}], "PATCH_CONFLICT"),
    ("whole", {"a": 1}, [{"op": "replace", "path": "", "value": {"b": 2}}], {"b": 2}),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab/~é", max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab/~é", max_size=3), inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text("ab/~é", max_size=3), JSON, max_size=4)


@pytest.mark.parametrize(("original", "patch", "result"), MERGES)
def test_merge_patch_by_rfc_7396(original: Any, patch: Any, result: Any) -> None:
    assert merged(original, patch) == result


@given(OBJECTS, JSON)
def test_merge_patch_as_another_library_does(original: Any, patch: Any) -> None:
    kept, kept_patch = copy.deepcopy(original), copy.deepcopy(patch)
    result = merged(original, patch)
    assert result == json_merge_patch.merge(copy.deepcopy(original), copy.deepcopy(patch))
    assert merged(result, patch) == result
    assert (original, patch) == (kept, kept_patch)


@pytest.mark.parametrize(
    ("document", "operations", "result"), [one[1:] for one in PATCHES], ids=[one[0] for one in PATCHES]
)
def test_json_patch_by_rfc_6902(document: Any, operations: list[Any], result: Any) -> None:
    kept = copy.deepcopy(document)
    if isinstance(result, str):
        with pytest.raises(EditRefused) as refused:
            patched(document, operations, 100)
        assert (refused.value.code, refused.value.status) == (result, 409)
    else:
        assert patched(document, operations, 100) == result
    assert document == kept


@given(OBJECTS, OBJECTS)
def test_what_a_patch_is_made_for_it_does(before: Any, after: Any) -> None:
    operations = jsonpatch.make_patch(before, after).patch
    kept, kept_operations = copy.deepcopy(before), copy.deepcopy(operations)
    assert patched(before, operations, 1000) == after
    assert (before, operations) == (kept, kept_operations)


POINTERS = st.text("ab/~01-é", max_size=6)
VALUES = JSON | POINTERS | st.sampled_from(["add", "move", "copy", "remove", "test"])
OPERATIONS = st.lists(st.dictionaries(st.sampled_from(["op", "path", "from", "value"]), VALUES), max_size=4)


@given(OBJECTS, OPERATIONS | JSON)
def test_any_patch_is_done_or_refused(document: Any, operations: Any) -> None:
    kept = copy.deepcopy(document)
    with contextlib.suppress(EditRefused):
        patched(document, operations, 3)
    assert document == kept


def test_a_patch_cannot_make_a_document_huge() -> None:
    double = [{"op": "copy", "from": "", "path": f"/{number}"} for number in range(60)]
    with pytest.raises(EditRefused) as refused:
        patched({"a": 1}, double, 1000)
    assert (refused.value.code, refused.value.facts["limit"]) == ("PATCH_TOO_LONG", MAX_MEMBERS)
    with pytest.raises(EditRefused, match="at most 10 operations"):
        patched({}, double, 10)
