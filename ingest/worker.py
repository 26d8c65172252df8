"""The worker: takes jobs from the queue in PostgreSQL, keeps the log's sequencer going, takes up the jobs of dead workers.

Any number of workers may run, on any number of machines. A job is enqueued in the transaction of the change that makes
it due (`defer_in`), so neither comes without the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import procrastinate
import psycopg
from procrastinate import exceptions, jobs
from procrastinate.job_context import JobContext
from procrastinate.retry import BaseRetryStrategy, RetryDecision
from psycopg.types.json import Jsonb
from psycopg_pool import PoolTimeout

from db import resolve
from db.errors import DatabaseUnavailable
from db.pools import Connection, Pool, open_pool
from db.queries import sql
from db.settings import DatabaseSettings
from ingest.alerting import posting, send_alerts
from ingest.collection_files import ensure_collections
from ingest.collection_harvest import COLLECTIONS, harvest_collections
from ingest.errors import SourceInvalid, UpstreamChanged, UpstreamUnavailable
from ingest.follow import follow
from ingest.harvest import HarvestBusy, Order, Tools, harvest, interrupt_silent_runs, patience_of
from ingest.model import Source
from ingest.operator_files import adopt_files, build_indexes
from ingest.overviews.density import keep_density
from ingest.past_items import settle_past_items
from ingest.repacking import pack_waiting
from ingest.settings import IngestSettings
from ingest.source_files import find_mapping, find_source, load_sources
from ingest.subscription import followed
from ingest.summary_making import rebuild_due
from ingest.uploads import processing as uploads
from ingest.uploads.originals import StoreFailed
from ingest.uploads.removal import sweep
from ingest.uploads.self_check import report_protection
from ingest.upstream_lineage import trusted
from lineage.cosigning import Cosigning, cosigners
from lineage.errors import LineageError
from lineage.keys import Signer, load_signer
from lineage.projector import project
from lineage.published import Published
from lineage.sequencer import sequence
from lineage.settings import LineageSettings
from lineage.stamping import Stamping

log = logging.getLogger(__name__)

QUEUE = "federator"
HARVEST = "harvest"
HARVEST_ALL = "harvest_all"
FOLLOW = "follow"
FOLLOW_ALL = "follow_all"
PROCESS_UPLOAD = "process_upload"
#: Seconds between looks for items that others have stored.
PACKING_S = 5.0
#: Seconds between looks for alerts that are to be sent.
ALERTS_S = 2.0
#: Seconds between looks for footprints that have come or gone.
DENSITY_S = 2.0
#: Seconds between rounds of making summaries anew, and between looks for indexes that wait to be built.
SUMMARIES_S = 5.0
#: Seconds for an answer of a witness.
WITNESS_S = 5.0
#: Between two looks whether the newest checkpoint is to be stamped.
STAMPS_S = 60.0
#: The supervisor waits 20 s before it kills; a harvest's page and its report fit into this.
GRACEFUL_S = 8.0
_GONE = (
    DatabaseUnavailable,
    psycopg.OperationalError,
    psycopg.InterfaceError,
    PoolTimeout,
    exceptions.ConnectorException,
)


async def defer_in(conn: Connection, task_name: str, *, lock: str | None = None, **arguments: Any) -> int | None:
    """Enqueue a job in the caller's transaction; return its id, or None when one with the same `lock` waits already.

    Jobs with one `lock` never run at the same time. `arguments` must be JSON.
    """
    try:
        async with conn.transaction():
            cursor = await conn.execute(sql("harvest.defer_job"), (QUEUE, task_name, lock, lock, Jsonb(arguments)))
            row = await cursor.fetchone()
    except psycopg.errors.UniqueViolation:
        return None
    return None if row is None else int(row["id"])


async def defer_harvest(conn: Connection, source_id: str, collection_id: str) -> int | None:
    """Enqueue a harvest; None when one of the same source and collection waits already."""
    lock = f"{HARVEST}/{source_id}/{collection_id}"
    return await defer_in(conn, HARVEST, lock=lock, source_id=source_id, collection_id=collection_id)


async def defer_everything(pool: Pool, sources: Mapping[str, Source]) -> int:
    """Enqueue a harvest of each collection of each source; return how many did not wait already."""
    number = 0
    async with pool.connection() as conn, conn.transaction():
        for source in sources.values():
            for name in [mapping.id for mapping in source.collections] or [COLLECTIONS]:
                number += await defer_harvest(conn, source.id, name) is not None
    return number


class _Again(BaseRetryStrategy):
    """When a failed job is tried again: by what went wrong, not by a fixed rhythm."""

    def get_retry_decision(self, *, exception: BaseException, job: jobs.Job) -> RetryDecision | None:
        """None leaves the job failed, for a person to look at."""
        if isinstance(exception, UpstreamChanged | SourceInvalid):
            return None
        if isinstance(exception, (asyncio.CancelledError, HarvestBusy, *_GONE)):
            return RetryDecision(retry_in={"seconds": 15 if isinstance(exception, HarvestBusy) else 1})
        if isinstance(exception, UpstreamUnavailable) and job.attempts < 20:
            wait_s = max(exception.retry_after_s or 0, min(30 * 2**job.attempts, 3600))
            return RetryDecision(retry_in={"seconds": int(wait_s)})
        if isinstance(
            exception, StoreFailed
        ):  # the upload itself counts (`uploads.processing`): half a minute to half an hour apart
            return RetryDecision(retry_in={"seconds": min(30 * 4**job.attempts, 1800)})
        if job.attempts < 3:
            return RetryDecision(retry_in={"seconds": 5 * 2**job.attempts})
        return None


@dataclass(frozen=True, slots=True)
class _Parts:
    """What jobs work with."""

    settings: IngestSettings
    pool: Pool
    sources: dict[str, Source]


def create_worker_app(
    settings: IngestSettings, database: DatabaseSettings, sources: Mapping[str, Source] | None = None
) -> procrastinate.App:
    """Return the queue's application with all tasks, the periodic ones as settings and `sources` ask; open it before use."""
    connector = procrastinate.PsycopgConnector(conninfo=database.conninfo, min_size=1, max_size=4)
    app = procrastinate.App(connector=connector)

    @app.task(name=HARVEST, queue=QUEUE, pass_context=True, retry=_Again())
    async def harvest_task(context: JobContext, source_id: str, collection_id: str) -> None:
        parts: _Parts = context.additional_context["parts"]
        source = find_source(parts.sources, source_id)
        tools = Tools(
            parts.pool, parts.sources, settings.page_size, patience_of(settings), drift_share=settings.drift_share,
            trust=trusted(LineageSettings()), networks=settings.asset_networks_allowed(),
        )  # fmt: skip
        if source.offers == "collections":
            progress = await harvest_collections(source, tools)
        else:
            progress = await harvest(Order(source, find_mapping(source, collection_id)), tools)
        log.info("harvest done", extra={"source": source_id, "collection": collection_id, "run": progress.run_id})

    @app.task(name=FOLLOW, queue=QUEUE, pass_context=True, retry=_Again())
    async def follow_task(context: JobContext, source_id: str) -> None:
        parts: _Parts = context.additional_context["parts"]
        tools = Tools(parts.pool, parts.sources, patience=patience_of(settings))
        try:
            done = await follow(find_source(parts.sources, source_id), tools)
        except HarvestBusy:  # somebody else follows this source: that is enough
            return
        except (SourceInvalid, UpstreamChanged) as error:  # the next look comes in a minute: no failed job each time
            log.error("a subscription cannot be followed", extra={"source": source_id, "reason": str(error)})
            return
        log.info("followed", extra={"source": source_id, "notifications": done.notifications})

    @app.task(name=FOLLOW_ALL, queue=QUEUE, pass_context=True)
    async def follow_all_task(context: JobContext, timestamp: int) -> None:
        parts: _Parts = context.additional_context["parts"]
        async with parts.pool.connection() as conn:
            for source in followed(parts.sources.values()):
                await defer_in(conn, FOLLOW, lock=f"{FOLLOW}/{source.id}", source_id=source.id)

    @app.task(name=PROCESS_UPLOAD, queue=QUEUE, pass_context=True, retry=_Again())
    async def process_upload_task(context: JobContext, upload_id: str) -> None:
        parts: _Parts = context.additional_context["parts"]
        await uploads.process(parts.pool, settings, upload_id)

    @app.task(name=HARVEST_ALL, queue=QUEUE, pass_context=True)
    async def harvest_all_task(context: JobContext, timestamp: int) -> None:
        parts: _Parts = context.additional_context["parts"]
        await defer_everything(parts.pool, parts.sources)

    if settings.harvest_cron:
        app.periodic(cron=settings.harvest_cron)(harvest_all_task)
    if settings.follow_cron and followed((sources or {}).values()):
        app.periodic(cron=settings.follow_cron)(follow_all_task)
    return app


