"""The structure of TIFF and BigTIFF files, read in pure Python: directories, tags, where the blocks lie.

Reads nothing outside the file, in time linear in what it is asked for. What is allowed is decided in `tiff_header`.
Layout: TIFF 6.0 section 2, BigTIFF design (awaresystems.be).
"""

from __future__ import annotations

import math
import struct
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ingest.errors import UploadRejected

MAGICS = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True)}
TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
#: Signed ones too: libtiff takes them for counts and sizes.
INTEGER_CODES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}

SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP, STRIP_COUNTS, PLANAR, PREDICTOR = 273, 277, 278, 279, 284, 317
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS, SUB_DIRECTORIES = 322, 323, 324, 325, 330
SAMPLE_FORMAT, JPEG_TABLES = 339, 347
GDAL_METADATA, GDAL_NODATA = 42112, 42113
#: Directories of other kinds that readers follow: Exif, GPS, interoperability.
OTHER_DIRECTORIES = (34665, 34853, 40965)


def corrupt(why: str) -> UploadRejected:
    """The refusal for a file that contradicts itself."""
    return UploadRejected("CORRUPT", f"the file is damaged: {why}")


@dataclass(frozen=True, slots=True)
class Tag:
    """Where a tag's values are: type (0: unknown), count, offset in the file, bytes."""

    kind: int
    count: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Layout:
    """How an image lies in the file: its size, bands, bytes a sample, blocks (tiles or strips) and how many there are."""

    width: int
    height: int
    bands: int
    sample_bytes: int
    block_width: int
    block_height: int
    is_tiled: bool
    is_separate: bool

    @property
    def across(self) -> int:
        """Blocks in a row."""
        return math.ceil(self.width / self.block_width)

    @property
    def blocks(self) -> int:
        """Blocks of all bands."""
        return self.across * math.ceil(self.height / self.block_height) * (self.bands if self.is_separate else 1)

    @property
    def block_bytes(self) -> int:
        """Bytes of one block, decoded."""
        together = 1 if self.is_separate else self.bands
        return self.block_width * self.block_height * together * self.sample_bytes

    @property
    def decoded_bytes(self) -> int:
        """Bytes of all pixels, decoded."""
        return self.width * self.height * self.bands * self.sample_bytes


