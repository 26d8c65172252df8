"""A walk over a TIFF's header in pure Python, before GDAL sees the file.

Checks what costs GDAL time, memory or safety: directories without end, tags that point outside the file, metadata that makes
GDAL open other files, decompression bombs. Linear in the header's size; reads nothing outside the file.
Layout: TIFF 6.0 section 2, BigTIFF design (awaresystems.be).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from ingest.errors import UploadRejected

MAX_DIRECTORIES = 64
MAX_TAGS = 100
MAX_TAG_BYTES = 16 * 2**20
MAX_METADATA_BYTES = 2**20
MAX_METADATA_ITEMS = 2000
MAX_SIDE = 1_000_000
MAX_DECODED_BYTES = 64 * 2**30
MAX_BLOCK_BYTES = 64 * 2**20
#: A real all-nodata tile of 3600 x 3600 float32 packs 2,600-fold, so small images may pack as they like.
MAX_RATIO, RATIO_FROM_BYTES = 2000, 256 * 2**20
MAX_BANDS = 100

MAGICS = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True)}
TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
INTEGER_CODES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
#: none, LZW, JPEG, DEFLATE (two codes), PACKBITS, LERC, ZSTD, WEBP.
COMPRESSIONS = {1, 5, 7, 8, 32946, 32773, 34887, 50000, 50001}
WIDTH, HEIGHT, BITS, COMPRESSION, SAMPLES, SAMPLE_FORMAT = 256, 257, 258, 259, 277, 339
ROWS_PER_STRIP, TILE_WIDTH, TILE_HEIGHT, GDAL_METADATA, PLANAR = 278, 322, 323, 42112, 284
STRIP_COUNTS, TILE_COUNTS = 279, 325
COMPLEX_FORMATS = {5, 6}
#: Domains that GDAL acts on.
_OUTSIDE = re.compile(rb">\s*(?:/vsi|[a-zA-Z][a-zA-Z0-9+.-]{1,20}://|/|[a-zA-Z]:\\)")
_DOMAIN = re.compile(rb"domain\s*=\s*[\"']\s*OVERVIEWS", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Tag:
    """Where a tag's values are: type, count, offset in the file, bytes."""

    kind: int
    count: int
    offset: int
    size: int


@dataclass
class Summary:
    """What the header says of the first image."""

    width: int = 0
    height: int = 0
    bands: int = 1
    directories: int = 0
    warnings: list[str] = field(default_factory=list)


def corrupt(why: str) -> UploadRejected:
    """The refusal for a header that contradicts itself or the file."""
    return UploadRejected("CORRUPT", f"the file is damaged: {why}")


def walk(path: Path) -> Summary:
    """Check the header of a file.

    Raises:
        UploadRejected: EMPTY_FILE, NOT_A_TIFF, CORRUPT, TOO_COMPLEX, METADATA_TOO_LARGE, EXTERNAL_REFERENCE, TOO_LARGE_DECODED,
            TOO_MANY_BANDS, UNSUPPORTED_COMPRESSION, UNSUPPORTED_DTYPE.
    """
    size = path.stat().st_size
    if size == 0:
        raise UploadRejected("EMPTY_FILE", "the file is empty")
    with path.open("rb") as file:
        return _Walker(file, size).walk()


