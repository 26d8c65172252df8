"""Pixels of assets that lie elsewhere, of hosts that the sources name.

The header is parsed here; of the level that a tile needs the blocks are fetched in one or two requests, and GDAL gets an excerpt of
them with a header of ours (`api.tiles.excerpt`): it opens no URL, follows nothing, and reads no metadata of others (docs/adr/0049).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import attr
import numpy as np
import rasterio
from rasterio import windows
from rasterio.crs import CRS
from rasterio.errors import CRSError, NotGeoreferencedWarning
from rasterio.io import DatasetReader
from rasterio.warp import transform as transform_points
from rasterio.warp import transform_bounds
from rio_tiler.constants import WGS84_CRS
from rio_tiler.errors import NoOverviewWarning
from rio_tiler.expression import parse_expression
from rio_tiler.io import Reader
from rio_tiler.models import ImageData, PointData
from rio_tiler.utils import cast_to_sequence, get_vrt_transform, non_alpha_indexes, output_size

from api.problems import Problem
from api.settings import ApiSettings, Network
from api.tiles.bounds import check_size
from api.tiles.excerpt import Structure
from api.tiles.overviews import Sizes
from api.tiles.pool import Key
from api.tiles.reader import FastReader
from api.tiles.remote_fetch import Fetcher, FetchFailed
from api.tiles.remote_headers import Header, Headers
from api.tiles.remote_hosts import HostRefused, Hosts, url_of
from api.tiles.remote_level import Level, Levels, opened
from api.tiles.sas import Signers
from ingest.errors import UploadRejected
from ingest.model import Source
from ingest.settings import IngestSettings

#: Pixels around what is asked for that resampling may reach for.
_MARGIN: Final = 8
#: Points along each side of a box that is carried into another reference system.
_ALONG: Final = 21
#: How much larger than asked for the pixels of an overview may be: in pixels of the finest level where GDAL warps ("-ovr AUTO"), as a
#: factor where it reads (GDAL_OVERVIEW_OVERSAMPLING_THRESHOLD). With the same choice the pixels are the same.
_WARPED: Final = 0.1
_READ: Final = 1.2
#: Bytes of blocks of one asset that one answer may need, as they are stored and decoded.
_MOST_STORED: Final = 64 * 2**20
_MOST_DECODED: Final = 256 * 2**20

_WORDS: Final = {
    "unreachable": "its host does not answer",
    "slow": "its host is too slow",
    "busy": "its host is busy",
    "failed": "its host answers with an error",
    "resting": "its host failed too often just now",
    "refused": "its host does not give it out",
    "gone": "its host does not have it any more",
    "not-the-file": "its host answers with something else",
    "changed": "it is being replaced at its host",
}


class Remote:
    """Files elsewhere, for all requests of a process. To be closed."""

    def __init__(self, sources: list[Source], settings: ApiSettings, ingest: IngestSettings) -> None:
        allowed: tuple[Network, ...] = settings.asset_networks_allowed()
        self.hosts = Hosts.of(sources)
        self._ingest = ingest
        self._signers = Signers(sources, allowed)
        self.fetcher = Fetcher(
            self.hosts, allowed, concurrency=settings.asset_host_concurrency, deadline_s=settings.asset_timeout_s
        )
        self._headers = Headers(self.fetcher)

    def close(self) -> None:
        """End all connections."""
        self.fetcher.close()
        self._signers.close()

    def serves(self, href: str) -> bool:
        """Whether the asset may be read."""
        return self.hosts.allow(href)

    def header(self, href: str, deadline: float) -> Header:
        """Raises FetchFailed, HostRefused, UploadRejected."""
        return self._headers.get(href, self._url(href, deadline), deadline)

    def blocks(
        self, href: str, header: Header, level: int, window: tuple[int, int, int, int], deadline: float
    ) -> dict[tuple[int, bool, int], bytes]:
        """Blocks of a level that hold a window, as `excerpt` takes them.

        Raises:
            FetchFailed: `changed` when the file is another one than the header's, which is then forgotten.
            HostRefused, UploadRejected
        """
        wanted = [
            (image, number, *image.blocks[number]) for image, number in header.structure.levels[level].blocks_of(window)
        ]
        stored = sum(count for _, _, _, count in wanted)
        decoded = sum(image.layout.block_bytes for image, *_ in wanted)
        if stored > _MOST_STORED or decoded > _MOST_DECODED:
            raise UploadRejected("TOO_LARGE_DECODED", "it has no overviews for such a scale")
        there = [(offset, count) for _, _, offset, count in wanted if offset and count]
        try:
            data = self.fetcher.ranges(self._url(href, deadline), there, header.tag, deadline) if there else {}
        except FetchFailed as error:
            if error.reason in ("changed", "gone"):
                self._headers.forget(href)
            raise
        return {
            (level, image.is_mask, number): data[offset] for image, number, offset, count in wanted if offset and count
        }

    def _url(self, href: str, deadline: float) -> str:
        return self._signers.signed(url_of(href, self._ingest), deadline)


@contextmanager
def told(name: str) -> Iterator[None]:
    """What goes wrong with an asset, as a problem that names it."""
    try:
        yield
    except FetchFailed as error:
        status = 503 if error.reason in ("busy", "resting", "changed") else 502
        detail = f"the asset {name!r} cannot be read: {_WORDS[error.reason]}"
        headers = {"Retry-After": "5"} if status == 503 else {}
        raise Problem(status, "ASSET_UNREACHABLE", detail, headers=headers, asset=name, reason=error.reason) from error
    except HostRefused as error:
        detail = f"the asset {name!r} leads to where nothing is read from"
        raise Problem(422, "ASSET_NOT_SERVED", detail, asset=name) from error
    except UploadRejected as error:
        status = 502 if error.code == "NOT_A_TIFF" else 422
        detail = f"the asset {name!r} is no raster that can be shown: {error}"
        raise Problem(status, "ASSET_UNREADABLE", detail, asset=name, reason=error.code) from error


def reader_of(remote: Remote, name: str) -> type[Reader]:
    """A reader of one asset, whose problems name it."""

    @attr.s
    class Warped(Reader):
        """rio-tiler's reader; its dataset knows everything but pixels, which are there while they are read."""

        _header: Header
        _deadline: float

        @contextmanager
        def _with_pixels(self, window: _Window, largest: float) -> Iterator[None]:
            """While the block runs the dataset is a level, of pixels below so many of the finest, with a window's blocks."""
            structure = self._header.structure
            level = _level_for(structure, largest)
            finest, own = structure.levels[0].image.layout, structure.levels[level].image.layout
            place = _in_level(window, own.width / finest.width, own.height / finest.height, own.width, own.height)
            with told(name):
                blocks = remote.blocks(str(self.input), self._header, level, place, self._deadline) if place else {}
            whole = self.dataset
            with opened(structure, [level], blocks) as self.dataset:
                try:
                    yield
                finally:
                    self.dataset = whole

        def _check(self, options: dict[str, Any]) -> None:
            """Refuse what would not fit into memory, before anything is fetched."""
            expression, indexes = options.get("expression"), options.get("indexes")
            asked = parse_expression(expression) if expression else cast_to_sequence(indexes)
            bands = len(asked or non_alpha_indexes(self.dataset))
            check_size(options["width"], options["height"], bands, self.dataset.dtypes[0])  # type: ignore[union-attr]

        def part(  # type: ignore[override]
            self, bbox: Any, dst_crs: CRS | None = None, bounds_crs: CRS = WGS84_CRS, **options: Any
        ) -> ImageData:
            into = dst_crs or bounds_crs
            box = bbox if into == bounds_crs else transform_bounds(bounds_crs, into, *bbox, densify_pts=_ALONG)
            options |= _sizes(_native_size(self.dataset, box, into), options)
            self._check(options)
            scale = _scale(self.dataset, box, into, options["width"], options["height"])
            grown = (options.get("buffer") or 0) * max(scale, 1)
            with self._with_pixels(_grown(_window_of(self.dataset, box, into), grown), scale + _WARPED):
                return super().part(bbox, dst_crs=dst_crs, bounds_crs=bounds_crs, **options)

        def read(self, indexes: Any = None, expression: str | None = None, **options: Any) -> ImageData:
            width, height = self.dataset.width, self.dataset.height  # type: ignore[union-attr]
            options |= _sizes((height, width), options)
            self._check({**options, "indexes": indexes, "expression": expression})
            scale = min(width / options["width"], height / options["height"])
            with self._with_pixels((0, 0, width, height), scale * _READ):
                return super().read(indexes=indexes, expression=expression, **options)

        def point(self, lon: float, lat: float, coord_crs: CRS = WGS84_CRS, **options: Any) -> PointData:  # type: ignore[override]
            window = _window_of(self.dataset, (lon, lat, lon, lat), coord_crs)
            with self._with_pixels(window, 0.0):
                return super().point(lon, lat, coord_crs=coord_crs, **options)

    @attr.s
    class RemoteReader(FastReader, Warped):
        """The fast reader over levels that are fetched; what is not for it is warped by GDAL, as for files here."""

        def __attrs_post_init__(self) -> None:
            with told(name):
                self._deadline = remote.fetcher.deadline()
                self._header = remote.header(str(self.input), self._deadline)
                known = self._header.known()
            self._key, self.facts = Key(str(self.input), (0, 0, 0, 0)), known.facts
            self.pool = Levels(self._level)  # type: ignore[assignment]
            self.dataset = self._level(0)
            if self.colormap is None:
                self.colormap = dict(known.facts.colormap)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NoOverviewWarning)
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                Reader.__attrs_post_init__(self)  # type: ignore[no-untyped-call]

        def levels(self) -> Sizes:
            return self._header.known().sizes

        def _level(self, number: int) -> Level:
            def fetch(level: int, box: tuple[int, int, int, int]) -> Any:
                with told(name):
                    return remote.blocks(str(self.input), self._header, level, box, self._deadline)

            return Level(self._header.structure, number, self._header.known(), fetch, self._ctx_stack)

    return RemoteReader


