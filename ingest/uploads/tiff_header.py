"""The rules for a TIFF's header, in pure Python, before GDAL sees the file.

Refuses what costs GDAL time, memory or safety: directories without end, tags that point outside the file, metadata that make
GDAL open other files, decompression bombs. Linear in the header's size.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from ingest.errors import UploadRejected
from ingest.uploads import gdal_metadata
from ingest.uploads.raster_settings import DEFAULTS, RasterSettings
from ingest.uploads.tiff import (
    COMPRESSION,
    GDAL_METADATA,
    OTHER_DIRECTORIES,
    SAMPLE_FORMAT,
    SUB_DIRECTORIES,
    SUBFILE,
    Layout,
    Tag,
    TiffFile,
    corrupt,
)

#: none, LZW, JPEG, DEFLATE (two codes), PACKBITS, LERC, ZSTD, WEBP.
COMPRESSIONS = {1, 5, 7, 8, 32946, 32773, 34887, 50000, 50001}
UNSIGNED, FLOAT, COMPLEX = 1, 3, {5, 6}
REDUCED, MASK = 1, 4


@dataclass
class Summary:
    """What the header says of the first image."""

    width: int = 0
    height: int = 0
    bands: int = 1
    directories: int = 0
    decoded_bytes: int = 0
    warnings: list[str] = field(default_factory=list)

    def warn(self, *codes: str) -> None:
        """Note each warning once."""
        self.warnings.extend(code for code in codes if code not in self.warnings)


def walk(path: Path, limits: RasterSettings = DEFAULTS) -> Summary:
    """Check the header of a file.

    Raises:
        UploadRejected: EMPTY_FILE, NOT_A_TIFF, CORRUPT, TOO_COMPLEX, METADATA_TOO_LARGE, EXTERNAL_REFERENCE, TOO_LARGE_DECODED,
            TOO_MANY_BANDS, UNSUPPORTED_COMPRESSION, UNSUPPORTED_DTYPE.
    """
    size = path.stat().st_size
    if size == 0:
        raise UploadRejected("EMPTY_FILE", "the file is empty")
    with path.open("rb") as file:
        return walk_file(file, size, limits)


def walk_file(file: BinaryIO, size: int, limits: RasterSettings = DEFAULTS) -> Summary:
    """The same of an open file of so many bytes, which need not be here: `read` after `seek` is all that is asked of it."""
    return _Walker(TiffFile(file, size), limits).walk()


class _Walker:
    """One walk over all directories: the chain from the first, and those that tags lead to."""

    def __init__(self, tiff: TiffFile, limits: RasterSettings) -> None:
        self._tiff, self._limits = tiff, limits
        self._summary = Summary()
        self._seen: set[int] = set()
        self._tag_bytes = 0

    def walk(self) -> Summary:
        images: list[dict[int, Tag]] = []
        offset = self._tiff.first_directory()
        while offset:
            tags, offset = self._enter(offset)
            images.append(tags)
            for name in (SUB_DIRECTORIES, *OTHER_DIRECTORIES):
                for inner in self._tiff.integers(tags.get(name), self._limits.raster_max_directories + 1):
                    below, _ = self._enter(inner)
                    if name == SUB_DIRECTORIES:
                        images.append(below)
        if not images:
            raise corrupt("it has no directory")
        for number, tags in enumerate(images):
            self._check_image(tags, is_first=number == 0)
        self._summary.directories = len(self._seen)
        return self._summary

    def _enter(self, offset: int) -> tuple[dict[int, Tag], int]:
        """Read one more directory; its metadata are looked at, its image not yet."""
        limits = self._limits
        if offset in self._seen:
            raise corrupt("its directories form a circle")
        self._seen.add(offset)
        if len(self._seen) > limits.raster_max_directories:
            most = limits.raster_max_directories
            raise UploadRejected("TOO_COMPLEX", f"more than {most} directories", limit=most)
        tags, following = self._tiff.directory(offset, limits.raster_max_tags)
        if (metadata := tags.get(GDAL_METADATA)) is not None:
            if metadata.size > limits.raster_max_metadata_bytes:
                raise UploadRejected(
                    "METADATA_TOO_LARGE",
                    f"{metadata.size} bytes of metadata",
                    limit=limits.raster_max_metadata_bytes,
                    actual=metadata.size,
                )
            self._summary.warn(*gdal_metadata.check(self._tiff.raw(metadata), limits))
        self._tag_bytes += sum(tag.size for tag in tags.values())
        if self._tag_bytes > limits.raster_max_tag_bytes:
            most = limits.raster_max_tag_bytes
            raise UploadRejected("TOO_COMPLEX", f"the tags are larger than {most} bytes", limit=most)
        return tags, following

    def _check_image(self, tags: dict[int, Tag], *, is_first: bool) -> None:
        layout = self._tiff.layout(tags, self._limits.raster_max_bands)
        self._check_sizes(layout)
        if layout.bands > self._limits.raster_max_bands:
            most = self._limits.raster_max_bands
            raise UploadRejected(
                "TOO_MANY_BANDS", f"{layout.bands} bands, at most {most}", limit=most, actual=layout.bands
            )
        compression = self._tiff.integer(tags, COMPRESSION, 1)
        if compression not in COMPRESSIONS:
            raise UploadRejected(
                "UNSUPPORTED_COMPRESSION", f"compression {compression} is not supported", actual=compression
            )
        self._check_type(tags)
        self._tiff.blocks(tags, layout)
        if is_first:
            summary = self._summary
            summary.width, summary.height, summary.bands = layout.width, layout.height, layout.bands
            summary.decoded_bytes = layout.decoded_bytes
            return
        kind = self._tiff.integer(tags, SUBFILE, 0)
        if not kind & MASK:
            self._summary.warn("OVERVIEWS_REBUILT" if kind & REDUCED else "OTHER_IMAGES_IGNORED")

    def _check_type(self, tags: dict[int, Tag]) -> None:
        depths = self._tiff.depths(tags, self._limits.raster_max_bands)
        formats = list(self._tiff.integers(tags.get(SAMPLE_FORMAT), self._limits.raster_max_bands)) or [UNSIGNED]
        if len(set(depths)) > 1 or len(set(formats)) > 1:
            raise UploadRejected("UNSUPPORTED_DTYPE", "bands of different types")
        if set(formats) & COMPLEX:
            raise UploadRejected("UNSUPPORTED_DTYPE", "complex values are not supported")
        depth = depths[0]
        known = depth in (16, 24, 32, 64) if formats[0] == FLOAT else 1 <= depth <= 32 or depth == 64
        if not known:
            raise UploadRejected("UNSUPPORTED_DTYPE", f"values of {depth} bits are not supported", actual=depth)

    def _check_sizes(self, layout: Layout) -> None:
        limits, decoded, side = self._limits, layout.decoded_bytes, max(layout.width, layout.height)
        if side > limits.raster_max_side:
            raise _too_large(f"{layout.width} x {layout.height} pixels", limits.raster_max_side, side)
        if decoded > limits.raster_max_decoded_bytes:
            raise _too_large(f"{decoded} bytes of pixels", limits.raster_max_decoded_bytes, decoded)
        stored = self._tiff.size
        if decoded > max(limits.raster_ratio_from_bytes, limits.raster_max_ratio * stored):
            what = f"{decoded} bytes of pixels in a file of {stored}"
            raise _too_large(what, limits.raster_max_ratio, decoded // stored)
        if layout.block_bytes > limits.raster_max_block_bytes:
            raise _too_large(f"blocks of {layout.block_bytes} bytes", limits.raster_max_block_bytes, layout.block_bytes)


def _too_large(what: str, limit: int, actual: int) -> UploadRejected:
    return UploadRejected("TOO_LARGE_DECODED", what, limit=limit, actual=actual)
