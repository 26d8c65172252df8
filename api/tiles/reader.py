"""rio-tiler's reader of GeoTIFF with a fast way for tiles and parts in another CRS; all else, and all that is odd, is rio-tiler's.

The fast way answers what rio-tiler would, to the pixel where pixels are picked (`tests/api/tiles/`); docs/adr/0044 says how it works.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, get_args

import attr
import numpy as np
from affine import Affine
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.transform import array_bounds, from_bounds
from rasterio.warp import transform_bounds
from rio_tiler.constants import WGS84_CRS
from rio_tiler.errors import InvalidBufferSize
from rio_tiler.expression import parse_expression
from rio_tiler.io import Reader
from rio_tiler.models import ImageData
from rio_tiler.types import BBox, Indexes, RIOResampling
from rio_tiler.utils import cast_to_sequence, non_alpha_indexes, output_size

from api.problems import Problem
from api.tiles import pixels
from api.tiles.away import inmost, is_away, nothing_like
from api.tiles.bounds import check_size
from api.tiles.exists import OnceCarried
from api.tiles.facts import NODATA, NONE, OTHER, Facts, facts_of, level_sizes
from api.tiles.leaving import stop_if_left
from api.tiles.mixing import mixed
from api.tiles.overviews import Grid, Sizes, grid_for, picked
from api.tiles.pieces import Frame, pieces
from api.tiles.placing import MOST_NATIVE, Place, place_of, placed
from api.tiles.pool import POOL, Key, Pool, forget_errors, key_of, open_level

#: Options of rio-tiler's `part` that the fast way knows.
_KNOWN = frozenset(
    {"nodata", "unscale", "post_process", "resampling_method", "reproject_method", "padding", "out_dtype"}
)
#: Ways to warp, and to read what was warped.
_WARPS = frozenset({"nearest", "bilinear", "cubic"})
_READS = frozenset(get_args(RIOResampling))


@dataclass(frozen=True, slots=True)
class Image:
    """What is asked for: extent, CRS, size, and the size that the extent has at the raster's resolution."""

    bounds: BBox
    crs: CRS
    width: int
    height: int
    native: tuple[int, int]


