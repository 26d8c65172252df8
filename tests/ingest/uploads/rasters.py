"""Rasters made on the spot for the tests of uploads."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.transform import from_origin

UTM = {"crs": "EPSG:32633", "transform": from_origin(600_000, 5_340_000, 10, 10)}


def write(path: Path, pixels: np.ndarray[Any, Any] | None = None, **profile: Any) -> np.ndarray[Any, Any]:
    """Write a plain GeoTIFF (strips, no overviews); returns its pixels (bands, rows, columns)."""
    if pixels is None:
        rows, columns = np.mgrid[0:200, 0:300]
        pixels = (1 + rows * 7 + columns * 3).astype("uint16")[None]
    options = {
        "driver": "GTiff",
        "count": pixels.shape[0],
        "height": pixels.shape[1],
        "width": pixels.shape[2],
        "dtype": pixels.dtype,
    }
    with rasterio.open(path, "w", **{**options, **UTM, **profile}) as target:
        target.write(pixels)
    return pixels


def header(*directories: list[tuple[int, int, int, int]], size: int = 0, link_to_first: bool = False) -> bytes:
    """A little-endian classic TIFF of directories of (tag, type, count, value or offset)."""
    data = bytearray(b"II*\0" + struct.pack("<I", 8))
    for number, tags in enumerate(directories):
        start = len(data)
        following = start + 2 + 12 * len(tags) + 4
        is_last = number == len(directories) - 1
        data += struct.pack("<H", len(tags))
        for tag in tags:
            data += struct.pack("<HHII", *tag)
        data += struct.pack("<I", (8 if link_to_first else 0) if is_last else following)
    return bytes(data) + bytes(max(0, size - len(data)))


def image(width: int = 16, height: int = 16, *more: tuple[int, int, int, int]) -> list[tuple[int, int, int, int]]:
    """Tags of a small 8-bit image."""
    tags = {
        256: (256, 4, 1, width),
        257: (257, 4, 1, height),
        258: (258, 3, 1, 8),
        259: (259, 3, 1, 1),
        273: (273, 4, 1, 8),
        277: (277, 3, 1, 1),
        279: (279, 4, 1, 1),
    }
    tags |= {tag[0]: tag for tag in more}
    return [tags[number] for number in sorted(tags)]
