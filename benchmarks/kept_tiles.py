"""A tile that was asked for before: ours from memory and from disk, titiler's made anew, and nginx with the tile as a file; in turns."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import numpy as np
import psycopg
import rasterio
from rasterio.shutil import copy
from rasterio.transform import from_origin

from benchmarks import peers
from benchmarks.client import Client, Request
from benchmarks.peers import Peer, new_database
from db.settings import DatabaseSettings
from tests.demo import free_port

TOKEN = "a-token-for-the-benchmark"  # noqa: S105 - of a server that lives for the benchmark
ROUNDS, IN_TURN = 40, 10
SIDE = 4096
TILES = [(12, 2211 + x, 1298 + y) for x in range(2) for y in range(2)]


def make_cog(path: Path) -> None:
    """Three bands of 16 bits, noise on slopes, of the size of a quarter of a Sentinel-2 tile's side."""
    rng = np.random.default_rng(1)
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    pixels = np.stack(
        [(rows // 3 + columns // 5 + rng.integers(0, 300, (SIDE, SIDE)) + 200 * band) for band in range(3)]
    )
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "width": SIDE,
        "height": SIDE,
        "count": 3,
        "dtype": "uint16",
        "nodata": 0,
    }
    plain = path.with_suffix(".plain.tif")
    with rasterio.open(
        plain, "w", crs="EPSG:32633", transform=from_origin(450_000, 6_095_000, 10, 10), **profile
    ) as target:
        target.write(pixels.astype("uint16"))
    copy(plain, path, driver="COG", compress="DEFLATE", predictor=2)
    plain.unlink()


def register(database: DatabaseSettings, peer: Peer, folder: Path, raster: Path) -> str:
    """Make the raster an upload's and give it an item; returns the path of its tiles."""
    upload, item_id = str(uuid4()), "bench"
    (folder / "cogs").mkdir(exist_ok=True, parents=True)
    shutil.copyfile(raster, folder / "cogs" / f"{upload}.tif")
    with rasterio.open(raster) as source:
        west, south, east, north = rasterio.warp.transform_bounds(source.crs, "EPSG:4326", *source.bounds)
    with psycopg.connect(database.conninfo, autocommit=True) as conn:
        conn.execute(
            "insert into federator.upload (id, owner, collection_id, title, datetime, state, item_id, length)"
            " values (%s, 'local', 'uploads', 'bench', now(), 'ready', %s, 1)", (upload, item_id),
        )  # fmt: skip
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    document = {
        "type": "Feature", "stac_version": "1.1.0", "stac_extensions": [], "id": item_id, "collection": "uploads",
        "geometry": {"type": "Polygon", "coordinates": [ring]}, "bbox": [west, south, east, north],
        "properties": {"datetime": "2026-05-01T10:00:00Z"}, "links": [],
        "assets": {"data": {"href": f"http://127.0.0.1:{peer.port}/uploads/{upload}/data.tif", "roles": ["data"]}},
    }  # fmt: skip
    connection = http.client.HTTPConnection("127.0.0.1", peer.port, timeout=60)
    with contextlib.closing(connection):
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
        connection.request("POST", "/stac/collections/uploads/items", json.dumps(document), headers)
        answer = connection.getresponse()
        if answer.status != 201:
            raise RuntimeError(f"{answer.status}: {answer.read()[:300]!r}")
    with psycopg.connect(database.conninfo, autocommit=True) as conn:
        conn.execute("update pgstac.items set private = null")
    return f"/raster/collections/uploads/items/{item_id}/tiles/WebMercatorQuad"


@contextlib.contextmanager
def titiler(folder: Path) -> Iterator[Peer]:
    """titiler as it comes, one process."""
    port = free_port(0)
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "benchmarks.stock_tiles:app",
        "--log-level",
        "warning",
        "--port",
        str(port),
    ]
    process = subprocess.Popen(command)
    try:
        _wait(port, "/_mgmt/ping")
        yield Peer("titiler", port)
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def nginx(folder: Path) -> Iterator[Peer]:
    """nginx over the files of a folder."""
    port, program = free_port(0), shutil.which("nginx")
    if program is None:
        raise RuntimeError("nginx is not installed")
    folder.parent.chmod(0o755)
    folder.chmod(0o755)
    configuration = folder / "nginx.conf"
    configuration.write_text(
        f"daemon off; user root; pid {folder}/pid; error_log {folder}/error.log; events {{}}\n"
        f"http {{ access_log off; keepalive_requests 1000000; server {{ listen 127.0.0.1:{port}; root {folder}; }} }}\n"
    )
    process = subprocess.Popen([program, "-p", str(folder), "-c", str(configuration)])
    try:
        _wait(port, "/nginx.conf")
        yield Peer("nginx", port)
    finally:
        process.terminate()
        process.wait(30)


def _wait(port: int, path: str) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with (
            contextlib.suppress(OSError),
            contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as one,
        ):
            one.request("GET", path)
            if one.getresponse().status == 200:
                return
        time.sleep(0.1)
    raise RuntimeError(f"nothing answers at port {port}")


def run(server: DatabaseSettings) -> dict[str, float]:
    """Medians in milliseconds and ratios."""
    database = new_database(server, "kept_tiles")
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        folder = Path(temporary)
        folder.chmod(0o755)
        raster = folder / "cog.tif"
        make_cog(raster)
        os.environ["FEDERATOR_API_TOKEN"] = TOKEN
        ours = stack.enter_context(peers.ours(database, folder))
        stock = stack.enter_context(titiler(folder))
        (folder / "static").mkdir()
        static = stack.enter_context(nginx(folder / "static"))
        base = register(database, ours, folder / "ours", raster)
        ways: dict[str, list[tuple[Client, Request]]] = {"ours": [], "titiler": [], "nginx": []}
        clients = [
            stack.enter_context(contextlib.closing(Client(Peer(one.name, one.port)))) for one in (ours, stock, static)
        ]
        query = "rescale=0,4000"
        for number, (z, x, y) in enumerate(TILES):
            mine = Request(f"{base}/{z}/{x}/{y}.png?assets=data&{query}")
            (folder / "static" / f"{number}.png").write_bytes(clients[0].ask(mine))
            ways["ours"].append((clients[0], mine))
            path = f"/tiles/WebMercatorQuad/{z}/{x}/{y}.png?url={quote(str(raster))}&{query}"
            ways["titiler"].append((clients[1], Request(path)))
            ways["nginx"].append((clients[2], Request(f"/{number}.png")))
        spent = _in_turns(ways)
    found = {f"{name}, ms": statistics.median(values) * 1000 for name, values in spent.items()}
    found["titiler / ours (goal 40)"] = found["titiler, ms"] / found["ours, ms"]
    found["ours / nginx (goal at most 10)"] = found["ours, ms"] / found["nginx, ms"]
    return found


def _in_turns(ways: dict[str, list[tuple[Client, Request]]]) -> dict[str, list[float]]:
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, asks in ways.items():
            asks[0][0].reopen()
            asks[0][0].ask(asks[0][1])
            for number in range(IN_TURN if name != "titiler" else 2):
                client, request = asks[number % len(asks)]
                spent[name].append(client.timed(request)[0])
    return spent
