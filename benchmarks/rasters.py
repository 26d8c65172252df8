"""`python -m benchmarks.rasters`: how soon an uploaded raster of 1 GiB is on the map, and when its full resolution is.

Header walk and the confined process on files made on the spot, of noise that packs by half; no database, no network.
The clock starts when the bytes are there. `peak MB` is the largest process so far.
"""

from __future__ import annotations

import asyncio
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

from ingest.uploads.sandbox import order_for, run_child
from ingest.uploads.tiff_header import walk

SIDE, ROWS = 23_040, 512
TILED = {"tiled": True, "blockxsize": 512, "blockysize": 512}
LAYOUTS: dict[str, dict[str, Any]] = {
    "strips, not packed": {},
    "tiles, not packed": TILED,
    "tiles, DEFLATE": {**TILED, "compress": "deflate", "predictor": 2, "zlevel": 1},
}


def make(path: Path, layout: dict[str, Any]) -> None:
    """Write 1 GiB of 16-bit pixels."""
    rng = np.random.default_rng(1)
    rows, columns = np.mgrid[0:ROWS, 0:SIDE]
    profile = {"driver": "GTiff", "width": SIDE, "height": SIDE, "count": 1, "dtype": "uint16", "nodata": 0, **layout}
    with rasterio.open(
        path, "w", crs="EPSG:32633", transform=from_origin(300_000, 5_600_000, 10, 10), **profile
    ) as target:
        for top in range(0, SIDE, ROWS):
            pixels = (rows + top) // 7 + columns // 5 + rng.integers(0, 40, (ROWS, SIDE)) + 100
            target.write(pixels.astype("uint16")[None], window=Window(0, top, SIDE, ROWS))


def measure(original: Path) -> dict[str, float]:
    """Seconds from the last byte to the preview and to the finished COG."""
    begun, shown_s = time.perf_counter(), []
    summary = walk(original)

    async def on_preview(facts: dict[str, Any]) -> None:
        shown_s.append(time.perf_counter() - begun)

    target = original.with_name("cog.tif")
    order = order_for(original, target, decoded_bytes=summary.decoded_bytes)
    asyncio.run(run_child(order, on_preview=on_preview))
    done_s = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    sizes = original.stat().st_size / 2**20, target.stat().st_size / 2**20
    return {"preview s": shown_s[0], "full s": done_s, "peak MB": peak, "sent MiB": sizes[0], "COG MiB": sizes[1]}


def main() -> None:
    """Print a row for each layout."""
    for name, layout in LAYOUTS.items():
        with tempfile.TemporaryDirectory(prefix="federator-bench-") as folder:
            make(Path(folder) / "original", layout)
            found = measure(Path(folder) / "original")
        print(f"| {name} | " + " | ".join(f"{key} {value:.1f}" for key, value in found.items()) + " |", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
