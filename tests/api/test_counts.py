"""How many items there are: exact or marked as a guess; and where a search along time is cut."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.stac import counts, partitions
from api.stac.partitions import Partition, cuts, extrapolated, rows_for
from tests.api.conftest import ITEMS

START = datetime(2024, 1, 1, tzinfo=UTC)
MONTH = timedelta(days=30)
INFINITE = Partition("c", datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC), 10, 10)


def month(number: int, rows: int = 100, collection: str = "c") -> Partition:
    return Partition(collection, START + number * MONTH, START + (number + 1) * MONTH, rows, rows * 800)


MONTHS = st.lists(st.builds(month, st.integers(0, 20), st.integers(0, 1000)), max_size=30)


@given(MONTHS, st.booleans(), st.none() | st.integers(0, 600), st.floats(1, 10_000))
def test_cuts_are_bounds_of_partitions_in_the_order_of_the_sort(
    held: list[Partition], descending: bool, day: int | None, rows: float
) -> None:
    edge = None if day is None else START + timedelta(days=day)
    found = cuts(held, descending=descending, edge=edge, rows=rows)
    assert set(found) <= {bound for one in held for bound in (one.first, one.after)}
    assert all((one > two) if descending else (one < two) for one, two in itertools.pairwise(found))
    if edge is not None:
        assert all((bound <= edge) if descending else (bound > edge) for bound in found)


def test_each_part_holds_more_rows_than_the_one_before() -> None:
    held = [month(number) for number in range(30)]
    found = cuts(held, descending=True, edge=None, rows=150)
    assert found == [START + 28 * MONTH, START + 22 * MONTH]  # 200 rows, 600 rows, the rest
    assert cuts(held, descending=False, edge=None, rows=150) == [START + 2 * MONTH, START + 8 * MONTH]
    assert cuts([INFINITE], descending=True, edge=None, rows=1) == []


def test_rows_to_look_through() -> None:
    assert rows_for({}, 10) == 10
    assert rows_for({"bbox": [0, 0, 36, 18]}, 10) == 10 * 10 * 10
    assert rows_for({"bbox": [170, 0, 1, -154, 18, 2]}, 10) == 10 * 10 * 10
    assert rows_for({"filter": {}}, 10) > 10
    assert rows_for({"ids": ["a"]}, 10) == float("inf")


def test_a_guess_goes_by_the_rows_in_the_time_that_is_left() -> None:
    held = [month(0, 300), month(1, 100)]
    searched = {"datetime": f"{START.isoformat()}/{(START + 2 * MONTH).isoformat()}"}
    reached = START + 1.5 * MONTH
    assert extrapolated(held, searched, 10, reached, descending=True) == pytest.approx(10 * (300 + 100) / 50, rel=0.01)
    assert extrapolated([*held, INFINITE], searched, 10, reached, descending=True) is None
    assert extrapolated(held, searched, 10, START + 2 * MONTH, descending=True) is None  # no time has passed


def matched(api: httpx.Client, **search: Any) -> tuple[int, bool]:
    answer = api.post("/stac/search", json=search).json()
    return answer["numberMatched"], answer.get("federator:numberMatchedIsEstimate", False)


def test_few_items_are_counted(api: httpx.Client) -> None:
    assert matched(api, limit=5) == (ITEMS, False)
    assert matched(api, limit=5, query={"eo:cloud_cover": {"lt": 20}}) == (20, False)
    assert matched(api, limit=5, sortby=[{"field": "id", "direction": "asc"}]) == (ITEMS, False)


@pytest.mark.parametrize(
    "sortby", [[], [{"field": "datetime", "direction": "asc"}], [{"field": "id", "direction": "asc"}]]
)
def test_where_many_are_guessed_the_answer_says_so(
    api: httpx.Client, monkeypatch: pytest.MonkeyPatch, sortby: list[dict[str, str]]
) -> None:
    monkeypatch.setattr(counts, "COUNTED_BYTES", -1)
    monkeypatch.setattr(counts, "KEPT_S", 0.0)
    monkeypatch.setattr(partitions, "KEPT_S", 0.0)
    number, is_guess = matched(api, limit=7, sortby=sortby)
    assert is_guess
    assert number > 7
    assert matched(api, limit=ITEMS + 1, sortby=sortby) == (ITEMS, False)  # nothing is left out
    assert matched(api, limit=1, sortby=sortby) == (ITEMS, False)  # who asks for one item asks for the number


def test_a_guess_is_never_more_than_all_items(api: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "COUNTED_BYTES", -1)
    monkeypatch.setattr(counts, "KEPT_S", 0.0)
    monkeypatch.setattr(partitions, "KEPT_S", 0.0)
    monkeypatch.setattr(partitions, "_ROW_BYTES", 10**6)  # as if nothing was there
    odd = {"op": "<>", "args": [{"property": "platform"}, "none"]}
    number, is_guess = matched(api, limit=7, filter=odd, sortby=[{"field": "id", "direction": "asc"}])
    assert is_guess
    assert 7 < number <= ITEMS