class TiffFile:
    """A TIFF's structure.

    Raises:
        UploadRejected: NOT_A_TIFF, CORRUPT; of every method too.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self.size = file, size
        file.seek(0)
        magic = file.read(4)
        if magic not in MAGICS:
            raise UploadRejected("NOT_A_TIFF", "the file is no TIFF: its first four bytes are others", status=415)
        self.order, self.is_big = MAGICS[magic]

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of the file."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise corrupt("it ends before its header does")
        self._file.seek(offset)
        data = self._file.read(size)
        if len(data) != size:
            raise corrupt("it ends before its header does")
        return data

    def _unpack(self, code: str, offset: int) -> tuple[int, ...]:
        return struct.unpack(self.order + code, self.read(offset, struct.calcsize(self.order + code)))

    def first_directory(self) -> int:
        """Offset of the first directory."""
        if not self.is_big:
            return self._unpack("I", 4)[0]
        if self._unpack("HH", 4) != (8, 0):
            raise corrupt("its BigTIFF header is wrong")
        return self._unpack("Q", 8)[0]

    def directory(self, offset: int, max_tags: int) -> tuple[dict[int, Tag], int]:
        """Tags of a directory and the offset of the next one (0: none).

        Raises:
            UploadRejected: TOO_COMPLEX for more tags, CORRUPT for none, for a tag given twice (readers differ in which they take)
                and for one that points outside the file.
        """
        count_code, entry_bytes, link = ("Q", 20, "Q") if self.is_big else ("H", 12, "I")
        (count,) = self._unpack(count_code, offset)
        if count == 0:
            raise corrupt("a directory without tags")
        if count > max_tags:
            raise UploadRejected("TOO_COMPLEX", f"a directory with {count} tags", limit=max_tags, actual=count)
        start = offset + struct.calcsize(self.order + count_code)
        tags: dict[int, Tag] = {}
        for number in range(count):
            name, tag = self._tag(start + entry_bytes * number)
            if name in tags:
                raise corrupt(f"tag {name} is given twice")
            tags[name] = tag
        return tags, self._unpack(link, start + entry_bytes * count)[0]

    def _tag(self, offset: int) -> tuple[int, Tag]:
        inline = 8 if self.is_big else 4
        number, kind, count = self._unpack("HHQ" if self.is_big else "HHI", offset)
        if kind not in TYPE_BYTES:
            return number, Tag(0, 0, 0, 0)  # readers skip types that they do not know
        size = TYPE_BYTES[kind] * count
        place = offset + (12 if self.is_big else 8)
        if size > inline:
            (place,) = self._unpack("Q" if self.is_big else "I", place)
        if place + size > self.size:
            raise corrupt(f"tag {number} points outside the file")
        return number, Tag(kind, count, place, size)

    def integers(self, tag: Tag | None, limit: int) -> Iterator[int]:
        """Up to `limit` values of an integer tag; nothing for another type."""
        if tag is None or tag.kind not in INTEGER_CODES:
            return iter(())
        code = INTEGER_CODES[tag.kind]
        values = array(code, self.read(tag.offset, min(tag.count, limit) * TYPE_BYTES[tag.kind]))
        if (self.order == "<") != (sys.byteorder == "little"):
            values.byteswap()
        return iter(values)

    def integer(self, tags: dict[int, Tag], name: int, default: int) -> int:
        """The first value of an integer tag."""
        return next(self.integers(tags.get(name), 1), default)

    def raw(self, tag: Tag) -> bytes:
        """A tag's bytes."""
        return self.read(tag.offset, tag.size)

    def depths(self, tags: dict[int, Tag], limit: int) -> list[int]:
        """Bits of each sample."""
        return list(self.integers(tags.get(BITS), limit)) or [1]

    def layout(self, tags: dict[int, Tag], limit: int) -> Layout:
        """How the image of a directory lies in the file.

        Raises:
            UploadRejected: CORRUPT for an image without pixels, bands or blocks.
        """
        width, height, bands = (
            self.integer(tags, name, default) for name, default in ((WIDTH, 0), (HEIGHT, 0), (SAMPLES, 1))
        )
        if width <= 0 or height <= 0 or bands <= 0:
            raise corrupt("an image without pixels or bands")
        is_tiled = TILE_WIDTH in tags or TILE_HEIGHT in tags
        if is_tiled:
            block = self.integer(tags, TILE_WIDTH, 0), self.integer(tags, TILE_HEIGHT, 0)
        else:
            rows = self.integer(tags, ROWS_PER_STRIP, height)
            block = width, min(rows, height) if rows > 0 else height
        if min(block) <= 0:
            raise corrupt("an image without blocks")
        sample_bytes = max(1, math.ceil(max(self.depths(tags, limit)) / 8))
        is_separate = bands > 1 and self.integer(tags, PLANAR, 1) == 2
        return Layout(width, height, bands, sample_bytes, *block, is_tiled, is_separate)

    def blocks(self, tags: dict[int, Tag], layout: Layout) -> list[tuple[int, int]]:
        """Offset and bytes of each block, as many as the image needs; (0, 0) is a block that is not there (all nodata).

        Raises:
            UploadRejected: CORRUPT when there are fewer, or one lies outside the file.
        """
        names = (TILE_OFFSETS, TILE_COUNTS) if layout.is_tiled else (STRIP_OFFSETS, STRIP_COUNTS)
        offsets, counts = (list(self.integers(tags.get(name), layout.blocks)) for name in names)
        if len(offsets) < layout.blocks or (counts and len(counts) < layout.blocks):
            raise corrupt(f"it has {min(len(offsets), len(counts))} of {layout.blocks} blocks")
        if not counts:  # allowed when nothing is compressed; GDAL then reckons them
            counts = [min(layout.block_bytes, max(0, self.size - offset)) for offset in offsets]
        for number, (offset, count) in enumerate(zip(offsets, counts, strict=True)):
            if offset < 0 or count < 0 or offset + count > self.size:
                raise UploadRejected("CORRUPT", f"block {number} lies outside the file", block=number)
        return list(zip(offsets, counts, strict=True))
