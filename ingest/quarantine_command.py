"""`python -m ingest quarantine list | retry`: records that were refused."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

import typer

from db.pools import open_pool
from db.queries import sql
from db.settings import DatabaseSettings
from ingest.collection_files import ensure_collections
from ingest.command_line import AsJson, guarded, number_events, open_database, run, say
from ingest.quarantine import Retried, retry
from ingest.settings import IngestSettings
from ingest.source_files import load_sources

app = typer.Typer(help="Records that were refused.", no_args_is_help=True)

OneSource = Annotated[str | None, typer.Option("--source", help="only this source")]
OneCode = Annotated[str | None, typer.Option("--code", help="only this reason")]


@app.command(name="list")
def list_records(
    source: Annotated[str | None, typer.Option(help="only this source")] = None,
    code: Annotated[str | None, typer.Option(help="only this reason")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    as_json: AsJson = False,
) -> None:
    """List refused records, newest first."""
    with guarded(), open_database() as database:
        rows = asyncio.run(_rows(database, source, code, limit))
    if as_json:
        print(json.dumps({"records": rows}, default=str))
        return
    for row in rows:
        print(
            f"{row['last_seen']:%Y-%m-%dT%H:%M:%SZ} {row['source_id']} {row['record_id']} {row['code']}: {row['detail']}"
        )
    if not rows:
        say("nothing is in quarantine")


async def _rows(database: DatabaseSettings, source: str | None, code: str | None, limit: int) -> list[dict[str, Any]]:
    async with open_pool(database) as pool, pool.connection() as conn:
        return await (await conn.execute(sql("harvest.list_quarantine"), (source, code, limit))).fetchall()


@app.command(name="retry")
def retry_records(source: OneSource = None, code: OneCode = None, as_json: AsJson = False) -> None:
    """Normalise refused records anew, without asking their sources; those that are good now become items."""
    with guarded():
        sources = load_sources(IngestSettings().sources_dir)
        with open_database() as settings:
            results: list[Retried] = []
            status = run(_retry(settings, sources, source, code, results))
    (result,) = results
    if as_json:
        print(
            json.dumps({"ok": status == 0, "tried": result.tried, "stored": result.stored, "refused": result.refused})
        )
    else:
        print(f"{result.tried} tried: {result.stored} stored, {result.refused} refused again")
    raise typer.Exit(status)


async def _retry(
    settings: DatabaseSettings, sources: Any, source: str | None, code: str | None, results: list[Retried]
) -> int:
    async with open_pool(settings) as pool:
        await ensure_collections(pool)
        results.append(await retry(pool, sources, source, code))
        await number_events(pool)
    return 0 if results[0].refused == 0 else 1
