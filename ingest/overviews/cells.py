"""Cells of WebMercatorQuad that a footprint is in, at each level of the kept pyramid. Pure.

What is added for a footprint is taken away again when it goes, so the cells of a geometry must never change: another rule needs all cells
reckoned anew (a migration that fills federator.footprint_change).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

import numpy as np
import shapely

#: Levels that are kept: of 16 x 16 cells of the world to cells of 20 km at the equator.
FIRST, LAST = 4, 11
#: Cells of one footprint at one level: each is a row to keep, and four by four tell where it is. The first level is kept of all.
MOST: Final = 16
#: WebMercatorQuad ends here.
_LATITUDE: Final = 85.0511287798066

Cell = tuple[int, int]


@lru_cache(maxsize=20_000)
def cells_of(geometry: bytes) -> tuple[tuple[Cell, ...], ...]:
    """Cells of a footprint ((E)WKB, WGS 84) by level from the first on; the list ends where there would be too many.

    A footprint without any place within the pyramid has no level at all.
    """
    return tuple(_levels(geometry))


def _levels(geometry: bytes) -> Iterator[tuple[Cell, ...]]:
    parts = [part for part in shapely.get_parts(shapely.from_wkb(geometry)) if not part.is_empty]
    for part in parts:
        shapely.prepare(part)
    for level in range(FIRST, LAST + 1):
        found = within(parts, level)
        if not found or (level > FIRST and len(found) > MOST):
            return
        yield found


def within(parts: list[shapely.Geometry], level: int) -> tuple[Cell, ...]:
    """Cells of a level that these geometries touch."""
    found: set[Cell] = set()
    for part in parts:
        west, south, east, north = shapely.bounds(part).tolist()
        if not (south <= _LATITUDE and north >= -_LATITUDE and math.isfinite(west) and math.isfinite(east)):
            continue
        first_x, last_x = _column(west, level), _column(east, level)
        first_y, last_y = _row(north, level), _row(south, level)
        if (last_x - first_x + 1) * (last_y - first_y + 1) > 16 * MOST:
            return tuple((number, 0) for number in range(MOST + 1))  # more than may be
        xs, ys = (axis.ravel() for axis in np.meshgrid(np.arange(first_x, last_x + 1), np.arange(first_y, last_y + 1)))
        if len(xs) > 1:
            touched = shapely.intersects(
                part, shapely.box(_west(xs, level), _north(ys + 1, level), _west(xs + 1, level), _north(ys, level))
            )
            xs, ys = xs[touched], ys[touched]
        found.update(zip(xs.tolist(), ys.tolist(), strict=True))
    return tuple(sorted(found))


def box_of(x: int, y: int, level: int) -> shapely.Geometry:
    """A cell of any level as a box in longitude and latitude."""
    edges = np.array([x, x + 1]), np.array([y, y + 1])
    (west, east), (north, south) = _west(edges[0], level), _north(edges[1], level)
    found: shapely.Geometry = shapely.box(west, south, east, north)
    return found


def _column(longitude: float, level: int) -> int:
    number: int = 1 << level
    return min(number - 1, max(0, math.floor((longitude + 180) / 360 * number)))


def _row(latitude: float, level: int) -> int:
    number: int = 1 << level
    clipped = math.radians(min(_LATITUDE, max(-_LATITUDE, latitude)))
    return min(number - 1, max(0, math.floor((1 - math.asinh(math.tan(clipped)) / math.pi) / 2 * number)))


def _west(x: np.ndarray, level: int) -> np.ndarray:
    return x / (1 << level) * 360 - 180


def _north(y: np.ndarray, level: int) -> np.ndarray:
    found: np.ndarray = np.degrees(np.arctan(np.sinh(math.pi * (1 - 2 * y / (1 << level)))))
    return found
