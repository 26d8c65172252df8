"""What the commands of `python -m ingest` share: options, messages, exit status, the database."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import psycopg
import typer
from psycopg_pool import PoolTimeout
from pydantic import ValidationError

from db import cluster, resolve
from db.errors import DbError
from db.migrate import migrate
from db.pools import Pool
from db.settings import DatabaseSettings
from ingest.errors import IngestError, SourceInvalid
from ingest.limits import parse_bbox, parse_time
from ingest.model import CollectionMapping, Query, Source
from ingest.settings import IngestSettings
from ingest.source_files import find_mapping, find_source, load_sources
from lineage.errors import LineageError
from lineage.keys import load_signer
from lineage.published import Published
from lineage.sequencer import sequence
from lineage.settings import LineageSettings

AsJson = Annotated[bool, typer.Option("--json", help="one JSON object on standard output, nothing else there")]
SourceId = Annotated[str, typer.Argument(help="id of a source, see `sources`")]
OneCollection = Annotated[str | None, typer.Option(help="only this federated collection")]
Time = Annotated[str | None, typer.Option(metavar="TIME", help="ISO 8601; without a zone UTC")]


def say(text: str) -> None:
    """A line for the person, beside the output."""
    print(text, file=sys.stderr, flush=True)


def fail(text: str, status: int = 1) -> NoReturn:
    """Say what is wrong and end with this exit status."""
    say(text)
    raise typer.Exit(status)


@contextmanager
def guarded() -> Iterator[None]:
    """Turn what can go wrong into a message and an exit status."""
    try:
        yield
    except ValidationError as error:
        fail("\n".join(f"setting {'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()))
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        fail("the database lacks our tables: run `python -m db migrate`")
    except (DbError, IngestError, LineageError) as error:
        fail(str(error))
    except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout) as error:
        fail(f"the database went away ({type(error).__name__}); the same command goes on where this one stopped")
    except (KeyboardInterrupt, asyncio.CancelledError):
        fail("stopped; the same command goes on from here", 130)


@contextmanager
def open_database() -> Iterator[DatabaseSettings]:
    """A reachable database; a private cluster that was down is started, and stopped again at the end.

    A private one is migrated although it runs: the command that made it may have been killed before it came to that.
    """
    settings = DatabaseSettings()
    was_down = not settings.is_external and not cluster.is_running(settings)
    if was_down:
        cluster.start(settings)
    try:
        resolved = resolve(settings)
        if not settings.is_external:
            migrate(resolved)
        yield resolved
    finally:
        if was_down:
            cluster.stop(settings)


def run(work: Coroutine[Any, Any, int]) -> int:
    """Run to the end or to SIGINT or SIGTERM, which cancel it so that it can record where it stopped."""

    async def main() -> int:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    return asyncio.run(main())


def known_source(source_id: str, settings: IngestSettings) -> tuple[Source, dict[str, Source]]:
    """The source of that id and all sources."""
    sources = load_sources(settings.sources_dir)
    try:
        return find_source(sources, source_id), sources
    except SourceInvalid as error:
        fail(str(error), 2)


def chosen(source: Source, collection: str | None) -> tuple[CollectionMapping, ...]:
    """The source\'s collections, or the one that was asked for."""
    if collection is None:
        return source.collections
    try:
        return (find_mapping(source, collection),)
    except SourceInvalid as error:
        fail(str(error), 2)


def query_of(since: str | None, until: str | None, bbox: str | None) -> Query:
    """The limits of a harvest or census as typed."""
    query = Query(parse_time(since, "--since"), parse_time(until, "--until"), parse_bbox(bbox))
    if query.since and query.until and query.since >= query.until:
        raise typer.BadParameter("--since must be before --until")
    return query


async def number_events(pool: Pool) -> None:
    """Give the new events their numbers now, without a worker; one that runs does it anyway."""
    settings = LineageSettings()
    await sequence(pool, load_signer(settings), published=Published.of(settings))
