"""`python -m ingest sources | check | harvest | follow | census | quarantine list|retry | scrub | summaries | worker`.

Exit status: 0 all was stored, 1 something was not (or the upstream or the database failed), 2 the command is wrong,
130 stopped by Ctrl-C (the same command goes on where it stopped).
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import asdict, replace
from typing import Annotated, Any, cast

import httpx
import typer

from db import cluster
from db.pools import open_pool
from db.settings import DatabaseSettings
from ingest import census_command, follow_command, lineage_command, quarantine_command, scrub_command, summaries_command
from ingest.adapters import adapter_for
from ingest.collection_crawl import crawl_collections
from ingest.collection_files import ensure_collections
from ingest.collection_harvest import COLLECTIONS, harvest_collections, order_of
from ingest.command_line import (
    AsJson,
    OneCollection,
    SourceId,
    Time,
    chosen,
    fail,
    guarded,
    known_source,
    number_events,
    open_database,
    query_of,
    run,
    say,
)
from ingest.errors import IngestError, RecordRejected, UpstreamUnavailable
from ingest.harvest import Order, Progress, Tools, harvest, patience_of
from ingest.http import open_client
from ingest.model import CollectionMapping, Query, Source
from ingest.operator_files import adopt_files
from ingest.progress import shown, summary
from ingest.settings import IngestSettings
from ingest.source_files import load_sources
from ingest.upstream_lineage import trusted
from ingest.worker import defer_harvest, run_worker
from lineage.settings import LineageSettings

app = typer.Typer(
    help="Harvest upstream catalogues.", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
app.add_typer(quarantine_command.app, name="quarantine")
app.command(name="census")(census_command.census)
app.command(name="follow")(follow_command.follow_command)
app.command(name="lineage")(lineage_command.lineage_command)
app.command(name="scrub")(scrub_command.scrub_command)
app.command(name="summaries")(summaries_command.summaries_command)


@app.command()
def sources(as_json: AsJson = False) -> None:
    """List the sources and what they offer."""
    with guarded():
        found = load_sources(IngestSettings().sources_dir)
    rows = [
        {
            "id": source.id,
            "title": source.title,
            "protocol": source.protocol,
            "url": source.url,
            "rank": source.rank,
            "login": source.auth.type,
            "collections": [mapping.id for mapping in source.collections],
        }
        for source in found.values()
    ]
    if as_json:
        print(json.dumps({"sources": rows}))
        return
    for row in rows:
        print(f"{row['id']}: {row['title']} ({row['protocol']}, {row['url']})")
        print(f"    {', '.join(cast('list[str]', row['collections']))}")


@app.command()
def check(source_id: SourceId, as_json: AsJson = False) -> None:
    """Ask a source for one record of each collection and say what works. Stores nothing, needs no database."""
    with guarded():
        settings = IngestSettings()
        source, _ = known_source(source_id, settings)
        results: list[dict[str, Any]] = []
        status = run(_check(source, settings, results))
    if as_json:
        print(json.dumps({"source": source.id, "ok": status == 0, "collections": results}))
    else:
        for result in results:
            print(f"{result['collection']}: {'works' if result['ok'] else 'does not work'}, {result['detail']}")
    raise typer.Exit(status)


async def _check(source: Source, settings: IngestSettings, results: list[dict[str, Any]]) -> int:
    async with open_client(source, patience_of(settings)) as http:
        for mapping in source.collections:
            adapter = adapter_for(source, mapping, page_size=1, with_total=False)
            try:
                detail, is_ok = "answers, and has no record", True
                async with aclosing(cast(Any, adapter.pages(http, None))) as pages:
                    async for page in pages:
                        if not page.records:
                            continue
                        product = adapter.item(page.records[0]).product
                        detail = f"oldest product {product}"
                        break
            except RecordRejected as error:
                detail = f"answers, and its oldest record is refused: {error.code}"
            except UpstreamUnavailable as error:
                results.append({"collection": mapping.id, "ok": False, "detail": str(error)})
                break  # the others would wait for the same server
            except IngestError as error:
                detail, is_ok = str(error), False
            results.append({"collection": mapping.id, "ok": is_ok, "detail": detail})
        if source.offers == "collections":
            results.append(await _check_crawl(source, http))
    return 0 if results and all(result["ok"] for result in results) else 1


async def _check_crawl(source: Source, http: httpx.AsyncClient) -> dict[str, Any]:
    """Read the first collection of a source that offers nothing else."""
    try:
        async with aclosing(cast(Any, crawl_collections(http, source, None, page_size=1))) as pages:
            async for page in pages:
                if page.collections:
                    return {"collection": COLLECTIONS, "ok": True, "detail": f"first {page.collections[0]['id']}"}
    except IngestError as error:
        return {"collection": COLLECTIONS, "ok": False, "detail": str(error)}
    return {"collection": COLLECTIONS, "ok": False, "detail": "answers, and has no collection"}


@app.command(name="harvest")
def harvest_command(
    source_id: SourceId,
    collection: OneCollection = None,
    since: Time = None,
    until: Time = None,
    bbox: Annotated[str | None, typer.Option(metavar="W,S,E,N", help="degrees; only products that touch it")] = None,
    max_items: Annotated[int | None, typer.Option(min=1, help="stop after this many records per collection")] = None,
    queue: Annotated[bool, typer.Option("--queue", help="leave it to the worker, do not wait")] = False,
    as_json: AsJson = False,
) -> None:
    """Harvest a source from where the last harvest stopped."""
    query = query_of(since, until, bbox)
    with guarded():
        settings = IngestSettings()
        source, all_sources = known_source(source_id, settings)
        mappings = chosen(source, collection)
        if queue and (query != Query() or max_items):
            fail("--queue takes no limits: the worker harvests everything that is new", 2)
        with open_database() as database:
            if queue:
                raise typer.Exit(run(_enqueue(database, source, mappings, as_json)))
            orders = [Order(source, mapping, query, max_items) for mapping in mappings]
            if source.offers == "collections":
                if query != Query() or max_items:
                    fail(f"{source.id} offers collections without items: there is nothing to limit", 2)
                orders = [order_of(source)]
            status = run(_harvest_all(database, settings, all_sources, orders, as_json))
    raise typer.Exit(status)


async def _enqueue(
    database: DatabaseSettings, source: Source, mappings: Sequence[CollectionMapping], as_json: bool
) -> int:
    jobs: dict[str, int | None] = {}
    async with open_pool(database) as pool, pool.connection() as conn, conn.transaction():
        for name in [mapping.id for mapping in mappings] or [COLLECTIONS]:
            jobs[name] = await defer_harvest(conn, source.id, name)
    if as_json:
        print(json.dumps({"source": source.id, "jobs": jobs}))
    else:
        for name, job in jobs.items():
            print(f"{source.id} {name}: {'waits in the queue already' if job is None else f'job {job}'}")
    return 0


async def _harvest_all(
    database: DatabaseSettings,
    settings: IngestSettings,
    all_sources: dict[str, Source],
    orders: Sequence[Order],
    as_json: bool,
) -> int:
    results: list[dict[str, Any]] = []
    is_good = True
    async with open_pool(database) as pool:
        await adopt_files(pool, settings.collections_dir)
        await ensure_collections(pool)
        trust = trusted(LineageSettings())
        try:
            for order in orders:
                tools = Tools(
                    pool, all_sources, settings.page_size, patience_of(settings), drift_share=settings.drift_share,
                    trust=trust, networks=settings.asset_networks_allowed(),
                )  # fmt: skip
                result = await _harvest_one(order, tools, quiet=as_json)
                results.append(result)
                is_good = is_good and result["status"] == "done" and result["quarantined"] == 0
                if result.get("unavailable"):
                    break  # the other collections would wait for the same server
        finally:
            await number_events(pool)
    if as_json:
        print(json.dumps({"source": orders[0].source.id, "ok": is_good, "collections": results}))
    return 0 if is_good else 1


async def _harvest_one(order: Order, tools: Tools, *, quiet: bool) -> dict[str, Any]:
    title = f"{order.source.id} {order.mapping.id}"
    last: list[Progress] = [Progress(order.source.id, order.mapping.id, 0)]
    try:
        with shown(title, quiet=quiet) as show:
            tools = _showing(tools, show, last)
            if order.source.offers == "collections":
                progress = await harvest_collections(order.source, tools)
            else:
                progress = await harvest(order, tools)
    except IngestError as error:
        say(str(error))
        return _result(last[0], "failed", error=str(error), unavailable=isinstance(error, UpstreamUnavailable))
    if not quiet:
        print(f"{title}: {summary(progress)}", flush=True)
        if progress.counts.quarantined:
            say(f"{title}: {progress.counts.quarantined} refused; see `python -m ingest quarantine list`")
        if progress.unread:
            fields = ", ".join(f"{name} ({count})" for name, count in sorted(progress.unread.items())[:20])
            say(f"{title}: upstream fields that are not read: {fields}")
    return _result(progress, "done")


def _showing(tools: Tools, show: Callable[[Progress], None], last: list[Progress]) -> Tools:
    def on_progress(progress: Progress) -> None:
        last[0] = progress
        show(progress)

    return replace(tools, on_progress=on_progress)


def _result(progress: Progress, status: str, **more: Any) -> dict[str, Any]:
    counts = asdict(progress.counts)
    seconds = round(progress.seconds, 3)
    facts = {**counts, "withdrawn": progress.withdrawn, "unread": dict(progress.unread), "seconds": seconds}
    return {"collection": progress.collection, "status": status, **facts, **more}


@app.command()
def worker() -> None:
    """Run jobs and the log's sequencer until SIGTERM or Ctrl-C."""
    _log_to_stderr()
    with guarded():
        settings = IngestSettings()
        database = DatabaseSettings()
        if not database.is_external and not cluster.is_running(database):
            fail("the database is down: `python -m db start`, or `python -m api up` for everything")
        asyncio.run(_work(settings, database))


async def _work(settings: IngestSettings, database: DatabaseSettings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await run_worker(settings, database, stop=stop)


class _WithFields(logging.Formatter):
    """Appends the fields that a log call gave as `extra`."""

    _OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

    def format(self, record: logging.LogRecord) -> str:
        fields = {name: value for name, value in vars(record).items() if name not in self._OWN}
        line = super().format(record)
        return f"{line} {json.dumps(fields, default=str)}" if fields else line


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_WithFields("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for noisy in ("httpx", "procrastinate"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


if __name__ == "__main__":
    app()
