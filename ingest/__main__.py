"""`python -m ingest sources | check | harvest | quarantine list | worker`.

Exit status: 0 all was stored, 1 something was not (or the upstream or the database failed), 2 the command is wrong,
130 stopped by Ctrl-C (the same command goes on where it stopped).
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import asdict
from typing import Annotated, Any, NoReturn, cast

import psycopg
import typer
from psycopg_pool import PoolTimeout
from pydantic import ValidationError

from db import cluster, resolve
from db.errors import DbError
from db.migrate import migrate
from db.pools import Pool, open_pool
from db.queries import sql
from db.settings import DatabaseSettings
from ingest.adapters import adapter_for
from ingest.collection_files import ensure_collections
from ingest.errors import IngestError, RecordRejected, SourceInvalid, UpstreamUnavailable
from ingest.harvest import Order, Progress, Tools, harvest, patience_of
from ingest.http import open_client
from ingest.limits import parse_bbox, parse_time
from ingest.model import CollectionMapping, Query, Source
from ingest.progress import shown, summary
from ingest.settings import IngestSettings
from ingest.source_files import find_mapping, find_source, load_sources
from ingest.worker import defer_harvest, run_worker
from lineage.errors import LineageError
from lineage.keys import load_signer
from lineage.sequencer import sequence
from lineage.settings import LineageSettings

app = typer.Typer(
    help="Harvest upstream catalogues.", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
quarantine = typer.Typer(help="Records that were refused.", no_args_is_help=True)
app.add_typer(quarantine, name="quarantine")

AsJson = Annotated[bool, typer.Option("--json", help="one JSON object on standard output, nothing else there")]
SourceId = Annotated[str, typer.Argument(help="id of a source, see `sources`")]
OneCollection = Annotated[str | None, typer.Option(help="only this federated collection")]
Time = Annotated[str | None, typer.Option(metavar="TIME", help="ISO 8601; without a zone UTC")]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _fail(text: str, status: int = 1) -> NoReturn:
    _say(text)
    raise typer.Exit(status)


@contextmanager
def _guarded() -> Iterator[None]:
    """Turn what can go wrong into a message and an exit status."""
    try:
        yield
    except ValidationError as error:
        _fail("\n".join(f"setting {'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()))
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        _fail("the database lacks our tables: run `python -m db migrate`")
    except (DbError, IngestError, LineageError) as error:
        _fail(str(error))
    except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout) as error:
        _fail(f"the database went away ({type(error).__name__}); the same command goes on where this one stopped")
    except (KeyboardInterrupt, asyncio.CancelledError):
        _fail("stopped; the same command goes on from here", 130)


@contextmanager
def _database() -> Iterator[DatabaseSettings]:
    """A reachable database; a private cluster that was down is started, and stopped again at the end."""
    settings = DatabaseSettings()
    was_down = not settings.is_external and not cluster.is_running(settings)
    if was_down:
        cluster.start(settings)
    try:
        resolved = resolve(settings)
        if was_down:
            migrate(resolved)
        yield resolved
    finally:
        if was_down:
            cluster.stop(settings)


def _run(work: Coroutine[Any, Any, int]) -> int:
    """Run to the end or to SIGINT or SIGTERM, which cancel it so that it can record where it stopped."""

    async def main() -> int:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    return asyncio.run(main())


def _known_source(source_id: str, settings: IngestSettings) -> tuple[Source, dict[str, Source]]:
    sources = load_sources(settings.sources_dir)
    try:
        return find_source(sources, source_id), sources
    except SourceInvalid as error:
        _fail(str(error), 2)


def _chosen(source: Source, collection: str | None) -> tuple[CollectionMapping, ...]:
    if collection is None:
        return source.collections
    try:
        return (find_mapping(source, collection),)
    except SourceInvalid as error:
        _fail(str(error), 2)


@app.command()
def sources(as_json: AsJson = False) -> None:
    """List the sources and what they offer."""
    with _guarded():
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
    with _guarded():
        settings = IngestSettings()
        source, _ = _known_source(source_id, settings)
        results: list[dict[str, Any]] = []
        status = _run(_check(source, settings, results))
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
    return 0 if results and all(result["ok"] for result in results) else 1


def _query(since: str | None, until: str | None, bbox: str | None) -> Query:
    query = Query(parse_time(since, "--since"), parse_time(until, "--until"), parse_bbox(bbox))
    if query.since and query.until and query.since >= query.until:
        raise typer.BadParameter("--since must be before --until")
    return query


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
    query = _query(since, until, bbox)
    with _guarded():
        settings = IngestSettings()
        source, all_sources = _known_source(source_id, settings)
        mappings = _chosen(source, collection)
        if queue and (query != Query() or max_items):
            _fail("--queue takes no limits: the worker harvests everything that is new", 2)
        with _database() as database:
            if queue:
                raise typer.Exit(_run(_enqueue(database, source, mappings, as_json)))
            orders = [Order(source, mapping, query, max_items) for mapping in mappings]
            status = _run(_harvest_all(database, settings, all_sources, orders, as_json))
    raise typer.Exit(status)


async def _enqueue(
    database: DatabaseSettings, source: Source, mappings: Sequence[CollectionMapping], as_json: bool
) -> int:
    jobs: dict[str, int | None] = {}
    async with open_pool(database) as pool, pool.connection() as conn, conn.transaction():
        for mapping in mappings:
            jobs[mapping.id] = await defer_harvest(conn, source.id, mapping.id)
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
        await ensure_collections(pool)
        try:
            for order in orders:
                tools = Tools(pool, all_sources, settings.page_size, patience_of(settings))
                result = await _harvest_one(order, tools, quiet=as_json)
                results.append(result)
                is_good = is_good and result["status"] == "done" and result["quarantined"] == 0
                if result.get("unavailable"):
                    break  # the other collections would wait for the same server
        finally:
            await _sequence(pool)
    if as_json:
        print(json.dumps({"source": orders[0].source.id, "ok": is_good, "collections": results}))
    return 0 if is_good else 1


async def _harvest_one(order: Order, tools: Tools, *, quiet: bool) -> dict[str, Any]:
    title = f"{order.source.id} {order.mapping.id}"
    last: list[Progress] = [Progress(order.source.id, order.mapping.id, 0)]
    try:
        with shown(title, quiet=quiet) as show:
            progress = await harvest(order, _showing(tools, show, last))
    except IngestError as error:
        _say(str(error))
        return _result(last[0], "failed", error=str(error), unavailable=isinstance(error, UpstreamUnavailable))
    if not quiet:
        print(f"{title}: {summary(progress)}", flush=True)
        if progress.counts.quarantined:
            _say(f"{title}: {progress.counts.quarantined} refused; see `python -m ingest quarantine list`")
    return _result(progress, "done")


def _showing(tools: Tools, show: Callable[[Progress], None], last: list[Progress]) -> Tools:
    def on_progress(progress: Progress) -> None:
        last[0] = progress
        show(progress)

    return Tools(tools.pool, tools.sources, tools.page_size, tools.patience, on_progress)


def _result(progress: Progress, status: str, **more: Any) -> dict[str, Any]:
    counts = asdict(progress.counts)
    seconds = round(progress.seconds, 3)
    return {"collection": progress.collection, "status": status, **counts, "seconds": seconds, **more}


async def _sequence(pool: Pool) -> None:
    """Give the new events their numbers now, without a worker; one that runs does it anyway."""
    await sequence(pool, load_signer(LineageSettings()))


@quarantine.command(name="list")
def quarantine_list(
    source: Annotated[str | None, typer.Option(help="only this source")] = None,
    code: Annotated[str | None, typer.Option(help="only this reason")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    as_json: AsJson = False,
) -> None:
    """List refused records, newest first."""
    with _guarded(), _database() as database:
        rows = asyncio.run(_quarantine_rows(database, source, code, limit))
    if as_json:
        print(json.dumps({"records": rows}, default=str))
        return
    for row in rows:
        print(
            f"{row['last_seen']:%Y-%m-%dT%H:%M:%SZ} {row['source_id']} {row['record_id']} {row['code']}: {row['detail']}"
        )
    if not rows:
        _say("nothing is in quarantine")


async def _quarantine_rows(
    database: DatabaseSettings, source: str | None, code: str | None, limit: int
) -> list[dict[str, Any]]:
    async with open_pool(database) as pool, pool.connection() as conn:
        return await (await conn.execute(sql("harvest.list_quarantine"), (source, code, limit))).fetchall()


@app.command()
def worker() -> None:
    """Run jobs and the log's sequencer until SIGTERM or Ctrl-C."""
    _log_to_stderr()
    with _guarded():
        settings = IngestSettings()
        database = DatabaseSettings()
        if not database.is_external and not cluster.is_running(database):
            _fail("the database is down: `python -m db start`, or `python -m api up` for everything")
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
