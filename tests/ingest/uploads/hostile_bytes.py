"""Hostile TIFFs written byte by byte: what no library would write. Each returns the file's bytes."""

from __future__ import annotations

import struct
import zlib

from tests.ingest.uploads.rasters import header, image

Tag = tuple[int, int, int, int]


def with_text(text: bytes, *more: Tag) -> bytes:
    """A small image with GDAL's metadata."""
    place = 4096
    return header(image(16, 16, (42112, 2, len(text), place), *more), size=place) + text


def metadata(*items: str) -> bytes:
    """A small image with these `<Item ...>` elements."""
    return with_text(b"<GDALMetadata>" + "".join(items).encode() + b"</GDALMetadata>")


def many_directories(number: int) -> bytes:
    """A chain of small images, each with the next one behind it: 8 MB for 60,000."""
    return header(*[image() for _ in range(number)])


def one_strip(side: int) -> bytes:
    """A square of zeros in one strip of DEFLATE: about a thousandth of what it expands to."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(side)) for _ in range(side)) + packer.flush()
    tags = image(side, side, (259, 3, 1, 8), (278, 4, 1, side), (273, 4, 1, 4096), (279, 4, 1, len(packed)))
    return header(tags, size=4096) + packed


def big(*tags: tuple[int, int, int, int], first: int = 16, width: int = 8) -> bytes:
    """A BigTIFF of one directory."""
    directory = (
        struct.pack("<Q", len(tags)) + b"".join(struct.pack("<HHQQ", *tag) for tag in tags) + struct.pack("<Q", 0)
    )
    return struct.pack("<2sHHHQ", b"II", 43, width, 0, first) + directory


def sub_directory_circle() -> bytes:
    """A directory whose SubIFD is itself."""
    return header(image(16, 16, (330, 4, 1, 8)), size=4096)


def twice(tag: Tag, other: Tag) -> bytes:
    """A directory that gives one tag twice: readers differ in which one they take."""
    tags = [*image(), tag, other]
    return header(sorted(tags), size=4096)


def too_few_tiles() -> bytes:
    """1,024 x 1,024 pixels in tiles of 256, of which one is there."""
    tags = image(1024, 1024, (322, 4, 1, 256), (323, 4, 1, 256), (324, 4, 1, 8), (325, 4, 1, 16))
    return header([tag for tag in tags if tag[0] not in (273, 279)], size=70_000)


def large_tag() -> bytes:
    """A text of 17 MB."""
    return header(image(16, 16, (270, 2, 17 * 2**20, 4096)), size=4096) + bytes(17 * 2**20)


DISGUISES = {
    "VRT that reads a system file": '<VRTDataset rasterXSize="9" rasterYSize="9"><VRTRasterBand dataType="Byte" band="1"'
    ' subClass="VRTRawRasterBand"><SourceFilename>{victim}</SourceFilename></VRTRasterBand></VRTDataset>',
    "VRT that reads an address": '<VRTDataset rasterXSize="9" rasterYSize="9"><VRTRasterBand dataType="Byte" band="1">'
    "<SimpleSource><SourceFilename>/vsicurl/{url}/x.tif</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>",
    "WMS": '<GDAL_WMS><Service name="WMS"><ServerUrl>{url}</ServerUrl></Service></GDAL_WMS>',
    "WMTS": "<GDAL_WMTS><GetCapabilitiesUrl>{url}</GetCapabilitiesUrl></GDAL_WMTS>",
    "STACIT": '{{"type": "FeatureCollection", "stac_version": "1.0.0", "features": [{{"type": "Feature", "assets": '
    '{{"a": {{"href": "{url}/a.tif"}}}}}}]}}',
    "GDALG": '{{"type": "gdal_streamed_alg", "command_line": "gdal raster read {url}"}}',
    "a text": "this is no raster\n",
    "PNG": "\x89PNG\r\n\x1a\n",
    "ZIP": "PK\x03\x04",
    "JPEG 2000": "\x00\x00\x00\x0cjP  \r\n\x87\n",
}
