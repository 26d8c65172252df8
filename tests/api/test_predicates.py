"""Our quick look at CQL2 JSON lets pass what the cql2 package's schema lets pass, and no bare value."""

from __future__ import annotations

from typing import Any

import cql2
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.stac.predicates import is_predicate
from tests.size import sized

VALUES = st.one_of(
    st.just({"property": "a"}),
    st.integers(-5, 5),
    st.text(max_size=3),
    st.just({"op": "+", "args": [{"property": "a"}, 1]}),
)
LEAVES = st.one_of(
    st.builds(
        lambda op, one, two: {"op": op, "args": [one, two]},
        st.sampled_from(["=", "<>", "<", ">", "<=", ">="]),
        VALUES,
        VALUES,
    ),
    st.builds(lambda one: {"op": "isNull", "args": [{"property": one}]}, st.text("ab", min_size=1, max_size=2)),
    st.just({"op": "like", "args": [{"property": "a"}, "x%"]}),
    st.just({"op": "between", "args": [{"property": "a"}, 1, 2]}),
    st.just({"op": "in", "args": [{"property": "a"}, [1, 2]]}),
    st.just({"op": "s_intersects", "args": [{"property": "geometry"}, {"type": "Point", "coordinates": [1, 2]}]}),
    st.just({"op": "t_before", "args": [{"property": "datetime"}, {"timestamp": "2026-01-01T00:00:00Z"}]}),
    st.just({"op": "a_contains", "args": [{"property": "a"}, ["b"]]}),
    VALUES,
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.builds(
        lambda op, args: {"op": op, "args": args},
        st.sampled_from(["and", "or", "not", "=", "like"]),
        st.lists(inner, min_size=1, max_size=2),
    ),
    max_leaves=3,
)


def is_valid(value: Any) -> bool:
    try:
        cql2.parse_json(orjson.dumps(value).decode()).validate()
    except Exception:  # noqa: BLE001 - whatever a foreign parser says
        return False
    return True


@pytest.mark.slow
@given(TREES)
@settings(max_examples=sized(10, 40), deadline=None)
def test_what_we_refuse_the_schema_refuses(value: Any) -> None:
    if not is_predicate(value):  # the schema takes a second for a deep tree
        assert not is_valid(value)


@pytest.mark.parametrize(
    "value",
    [
        None, 5, "a", [], {}, {"property": "a"}, {"op": "and", "args": []}, {"op": "not", "args": [{"property": "a"}]},
        {"op": "+", "args": [1, 2]}, {"op": "casei", "args": ["a"]}, {"op": "=", "args": [1]}, {"op": "in", "args": [{"property": "a"}, 1]},
        {"op": "between", "args": [1, 2]}, {"op": 5, "args": []}, {"op": "and", "args": {}}, {"op": "s_intersects", "args": [1]},
    ],
)  # fmt: skip
def test_what_is_no_predicate_is_refused(value: Any) -> None:
    assert not is_valid(value)
    assert not is_predicate(value)
