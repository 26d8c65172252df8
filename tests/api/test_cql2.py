"""Every operator of every conformance class of CQL2 that is declared, over HTTP, against plain Python (`cql2_oracle`)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cql2
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.settings import ApiSettings
from db.pools import open_pool
from db.settings import DatabaseSettings
from ingest.collection_files import ensure_collections
from tests.api.corpus import store
from tests.api.cql2_items import EXPRESSIONS, NUMBER, REFUSED, cql2_items
from tests.api.cql2_oracle import evaluate
from tests.api.server import listening, running
from tests.conftest import cloned
from tests.size import sized


async def fill(database: DatabaseSettings) -> None:
    async with open_pool(database) as pool:
        await ensure_collections(pool)
        await store(pool, cql2_items())


@pytest.fixture(scope="module")
def service(
    postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    data_dir: Path = tmp_path_factory.mktemp("cql2")
    listener, url = listening()
    with cloned(postgres, template) as database:
        asyncio.run(fill(database))
        settings = ApiSettings(data_dir=data_dir, public_url=url)
        with running(settings, database, listener), httpx.Client(base_url=f"{url}/stac", timeout=30) as client:
            yield client


def as_json(expression: Any) -> Any:
    """An expression in CQL2 JSON."""
    return cql2.parse_text(expression).to_json() if isinstance(expression, str) else expression


def expected(expression: Any) -> list[tuple[str, str]]:
    items = [item for item in cql2_items() if evaluate(as_json(expression), item) is True]
    return sorted((item["collection"], item["id"]) for item in items)


def found(answer: httpx.Response) -> list[tuple[str, str]]:
    assert answer.status_code == 200, answer.text
    return sorted((one["collection"], one["id"]) for one in answer.json()["features"])


def asked(client: httpx.Client, expression: Any) -> httpx.Response:
    """As text where it is one, else as JSON."""
    if isinstance(expression, str):
        return client.get("/search", params={"filter": expression, "filter-lang": "cql2-text", "limit": NUMBER})
    return client.post("/search", json={"filter": expression, "filter-lang": "cql2-json", "limit": NUMBER})


@pytest.mark.parametrize("name", sorted(EXPRESSIONS))
def test_a_class_finds_what_the_standard_says(service: httpx.Client, name: str) -> None:
    wrong = []
    for expression in EXPRESSIONS[name]:
        try:
            if found(asked(service, expression)) != expected(expression):
                wrong.append(expression)
        except AssertionError as error:
            wrong.append((expression, str(error)))
    assert not wrong


@pytest.mark.parametrize("expression", list(REFUSED))
def test_what_is_not_evaluated_is_refused(service: httpx.Client, expression: str) -> None:
    answer = asked(service, expression)
    assert answer.status_code == 400, answer.text
    assert (answer.json()["code"], answer.headers["content-type"]) == (
        REFUSED[expression],
        "application/problem+json",
    )


ALL = [as_json(one) for some in EXPRESSIONS.values() for one in some]
TREES = st.recursive(
    st.sampled_from([one for one in ALL if isinstance(one, dict)]),
    lambda inner: st.one_of(
        st.builds(
            lambda op, args: {"op": op, "args": args},
            st.sampled_from(["and", "or"]),
            st.lists(inner, min_size=2, max_size=3),
        ),
        st.builds(lambda one: {"op": "not", "args": [one]}, inner),
    ),
    max_leaves=5,
)


@given(TREES)
@settings(max_examples=sized(40, 150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.slow
def test_expressions_together_find_what_the_standard_says(service: httpx.Client, expression: Any) -> None:
    assert found(asked(service, expression)) == expected(expression)


OPERANDS = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-5, 5), st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from(["", "a", "'", "%", "..", "2025-01-01", "upper", "property", "\\", "1e999", "é"]),
        st.sampled_from(["datetime", "geometry", "id", "gsd", "x:word", "instruments", "properties", " ", "a.b", "created"]).map(
            lambda name: {"property": name}
        ),
        st.sampled_from(
            [
                {"timestamp": "2025-01-01T00:00:00Z"}, {"timestamp": "x"}, {"date": "2025-02-30"}, {"date": "2025-02-01"},
                {"interval": ["..", ".."]}, {"interval": ["2025-01-01", "2024-01-01"]}, {"interval": [1]}, {"bbox": [0, 0, 1, 1]},
                {"bbox": [0, 0, 1, "x"]}, {"type": "Point", "coordinates": [0, 0]}, {"type": "Point", "coordinates": []},
                {"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]},
                {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [0, 1], [2, 2]]]},
                {"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": "x"}]}, {"type": "Nothing"},
                {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [0, 1], [1, 0], [0, 0]]]},
            ]
        ),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.builds(
            lambda op, args: {"op": op, "args": args}, st.sampled_from(["+", "/", "^", "div", "%", "casei", "upper"]),
            st.lists(inner, max_size=3),
        ),
    ),
    max_leaves=5,
)  # fmt: skip
OPERATORS = st.sampled_from(
    [
        "=", "<>", "<", ">=", "like", "between", "in", "isNull", "not", "and", "or", "s_intersects", "s_within", "s_equals", "t_after",
        "t_during", "t_equals", "a_contains", "a_equals", "a_overlaps", "a_containedBy", "eq", "neq", "federator_json_eq", "nothing",
    ]
)  # fmt: skip


@given(st.builds(lambda op, args: {"op": op, "args": args}, OPERATORS, st.lists(OPERANDS, max_size=4)))
@settings(max_examples=sized(80, 400), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.slow
def test_nothing_that_is_asked_breaks_it(service: httpx.Client, expression: Any) -> None:
    answer = asked(service, expression)
    assert answer.status_code in (200, 400), answer.text
    if answer.status_code == 400:
        assert answer.json()["code"] != "BAD_REQUEST"
