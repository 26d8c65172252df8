"""What aggregations should be, reckoned in plain Python from the features that a search finds."""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import shapely
from shapely.affinity import translate
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

Feature = dict[str, Any]
_BASE32 = "0123456789bcdefghjkmnpqrstuvwxyz"
CLOUDS = (("*-5.0", -math.inf, 5), ("5.0-15.0", 5, 15), ("15.0-40.0", 15, 40), ("40.0-*", 40, math.inf))
MOST, MOST_CELLS = 1_000_000, 1024


def time_of(text: str) -> datetime:
    """A moment in UTC."""
    return datetime.fromisoformat(text).astimezone(UTC)


def begin(feature: Feature) -> datetime:
    """When an item begins."""
    found = feature["properties"]
    is_range = found.get("start_datetime") and found.get("end_datetime")
    return time_of(found["start_datetime"] if is_range else found["datetime"])


def end(feature: Feature) -> datetime:
    """When an item ends."""
    found = feature["properties"]
    is_range = found.get("start_datetime") and found.get("end_datetime")
    return time_of(found["end_datetime"] if is_range else found["datetime"])


def interval_of(when: datetime, interval: str) -> datetime:
    """The begin of the interval that a moment is in."""
    day = when.replace(hour=0, minute=0, second=0, microsecond=0)
    match interval:
        case "second":
            return when.replace(microsecond=0)
        case "minute":
            return when.replace(second=0, microsecond=0)
        case "hour":
            return when.replace(minute=0, second=0, microsecond=0)
        case "week":
            return day - timedelta(days=day.weekday())
        case "month":
            return day.replace(day=1)
        case "quarter":
            return day.replace(day=1, month=(day.month - 1) // 3 * 3 + 1)
        case "year":
            return day.replace(day=1, month=1)
    return day


def times(features: Iterable[Feature], interval: str) -> Counter[str]:
    """Items by interval."""
    keys = (interval_of(begin(one), interval) for one in features)
    return Counter(key.isoformat(timespec="milliseconds").replace("+00:00", "Z") for key in keys)


def terms(features: Iterable[Feature], name: str) -> Counter[str]:
    """Items by the text of a property."""
    values = (one["properties"].get(name) for one in features)
    return Counter(value for value in values if isinstance(value, str) and len(value) <= 256)


def _numbers(features: Iterable[Feature], name: str) -> list[float]:
    values = (one["properties"].get(name) for one in features)
    return [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]


def clouds(features: Iterable[Feature]) -> Counter[str]:
    """Items by range of cloud cover."""
    numbers = _numbers(features, "eo:cloud_cover")
    return Counter({key: sum(low <= number < high for number in numbers) for key, low, high in CLOUDS})


def steps(features: Iterable[Feature], name: str, step: int = 5) -> Counter[str]:
    """Items by step of a number, of those below a million."""
    numbers = _numbers(features, name)
    return Counter(f"{number // step * step:.1f}" for number in numbers if abs(number) < MOST)


def centre(geometry: BaseGeometry) -> tuple[float, float]:
    """Longitude and latitude of a footprint's middle; one cut at the antimeridian is put together."""
    west, _, east, _ = geometry.bounds
    if len(getattr(geometry, "geoms", [])) > 1 and east - west > 180:
        moved = shapely.MultiPolygon([translate(one, 360) if one.bounds[2] < 0 else one for one in geometry.geoms])  # type: ignore[attr-defined]
        if moved.bounds[2] - moved.bounds[0] < 180:
            geometry = moved
    point = geometry.centroid
    return (point.x - 360 if point.x > 180 else point.x), point.y


def geohash(longitude: float, latitude: float, length: int) -> str:
    """As in Niemeyer's geohash: bits in turns, of longitude first."""
    ranges = [[-180.0, 180.0], [-90.0, 90.0]]
    bits = []
    for number in range(length * 5):
        held, value = ranges[number % 2], (longitude, latitude)[number % 2]
        middle = (held[0] + held[1]) / 2
        bits.append(value >= middle)
        held[0 if bits[-1] else 1] = middle
    return "".join(_BASE32[int("".join("01"[bit] for bit in bits[n : n + 5]), 2)] for n in range(0, len(bits), 5))


def geotile(longitude: float, latitude: float, zoom: int) -> str:
    """As in web maps: column from west, row from north; beyond 85 degrees those of the last row."""
    tiles = 2**zoom
    x = math.floor((longitude + 180) / 360 * tiles)
    sine = math.sin(math.radians(max(-89.0, min(89.0, latitude))))
    y = math.floor((0.5 - math.log((1 + sine) / (1 - sine)) / (4 * math.pi)) * tiles)
    return f"{zoom}/{min(max(x, 0), tiles - 1)}/{min(max(y, 0), tiles - 1)}"


NAMED: dict[str, Callable[[float, float, int], str]] = {"geohash": geohash, "geotile": geotile}


def centres(features: Iterable[Feature], grid: str, precision: int) -> Counter[str]:
    """Items by the cell that their centre is in."""
    return Counter(NAMED[grid](*centre(shape(one["geometry"])), precision) for one in features)


@functools.cache
def boxes(grid: str, precision: int) -> dict[str, BaseGeometry]:
    """All cells of a coarse grid."""
    if grid == "geohash":
        columns, rows = 2 ** ((5 * precision + 1) // 2), 2 ** (5 * precision // 2)
        edges = [n * 180 / rows - 90 for n in range(rows + 1)]
    else:
        columns = rows = 2**precision
        inner = [math.degrees(math.atan(math.sinh(math.pi * (1 - 2 * n / rows)))) for n in range(1, rows)]
        edges = [-90.0, *reversed(inner), 90.0]
    found = {}
    for column in range(columns):
        west, east = column * 360 / columns - 180, (column + 1) * 360 / columns - 180
        for south, north in itertools.pairwise(edges):
            found[NAMED[grid]((west + east) / 2, (south + north) / 2, precision)] = shapely.box(
                west, south, east, north
            )
    return found


def footprints(features: Iterable[Feature], grid: str, precision: int) -> Counter[str]:
    """Items by each cell that their footprint meets, of a grid that has no more cells than are told of one."""
    shapes = [shape(one["geometry"]) for one in features]
    cells = boxes(grid, precision)
    assert len(cells) <= MOST_CELLS
    return Counter({key: int(shapely.intersects(box, shapes).sum()) for key, box in cells.items()})
