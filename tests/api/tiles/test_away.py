"""Outlines far away from a raster: nothing is there, and nothing of the process's memory is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rasterio.crs import CRS
from rasterio.transform import from_origin

from api.problems import Problem
from api.tiles.away import is_away
from api.tiles.features import check_feature
from api.tiles.pool import Pool
from api.tiles.reader import FastReader
from tests.ingest.uploads.rasters import write

DEGREES, MERCATOR, SWISS = CRS.from_epsg(4326), CRS.from_epsg(3857), CRS.from_epsg(2056)
RASTER = (2_600_000.0, 1_200_000.0, 2_600_640.0, 1_200_640.0)


def outline(west: float, south: float, east: float, north: float) -> dict[str, Any]:
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


@pytest.mark.parametrize("box", [(179, 50, 181, 52), (100, -50, 102, -48), (-70, -30, -60, -20)])
def test_statistics_far_away_were_of_memory_that_was_never_written(tmp_path: Path, box: Any) -> None:
    path, pool = tmp_path / "swiss.tif", Pool(4)
    write(
        path,
        np.ones((2, 64, 64), "float32"),
        crs="EPSG:2056",
        transform=from_origin(RASTER[0], RASTER[3], 10, 10),
        nodata=-9999,
    )
    with FastReader(str(path), pool=pool) as source:
        for options in ({"align_bounds_with_dataset": True}, {"reproject_method": "average"}, {"buffer": 1}):
            for more in ({}, {"indexes": 2}, {"expression": "b1+b2"}, {"unscale": True}):
                image = source.feature(outline(*box), max_size=64, **options, **more)
                assert image.array.mask.all()
                assert np.unique(image.array.data).size == 1
                assert image.count == (2 if more in ({}, {"unscale": True}) else 1)
                assert image.crs == DEGREES
                assert image.bounds[0] == pytest.approx(box[0], abs=1)
        near = source.feature(outline(7.43, 46.94, 7.45, 46.96), max_size=64, align_bounds_with_dataset=True)
        assert (near.array.compressed() == 1).any()
    pool.close()


def test_what_is_near_is_not_away() -> None:
    assert not is_away((7.4, 46.9, 7.5, 47.0), DEGREES, RASTER, SWISS)
    assert not is_away((-180, -90, 180, 90), DEGREES, RASTER, SWISS)
    assert not is_away((179, -1, 181, 1), DEGREES, (-180, -1, -179, 1), DEGREES)  # the other side of the antimeridian
    assert not is_away((-20_037_508, -1e6, 20_037_508, 1e6), MERCATOR, (170, -1, 179, 1), DEGREES)
    assert not is_away((0, 80, 10, 90), DEGREES, (-1000, -1000, 1000, 1000), CRS.from_epsg(3413))
    assert is_away((20, 46.9, 21, 47.0), DEGREES, (7, 46, 8, 47), DEGREES)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -1e300])
def test_a_coordinate_that_is_no_number_was_a_500(wrong: float) -> None:
    for shape in (
        {"type": "Polygon", "coordinates": (((0.0, 0.0), (wrong, 1.0), (1.0, 1.0), (0.0, 0.0)),)},
        {"type": "Feature", "geometry": outline(0, 0, 1, wrong)},
        {"type": "GeometryCollection", "geometries": [outline(0, 0, 1, 1), outline(wrong, 0, 1, 1)]},
    ):
        with pytest.raises(Problem, match="coordinate"):
            check_feature(shape)
    check_feature(outline(179, 0, 181, 1))
