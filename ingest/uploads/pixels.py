"""Reading a raster's pixels once from end to end: damaged blocks, a sample for statistics, a coarse copy. Child process only."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError
from rasterio.windows import Window

from ingest.errors import UploadRejected

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

Array = np.ndarray[Any, Any]
Resampling = Literal["nearest", "average"]

#: Chunks begin at multiples of this, so that any power of two up to it divides them.
STEP = 512
CHUNK_BYTES = 48 * 2**20
#: Values kept for statistics, of all bands together.
SAMPLE_VALUES = 16_000_000
SAMPLE_PIXELS = 1_000_000
MAX_DAMAGED = 20
#: Integers with fewer values than this are taken for classes or bit fields: an average of them means nothing.
FEW_VALUES = 64


@dataclass(frozen=True, slots=True)
class Validity:
    """Which pixels a raster says are data: by nodata value, alpha band or mask; NaN never is."""

    nodata: Any
    alpha: int | None
    has_mask: bool
    can_be_nan: bool

    @property
    def is_told(self) -> bool:
        """The raster has some way to say it."""
        return self.nodata is not None or self.alpha is not None or self.has_mask

    def of(self, source: DatasetReader, window: Window, data: Array) -> Array | None:
        """True where valid, (bands, rows, columns) or (1, rows, columns) for all bands; None: everything is."""
        mask: Array | None = None
        if self.has_mask:
            mask = (source.read_masks(1, window=window) > 0)[None]
        elif self.alpha is not None:
            mask = (data[self.alpha - 1] > 0)[None]
        elif self.nodata is not None:
            mask = ~np.isnan(data) if self.nodata != self.nodata else data != self.nodata
        if self.can_be_nan and not (self.nodata is not None and self.nodata != self.nodata):
            finite = ~np.isnan(data)
            mask = finite if mask is None else mask & finite
        return None if mask is not None and mask.all() else mask


def validity_of(source: DatasetReader) -> tuple[Validity, list[str]]:
    """How `source` says what is data; and warnings."""
    dtype = np.dtype(source.dtypes[0])
    warnings: list[str] = []
    nodata = source.nodata
    if nodata is not None and not _fits(nodata, dtype):
        warnings.append("NODATA_OUT_OF_RANGE")
        nodata = None
    alpha = next((n for n, kind in enumerate(source.colorinterp, 1) if kind == ColorInterp.alpha), None)
    flags = source.mask_flag_enums[0]
    has_mask = MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags and MaskFlags.nodata not in flags
    typed = None if nodata is None else dtype.type(nodata)
    found = Validity(typed, None if has_mask else alpha, has_mask, dtype.kind == "f")
    if not found.is_told:
        warnings.append("NO_NODATA")
    if dtype in (np.int64, np.uint64):
        warnings.append("INT64_PRECISION")
    return found, warnings


def _fits(nodata: float, dtype: np.dtype[Any]) -> bool:
    if dtype.kind == "f":
        return not math.isfinite(nodata) or abs(nodata) <= float(np.finfo(dtype).max) * (1 + 1e-6)
    limits = np.iinfo(dtype)
    return math.isfinite(nodata) and nodata == int(nodata) and limits.min <= int(nodata) <= limits.max


def chunks(source: DatasetReader) -> Iterator[Window]:
    """Windows over the whole raster, aligned to STEP, of about CHUNK_BYTES; as wide as the blocks allow."""
    pixel_bytes = source.count * np.dtype(source.dtypes[0]).itemsize
    columns = max(STEP, min(source.width, CHUNK_BYTES // (pixel_bytes * STEP)) // STEP * STEP)
    if columns + STEP > source.width:
        columns = source.width
    rows = max(STEP, CHUNK_BYTES // (pixel_bytes * columns) // STEP * STEP)
    for row in range(0, source.height, rows):
        for column in range(0, source.width, columns):
            yield Window(column, row, min(columns, source.width - column), min(rows, source.height - row))


def read(source: DatasetReader, window: Window, out: Array | None = None) -> Array:
    """All bands of a window, (bands, rows, columns); into `out` when it is given.

    Raises:
        UploadRejected: CORRUPT with the blocks that cannot be decoded, [band, row, column] each, at most 20.
    """
    try:
        data: Array = source.read(window=window, out=out)
        return data
    except RasterioError:
        blocks = damaged_blocks(source, window)
        band, row, column = blocks[0] if blocks else (0, 0, 0)
        raise UploadRejected(
            "CORRUPT", f"block {row},{column} of band {band} cannot be decoded", blocks=blocks
        ) from None


def decode(source: DatasetReader, validity: Validity) -> Iterator[tuple[Window, Array, Array | None]]:
    """Every chunk once: window, pixels, where they are valid. The next one is decoded while the caller works on the last; the pixels'
    memory is used again when the caller asks for the next.

    Raises:
        UploadRejected: CORRUPT, see `read`.
    """
    windows = list(chunks(source))
    most = max((window.height * window.width for window in windows), default=0) * source.count
    buffers = deque(np.empty(most, source.dtypes[0]) for _ in range(2))  # one at the caller, one is filled

    def work(window: Window, buffer: Array) -> tuple[Window, Array, Array | None]:
        shape = source.count, window.height, window.width
        with rasterio.Env():
            data = read(source, window, buffer[: math.prod(shape)].reshape(shape))
            return window, data, validity.of(source, window, data)

    with ThreadPoolExecutor(1) as ahead:
        waiting: deque[Future[tuple[Window, Array, Array | None]]] = deque()
        for window in windows:
            buffers.rotate()
            waiting.append(ahead.submit(work, window, buffers[0]))
            if len(waiting) > 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def damaged_blocks(source: DatasetReader, window: Window) -> list[list[int]]:
    """Blocks of a window that cannot be decoded: [band, row, column], at most 20."""
    height, width = source.block_shapes[0]
    found: list[list[int]] = []
    for row in range(window.row_off // height, math.ceil((window.row_off + window.height) / height)):
        for column in range(window.col_off // width, math.ceil((window.col_off + window.width) / width)):
            for band in source.indexes:
                try:
                    source.read(band, window=source.block_window(band, row, column))
                except RasterioError:
                    found.append([band, row, column])
                if len(found) == MAX_DAMAGED:
                    return found
    return found


def coarse(data: Array, valid: Array | None, factor: int, resampling: Resampling, fill: Any) -> Array:
    """`data` with cells of `factor` x `factor` pixels as one; cells at the far edges may be of fewer.

    `nearest` takes the pixel in the middle, `average` the mean of the valid ones (`fill` where there is none).
    """
    if factor == 1:
        return data
    if resampling == "nearest":
        rows, columns = (_middles(size, factor) for size in data.shape[1:])
        return data[:, rows[:, None], columns[None, :]]
    wide = np.float64 if data.dtype.kind == "f" else np.int64
    if valid is None:
        total = _cells(data, factor, wide)
        rows, columns = (_sizes(size, factor) for size in data.shape[1:])
        number = (rows[:, None] * columns)[None]
    else:
        total = _cells(np.where(valid, data, data.dtype.type(0)), factor, wide)
        number = _cells(valid, factor, np.int64)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = total / number
    if data.dtype.kind != "f":
        mean = np.rint(mean)
    found: Array = np.where(number > 0, mean, fill).astype(data.dtype)
    return found


def any_valid(valid: Array, factor: int) -> Array:
    """True for cells of `factor` x `factor` pixels with a valid pixel in any band; (rows, columns)."""
    found: Array = _cells(valid.any(axis=0)[None], factor, np.int64)[0] > 0
    return found


def _middles(size: int, factor: int) -> Array:
    return np.minimum(np.arange(0, size, factor) + factor // 2, size - 1)


def _sizes(size: int, factor: int) -> Array:
    """Pixels of each cell along one side."""
    sizes: Array = np.minimum(factor, size - np.arange(0, size, factor))
    return sizes


def _cells(data: Array, factor: int, wide: Any) -> Array:
    """Sums over cells: rows first, which lie together in memory."""
    _, height, width = data.shape
    spare = ((0, 0), (0, -height % factor), (0, -width % factor))
    padded = np.pad(data, spare) if any(after for _, after in spare) else data
    narrow = np.int32 if data.dtype.kind in "uib" and data.dtype.itemsize <= 2 else wide  # 512 x 65,535 fits
    by_rows = padded[:, ::factor].astype(narrow)
    for row in range(1, factor):
        by_rows += padded[:, row::factor]
    total = by_rows[:, :, ::factor].astype(wide)
    for column in range(1, factor):
        total += by_rows[:, :, column::factor]
    return total


def resampling_of(source: DatasetReader) -> Resampling:
    """How overviews are made: `nearest` for classes (palettes, few different integers) and 64-bit integers, else `average`."""
    dtype = np.dtype(source.dtypes[0])
    if ColorInterp.palette in source.colorinterp or dtype in (np.int64, np.uint64):
        return "nearest"
    if dtype.kind == "f" or source.count in (3, 4):
        return "average"
    seen: set[int] = set()
    places = [(row, column) for row in (0.1, 0.5, 0.9) for column in (0.1, 0.5, 0.9)]
    for row, column in places:
        window = Window(
            int(column * source.width), int(row * source.height), min(STEP, source.width), min(STEP, source.height)
        ).intersection(Window(0, 0, source.width, source.height))
        seen |= set(np.unique(read(source, window)[0]).tolist())
        if len(seen) > FEW_VALUES:
            return "average"
    return "nearest"


@dataclass
class Sample:
    """Pixels taken at equal distances, for statistics, and where a coarse grid of cells has valid ones."""

    stride: int
    values: list[list[Array]] = field(default_factory=list)
    seen: int = 0
    cells: Array | None = None

    @classmethod
    def of(cls, source: DatasetReader) -> Sample:
        """An empty sample whose stride keeps it below SAMPLE_VALUES."""
        most = min(SAMPLE_PIXELS, SAMPLE_VALUES // source.count)
        stride = 1
        while source.width * source.height / stride**2 > most and stride < STEP:
            stride *= 2
        shape = math.ceil(source.height / stride), math.ceil(source.width / stride)
        return cls(stride, [[] for _ in source.indexes], cells=np.zeros(shape, "bool"))

    def add(self, window: Window, data: Array, valid: Array | None) -> None:
        """Take from one chunk."""
        assert self.cells is not None
        step = self.stride
        rows, columns = (_middles(size, step) for size in data.shape[1:])
        picked = data[:, rows[:, None], columns[None, :]]
        self.seen += picked[0].size
        kept = None if valid is None else valid[:, rows[:, None], columns[None, :]]
        for band, values in enumerate(picked):
            told = values.ravel() if kept is None else values[kept[band if len(kept) > 1 else 0]]
            self.values[band].append(told[np.isfinite(told)] if told.dtype.kind == "f" else told)
        top, left = window.row_off // step, window.col_off // step
        cells = np.ones(picked.shape[1:], "bool") if valid is None else any_valid(valid, step)
        self.cells[top : top + cells.shape[0], left : left + cells.shape[1]] = cells

    def band(self, index: int) -> Array:
        """Valid values of a band (from 1), in no order."""
        return np.concatenate(self.values[index - 1])