_Window = tuple[float, float, float, float]
_Box = tuple[float, float, float, float]


def _window_of(dataset: DatasetReader, bbox: _Box, crs: CRS) -> _Window:
    """Columns and rows of the finest level that hold a box; all, where it cannot be carried over."""
    left, bottom, right, top = bbox
    along = np.linspace(0, 1, _ALONG)
    xs, ys = (axis.ravel() for axis in np.meshgrid(left + (right - left) * along, top + (bottom - top) * along))
    found = _carried(xs, ys, crs, dataset.crs)
    if found is None:
        return 0.0, 0.0, float(dataset.width), float(dataset.height)
    (xs, ys), back = found, ~dataset.transform
    columns, rows = back.a * xs + back.b * ys + back.c, back.d * xs + back.e * ys + back.f
    return float(columns.min()), float(rows.min()), float(columns.max()), float(rows.max())


def _carried(xs: Any, ys: Any, crs: CRS, into: CRS) -> tuple[Any, Any] | None:
    """Points in another reference system; None when one of them has no place there."""
    if crs == into:
        return xs, ys
    try:
        xs, ys = (np.array(one) for one in transform_points(crs, into, xs, ys))
    except (CRSError, rasterio._err.CPLE_BaseError):
        return None
    return (xs, ys) if np.isfinite(xs).all() and np.isfinite(ys).all() else None


