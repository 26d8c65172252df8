"""The limit: a server that answers with text that is stored as it is answered. It does two requests of one collection and nothing else.

`GET /search?bbox=&datetime=&limit=` and `GET /collections/{collection}/items/{id}`, from a plain table with indexes on time and place.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

import asyncpg
import psycopg
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from db.settings import DatabaseSettings
from ingest.packing import unpack

COLLECTION = "sentinel-2-l2a"
_FOUND = """
select body from bench_ready.item
where datetime between $1 and $2 and public.st_intersects(geometry, public.st_makeenvelope($3, $4, $5, $6, 4326))
order by datetime desc, id desc limit $7
"""


def prepare(database: DatabaseSettings) -> None:
    """Make the table when it is missing: every packed item of the collection as text."""
    with psycopg.connect(database.conninfo) as conn, psycopg.connect(database.conninfo) as reader:
        if conn.execute("select to_regclass('bench_ready.item') is not null").fetchone() == (True,):
            return
        conn.execute("create schema bench_ready")
        conn.execute(
            "create table bench_ready.item (id text primary key, datetime timestamptz not null,"
            " geometry public.geometry not null, body text compression lz4)"
        )
        rows = reader.cursor("items")
        rows.execute(
            "select i.id, i.datetime, i.geometry, p.body from pgstac.items as i"
            " join federator.packed_item as p using (collection, id) where collection = %s",
            (COLLECTION,),
        )
        with conn.cursor().copy("copy bench_ready.item from stdin") as copy:
            for item_id, when, geometry, packed in rows:
                copy.write_row((item_id, when, geometry, unpack(packed)[0].decode()))
        conn.execute("create index on bench_ready.item (datetime desc, id desc)")
        conn.execute("create index on bench_ready.item using gist (geometry)")
        conn.commit()
        conn.autocommit = True
        conn.execute("vacuum analyze bench_ready.item")


async def _search(request: Request) -> Response:
    asked = request.query_params
    since, until = map(datetime.fromisoformat, asked["datetime"].split("/"))
    box = [float(one) for one in asked["bbox"].split(",")]
    rows = await request.app.state.pool.fetch(_FOUND, since, until, *box, int(asked["limit"]))
    features = ",".join([row["body"] for row in rows])
    return Response(f'{{"type":"FeatureCollection","features":[{features}]}}', media_type="application/geo+json")


async def _item(request: Request) -> Response:
    body = await request.app.state.pool.fetchval(
        "select body from bench_ready.item where id = $1", request.path_params["id"]
    )
    return Response(body, media_type="application/geo+json")


async def _ping(_: Request) -> Response:
    return Response("{}", media_type="application/json")


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    settings = {"jit": "off", "max_parallel_workers_per_gather": "0", "plan_cache_mode": "force_custom_plan"}
    async with asyncpg.create_pool(server_settings=settings, database=os.environ["PGDATABASE"]) as app.state.pool:
        yield


app = Starlette(
    routes=[Route("/search", _search), Route(f"/collections/{COLLECTION}/items/{{id}}", _item), Route("/ping", _ping)],
    lifespan=_lifespan,
)
