"""A source that offers collections only: they are put into pgstac, and a second run reads little and changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from db.pools import Pool
from db.settings import DatabaseSettings
from ingest.collection_harvest import harvest_collections
from ingest.harvest import Tools
from ingest.http import Patience
from ingest.page import Counts
from ingest.source_files import read_source
from tests.ingest.commands import Commands
from tests.upstreams import serve, source_files


def earth_engine(url: str, folder: Path) -> Path:
    path = folder / "demo-earth-engine.toml"
    path.write_text(source_files(url)["demo-earth-engine.toml"], encoding="utf-8")
    return path


async def test_collections_of_a_catalogue_without_items(pool: Pool, tmp_path: Path) -> None:
    with serve(products=8) as upstreams:
        source = read_source(earth_engine(upstreams.url, tmp_path))
        tools = Tools(pool, {source.id: source}, patience=Patience(attempts=2, base_s=0))
        first = await harvest_collections(source, tools)
        second = await harvest_collections(source, tools)
    assert first.counts.added > 1
    assert first.counts.fetched == first.counts.added + first.counts.quarantined
    assert (second.counts.added, second.counts.changed) == (0, 0)
    async with pool.connection() as conn:
        rows = await (await conn.execute("select id, content from pgstac.collections where id like 'gee-%'")).fetchall()
        statuses = await (await conn.execute("select status from federator.harvest_run order by id")).fetchall()
    assert len(rows) == first.counts.added
    assert all(row["content"]["stac_version"] == "1.1.0" for row in rows)
    assert [row["status"] for row in statuses] == ["done", "done"]
    assert isinstance(first.counts, Counts)


@pytest.mark.slow
def test_the_commands_know_such_a_source(database: DatabaseSettings, tmp_path: Path) -> None:
    commands = Commands(database, tmp_path)
    (tmp_path / "sources").mkdir()
    with serve(products=8) as upstreams:
        earth_engine(upstreams.url, tmp_path / "sources")
        checked = commands.run("check", "demo-earth-engine", "--json")
        assert checked.returncode == 0, checked.stdout + checked.stderr
        answer = commands.run("harvest", "demo-earth-engine", "--json")
        (result,) = json.loads(answer.stdout)["collections"]
        assert result["collection"] == "collections"
        assert result["added"] > 1
        assert commands.run("harvest", "demo-earth-engine", "--since", "2026-01-01").returncode == 2
