"""Storing items: ours against pypgstac's Loader, same items, same server, interleaved, one fresh database each."""

from __future__ import annotations

import asyncio
import io
import statistics
import time
from collections.abc import Sequence
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
from ingest.model import CollectionMapping, Source
from ingest.normalise import odata
from ingest.store import lock_items, write_items
from tests.upstreams import serve

ROUNDS = 5
ITEMS = 2000
COLLECTION = "sentinel-2-l2a"


def make_items(number: int) -> list[dict[str, Any]]:
    """Items as the demonstration's OData upstream gives them, normalised."""
    import httpx

    source = Source("bench", "bench", "odata", "http://127.0.0.1")
    mapping = CollectionMapping(COLLECTION, {})
    found: list[dict[str, Any]] = []
    with serve(products=number * 4, seed=3) as upstream, httpx.Client(timeout=60) as http:
        by_type = "Attributes/OData.CSC.StringAttribute/any(att:att/Name eq 'productType' and {} eq 'S2MSI2A')"
        wanted = f"Collection/Name eq 'SENTINEL-2' and {by_type.format('att/OData.CSC.StringAttribute/Value')}"
        while len(found) < number:
            query = {
                "$filter": wanted,
                "$top": 1000,
                "$skip": len(found),
                "$expand": ["Attributes", "Assets"],
                "$orderby": "PublicationDate asc",
            }
            records = http.get(f"{upstream.odata_url}/Products", params=query).raise_for_status().json()["value"]
            if not records:
                break
            found += [odata.contribution(source, mapping, orjson.dumps(record)).item for record in records]
    return found[:number]


async def _ours(settings: DatabaseSettings, items: Sequence[dict[str, Any]]) -> float:
    async with open_pool(settings, min_size=1, max_size=2) as pool, pool.connection() as conn:
        begun = time.perf_counter()
        for start in range(0, len(items), 500):
            async with conn.transaction():
                await lock_items(conn, COLLECTION)
                part = items[start : start + 500]
                await write_items(conn, COLLECTION, part, {item["id"]: None for item in part})
                await conn.execute("set constraints all deferred")
        return time.perf_counter() - begun


def _peer(settings: DatabaseSettings, items: Sequence[dict[str, Any]]) -> float:
    with ConnectionPool(settings.conninfo, min_size=0, max_size=1, open=True) as pool:
        database = PgstacDB(pool=pool)
        lines = io.BytesIO(b"\n".join(orjson.dumps(item) for item in items))
        begun = time.perf_counter()
        Loader(database).load_items(iter(lines), Methods.insert)
        seconds = time.perf_counter() - begun
        database.disconnect()
    return seconds


async def _prepare(settings: DatabaseSettings) -> None:
    async with open_pool(settings, min_size=1, max_size=1) as pool:
        await ensure_collections(pool)


def run(server: DatabaseSettings) -> dict[str, float]:
    """Return medians in items a second, and the ratio of ours to the peer's."""
    items = make_items(ITEMS)
    rates: dict[str, list[float]] = {"ours": [], "pypgstac Loader": []}
    for round_number in range(ROUNDS):
        for name in sorted(rates, reverse=bool(round_number % 2)):
            database = f"bench_{round_number}_{name[:4]}"
            settings = server.model_copy(update={"pgdatabase": database})
            with psycopg.connect(server.conninfo, autocommit=True) as conn:
                conn.execute(f'create database "{database}"'.encode())
            migrate(settings)
            asyncio.run(_prepare(settings))
            seconds = asyncio.run(_ours(settings, items)) if name == "ours" else _peer(settings, items)
            rates[name].append(len(items) / seconds)
            with psycopg.connect(server.conninfo, autocommit=True) as conn:
                conn.execute(f'drop database "{database}" with (force)'.encode())
    medians = {name: statistics.median(values) for name, values in rates.items()}
    item_bytes = statistics.mean(len(orjson.dumps(item)) for item in items)
    return {
        "items": float(len(items)),
        "item bytes": item_bytes,
        **medians,
        "ratio": medians["ours"] / medians["pypgstac Loader"],
    }
