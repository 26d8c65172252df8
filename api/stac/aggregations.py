"""What can be aggregated, how it is asked for, and how it is answered. Counting is SQL's, in `db/migrations/0009_aggregation.sql`.

Names, parameters, defaults and shapes are those of stac-server (`src/lib/api.ts`, `src/lib/database.ts`, read 2026-11-25), whose clients
know them; `datetime_frequency_interval` is that of stac-fastapi-elasticsearch-opensearch. Where we differ, docs/aggregation.md says so.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NotRequired, TypedDict, get_args

from api.bounds import refuse

#: Buckets of one aggregation; items of further ones are its overflow.
MOST_BUCKETS = 10_000
Interval = Literal["second", "minute", "hour", "day", "week", "month", "quarter", "year"]
INTERVALS: tuple[Interval, ...] = get_args(Interval)
INTERVAL_PARAMETER = "datetime_frequency_interval"
DEFAULT_INTERVAL: Interval = "month"
_MONTHS = {"month": 1, "quarter": 3, "year": 12}
_STEPS = {
    "second": timedelta(seconds=1),
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
}

#: Aggregations of a single value -> its type.
VALUES = {"total_count": "integer", "datetime_min": "datetime", "datetime_max": "datetime"}

Kind = Literal["collection", "interval", "term", "range", "histogram", "centre", "footprint"]
Grid = Literal["geohash", "geotile"]
#: Grid -> the precisions it has; the coarsest is the default.
_PRECISIONS: dict[Grid, range] = {"geohash": range(1, 13), "geotile": range(30)}

# stac-fastapi's own types of these say that a frequency is an object.
Bucket = TypedDict(
    "Bucket", {"key": str, "data_type": str, "frequency": int, "from": NotRequired[float], "to": NotRequired[float]}
)


class Aggregation(TypedDict):
    """One aggregation of an answer, or one that can be asked for."""

    name: str
    data_type: str
    frequency_distribution_data_type: NotRequired[str]
    value: NotRequired[int | str | None]
    buckets: NotRequired[list[Bucket]]
    overflow: NotRequired[int]


class AggregationCollection(TypedDict):
    """An answer."""

    type: Literal["AggregationCollection"]
    aggregations: list[Aggregation]
    links: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Frequency:
    """An aggregation that counts items by bucket.

    `data_type` is that of the keys, `property` the item's property that is looked at, `grid` the cells that the item's centre is in or its
    footprint meets, `bounds` where one range ends and the next begins, `step` how wide buckets of numbers are.
    """

    kind: Kind
    data_type: str = "string"
    property: str | None = None
    grid: Grid | None = None
    bounds: tuple[float, ...] = ()
    step: int = 0


def _histogram(name: str) -> Frequency:
    return Frequency("histogram", "numeric", name, step=5)


FREQUENCIES = {
    "datetime_frequency": Frequency("interval", "datetime"),
    "collection_frequency": Frequency("collection"),
    "platform_frequency": Frequency("term", property="platform"),
    "cloud_cover_frequency": Frequency("range", "numeric", "eo:cloud_cover", bounds=(5, 15, 40)),
    "sun_elevation_frequency": _histogram("view:sun_elevation"),
    "sun_azimuth_frequency": _histogram("view:sun_azimuth"),
    "off_nadir_frequency": _histogram("view:off_nadir"),
    "grid_code_frequency": Frequency("term", property="grid:code"),
    "grid_geohash_frequency": Frequency("centre", grid="geohash"),  # the older names of the two that follow
    "grid_geotile_frequency": Frequency("centre", grid="geotile"),
    "centroid_geohash_grid_frequency": Frequency("centre", grid="geohash"),
    "centroid_geotile_grid_frequency": Frequency("centre", grid="geotile"),
    "geometry_geohash_grid_frequency": Frequency("footprint", grid="geohash"),
    "geometry_geotile_grid_frequency": Frequency("footprint", grid="geotile"),
}
#: Parameter -> the precisions that it takes.
PRECISIONS = {f"{name}_precision": _PRECISIONS[one.grid] for name, one in FREQUENCIES.items() if one.grid}
#: All parameters of a request that say what to aggregate, and not what is searched.
PARAMETERS = frozenset({"aggregations", INTERVAL_PARAMETER, *PRECISIONS})


@dataclass(frozen=True, slots=True)
class Asked:
    """Which aggregations to answer, in this order, each once."""

    names: tuple[str, ...]
    interval: str
    precisions: Mapping[str, int]

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Asked:
        """Read and check the parameters of a query string (texts) or of a body (JSON) that are about aggregations.

        Raises:
            Problem: 400 with a stable code.
        """
        interval = parameters.get(INTERVAL_PARAMETER)
        if interval not in (None, *INTERVALS):
            raise refuse("INVALID_INTERVAL", f"an interval is one of {', '.join(INTERVALS)}", field=INTERVAL_PARAMETER)
        precisions = {name: _precision(name, parameters.get(name), held) for name, held in PRECISIONS.items()}
        return cls(_names(parameters.get("aggregations")), interval or DEFAULT_INTERVAL, precisions)

    def wanted(self) -> list[dict[str, Any]]:
        """The buckets to count, as `federator.aggregate` takes them."""
        return [self._counted(name, FREQUENCIES[name]) for name in self.names if name in FREQUENCIES]

    def _counted(self, name: str, one: Frequency) -> dict[str, Any]:
        detail: Any = None
        match one.kind:
            case "interval":
                detail = self.interval
            case "range":
                detail = f"{{{','.join(map(str, one.bounds))}}}"
            case "histogram":
                detail = one.step
            case "centre" | "footprint":
                detail = self.precisions[f"{name}_precision"]
        counted = {"name": name, "kind": one.kind, "property": one.property, "grid": one.grid, "detail": detail}
        return {member: value for member, value in counted.items() if value is not None}


def _names(value: Any) -> tuple[str, ...]:
    names = [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value
    if names is None:
        return ()
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise refuse("INVALID_PARAMETER", "aggregations is a list of names", field="aggregations")
    for name in names:
        if name not in VALUES and name not in FREQUENCIES:
            known = [*VALUES, *FREQUENCIES]
            raise refuse("UNKNOWN_AGGREGATION", f"there is no aggregation {name[:80]!r} here", known=known)
    return tuple(dict.fromkeys(names))


def _precision(parameter: str, value: Any, held: range) -> int:
    if value is None:
        return held[0]
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 3:
        value = int(value)
    if type(value) is not int or value not in held:
        raise refuse(
            "INVALID_PRECISION", f"{parameter} is an integer from {held[0]} to {held[-1]}", field=parameter,
            least=held[0], most=held[-1],
        )  # fmt: skip
    return value


def offered() -> list[Aggregation]:
    """What can be asked for."""
    values: list[Aggregation] = [{"name": name, "data_type": kind} for name, kind in VALUES.items()]
    return values + [
        {"name": name, "data_type": "frequency_distribution", "frequency_distribution_data_type": one.data_type}
        for name, one in FREQUENCIES.items()
    ]


def answered(asked: Asked, found: Mapping[str, Any]) -> list[Aggregation]:
    """The aggregations of an answer, of what `federator.aggregate` has found."""
    values = {
        "total_count": found["matched"],
        "datetime_min": _short(found["first"]),
        "datetime_max": _short(found["last"]),
    }
    return [
        {"name": name, "data_type": VALUES[name], "value": values[name]}
        if name in VALUES
        else _distribution(name, found["buckets"][name], asked.interval)
        for name in asked.names
    ]


def _distribution(name: str, found: Mapping[str, Any], interval: str) -> Aggregation:
    one = FREQUENCIES[name]
    counts = dict(zip(found["keys"], found["frequencies"], strict=True))
    match one.kind:
        case "interval":
            buckets = [_bucket(key, one, counts) for key in _intervals(sorted(counts), interval)]
        case "range":
            ranges = itertools.pairwise((None, *one.bounds, None))
            buckets = [_range(str(number), *ends, one, counts) for number, ends in enumerate(ranges)]
        case "histogram":
            buckets = [
                _range(str(low), low, low + one.step, one, counts, f"{low:.1f}") for low in _steps(counts, one.step)
            ]
        case _:
            buckets = [_bucket(key, one, counts) for key in sorted(counts, key=lambda key: (-counts[key], key))]
    return {
        "name": name,
        "data_type": "frequency_distribution",
        "overflow": int(found["overflow"]),
        "buckets": buckets,
    }


def _bucket(key: str, one: Frequency, counts: Mapping[str, int]) -> Bucket:
    return {"key": key, "data_type": one.data_type, "frequency": counts.get(key, 0)}


def _range(
    counted_as: str, since: float | None, until: float | None, one: Frequency, counts: Mapping[str, int], key: str = ""
) -> Bucket:
    """A bucket of numbers from `since` on and below `until`; None: without end."""
    ends = "-".join("*" if end is None else f"{end:.1f}" for end in (since, until))
    found: Bucket = {"key": key or ends, "data_type": one.data_type, "frequency": counts.get(counted_as, 0)}
    if since is not None:
        found["from"] = since
    if until is not None:
        found["to"] = until
    return found


def _steps(counts: Mapping[str, int], step: int) -> Sequence[int]:
    """Lower ends of the buckets of a histogram, empty ones between them too where they are not too many."""
    held = sorted(map(int, counts))
    filled = range(held[0], held[-1] + 1, step) if held else ()
    return filled if len(filled) <= MOST_BUCKETS else held


def _intervals(held: Sequence[str], interval: str) -> Sequence[str]:
    """Begins of intervals, empty ones between them too where they are not too many; `held` are in order."""
    if not held:
        return held
    some = itertools.islice(_each(held[0], interval), MOST_BUCKETS)
    filled = list(itertools.takewhile(lambda key: key <= held[-1], some))
    return filled if filled[-1:] == held[-1:] else held


def _each(first: str, interval: str) -> Iterator[str]:
    """Begins of all intervals from this one on, as far as the calendar goes."""
    try:
        begin = datetime.fromisoformat(first)
        while True:
            yield begin.isoformat(timespec="milliseconds").replace("+00:00", "Z")
            begin = _following(begin, interval)
    except (ValueError, OverflowError):
        return


def _following(begin: datetime, interval: str) -> datetime:
    if interval in _STEPS:
        return begin + _STEPS[interval]
    months = begin.year * 12 + begin.month - 1 + _MONTHS[interval]
    return datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC)


def _short(time: str | None) -> str | None:
    """A time in milliseconds where it has no more digits than these."""
    return f"{time[:-4]}Z" if time and time.endswith("000Z") else time
