"""Headers of files elsewhere: read once in few ranges, looked through as uploads' are, and kept."""

from __future__ import annotations

import io
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import BinaryIO, Final, cast

from api.tiles.excerpt import Structure, structure_of
from api.tiles.remote_fetch import Fetcher
from api.tiles.remote_level import Known
from ingest.errors import UploadRejected
from ingest.uploads.raster_settings import DEFAULTS
from ingest.uploads.tiff import TiffFile
from ingest.uploads.tiff_header import walk_file

#: The first range; headers of COGs of 10980 x 10980 pixels take 5 to 30 KiB.
_FIRST: Final = 64 * 1024
_CHUNK: Final = 32 * 1024
#: Bytes of a header, wherever in the file its pieces are.
_MOST: Final = 24 * 2**20
_MOST_KEPT: Final = 64 * 2**20
#: Bytes of tags that are kept with a header and copied for each tile; those of COGs take some hundreds.
_MOST_TAGS: Final = 2**20
#: Seconds after which a kept header is read again, and tiles made anew: files are replaced under their names, if rarely.
FRESH_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of a file: its structure, its version as the host tells it, when it was read."""

    structure: Structure
    tag: bytes
    read_at: float
    kept_bytes: int
    _known: list[Known] = field(default_factory=list, compare=False)

    def known(self) -> Known:
        """What is learned of it when it is first read."""
        if not self._known:
            self._known.append(Known(self.structure))
        return self._known[0]


class _RangeFile(io.RawIOBase):
    """The part of a file that its header needs, as `TiffFile` reads it."""

    def __init__(self, fetcher: Fetcher, url: str, deadline: float) -> None:
        super().__init__()
        self._fetcher, self._url, self._deadline = fetcher, url, deadline
        self._at = 0
        first = fetcher.range(url, 0, _FIRST, b"", deadline)
        self.file_size, self.tag = first.size, first.tag
        self._pieces: list[tuple[int, bytes]] = [(0, first.data)]
        self._fetched = len(first.data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        assert whence == io.SEEK_SET
        self._at = offset
        return offset

    def read(self, size: int = -1) -> bytes:
        first, last = self._at, min(self._at + size, self.file_size)
        if first >= last:
            return b""
        for start, data in self._pieces:
            if start <= first and last <= start + len(data):
                return data[first - start : last - start]
        start = first - first % _CHUNK
        count = min(max(last - start, _CHUNK), self.file_size - start)
        self._fetched += count
        if self._fetched > _MOST:
            raise UploadRejected("TOO_COMPLEX", "its header is too large", limit=_MOST)
        data = self._fetcher.range(self._url, start, count, self.tag, self._deadline).data
        self._pieces.append((start, data))
        return data[first - start : last - start]


class Headers:
    """Kept headers, by href; bounded in bytes. Used by many threads; two that ask for the same one at once wait for one reading."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher
        self._kept: OrderedDict[str, Header] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._reading: dict[str, threading.Lock] = {}

    def get(self, href: str, url: str, deadline: float) -> Header:
        """The header of a file.

        Raises:
            FetchFailed, HostRefused, UploadRejected
        """
        if (found := self._known(href)) is not None:
            return found
        with self._lock:
            reading = self._reading.setdefault(href, threading.Lock())
        try:
            with reading:
                return self._known(href) or self._read(href, url, deadline)
        finally:
            with self._lock:
                self._reading.pop(href, None)

    def forget(self, href: str) -> None:
        """The file is another one by now."""
        with self._lock:
            if (found := self._kept.pop(href, None)) is not None:
                self._bytes -= found.kept_bytes

    def _known(self, href: str) -> Header | None:
        with self._lock:
            found = self._kept.get(href)
            if found is None or time.monotonic() - found.read_at > FRESH_S:
                return None
            self._kept.move_to_end(href)
            return found

    def _read(self, href: str, url: str, deadline: float) -> Header:
        file = _RangeFile(self._fetcher, url, deadline)
        if file.file_size == 0:
            raise UploadRejected("EMPTY_FILE", "the file is empty")
        pieces = cast(BinaryIO, file)
        walk_file(pieces, file.file_size)
        tiff = TiffFile(pieces, file.file_size)
        structure = structure_of(tiff, DEFAULTS.raster_max_tags, DEFAULTS.raster_max_bands)
        blocks = sum(level.image.layout.blocks for level in structure.levels)
        tags = _tag_bytes(structure)
        if tags > _MOST_TAGS:
            raise UploadRejected("TOO_COMPLEX", f"the tags are larger than {_MOST_TAGS} bytes", limit=_MOST_TAGS)
        header = Header(structure, file.tag, time.monotonic(), 10_000 + 200 * blocks + tags)
        self.forget(href)
        with self._lock:
            self._kept[href] = header
            self._bytes += header.kept_bytes
            while self._bytes > _MOST_KEPT and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].kept_bytes
        return header


def _tag_bytes(structure: Structure) -> int:
    """Bytes of the tags that place a file and of those of its images and masks."""
    images = [image for level in structure.levels for image in (level.image, level.mask) if image is not None]
    every = [structure.place, *(image.tags for image in images)]
    return sum(len(data) for tags in every for _, _, data in tags.values())