async def run_worker(settings: IngestSettings, database: DatabaseSettings, *, stop: asyncio.Event) -> None:
    """Work until `stop`; a database that goes away is waited for.

    Raises:
        SourceInvalid: a source's file is wrong.
    """
    sources = load_sources(settings.sources_dir)
    check = asyncio.create_task(report_protection(settings))  # takes seconds, and jobs need not wait for it
    try:
        await _work_until(settings, database, sources, stop)
    finally:
        check.cancel()
        await asyncio.wait({check})


async def _work_until(
    settings: IngestSettings, database: DatabaseSettings, sources: dict[str, Source], stop: asyncio.Event
) -> None:
    """Work, and wait for a database that went away."""
    pause_s = 0.5
    while not stop.is_set():
        begun = asyncio.get_running_loop().time()
        try:
            await _work_while_connected(settings, database, sources, stop)
        except* _GONE as group:
            reason = type(group.exceptions[0]).__name__
            log.warning("database away, waiting", extra={"reason": reason, "seconds": pause_s})
        if asyncio.get_running_loop().time() - begun > 30:
            pause_s = 0.5
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), pause_s)
        pause_s = min(pause_s * 2, 5.0)


async def _work_while_connected(
    settings: IngestSettings, database: DatabaseSettings, sources: dict[str, Source], stop: asyncio.Event
) -> None:
    database = resolve(database)  # the private cluster may have come back on another port
    app = create_worker_app(settings, database, sources)
    signer, published = load_signer(LineageSettings()), Published.of(LineageSettings())
    async with (
        open_pool(database) as pool, app.open_async(), httpx.AsyncClient(timeout=WITNESS_S) as http,
        posting(pool, settings.public_url, settings.webhook_networks_allowed()) as post,
    ):  # fmt: skip
        cosigning = Cosigning(cosigners(LineageSettings().log_witnesses.split()), http)
        parts = _Parts(settings, pool, sources)
        await adopt_files(pool, settings.collections_dir)
        await ensure_collections(pool)
        async with asyncio.TaskGroup() as group:
            loops = [
                group.create_task(
                    _every(settings.sequencer_interval_s, lambda: _sequence(pool, signer, published, cosigning))
                ),
                group.create_task(_every(settings.worker_stalled_s / 2, lambda: _take_up(app, parts))),
                group.create_task(
                    _every(settings.sequencer_interval_s, lambda: _unharmed(lambda: project(pool), "the graph"))
                ),
                group.create_task(_every(ALERTS_S, lambda: _unharmed(lambda: send_alerts(post), "alerts"))),
                group.create_task(_every(PACKING_S, lambda: pack_waiting(pool))),
                group.create_task(
                    _every(PACKING_S, lambda: _unharmed(lambda: settle_past_items(pool), "documents of the past"))
                ),
                group.create_task(_every(DENSITY_S, lambda: keep_density(pool))),
                group.create_task(_every(SUMMARIES_S, lambda: build_indexes(pool))),
                group.create_task(_every(SUMMARIES_S, lambda: rebuild_due(pool, settings.summary_rest_s))),
                group.create_task(_every(settings.upload_sweep_s, lambda: sweep(pool, settings))),
            ]
            if stamping := _stamping(http):
                loops.append(
                    group.create_task(_every(STAMPS_S, lambda: _unharmed(lambda: stamping.ask(pool), "stamps")))
                )
            await _serve_jobs(app, parts, stop)
            for loop in loops:
                loop.cancel()
        with contextlib.suppress(psycopg.Error, LineageError):
            await sequence(pool, signer, published=published)
            await project(pool)


