"""What may not enter the database."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import RecordRejected
from ingest.sanitise import check_item, item_text, parse_time, time_text
from lineage.canonical import canonical

GOOD: dict[str, Any] = {"id": "a", "properties": {"datetime": "2026-01-01T00:00:00Z"}, "assets": {}, "links": []}


def code_of(item: dict[str, Any]) -> str:
    with pytest.raises(RecordRejected) as caught:
        check_item(item)
    return caught.value.code


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_a_good_item_passes_unchanged() -> None:
    assert check_item(GOOD) is GOOD


@pytest.mark.parametrize("bad", ["", "a/b", "a b", "a:b", "x" * 513, "é", "a'b", 7, None])
def test_ids(bad: Any) -> None:
    assert code_of({**GOOD, "id": bad}) == "id-invalid"


@pytest.mark.parametrize(
    "when",
    ["yesterday", "now", "2026-01-01", "2026-01-01T00:00:00", "0001-01-01T00:00:00Z", "9999-12-31T00:00:00Z", "2026-02-30T00:00:00Z",
     "2026-01-01T00:00:00+99:99", "2026-01-01T25:00:00Z", "2026-01-01T00:00:60Z", 5, ""],
)  # fmt: skip
def test_datetimes(when: Any) -> None:
    assert (
        code_of({**GOOD, "properties": {"datetime": None, "start_datetime": when, "end_datetime": when}})
        == "datetime-invalid"
    )


def test_end_before_start() -> None:
    times = {"datetime": None, "start_datetime": "2026-01-02T00:00:00Z", "end_datetime": "2026-01-01T00:00:00Z"}
    assert code_of({**GOOD, "properties": times}) == "datetime-invalid"


@pytest.mark.parametrize(
    ("value", "code"),
    [("a\0b", "content-invalid"), ("\ud800", "content-invalid"), (float("nan"), "content-invalid"), (float("inf"), "content-invalid"),
     (2**60, "content-invalid"), (-(2**53) - 1, "content-invalid"), (-(10**19), "content-invalid"),
     (nested(70), "too-deep"), ("x" * 1_100_000, "too-large"), (object(), "content-invalid")],
    ids=["NUL", "half a character", "NaN", "infinity", "huge integer", "negative one", "beyond 64 bits", "depth", "size", "no JSON"],
)  # fmt: skip
def test_contents(value: Any, code: str) -> None:
    assert code_of({**GOOD, "extra": value}) == code


@pytest.mark.parametrize("value", [-3.4028234663852886e38, 2.0**53, 1.5e15, 1e300, 2.0**64, "1e+16"])
def test_numbers_that_come_back_as_they_went_are_stored(value: Any) -> None:
    check_item({**GOOD, "extra": value})


@given(st.integers(-(2**66), 2**66).map(float))
def test_a_whole_float_comes_back_from_the_database_as_a_number_that_is_the_same(value: float) -> None:
    went = item_text({**GOOD, "extra": value})
    came = orjson.loads(f"{Decimal(orjson.dumps(value).decode()):f}")  # as PostgreSQL writes a number of its jsonb
    assert canonical(orjson.loads(went)) == canonical(orjson.loads(item_text({**GOOD, "extra": came})))


def test_bad_names_of_members() -> None:
    assert code_of({**GOOD, "extra": {"a\0": 1}}) == "content-invalid"


@given(
    st.datetimes(
        min_value=__import__("datetime").datetime(1901, 1, 1), max_value=__import__("datetime").datetime(2099, 1, 1)
    )
)
def test_times_round_trip(when: Any) -> None:
    text = when.isoformat(timespec="microseconds") + "Z"
    assert time_text(parse_time(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-01T01:00:00+01:00",
        "2026-01-01t00:00:00z",
        "2026-01-01T00:00:00.000Z",
        "2026-01-01T00:00:00.0000000009Z",
    ],
)
def test_times_in_other_spellings(text: str) -> None:
    assert time_text(parse_time(text)) == "2026-01-01T00:00:00.000000Z"
