"""Pixels of a raster at given positions: one read of the window that holds them all, then picked by numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.io import DatasetReader
from rasterio.windows import Window

from api.tiles.facts import ALPHA, MASK, NODATA, Facts

#: Pixels of one band that may be read for an image; where more would be, GDAL's warper works in pieces.
MAX_WINDOW = 2**24

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Picked:
    """Values (bands, rows, columns), what is missing of them (the same shape), and the alpha band where the raster has one."""

    values: Array
    missing: Array
    alpha: Array | None = None


def nearest(
    dataset: DatasetReader, facts: Facts, bands: tuple[int, ...], columns: Array, rows: Array, nodata: float | None
) -> Picked | None:
    """The pixel that each position lies in.

    Args:
        dataset: the raster, or its overview.
        bands: indexes, alpha not among them.
        columns: positions (rows, columns) as fractions of pixels of `dataset`.
        rows: the same.
        nodata: the value that stands for missing pixels.

    Returns:
        None where too large a window would have to be read.
    """
    placed = place_of(dataset, columns, rows)
    if placed is None:
        return nothing(facts, bands, columns.shape, nodata)
    if placed.is_too_large:
        return None
    return masked(_taken(dataset, facts, bands, placed.window, placed.place), facts, placed.outside, nodata)


@dataclass(frozen=True, slots=True)
class Placed:
    """Where positions lie: the window that holds all pixels, each one's number in it, and which are beside the raster (None: no one)."""

    window: Window
    place: Array
    outside: Array | None

    @property
    def is_too_large(self) -> bool:
        """Whether more would have to be read than one image may take."""
        return bool(self.window.width * self.window.height > MAX_WINDOW)


def place_of(dataset: DatasetReader, columns: Array, rows: Array) -> Placed | None:
    """The pixels that positions lie in; None: all are beside the raster."""
    column, row = _floor(columns), _floor(rows)
    inside = (column >= 0) & (column < dataset.width) & (row >= 0) & (row < dataset.height)
    everywhere = bool(inside.all())
    if not everywhere:
        if not inside.any():
            return None
        window = _window(column[inside], row[inside])
        np.clip(column, window.col_off, window.col_off + window.width - 1, out=column)
        np.clip(row, window.row_off, window.row_off + window.height - 1, out=row)
    else:
        window = _window(column, row)
    place = (row - window.row_off) * window.width + (column - window.col_off)
    return Placed(window, place, None if everywhere else ~inside)


def _floor(positions: Array) -> Array:
    return np.floor(positions + 1e-10).astype(np.int32)


def _window(column: Array, row: Array) -> Window:
    left, top = int(column.min()), int(row.min())
    return Window(left, top, int(column.max()) - left + 1, int(row.max()) - top + 1)


def _taken(dataset: DatasetReader, facts: Facts, bands: tuple[int, ...], window: Window, place: Array) -> Picked:
    """Values at the places, with the mask or the alpha band that the raster has, not yet looked at."""
    wanted = (*bands, facts.alpha) if facts.missing == ALPHA else bands
    read = dataset.read(indexes=list(wanted), window=window)
    values = read.reshape(len(wanted), -1).take(place, axis=1)
    if facts.missing == ALPHA:
        return Picked(values[:-1], values[-1] == 0, values[-1])
    if facts.missing == MASK:
        mask = dataset.read_masks(bands[0], window=window).reshape(-1)
        return Picked(values, mask.take(place) == 0)
    return Picked(values, np.zeros(place.shape, bool))


def masked(found: Picked, facts: Facts, outside: Array | None, nodata: float | None) -> Picked:
    """Missing pixels as rio-tiler gives them: the value `nodata`, or 0 where a mask tells."""
    values, alpha = found.values, found.alpha
    if nodata is not None:
        if outside is not None:
            values[:, outside] = nodata
        return Picked(values, np.isnan(values) if np.isnan(nodata) else values == nodata)
    missing = found.missing if outside is None else found.missing | outside
    if missing.any():
        values[:, missing] = 0
    if alpha is not None:
        if outside is not None:
            alpha[outside] = 0
        missing = alpha != np.iinfo(alpha.dtype).max
    return Picked(values, np.broadcast_to(missing, values.shape).copy(), alpha)


def joined(parts: list[tuple[slice, slice, Picked]], size: tuple[int, int]) -> Picked:
    """The pixels of all parts of an image; `size` is its width and height."""
    first = parts[0][2]
    if len(parts) == 1:
        return first
    shape = (size[1], size[0])
    values = np.empty((len(first.values), *shape), first.values.dtype)
    missing = np.empty(values.shape, bool)
    alpha = None if first.alpha is None else np.empty(shape, first.alpha.dtype)
    for rows, columns, part in parts:
        values[:, rows, columns], missing[:, rows, columns] = part.values, part.missing
        if alpha is not None:
            alpha[rows, columns] = part.alpha
    return Picked(values, missing, alpha)


def nothing(facts: Facts, bands: tuple[int, ...], shape: tuple[int, ...], nodata: float | None) -> Picked:
    """An image without a pixel."""
    values = np.full((len(bands), *shape), 0 if nodata is None else nodata, facts.dtype)
    alpha = np.zeros(shape, facts.dtype) if facts.missing == ALPHA else None
    return Picked(values, np.ones(values.shape, bool), alpha)


def is_value_of(dtype: str, value: float) -> bool:
    """Whether pixels of this type can have the value."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return True
    return bool(np.isfinite(value) and value == int(value) and np.iinfo(kind).min <= value <= np.iinfo(kind).max)


__all__ = ["MAX_WINDOW", "NODATA", "Picked", "Placed", "is_value_of", "masked", "nearest", "nothing", "place_of"]
