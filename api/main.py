"""`create_app(settings)`: the only assembly of the HTTP side, used by the server and by the tests alike."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from psycopg_pool import ConnectionPool
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from api import (
    home,
    lineage,
    lineage_graph,
    lineage_page,
    lineage_versions,
    lineage_watches,
    lineage_webhooks,
    lineage_writes,
    log_routes,
    management,
    quota,
    sharing,
    sources,
    static_files,
    trace,
    trace_verdicts,
    tus,
    tus_headers,
    upload_page,
    upload_parts,
    uploads,
)
from api.changes import Changes
from api.doors import Door
from api.encoding import Encoded
from api.heads import Heads
from api.limits.headers import EXPOSED as LIMITS_EXPOSED
from api.limits.middleware import Limited
from api.limits.service import Limits
from api.metrics import Measured, Metrics, Routed
from api.parts import Parts
from api.people import key_routes, login, user_routes
from api.people.callers import Identified, open_people
from api.private_answers import PrivateAnswers
from api.problems import add_handlers
from api.public_url import PublicUrl
from api.raster import create_raster_app, reader_of
from api.reads import Reads, open_reads, watching
from api.settings import ApiSettings
from api.signed import Signed
from api.signing_secrets import secret_of
from api.stac.app import create_stac_app
from api.stac.direct import Direct
from api.stac.documents import Documents
from api.stac.search import Searcher
from api.tiles.afar import OVERVIEW
from api.tiles.afar_drawing import Overviews
from api.tiles.application import TileApplication
from api.tiles.cache import COLLECTION_PIXELS, ITEM_PIXELS, TileCache, primary_of
from api.tiles.direct import DirectTiles
from api.tiles.notes import PARTIAL
from api.tiles.places import Places
from api.tiles.remote import Remote
from api.tiles.scaled import Scaled
from api.tiles.versions import CollectionVersions, ItemVersions
from api.tracing import is_traced
from db import DatabaseSettings, resolve
from db.pools import SHORT_READS, open_pool, psycopg_options
from db.queries import sql
from ingest.collection_files import ensure_collections
from ingest.operator_files import adopt_files
from ingest.settings import IngestSettings
from ingest.source_files import load_sources
from lineage.cosigning import witness_vkeys
from lineage.settings import LineageSettings
from lineage.trace_trust import read_trust

#: In this order they are looked through.
_ROUTERS = (
    home.router,
    static_files.router,
    upload_page.router,
    uploads.router,
    uploads.files,
    tus.router,
    upload_parts.router,
    log_routes.router,
    lineage.native,
    lineage_page.router,  # before those of items, whose ids may end in .html
    lineage_graph.router,
    lineage_versions.router,
    lineage_watches.router,
    lineage_webhooks.router,
    lineage_writes.router,
    trace.router,
    trace_verdicts.router,
    management.router,
    sources.router,
    login.router,
    key_routes.router,
    user_routes.router,
    quota.router,
    sharing.router,
)


class Application(FastAPI):
    """The application behind what answers before it: to come to the first middleware takes FastAPI longer than a kept answer needs."""

    front: ASGIApp
    raster: TileApplication
    #: Gives what lies ready to connections that ask (`api.doors`); None while something decides about each request.
    door: Door | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.front(scope, receive, send)

    async def routed(self, scope: Scope, receive: Receive, send: Send) -> None:
        """All that is not answered before."""
        await super().__call__(scope, receive, send)


def create_app(
    settings: ApiSettings, database: DatabaseSettings | None = None, *, clock: Callable[[], float] = time.time
) -> Application:
    """Return the application; pools are opened in its lifespan.

    Args:
        settings: of the HTTP side.
        database: None: what the environment names.
        clock: seconds since 1970, of the windows of quotas.

    Raises:
        TiersInvalid: the operator's file of tiers cannot be used.
        TrustInvalid: the operator's file of authorities or of revocations cannot be used.
    """
    stac, raster = create_stac_app(settings), create_raster_app(settings)
    limits, traced = Limits(settings, clock), LineageSettings()
    trace_trust = read_trust(traced.trace_authorities_file, traced.trace_revocations_file)
    environment = IngestSettings()
    ingest = environment.model_copy(
        update={"data_dir": settings.data_dir, "public_url": settings.public_url.rstrip("/")}
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        resolved = resolve(database or DatabaseSettings())
        async with open_pool(resolved) as pool, open_people(settings, pool) as people:
            await adopt_files(pool, ingest.collections_dir)
            await ensure_collections(pool)
            app.state.parts = Parts(settings, ingest, pool, load_sources(ingest.sources_dir), people)
            stac.state.parts = raster.state.parts = app.state.parts
            stac.state.readpool = reads = await open_reads(resolved)
            stac.state.searcher = searcher = Searcher(stac.state.readpool, await secret_of(pool, "page-token"))
            app.state.changes = stac.state.changes = changes = Changes(
                resolved, searcher.forget, getattr(reads, "caught_up", None)
            )
            if isinstance(reads, Reads):
                reads.on_switch = changes.read_elsewhere
            raster.state.dbpool = _sync_pool(resolved)
            raster.state.remote = Remote(list(app.state.parts.sources.values()), settings, ingest)
            app.state.primary = raster.state.primary = primary_of(reads)
            app.state.tile_cache.open(await app.state.primary().fetchval(sql("tiles.cluster")))
            app.state.tile_key = raster.state.tile_key = tile_key = await secret_of(pool, "tile-url")
            app.state.overviews = raster.state.overviews = overviews = Overviews(raster, pool, settings)
            try:
                async with watching(reads), changes.listening(), limits.running(pool, tile_key), overviews.running():
                    yield
            finally:
                app.state.tile_cache.close()
                raster.state.dbpool.close()
                raster.state.remote.close()
                await reads.close()

    app = Application(
        title=settings.title,
        version="0.1.0",
        openapi_url="/api",
        docs_url="/api.html",
        redoc_url=None,
        lifespan=lifespan,
    )
    stac.state.exports = asyncio.Semaphore(settings.export_concurrency)
    app.state.impact_streams = asyncio.Semaphore(settings.export_concurrency)
    app.state.limits = limits
    app.state.trace_trust, app.state.has_witnesses = trace_trust, bool(traced.log_witnesses.strip())
    app.state.witnesses = witness_vkeys(traced.log_witnesses)
    app.state.metrics = stac.state.metrics = Metrics()
    app.mount("/stac", stac)  # first: routes are looked through in this order
    app.mount("/raster", raster)
    app.raster = raster
    for router in _ROUTERS:
        app.include_router(router)
    add_handlers(app)
    app.add_middleware(Routed)
    app.front = _in_front(app, stac, raster, settings)
    return app


def _in_front(app: Application, stac: FastAPI, raster: FastAPI, settings: ApiSettings) -> ASGIApp:
    """What a request goes through before FastAPI sees it; most are answered here. From the inside out.

    What is put in front of `Documents` and looks at its requests must shut the door (`api.doors`), by which they come past it.
    """
    limits: Limits = app.state.limits
    direct: ASGIApp = app.routed if is_traced() else Direct(app.routed, stac, settings)
    cors = CORSMiddleware(
        Encoded(PrivateAnswers(direct)), allow_origins=["*"], allow_headers=["*"],
        allow_methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"],
        expose_headers=[
            PARTIAL, OVERVIEW,
            "ETag", "Link", "Accept-Patch", "Preference-Applied", "WWW-Authenticate", *tus_headers.EXPOSED, *LIMITS_EXPOSED,
        ],
    )  # fmt: skip
    public = PublicUrl(cors, settings.public_url)
    documents = Documents(public, lambda: getattr(stac.state, "changes", None), app)
    places = Places(settings, lambda: raster.state.remote)
    tiles = app.state.tile_cache = TileCache(
        Heads(documents),
        {
            ITEM_PIXELS: ItemVersions(lambda: app.state.primary()),
            COLLECTION_PIXELS: CollectionVersions(lambda: app.state.primary()),
        },
        settings,
        app.state.metrics,
        None
        if is_traced()
        else DirectTiles(raster, reader_of(places), settings.max_picture_pixels, app.state.metrics.note_fallback),
    )
    scaled = Scaled(tiles)
    if not limits.is_on and not is_traced():
        app.door = Door(documents.ready, app.state.metrics)
    limited = Limited(scaled, app, limits, app.state.metrics) if limits.is_on else scaled
    identified = Identified(Signed(limited, raster), lambda: getattr(getattr(app.state, "parts", None), "people", None))
    return Measured(identified, app.state.metrics)


def _sync_pool(database: DatabaseSettings) -> ConnectionPool:
    """The pool of the tile routes, which run in threads."""
    import psycopg

    return ConnectionPool(
        database.conninfo,
        min_size=0,
        max_size=database.max_conn_size,
        timeout=database.connect_timeout_s * 2,
        check=ConnectionPool.check_connection,
        kwargs={
            "autocommit": True,
            "options": psycopg_options(database, SHORT_READS),
            "cursor_factory": psycopg.RawCursor,
        },
        open=True,
    )
