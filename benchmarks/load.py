"""Storing items: ours against pypgstac's Loader, same 15 KB Sentinel-2 items, same server, interleaved, one fresh database each."""

from __future__ import annotations

import asyncio
import io
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import psycopg
from psycopg_pool import ConnectionPool
from pypgstac.db import PgstacDB
from pypgstac.load import Loader, Methods

from db.migrate import migrate
from db.pools import open_pool
from db.settings import DatabaseSettings
from ingest.collection_files import ensure_collections
from ingest.model import CollectionMapping, Record, Source
from ingest.normalise import stac
from ingest.page import Harvested, normalise, store_page, unchanged
from ingest.store import lock_items, write_items
from tests.upstreams.products import Product, catalogue
from tests.upstreams.stac_items import copernicus_item

ROUNDS = 3
ITEMS = 12000
#: Items a transaction; the peer takes 10,000.
PAGE = 1000
COLLECTION = "sentinel-2-l2a"
ROOT = "https://catalogue.example.org"
#: The recorded items of the Copernicus catalogue have about so many bytes.
ITEM_BYTES = 15_000
MAPPING = CollectionMapping(COLLECTION, {"collection": COLLECTION})
SOURCE = Source("bench", "bench", "stac", ROOT, collections=(MAPPING,))

Item = dict[str, Any]


def make_records(number: int) -> list[Record]:
    """Upstream items of the invented catalogue, filled up to the size of real ones with further assets."""
    products: list[Product] = [one for one in catalogue(number * 5, seed=3) if one.kind == "L2A" and one.geometry()][
        :number
    ]
    return [Record(one.stem, orjson.dumps(_grown(copernicus_item(one, ROOT, ROOT)))) for one in products]


def _grown(item: Item) -> Item:
    size, number = len(orjson.dumps(item)), 0
    model = next(asset for key, asset in item["assets"].items() if key.startswith("B"))
    while size < ITEM_BYTES:
        copy = {**model, "href": f"{model['href']}?copy={number}"}
        item["assets"][f"{('AOT', 'SCL', 'WVP', 'TCI')[number % 4]}_{(10, 20, 60)[number // 4 % 3]}m"] = copy
        size += len(orjson.dumps(copy)) + 12
        number += 1
        if number >= 12:
            item["properties"]["statistics"] = {f"class_{n}": n / 7 for n in range(max(0, ITEM_BYTES - size) // 32)}
            break
    return item


async def _ours(settings: DatabaseSettings, items: Sequence[Item]) -> float:
    async with open_pool(settings, min_size=1, max_size=2) as pool, pool.connection() as conn:
        begun = time.perf_counter()
        items = sorted(items, key=lambda item: item["properties"]["datetime"])  # the peer gathers them by partition too
        for start in range(0, len(items), PAGE):
            async with conn.transaction():
                await lock_items(conn, COLLECTION)
                part = items[start : start + PAGE]
                await write_items(conn, COLLECTION, part, {item["id"]: None for item in part})
        return time.perf_counter() - begun


async def _ours_again(settings: DatabaseSettings, records: Sequence[Record]) -> float:
    """Re-reading what is held: the whole way of the harvest loop but for the network. The first pass is not timed."""
    harvested = Harvested(0, SOURCE, MAPPING, {SOURCE.id: SOURCE})
    async with open_pool(settings, min_size=1, max_size=2) as pool, pool.connection() as conn:
        seconds = 0.0
        for _ in range(2):
            begun = time.perf_counter()
            for start in range(0, len(records), PAGE):
                part = records[start : start + PAGE]
                same = await unchanged(conn, harvested, part)
                await store_page(conn, harvested, normalise(_Adapter(), MAPPING, part, same), None)
            seconds = time.perf_counter() - begun
        return seconds


class _Adapter:
    def item(self, record: Record) -> Any:
        return stac.contribution(SOURCE, MAPPING, record.raw)

    def pages(self, http: Any, cursor: Any) -> Any:
        raise NotImplementedError


def _peer(settings: DatabaseSettings, items: Sequence[Item], method: Methods) -> float:
    with ConnectionPool(settings.conninfo, min_size=0, max_size=1, open=True) as pool:
        database = PgstacDB(pool=pool)
        text = b"\n".join(orjson.dumps(item) for item in items)
        if method is Methods.upsert:
            Loader(database).load_items(iter(io.BytesIO(text)), Methods.insert)
        begun = time.perf_counter()
        Loader(database).load_items(iter(io.BytesIO(text)), method)
        seconds = time.perf_counter() - begun
        database.disconnect()
    return seconds


async def _prepare(settings: DatabaseSettings, *, with_log: bool) -> None:
    async with open_pool(settings, min_size=1, max_size=1) as pool:
        await ensure_collections(pool)
        if with_log:
            return
        # The loaders alone: the trigger that watches for changes without an event costs both the same, and that which notes footprints
        # one by one costs only the peer something; ours notes them all at once.
        async with pool.connection() as conn:
            await conn.execute("drop trigger note_unattributed on pgstac.items")
            await conn.execute("drop trigger note_footprint_made on pgstac.items")


def run(server: DatabaseSettings) -> dict[str, float]:
    """Return medians in items a second, and the ratios of ours to the peer's."""
    records = make_records(ITEMS)
    items = [stac.contribution(SOURCE, MAPPING, record.raw).item for record in records]
    ways: dict[str, Callable[[DatabaseSettings], float]] = {
        "ours": lambda settings: asyncio.run(_ours(settings, items)),
        "pypgstac Loader insert": lambda settings: _peer(settings, items, Methods.insert),
        "ours unchanged": lambda settings: asyncio.run(_ours_again(settings, records)),
        "pypgstac Loader upsert unchanged": lambda settings: _peer(settings, items, Methods.upsert),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for round_number in range(ROUNDS):
        for number, name in enumerate(sorted(ways, reverse=bool(round_number % 2))):
            settings = server.model_copy(update={"pgdatabase": f"bench_{round_number}_{number}"})
            with psycopg.connect(server.conninfo, autocommit=True) as conn:
                conn.execute(f'create database "{settings.pgdatabase}"'.encode())
            migrate(settings)
            asyncio.run(_prepare(settings, with_log="unchanged" in name))
            rates[name].append(len(items) / ways[name](settings))
            with psycopg.connect(server.conninfo, autocommit=True) as conn:
                conn.execute(f'drop database "{settings.pgdatabase}" with (force)'.encode())
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "items": float(len(items)),
        "item bytes": statistics.mean(len(orjson.dumps(item)) for item in items),
        **medians,
        "load ratio": medians["ours"] / medians["pypgstac Loader insert"],
        "unchanged ratio": medians["ours unchanged"] / medians["pypgstac Loader upsert unchanged"],
    }
