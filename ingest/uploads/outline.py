"""Footprint of a raster's valid pixels in longitude and latitude: split at the antimeridian, around poles, few vertices. Child only."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import rasterio.features
import shapely
from affine import Affine
from rasterio.crs import CRS
from shapely.geometry import MultiPolygon, Polygon

from ingest.errors import RecordRejected, UploadRejected
from ingest.footprint import clean
from ingest.uploads.georeference import edge_of, lonlat

MAX_PARTS = 20
#: Tolerances in cells that are tried one after the other until the vertices are few enough.
TOLERANCES = (0.0, 0.75, 1.5, 3.0, 6.0, 12.0, 24.0, 48.0)
#: Points along the edge of a shape that is simple already.
EDGE = (128, 64, 32, 16, 4)
Footprint = tuple[dict[str, Any], list[float]]


def footprint(crs: CRS, whole: Polygon, valid: np.ndarray[Any, Any], cells: Affine, *, max_vertices: int) -> Footprint:
    """Return (GeoJSON, bbox); of the whole raster when all its pixels are valid, or none.

    Args:
        whole: the raster's corners in its own coordinates.
        valid: where any pixel of a cell is valid, (rows, columns).
        cells: transform of the cells.

    Raises:
        UploadRejected: OUT_OF_BOUNDS when nothing can be drawn.
    """
    shapes = [whole] if valid.all() or not valid.any() else [_outline(whole, valid, cells), whole]
    size = abs(cells.determinant) ** 0.5
    for shape in (*shapes, *(one.convex_hull for one in shapes)):
        for tolerance in TOLERANCES:
            simple = shape.simplify(tolerance * size) if tolerance else shape
            for points in EDGE:
                found = _projected(crs, simple, points, max_vertices)
                if found is not None:
                    return found
    raise UploadRejected("OUT_OF_BOUNDS", "its outline cannot be drawn on the Earth")


def _outline(whole: Polygon, valid: np.ndarray[Any, Any], cells: Affine) -> Polygon | MultiPolygon:
    """Union of the valid cells, without holes and within the raster; many islands become their hull."""
    shapes = rasterio.features.shapes(valid.astype("uint8"), mask=valid, transform=cells, connectivity=8)
    pieces = [Polygon(geometry["coordinates"][0]).buffer(0) for geometry, value in shapes if value]
    union = shapely.union_all(pieces)
    few = union if len(getattr(union, "geoms", [union])) <= MAX_PARTS else union.convex_hull
    inside = few.intersection(whole)
    return inside if isinstance(inside, Polygon | MultiPolygon) and not inside.is_empty else whole


def _projected(crs: CRS, outline: Any, points: int, max_vertices: int) -> Footprint | None:
    """The outline as GeoJSON and bbox; None when it has too many vertices or cannot be drawn."""
    parts = [part for part in getattr(outline, "geoms", [outline]) if isinstance(part, Polygon) and not part.is_empty]
    rings = []
    for part in parts:
        edge = edge_of(part, max(4, points // len(parts)))
        if len(edge) > max_vertices:
            return None
        placed = _around_poles(lonlat(crs, edge))
        if not all(math.isfinite(number) for point in placed for number in point):
            return None
        rings.append([[[round(lon, 7), max(-90.0, min(90.0, round(lat, 7)))] for lon, lat in placed]])
    if not rings or sum(len(ring[0]) for ring in rings) > max_vertices:
        return None
    try:
        geometry, bbox = clean({"type": "MultiPolygon", "coordinates": rings})
    except RecordRejected:
        return None
    return (geometry, bbox) if _vertices(geometry) <= max_vertices else None


def _around_poles(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At a pole longitude says nothing: the ring comes along its neighbour's meridian and leaves along the next one's."""
    placed: list[tuple[float, float]] = []
    for number, (lon, lat) in enumerate(points):
        if abs(lat) < 90 - 1e-9:
            placed.append((lon, lat))
            continue
        for neighbour in (points[number - 1 if number else -2], points[number + 1 if number + 1 < len(points) else 1]):
            placed.append((neighbour[0] if abs(neighbour[1]) < 90 - 1e-9 else lon, lat))
    return placed


def _vertices(geometry: dict[str, Any]) -> int:
    polygons = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    return sum(len(ring) for rings in polygons for ring in rings)
