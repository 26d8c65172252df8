"""`python -m ingest scrub`: stored rasters are read and compared with the hashes in the log."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from db.pools import open_pool
from db.settings import DatabaseSettings
from ingest.command_line import AsJson, guarded, number_events, open_database, run
from ingest.settings import IngestSettings
from ingest.uploads.scrub import Report, scrub


def scrub_command(
    rate: Annotated[float, typer.Option(min=0.001, help="megabytes a second that are read at most")] = 50.0,
    as_json: AsJson = False,
) -> None:
    """Re-hash every stored raster; a damaged one is taken out of service. Exit status 1 when there is one."""
    report = Report()
    with guarded(), open_database() as database:
        run(_scrub(database, rate, report))
    words = f"{report.checked} rasters checked, {report.bytes / 1e6:.1f} MB, {report.damaged} damaged"
    print(json.dumps(asdict(report)) if as_json else words)
    if report.damaged:
        raise typer.Exit(1)


async def _scrub(database: DatabaseSettings, rate: float, report: Report) -> int:
    async with open_pool(database) as pool:
        found = await scrub(pool, IngestSettings(), rate * 1e6)
        await number_events(pool)
    report.checked, report.damaged, report.bytes = found.checked, found.damaged, found.bytes
    return 0
