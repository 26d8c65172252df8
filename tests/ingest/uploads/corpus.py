"""Hostile and odd rasters, each with the verdict that it must get: the code of the refusal, or None and warnings."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Resampling
from rasterio.transform import Affine, from_origin

from ingest.uploads.tiff import TiffFile
from tests.ingest.uploads import hostile_bytes as raw
from tests.ingest.uploads.rasters import header, image, write

MARK = 77  # the victim's pixels
Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class World:
    """What attacks aim at: another user's raster and a server that must never be asked."""

    victim: Path
    url: str


@dataclass(frozen=True, slots=True)
class Case:
    """A file and its verdict. `warnings` are those that it must get; `opens`: only GDAL's process can tell."""

    make: Callable[[Path, World], Any]
    code: str | None = None
    warnings: tuple[str, ...] = ()


def by(content: bytes | Callable[[], bytes]) -> Callable[[Path, World], Any]:
    return lambda path, world: path.write_bytes(content() if callable(content) else content)


def told(*items: str) -> Callable[[Path, World], Any]:
    """Metadata with the victim's path and the canary's URL filled in."""
    return lambda path, world: path.write_bytes(
        raw.metadata(*(item.format(victim=world.victim, url=world.url) for item in items))
    )


def disguised(text: str) -> Callable[[Path, World], Any]:
    return lambda path, world: path.write_bytes(text.format(victim=world.victim, url=world.url).encode("latin-1"))


def noise(dtype: str = "uint16", *, side: int = 300, bands: int = 1) -> Array:
    rng = np.random.default_rng(0)
    if dtype.startswith("float"):
        return rng.normal(10, 3, (bands, side, side)).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(max(limits.min, -(2**31)), min(limits.max, 60_000), (bands, side, side)).astype(dtype)


def plain(pixels: Array | None = None, **profile: Any) -> Callable[[Path, World], Any]:
    return lambda path, world: write(path, noise() if pixels is None else pixels, **profile)


def cut(share: float, less: int = 0) -> Callable[[Path, World], Any]:
    def make(path: Path, world: World) -> None:
        write(path, noise(), compress="deflate", tiled=True, blockxsize=256, blockysize=256)
        os.truncate(path, int(path.stat().st_size * share) - less)

    return make


def damaged(compress: str, at: float = 0.5, size: int = 64) -> Callable[[Path, World], Any]:
    def make(path: Path, world: World) -> None:
        write(path, noise(side=600), compress=compress, tiled=True, blockxsize=256, blockysize=256)
        content = bytearray(path.read_bytes())
        place = int(len(content) * at)
        for number in range(place, place + size):
            content[number] ^= 0x55
        path.write_bytes(content)

    return make


def broken_block(compress: str) -> Callable[[Path, World], Any]:
    """The first bytes of the third block are others."""

    def make(path: Path, world: World) -> None:
        write(path, noise(side=600), compress=compress, tiled=True, blockxsize=256, blockysize=256)
        content = bytearray(path.read_bytes())
        with path.open("rb") as file:
            tiff = TiffFile(file, len(content))
            tags, _ = tiff.directory(tiff.first_directory(), 100)
            offset, _ = tiff.blocks(tags, tiff.layout(tags, 1))[2]
        content[offset : offset + 16] = bytes(16)
        path.write_bytes(content)

    return make


def bad_geokeys(path: Path, world: World) -> None:
    """The projection is EPSG:32599, which is none."""
    write(path, noise())
    content = path.read_bytes()
    code = struct.pack("<HHHH", 3072, 0, 1, 32633)
    assert content.count(code) == 1
    path.write_bytes(content.replace(code, struct.pack("<HHHH", 3072, 0, 1, 32599)))


