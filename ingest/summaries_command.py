"""`python -m ingest summaries`: what the items of collections have, read anew from all of them."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from db.pools import open_pool
from db.settings import DatabaseSettings
from ingest.command_line import AsJson, guarded, open_database, run
from ingest.summary_making import rebuild_all


def summaries_command(
    collection: Annotated[list[str] | None, typer.Option(help="only this one; may be given several times")] = None,
    as_json: AsJson = False,
) -> None:
    """Read all items of collections for their queryables, extents and summaries, which harvests widen and never narrow."""
    with guarded(), open_database() as database:
        number = run(_rebuild(database, collection))
    print(json.dumps({"collections": number}) if as_json else f"{number} summaries made anew")


async def _rebuild(database: DatabaseSettings, collections: list[str] | None) -> int:
    async with open_pool(database) as pool:
        return await rebuild_all(pool, collections or None)
