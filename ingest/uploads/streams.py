"""Compressed blocks looked at byte by byte: what GDAL decodes without a complaint may be damaged all the same.

libtiff stops reading a DEFLATE stream when it has the pixels it wants, so it never compares the checksum at the end (tried: 64
flipped bytes go unnoticed). A block that is to be copied as it is must be one whole stream and nothing behind it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import batched
from pathlib import Path

from ingest.errors import UploadRejected
from ingest.uploads.tiff import COMPRESSION, TiffFile

DEFLATE = {8, 32946}
_BATCH, _MAX_TAGS = 64, 1000
#: Times its block that a stream is followed to its end.
MOST = 3


def are_whole(path: Path, bands: int) -> bool:
    """Look at the blocks of a TIFF's first image; True when they are not of DEFLATE, or as `check_deflate` says.

    Raises:
        UploadRejected: CORRUPT
    """
    with path.open("rb") as file:
        tiff = TiffFile(file, path.stat().st_size)
        tags, _ = tiff.directory(tiff.first_directory(), _MAX_TAGS)
        if tiff.integer(tags, COMPRESSION, 1) not in DEFLATE:
            return True
        layout = tiff.layout(tags, bands)
        blocks = tiff.blocks(tags, layout)
    return check_deflate(path, blocks, layout.block_bytes)


def check_deflate(path: Path, blocks: list[tuple[int, int]], block_bytes: int) -> bool:
    """Inflate each block; True when each is one whole stream of `block_bytes` and nothing else.

    Raises:
        UploadRejected: CORRUPT with the numbers of blocks whose checksum or coding is wrong, or that have no end; at most 20.
    """
    wrong: list[int] = []
    is_clean = True
    numbered = [(number, *block) for number, block in enumerate(blocks) if block[1]]
    with path.open("rb") as file, ThreadPoolExecutor(2) as threads:
        for batch in batched(numbered, _BATCH):
            packed = []
            for number, offset, count in batch:
                file.seek(offset)
                packed.append((number, file.read(count), block_bytes))
            for number, verdict in threads.map(_inflate, packed):
                if verdict is None:
                    wrong.append(number)
                is_clean = is_clean and bool(verdict)
            if len(wrong) >= 20:
                break
    if wrong:
        raise UploadRejected(
            "CORRUPT", f"block {wrong[0]} is damaged: its stream or checksum is wrong", blocks=wrong[:20]
        )
    return is_clean


def _inflate(work: tuple[int, bytes, int]) -> tuple[int, bool | None]:
    """Number of the block, and True: clean, False: something is over or missing, None: damaged."""
    number, packed, block_bytes = work
    stream = zlib.decompressobj()
    try:
        size = len(stream.decompress(packed, block_bytes + 1))
        while not stream.eof and stream.unconsumed_tail and size < MOST * block_bytes:  # to the checksum at its end
            size += len(stream.decompress(stream.unconsumed_tail, block_bytes))
    except zlib.error:
        return number, None
    if not stream.eof:
        return number, None if not stream.unconsumed_tail else False
    return number, size == block_bytes and not stream.unused_data


def do_not_overlap(blocks: Iterable[tuple[int, int]]) -> bool:
    """Blocks share no bytes: else a small file stands for many equal blocks, and copying unfolds it."""
    end = 0
    for offset, count in sorted(block for block in blocks if block[1]):
        if offset < end:
            return False
        end = offset + count
    return True
