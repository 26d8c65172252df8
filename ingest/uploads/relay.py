"""Whether the blocks of a user's GeoTIFF may be copied into our COG as they are. Child process only.

Safe to copy (docs/adr/0032): tiles of DEFLATE, ZSTD, LZW or JPEG that GDAL decoded from end to end, in our byte order, each its own bytes
of the file and whole. Everything else is written anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rasterio.enums import ColorInterp

from ingest.uploads import cog, cog_layout, streams
from ingest.uploads.tiff import (
    BITS,
    COMPRESSION,
    JPEG_TABLES,
    PHOTOMETRIC,
    PLANAR,
    PREDICTOR,
    SAMPLE_FORMAT,
    Tag,
    TiffFile,
)

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

NAMES = {5: "LZW", 7: "JPEG", 8: "DEFLATE", 32946: "DEFLATE", 50000: "ZSTD"}
SIDES = range(256, 1025, 16)
FILL_ORDER, SUBSAMPLING, REFERENCE_BLACK_WHITE = 266, 530, 532
GRAY, RGB, PALETTE, YCBCR = 1, 2, 3, 6
JPEG = 7
#: What a decoder goes by: the same in our header as in the user's, or the blocks mean something else.
_DECIDING = (BITS, SAMPLE_FORMAT, PLANAR, PREDICTOR, PHOTOMETRIC)


@dataclass(frozen=True, slots=True)
class Blocks:
    """Blocks that may be copied, and what our header over them must say.

    `options` makes GDAL write a header of the same layout; `taken` are tags that only the file itself has (JPEG's tables);
    `deciding` says how decoders read the blocks.
    """

    options: dict[str, Any]
    taken: dict[int, tuple[int, int, bytes]]
    deciding: dict[int, list[int]]
    places: list[tuple[int, int]]


def copyable(path: Path, source: DatasetReader) -> Blocks | None:
    """The file's blocks; None when the pixels must be written anew. `streams.are_whole` must have said that they are."""
    with path.open("rb") as file:
        tiff = TiffFile(file, path.stat().st_size)
        tags, _ = tiff.directory(tiff.first_directory(), 1000)
        layout = tiff.layout(tags, source.count)
        blocks = tiff.blocks(tags, layout)
        compression = tiff.integer(tags, COMPRESSION, 1)
        plain = (
            tiff.order == "<"
            and layout.is_tiled
            and compression in NAMES
            and tiff.integer(tags, FILL_ORDER, 1) == 1
            and layout.block_width in SIDES
            and layout.block_height in SIDES
            and (layout.sample_bytes * 8 == tiff.depths(tags, 1)[0] == np.dtype(source.dtypes[0]).itemsize * 8)
        )
        if not (plain and streams.do_not_overlap(blocks)):
            return None
        options = _options(tiff, tags, source, compression)
        taken = {
            name: cog_layout.value_of(tiff, tags[name])
            for name in (JPEG_TABLES, SUBSAMPLING, REFERENCE_BLACK_WHITE)
            if name in tags and compression == JPEG
        }
        deciding = {name: list(tiff.integers(tags.get(name), source.count)) for name in _DECIDING}
    if options is None:
        return None
    options = options | {"blockxsize": layout.block_width, "blockysize": layout.block_height}
    return Blocks(options, taken, deciding, blocks)


def _options(tiff: TiffFile, tags: dict[int, Tag], source: DatasetReader, compression: int) -> dict[str, Any] | None:
    photometric = tiff.integer(tags, PHOTOMETRIC, GRAY)
    names = {GRAY: "MINISBLACK", RGB: "RGB", PALETTE: "PALETTE", YCBCR: "YCBCR"}
    if photometric not in names or (photometric == YCBCR) != (compression == JPEG and source.count == 3):
        return None
    if photometric == PALETTE and ColorInterp.palette not in source.colorinterp:
        return None
    interleave = "band" if tiff.integer(tags, PLANAR, 1) == 2 else "pixel"
    options = {"compress": NAMES[compression], "photometric": names[photometric], "interleave": interleave}
    if photometric == PALETTE:
        del options["photometric"]  # GDAL sets it with the colours
    return options | ({} if compression == JPEG else {"predictor": tiff.integer(tags, PREDICTOR, 1)})


def write_base(path: Path, source: DatasetReader, target: Path, plan: cog.Plan) -> bool:
    """Write a file of our own header over the user's blocks; False when they may not be copied."""
    found = copyable(path, source)
    if found is None:
        return False
    stencil = target.with_suffix(".stencil.tif")
    cog.write_stencil(source, stencil, plan, found.options)
    first, *others = cog_layout.images_of(stencil)
    try:
        if len(first.blocks) != len(found.places) or not _agree(first, found.deciding):
            return False
        cog_layout.write([first.with_blocks_of(path, found.places, *found.taken.items()), *others], target)
    finally:
        stencil.unlink()
    return True


def _agree(ours: cog_layout.Image, theirs: dict[int, list[int]]) -> bool:
    """Our header says the same of the pixels' coding as theirs."""
    defaults = {SAMPLE_FORMAT: 1, PLANAR: 1, PREDICTOR: 1, PHOTOMETRIC: GRAY, BITS: 1}
    for name, values in theirs.items():
        mine = _shorts(ours.tags[name][2]) if name in ours.tags else [defaults[name]]
        if set(mine) != set(values or [defaults[name]]):
            return False
    return True


def _shorts(data: bytes) -> list[int]:
    return np.frombuffer(data, "<u2").tolist()
