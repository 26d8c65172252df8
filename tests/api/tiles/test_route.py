"""What surrounds the pixels: how much may be asked for, and how a request is taken apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rasterio.crs import CRS

from api.problems import Problem
from api.raster import create_raster_app, item_of
from api.settings import ApiSettings
from api.tiles.at_once import _dependants
from api.tiles.grids import GRIDS
from api.tiles.pool import Pool
from api.tiles.reader import FastReader
from tests.api.tiles import rasters

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:3857", "EPSG:4326"])
@pytest.mark.parametrize("size", [{"width": 100_000, "height": 100_000}, {"max_size": 10**6}, {"width": 10**7}, {}])
def test_an_image_that_does_not_fit_is_refused_before_it_is_read(
    tmp_path: Path, crs: str, size: dict[str, int]
) -> None:
    path = rasters.write(tmp_path / "a.tif", rasters.Kind(side=64))
    there, pool = CRS.from_string(crs), Pool()
    world = {"EPSG:4326": (-179.0, -80.0, 179.0, 80.0)}.get(crs, (-1e7, -1e7, 1e7, 1e7))
    with FastReader(str(path), pool=pool) as reader, pytest.raises(Problem) as met:
        reader.part(world, bounds_crs=there, dst_crs=there, **size)
    assert met.value.code == "IMAGE_TOO_LARGE"
    pool.close()


def test_previews_and_boxes_without_area_are_bounded_too(tmp_path: Path) -> None:
    path, pool = rasters.write(tmp_path / "a.tif", rasters.Kind(side=64)), Pool()
    with FastReader(str(path), pool=pool) as reader:
        for ask in (
            lambda: reader.preview(width=50_000, height=50_000),
            lambda: reader.tile(*reader.tms.tile(15.0, 48.7, 10), tilesize=30_000),
            lambda: reader.part((15, 48.7, 15, 48.7), dst_crs=CRS.from_epsg(3857), width=10, height=10),
        ):
            with pytest.raises(Problem) as met:
                ask()
            assert met.value.code in ("IMAGE_TOO_LARGE", "INVALID_PARAMETER")
    pool.close()


def test_only_what_waits_has_a_turn_in_a_thread(tmp_path: Path) -> None:
    app = create_raster_app(ApiSettings(data_dir=tmp_path))
    app.fill()

    def calls(dependant: Any) -> set[Any]:
        return {one.call for one in dependant.dependencies}.union(*map(calls, dependant.dependencies), set())

    ending = "{item_id}/tiles/{tileMatrixSetId}/{z}/{x}/{y}"
    tiles = [one for one in _dependants(app) if one.path and one.path.endswith(ending)]
    assert tiles
    for tile in tiles:
        assert {one for one in calls(tile) if one.__name__ != "called"} == {item_of}


def test_a_set_of_tile_matrices_is_read_once() -> None:
    assert GRIDS.get("WebMercatorQuad") is GRIDS.get("WebMercatorQuad")
    assert GRIDS.get("WorldCRS84Quad").id == "WorldCRS84Quad"
