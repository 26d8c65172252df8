"""The harvest loop: one run reads one collection of one source from where the last run stopped.

A run holds a session lock for its source and collection, so two never work at once and a dead one is known as such.
Its cursor moves only together with the data (see `ingest.page`), so kill -9 at any moment repeats a page at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import httpx
import orjson
import psycopg
from psycopg.types.json import Jsonb

from db.pools import Connection, Pool
from db.queries import sql
from ingest.adapters import Harvestable, adapter_for
from ingest.budget import SharedBudget
from ingest.collection_files import ensure_collections
from ingest.errors import IngestError, UpstreamChanged
from ingest.http import Patience, Traffic, open_client
from ingest.model import CollectionMapping, Cursor, Page, Query, Source
from ingest.outside import Network
from ingest.page import Counts, Harvested, normalise, store_page, unchanged
from ingest.settings import IngestSettings
from ingest.store import RETRYABLE
from ingest.upstream_lineage import Asking, ask
from ingest.withdraw import follow_deletions
from lineage.trace_trust import NOBODY, Trust

log = logging.getLogger(__name__)

STORE_ATTEMPTS = 6
BEAT_S = 10.0
#: Refusals that say that records have another shape, and from how many records on a page is judged by them.
DRIFT_CODES = frozenset(
    {"record-malformed", "field-missing", "field-malformed", "datetime-invalid", "name-contradicts"}
)
DRIFT_RECORDS = 20


class HarvestBusy(IngestError):
    """Another run works on this source and collection now."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a run has done so far, or at its end; `total` is the source's own estimate."""

    source: str
    collection: str
    run_id: int
    status: str = "running"
    pages: int = 0
    counts: Counts = field(default_factory=Counts)
    total: int | None = None
    seconds: float = 0.0
    withdrawn: int = 0
    unread: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a page: counts, upstream fields that nobody read, and how many records had another shape than we know."""

    counts: Counts
    unread: Mapping[str, int]
    malformed: int


@dataclass(frozen=True, slots=True)
class Order:
    """What to harvest, and how much of it."""

    source: Source
    mapping: CollectionMapping
    query: Query = field(default_factory=Query)
    max_items: int | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.source.id, self.mapping.id

    @property
    def lock_name(self) -> str:
        return f"{self.source.id}/{self.mapping.id}"

    @property
    def query_key(self) -> str:
        """'' for the plain run; a limited one has a cursor of its own and never moves the plain one's."""
        query = self.query
        if query == Query():
            return ""
        limits: dict[str, Any] = {"since": query.since, "until": query.until, "bbox": query.bbox}
        return orjson.dumps(
            {name: limit for name, limit in limits.items() if limit is not None}, option=orjson.OPT_SORT_KEYS
        ).decode()


@dataclass(frozen=True, slots=True)
class Tools:
    """What a run works with. `inner` replaces the network's transport in tests; `trust`, `networks`: see `ingest.upstream_lineage`."""

    pool: Pool
    sources: Mapping[str, Source]
    page_size: int = 500
    patience: Patience = field(default_factory=Patience)
    on_progress: Callable[[Progress], None] = lambda progress: None
    inner: httpx.AsyncBaseTransport | None = None
    drift_share: float = 0.1
    trust: Trust = NOBODY
    networks: tuple[Network, ...] = ()


def patience_of(settings: IngestSettings) -> Patience:
    """How long to try, as the operator set it."""
    return Patience(
        attempts=settings.retry_attempts,
        base_s=settings.retry_base_s,
        retry_after_max_s=settings.retry_after_max_s,
        timeout_s=settings.request_timeout_s,
        max_answer_bytes=settings.max_answer_bytes,
    )


async def harvest(order: Order, tools: Tools) -> Progress:
    """Harvest until the source has no more or `max_items` records were read; return what was done.

    Raises:
        HarvestBusy: another run works on the same source and collection.
        UpstreamUnavailable, UpstreamChanged, SourceInvalid: the run is recorded as failed and may be started again.
        psycopg.Error: the database went away; the next run marks this one as interrupted.
    """
    async with recorded_run(order, tools.pool) as (run_id, lock):
        await ensure_collections(tools.pool, [order.mapping.id])
        progress = await _work(order, tools, run_id, lock)
    return replace(progress, status="done")


