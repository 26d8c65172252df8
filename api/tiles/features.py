"""Outlines that clients send, looked at before a raster is opened."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

from api.problems import Problem

#: Coordinates, in whatever units: GDAL goes round the Earth as often as a place is away, for minutes.
FAR: Final = 1e9


def check_feature(shape: Any) -> None:
    """Look at the coordinates of a GeoJSON geometry or feature; JSON's numbers are finite, but pydantic takes the text `NaN` for one, too.

    Raises:
        Problem: 400 INVALID_GEOMETRY.
    """
    if not all(math.isfinite(one) and abs(one) <= FAR for one in _numbers(shape)):
        raise Problem(
            400, "INVALID_GEOMETRY", "a coordinate is a number, and has a place on the Earth", field="geometry"
        )


def _numbers(shape: Any) -> Iterator[float]:
    """Coordinates of a geometry, a feature, or parts of one."""
    if isinstance(shape, dict):
        for name in ("coordinates", "geometry", "geometries"):
            yield from _numbers(shape.get(name))
    elif isinstance(shape, list | tuple):
        for one in shape:
            yield from _numbers(one)
    elif isinstance(shape, int | float):
        yield shape
