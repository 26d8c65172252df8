"""Makes our own COG of a checked raster: same pixels, own header, metadata and overviews. Child process only.

Two ways to the full resolution (docs/adr/0032): blocks that are safe to copy are copied as they are; else GDAL writes them anew.
Overviews are made by GDAL, coarse ones may come from the preview that is on the map already.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Resampling
from rasterio.windows import Window

from ingest.uploads import cog_layout, pixels
from ingest.uploads.pixels import Validity

if TYPE_CHECKING:
    from rasterio.io import DatasetReader, DatasetWriter

BLOCK = 512
#: Twice as fast as GDAL's 6 and at most 2 % larger (benchmarks/RESULTS.md has the figures).
ZLEVEL = 4
#: Overviews are made until both sides are at most this.
SMALLEST = 512
RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is made of a raster: its coordinates, what is valid in it, how its overviews are made, names of bands ("": none)."""

    crs: CRS
    validity: Validity
    resampling: pixels.Resampling
    names: tuple[str, ...]


def creation_options(source: DatasetReader, plan: Plan) -> dict[str, Any]:
    """Options for GDAL's GTiff driver: everything that decides how pixels are laid out and read."""
    dtype = np.dtype(source.dtypes[0])
    is_rgb = source.colorinterp[:3] == RGB and dtype in (np.uint8, np.uint16)
    return {
        "driver": "GTiff",
        "dtype": source.dtypes[0],
        "count": source.count,
        "crs": plan.crs,
        "nodata": plan.validity.nodata,
        "tiled": True,
        "blockxsize": BLOCK,
        "blockysize": BLOCK,
        "compress": "DEFLATE",
        "zlevel": ZLEVEL,
        "predictor": 3 if dtype in (np.float32, np.float64) else 2,
        "interleave": "pixel" if source.count <= 4 else "band",
        "photometric": "RGB" if is_rgb else "MINISBLACK",
        "BIGTIFF": "IF_SAFER",
        "NUM_THREADS": 2,
    }


def describe(target: DatasetWriter, source: DatasetReader, plan: Plan) -> None:
    """What is kept beside the pixels: colours, names of bands, scale and offset. Nothing else of the user's metadata."""
    if ColorInterp.palette in source.colorinterp:
        target.write_colormap(1, source.colormap(source.colorinterp.index(ColorInterp.palette) + 1))
    else:
        target.colorinterp = source.colorinterp
    for band, name in zip(source.indexes, plan.names, strict=True):
        if name:
            target.set_band_description(band, name)
    scales, offsets = source.scales, source.offsets
    is_scaled = any(scale != 1 for scale in scales) or any(offset != 0 for offset in offsets)
    if is_scaled and all(map(math.isfinite, (*scales, *offsets))):
        target.scales, target.offsets = scales, offsets


def write_base(source: DatasetReader, target: Path, plan: Plan) -> None:
    """Write the full resolution anew, tile by tile."""
    options = creation_options(source, plan)
    size = {"width": source.width, "height": source.height, "transform": source.transform}
    with rasterio.open(target, "w", **options, **size) as written:
        describe(written, source, plan)
        for window in pixels.chunks(source):
            data = pixels.read(source, window)
            written.write(data, window=window)
            if plan.validity.has_mask:
                written.write_mask(source.read_masks(1, window=window), window=window)


def write_stencil(source: DatasetReader, target: Path, plan: Plan, options: dict[str, Any]) -> None:
    """Write the header alone (and the mask): a file whose blocks are not there yet."""
    size = {"width": source.width, "height": source.height, "transform": source.transform}
    profile = {**creation_options(source, plan), **options, **size, "SPARSE_OK": True}
    if profile["compress"] != "DEFLATE":
        del profile["zlevel"]
    if profile["compress"] == "JPEG":
        del profile["predictor"]
    with rasterio.open(target, "w", **profile) as made:
        describe(made, source, plan)
        if plan.validity.has_mask:
            for window in pixels.chunks(source):
                made.write_mask(source.read_masks(1, window=window), window=window)


class Preview:
    """A coarse copy of the raster in memory, filled chunk by chunk while the pixels are decoded."""

    def __init__(self, source: DatasetReader, plan: Plan, factor: int) -> None:
        self.factor, self._plan = factor, plan
        shape = math.ceil(source.height / factor), math.ceil(source.width / factor)
        self._fill = plan.validity.nodata if plan.validity.nodata is not None else 0
        self._data = np.full((source.count, *shape), self._fill, source.dtypes[0])
        self._mask = np.zeros(shape, "uint8") if plan.validity.has_mask else None

    def add(self, window: Window, data: np.ndarray[Any, Any], valid: np.ndarray[Any, Any] | None) -> None:
        """Take one chunk."""
        averaged = pixels.coarse(data, valid, self.factor, self._plan.resampling, self._fill)
        if self._plan.validity.alpha is not None:
            alpha = self._plan.validity.alpha - 1
            averaged[alpha] = pixels.coarse(data[alpha : alpha + 1], None, self.factor, self._plan.resampling, 0)[0]
        top, left = window.row_off // self.factor, window.col_off // self.factor
        rows, columns = slice(top, top + averaged.shape[1]), slice(left, left + averaged.shape[2])
        self._data[:, rows, columns] = averaged
        if self._mask is not None:
            self._mask[rows, columns] = 255 if valid is None else np.where(pixels.any_valid(valid, self.factor), 255, 0)

    def write(self, source: DatasetReader, target: Path) -> None:
        """Write it as a COG of its own, in its place on the Earth."""
        bare = target.with_suffix(".bare.tif")
        _, height, width = self._data.shape
        size = {"width": width, "height": height, "transform": source.transform @ Affine.scale(self.factor)}
        with rasterio.open(bare, "w", **creation_options(source, self._plan), **size) as written:
            describe(written, source, self._plan)
            written.write(self._data)
            if self._mask is not None:
                written.write_mask(self._mask)
        add_overviews(bare, self._plan.resampling, coarsest=None)
        cog_layout.write(cog_layout.images_of(bare), target)
        bare.unlink()


def add_overviews(path: Path, resampling: pixels.Resampling, *, coarsest: int | None) -> None:
    """Let GDAL add overviews of 2, 4, 8, ... to a file of ours, below `coarsest` or until they are small."""
    with rasterio.open(path, "r+", driver="GTiff") as target:
        factors, factor = [], 2
        while max(target.width, target.height) * 2 / factor > SMALLEST and (coarsest is None or factor < coarsest):
            factors.append(factor)
            factor *= 2
        if factors:
            target.build_overviews(factors, Resampling[resampling])


def finish(base: Path, target: Path, preview: Path | None) -> None:
    """Put base, its overviews and those of the preview together."""
    images = cog_layout.images_of(base)
    if preview is not None:
        images += [image.as_overview() for image in cog_layout.images_of(preview)]
    cog_layout.write(images, target)
