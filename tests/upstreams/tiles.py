"""The military grid's 100 km squares as Sentinel-2 tiles, and footprints as catalogues write them.

Tiles: 109.8 km wide, upper left corner on multiples of 60 m, named by UTM zone, latitude band, column and row letter
(Sentinel-2 Products Specification, tiling grid). All zones look alike, so one zone is computed and the others are it, turned.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from pyproj import Transformer
from shapely.affinity import translate
from shapely.geometry import Polygon, box, mapping

SIDE_M = 109_800
_COLUMNS = ("STUVWXYZ", "ABCDEFGH", "JKLMNPQR")  # by zone % 3
_ROWS = "ABCDEFGHJKLMNPQRSTUV"
_BANDS = "CDEFGHJKLMNPQRSTUVWX"

Ring = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Square:
    """A 100 km square of a zone: `east`, `north` count 100 km; corners as (degrees from the central meridian, latitude)."""

    band: str
    east: int
    north: int
    corners: Ring


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile of Sentinel-2."""

    zone: int
    square: Square

    @property
    def name(self) -> str:
        """As in product names, without T: "27VWK"."""
        column = _COLUMNS[self.zone % 3][self.square.east - 1]
        row = _ROWS[(self.square.north + (0 if self.zone % 2 else 5)) % 20]
        return f"{self.zone:02d}{self.square.band}{column}{row}"

    @property
    def epsg(self) -> int:
        """UTM zone's code."""
        return (32600 if self.square.band >= "N" else 32700) + self.zone

    @property
    def origin(self) -> tuple[int, int]:
        """Upper left corner in metres."""
        return upper_left(self.square.east, self.square.north)

    @property
    def ring(self) -> Ring:
        """Corners in degrees, closed; longitudes run over 180 where the tile does."""
        central = 6 * self.zone - 183
        return tuple((round(central + lon, 9), round(lat, 9)) for lon, lat in self.square.corners)


def upper_left(east: int, north: int) -> tuple[int, int]:
    """Upper left corner in metres of the tile of a 100 km square."""
    return east * 100_000 // 60 * 60, -(-(north + 1) * 100_000 // 60) * 60


def _band(lat: float) -> str:
    return _BANDS[min(int((lat + 80) // 8), 19)] if -80 <= lat < 84 else ""


def _squares_of(south: bool) -> list[Square]:
    """Squares that lie whole within one latitude band, with their middle within the zone.

    Computed in zone 31, whose central meridian is 3 degrees.
    """
    to_degrees = Transformer.from_crs(32731 if south else 32631, 4326, always_xy=True)
    found = []
    for north in range(12, 100) if south else range(0, 93):
        for east in range(1, 9):
            x, y = upper_left(east, north)
            inner = np.array([(east + i, north + j) for i in (0, 1) for j in (0, 1)]) * 1e5
            lons, lats = to_degrees.transform(inner[:, 0], inner[:, 1])
            bands = {_band(lat) for lat in (lats.min(), lats.max() - 1e-9)}
            if len(bands) > 1 or "" in bands or abs(lons.mean() - 3) > 3:
                continue
            xs = np.array([x, x, x + SIDE_M, x + SIDE_M, x])
            ys = np.array([y, y - SIDE_M, y - SIDE_M, y, y])
            out = to_degrees.transform(xs, ys)
            corners = tuple((float(lon) - 3, float(lat)) for lon, lat in zip(*out, strict=True))
            found.append(Square(bands.pop(), east, north, corners))
    return found


@cache
def tiles() -> tuple[Tile, ...]:
    """All tiles that demonstration products use: not those of the irregular zones of Norway and Svalbard."""
    squares = _squares_of(True) + _squares_of(False)
    return tuple(
        Tile(zone, square)
        for square in squares
        for zone in range(1, 61)
        if not (square.band in "VX" and 31 <= zone <= 37)
    )


@cache
def special_tiles() -> tuple[tuple[Tile, ...], ...]:
    """Tiles across the antimeridian, those far south, those far north."""
    across = tuple(t for t in tiles() if min(x for x, _ in t.ring) < -180 or max(x for x, _ in t.ring) > 180)
    return across, tuple(t for t in tiles() if t.square.band == "C"), tuple(t for t in tiles() if t.square.band == "X")


def footprint(ring: Ring) -> dict[str, Any]:
    """GeoJSON of a closed ring; a MultiPolygon cut at 180 degrees when it runs over (RFC 7946, 3.1.9)."""
    lons = [lon for lon, _ in ring]
    if min(lons) >= -180 and max(lons) <= 180:
        return {"type": "Polygon", "coordinates": [[list(point) for point in ring]]}
    parts = []
    for turn in (-360, 0, 360):
        piece = Polygon(ring).intersection(box(-180 + turn, -90, 180 + turn, 90))
        if piece.area > 0:
            parts.append(translate(piece, xoff=-turn))
    return {"type": "MultiPolygon", "coordinates": [_lists(mapping(part)["coordinates"]) for part in parts]}


def wkt(geometry: dict[str, Any]) -> str:
    """Well-known text as OData answers spell it."""
    polygons = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    texts = [
        "(" + ", ".join("(" + ", ".join(f"{x} {y}" for x, y in r) + ")" for r in rings) + ")" for rings in polygons
    ]
    return f"MULTIPOLYGON ({', '.join(texts)})" if geometry["type"] == "MultiPolygon" else f"POLYGON {texts[0]}"


def bbox(geometry: dict[str, Any]) -> list[float]:
    """West, south, east, north of all positions; -180..180 across the antimeridian, as pgstac catalogues say."""
    polygons = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    points = [point for rings in polygons for point in rings[0]]
    lons, lats = [p[0] for p in points], [p[1] for p in points]
    return [min(lons), min(lats), max(lons), max(lats)]


def _lists(value: Any) -> Any:
    return [_lists(one) for one in value] if isinstance(value, tuple | list) else value