@contextlib.asynccontextmanager
async def recorded_run(order: Order, pool: Pool) -> AsyncIterator[tuple[int, Connection]]:
    """Hold the run's lock and record how the block ends; yields the run's id and the session that holds the lock.

    Raises:
        HarvestBusy: another run works on the same source and collection.
    """
    async with run_lock(order, pool) as lock, recorded(order, pool) as run_id:
        yield run_id, lock


@contextlib.asynccontextmanager
async def recorded(order: Order, pool: Pool) -> AsyncIterator[int]:
    """Record a run and how the block ends; yields its id. The caller holds the run's lock."""
    run_id = await _start(order, pool)
    beat = asyncio.create_task(_beat(run_id, pool))
    try:
        yield run_id
    except asyncio.CancelledError:
        await asyncio.shield(_finish(pool, run_id, "interrupted", "stopped by the user or the system"))
        raise
    except IngestError as error:
        await _finish(pool, run_id, "failed", str(error)[:2000])
        raise
    except Exception as error:
        await _finish(pool, run_id, "failed", type(error).__name__)
        raise
    finally:
        beat.cancel()
    await _finish(pool, run_id, "done", None)


@contextlib.asynccontextmanager
async def run_lock(order: Order, pool: Pool) -> AsyncIterator[Connection]:
    """Hold the run's lock; yields its session, which must stay alive for the lock to hold.

    Raises:
        HarvestBusy: another run holds it.
    """
    async with pool.connection() as conn:
        row = await (await conn.execute(sql("harvest.try_lock_run"), (order.lock_name,))).fetchone()
        if row is None or not row["locked"]:
            raise HarvestBusy(f"another run harvests {order.mapping.id} from {order.source.id} now")
        try:
            yield conn
        finally:
            with contextlib.suppress(psycopg.Error):  # the lock goes with its session
                await conn.execute(sql("upstream.unlock_session"))


async def _start(order: Order, pool: Pool) -> int:
    async with pool.connection() as conn:
        row = await (await conn.execute(sql("harvest.start_run"), (*order.key, order.query_key))).fetchone()
    assert row is not None
    return int(row["id"])


async def _finish(pool: Pool, run_id: int, status: str, error: str | None) -> None:
    with contextlib.suppress(psycopg.Error):  # without a database the next run marks this one as interrupted
        async with pool.connection() as conn:
            await conn.execute(sql("harvest.finish_run"), (run_id, status, error))


async def _beat(run_id: int, pool: Pool) -> None:
    """Say that the run lives, also while an upstream makes it wait."""
    while True:
        await asyncio.sleep(BEAT_S)
        with contextlib.suppress(psycopg.Error):
            async with pool.connection() as conn:
                await conn.execute(sql("harvest.beat_run"), (run_id,))


async def _work(order: Order, tools: Tools, run_id: int, lock: Connection) -> Progress:
    page_size = min(tools.page_size, order.max_items or tools.page_size)
    adapter = adapter_for(order.source, order.mapping, order.query, page_size)
    harvested = Harvested(run_id, order.source, order.mapping, tools.sources, order.query_key)
    progress = Progress(order.source.id, order.mapping.id, run_id)
    begun = time.monotonic()
    traffic, unread = Traffic(), Counter[str]()
    is_whole = True
    try:
        async with open_client(
            order.source, tools.patience, tools.inner, SharedBudget(order.source, lock), traffic
        ) as http:
            cursor = await _resume(order, tools.pool, adapter)
            async with aclosing(_pages(adapter, http, cursor)) as pages:
                async for page in pages:
                    await lock.execute(
                        sql("harvest.still_here")
                    )  # a lost session has lost the lock: another run may work
                    kept = _cut(page, order.max_items, progress.counts.fetched)
                    stored = await store_with_retries(tools.pool, adapter, harvested, kept, cut=kept is not page)
                    unread.update(stored.unread)
                    progress = replace(
                        progress,
                        pages=progress.pages + 1,
                        counts=progress.counts + stored.counts,
                        total=page.total if page.total is not None else progress.total,
                        seconds=time.monotonic() - begun,
                        unread=unread,
                    )
                    extra = {"source": order.source.id, "items": stored.counts.fetched, "run": run_id}
                    log.info("page stored", extra=extra)
                    tools.on_progress(progress)
                    _check_shape(order, tools, stored)
                    if order.max_items is not None and progress.counts.fetched >= order.max_items:
                        is_whole = False
                        break
            if is_whole and order.query == Query():
                withdrawn = await follow_deletions(tools.pool, adapter, http, harvested)
                progress = replace(progress, withdrawn=withdrawn)
        if is_whole and order.query == Query():
            await ask(
                order.source,
                order.mapping.id,
                Asking(tools.pool, tools.patience, tools.trust, tools.networks, tools.inner),
            )
    finally:
        await report_run(tools.pool, order, run_id, traffic, unread)
    if is_whole:
        await _reached_the_end(order, tools.pool, run_id)
    return replace(progress, seconds=time.monotonic() - begun)


