"""Tiles: our route for an item against titiler-core's for the file and titiler-pgstac's for the same item, on the same files.

Requests are random tiles, the same for all servers, asked in turns; figures are medians in milliseconds. `limit` is a plain decimated read
and the fastest encoder in this process: what is left to gain. The files are made once, in the system's temporary folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import morecantile
import numpy as np
import rasterio
from imagecodecs import PNG, jpeg8_encode, png_encode
from rasterio.warp import transform_bounds

from benchmarks import mosaics, peers, tile_rasters
from benchmarks.client import Request, interleaved, medians, rate
from benchmarks.peers import Peer, new_database
from db.pools import open_pool
from db.settings import DatabaseSettings
from ingest.collection_files import ensure_collections
from ingest.store import lock_items, write_items

COLLECTION = "sentinel-2-l2a"
NUMBER, CONNECTIONS, DURATION_S, ROUNDS = 36, 8, 5.0, 3
MERCATOR = morecantile.tms.get("WebMercatorQuad")
#: Name -> raster, zoom, format, options of the URL.
TILES = {
    "Sentinel-2 z13 PNG": ("s2", 13, "png", "rescale=0,4000"),
    "Sentinel-2 z13 JPEG": ("s2", 13, "jpg", "rescale=0,4000"),
    "Sentinel-2 z13 WEBP": ("s2", 13, "webp", "rescale=0,4000"),
    "Sentinel-2 z13 NPY": ("s2", 13, "npy", ""),
    "Sentinel-2 z10 PNG": ("s2", 10, "png", "rescale=0,4000"),
    "RGB z15 PNG": ("rgb", 15, "png", ""),
    "RGB z15 JPEG": ("rgb", 15, "jpg", ""),
}
#: Nothing is kept, and nobody is refused: each tile is made.
_ANEW = {"FEDERATOR_TILE_MEMORY_BYTES": "0", "FEDERATOR_TILE_CACHE_BYTES": "0", "FEDERATOR_RATE_LIMITS": "false"}
_LIMITED = ("Sentinel-2 z13 PNG", "Sentinel-2 z13 JPEG")


def run(server: DatabaseSettings) -> dict[str, float]:
    """Milliseconds, and how many times as long the others take."""
    kept = Path(tempfile.gettempdir()) / "federator-bench-tiles"
    kept.mkdir(exist_ok=True)
    rasters = {"s2": tile_rasters.sentinel2(kept / "s2.tif"), "rgb": tile_rasters.rgb(kept / "rgb.tif")}
    database = new_database(server, f"tiles_{uuid.uuid4().hex[:8]}")
    with tempfile.TemporaryDirectory(dir=kept) as folder, contextlib.ExitStack() as stack:
        ours = stack.enter_context(peers.ours(database, Path(folder), **_ANEW))
        cogs = Path(folder) / "ours" / "cogs"
        cogs.mkdir(parents=True, exist_ok=True)
        uploads = {name: uuid.uuid4() for name in rasters}
        for name, upload in uploads.items():
            (cogs / f"{upload}.tif").symlink_to(rasters[name])
        asyncio.run(_register(database, rasters, uploads, ours))
        servers = [ours, stack.enter_context(peers.titiler(database, kept))]
        servers.append(stack.enter_context(peers.titiler_pgstac(database, kept)))
        asyncio.run(mosaics.register(database, COLLECTION, rasters["s2"], cogs, ours.port, _item))
        found = dict(_latencies(servers, rasters))
        layered = {one.name: one for one in servers if one.name in ("ours", "titiler-pgstac")}
        found.update(mosaics.measured(layered, COLLECTION, _path(rasters, "Sentinel-2 z13 PNG")))
        found.update(_rates(servers, rasters))
        found.update(_limits(rasters, found))
    return found


async def _register(
    database: DatabaseSettings, rasters: dict[str, Path], uploads: dict[str, uuid.UUID], ours: Peer
) -> None:
    """An item of ours for each raster, as an upload makes it, and one for the others that names the file itself."""
    items = []
    async with open_pool(database) as pool:
        for name, raster in rasters.items():
            upload = uploads[name]
            async with pool.connection() as conn:
                await conn.execute(
                    "insert into federator.upload (id, owner, collection_id, title, datetime, state, item_id, length)"
                    " values ($1, 'bench', $2, $3, now(), 'ready', $3, 1)",
                    (upload, COLLECTION, name),
                )
            items.append(_item(name, raster, f"http://127.0.0.1:{ours.port}/uploads/{upload}/data.tif"))
            items.append(_item(f"{name}-file", raster, str(raster)))
        await ensure_collections(pool)
        async with pool.connection() as conn, conn.transaction():
            await lock_items(conn, COLLECTION)
            await write_items(conn, COLLECTION, items, dict.fromkeys(one["id"] for one in items))


def _item(name: str, raster: Path, href: str) -> dict[str, Any]:
    with rasterio.open(raster) as source:
        west, south, east, north = transform_bounds(source.crs, "EPSG:4326", *source.bounds, densify_pts=21)
        projection = {
            "proj:code": str(source.crs),
            "proj:shape": list(source.shape),
            "proj:transform": list(source.transform)[:6],
        }
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    media_type = "image/tiff; application=geotiff; profile=cloud-optimized"
    asset = {"href": href, "type": media_type, "roles": ["data"], **projection}
    return {
        "type": "Feature", "stac_version": "1.1.0", "id": name, "collection": COLLECTION, "links": [],
        "stac_extensions": ["https://stac-extensions.github.io/projection/v2.0.0/schema.json"],
        "geometry": {"type": "Polygon", "coordinates": [ring]}, "bbox": [west, south, east, north],
        "properties": {"datetime": datetime(2026, 5, 1, tzinfo=UTC).isoformat().replace("+00:00", "Z")},
        "assets": {"data": asset},
    }  # fmt: skip


def _tile(raster: Path, zoom: int, n: int) -> morecantile.Tile:
    """A tile within the raster, or one that touches it where none lies within."""
    rng = random.Random(f"tiles/{zoom}/{n}")  # noqa: S311
    with rasterio.open(raster) as source:
        west, south, east, north = transform_bounds(source.crs, "EPSG:4326", *source.bounds)
    share = rng.uniform(0.15, 0.85), rng.uniform(0.15, 0.85)
    return MERCATOR.tile(west + (east - west) * share[0], south + (north - south) * share[1], zoom)


def _path(rasters: dict[str, Path], name: str) -> Callable[[int], str]:
    """The n-th tile's path, from `tiles/` on."""
    raster, zoom, form, _ = TILES[name]
    tiles = [_tile(rasters[raster], zoom, n) for n in range(NUMBER)]

    def path(n: int) -> str:
        tile = tiles[n % NUMBER]
        return f"tiles/WebMercatorQuad/{tile.z}/{tile.x}/{tile.y}.{form}"

    return path


