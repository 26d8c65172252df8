"""Laying pictures of items over each other until nothing is left to fill, or the time is over.

rio-tiler's `mosaic_reader` reads a chunk of items at once, whether they can add anything or not, fails when two differ in their bands, and
knows no time. Here items are read in order, one that lies under pixels that are there already is not opened, and what cannot be read is
passed over and told.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pystac
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.warp import transform_bounds
from rio_tiler.constants import WGS84_CRS
from rio_tiler.errors import EmptyMosaicError, InvalidAssetName, MissingAssets, PointOutsideBounds, TileOutsideBounds
from rio_tiler.models import ImageData
from rio_tiler.mosaic.methods.base import MosaicMethodBase
from rio_tiler.utils import inherit_rasterio_env, resize_array

from api.problems import Problem
from api.tiles.found import Found
from api.tiles.leaving import carried, stop_if_left
from api.tiles.notes import DEADLINE, ITEMS, UNREADABLE

Read = Callable[[pystac.Item], ImageData]
#: What an item may raise that has nothing in the picture, or no such asset: the next one may.
NOTHING_THERE: Final = (TileOutsideBounds, PointOutsideBounds, InvalidAssetName, MissingAssets)

#: Values that methods are fed which keep all of them until the end, such as a median: 0.5 GB in the largest type.
MOST_STACKED: Final = 2**26


class NothingLaid(EmptyMosaicError):
    """No item has a pixel there, of those that were looked at; `laid` says whether there are more."""

    def __init__(self, laid: Laid) -> None:
        super().__init__("no item has a pixel there")
        self.laid = laid


@dataclass(slots=True)
class Laid:
    """What became of the items of a mosaic: names of those in the picture, why it is not whole (None: it is), and what was not served."""

    names: list[str] = field(default_factory=list)
    partial: str | None = None
    is_private: bool = False
    refusal: Exception | None = None

    def miss(self, why: str) -> None:
        """Some of the picture is missing; the first reason is told."""
        self.partial = self.partial or why


def lay(
    pages: Iterable[list[Found]],
    read: Read,
    method: MosaicMethodBase,
    *,
    until: float,
    most: int,
    threads: int,
    skip: bool,
    stop_when_full: bool,
    patience: int | None = None,
) -> tuple[ImageData, Laid]:
    """Return the picture of a mosaic, and what is in it.

    Args:
        pages: items in order, the first on top; one more than `most` tells that there are more.
        read: gives an item's picture.
        until: on the monotonic clock; nothing is opened after it.
        most: items at most that are laid.
        threads: items that are read at once, where the method needs them all.
        skip: leave out items under pixels that are there already, where the method keeps the first pixel.
        stop_when_full: whatever the method, as soon as every pixel is there.
        patience: items one after the other that add no pixel, after which there are none to come; None: all are looked at.

    Raises:
        NothingLaid: nothing is there.
        Problem: 503 TILE_DEADLINE; that of an item, when there is no other.
        ClientLeft: no further item is read.
    """
    laid, layers = Laid(), _Layers(method, counts_idle=patience is not None)
    is_ordered = method.exit_when_filled
    reader = inherit_rasterio_env(read)
    with ThreadPoolExecutor(max(1, threads)) as workers:
        for page in _first(pages, most, laid):
            for chunk in _chunks(page, 1 if is_ordered else threads):
                if time.monotonic() >= until:
                    laid.miss(DEADLINE)
                    return layers.picture(laid), laid
                stop_if_left()
                chosen = [one for one in chunk if not (skip and is_ordered and layers.hides(one.item))]
                reading = carried(_reading(reader))
                pictures = list(map(reading, chosen) if len(chosen) < 2 else workers.map(reading, chosen))
                for one, picture in zip(chosen, pictures, strict=True):
                    layers.add(one, picture, laid)
                if not is_ordered and layers.fed >= MOST_STACKED:
                    laid.miss(ITEMS)
                    return layers.picture(laid), laid
                is_enough = patience is not None and layers.idle >= patience
                if method.is_done or is_enough or (stop_when_full and layers.is_full()):
                    return layers.picture(laid), laid
    return layers.picture(laid), laid


def _first(pages: Iterable[list[Found]], most: int, laid: Laid) -> Iterable[list[Found]]:
    """Give items up to a number; that there are more is noted when they have been used."""
    for page in pages:
        yield page[:most]
        if len(page) > most:
            laid.miss(ITEMS)
            return
        most -= len(page)


def _reading(read: Read) -> Callable[[Found], ImageData | Exception]:
    """Gives a picture, or why there is none: what a caller asks wrongly is raised, what is wrong with one item is returned."""

    def picture(one: Found) -> ImageData | Exception:
        try:
            return read(one.item)
        except (*NOTHING_THERE, RasterioError, OSError) as error:
            return error
        except Problem as problem:
            if problem.status == 400:
                raise
            return problem

    return picture


def _chunks(page: list[Found], size: int) -> Iterable[list[Found]]:
    return (page[start : start + size] for start in range(0, len(page), max(1, size)))


class _Layers:
    """Pictures of one size and with as many bands as the first that has any."""

    def __init__(self, method: MosaicMethodBase, *, counts_idle: bool = False) -> None:
        self._method, self._counts_idle = method, counts_idle
        self._first: ImageData | None = None
        self.fed = 0
        self.idle = 0
        self._holes = -2  # no picture was fed yet

    def add(self, one: Found, picture: ImageData | Exception, laid: Laid) -> None:
        """Feed one picture to the method, and count those that have added nothing since one did."""
        self.idle += 1
        if isinstance(picture, Exception):
            if not isinstance(picture, NOTHING_THERE):
                laid.miss(UNREADABLE)
                laid.refusal = laid.refusal or (picture if isinstance(picture, Problem) else None)
            return
        method = self._method
        if self._first is None:
            self._first = picture
            method.cutline_mask = picture.cutline_mask
            method.width, method.height, method.count = picture.width, picture.height, picture.count
        if picture.count != method.count:
            laid.miss(UNREADABLE)
            return
        array = picture.array
        if (picture.height, picture.width) != (method.height, method.width):
            array = _resized(array, method.height, method.width)
        method.feed(array)
        if self._counts_idle:
            self._note_holes()
        self.fed += array.size
        laid.is_private |= not one.is_public
        laid.names.append(f"{one.item.collection_id}/{one.item.id}")

    def _note_holes(self) -> None:
        """Begin to count anew when a pixel has come. Methods that keep all pictures reckon their data anew each time they are asked."""
        data = self._method.data
        holes = -1 if data is None else int(np.ma.getmaskarray(data).sum())
        if holes != self._holes:
            self._holes, self.idle = holes, 0

    def hides(self, item: pystac.Item) -> bool:
        """Whether every pixel is there already where an item may have one."""
        data, first = self._method.data, self._first
        if data is None or first is None or first.bounds is None or not item.bbox:
            return False
        holes = np.ma.getmaskarray(data).any(axis=0)
        if not holes.any():
            return True
        window = _window(item.bbox, first.crs, first.bounds, holes.shape)
        return window is not None and not holes[window].any()

    def is_full(self) -> bool:
        """Whether every pixel is there."""
        return self._method.data is not None and not np.ma.is_masked(self._method.data)

    def picture(self, laid: Laid) -> ImageData:
        """What the method has made of them."""
        data, first = self._method.data, self._first
        if data is None or first is None:
            raise _nothing(laid)
        return ImageData(
            data,
            assets=laid.names,
            crs=first.crs,
            bounds=first.bounds,
            band_names=first.band_names,
            band_descriptions=first.band_descriptions,
            metadata={"mosaic_method": type(self._method).__name__, "mosaic_assets_used": len(laid.names)},
        )


def _nothing(laid: Laid) -> Exception:
    if laid.partial == DEADLINE:
        return Problem(503, "TILE_DEADLINE", "nothing could be read in the time for one picture; try again")
    if laid.refusal is not None:
        return laid.refusal
    if laid.partial == UNREADABLE:
        return Problem(422, "RASTER_UNREADABLE", "none of the rasters there can be read")
    return NothingLaid(laid)


def _resized(array: Any, height: int, width: int) -> Any:
    mask = resize_array(np.ma.getmaskarray(array).astype("uint8"), height, width)
    return np.ma.MaskedArray(resize_array(array.data, height, width), mask=mask.astype("bool"))


def _window(
    bbox: list[float], crs: CRS, bounds: tuple[float, ...], shape: tuple[int, int]
) -> tuple[slice, slice] | None:
    """Rows and columns of a picture that a box in WGS 84 touches, a pixel more on each side. None: cannot be told."""
    west, south, east, north = (*bbox[:2], *bbox[3:5]) if len(bbox) == 6 else bbox
    if west > east:  # across the antimeridian
        return None
    try:
        left, bottom, right, top = transform_bounds(WGS84_CRS, crs, west, south, east, north)
    except (RasterioError, ValueError):
        return None
    rows, columns = shape
    across, down = (bounds[2] - bounds[0]) / columns, (bounds[3] - bounds[1]) / rows
    edges = (
        (bounds[3] - top) / down,
        (bounds[3] - bottom) / down,
        (left - bounds[0]) / across,
        (right - bounds[0]) / across,
    )
    if not all(np.isfinite(edges)):
        return None
    first_row, last_row, first_column, last_column = edges
    return (
        slice(int(max(0, first_row - 1)), int(max(0, last_row + 2))),
        slice(int(max(0, first_column - 1)), int(max(0, last_column + 2))),
    )
