"""The census over every protocol: items deleted behind our back are named and healed, and then nothing is missing."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from db.pools import Pool
from ingest.census import take_census
from ingest.collection_files import ensure_collections
from ingest.harvest import Order, Tools, harvest
from ingest.http import Patience
from ingest.model import Query
from ingest.source_files import read_source
from tests.size import sized
from tests.upstreams import serve, source_files

PERIOD = Query(datetime(2024, 1, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC))


@pytest.mark.slow
@pytest.mark.parametrize(
    "source_id",
    [
        "demo-odata", "demo-stac", "demo-earth-search", "demo-planetary-computer", "demo-opensearch", "demo-resto2", "demo-dhus",
        "demo-sentinelhub", "demo-hda", "demo-eumetsat", "demo-geodes", "demo-mundi",
    ],
)  # fmt: skip
async def test_one_percent_deleted_behind_our_back(pool: Pool, tmp_path: Path, source_id: str) -> None:
    await ensure_collections(pool)
    with serve(products=sized(100, 400)) as upstreams:
        path = tmp_path / f"{source_id}.toml"
        path.write_text(source_files(upstreams.url)[path.name], encoding="utf-8")
        source = read_source(path)
        mapping = source.collections[0]
        tools = Tools(pool, {source.id: source}, 100, Patience(attempts=2, base_s=0))
        await harvest(Order(source, mapping), tools)
        async with pool.connection() as conn:
            rows = await (await conn.execute("select id from pgstac.items order by md5(id)")).fetchall()
            gone = sorted(row["id"] for row in rows[: max(1, len(rows) // 100)])
            await conn.execute("delete from pgstac.items where id = any($1)", (gone,))
            found = await conn.execute("select record_id from federator.holding where item_id = any($1)", (gone,))
            records = sorted(row["record_id"] for row in await found.fetchall())
        order = Order(source, mapping, PERIOD)
        before = await take_census(order, tools)
        healed = await take_census(order, tools, heal=True)
        after = await take_census(order, tools)
        async with pool.connection() as conn:
            now = await (await conn.execute("select id from pgstac.items")).fetchall()
    missing = [one for month in before.months for one in month.missing]
    assert (sorted(missing), [one for month in before.months for one in month.extra]) == (records, [])
    assert healed.is_complete
    assert after.is_complete
    assert sum(month.healed for month in after.months) == 0
    assert {row["id"] for row in now} == {row["id"] for row in rows}
