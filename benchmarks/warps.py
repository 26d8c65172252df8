"""Warps by hand against rio-tiler's, in this process: CPU time of a tile of a Sentinel-2-like raster, the two in turns."""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rio_tiler.io import Reader

from api.tiles.reader import FastReader
from benchmarks import tile_rasters
from benchmarks.tiles import MERCATOR, _tile
from db.settings import DatabaseSettings

NUMBER = 12
#: Name -> options of `tile()`.
WAYS: dict[str, dict[str, Any]] = {
    "nearest": {},
    "bilinear": {"reproject_method": "bilinear"},
    "cubic": {"reproject_method": "cubic"},
    "bilinear, 2 of 3 bands": {"reproject_method": "bilinear", "indexes": (1, 2)},
    "read as bilinear": {"resampling_method": "bilinear"},
}


def run(_: DatabaseSettings) -> dict[str, float]:
    """Milliseconds of CPU, and how many times as long rio-tiler takes."""
    kept = Path(tempfile.gettempdir()) / "federator-bench-tiles"
    kept.mkdir(exist_ok=True)
    raster = tile_rasters.sentinel2(kept / "s2.tif")
    found = {}
    for zoom in (14, 13, 12, 10):
        with (
            warnings.catch_warnings(),
            Reader(str(raster), tms=MERCATOR) as stock,
            FastReader(str(raster), tms=MERCATOR) as fast,
        ):
            warnings.simplefilter("ignore")
            for name, options in WAYS.items():
                spent: dict[str, list[float]] = {"ours": [], "rio-tiler": []}
                for number in range(2 * NUMBER):  # the first half fills the caches
                    tile = _tile(raster, zoom, number % NUMBER)
                    for reader, of in ((stock, "rio-tiler"), (fast, "ours")):
                        took = _cpu_ms(lambda reader=reader, tile=tile, options=options: reader.tile(*tile, **options))  # type: ignore[misc]
                        if number >= NUMBER:
                            spent[of].append(took)
                medians = {of: statistics.median(values) for of, values in spent.items()}
                found |= {f"z{zoom} {name}: {of}, ms": value for of, value in medians.items()}
                found[f"z{zoom} {name}: rio-tiler / ours"] = medians["rio-tiler"] / medians["ours"]
    return found


def _cpu_ms(work: Callable[[], Any]) -> float:
    begun = time.process_time()
    work()
    return (time.process_time() - begun) * 1000
