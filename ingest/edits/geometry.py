"""Geometries and boxes that callers give: looked at, and refused rather than repaired. RFC 7946 with longitudes and latitudes in range.

One unclosed ring in pgstac makes every search that meets it fail.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import shapely
from shapely.geometry import MultiPolygon, Polygon, shape

from ingest.errors import EditRefused
from ingest.footprint import bbox_of
from ingest.model import JSON
from ingest.rows import ewkb
from ingest.sanitise import pointer

Place = tuple[str | int, ...]
Number = float | int
_NEAR = re.compile(r"\[(-?[0-9.]+) (-?[0-9.]+)")


def checked_geometry(geometry: Any, place: Place = ("geometry",)) -> JSON:
    """Return the geometry with its own members alone, whole numbers as such.

    Raises:
        EditRefused: GEOMETRY_REQUIRED for null, INVALID_GEOMETRY; `place` is the JSON pointer to what is wrong.
    """
    if geometry is None:
        raise EditRefused("GEOMETRY_REQUIRED", "an item has a geometry here", place=pointer(*place))
    checked = _geometry(geometry, place)
    found = shapely.from_wkb(ewkb(checked))
    if not found.is_valid:
        raise _refuse(f"the geometry crosses or touches itself{_near(found)}", (*place, "coordinates"))
    return checked


def are_valid(packed: Sequence[bytes]) -> bool:
    """Whether in none of these geometries (EWKB) a ring crosses or touches itself or another; many at once cost a third of one by one."""
    return bool(shapely.is_valid(shapely.from_wkb(packed)).all())


def checked_bbox(box: Any, geometry: JSON) -> list[Number]:
    """Return the box, or that of the geometry when there is none.

    Raises:
        EditRefused: INVALID_BBOX.
    """
    if box is None:
        return _bbox(geometry)
    if not isinstance(box, list) or len(box) not in (4, 6) or not all(_is_number(one) for one in box):
        raise EditRefused("INVALID_BBOX", "a bbox is a list of four or six numbers", place="/bbox")
    half = len(box) // 2
    west, south, east, north = box[0], box[1], box[half], box[half + 1]
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90):
        raise EditRefused(
            "INVALID_BBOX", "a bbox is west, south, east, north in degrees, south not above north", place="/bbox"
        )
    if half == 3 and box[2] > box[5]:
        raise EditRefused("INVALID_BBOX", "a bbox ends above where it begins", place="/bbox")
    return box


def _bbox(geometry: JSON) -> list[Number]:
    """Box of a geometry; west > east when it was cut at the antimeridian; with heights when it has them."""
    found = shape(geometry)
    west, south, east, north = bbox_of(found) if isinstance(found, Polygon | MultiPolygon) else found.bounds
    if not found.has_z:
        return [west, south, east, north]
    heights = shapely.get_coordinates(found, include_z=True)[:, 2]
    return [west, south, float(heights.min()), east, north, float(heights.max())]


def _geometry(geometry: Any, place: Place) -> JSON:
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if kind == "GeometryCollection":
        return _collection(geometry, place)
    check = _KINDS.get(kind) if isinstance(kind, str) else None
    if check is None:
        raise _refuse("a geometry is a GeoJSON object of one of RFC 7946's types", (*place, "type"))
    if "crs" in geometry:
        raise _refuse(
            "coordinates are longitude and latitude in WGS 84; another system cannot be named", (*place, "crs")
        )
    coordinates = check(geometry.get("coordinates"), (*place, "coordinates"))
    dimensions = {len(position) for position in _positions(coordinates)}
    if len(dimensions) > 1:
        raise _refuse("some positions have a height and some have none", (*place, "coordinates"))
    return {"type": kind, "coordinates": coordinates}


def _collection(geometry: JSON, place: Place) -> JSON:
    members = geometry.get("geometries")
    place = (*place, "geometries")
    if not isinstance(members, list) or not members:
        raise _refuse("a geometry collection has geometries", place)
    checked = [_geometry(one, (*place, number)) for number, one in enumerate(members)]
    if any(one["type"] == "GeometryCollection" for one in checked):
        raise _refuse("a geometry collection holds no other", place)
    if len({len(next(_positions(one["coordinates"]))) for one in checked}) > 1:
        raise _refuse("some positions have a height and some have none", place)
    return {"type": "GeometryCollection", "geometries": checked}


def _positions(coordinates: Any) -> Any:
    """All positions, one by one."""
    if not isinstance(coordinates[0], list):
        yield coordinates
        return
    for one in coordinates:
        yield from _positions(one)


def _position(value: Any, place: Place) -> list[Number]:
    if not isinstance(value, list) or len(value) not in (2, 3) or not all(_is_number(one) for one in value):
        raise _refuse("a position is longitude, latitude and perhaps height: finite numbers", place)
    if not (-180 <= value[0] <= 180 and -90 <= value[1] <= 90):
        raise _refuse(
            "a position lies off the Earth: longitudes reach from -180 to 180 (what crosses is cut there), latitudes from -90 to 90",
            place,
        )
    return [int(one) if isinstance(one, float) and one.is_integer() else one for one in value]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _line(value: Any, place: Place) -> list[Any]:
    return _several(value, place, _position, 2)


def _ring(value: Any, place: Place) -> list[Any]:
    ring = _several(value, place, _position, 4)
    if ring[0] != ring[-1]:
        raise _refuse("a ring ends where it begins", (*place, len(ring) - 1))
    return ring


def _polygon(value: Any, place: Place) -> list[Any]:
    return _several(value, place, _ring, 1)


def _several(value: Any, place: Place, check: Callable[[Any, Place], Any], least: int) -> list[Any]:
    if not isinstance(value, list) or len(value) < least:
        raise _refuse(f"here is a list of at least {least}", place)
    return [check(one, (*place, number)) for number, one in enumerate(value)]


def _many(check: Callable[[Any, Place], Any]) -> Callable[[Any, Place], list[Any]]:
    return lambda value, place: _several(value, place, check, 1)


_KINDS: dict[str, Callable[[Any, Place], Any]] = {
    "Point": _position,
    "LineString": _line,
    "Polygon": _polygon,
    "MultiPoint": _many(_position),
    "MultiLineString": _many(_line),
    "MultiPolygon": _many(_polygon),
}


def _near(found: Any) -> str:
    """Where a geometry is not valid, when GEOS tells."""
    match = _NEAR.search(str(shapely.is_valid_reason(found)))
    return f" near {match[1]}, {match[2]}" if match else ""


def _refuse(why: str, place: Sequence[str | int]) -> EditRefused:
    return EditRefused("INVALID_GEOMETRY", why, place=pointer(*place))
