"""Pixels of a raster at given positions, each made of several: one read of the window that holds all of them, then `api.tiles.kernels`.

A pixel of the image is there where the pixel of the raster is that its position lies in, as with nearest; what is missing around it has no
weight. With a value `nodata` a pixel is missing when it has that in every band of the raster, asked for or not (GDAL's UNIFIED_SRC_NODATA,
which rasterio sets).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rasterio.io import DatasetReader
from rasterio.windows import Window

from api.tiles.facts import ALPHA, MASK, Facts
from api.tiles.kernels import Kernel, interpolated
from api.tiles.pixels import MAX_WINDOW, Picked, masked, nothing, place_of

Array = NDArray[Any]
#: Pixels that a kernel may reach to a side; where it would be more, the raster lacks overviews and GDAL is as quick.
MOST_REACH: Final = 4


def mixed(
    dataset: DatasetReader,
    facts: Facts,
    bands: tuple[int, ...],
    columns: Array,
    rows: Array,
    nodata: float | None,
    kernel: Kernel,
) -> Picked | None:
    """As `pixels.nearest`, of the pixels around each position.

    Returns:
        None where too large a window would have to be read, or the kernel is too wide.
    """
    if max(kernel.reach) > MOST_REACH:
        return None
    placed = place_of(dataset, columns, rows)
    if placed is None:
        return nothing(facts, bands, columns.shape, nodata)
    window = _grown(placed.window, kernel.reach, dataset)
    if window.width * window.height > MAX_WINDOW:
        return None
    pixels, valid, alpha = _read(dataset, facts, bands, window, nodata)
    inner = _inner(placed.window, window)
    there = None if valid is None else valid[inner].reshape(-1).take(placed.place)
    edge = _edge(placed.window, kernel.reach, window)
    if any(map(any, edge)):
        if valid is None:
            valid = np.ones(pixels.shape[1:], bool)
        pixels, valid = np.pad(pixels, ((0, 0), *edge)), np.pad(valid, edge)
    left, top = window.col_off - edge[1][0], window.row_off - edge[0][0]
    inside = slice(None) if placed.outside is None else ~placed.outside
    values = np.zeros((len(bands), *columns.shape), pixels.dtype)
    values[:, inside] = interpolated(pixels, valid, columns[inside] - left, rows[inside] - top, kernel)
    if nodata is not None:
        if set(bands) >= set(facts.indexes):  # of a part of the bands it cannot be told, and hardly ever matters
            _avoid(values, nodata)
        if there is not None:
            values[:, ~there] = nodata
    missing = np.zeros(columns.shape, bool) if there is None else ~there
    shown = None if alpha is None else alpha[inner].reshape(-1).take(placed.place)
    return masked(Picked(values, missing, shown), facts, placed.outside, nodata)


def _grown(window: Window, reach: tuple[int, int], dataset: DatasetReader) -> Window:
    left, top = max(0, window.col_off - reach[0]), max(0, window.row_off - reach[1])
    right = min(dataset.width, window.col_off + window.width + reach[0])
    bottom = min(dataset.height, window.row_off + window.height + reach[1])
    return Window(left, top, right - left, bottom - top)


def _inner(window: Window, read: Window) -> tuple[slice, slice]:
    top, left = window.row_off - read.row_off, window.col_off - read.col_off
    return slice(top, top + window.height), slice(left, left + window.width)


def _edge(window: Window, reach: tuple[int, int], read: Window) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns before and behind what was read that kernels reach for beside the raster."""
    inner = _inner(window, read)
    below, right = read.height - inner[0].stop, read.width - inner[1].stop
    return (reach[1] - inner[0].start, reach[1] - below), (reach[0] - inner[1].start, reach[0] - right)


def _read(
    dataset: DatasetReader, facts: Facts, bands: tuple[int, ...], window: Window, nodata: float | None
) -> tuple[Array, Array | None, Array | None]:
    """Pixels of the bands, which are there (None: all), and the alpha band."""
    if nodata is not None:
        whole = dataset.read(indexes=list(facts.indexes), window=window)
        there = ~np.isnan(whole) if np.isnan(nodata) else whole != nodata
        valid = there.any(axis=0)
        wanted = [facts.indexes.index(band) for band in bands]
        pixels = whole if wanted == list(range(len(whole))) else whole[wanted]
        return pixels, None if valid.all() else valid, None
    alpha = None
    if facts.missing == ALPHA:
        read = dataset.read(indexes=[*bands, facts.alpha], window=window)
        pixels, alpha = read[:-1], read[-1]
        valid = alpha > 0
    elif facts.missing == MASK:
        pixels = dataset.read(indexes=list(bands), window=window)
        valid = dataset.read_masks(bands[0], window=window) > 0
    else:
        return dataset.read(indexes=list(bands), window=window), None, None
    return pixels, None if valid.all() else valid, alpha


def _avoid(values: Array, nodata: float) -> None:
    """What comes out as `nodata` in all bands is moved to the next value, as GDAL does: it is there, and must not look missing."""
    same = (values == nodata).all(axis=0)
    if not same.any():
        return
    kind = values.dtype
    if kind.kind == "f":
        values[:, same] = np.nextafter(kind.type(nodata), np.finfo(kind).max)
    else:
        values[:, same] = nodata + 1 if nodata == np.iinfo(kind).min else nodata - 1