def sparse(side: int, **profile: Any) -> Callable[[Path, World], Any]:
    def make(path: Path, world: World) -> None:
        options = {"width": side, "height": side, "count": 1, "dtype": "uint8", "crs": "EPSG:32633", "tiled": True}
        with rasterio.open(path, "w", driver="GTiff", SPARSE_OK=True, transform=Affine(1, 0, 5e5, 0, -1, 5e6),
                           **{**options, **profile}):  # fmt: skip
            pass

    return make


def gcps_only(path: Path, world: World) -> None:
    write(path, crs=None, transform=Affine.identity())
    with rasterio.open(path, "r+") as target:
        points = [
            GroundControlPoint(0, 0, 10, 50),
            GroundControlPoint(0, 99, 11, 50),
            GroundControlPoint(99, 0, 10, 49),
        ]
        target.gcps = points, CRS.from_epsg(4326)


def overviews(path: Path, world: World, value: int) -> None:
    """Overviews that show something else than the pixels."""
    write(path, np.zeros((1, 2048, 2048), "uint8"), tiled=True, compress="deflate", nodata=None)
    with rasterio.open(path, "r+") as target:
        target.write(np.full((1, 2048, 2048), value, "uint8"))
        target.build_overviews([2, 4, 8], Resampling.nearest)
        target.write(np.zeros((1, 2048, 2048), "uint8"))


def tagged(namespace: str | None, **tags: str) -> Callable[[Path, World], Any]:
    def make(path: Path, world: World) -> None:
        write(path, np.full((1, 600, 600), 1, "uint8"))
        with rasterio.open(path, "r+") as target:
            filled = {name: value.format(victim=world.victim, url=world.url) for name, value in tags.items()}
            target.update_tags(**({"ns": namespace} if namespace else {}), **filled)

    return make


def all_masked(path: Path, world: World) -> None:
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        write(path, noise("uint8"))
        with rasterio.open(path, "r+") as target:
            target.write_mask(np.zeros((300, 300), "uint8"))


def with_sidecars(path: Path, world: World) -> None:
    write(path, noise())
    write(path.with_name(path.name + ".ovr"), np.full((1, 150, 150), MARK, "uint16"))
    path.with_name(path.name + ".msk").write_bytes(path.with_name(path.name + ".ovr").read_bytes())
    path.with_name(path.name + ".aux.xml").write_text(
        "<PAMDataset><SRS>EPSG:3857</SRS><GeoTransform>0, 1, 0, 0, 0, -1</GeoTransform></PAMDataset>"
    )


def palette(path: Path, world: World) -> None:
    pixels = np.random.default_rng(0).integers(0, 5, (1, 1200, 1200), "uint8")
    write(path, pixels, photometric="palette", nodata=0)
    with rasterio.open(path, "r+") as target:
        target.write_colormap(1, {value: (value * 50, 10, 255 - value * 50, 255) for value in range(256)})


def strange_names(path: Path, world: World) -> None:
    write(path, noise(bands=3))
    with rasterio.open(path, "r+") as target:
        target.descriptions = ("<script>alert(1)</script>", "a\x01\u202eb", "B" * 5000)
        target.update_tags(TITLE="<img src=x onerror=alert(1)>")


def appended(path: Path, world: World) -> None:
    write(path, noise(side=512), compress="deflate", tiled=True, blockxsize=512, blockysize=512)
    with path.open("ab") as file:
        file.write(b"PK\x03\x04 something hidden behind the raster")


def overlapping(path: Path, world: World) -> None:
    """All tiles are one: a small file whose copy would be large."""
    block = b"\x07" * (256 * 256)
    tags = image(2048, 2048, (322, 4, 1, 256), (323, 4, 1, 256), (324, 4, 64, 20_000), (325, 4, 64, 21_000))
    tags = [tag for tag in tags if tag[0] not in (273, 278, 279)]
    tags += [(33550, 12, 3, 22_000), (33922, 12, 6, 22_100), (34735, 3, 16, 22_200)]
    content = bytearray(header(tags, size=30_000) + block)
    content[20_000:20_256] = np.full(64, 30_000, "<u4").tobytes()
    content[21_000:21_256] = np.full(64, len(block), "<u4").tobytes()
    content[22_000:22_024] = np.array([10.0, 10.0, 0.0]).tobytes()
    content[22_100:22_148] = np.array([0.0, 0, 0, 600_000, 5_340_000, 0]).tobytes()
    keys = [1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633]
    content[22_200:22_232] = np.array(keys, "<u2").tobytes()
    path.write_bytes(content)


