"""Tiles of a COG elsewhere, 20 ms away: ours against rio-tiler over /vsicurl/, in turns; the host is a process of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

from rio_tiler.io import Reader

from api.settings import ApiSettings
from api.tiles.remote import Remote, reader_of
from benchmarks.kept_tiles import make_cog
from db.settings import DatabaseSettings
from ingest.model import Source
from ingest.settings import IngestSettings
from tests.upstreams.range_server import range_server

DELAY_S, ROUNDS = 0.02, 3
#: In order of use by every way, so that nobody finds blocks that another one has fetched: each opens the file under a name of its own.
TILES = [(13, 4422 + x, 2596 + y) for x in range(3) for y in range(2)]


def _serve(folder: str, delay_s: float, pipe: Connection) -> None:
    with range_server(Path(folder)) as host:
        host.delay_s = delay_s
        pipe.send(host.port)
        while pipe.recv():
            pipe.send(host.requests)


@contextlib.contextmanager
def _host(folder: Path, delay_s: float) -> Iterator[tuple[int, Callable[[], int]]]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(str(folder), delay_s, there))
    process.start()

    def requests() -> int:
        here.send(True)
        return int(here.recv())

    try:
        yield here.recv(), requests
    finally:
        here.send(False)
        process.join(10)


def run(server: DatabaseSettings) -> dict[str, float]:
    """Medians in milliseconds a tile, requests a tile, ratios."""
    os.environ.update({"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".tif"})
    os.environ.update({"GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES", "GDAL_HTTP_MULTIPLEX": "YES", "VSI_CACHE": "FALSE"})
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        make_cog(Path(temporary) / "cog.tif")
        for delay_s in (0.0, DELAY_S):
            with _host(Path(temporary), delay_s) as (port, requests):
                for name, value in _measure(port, requests).items():
                    found[f"+{delay_s * 1000:.0f} ms: {name}"] = value
    return found


def _measure(port: int, requests: Callable[[], int]) -> dict[str, float]:
    source = Source("one", "One", "stac", "https://example.org", asset_hosts=(f"127.0.0.1:{port}",))
    remote = Remote([source], ApiSettings(asset_networks="127.0.0.0/8"), IngestSettings())
    ours, names = reader_of(remote, "data"), iter(range(10**6))
    spent: dict[str, list[float]] = {}
    asked: dict[str, int] = {}
    kept = f"http://127.0.0.1:{port}/kept/cog.tif"

    def fresh() -> str:
        return f"http://127.0.0.1:{port}/{next(names)}/cog.tif"

    ways: dict[str, tuple[type[Reader], Callable[[], str]]] = {
        "ours, cold": (ours, fresh),
        "ours, header kept": (ours, lambda: kept),
        "rio-tiler, cold": (Reader, fresh),
    }
    try:
        with ours(kept) as away, Reader(f"/vsicurl/{fresh()}") as open_one:
            away.preview(max_size=32)
            for _ in range(ROUNDS):
                for z, x, y in TILES:
                    for name, (kind, url_of) in ways.items():
                        before, begun = requests(), time.perf_counter()
                        with kind(url_of()) as one:
                            one.tile(x, y, z)
                        spent.setdefault(name, []).append(time.perf_counter() - begun)
                        asked[name] = asked.get(name, 0) + requests() - before
                    begun = time.perf_counter()
                    open_one.tile(x, y, z)
                    spent.setdefault("rio-tiler, kept open (blocks too after the first round)", []).append(
                        time.perf_counter() - begun
                    )
    finally:
        remote.close()
    found = {f"{name}, ms": statistics.median(values) * 1000 for name, values in spent.items()}
    found |= {f"{name}, requests a tile": count / len(spent[name]) for name, count in asked.items()}
    found["rio-tiler cold / ours cold"] = found["rio-tiler, cold, ms"] / found["ours, cold, ms"]
    found["rio-tiler cold / ours with the header kept (goal 1.7)"] = (
        found["rio-tiler, cold, ms"] / found["ours, header kept, ms"]
    )
    return found
