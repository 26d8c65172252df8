"""Control points place pixels within an eighth of a pixel of the exact transformation, or say that they cannot."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.transform import from_bounds
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform

from api.tiles.overviews import Grid, picked
from api.tiles.pieces import Frame
from api.tiles.pool import Pool
from api.tiles.reader import FastReader
from api.tiles.warp import MAX_PX
from tests.size import sized

#: Name -> where its rasters lie, as (longitudes, latitudes).
PLACES = {
    "EPSG:32633": ((9, 21), (-79, 83)),
    "EPSG:32701": ((-180, -174), (-79, 0)),
    "EPSG:32660": ((174, 180), (0, 83)),
    "EPSG:3035": ((-10, 40), (35, 70)),
    "EPSG:3413": ((-180, 180), (60, 90)),
    "EPSG:3031": ((-180, 180), (-90, -60)),
    "EPSG:4326": ((-179, 179), (-89, 89)),
    "EPSG:3857": ((-180, 180), (-84, 84)),
    "EPSG:6933": ((-180, 180), (-80, 80)),
    "EPSG:2056": ((6, 10), (45.9, 47.8)),
}
IMAGES = ("EPSG:3857", "EPSG:4326", "EPSG:3995", "EPSG:32633", "EPSG:3035")


def frame(rng: random.Random, side: int) -> Frame | None:
    """A raster anywhere, turned anyhow, and an image over about its middle at some zoom; None: it has no place there."""
    source = rng.choice(sorted(PLACES))
    longitudes, latitudes = PLACES[source]
    longitude, latitude = rng.uniform(*longitudes), rng.uniform(*latitudes)
    if rng.random() < 0.2:
        longitude = rng.choice((-180, 180)) * rng.uniform(0.9999, 1)
    there, image = CRS.from_string(source), CRS.from_string(rng.choice(IMAGES))
    if there == image:
        return None
    pixel_m = 10 ** rng.uniform(0.5, 3.5)
    points = [
        transform("EPSG:4326", crs, [longitude, longitude], [latitude, min(90, latitude + 1e-3)])
        for crs in (there, image)
    ]
    if not np.isfinite(points).all():
        return None
    scale = pixel_m / (111_000 if there.is_geographic else 1)
    turned = Affine.rotation(rng.choice((0, 0, rng.uniform(-180, 180))))
    to_place = Affine.translation(points[0][0][0], points[0][1][0]) @ turned @ Affine.scale(scale, -scale)
    half = side / 2 * pixel_m * 2 ** rng.uniform(-3, 5) / (111_000 if image.is_geographic else 1)
    x, y = points[1][0][0], points[1][1][0]
    return Frame(
        (x - half, y - half, x + half, y + half), image, Grid(side, side, None), there, ~to_place, (side, side)
    )


def exact(one: Frame, side: int) -> np.ndarray:
    """(2, side, side): columns and rows of all pixels by PROJ."""
    west, south, east, north = one.bounds
    at = (np.arange(side) + 0.5) / side
    xs, ys = np.meshgrid(west + at * (east - west), north - at * (north - south))
    found = transform(one.crs, one.source_crs, xs.ravel(), ys.ravel())
    x, y = (np.asarray(part).reshape(xs.shape) for part in found)
    back = one.to_pixel
    return np.stack([back.a * x + back.b * y + back.c, back.d * x + back.e * y + back.f])


def test_pixels_lie_within_an_eighth_of_where_they_should() -> None:
    side, rng, answered = 64, random.Random("warp"), 0
    for number in range(sized(40, 3000)):
        one = frame(rng, side)
        where = None if one is None else one.positions(picked(side, side), picked(side, side))
        if one is None or where is None:
            continue
        answered += 1
        error = np.abs(np.stack(where) - exact(one, side)).max()
        assert error <= MAX_PX, (number, one)
    assert answered > number / 3


@pytest.mark.parametrize("method", ["bilinear", "cubic"])
def test_slopes_show_where_gdal_puts_each_pixel(tmp_path: Path, method: str) -> None:
    """Pixels hold their own column and row, which interpolation gives as the position; GDAL's are exact here."""
    side, rng, compared, pool = 48, random.Random(method), 0, Pool()
    y, x = np.mgrid[0:side, 0:side].astype("float32") + np.float32(0.5)
    for number in range(sized(8, 400)):
        one = frame(rng, side)
        if one is None:
            continue
        at = ~one.to_pixel @ Affine.translation(-side / 2, -side / 2)
        path = tmp_path / f"{number}.tif"
        profile = {
            "width": side,
            "height": side,
            "count": 2,
            "dtype": "float32",
            "crs": one.source_crs,
            "transform": at,
        }
        with rasterio.open(path, "w", driver="GTiff", **profile) as target:
            target.write(np.stack([x, y]))
        with FastReader(str(path), pool=pool) as reader:
            image = reader._image(one.bounds, one.crs, one.crs, (side, side, None), None)
            options = {"reproject_method": method}
            found = (
                None if image is None or not reader._is_fast(one.crs, options) else reader._fast(image, (1, 2), options)
            )
        if found is None:
            continue
        place = from_bounds(*found.bounds, side, side)
        with (
            rasterio.open(path) as source,
            WarpedVRT(
                source, crs=one.crs, transform=place, width=side, height=side, resampling=Resampling[method],
                tolerance=1e-6, add_alpha=True,
            ) as stock,
        ):  # fmt: skip
            wanted = stock.read()
        both = ~found.array.mask[0] & (wanted[2] == 255)
        if both.sum() < 10:
            continue
        compared += 1
        slack = MAX_PX + 0.005 * math.sqrt(side)
        assert np.abs(found.array.data - wanted[:2])[:, both].max() <= slack, (number, one)
        assert (found.array.mask[0] != (wanted[2] != 255)).sum() <= 4 * side
    pool.close()
    assert compared > number / 10