def doctype(path: Path, world: World) -> None:
    """A real raster whose metadata declare an entity."""
    tagged(None, NOTE="x" * 80)(path, world)
    old, new = b"<GDALMetadata>", b"<!DOCTYPE a []>"
    content = path.read_bytes()
    place = content.index(old)
    path.write_bytes(content[:place] + new + content[place + len(new) :])


def written_over(old: bytes, new: bytes, **profile: Any) -> Callable[[Path, World], Any]:
    """A real raster with other bytes in its metadata or tags, as many as there were."""

    def make(path: Path, world: World) -> None:
        write(path, noise("uint8"), **profile)
        with rasterio.open(path, "r+") as target:
            target.update_tags(NOTE="0123456789")
            target.set_band_description(1, "name of it")
        content = path.read_bytes()
        assert old in content  # perhaps twice: the directory before stays in the file
        path.write_bytes(content.replace(old, new))

    return make


def second_image(path: Path, world: World) -> None:
    write(path, noise())
    write(path.with_name("second.tif"), noise())
    with rasterio.open(path, "r+") as target:
        target.update_tags(PAGE="1")
    with rasterio.open(path.with_name("second.tif")) as source:
        profile = {**source.profile, "APPEND_SUBDATASET": "YES"}
        with rasterio.open(path, "r+"):
            pass
        from rasterio.shutil import copy

        profile.clear()
        copy(source, path, driver="GTiff", APPEND_SUBDATASET="YES")
    path.with_name("second.tif").unlink()


def global_grid(west: float, step: float, *, overhang: float = 0.0) -> dict[str, Any]:
    return {"crs": "EPSG:4326", "transform": from_origin(west - overhang, 90 + overhang, step, step)}


def lonlat(west: float, north: float, step: float = 0.01) -> dict[str, Any]:
    return {"crs": "EPSG:4326", "transform": from_origin(west, north, step, step)}


NAN, INF = float("nan"), float("inf")
SIDE = 300
MOON = "+proj=longlat +R=1737400 +no_defs"
LOCAL = 'LOCAL_CS["arbitrary",UNIT["metre",1]]'

