"""z0 to z8 of the pixels of 100,000 items (`FEDERATOR_BENCH_ITEMS`): drawn, then from kept pictures; what those cost, and changed items.

`FEDERATOR_BENCH_PLACES`: places of one degree that the items are of, side by side.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import psycopg
import rasterio
from rasterio.shutil import copy
from rasterio.transform import from_origin

from benchmarks import peers
from benchmarks.badtiles import worker_of
from benchmarks.client import Client, Request
from benchmarks.lowzoom import PAGE
from benchmarks.peers import Peer, new_database
from db.pools import open_pool
from db.settings import DatabaseSettings
from ingest.overviews.density import keep_density
from ingest.store import lock_items, write_items
from tests.api.editing import collection, item

ITEMS = int(os.environ.get("FEDERATOR_BENCH_ITEMS", "100000"))
PLACES = int(os.environ.get("FEDERATOR_BENCH_PLACES", "1000"))
NAME, SIDE, CHANGED = "afar", 256, 40
#: Items are in as many degrees of longitude as latitude around here, a place of one degree beside the other.
WEST, NORTH = 0, 60


def run(server: DatabaseSettings) -> dict[str, float]:
    """Milliseconds by way and zoom, seconds of the application's processor time, bytes."""
    database = new_database(server, "afar")
    with tempfile.TemporaryDirectory() as folder, peers.ours(database, Path(folder)) as ours:
        pid = worker_of(ours.port)
        found: dict[str, float] = {"items": ITEMS, "places": PLACES}
        found["store an item, with density, us"] = (
            asyncio.run(_fill(database, Path(folder) / "ours", ours.port)) / ITEMS * 1e6
        )
        client = Client(Peer(ours.name, ours.port))
        with contextlib.closing(client), psycopg.connect(database.conninfo, autocommit=True) as conn:
            found |= _asked(client, "drawn", "?sortby=newest", 2)
            spent, begun = _cpu(pid), time.perf_counter()
            _tile(client, "0/0/0", "")
            _wait(conn, "select count(*) from federator.overview", 1)
            _wait(conn, "select count(*) from federator.overview_dirty", 0)
            tiles, size = conn.execute(
                "select count(*), sum(octet_length(picture)) from federator.overview_tile"
            ).fetchone() or (0, 0)
            found |= {
                "made: tiles": tiles, "made: MiB": float(size) / 2**20, "made: processor, s": _cpu(pid) - spent,
                "made: wall (a quarter of the time), s": time.perf_counter() - begun,
            }  # fmt: skip
            found |= _asked(client, "kept", "", 60)
            found |= _changed(database, conn, pid)
    return found