def _check_shape(order: Order, tools: Tools, stored: Stored) -> None:
    """Stop when a window's records have another shape than we know: the upstream has changed, and a person must look.

    Raises:
        UpstreamChanged
    """
    fetched = stored.counts.fetched
    if fetched >= DRIFT_RECORDS and stored.malformed > fetched * tools.drift_share:
        raise UpstreamChanged(
            f"{order.source.id} {order.mapping.id}: {stored.malformed} of {fetched} records of a page have another shape than we know; "
            "see `python -m ingest quarantine list`"
        )


async def report_run(pool: Pool, order: Order, run_id: int, traffic: Traffic, unread: Mapping[str, int]) -> None:
    """Keep what the run cost; say once what of the records nobody read."""
    if unread:
        extra = {"source": order.source.id, "collection": order.mapping.id, "fields": dict(unread)}
        log.info("upstream fields that are not read", extra=extra)
    with contextlib.suppress(psycopg.Error):
        async with pool.connection() as conn:
            numbers = (run_id, traffic.requests, traffic.retries, traffic.bytes, Jsonb(dict(unread)))
            await conn.execute(sql("harvest.report_run"), numbers)


async def _pages(adapter: Harvestable, http: httpx.AsyncClient, cursor: Cursor | None) -> AsyncGenerator[Page]:
    async for page in adapter.pages(http, cursor):
        yield page


def _cut(page: Page, max_items: int | None, fetched: int) -> Page:
    """The page with no more records than may still be read."""
    if max_items is None or len(page.records) <= max_items - fetched:
        return page
    return replace(page, records=page.records[: max_items - fetched])


async def store_with_retries(
    pool: Pool, adapter: Harvestable, harvested: Harvested, page: Page, *, cut: bool
) -> Stored:
    """Normalise and store one page, again when PostgreSQL asks for it. A cut page leaves the cursor in front of it."""
    async with pool.connection() as conn:
        same = await unchanged(conn, harvested, page.records)
    normalised = await asyncio.to_thread(normalise, adapter, harvested.mapping, page.records, same)
    cursor = None if cut else page.cursor
    for attempt in range(1, STORE_ATTEMPTS + 1):
        try:
            async with pool.connection() as conn:
                counts = await store_page(conn, harvested, normalised, cursor, page.total)
            malformed = sum(one.code in DRIFT_CODES for one in normalised.refused)
            return Stored(counts, normalised.warnings, malformed)
        except RETRYABLE as error:
            if attempt == STORE_ATTEMPTS:
                raise
            log.info("storing a page again", extra={"reason": type(error).__name__, "attempt": attempt})
            await asyncio.sleep(random.uniform(0, 0.1 * 2**attempt))  # noqa: S311 - full jitter
    raise AssertionError("the last attempt returns or raises")


async def _resume(order: Order, pool: Pool, adapter: Harvestable) -> Cursor | None:
    """Where to begin: behind a run that broke off, or an overlap before the end of one that did not."""
    async with pool.connection() as conn:
        row = await (await conn.execute(sql("harvest.load_cursor"), (*order.key, order.query_key))).fetchone()
    if row is None:
        return None
    position: Cursor = row["position"]
    if not row["complete"]:
        return position
    return adapter.rewound(position, order.mapping.overlap, row["started_at"])


async def _reached_the_end(order: Order, pool: Pool, run_id: int) -> None:
    async with pool.connection() as conn:
        if order.query_key:
            await conn.execute(sql("harvest.drop_cursor"), (*order.key, order.query_key))
        else:
            await conn.execute(sql("harvest.complete_cursor"), (*order.key, order.query_key, run_id))


async def interrupt_silent_runs(pool: Pool, silent_s: float = 6 * BEAT_S) -> int:
    """Mark runs of processes that died as interrupted; return how many."""
    async with pool.connection() as conn:
        cursor = await conn.execute(
            sql("harvest.interrupt_silent_runs"), (timedelta(seconds=silent_s).total_seconds(),)
        )
        return cursor.rowcount