HEADERS: dict[str, Case] = {
    "empty": Case(by(b""), "EMPTY_FILE"),
    **{f"{name} in disguise": Case(disguised(text), "NOT_A_TIFF") for name, text in raw.DISGUISES.items()},
    "four bytes": Case(by(b"MM\0*"), "CORRUPT"),
    "no directory": Case(by(b"II*\0\0\0\0\0"), "CORRUPT"),
    "directories in a circle": Case(by(lambda: header(image(), size=9000, link_to_first=True)), "CORRUPT"),
    "SubIFD in a circle": Case(by(raw.sub_directory_circle), "CORRUPT"),
    "60,000 directories": Case(by(lambda: raw.many_directories(60_000)), "TOO_COMPLEX"),
    "101 tags": Case(by(lambda: header([(1000 + n, 3, 1, 0) for n in range(101)], size=9000)), "TOO_COMPLEX"),
    "a tag of 17 MB": Case(by(raw.large_tag), "TOO_COMPLEX"),
    "200,000 metadata items": Case(told(*['<Item name="a">1</Item>'] * 200_000), "METADATA_TOO_LARGE"),
    "2,001 metadata items": Case(told(*["<item>1</item>"] * 2001), "METADATA_TOO_LARGE"),
    "2 MB of metadata": Case(told("x" * 2 * 2**20), "METADATA_TOO_LARGE"),
    "OVERVIEWS with a local path": Case(tagged("OVERVIEWS", OVERVIEW_FILE="{victim}"), "EXTERNAL_REFERENCE"),
    "OVERVIEWS with a URL": Case(tagged("OVERVIEWS", OVERVIEW_FILE="/vsicurl/{url}/x.tif"), "EXTERNAL_REFERENCE"),
    "OVERVIEWS spelled in references": Case(
        told('<Item name="O" domain="&#x4f;VERVIEWS">{victim}</Item>'), "EXTERNAL_REFERENCE"
    ),
    "OVERVIEWS in single quotes": Case(told("<Item domain='overviews' name='a'>b.tif</Item>"), "EXTERNAL_REFERENCE"),
    "a geolocation file": Case(
        told('<Item name="X_DATASET" domain="GEOLOCATION">{victim}</Item>'), "EXTERNAL_REFERENCE"
    ),
    "/vsicurl in a value": Case(told('<Item name="a">/vsicurl/{url}/x</Item>'), "EXTERNAL_REFERENCE"),
    "a URL in a domain": Case(told('<Item name="a" domain="RPC">{url}/x</Item>'), "EXTERNAL_REFERENCE"),
    "file:// in a value": Case(told('<Item name="a">file://{victim}</Item>'), "EXTERNAL_REFERENCE"),
    "0 bands": Case(by(lambda: header(image(16, 16, (277, 3, 1, 0)), size=9000)), "CORRUPT"),
    "0 pixels": Case(by(lambda: header(image(0, 16), size=9000)), "CORRUPT"),
    "101 bands": Case(plain(noise("uint8", side=20, bands=101)), "TOO_MANY_BANDS"),
    "65,535 bands": Case(by(lambda: header(image(16, 16, (277, 3, 1, 65535)), size=9000)), "TOO_MANY_BANDS"),
    "2e9 x 2e9": Case(by(lambda: header(image(2 * 10**9, 2 * 10**9), size=900)), "TOO_LARGE_DECODED"),
    "a side of 1,000,001": Case(by(lambda: header(image(1_000_001, 1), size=2**20)), "TOO_LARGE_DECODED"),
    "a strip of 400 MB": Case(by(lambda: raw.one_strip(20_000)), "TOO_LARGE_DECODED"),
    "40 GB of nothing": Case(sparse(200_000, blockxsize=1024, blockysize=1024), "TOO_LARGE_DECODED"),
    "a tile of 128 MB": Case(
        by(lambda: header(image(8192, 8192, (258, 3, 1, 16), (322, 4, 1, 8192), (323, 4, 1, 8192)), size=2**20)),
        "TOO_LARGE_DECODED",
    ),
    **{
        f"compression {name}": Case(by(lambda n=n: header(image(16, 16, (259, 3, 1, n)), size=900)), "UNSUPPORTED_COMPRESSION")
        for n, name in ((4, "CCITT"), (6, "old JPEG"), (34712, "JPEG 2000"), (34925, "LZMA"), (50002, "JPEG XL"))
    },
    "complex64": Case(plain(np.ones((1, 9, 9), "complex64")), "UNSUPPORTED_DTYPE"),
    "complex128": Case(plain(np.ones((1, 9, 9), "complex128")), "UNSUPPORTED_DTYPE"),
    "complex integers": Case(
        by(lambda: header(image(16, 16, (258, 3, 1, 32), (339, 3, 1, 5)), size=9000)), "UNSUPPORTED_DTYPE"
    ),
    "128 bits": Case(by(lambda: header(image(16, 16, (258, 3, 1, 128)), size=9000)), "UNSUPPORTED_DTYPE"),
    "bands of 8 and 16 bits": Case(
        by(lambda: header(image(16, 16, (277, 3, 1, 2), (258, 3, 2, 8 | 16 << 16)), size=9000)), "UNSUPPORTED_DTYPE"
    ),
    "a tag twice": Case(by(lambda: raw.twice((42112, 2, 4, 0), (42112, 2, 4, 0))), "CORRUPT"),
    "a tag outside": Case(by(lambda: header(image(16, 16, (270, 2, 10**6, 100)), size=9000)), "CORRUPT"),
    "a block outside": Case(by(lambda: header(image(16, 16, (273, 4, 1, 10**9)), size=9000)), "CORRUPT"),
    "too few tiles": Case(by(raw.too_few_tiles), "CORRUPT"),
    "BigTIFF with another width": Case(by(lambda: raw.big((256, 4, 1, 9), width=4)), "CORRUPT"),
    "BigTIFF with 2**63 values": Case(by(lambda: raw.big((256, 16, 2**61, 2**62))), "CORRUPT"),
    "BigTIFF far away": Case(by(lambda: raw.big((256, 4, 1, 9), first=2**62)), "CORRUPT"),
    **{f"cut at {share:.0%}": Case(cut(share), "CORRUPT") for share in (0.01, 0.5, 0.99)},
    "a byte missing": Case(cut(1, 1), "CORRUPT"),
}  # fmt: skip