def _scale(dataset: DatasetReader, box: _Box, crs: CRS, width: int, height: int) -> float:
    """Pixels of the finest level that become one of `width` x `height` in a box, as GDAL reckons it: by diagonals of the whole."""
    along = np.linspace(0, 1, _ALONG)
    columns = np.concatenate([along, along, np.zeros(_ALONG), np.ones(_ALONG)]) * dataset.width
    rows = np.concatenate([np.zeros(_ALONG), np.ones(_ALONG), along, along]) * dataset.height
    there = dataset.transform
    xs, ys = there.a * columns + there.b * rows + there.c, there.d * columns + there.e * rows + there.f
    wanted = math.hypot(box[2] - box[0], box[3] - box[1]) / math.hypot(width, height)
    found = _carried(xs, ys, dataset.crs, crs)
    if found is None:
        window = _window_of(dataset, box, crs)
        return min((window[2] - window[0]) / width, (window[3] - window[1]) / height)
    native = math.hypot(np.ptp(found[0]), np.ptp(found[1])) / math.hypot(dataset.width, dataset.height)
    return wanted / native


def _native_size(dataset: DatasetReader, box: _Box, crs: CRS) -> tuple[int, int]:
    """Rows and columns of a part that is not made smaller."""
    if crs == dataset.crs:
        window = windows.from_bounds(*box, transform=dataset.transform)
        return max(1, round(window.height)), max(1, round(window.width))
    _, width, height = get_vrt_transform(dataset, box, dst_crs=crs)
    return height, width


def _sizes(native: tuple[int, int], options: dict[str, Any]) -> dict[str, int | None]:
    """Size of the answer, as rio-tiler reckons it where it has the whole file."""
    height, width = output_size(
        dataset_height=native[0],
        dataset_width=native[1],
        output_height=options.get("height"),
        output_width=options.get("width"),
        max_size=options.get("max_size"),
    )
    return {"height": max(1, height or native[0]), "width": max(1, width or native[1]), "max_size": None}


def _grown(window: _Window, by: float) -> _Window:
    return window[0] - by, window[1] - by, window[2] + by, window[3] + by


def _in_level(window: _Window, across: float, down: float, width: int, height: int) -> tuple[int, int, int, int] | None:
    """The window in pixels of a level, with a margin; None: nothing of it is there."""
    left, top = math.floor(window[0] * across) - _MARGIN, math.floor(window[1] * down) - _MARGIN
    right, bottom = math.ceil(window[2] * across) + _MARGIN, math.ceil(window[3] * down) + _MARGIN
    left, top, right, bottom = max(0, left), max(0, top), min(width, right), min(height, bottom)
    return (left, top, right, bottom) if left < right and top < bottom else None


def _level_for(structure: Structure, largest: float) -> int:
    """The coarsest level whose pixels are smaller than so many of the finest; the finest when there is none."""
    finest = structure.levels[0].image.layout
    fine = [
        number for number, level in enumerate(structure.levels) if finest.width / level.image.layout.width < largest
    ]
    return max(fine, default=0)
