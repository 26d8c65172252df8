"""`python -m ingest census`: what a source has beside what is held."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from db.pools import open_pool
from db.settings import DatabaseSettings
from ingest.census import Report, take_census
from ingest.collection_files import ensure_collections
from ingest.command_line import (
    AsJson,
    OneCollection,
    SourceId,
    Time,
    chosen,
    guarded,
    known_source,
    number_events,
    open_database,
    query_of,
    run,
    say,
)
from ingest.harvest import Order, Tools, patience_of
from ingest.model import Query, Source
from ingest.settings import IngestSettings

#: A source stamps records some time before it shows them; a census up to this very moment would miss them.
UNTIL_LAG = timedelta(minutes=10)
_SHOWN = 20


def census(
    source_id: SourceId,
    since: Annotated[str, typer.Option(metavar="TIME", help="ISO 8601; from this time of publication on")],
    collection: OneCollection = None,
    until: Time = None,
    bbox: Annotated[str | None, typer.Option(metavar="W,S,E,N", help="degrees; only products that touch it")] = None,
    heal: Annotated[
        bool, typer.Option("--heal", help="store what is missing, withdraw what the source has no more")
    ] = False,
    allow_mass_withdrawal: Annotated[
        bool, typer.Option("--allow-mass-withdrawal", help="let --heal withdraw more than 1000 records or 5 percent")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare what a source says it has with what is held; exit status 0 when nothing is missing or too much."""
    query = query_of(since, until, bbox)
    if query.until is None:
        query = Query(query.since, datetime.now(UTC) - UNTIL_LAG, query.bbox)
    with guarded():
        settings = IngestSettings()
        source, sources = known_source(source_id, settings)
        orders = [Order(source, mapping, query) for mapping in chosen(source, collection)]
        with open_database() as database_settings:
            results: list[tuple[Order, Report]] = []
            options = _Options(heal, allow_mass_withdrawal)
            run(_take(database_settings, settings, sources, orders, options, results))
    _show(results, as_json)
    raise typer.Exit(0 if all(report.is_complete for _, report in results) else 1)


@dataclass(frozen=True, slots=True)
class _Options:
    """What may be changed."""

    heal: bool
    allow_mass: bool


async def _take(
    database: DatabaseSettings,
    settings: IngestSettings,
    sources: Mapping[str, Source],
    orders: list[Order],
    options: _Options,
    results: list[tuple[Order, Report]],
) -> int:
    async with open_pool(database) as pool:
        await ensure_collections(pool)
        tools = Tools(pool, sources, settings.page_size, patience_of(settings), drift_share=settings.drift_share)
        for order in orders:
            report = await take_census(order, tools, heal=options.heal, allow_mass_withdrawal=options.allow_mass)
            results.append((order, report))
        await number_events(pool)
    return 0


def _show(results: list[tuple[Order, Report]], as_json: bool) -> None:
    if as_json:
        collections = [
            {
                "collection": order.mapping.id,
                "complete": report.is_complete,
                "alarm": report.alarm,
                "months": [asdict(month) for month in report.months],
            }
            for order, report in results
        ]
        print(json.dumps({"source": results[0][0].source.id, "collections": collections}, default=str))
        return
    for order, report in results:
        for month in report.months:
            words = (
                f"expected {month.expected}, held {month.held}, missing {len(month.missing)}, extra {len(month.extra)}"
            )
            more = f", quarantined {month.quarantined}, healed {month.healed}, withdrawn {month.withdrawn}"
            print(f"{order.source.id} {order.mapping.id} {month.since:%Y-%m-%d}..{month.until:%Y-%m-%d}: {words}{more}")
            for word, ids in (("missing", month.missing), ("extra", month.extra)):
                for one in ids[:_SHOWN]:
                    print(f"    {word} {one}")
                if len(ids) > _SHOWN:
                    print(f"    {word}: {len(ids) - _SHOWN} more, see --json")
        if report.alarm:
            say(f"ALARM: {report.alarm}")
