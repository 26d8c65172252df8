"""`python -m benchmarks to_the_map`: a raster of 1 GiB is sent by tus; how soon a search finds its item, a tile of it is right, and full
resolution is there.

API and worker as they are served, one process each; files in memory where there is /dev/shm. The clock starts when the client has given
its last byte to the system, before the answer. A tile is right when its middle pixel is what the raster was made of, within what averaging
of noise allows.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import math
import signal
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import rasterio
from rasterio.warp import transform

from benchmarks import rasters
from benchmarks.peers import new_database
from db.settings import DatabaseSettings
from tests.demo import free_port
from tests.uploads_torture import Server

_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own in it
_PIECE = 2**20
_TUS = {"Tus-Resumable": "1.0.0"}
_WAIT_S = 240
LAYOUTS = ("tiles, not packed", "tiles, DEFLATE")
#: Of the noise in `rasters.make`, and as far as a pixel of the preview may lie beside the tile's.
_MEAN, _OFF = 119.5, 45.0


def run(server: DatabaseSettings) -> dict[str, float]:
    """Seconds after the last byte, of each layout."""
    database = new_database(server, "to_the_map")
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        port = free_port(0)
        api = Server(database, Path(folder) / "data", f"http://127.0.0.1:{port}", port)
        try:
            api.start()
            with _worker(api), httpx.Client(base_url=api.public_url, timeout=60) as client:
                for layout in LAYOUTS:
                    original = Path(folder) / "original.tif"
                    rasters.make(original, rasters.LAYOUTS[layout])
                    for what, seconds in _watch(client, original).items():
                        found[f"{layout}: {what}, s after the last byte"] = seconds
                    original.unlink()
        finally:
            api.stop()
    return found


@contextlib.contextmanager
def _worker(api: Server) -> Iterator[None]:
    with (api.data_dir / "worker.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "ingest", "worker"], env=api.env, stdout=log, stderr=log)
    try:
        time.sleep(5)  # it listens
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _watch(client: httpx.Client, original: Path) -> dict[str, float]:
    """Send a file and ask until all is there."""
    path, sent, answered = _send(client, original)
    seen = {"answer": answered - sent}
    tile, expected = _tile_of(original)
    upload: dict[str, Any] = {}
    until = time.monotonic() + _WAIT_S
    while "full resolution" not in seen and time.monotonic() < until:
        upload = client.get(path).raise_for_status().json()
        if upload["error"]:
            raise RuntimeError(upload["error"])
        if upload["item_id"] and "searchable" not in seen:
            answer = client.post("/stac/search", json={"ids": [upload["item_id"]]}).raise_for_status()
            if answer.json()["features"]:
                seen["searchable"] = time.perf_counter() - sent
        if "searchable" in seen and "right tile" not in seen:
            answer = client.get(f"/raster/collections/uploads/items/{upload['item_id']}/{tile}")
            if answer.status_code == 200:
                _check(answer.content, expected)
                seen["right tile"] = time.perf_counter() - sent
        if upload["state"] == "ready":
            seen["full resolution"] = time.perf_counter() - sent
        time.sleep(0.05)
    if len(seen) < 4:
        raise RuntimeError(f"after {_WAIT_S} s: {seen}, {upload}")
    return seen


def _send(client: httpx.Client, original: Path) -> tuple[str, float, float]:
    """Path of the upload; when the last byte was given away, and when the answer came."""
    words = {"title": "t", "filename": "t.tif", "datetime": "2026-05-01T12:00:00Z"}
    metadata = ",".join(f"{key} {b64encode(value.encode()).decode()}" for key, value in words.items())
    size = original.stat().st_size
    made = client.post("/uploads", headers={**_TUS, "Upload-Length": str(size), "Upload-Metadata": metadata})
    path = "/" + made.raise_for_status().headers["Location"].split("/", 3)[3]
    connection = http.client.HTTPConnection("127.0.0.1", client.base_url.port, timeout=120)
    with contextlib.closing(connection), original.open("rb") as file:
        connection.putrequest("PATCH", path)
        body = {**_TUS, "Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
        for name, value in {**body, "Content-Length": str(size)}.items():
            connection.putheader(name, value)
        connection.endheaders()
        while piece := file.read(_PIECE):
            connection.send(piece)
        sent = time.perf_counter()
        answer = connection.getresponse()
        answer.read()
        if answer.status != 204:
            raise RuntimeError(f"{answer.status}")
        return path, sent, time.perf_counter()


def _tile_of(original: Path) -> tuple[str, float]:
    """Address of a coarse tile in the raster's middle, and the value of the pixel in the tile's middle."""
    with rasterio.open(original) as source:
        column, row = source.width // 2, source.height // 2
        (x,), (y,) = transform(source.crs, "EPSG:3857", *([one] for one in source.xy(row, column)))
        zoom, half = 9, math.pi * 6_378_137
        side = 2 * half / 2**zoom
        across, down = int((x + half) / side), int((half - y) / side)
        (left,), (top,) = transform(
            "EPSG:3857", source.crs, [(across + 0.5) * side - half], [half - (down + 0.5) * side]
        )
        row, column = source.index(left, top)
    return f"tiles/WebMercatorQuad/{zoom}/{across}/{down}.npy?assets=data", row // 7 + column // 5 + _MEAN


def _check(content: bytes, expected: float) -> None:
    """Raises RuntimeError: a wrong tile."""
    pixels = np.load(io.BytesIO(content))
    middle = float(pixels[0, pixels.shape[1] // 2, pixels.shape[2] // 2])
    if abs(middle - expected) > _OFF:
        raise RuntimeError(f"a wrong tile: {middle}, not {expected}")
