"""Puts a Cloud Optimized GeoTIFF together from directories of other TIFFs: own header, blocks copied as they are.

Order in the file (COG, OGC 21-026): header, all directories with their values, then the blocks, smallest overview first. Little-endian;
classic below 4 GB, else BigTIFF. Pure Python: pixels are never decoded here.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ingest.uploads.tiff import (
    GDAL_METADATA,
    STRIP_COUNTS,
    STRIP_OFFSETS,
    SUBFILE,
    TILE_COUNTS,
    TILE_OFFSETS,
    Tag,
    TiffFile,
)

#: Everything else is left behind: what GDAL needs for pixels, colours, place, nodata, and our own metadata.
KEPT = {256, 257, 258, 259, 262, 277, 284, 317, 320, 322, 323, 338, 339, 347, 530, 532, 278,
        33550, 33922, 34264, 34735, 34736, 34737, 42112, 42113}  # fmt: skip
#: An overview has no place and no metadata of its own.
_PLACE = {33550, 33922, 34264, 34735, 34736, 34737, GDAL_METADATA}
_LONG, _LONG8 = 4, 16
_CLASSIC_LIMIT = 4 * 10**9
_MAX = 2**31


@dataclass(frozen=True, slots=True)
class Image:
    """One directory to be written: tag -> (type, count, little-endian bytes), and where its blocks lie now."""

    tags: dict[int, tuple[int, int, bytes]]
    path: Path
    blocks: list[tuple[int, int]]
    is_tiled: bool

    @property
    def stored_bytes(self) -> int:
        """Bytes of its blocks."""
        return sum(count for _, count in self.blocks)

    @property
    def width(self) -> int:
        """Pixels across."""
        return int.from_bytes(self.tags[256][2], "little")

    @property
    def is_mask(self) -> bool:
        """It masks the image before it."""
        return SUBFILE in self.tags and bool(int.from_bytes(self.tags[SUBFILE][2], "little") & 4)

    def as_overview(self) -> Image:
        """The same image as an overview of a larger one."""
        kind = 5 if self.is_mask else 1
        tags = {number: tag for number, tag in self.tags.items() if number not in _PLACE}
        return Image({**tags, SUBFILE: (_LONG, 1, struct.pack("<I", kind))}, self.path, self.blocks, self.is_tiled)

    def with_blocks_of(
        self, path: Path, blocks: list[tuple[int, int]], *extra: tuple[int, tuple[int, int, bytes]]
    ) -> Image:
        """The same directory over another file's blocks."""
        return Image({**self.tags, **dict(extra)}, path, blocks, self.is_tiled)


def images_of(path: Path) -> list[Image]:
    """The images of a little-endian TIFF, in the order of its directories."""
    with path.open("rb") as file:
        tiff = TiffFile(file, path.stat().st_size)
        assert tiff.order == "<", "only little-endian files are put together"
        found: list[Image] = []
        offset = tiff.first_directory()
        while offset:
            tags, offset = tiff.directory(offset, _MAX)
            layout = tiff.layout(tags, 1)
            values = {number: value_of(tiff, tag) for number, tag in tags.items() if number in KEPT | {SUBFILE}}
            found.append(Image(values, path, tiff.blocks(tags, layout), layout.is_tiled))
    return found


def value_of(tiff: TiffFile, tag: Tag) -> tuple[int, int, bytes]:
    """A tag as (type, count, bytes)."""
    return tag.kind, tag.count, tiff.raw(tag)


def write(images: Sequence[Image], target: Path) -> None:
    """Write a COG of `images`: full size first, each mask behind its image, then overviews from large to small."""
    big = sum(image.stored_bytes for image in images) + sum(40 * len(image.blocks) for image in images) > _CLASSIC_LIMIT
    start = _header_bytes(images, big)
    places, end = _places(images, start)
    with target.open("xb") as out:
        out.write(_header(images, places, big))
        assert out.tell() == start
        for number in _data_order(images):
            _copy_blocks(images[number], out)
        assert out.tell() == end


def _data_order(images: Sequence[Image]) -> list[int]:
    """Smallest first; a mask behind its image."""
    return sorted(range(len(images)), key=lambda number: (images[number].width, images[number].is_mask))


def _places(images: Sequence[Image], start: int) -> tuple[list[list[int]], int]:
    """New offset of each block of each image (0: not there), and where the file ends."""
    places: list[list[int]] = [[] for _ in images]
    for number in _data_order(images):
        for _, count in images[number].blocks:
            places[number].append(start if count else 0)
            start += count
    return places, start


def _entries(image: Image, places: list[int], big: bool) -> list[tuple[int, int, int, bytes]]:
    """(tag, type, count, bytes), sorted by tag."""
    offset_type, offset_code = (_LONG8, "Q") if big else (_LONG, "I")
    offsets, counts = (TILE_OFFSETS, TILE_COUNTS) if image.is_tiled else (STRIP_OFFSETS, STRIP_COUNTS)
    number = len(image.blocks)
    sizes = [count for _, count in image.blocks]
    entries = [(name, *value) for name, value in image.tags.items()]
    entries.append((offsets, offset_type, number, struct.pack(f"<{number}{offset_code}", *places)))
    entries.append((counts, _LONG, number, struct.pack(f"<{number}I", *sizes)))
    return sorted(entries)


def _directory_bytes(entries: Sequence[tuple[int, int, int, bytes]], big: bool) -> int:
    inline = 8 if big else 4
    fixed = 8 + 20 * len(entries) + 8 if big else 2 + 12 * len(entries) + 4
    return _even(fixed) + sum(_even(len(value)) for *_, value in entries if len(value) > inline)


def _even(size: int) -> int:
    return (size + 7) // 8 * 8


def _header_bytes(images: Sequence[Image], big: bool) -> int:
    return 16 + sum(_directory_bytes(_entries(image, [0] * len(image.blocks), big), big) for image in images)


def _header(images: Sequence[Image], places: list[list[int]], big: bool) -> bytes:
    first = 16
    head = struct.pack("<2sHHHQ", b"II", 43, 8, 0, first) if big else struct.pack("<2sHIQ", b"II", 42, first, 0)
    out = bytearray(head)
    for number, image in enumerate(images):
        entries = _entries(image, places[number], big)
        following = len(out) + _directory_bytes(entries, big)
        out += _directory(entries, len(out), following if number + 1 < len(images) else 0, big)
    return bytes(out)


def _directory(entries: Sequence[tuple[int, int, int, bytes]], start: int, following: int, big: bool) -> bytes:
    inline = 8 if big else 4
    fixed = _even(8 + 20 * len(entries) + 8 if big else 2 + 12 * len(entries) + 4)
    directory = bytearray(struct.pack("<Q" if big else "<H", len(entries)))
    values = bytearray()
    for name, kind, count, value in entries:
        directory += struct.pack("<HHQ" if big else "<HHI", name, kind, count)
        if len(value) <= inline:
            directory += value.ljust(inline, b"\0")
        else:
            directory += struct.pack("<Q" if big else "<I", start + fixed + len(values))
            values += value.ljust(_even(len(value)), b"\0")
    directory += struct.pack("<Q" if big else "<I", following)
    return bytes(directory.ljust(fixed, b"\0") + values)


def _copy_blocks(image: Image, out: BinaryIO) -> None:
    with image.path.open("rb") as source:
        for offset, count in image.blocks:
            if count:
                source.seek(offset)
                data = source.read(count)
                assert len(data) == count
                out.write(data)
