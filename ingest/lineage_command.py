"""`python -m ingest lineage`: ask now what others say of the making of a source's products."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from db.pools import open_pool
from db.queries import sql
from db.settings import DatabaseSettings
from ingest.command_line import (
    AsJson,
    OneCollection,
    SourceId,
    chosen,
    fail,
    guarded,
    known_source,
    number_events,
    open_database,
    run,
)
from ingest.harvest import patience_of
from ingest.model import CollectionMapping, Source
from ingest.settings import IngestSettings
from ingest.upstream_lineage import Asking, ask, trusted
from lineage.settings import LineageSettings


def lineage_command(
    source_id: SourceId,
    collection: OneCollection = None,
    held: Annotated[
        bool, typer.Option("--held", help="also products that were harvested before and have no trace yet")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch traces and documents of products that wait for them, as many as the source's file allows a run."""
    with guarded():
        settings = IngestSettings()
        source, _ = known_source(source_id, settings)
        if source.provenance is None:
            fail(f"the file of {source.id} has no [lineage]: nobody is asked", 2)
        mappings = chosen(source, collection)
        with open_database() as database:
            status = run(_ask(database, settings, source, mappings, held, as_json))
    raise typer.Exit(status)


async def _ask(
    database: DatabaseSettings,
    settings: IngestSettings,
    source: Source,
    mappings: Sequence[CollectionMapping],
    held: bool,
    as_json: bool,
) -> int:
    results: list[dict[str, Any]] = []
    async with open_pool(database) as pool:
        asking = Asking(pool, patience_of(settings), trusted(LineageSettings()), settings.asset_networks_allowed())
        for mapping in mappings:
            if held and source.provenance and source.provenance.traces:
                async with pool.connection() as conn:
                    await conn.execute(sql("due.put_held"), (source.id, mapping.id))
            done = await ask(source, mapping.id, asking)
            results.append({"collection": mapping.id, **asdict(done)})
        await number_events(pool)
        async with pool.connection() as conn:
            rows = await (await conn.execute(sql("due.waiting"))).fetchall()
    waiting = {row["collection_id"]: row["waiting"] for row in rows if row["source_id"] == source.id}
    results = [{**one, "waiting": waiting.get(one["collection"], 0)} for one in results]
    if as_json:
        print(json.dumps({"source": source.id, "collections": results}))
    else:
        for one in results:
            print(", ".join(f"{name} {value}" for name, value in one.items()))
    return 0