class _Walker:
    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        magic = file.read(4)
        if magic not in MAGICS:
            raise UploadRejected("NOT_A_TIFF", "the file is no TIFF: its first four bytes are others", status=415)
        self._order, self._big = MAGICS[magic]

    def walk(self) -> Summary:
        summary = Summary()
        seen: set[int] = set()
        total = 0
        offset = self._first_directory()
        while offset:
            if offset in seen:
                raise corrupt("its directories form a circle")
            seen.add(offset)
            if len(seen) > MAX_DIRECTORIES:
                raise UploadRejected("TOO_COMPLEX", f"more than {MAX_DIRECTORIES} directories", limit=MAX_DIRECTORIES)
            tags, offset = self._directory(offset)
            total += sum(tag.size for tag in tags.values())
            if total > MAX_TAG_BYTES:
                raise UploadRejected("TOO_COMPLEX", "the tags are larger than 16 MiB", limit=MAX_TAG_BYTES)
            self._check_image(tags, summary, is_first=len(seen) == 1)
            self._check_metadata(tags, summary)
        if not seen:
            raise corrupt("it has no directory")
        summary.directories = len(seen)
        return summary

    def _unpack(self, code: str, offset: int) -> tuple[int, ...]:
        width = struct.calcsize(self._order + code)
        if offset < 0 or offset + width > self._size:
            raise corrupt("it ends before its header does")
        self._file.seek(offset)
        data = self._file.read(width)
        if len(data) != width:
            raise corrupt("it ends before its header does")
        return struct.unpack(self._order + code, data)

    def _first_directory(self) -> int:
        if not self._big:
            return self._unpack("I", 4)[0]
        width, zero = self._unpack("HH", 4)
        if (width, zero) != (8, 0):
            raise corrupt("its BigTIFF header is wrong")
        return self._unpack("Q", 8)[0]

    def _directory(self, offset: int) -> tuple[dict[int, Tag], int]:
        """Tags of a directory and the offset of the next one."""
        count_code, entry_bytes, link = ("Q", 20, "Q") if self._big else ("H", 12, "I")
        (count,) = self._unpack(count_code, offset)
        if not 0 < count <= MAX_TAGS:
            raise UploadRejected("TOO_COMPLEX", f"a directory with {count} tags", limit=MAX_TAGS, actual=count)
        start = offset + struct.calcsize(self._order + count_code)
        tags = dict(self._tag(start + entry_bytes * number) for number in range(count))
        return tags, self._unpack(link, start + entry_bytes * count)[0]

    def _tag(self, offset: int) -> tuple[int, Tag]:
        inline = 8 if self._big else 4
        number, kind, count = self._unpack("HHQ" if self._big else "HHI", offset)
        if kind not in TYPE_BYTES:
            return number, Tag(0, 0, 0, 0)  # readers skip types that they do not know
        size = TYPE_BYTES[kind] * count
        place = offset + (12 if self._big else 8)
        if size > inline:
            (place,) = self._unpack("Q" if self._big else "I", place)
        if place + size > self._size:
            raise corrupt(f"tag {number} points outside the file")
        return number, Tag(kind, count, place, size)

    def _integers(self, tags: dict[int, Tag], number: int, default: int, limit: int = MAX_BANDS) -> list[int]:
        """Up to `limit` values of an integer tag."""
        tag = tags.get(number)
        if tag is None or not tag.count or tag.kind not in INTEGER_CODES:
            return [default]
        return list(self._unpack(f"{min(tag.count, limit)}{INTEGER_CODES[tag.kind]}", tag.offset))

    def _check_image(self, tags: dict[int, Tag], summary: Summary, *, is_first: bool) -> None:
        width, height = self._integers(tags, WIDTH, 0)[0], self._integers(tags, HEIGHT, 0)[0]
        bands = self._integers(tags, SAMPLES, 1)[0]
        if width == 0 or height == 0 or bands == 0:
            raise corrupt("an image without pixels or bands")
        if bands > MAX_BANDS:
            raise UploadRejected("TOO_MANY_BANDS", f"{bands} bands, at most {MAX_BANDS}", limit=MAX_BANDS, actual=bands)
        if max(width, height) > MAX_SIDE:
            raise UploadRejected(
                "TOO_LARGE_DECODED", f"{width} x {height} pixels", limit=MAX_SIDE, actual=max(width, height)
            )
        sample_bytes = self._sample_bytes(tags)
        self._check_sizes(tags, width, height, bands, sample_bytes)
        compression = self._integers(tags, COMPRESSION, 1)[0]
        if compression not in COMPRESSIONS:
            raise UploadRejected(
                "UNSUPPORTED_COMPRESSION", f"compression {compression} is not supported", actual=compression
            )
        if is_first:
            summary.width, summary.height, summary.bands = width, height, bands

    def _sample_bytes(self, tags: dict[int, Tag]) -> int:
        depths, formats = self._integers(tags, BITS, 1), self._integers(tags, SAMPLE_FORMAT, 1)
        if len(set(depths)) > 1 or max(depths) > 64 or min(depths) == 0:
            raise UploadRejected("UNSUPPORTED_DTYPE", "bands of different depth, or more than 64 bits a value")
        if set(formats) & COMPLEX_FORMATS:
            raise UploadRejected("UNSUPPORTED_DTYPE", "complex values are not supported")
        return max(1, (depths[0] + 7) // 8)

    def _check_sizes(self, tags: dict[int, Tag], width: int, height: int, bands: int, sample_bytes: int) -> None:
        decoded = width * height * bands * sample_bytes
        if decoded > MAX_DECODED_BYTES:
            raise UploadRejected(
                "TOO_LARGE_DECODED", f"{decoded} bytes of pixels", limit=MAX_DECODED_BYTES, actual=decoded
            )
        if decoded > max(RATIO_FROM_BYTES, MAX_RATIO * self._size):
            raise UploadRejected(
                "TOO_LARGE_DECODED",
                f"{decoded} bytes of pixels in a file of {self._size}",
                limit=MAX_RATIO,
                actual=decoded // self._size,
            )
        together = bands if self._integers(tags, PLANAR, 1)[0] == 1 else 1
        tile = self._integers(tags, TILE_WIDTH, 0)[0] * self._integers(tags, TILE_HEIGHT, 0)[0]
        strip = width * min(self._integers(tags, ROWS_PER_STRIP, height)[0], height)
        block = (tile or strip) * together * sample_bytes
        if block > MAX_BLOCK_BYTES:
            raise UploadRejected("TOO_LARGE_DECODED", f"blocks of {block} bytes", limit=MAX_BLOCK_BYTES, actual=block)

    def _check_metadata(self, tags: dict[int, Tag], summary: Summary) -> None:
        tag = tags.get(GDAL_METADATA)
        if tag is None:
            return
        if tag.size > MAX_METADATA_BYTES:
            raise UploadRejected(
                "METADATA_TOO_LARGE", f"{tag.size} bytes of metadata", limit=MAX_METADATA_BYTES, actual=tag.size
            )
        self._file.seek(tag.offset)
        text = self._file.read(tag.size)
        items = text.count(b"<Item")
        if items > MAX_METADATA_ITEMS:
            raise UploadRejected(
                "METADATA_TOO_LARGE", f"{items} metadata items", limit=MAX_METADATA_ITEMS, actual=items
            )
        for sample in _spellings(text):
            if _DOMAIN.search(sample) or _OUTSIDE.search(sample):
                raise UploadRejected("EXTERNAL_REFERENCE", "the metadata refer to another file")
        if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
            summary.warnings.append("METADATA_DROPPED")


def _spellings(text: bytes) -> Iterator[bytes]:
    """The metadata as written, and with XML's character references and CDATA resolved."""
    yield text
    plain = text.replace(b"<![CDATA[", b"").replace(b"]]>", b"")
    for name, sign in ((b"&sol;", b"/"), (b"&quot;", b'"'), (b"&apos;", b"'"), (b"&amp;", b"&")):
        plain = plain.replace(name, sign)
    yield re.sub(rb"&#(?:x([0-9a-fA-F]{1,6})|([0-9]{1,7}));", _resolved, plain)


def _resolved(match: re.Match[bytes]) -> bytes:
    number = int(match[1], 16) if match[1] else int(match[2])
    return bytes([number]) if number < 128 else b"?"
