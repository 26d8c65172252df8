"""A search's geometry: whether it is one, by RFC 7946, and not too large. A linear scan of our own that ends at the first fault."""

from __future__ import annotations

import math
from typing import Any

import orjson

from api.problems import Problem

#: Type -> how deep its positions lie in lists.
_DEPTHS = {"Point": 0, "MultiPoint": 1, "LineString": 1, "MultiLineString": 2, "Polygon": 2, "MultiPolygon": 3}
#: Positions of the innermost lists.
_LEAST = {"LineString": 2, "MultiLineString": 2, "Polygon": 4, "MultiPolygon": 4}
_RINGS = ("Polygon", "MultiPolygon")
#: How deep collections may lie in one another.
_MAX_DEPTH = 8


def check_intersects(value: Any, most: int) -> Any:
    """Return a GeoJSON geometry, given as text or as JSON, of at most so many positions. Its depth need not have been bounded.

    Raises:
        Problem: 400 `INVALID_GEOMETRY` or `GEOMETRY_TOO_LARGE`.
    """
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            raise _refused("intersects is a GeoJSON geometry") from None
    _Scan(most).geometry(value, 1)
    return value


def _refused(detail: str) -> Problem:
    return Problem(400, "INVALID_GEOMETRY", detail, field="intersects")


class _Scan:
    """Goes through a geometry and counts its positions."""

    def __init__(self, most: int) -> None:
        self._most = self._left = most

    def geometry(self, value: Any, depth: int) -> None:
        kind = value.get("type") if isinstance(value, dict) else None
        if kind == "GeometryCollection":
            self._collection(value.get("geometries"), depth)
            return
        if not isinstance(kind, str) or kind not in _DEPTHS:
            raise _refused(f"intersects is a GeoJSON geometry: a {', '.join(_DEPTHS)} or GeometryCollection")
        self._coordinates(value.get("coordinates"), _DEPTHS[kind], kind)

    def _collection(self, members: Any, depth: int) -> None:
        if not isinstance(members, list):
            raise _refused("a geometry collection has geometries")
        if depth > _MAX_DEPTH:
            raise _refused(f"geometry collections nest at most {_MAX_DEPTH} deep")
        self._count(len(members))
        for member in members:
            self.geometry(member, depth + 1)

    def _coordinates(self, value: Any, depth: int, kind: str) -> None:
        if not isinstance(value, list):
            raise _refused(f"the coordinates of a {kind} are lists of positions")
        if depth == 0:
            self._count(1)
            _check_position(value, kind)
            return
        self._count(len(value))
        if depth > 1:
            for part in value:
                self._coordinates(part, depth - 1, kind)
            return
        for position in value:
            _check_position(position, kind)
        if len(value) < _LEAST.get(kind, 0):
            raise _refused(f"a part of this {kind} has too few positions")
        if kind in _RINGS and value[0] != value[-1]:
            raise _refused("a ring ends where it begins")

    def _count(self, number: int) -> None:
        self._left -= number
        if self._left < 0:
            detail = f"intersects has at most {self._most} vertices"
            raise Problem(400, "GEOMETRY_TOO_LARGE", detail, field="intersects", limit=self._most)


def _check_position(value: Any, kind: str) -> None:
    is_position = isinstance(value, list) and len(value) in (2, 3)
    if not is_position or not all(type(one) in (int, float) and math.isfinite(one) for one in value):
        raise _refused(f"a position of this {kind} is not two or three numbers")