async def _serve_jobs(app: procrastinate.App, parts: _Parts, stop: asyncio.Event) -> None:
    """Run jobs until `stop`, then let the running ones end for a moment before they are put back."""
    settings = parts.settings
    worker = asyncio.create_task(
        app.run_worker_async(
            queues=[QUEUE],
            name="federator",
            concurrency=settings.worker_concurrency,
            install_signal_handlers=False,
            fetch_job_polling_interval=2.0,
            update_heartbeat_interval=settings.worker_heartbeat_s,
            stalled_worker_timeout=settings.worker_stalled_s,
            shutdown_graceful_timeout=GRACEFUL_S,
            delete_jobs="successful",
            additional_context={"parts": parts},
        )
    )
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({worker, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not worker.done():
        worker.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await worker
    if not stop.is_set():
        raise exceptions.ConnectorException("the queue's worker ended")


async def _sequence(pool: Pool, signer: Signer, published: Published, cosigning: Cosigning) -> None:
    """Number new events and have them witnessed; a log that needs a person does not keep the queue from working."""
    try:
        await cosigning.ask(pool)  # first: what a witness contradicts is not continued
        if await sequence(pool, signer, published=published):
            await cosigning.ask(pool)
    except LineageError as error:
        log.error("the log cannot go on", extra={"reason": str(error)})
        await asyncio.sleep(60)


def _stamping(http: httpx.AsyncClient) -> Stamping | None:
    try:
        return Stamping.of(LineageSettings(), http)
    except LineageError as error:
        log.error("checkpoints are not stamped", extra={"reason": str(error)})
        return None


async def _unharmed(work: Callable[[], Awaitable[Any]], what: str) -> None:
    """Do what may wait: an event or a row that it cannot read keeps neither the queue nor the log from working."""
    try:
        await work()
    except _GONE:
        raise
    except Exception:
        log.exception("it cannot go on", extra={"what": what})
        await asyncio.sleep(60)


async def _every(seconds: float, work: Callable[[], Awaitable[Any]]) -> None:
    while True:
        await work()
        await asyncio.sleep(seconds)


async def _take_up(app: procrastinate.App, parts: _Parts) -> None:
    """Put the jobs of dead workers back into the queue, mark their runs as interrupted, sweep what is of no use any more."""
    stalled = await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=parts.settings.worker_stalled_s)
    for job in stalled:
        log.warning("taking up a dead worker's job", extra={"job": job.id, "task": job.task_name})
        try:
            await app.job_manager.retry_job(job)
        except exceptions.ConnectorException:  # the same work waits in the queue again already
            await app.job_manager.finish_job(job, jobs.Status.FAILED, delete_job=True)
    await interrupt_silent_runs(parts.pool)
    await uploads.repair(parts.pool)
    async with parts.pool.connection() as conn:
        await conn.execute(sql("harvest.sweep_left_places"))
