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

DEFLATE = {8, 32946}
_BATCH = 64


def check_deflate(path: Path, blocks: list[tuple[int, int]], block_bytes: int) -> bool:
    """Inflate each block; True when each is one whole stream of `block_bytes` and nothing else.

    Raises:
        UploadRejected: CORRUPT with the numbers of blocks whose checksum or coding is wrong, at most 20.
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
        raise UploadRejected("CORRUPT", f"block {wrong[0]} is damaged: its checksum is wrong", blocks=wrong[:20])
    return is_clean


def _inflate(work: tuple[int, bytes, int]) -> tuple[int, bool | None]:
    """Number of the block, and True: clean, False: something is over or missing, None: damaged."""
    number, packed, block_bytes = work
    stream = zlib.decompressobj()
    try:
        pixels = stream.decompress(packed, block_bytes + 1)
        rest = stream.decompress(stream.unconsumed_tail, 1) if not stream.eof and len(pixels) <= block_bytes else b""
    except zlib.error:
        return number, None
    if len(pixels) > block_bytes:
        return number, False
    return number, stream.eof and not stream.unused_data and not rest and len(pixels) == block_bytes


def do_not_overlap(blocks: Iterable[tuple[int, int]]) -> bool:
    """Blocks share no bytes: else a small file stands for many equal blocks, and copying unfolds it."""
    end = 0
    for offset, count in sorted(block for block in blocks if block[1]):
        if offset < end:
            return False
        end = offset + count
    return True
