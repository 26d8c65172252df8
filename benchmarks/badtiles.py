"""Random tiles with bad parameters among them: no 5xx, memory and open files of the server flat, p99. `FEDERATOR_BENCH_TILES`: how many."""

from __future__ import annotations

import collections
import contextlib
import http.client
import os
import random
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks import peers
from benchmarks.kept_tiles import TILES, TOKEN, make_cog, register
from benchmarks.peers import new_database
from db.settings import DatabaseSettings

THREADS = 8
_BAD = (
    "rescale=a", "rescale=1", "rescale=5,1", "rescale=nan,inf", "bidx=9", "assets=none", "assets=data|bidx=99", "assets=data|bidx=x",
    "assets=%00", "colormap_name=no", "colormap=%7B", "nodata=x", "resampling=worst", "reproject=no", "unscale=perhaps", "return_mask=x",
    "color_formula=gamma", "color_formula=rm -rf", "padding=-1", "padding=1e9", "buffer=-0.3", "buffer=1e9", "tilesize=0", "tilesize=-5",
    "tilesize=99999999", "expression=b1/0", "algorithm=hillshade", "url=/etc/passwd", "assets=" + "x" * 1500, "%ff=%fe",
)  # fmt: skip


def run(server: DatabaseSettings) -> dict[str, float]:
    """Counts by kind of status, milliseconds, growth of the server in MiB and in open files."""
    database = new_database(server, "badtiles")
    number = int(os.environ.get("FEDERATOR_BENCH_TILES", "20000"))
    os.environ["FEDERATOR_API_TOKEN"] = TOKEN
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_cog(folder / "cog.tif")
        with peers.ours(database, folder) as ours:
            base = register(database, ours, folder / "ours", folder / "cog.tif")
            pid = worker_of(ours.port)
            found: dict[str, float] = {}
            _ask(ours.port, base, number // 10, 1)
            before = _state(pid)
            statuses, seconds = _ask(ours.port, base, number, 2)
            after = _state(pid)
    for kind, count in sorted(collections.Counter(f"{status // 100}xx" for status in statuses).items()):
        found[f"answers {kind}"] = count
    cuts = statistics.quantiles(seconds, n=100)
    found |= {"p50, ms": cuts[49] * 1000, "p99, ms": cuts[98] * 1000}
    found |= {
        "memory before, MiB": before[0],
        "memory after, MiB": after[0],
        "files before": before[1],
        "files after": after[1],
    }
    return found


def _path(base: str, chance: random.Random) -> str:
    kind = chance.random()
    zoom, x, y = chance.choice(TILES)
    if kind < 0.3:  # somewhere in the raster
        deeper = chance.randrange(4)
        zoom, x, y = (
            zoom + deeper,
            (x << deeper) + chance.randrange(1 << deeper),
            (y << deeper) + chance.randrange(1 << deeper),
        )
    elif kind < 0.5:
        zoom, x, y = chance.randrange(-1, 40), chance.randrange(-2, 2**31), chance.randrange(-2, 2**31)
    tms = chance.choice(["WebMercatorQuad"] * 6 + ["WorldCRS84Quad", "UTM31WGS84Quad", "None", "../x"])
    format = chance.choice(["png", "jpg", "webp", "tif", "npy", "png", "png", "exe"])
    query = "&".join(["assets=data", "rescale=0,4000", *chance.sample(_BAD, chance.randrange(3) if kind > 0.4 else 0)])
    return f"{base.rpartition('/')[0]}/{tms}/{zoom}/{x}/{y}.{format}?{query}".replace(" ", "%20").replace("|", "%7C")


def _ask(port: int, base: str, number: int, seed: int) -> tuple[list[int], list[float]]:
    def work(place: int) -> tuple[list[int], list[float]]:
        chance, statuses, seconds = random.Random(seed * 100 + place), [], []  # noqa: S311
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=120)) as connection:
            for _ in range(number // THREADS):
                begun = time.perf_counter()
                path = _path(base, chance)
                try:
                    connection.request("GET", path)
                    answer = connection.getresponse()
                except (
                    ConnectionError
                ):  # the server ends idle connections, and on a busy machine this thread may be one for long
                    print("a connection ended before", path, flush=True)  # noqa: T201
                    connection.close()
                    connection.request("GET", path)
                    answer = connection.getresponse()
                body = answer.read()
                seconds.append(time.perf_counter() - begun)
                statuses.append(answer.status)
                if answer.status >= 500:
                    print(answer.status, path, body[:200], flush=True)  # noqa: T201
        return statuses, seconds

    with ThreadPoolExecutor(THREADS) as threads:
        parts = list(threads.map(work, range(THREADS)))
    return [one for part in parts for one in part[0]], [one for part in parts for one in part[1]]


def worker_of(port: int) -> int:
    """The process that answers at this port: the largest below the one that was started."""
    mark = f"FEDERATOR_PORT={port}".encode()
    with_mark = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                with_mark.append(int(folder.name))
    if not with_mark:
        raise RuntimeError("the server is not there")
    return max(with_mark, key=lambda pid: _state(pid)[0])


def _state(pid: int) -> tuple[float, float]:
    """MiB in memory and open files."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    resident = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
    return resident / 1024, float(len(list(Path(f"/proc/{pid}/fd").iterdir())))
