"""The query extension, all its operators, against plain Python on the stored items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from api.problems import Problem
from api.stac.queries import as_filter
from tests.api.conftest import ITEMS
from tests.api.samples import item

OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda have, asked: have == asked, "neq": lambda have, asked: have != asked, "lt": lambda have, asked: have < asked,
    "lte": lambda have, asked: have <= asked, "gt": lambda have, asked: have > asked, "gte": lambda have, asked: have >= asked,
    "in": lambda have, asked: have in asked, "startsWith": str.startswith, "endsWith": str.endswith, "contains": str.__contains__,
}  # fmt: skip
ASKED = [
    *(("eo:cloud_cover", operator, 20) for operator in ("eq", "neq", "lt", "lte", "gt", "gte")),
    ("eo:cloud_cover", "in", [3, 5, 500]), ("id", "startsWith", "SAMPLE_01"), ("id", "endsWith", "7"), ("id", "contains", "_0"),
    ("id", "contains", "%"), ("id", "startsWith", "SAMPLE-"), ("id", "startsWith", "S_"), ("id", "contains", "\\"),
    ("platform", "in", ["sentinel-2a"]), ("platform", "startsWith", "sentinel"), ("platform", "neq", "sentinel-2a"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "operator", "value"), ASKED)
def test_every_operator_finds_what_python_finds(api: httpx.Client, name: str, operator: str, value: Any) -> None:
    items = [item(number) for number in range(ITEMS)]
    have = {one["id"]: one["id"] if name == "id" else one["properties"][name] for one in items}
    body = {"query": {name: {operator: value}}, "limit": 1000, "collections": ["sentinel-2-l2a"]}
    answer = api.post("/stac/search", json=body)
    assert answer.status_code == 200, answer.text
    found = {one["id"] for one in answer.json()["features"]}
    assert found == {key for key, text in have.items() if OPERATORS[operator](text, value)}


def test_conditions_hold_together(api: httpx.Client) -> None:
    query = {"eo:cloud_cover": {"gt": 3, "lte": 9}, "id": {"endsWith": "7"}}
    found = api.post("/stac/search", json={"query": query}).json()["features"]
    assert [one["id"] for one in found] == ["SAMPLE_007"]


@pytest.mark.parametrize(
    "condition",
    [
        {"eq": None},
        {"like": "a"},
        {"startsWith": 7},
        {"in": "abc"},
        {"in": []},
        {"in": [None]},
        {"lt": [1]},
        {"gt": {}},
    ],
)
def test_what_is_no_condition_of_the_extension_is_refused(condition: dict[str, Any]) -> None:
    with pytest.raises(Problem) as refused:
        as_filter({"platform": condition})
    assert refused.value.code == "INVALID_QUERY"