def _requests(rasters: dict[str, Path], name: str) -> dict[str, Callable[[int], Request]]:
    """How each server is asked for the n-th tile."""
    raster, _, _, options = TILES[name]
    path = _path(rasters, name)
    more = f"&{options}" if options else ""
    return {
        "ours": lambda n: Request(f"/raster/collections/{COLLECTION}/items/{raster}/{path(n)}?assets=data{more}"),
        "titiler": lambda n: Request(f"/{path(n)}?url={rasters[raster]}{more}"),
        "titiler-pgstac": lambda n: Request(
            f"/collections/{COLLECTION}/items/{raster}-file/{path(n)}?assets=data{more}"
        ),
    }


def _latencies(servers: list[Peer], rasters: dict[str, Path]) -> Iterator[tuple[str, float]]:
    servers = [Peer(one.name, one.port) for one in servers]  # our tiles are not below /stac
    for name in TILES:
        asked = _requests(rasters, name)
        found = medians(interleaved(servers, asked, NUMBER))
        yield from ((f"{name}: {server}, ms", value) for server, value in found.items())
        yield from ((f"{name}: {one} / ours", value / found["ours"]) for one, value in found.items() if one != "ours")


def _rates(servers: list[Peer], rasters: dict[str, Path]) -> Iterator[tuple[str, float]]:
    servers = [Peer(one.name, one.port) for one in servers]
    for name in ("Sentinel-2 z13 PNG", "Sentinel-2 z13 JPEG"):
        asked = _requests(rasters, name)
        seen: dict[str, list[float]] = {one.name: [] for one in servers}
        for _ in range(ROUNDS):
            for one in servers:
                seen[one.name].append(rate(one, asked[one.name], connections=CONNECTIONS, duration_s=DURATION_S))
        found = {server: statistics.median(values) for server, values in seen.items()}
        label = f"{name}, {CONNECTIONS} connections"
        yield from ((f"{label}: {server}, requests/s", value) for server, value in found.items())
        yield from ((f"{label}: ours / {one}", found["ours"] / value) for one, value in found.items() if one != "ours")


def _limits(rasters: dict[str, Path], found: dict[str, float]) -> Iterator[tuple[str, float]]:
    """A read of as many pixels without a warp, a table, and the encoder, in this process."""
    encoders: dict[str, Callable[[Any], Any]] = {
        "png": lambda pixels: png_encode(pixels, level=1, strategy=PNG.STRATEGY.RLE, filter=PNG.FILTER.UP),
        "jpg": lambda pixels: jpeg8_encode(pixels, level=85),
    }
    table = np.clip(np.arange(2**16) / 4000 * 255, 0, 255).astype(np.uint8)
    for name in _LIMITED:
        raster, zoom, form, _ = TILES[name]
        spent = []
        with rasterio.open(rasters[raster]) as source:
            for n in range(2 * NUMBER):
                west, south, east, north = MERCATOR.xy_bounds(_tile(rasters[raster], zoom, n % NUMBER))
                box = transform_bounds("EPSG:3857", source.crs, west, south, east, north)
                begun = time.perf_counter()
                window = source.window(*box)
                pixels = table[source.read(window=window, out_shape=(3, 256, 256))]
                encoders[form](np.ascontiguousarray(np.moveaxis(pixels, 0, -1)))
                spent.append(time.perf_counter() - begun)
        limit = statistics.median(spent[NUMBER:]) * 1000
        yield f"{name}: limit, ms", limit
        yield f"{name}: ours / limit", found[f"{name}: ours, ms"] / limit
