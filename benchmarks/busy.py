"""Searching while a harvest loads: eight clients for a minute without it and with it. The harvest has its own process and upstream."""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import time
from collections.abc import Iterator
from multiprocessing.sharedctypes import Synchronized

from benchmarks import peers
from benchmarks.client import together
from benchmarks.harvest import odata_source
from benchmarks.search import CONNECTIONS, catalogue, search
from db.pools import open_pool
from db.settings import DatabaseSettings
from ingest.harvest import Order, Tools, harvest
from ingest.http import Patience
from tests.upstreams import serve

#: Of the upstream's products one in four is of the harvested collection.
PRODUCTS, SIZE, DURATION_S = 200_000, 100_000, 60.0


async def _harvest(database: DatabaseSettings, url: str) -> int:
    source = odata_source(url)
    async with open_pool(database) as pool:
        tools = Tools(pool, {source.id: source}, 500, Patience(), lambda _: None)
        progress = await harvest(Order(source, source.collections[0]), tools)
    return progress.counts.fetched


def _load(
    database: DatabaseSettings, begun: Synchronized[float], ended: Synchronized[float], records: Synchronized[int]
) -> None:
    with serve(products=PRODUCTS) as upstream:
        begun.value = time.monotonic()
        records.value = asyncio.run(_harvest(database, upstream.odata_url))
    ended.value = time.monotonic()


def _figures(name: str, spent: list[float], seconds: float) -> Iterator[tuple[str, float]]:
    cuts = statistics.quantiles(spent, n=100)
    yield f"{name}: requests/s", len(spent) / seconds
    for percent in (50, 95, 99):
        yield f"{name}: p{percent}, ms", cuts[percent - 1] * 1000


def run(server: DatabaseSettings) -> dict[str, float]:
    """Return latencies of both minutes, and how long the harvest took. Raises when any request fails or the harvest does."""
    database = catalogue(server, SIZE, fresh=True)
    folder = server.data_dir / "peers"
    folder.mkdir(exist_ok=True)
    context = multiprocessing.get_context("spawn")
    begun, ended, records = context.Value("d", 0.0), context.Value("d", 0.0), context.Value("i", 0)
    found: dict[str, float] = {}
    with peers.ours(database, folder) as ours:
        start = time.monotonic()
        alone = together(ours, search, connections=CONNECTIONS, is_over=lambda: time.monotonic() - start >= DURATION_S)
        found |= dict(_figures("alone", alone, DURATION_S))
        loader = context.Process(target=_load, args=(database, begun, ended, records))
        loader.start()
        while not begun.value and loader.is_alive():
            time.sleep(0.1)
        start = time.monotonic()
        is_over = lambda: not loader.is_alive() and time.monotonic() - start >= DURATION_S  # noqa: E731
        busy = together(ours, search, connections=CONNECTIONS, is_over=is_over)
        seconds = time.monotonic() - start
    loader.join()
    if loader.exitcode != 0:
        raise RuntimeError("the harvest failed")
    found |= dict(_figures("during a harvest", busy, seconds))
    found["during a harvest: records"] = float(records.value)
    found["during a harvest: records/s"] = records.value / (ended.value - begun.value)
    found["requests"] = float(len(alone) + len(busy))
    return found