@attr.s
class FastReader(OnceCarried, Reader):
    """Reads a GeoTIFF out of the pool."""

    pool: Pool = attr.ib(default=POOL)
    dataset: Any
    transform: Any
    facts: Facts = attr.ib(init=False)
    _key: Key | None = attr.ib(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        stop_if_left()
        if self.dataset is None:
            key = self._key = key_of(str(self.input))
            if key is None:
                open_level(Key(str(self.input), (0, 0, 0, 0))).close()  # raises: there is no file
                raise AssertionError(self.input)
            self.dataset = self._ctx_stack.enter_context(self.pool.lent(key))
            self.facts = self.pool.facts(key, lambda: facts_of(self.dataset))
            if self.colormap is None:
                self.colormap = dict(self.facts.colormap)
        super().__attrs_post_init__()  # type: ignore[no-untyped-call]

    def part(
        self,
        bbox: BBox,
        dst_crs: CRS | None = None,
        bounds_crs: CRS = WGS84_CRS,
        indexes: Indexes | None = None,
        expression: str | None = None,
        max_size: int | None = None,
        height: int | None = None,
        width: int | None = None,
        buffer: float | None = None,
        **kwargs: Any,
    ) -> ImageData:
        """Read part of the raster: parameters, result and errors are those of `Reader.part`.

        Raises:
            Problem: 400 IMAGE_TOO_LARGE.
        """
        stop_if_left()
        options, crs = {**self.options, **kwargs}, dst_crs or bounds_crs
        bands = tuple((parse_expression(expression) if expression else cast_to_sequence(indexes)) or self._all_bands())
        image = self._image(bbox, crs, bounds_crs, (width, height, max_size), buffer)
        if image is None:
            check_size(width or max_size or 1, height or max_size or 1, len(bands), self.dataset.dtypes[0])
        else:
            check_size(image.width, image.height, len(bands), self.dataset.dtypes[0])
            if (place := self._place(image, options, buffer)) is not None:
                size = image.width, image.height
                part = self.part(
                    place.bounds(image.bounds, size), dst_crs=crs, bounds_crs=crs, indexes=indexes, expression=expression,
                    width=place.size[0], height=place.size[1], **kwargs,
                )  # fmt: skip
                return placed(part, place, image.bounds, size)
            found = self._fast(image, bands, options) if self._is_fast(crs, options) else None
            if found is not None:
                found.assets = [self.input]
                return found.apply_expression(expression) if expression else found
        forget_errors()
        if image is not None and self._key is not None and self._is_away(image):
            pixel = super().part(
                inmost(self.facts.bounds, self.transform), dst_crs=self.crs, bounds_crs=self.crs, indexes=indexes,
                expression=expression, width=1, height=1, **kwargs,
            )  # fmt: skip
            return nothing_like(pixel, image.bounds, crs, (image.width, image.height))
        return super().part(
            bbox, dst_crs=dst_crs, bounds_crs=bounds_crs, indexes=indexes, expression=expression, max_size=max_size,
            height=height, width=width, buffer=buffer, **kwargs,
        )  # fmt: skip

    def read(self, indexes: Indexes | None = None, expression: str | None = None, **kwargs: Any) -> ImageData:
        """Read the whole raster, as `Reader.read`.

        Raises:
            Problem: 400 IMAGE_TOO_LARGE.
        """
        stop_if_left()
        asked = {f"output_{side}": kwargs.get(side) for side in ("height", "width")}
        height, width = output_size(
            dataset_height=self.dataset.height,
            dataset_width=self.dataset.width,
            max_size=kwargs.get("max_size"),
            **asked,
        )
        bands = (parse_expression(expression) if expression else cast_to_sequence(indexes)) or self._all_bands()
        check_size(width, height, len(bands), self.dataset.dtypes[0])
        return super().read(indexes=indexes, expression=expression, **kwargs)

    def _place(self, image: Image, options: dict[str, Any], buffer: float | None) -> Place | None:
        """Where the raster lies in an image that is much larger; None: it is read as it is asked for."""
        if self._key is None or buffer or options.get("padding") or not _KNOWN.issuperset(options):
            return None
        if math.prod(image.native) <= MOST_NATIVE:
            return None
        facts = self.facts
        return place_of(facts.bounds, facts.crs, image.bounds, image.crs, (image.width, image.height))

    def _is_away(self, image: Image) -> bool:
        return is_away(image.bounds, image.crs, self.facts.bounds, self.facts.crs)

    def _all_bands(self) -> tuple[int, ...]:
        return self.facts.indexes if self._key is not None else tuple(non_alpha_indexes(self.dataset))

    def _is_fast(self, crs: CRS, options: dict[str, Any]) -> bool:
        if self._key is None or self.facts.missing == OTHER or not _KNOWN.issuperset(options):
            return False
        if options.get("padding") or options.get("out_dtype"):
            return False
        nodata = options.get("nodata")
        if nodata is not None and not (
            self.facts.missing in (NONE, NODATA) and pixels.is_value_of(self.facts.dtype, nodata)
        ):
            return False
        is_known = (options.get("reproject_method") or "nearest") in _WARPS and (
            (options.get("resampling_method") or "nearest") in _READS
        )
        return is_known and crs != self.facts.crs

    def _image(
        self,
        bbox: BBox,
        crs: CRS,
        bounds_crs: CRS,
        size: tuple[int | None, int | None, int | None],
        buffer: float | None,
    ) -> Image | None:
        """The image as `rio_tiler.reader.part` makes it out of what is asked; None: what has no finite resolution."""
        if buffer and buffer % 0.5:
            raise InvalidBufferSize("`buffer` must be a multiple of `0.5` (e.g: 0.5, 1, 1.5, ...).")
        if bounds_crs != crs:
            bbox = transform_bounds(bounds_crs, crs, *bbox, densify_pts=21)
        try:
            resolution = self._resolution(crs)
        except (CPLE_BaseError, RasterioError, ValueError, ArithmeticError):
            return None
        try:
            return _sized(bbox, crs, resolution, size, buffer)
        except (ArithmeticError, ValueError):
            raise Problem(400, "INVALID_PARAMETER", "a box has an area, and an image at least one pixel") from None

    def _resolution(self, crs: CRS) -> tuple[float, float]:
        if crs == self.crs:
            if not (self.transform.a and self.transform.e):
                raise ValueError("a quarter turned")
            return abs(self.transform.a), -abs(self.transform.e)
        if self._key is None:
            raise ValueError("not a file of the pool")
        return self.facts.resolution_in(crs, crs.to_wkt())

    def levels(self) -> Sizes:
        """Sizes of the overviews, the finest first; looked up when they are needed."""
        key = self._key
        if key is None or not self.facts.has_overviews:
            return ()
        found: Sizes = self.pool.facts(Key(key.path, key.identity, -1), lambda: level_sizes(self.pool, key))
        return found

    def _fast(self, image: Image, bands: tuple[int, ...], options: dict[str, Any]) -> ImageData | None:
        if not set(bands) <= set(self.facts.indexes):
            return None
        facts, key, levels = self.facts, self._key, self.levels()
        assert key is not None
        size = image.width, image.height
        is_mixed = (options.get("resampling_method") or "nearest") != "nearest"
        grid = grid_for(image.native, size, (facts.width, facts.height), levels, mixed=is_mixed)
        is_direct = len(bands) >= len(facts.indexes)
        if is_direct:  # GDAL takes it from the overview at once, whatever the resampling
            grid = Grid(image.width, image.height, grid.level)
        elif is_mixed and (grid.width, grid.height) != size:
            return None
        shape = levels[grid.level] if grid.level is not None else (facts.width, facts.height)
        to_pixel = Affine.scale(shape[0] / facts.width, shape[1] / facts.height) @ ~facts.transform
        frame = Frame(image.bounds, image.crs, grid, facts.crs, to_pixel, shape)
        nodata = options.get("nodata") if options.get("nodata") is not None else facts.nodata
        method = options.get("reproject_method") or "nearest"
        if grid.level is None:
            found = _pixels(self.dataset, facts, bands, frame, size, nodata, method, at_once=is_direct)
        else:
            with self.pool.lent(Key(key.path, key.identity, grid.level)) as overview:
                found = _pixels(overview, facts, bands, frame, size, nodata, method, at_once=is_direct)
        return None if found is None else _as_image(found, facts, image, bands, nodata, options)


def _pixels(
    dataset: DatasetReader,
    facts: Facts,
    bands: tuple[int, ...],
    frame: Frame,
    size: tuple[int, int],
    nodata: float | None,
    method: str,
    *,
    at_once: bool,
) -> pixels.Picked | None:
    """The image's pixels of a level; None: GDAL's warper is needed."""
    where = frame.positions(picked(frame.grid.width, size[0]), picked(frame.grid.height, size[1]))
    if where is None:
        return None
    if method == "nearest":
        return pixels.nearest(dataset, facts, bands, *where, nodata)
    parts = []
    for rows, columns, kernel in pieces(frame, size, method, at_once=at_once) or ():
        part = mixed(dataset, facts, bands, where[0][rows, columns], where[1][rows, columns], nodata, kernel)
        if part is None:
            return None
        parts.append((rows, columns, part))
    return pixels.joined(parts, size) if parts else None


def _sized(
    bbox: BBox,
    crs: CRS,
    resolution: tuple[float, float],
    size: tuple[int | None, int | None, int | None],
    buffer: float | None,
) -> Image:
    width, height, max_size = size
    native = _native_size(bbox, resolution, width, height)
    bbox = array_bounds(native[1], native[0], from_bounds(*bbox, *native))
    height, width = output_size(
        dataset_height=native[1],
        dataset_width=native[0],
        output_height=height,
        output_width=width,
        max_size=max_size,
    )
    if buffer:
        x, y = (bbox[2] - bbox[0]) / width * buffer, (bbox[3] - bbox[1]) / height * buffer
        bbox = (bbox[0] - x, bbox[1] - y, bbox[2] + x, bbox[3] + y)
        width, height = width + int(buffer * 2), height + int(buffer * 2)
        native = _native_size(bbox, resolution, width, height)
        bbox = array_bounds(native[1], native[0], from_bounds(*bbox, *native))
    return Image(bbox, crs, width, height, native)


def _native_size(
    bounds: BBox, resolution: tuple[float, float], width: int | None, height: int | None
) -> tuple[int, int]:
    """Size of the extent at the raster's resolution, or at the image's where that is finer (`rio_tiler.utils.get_vrt_transform`)."""
    west, south, east, north = bounds
    x, y = resolution
    if width or height:
        if not width or not height:
            ratio = max(1, round((south - north) / y)) / max(1, round((east - west) / x))
            height = height or math.ceil((width or 1) * ratio)
            width = width or math.ceil(height / ratio)
        image = from_bounds(west, south, east, north, width, height)
        x = image.a if abs(x) > abs(image.a) else x
        y = image.e if abs(y) > abs(image.e) else y
    return max(1, round((east - west) / x)), max(1, round((south - north) / y))


def _as_image(
    found: pixels.Picked,
    facts: Facts,
    image: Image,
    bands: tuple[int, ...],
    nodata: float | None,
    options: dict[str, Any],
) -> ImageData:
    """rio-tiler's image, as the end of `rio_tiler.reader.read` makes it."""
    data: Any = np.ma.MaskedArray(found.values, mask=found.missing)
    ranges: Any = [facts.statistics[band - 1] for band in bands]
    if None in ranges:
        ranges = None
    scales = np.array([facts.scales[band - 1] for band in bands])
    offsets = np.array([facts.offsets[band - 1] for band in bands])
    if options.get("unscale"):
        data = data.astype("float32", casting="unsafe")
        np.multiply(data, scales.reshape((-1, 1, 1)), out=data, casting="unsafe")
        np.add(data, offsets.reshape((-1, 1, 1)), out=data, casting="unsafe")
        if ranges:
            scaled = np.array(ranges) * scales.reshape((-1, 1)) + offsets.reshape((-1, 1))
            ranges = [tuple(one) for one in scaled.tolist()]
        scales, offsets = np.ones(len(bands)), np.zeros(len(bands))
    if post_process := options.get("post_process"):
        data = post_process(data)
    return ImageData(
        data,
        bounds=image.bounds,
        crs=image.crs,
        band_names=[f"b{band}" for band in bands],
        band_descriptions=[facts.descriptions[band - 1] or f"b{band}" for band in bands],
        dataset_statistics=ranges,
        nodata=nodata,
        alpha_mask=found.alpha,
        scales=scales.tolist(),
        offsets=offsets.tolist(),
    )
