"""Spatial predicates of CQL2 as pgstac takes them: the item's geometry first, then one GeoJSON geometry that PostGIS compares."""

from __future__ import annotations

from typing import Any

import shapely
from shapely.errors import ShapelyError
from shapely.geometry import mapping, shape

from api.problems import Problem

JSON = dict[str, Any]
#: Function -> the same with its operands exchanged.
_EXCHANGED = {
    **{f"s_{name}": f"s_{name}" for name in ("intersects", "disjoint", "equals", "touches", "crosses", "overlaps")},
    "s_within": "s_contains",
    "s_contains": "s_within",
}
_TYPES = {"Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon", "GeometryCollection"}
_GEOMETRY: JSON = {"property": "geometry"}


def _refused(detail: str, code: str = "INVALID_FILTER", **facts: Any) -> Problem:
    return Problem(400, code, detail, field="filter", **facts)


def spatial(op: str, args: list[Any]) -> Any:
    """Return the predicate; True or False when no property is in it.

    Raises:
        Problem: 400 `UNKNOWN_FUNCTION`, `UNSUPPORTED_GEOMETRY` or `INVALID_FILTER`.
    """
    if op not in _EXCHANGED:
        raise _refused(f"there is no function {op!r} here", "UNKNOWN_FUNCTION", function=op)
    if len(args) != 2:
        raise _refused(f"{op!r} takes two arguments")
    first, second = map(_operand, args)
    if first is None:
        if second is None:
            raise _refused(f"{op!r} compares an item's geometry with another one")
        return _predicate(op, second)
    if second is None:
        return _predicate(_EXCHANGED[op], first)
    return bool(getattr(shapely, op[2:])(_shape(first), _shape(second)))


def _operand(value: Any) -> JSON | None:
    """A literal as GeoJSON; None for the item's geometry."""
    if not isinstance(value, dict):
        raise _refused("a spatial function compares geometries")
    if "property" in value:
        if str(value["property"]).removeprefix("properties.") != "geometry":
            raise _refused("items have one geometry, the property 'geometry'", "UNSUPPORTED_GEOMETRY")
        return None
    if "bbox" in value:
        return _box(value["bbox"])
    if value.get("type") not in _TYPES:
        raise _refused("a geometry is GeoJSON, or a bbox")
    return value


def _box(numbers: Any) -> JSON:
    """A box as polygon; one that crosses the antimeridian as two (RFC 7946, 5.2)."""
    is_box = isinstance(numbers, list) and all(isinstance(n, int | float) for n in numbers) and len(numbers) in (4, 6)
    if not is_box:
        raise _refused("a bbox has four or six numbers")
    west, south, east, north = numbers if len(numbers) == 4 else (*numbers[:2], *numbers[3:5])
    if not (-90 <= south <= north <= 90 and -180 <= west <= 180 and -180 <= east <= 180):
        raise _refused("a bbox is west, south, east, north in degrees, south not above north")
    if west <= east:
        return {"type": "Polygon", "coordinates": [_ring(west, south, east, north)]}
    return {
        "type": "MultiPolygon",
        "coordinates": [[_ring(west, south, 180, north)], [_ring(-180, south, east, north)]],
    }


def _ring(west: float, south: float, east: float, north: float) -> list[list[float]]:
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


def _predicate(op: str, literal: JSON) -> Any:
    if literal["type"] != "GeometryCollection":
        return {"op": op, "args": [_GEOMETRY, literal]}
    return _with_collection(op, literal)


def _with_collection(op: str, literal: JSON) -> Any:
    """PostGIS refuses to compare with collections; what it can be told is the parts, or one geometry of the same points."""
    parts = literal.get("geometries")
    if not isinstance(parts, list) or not parts:
        raise _refused("a geometry collection has geometries")
    if op in ("s_intersects", "s_disjoint"):
        met = {"op": "or", "args": [spatial("s_intersects", [_GEOMETRY, part]) for part in parts]}
        return met if op == "s_intersects" else {"op": "not", "args": [met]}
    union = shapely.union_all([_shape(part) for part in parts])
    if union.geom_type == "GeometryCollection":
        raise _refused(f"{op!r} takes collections of one kind of geometry", "UNSUPPORTED_GEOMETRY", function=op)
    return {"op": op, "args": [_GEOMETRY, mapping(union)]}


def _shape(literal: JSON) -> Any:
    try:
        return shape(literal)
    except (ShapelyError, ValueError, TypeError, KeyError, IndexError, AttributeError):
        raise _refused("a geometry of the filter is no GeoJSON") from None
