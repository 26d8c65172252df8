"""End to end: a harvest of the demonstration's OData upstream over loopback into a fresh database, and where its time goes."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ingest.harvest
import ingest.page
import ingest.settle
from benchmarks.peers import new_database
from db.pools import open_pool
from db.settings import DatabaseSettings
from ingest.harvest import Order, Tools, harvest
from ingest.http import Patience
from ingest.model import CollectionMapping, Source
from tests.upstreams import serve

PRODUCTS = 12_000
COLLECTION = "sentinel-2-l2a"
#: What is timed: (module, function) -> word. Each includes what it calls.
PARTS = {
    (ingest.harvest, "unchanged"): "compare hashes",
    (ingest.harvest, "normalise"): "normalise",
    (ingest.harvest, "store_page"): "store (all of the next)",
    (ingest.settle, "resolve"): "- merge versions",
    (ingest.settle, "write_items"): "- write items",
    (ingest.page, "_put_holdings"): "- write holdings",
}


@contextmanager
def timed() -> Iterator[Counter[str]]:
    """Time the parts while the block runs; seconds by word."""
    seconds: Counter[str] = Counter()
    before = {key: getattr(*key) for key in PARTS}
    for (module, name), word in PARTS.items():
        setattr(module, name, _timer(before[module, name], word, seconds))
    try:
        yield seconds
    finally:
        for (module, name), function in before.items():
            setattr(module, name, function)


def _timer(function: Callable[..., Any], word: str, seconds: Counter[str]) -> Callable[..., Any]:
    async def waiting(*arguments: Any, **options: Any) -> Any:
        begun = time.perf_counter()
        try:
            return await function(*arguments, **options)
        finally:
            seconds[word] += time.perf_counter() - begun  # type: ignore[assignment]

    def direct(*arguments: Any, **options: Any) -> Any:
        begun = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            seconds[word] += time.perf_counter() - begun  # type: ignore[assignment]

    return waiting if asyncio.iscoroutinefunction(function) else direct


def odata_source(url: str) -> Source:
    """The demonstration's OData upstream without a limit of rate; one collection."""
    mapping = CollectionMapping(COLLECTION, {"collection": "SENTINEL-2", "product_type": "S2MSI2A"})
    return Source("bench", "bench", "odata", url, requests_per_second=1e6, collections=(mapping,))


async def _run(settings: DatabaseSettings, url: str) -> dict[str, float]:
    source = odata_source(url)
    mapping = source.collections[0]
    found: dict[str, float] = {}
    async with open_pool(settings) as pool:
        for name in ("first", "again"):
            resident: list[float] = []
            tools = Tools(pool, {source.id: source}, 500, Patience(), lambda _, to=resident: to.append(_resident_mib()))  # type: ignore[misc]
            with timed() as seconds:
                progress = await harvest(Order(source, mapping), tools)
            found[f"{name}: MiB resident after a quarter, upstream's included"] = resident[len(resident) // 4]
            found[f"{name}: MiB resident at the end"] = resident[-1]
            found[f"{name}: records"] = float(progress.counts.fetched)
            found[f"{name}: records/s"] = progress.counts.fetched / progress.seconds
            found[f"{name}: seconds"] = progress.seconds
            found |= {
                f"{name}: share of {word}, percent": 100 * value / progress.seconds for word, value in seconds.items()
            }
    return found


def _resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def run(server: DatabaseSettings) -> dict[str, float]:
    """Return rates and shares of a first harvest and of one that finds nothing new."""
    settings = new_database(server, "bench_harvest")
    with serve(products=PRODUCTS) as upstream:
        return asyncio.run(_run(settings, upstream.odata_url))
