"""A TIFF in memory with our own header and some blocks of another file: what GDAL gets to see of assets that lie elsewhere.

Its directories hold what is needed to decode and to place pixels, copied tag by tag; metadata, links to other files and directories, and
everything unknown stay behind, so a hostile header never reaches GDAL. Blocks that were not fetched are absent (offset and count 0), as
in any sparse GeoTIFF. Order of bytes as in the file, BigTIFF always (libtiff's specification).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from ingest.uploads.tiff import (
    STRIP_COUNTS,
    STRIP_OFFSETS,
    SUBFILE,
    TILE_COUNTS,
    TILE_OFFSETS,
    Layout,
    TiffFile,
)

#: Sizes, bits, coding, colours, nodata.
_PIXELS: Final = frozenset(
    {256, 257, 258, 259, 262, 266, 277, 278, 284, 317, 320, 322, 323, 338, 339, 347, 530, 532, 42113}
)
#: Coordinate reference system.
_CRS: Final = frozenset({34735, 34736, 34737})
SCALE, TIEPOINTS, MATRIX, GEO_KEYS, NODATA = 33550, 33922, 34264, 34735, 42113
_RASTER_TYPE: Final = 1025
_MASK, _REDUCED = 4, 1
_MOST_TIEPOINTS: Final = 10_000
_LONG, _LONG8, _DOUBLE, _SHORT = 4, 16, 12, 3

Raw = tuple[int, int, bytes]


@dataclass(frozen=True, slots=True)
class Image:
    """One directory of the file: its layout, where its blocks lie, and its tags (type, count, bytes)."""

    layout: Layout
    blocks: list[tuple[int, int]]
    tags: Mapping[int, Raw]
    is_mask: bool

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.layout.width, self.layout.height


@dataclass(frozen=True, slots=True)
class Level:
    """An image and its mask."""

    image: Image
    mask: Image | None

    def blocks_of(self, window: tuple[int, int, int, int]) -> list[tuple[Image, int]]:
        """Blocks that hold a window (first and last column and row, the last not in it), of all bands and of the mask."""
        found = []
        for image in (self.image, self.mask):
            if image is None:
                continue
            layout = image.layout
            left, top = window[0] // layout.block_width, window[1] // layout.block_height
            right, bottom = -(-window[2] // layout.block_width), -(-window[3] // layout.block_height)
            a_band = layout.blocks // (layout.bands if layout.is_separate else 1)
            for first in range(0, layout.blocks, a_band):
                for row in range(top, bottom):
                    found += [(image, first + row * layout.across + column) for column in range(left, right)]
        return found


@dataclass(frozen=True, slots=True)
class Structure:
    """What a file consists of: its levels, the finest first, and how it is placed."""

    order: str
    levels: tuple[Level, ...]
    place: Mapping[int, Raw]
    header_bytes: int = field(default=0, compare=False)


def structure_of(tiff: TiffFile, max_tags: int, max_bands: int) -> Structure:
    """Read the directories of a file that `ingest.uploads.tiff_header` has looked through.

    Raises:
        UploadRejected: CORRUPT.
    """
    images: list[Image] = []
    place: dict[int, Raw] = {}
    offset = tiff.first_directory()
    while offset:
        tags, offset = tiff.directory(offset, max_tags)
        layout = tiff.layout(tags, max_bands)
        raw = {
            number: (tag.kind, tag.count, tiff.raw(tag))
            for number, tag in tags.items()
            if number in _PIXELS and tag.kind
        }
        kind = tiff.integer(tags, SUBFILE, 0)
        if not images:
            kept = _CRS | {SCALE, TIEPOINTS, MATRIX}
            place = {
                number: (tag.kind, tag.count, tiff.raw(tag))
                for number, tag in tags.items()
                if number in kept and tag.kind
            }
        elif not kind & (_REDUCED | _MASK):
            continue  # another image of the file
        images.append(Image(layout, tiff.blocks(tags, layout), raw, bool(kind & _MASK)))
    masks = {image.size: image for image in images if image.is_mask}
    first = images[0]
    levels = [
        Level(one, masks.get(one.size)) for one in images if not one.is_mask and one.layout.bands == first.layout.bands
    ]
    levels.sort(key=lambda level: -level.image.layout.width)
    return Structure(tiff.order, tuple(levels), place)


def excerpt(structure: Structure, levels: Sequence[int], blocks: Mapping[tuple[int, bool, int], bytes]) -> bytes:
    """A TIFF of these levels; the first is the image, others its overviews.

    Args:
        blocks: bytes by level, whether of its mask, and number of the block; all others are absent.
    """
    writer = _Writer(structure.order)
    for place, number in enumerate(levels):
        level = structure.levels[number]
        geo = _placed(structure, level) if place == 0 else {}
        for image in (level.image, level.mask):
            if image is None:
                continue
            kind = (_REDUCED if place else 0) | (_MASK if image.is_mask else 0)
            own = {key[2]: data for key, data in blocks.items() if key[0] == number and key[1] == image.is_mask}
            tags = {
                **image.tags,
                **({} if image.is_mask else geo),
                SUBFILE: (_LONG, 1, struct.pack(structure.order + "I", kind)),
            }
            if not image.is_mask and NODATA not in tags and NODATA in structure.levels[0].image.tags:
                tags[NODATA] = structure.levels[0].image.tags[NODATA]
            writer.add(tags, image.layout, own)
    return writer.finished()


def _placed(structure: Structure, level: Level) -> dict[int, Raw]:
    """Tags that place a level: those of the finest, for pixels so much larger."""
    order, place = structure.order, dict(structure.place)
    finest, own = structure.levels[0].image.layout, level.image.layout
    across, down = finest.width / own.width, finest.height / own.height
    shift = 0.0
    if (keys := place.get(GEO_KEYS)) is not None and keys[0] == _SHORT:
        values = np.frombuffer(keys[2], f"{order}u2").copy()
        for at in range(4, len(values) - 3, 4):
            if values[at] == _RASTER_TYPE and values[at + 3] == 2 and values[at + 1] == 0:
                values[at + 3], shift = (
                    1,
                    0.5,
                )  # the tie is the middle of a pixel: of the finest level's, whichever is written
        place[GEO_KEYS] = (_SHORT, len(values), values.tobytes())
    if (matrix := _doubles(place, MATRIX, order, 16)) is not None:
        columns = matrix.reshape(4, 4)
        columns[:, 3] -= shift * (columns[:, 0] + columns[:, 1])
        columns[:, 0] *= across
        columns[:, 1] *= down
        place[MATRIX] = _raw(columns.ravel(), order)
    if (scale := _doubles(place, SCALE, order, 3)) is not None:
        place[SCALE] = _raw(scale * [across, down, 1], order)
    ties = _doubles(place, TIEPOINTS, order, None)
    if ties is not None and ties.size % 6 == 0 and ties.size <= 6 * _MOST_TIEPOINTS:
        rows = ties.reshape(-1, 6)
        rows[:, 0] = (rows[:, 0] + shift) / across
        rows[:, 1] = (rows[:, 1] + shift) / down
        place[TIEPOINTS] = _raw(rows.ravel(), order)
    else:
        place.pop(TIEPOINTS, None)
    return place


def _doubles(place: Mapping[int, Raw], name: int, order: str, count: int | None) -> np.ndarray | None:
    kind, number, data = place.get(name, (0, 0, b""))
    if kind != _DOUBLE or (count is not None and number != count):
        return None
    return np.frombuffer(data, f"{order}f8").astype("f8")


def _raw(values: np.ndarray, order: str) -> Raw:
    return _DOUBLE, values.size, values.astype(f"{order}f8").tobytes()


class _Writer:
    """Puts directories and their values one behind the other, then the blocks."""

    def __init__(self, order: str) -> None:
        self._order = order
        self._directories: list[tuple[dict[int, Raw], Layout, Mapping[int, bytes]]] = []

    def add(self, tags: dict[int, Raw], layout: Layout, blocks: Mapping[int, bytes]) -> None:
        self._directories.append((tags, layout, blocks))

    def finished(self) -> bytes:
        sizes = [self._size(tags, layout) for tags, layout, _ in self._directories]
        starts = np.cumsum([16, *sizes]).tolist()
        at_block = starts[-1]
        pieces: list[bytes] = [b"II" if self._order == "<" else b"MM", self._pack("HHHQ", 43, 8, 0, 16)]
        bodies: list[bytes] = []
        for number, (tags, layout, blocks) in enumerate(self._directories):
            offsets, counts = np.zeros(layout.blocks, "u8"), np.zeros(layout.blocks, "u8")
            for place, data in sorted(blocks.items()):
                offsets[place], counts[place] = at_block, len(data)
                bodies.append(data)
                at_block += len(data)
            names = (TILE_OFFSETS, TILE_COUNTS) if layout.is_tiled else (STRIP_OFFSETS, STRIP_COUNTS)
            arrays = {
                name: (_LONG8, layout.blocks, values.astype(f"{self._order}u8").tobytes())
                for name, values in zip(names, (offsets, counts), strict=True)
            }
            following = starts[number + 1] if number + 1 < len(self._directories) else 0
            pieces.append(self._directory({**tags, **arrays}, starts[number], following))
        return b"".join(pieces + bodies)

    def _size(self, tags: dict[int, Raw], layout: Layout) -> int:
        values = sum(_even(len(data)) for _, _, data in tags.values() if len(data) > 8)
        arrays = 2 * layout.blocks * 8 if layout.blocks > 1 else 0
        return 8 + 20 * (len(tags) + 2) + 8 + values + arrays

    def _directory(self, tags: dict[int, Raw], start: int, following: int) -> bytes:
        at = start + 8 + 20 * len(tags) + 8
        entries, values = [self._pack("Q", len(tags))], []
        for number, (kind, count, data) in sorted(tags.items()):
            if len(data) <= 8:
                entries.append(self._pack("HHQ", number, kind, count) + data.ljust(8, b"\0"))
                continue
            entries.append(self._pack("HHQQ", number, kind, count, at))
            values.append(data.ljust(_even(len(data)), b"\0"))
            at += _even(len(data))
        return b"".join([*entries, self._pack("Q", following), *values])

    def _pack(self, code: str, *values: int) -> bytes:
        return struct.pack(self._order + code, *values)


def _even(size: int) -> int:
    return size + size % 2
