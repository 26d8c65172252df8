"""How aggregations are asked for and answered: names, precisions, intervals and empty buckets, without a database."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.problems import Problem
from api.stac.aggregate import Turns
from api.stac.aggregations import FREQUENCIES, INTERVALS, MOST_BUCKETS, PRECISIONS, VALUES, Asked, answered, offered
from tests.api.plain_aggregates import interval_of, time_of


def found(name: str, counts: dict[str, int], overflow: int = 0) -> dict[str, Any]:
    """What the database says."""
    bucketed = {"keys": list(counts), "frequencies": list(counts.values()), "overflow": overflow}
    return {"matched": sum(counts.values()) + overflow, "first": None, "last": None, "buckets": {name: bucketed}}


def key_of(when: datetime) -> str:
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_all_that_is_offered_can_be_asked_for_and_says_its_type() -> None:
    names = [one["name"] for one in offered()]
    assert names == [*VALUES, *FREQUENCIES]
    assert Asked.of({"aggregations": ",".join(names)}).names == Asked.of({"aggregations": names}).names == tuple(names)
    assert {one["data_type"] for one in offered()} == {"integer", "datetime", "frequency_distribution"}


def test_what_nobody_names_is_as_stac_server_has_it() -> None:
    asked = Asked.of({"aggregations": "datetime_frequency, datetime_frequency,,cloud_cover_frequency"})
    assert asked.names == ("datetime_frequency", "cloud_cover_frequency")
    assert asked.interval == "month"
    assert set(asked.precisions.values()) == {0, 1}
    assert Asked.of({}).names == ()


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"aggregations": "nonsense"}, "UNKNOWN_AGGREGATION"),
        ({"aggregations": ["total_count", "'; drop table x"]}, "UNKNOWN_AGGREGATION"),
        ({"aggregations": ["x" * 10_000]}, "UNKNOWN_AGGREGATION"),
        ({"aggregations": 7}, "INVALID_PARAMETER"),
        ({"aggregations": {"a": 1}}, "INVALID_PARAMETER"),
        ({"aggregations": [7]}, "INVALID_PARAMETER"),
        ({"datetime_frequency_interval": "fortnight"}, "INVALID_INTERVAL"),
        ({"datetime_frequency_interval": ""}, "INVALID_INTERVAL"),
        ({"datetime_frequency_interval": ["day"]}, "INVALID_INTERVAL"),
        *(({name: value}, "INVALID_PRECISION") for name in PRECISIONS for value in (-1, 30, "x", "1e1", 1.0, True, "९", "")),
        ({"centroid_geohash_grid_frequency_precision": 0}, "INVALID_PRECISION"),
        ({"centroid_geohash_grid_frequency_precision": "13"}, "INVALID_PRECISION"),
    ],
)  # fmt: skip
def test_bad_parameters_have_a_code(parameters: dict[str, Any], code: str) -> None:
    with pytest.raises(Problem) as refused:
        Asked.of(parameters)
    assert (refused.value.status, refused.value.code) == (400, code)
    assert len(refused.value.detail) < 200


@given(
    st.lists(st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)), min_size=1, max_size=5),
    st.sampled_from(INTERVALS),
)
@settings(max_examples=40, deadline=None)
def test_intervals_without_items_are_there_too_where_they_are_not_too_many(when: list[datetime], interval: str) -> None:
    held = sorted({key_of(interval_of(one.replace(tzinfo=UTC), interval)) for one in when})
    asked = Asked.of({"aggregations": ["datetime_frequency"], "datetime_frequency_interval": interval})
    (one,) = answered(asked, found("datetime_frequency", dict.fromkeys(held, 1)))
    keys = [bucket["key"] for bucket in one["buckets"]]
    assert keys == sorted(set(keys))
    assert [bucket["key"] for bucket in one["buckets"] if bucket["frequency"]] == held
    assert len(keys) <= MOST_BUCKETS
    if keys != held:  # filled: no interval is left out, none is invented
        assert all(key_of(interval_of(time_of(key), interval)) == key for key in keys)
        widths = [time_of(late) - time_of(early) for early, late in itertools.pairwise(keys)]
        assert max(widths) < 2 * min(widths)


def test_the_last_interval_of_the_calendar_is_no_end_of_the_world() -> None:
    asked = Asked.of({"aggregations": "datetime_frequency", "datetime_frequency_interval": "year"})
    keys = ["9990-01-01T00:00:00.000Z", "9999-01-01T00:00:00.000Z"]
    (one,) = answered(asked, found("datetime_frequency", dict.fromkeys(keys, 1)))
    assert len(one["buckets"]) == 10


def test_ranges_are_always_all_there_and_say_from_and_to() -> None:
    (one,) = answered(Asked.of({"aggregations": "cloud_cover_frequency"}), found("cloud_cover_frequency", {"2": 7}))
    assert one["buckets"] == [
        {"key": "*-5.0", "data_type": "numeric", "frequency": 0, "to": 5},
        {"key": "5.0-15.0", "data_type": "numeric", "frequency": 0, "from": 5, "to": 15},
        {"key": "15.0-40.0", "data_type": "numeric", "frequency": 7, "from": 15, "to": 40},
        {"key": "40.0-*", "data_type": "numeric", "frequency": 0, "from": 40},
    ]


def test_terms_begin_with_the_most_frequent_and_tell_what_overflows() -> None:
    counts = {"b": 2, "a": 2, "c": 9}
    (one,) = answered(Asked.of({"aggregations": "platform_frequency"}), found("platform_frequency", counts, 4))
    assert [(bucket["key"], bucket["frequency"]) for bucket in one["buckets"]] == [("c", 9), ("a", 2), ("b", 2)]
    assert one["overflow"] == 4


def test_times_have_milliseconds_where_these_are_all() -> None:
    asked = Asked.of({"aggregations": "datetime_min,datetime_max"})
    times = {"first": "2025-01-01T00:00:00.500000Z", "last": "2025-01-01T00:00:00.500001Z"}
    first, last = answered(asked, {"matched": 1, "buckets": None, **times})
    assert (first["value"], last["value"]) == ("2025-01-01T00:00:00.500Z", "2025-01-01T00:00:00.500001Z")


async def test_who_finds_no_place_is_told_so_and_a_place_becomes_free() -> None:
    turns = Turns(at_once=1, patience_s=0.01)
    async with turns.one():
        with pytest.raises(Problem) as refused:
            async with turns.one():
                pass
    assert (refused.value.status, refused.value.code) == (503, "AGGREGATIONS_BUSY")
    async with asyncio.timeout(5), turns.one():
        pass
