"""Items written through the API's `bulk_items`: ours against stac-fastapi-pgstac, same 15 KB Sentinel-2 items, same server, interleaved.

Each application in this process, on a fresh database of its own: the stock one on pgstac alone, without our log. The body is ready text.
The limit is what PostgreSQL alone takes: the same rows, made before the clock runs, in the same transactions with the same events.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import orjson
import psycopg
from fastapi import FastAPI
from pypgstac.db import PgstacDB
from pypgstac.migrate import Migrate
from stac_fastapi.pgstac.app import instantiate_api
from stac_fastapi.pgstac.config import PostgresSettings, Settings
from stac_fastapi.pgstac.db import close_db_connection, connect_to_db
from stac_fastapi.pgstac.models.extensions import Extensions

from api.main import create_app
from api.settings import ApiSettings
from benchmarks.load import COLLECTION, MAPPING, SOURCE, make_records
from db.migrate import migrate
from db.pools import open_pool
from db.settings import DatabaseSettings
from ingest.collection_files import collections, ensure_collections
from ingest.edits.author import OPERATOR, Author, in_transaction
from ingest.edits.streams import Stream, bulk_of, create_streamed
from ingest.normalise import stac
from ingest.rows import Base
from ingest.store import base_of

ROUNDS = 3
ITEMS = 2000
#: Items of one request.
BATCH = 1000
TOKEN = "bench"  # noqa: S105
_CLIENT: dict[str, Any] = {"base_url": "http://bench", "timeout": 600, "headers": {"Authorization": f"Bearer {TOKEN}"}}


async def _seconds(app: FastAPI, path: str, bodies: Sequence[bytes]) -> float:
    json = {"Content-Type": "application/json"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), **_CLIENT) as client:
        begun = time.perf_counter()
        for body in bodies:
            answer = await client.post(f"{path}/collections/{COLLECTION}/bulk_items", content=body, headers=json)
            answer.raise_for_status()
            assert answer.json()["success"] == BATCH, answer.text[:500]
        return time.perf_counter() - begun


async def _ours(database: DatabaseSettings, bodies: Sequence[bytes]) -> float:
    migrate(database)
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(ApiSettings(data_dir=Path(folder), public_url="http://bench", api_token=TOKEN), database)  # type: ignore[arg-type]
        async with app.router.lifespan_context(app):
            return await _seconds(app, "/stac", bodies)


@contextlib.asynccontextmanager
async def _stock(database: DatabaseSettings) -> AsyncIterator[FastAPI]:
    settings = Settings(_env_file=None, enable_transactions_extensions=True)
    app: FastAPI = instantiate_api(settings=settings, extensions=Extensions(settings=settings)).app
    await connect_to_db(
        app,
        postgres_settings=PostgresSettings(
            _env_file=None, pguser=database.pguser, pgpassword=database.pgpassword.get_secret_value() or "x", pghost=database.pghost,
            pgport=database.pgport, pgdatabase=database.pgdatabase, db_min_conn_size=1,
        ),
        add_write_connection_pool=True,
    )  # fmt: skip
    try:
        yield app
    finally:
        await close_db_connection(app)


@dataclass(frozen=True)
class _Prepared(Stream):
    """A stream whose batches were made before."""

    made: Sequence[Any] = ()

    def batches(self, base: Base, author: Author) -> Iterator[Any]:
        return iter(self.made)


def _prepared(body: bytes, base: Base) -> _Prepared:
    bulk = bulk_of(body)
    assert bulk is not None
    stream = Stream(COLLECTION, bulk.items, "http://bench", lambda document: document)
    return _Prepared(COLLECTION, bulk.items, "", stream.clean, list(stream.batches(base, OPERATOR)))


async def _limit(database: DatabaseSettings, bodies: Sequence[bytes]) -> float:
    migrate(database)
    async with open_pool(database, max_size=1) as pool:
        await ensure_collections(pool)
        async with pool.connection() as conn:
            base = await base_of(conn, COLLECTION)
        streams = [_prepared(body, base) for body in bodies]
        begun = time.perf_counter()
        for stream in streams:
            await in_transaction(pool, partial(create_streamed, author=OPERATOR, stream=stream))
        return time.perf_counter() - begun


async def _theirs(database: DatabaseSettings, bodies: Sequence[bytes]) -> float:
    peer = PgstacDB(dsn=database.conninfo)
    Migrate(peer).run_migration()
    peer.disconnect()
    with psycopg.connect(database.conninfo, autocommit=True, options="-c search_path=pgstac,public") as conn:
        conn.execute("select pgstac.create_collection(%s)", (orjson.dumps(collections()[COLLECTION]).decode(),))
        conn.execute("update pgstac.collections set partition_trunc = 'month'")
    async with _stock(database) as app:
        return await _seconds(app, "", bodies)


def _bodies() -> list[bytes]:
    items = [stac.contribution(SOURCE, MAPPING, record.raw).item for record in make_records(ITEMS)]
    batches = [items[start : start + BATCH] for start in range(0, ITEMS, BATCH)]
    return [orjson.dumps({"items": {item["id"]: item for item in batch}}) for batch in batches]


def run(server: DatabaseSettings) -> dict[str, float]:
    """Return medians in items a second, and the ratio of ours to the peer's."""
    bodies = _bodies()
    ways = {"ours": _ours, "stac-fastapi-pgstac": _theirs, "PostgreSQL alone": _limit}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for round_number in range(ROUNDS):
        for name in sorted(ways, reverse=bool(round_number % 2)):
            database = server.model_copy(update={"pgdatabase": f"bulk_{round_number}_{ways[name].__name__}"})
            with psycopg.connect(server.conninfo, autocommit=True) as conn:
                conn.execute(f'create database "{database.pgdatabase}"'.encode())
            rates[name].append(ITEMS / asyncio.run(ways[name](database, bodies)))
            with psycopg.connect(server.conninfo, autocommit=True) as conn:
                conn.execute(f'drop database "{database.pgdatabase}" with (force)'.encode())
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "items": float(ITEMS),
        "item bytes": statistics.mean(map(len, bodies)) / BATCH,
        **{f"{name}, items/s": median for name, median in medians.items()},
        "ratio": medians["ours"] / medians["stac-fastapi-pgstac"],
        "ratio of PostgreSQL alone": medians["PostgreSQL alone"] / medians["stac-fastapi-pgstac"],
    }