async def _fill(database: DatabaseSettings, folder: Path, port: int) -> float:
    """Collection, rasters, items; seconds of storing and counting the items."""
    (folder / "cogs").mkdir(parents=True, exist_ok=True)
    across = int(PLACES**0.5)
    for place in range(PLACES):
        for look in range(4):
            _raster(folder / f"{place}-{look}.tif", WEST + place % across, NORTH - place // across, 4 * place + look)
    spent = 0.0
    async with open_pool(database) as pool, pool.connection() as conn:
        renders = {"default": {"assets": ["data"]}}
        await conn.execute(
            "insert into pgstac.collections (content) values ($1::jsonb)",
            (psycopg.types.json.Jsonb(collection(NAME, renders=renders)),),
        )
        for first in range(0, ITEMS, PAGE):
            items = [_item(number, across, folder, port) for number in range(first, min(first + PAGE, ITEMS))]
            await conn.execute(
                "insert into federator.upload (id, owner, collection_id, title, datetime, state, item_id, length)"
                " select u.id, 'local', $1, 'bench', now(), 'ready', u.item, 1 from unnest($2::uuid[], $3::text[]) as u (id, item)",
                (NAME, [UUID(int=one) for one in range(first, first + len(items))], [one["id"] for one in items]),
            )
            begun = time.perf_counter()
            async with conn.transaction():
                await lock_items(conn, NAME)
                await write_items(conn, NAME, items, {one["id"]: None for one in items})
            await keep_density(pool)
            spent += time.perf_counter() - begun
        await conn.execute("analyze")
    return spent


def _raster(path: Path, west: float, north: float, seed: int) -> None:
    """Three bands of 8 bits, a slope with noise, of one degree; one in four has no pixels in a corner, as at the edge of an orbit."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    pixels = np.stack(
        [60 + (rows + columns * (band + 1)) // 4 + rng.integers(0, 40, (SIDE, SIDE)) for band in range(3)]
    )
    pixels = np.clip(pixels, 1, 255).astype("uint8")
    if seed % 4 == 0:
        pixels[:, rows + columns < SIDE // 2] = 0
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "width": SIDE,
        "height": SIDE,
        "count": 3,
        "dtype": "uint8",
        "nodata": 0,
    }
    plain = path.with_suffix(".plain.tif")
    with rasterio.open(
        plain, "w", crs="EPSG:4326", transform=from_origin(west, north, 1 / SIDE, 1 / SIDE), **profile
    ) as target:
        target.write(pixels)
    copy(plain, path, driver="COG", compress="DEFLATE", blocksize=128)
    plain.unlink()


def _item(number: int, across: int, folder: Path, port: int) -> dict[str, Any]:
    """One of a place's many, each at its own time, with a raster of its own name."""
    place, upload = number % PLACES, UUID(int=number)
    os.link(folder / f"{place}-{(place + number // PLACES) % 4}.tif", folder / "cogs" / f"{upload}.tif")
    west, north = WEST + place % across, NORTH - place // across
    day, month = number // PLACES % 28 + 1, number // PLACES // 28 % 12 + 1
    document = item(f"item-{number}", NAME, datetime=f"2026-{month:02}-{day:02}T10:00:00Z")
    ring = [[west, north - 1], [west + 1, north - 1], [west + 1, north], [west, north], [west, north - 1]]
    document |= {"geometry": {"type": "Polygon", "coordinates": [ring]}, "bbox": [west, north - 1, west + 1, north]}
    document["assets"] = {"data": {"href": f"http://127.0.0.1:{port}/uploads/{upload}/data.tif", "roles": ["data"]}}
    return document


def _asked(client: Client, way: str, query: str, number: int) -> dict[str, float]:
    """Different tiles of each zoom that have items in them."""
    chance, spent, found = random.Random(3), [], {}  # noqa: S311
    side = int(PLACES**0.5)
    for zoom in range(9):
        tiles = {
            _at(WEST + chance.uniform(0.1, side - 0.1), NORTH - chance.uniform(0.1, side - 0.1), zoom)
            for _ in range(number)
        }
        times = [_tile(client, one, query) for one in sorted(tiles)]
        found[f"{way}, z{zoom}, median of {len(times)}, ms"] = statistics.median(times) * 1000
        spent += times
    found[f"{way}, p95 of {len(spent)}, ms (goal 200)"] = statistics.quantiles(spent, n=20)[-1] * 1000
    found[f"{way}, slowest, ms"] = max(spent) * 1000
    return found


def _at(longitude: float, latitude: float, zoom: int) -> str:
    across = 1 << zoom
    north = np.arctanh(np.sin(np.radians(latitude))) / np.pi
    return f"{zoom}/{int((longitude + 180) / 360 * across)}/{int((1 - north) / 2 * across)}"


def _tile(client: Client, place: str, query: str) -> float:
    client.reopen()
    return client.timed(Request(f"/raster/collections/{NAME}/tiles/WebMercatorQuad/{place}.png{query}"))[0]


def _changed(database: DatabaseSettings, conn: psycopg.Connection[Any], pid: int) -> dict[str, float]:
    """Change one item after the other, and then as many at once."""
    chance, found = random.Random(4), {}  # noqa: S311
    for way, rounds in (("one by one", CHANGED), ("together", 1)):
        spent, counted = _cpu(pid), 0.0
        for _ in range(rounds):
            ids = [f"item-{chance.randrange(ITEMS)}" for _ in range(CHANGED // rounds)]
            conn.execute(
                "update pgstac.items set content = jsonb_set(content, '{properties, note}', to_jsonb(clock_timestamp()))"
                " where collection = %s and id = any (%s)", (NAME, ids),
            )  # fmt: skip
            counted += asyncio.run(_count(database))
            _wait(conn, "select count(*) from federator.overview_dirty", 0)
        found[f"a changed item, {way}: processor of the application, ms"] = (_cpu(pid) - spent) / CHANGED * 1000
        found[f"a changed item, {way}: counting and marking, ms"] = counted / CHANGED * 1000
    return found


async def _count(database: DatabaseSettings) -> float:
    async with open_pool(database, min_size=1) as pool:
        begun = time.perf_counter()
        await keep_density(pool)
        return time.perf_counter() - begun


def _wait(conn: psycopg.Connection[Any], statement: str, number: int) -> None:
    deadline = time.monotonic() + 1800
    while conn.execute(statement.encode()).fetchone() != (number,):
        if time.monotonic() > deadline:
            raise TimeoutError(statement)
        time.sleep(0.2)


def _cpu(pid: int) -> float:
    """Seconds of processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