OPENED: dict[str, Case] = {
    "no CRS": Case(plain(crs=None), "NO_CRS"),
    "ground control points": Case(gcps_only, "NO_CRS"),
    "local CRS": Case(plain(crs=CRS.from_wkt(LOCAL)), "CRS_NOT_EARTH"),
    "the Moon": Case(plain(crs=CRS.from_proj4(MOON), transform=from_origin(10, 10, 0.01, 0.01)), "CRS_NOT_EARTH"),
    "no geotransform": Case(plain(transform=Affine.identity()), "NOT_GEOREFERENCED"),
    "a NaN transform": Case(plain(transform=Affine(10, 0, NAN, 0, -10, 5_340_000)), "NOT_GEOREFERENCED"),
    "an infinite transform": Case(plain(transform=Affine(10, 0, INF, 0, -10, 5_340_000)), "NOT_GEOREFERENCED"),
    "pixels without area": Case(plain(transform=Affine(10, 10, 6e5, 10, 10, 5e6)), "NOT_GEOREFERENCED"),
    "longitude 500": Case(plain(**lonlat(500, 10)), "OUT_OF_BOUNDS"),
    "latitude 95": Case(plain(**lonlat(10, 95)), "OUT_OF_BOUNDS"),
    "pixels of 1e300": Case(plain(transform=Affine(1e300, 0, 0, 0, -1e300, 0)), "NOT_GEOREFERENCED"),
    "pixels of 1e100": Case(plain(transform=Affine(1e100, 0, 0, 0, -1e100, 0)), "OUT_OF_BOUNDS"),
    "an unknown EPSG code": Case(bad_geokeys, "CRS_INVALID"),
    "far outside of its zone": Case(plain(transform=from_origin(5e8, 5e8, 10, 10)), "OUT_OF_BOUNDS"),
    "64 bytes flipped in DEFLATE": Case(damaged("deflate"), "CORRUPT"),
    "the last bytes flipped in DEFLATE": Case(damaged("deflate", 0.9, 1), "CORRUPT"),
    **{f"a block of {name} broken": Case(broken_block(name), "CORRUPT") for name in ("zstd", "lzw", "deflate", "lerc")},
    "antimeridian, longitude and latitude": Case(plain(**lonlat(178.5, 10)), warnings=("NO_NODATA",)),
    "antimeridian, UTM 1N": Case(plain(crs="EPSG:32601", transform=from_origin(160_000, 5e6, 100, 100))),
    "south pole": Case(plain(crs="EPSG:3031", transform=from_origin(-1.5e6, 1.5e6, 1e4, 1e4))),
    "north pole at a corner": Case(plain(crs="EPSG:3413", transform=from_origin(0, 0, 1000, 1000))),
    "world from 0 to 360": Case(plain(noise(side=180, bands=1).repeat(2, axis=2), **global_grid(0, 1.0))),
    "world by pixel centres": Case(
        plain(np.ones((1, 181, 360), "float32"), **global_grid(-180, 1.0, overhang=0.5)), warnings=("NO_NODATA",)
    ),
    "rotated": Case(plain(transform=Affine.translation(6e5, 5e6) @ Affine.rotation(30) @ Affine.scale(10, -10))),
    "south up": Case(plain(transform=Affine(10, 0, 6e5, 0, 10, 5e6))),
    "PixelIsPoint": Case(tagged(None, AREA_OR_POINT="Point")),
    "palette": Case(palette),
    "all NaN": Case(plain(np.full((1, 99, 99), NAN, "float32")), warnings=("ALL_NODATA", "NO_NODATA")),
    "all nodata": Case(plain(np.zeros((1, 99, 99), "uint8"), nodata=0), warnings=("ALL_NODATA",)),
    "all masked": Case(all_masked, warnings=("ALL_MASKED",)),
    "infinities": Case(plain(np.array([[[INF, -INF], [1, 2]]], "float32"))),
    "huge numbers": Case(plain(np.array([[[1.7e308, -1.7e308], [1, 2]]], "float64"))),
    "uint64 near 2**63": Case(plain(np.full((1, 99, 99), 2**63 + 5, "uint64")), warnings=("INT64_PRECISION",)),
    "int64": Case(plain(np.full((1, 99, 99), -(2**62) - 1, "int64")), warnings=("INT64_PRECISION",)),
    "lying overviews": Case(lambda path, world: overviews(path, world, 255), warnings=("OVERVIEWS_REBUILT",)),
    "1 bit": Case(plain(noise("uint8") % 2, nbits=1)),
    "12 bits": Case(plain(noise() % 4096, nbits=12)),
    "scripts for names": Case(strange_names),
    "an entity declared": Case(doctype, warnings=("METADATA_DROPPED",)),
    "bad UTF-8 in the metadata": Case(written_over(b"0123456789", b"\xff\xfe\xc3\x28\xed\xa0\x80\x80\xf8\x88")),
    "NUL and bad UTF-8 in a band's name": Case(written_over(b"name of it", b"na\0me\xff\xc0i\x01t")),
    "nodata out of range": Case(
        written_over(struct.pack("<HHI4s", 42113, 2, 4, b"255\0"), struct.pack("<HHI4s", 42113, 2, 4, b"999\0"), nodata=255),
        warnings=("NODATA_OUT_OF_RANGE",),
    ),
    "nodata that is no number": Case(
        written_over(struct.pack("<HHI4s", 42113, 2, 4, b"255\0"), struct.pack("<HHI4s", 42113, 2, 4, b"abc\0"), nodata=255),
    ),
    "sidecars": Case(with_sidecars),
    "a second image": Case(second_image, warnings=("OTHER_IMAGES_IGNORED",)),
    "100 bands": Case(plain(noise("uint8", side=40, bands=100))),
    "overlapping tiles": Case(overlapping),
    "data hidden behind": Case(appended),
    "one pixel": Case(plain(np.ones((1, 1, 1), "uint8"))),
    "one row of 100,000": Case(plain(noise("uint8", side=1).repeat(100_000, axis=2), transform=from_origin(3e5, 5e6, 1, 1))),
    "EPSG:4979 with heights": Case(plain(crs="EPSG:4979", transform=from_origin(10, 50, 0.01, 0.01))),
    "alpha everywhere 0": Case(
        plain(np.zeros((4, 64, 64), "uint8"), photometric="RGB", alpha="YES"), warnings=("ALL_MASKED",)
    ),
}  # fmt: skip

__all__ = ["HEADERS", "MARK", "OPENED", "SIDE", "Case", "ColorInterp", "World"]
