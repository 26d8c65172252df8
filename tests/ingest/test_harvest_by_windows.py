"""Sources without a publication date through the real loop and database: runs get on, end, and start again an overlap earlier."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from db.pools import Pool
from ingest.collection_files import ensure_collections
from ingest.errors import UpstreamUnavailable
from ingest.harvest import Order, Tools, harvest
from ingest.http import Patience
from ingest.model import Source
from ingest.source_files import read_source
from tests.upstreams import serve, source_files

L1C = "sentinel-2-l1c"


def source_of(url: str, source_id: str, folder: Path) -> Source:
    file = folder / f"{source_id}.toml"
    file.write_text(source_files(url)[file.name], encoding="utf-8")
    return read_source(file)


async def stored(pool: Pool) -> set[str]:
    async with pool.connection() as conn:
        rows = await (await conn.execute("select id from pgstac.items")).fetchall()
    return {f"{row['id']}.SAFE" for row in rows}


@pytest.mark.parametrize("source_id", ["demo-sentinelhub", "demo-hda"])
async def test_small_runs_get_on_and_a_whole_one_ends(pool: Pool, tmp_path: Path, source_id: str) -> None:
    await ensure_collections(pool)
    with serve(products=400) as upstreams:
        source = source_of(upstreams.url, source_id, tmp_path)
        mapping = next(one for one in source.collections if one.id == L1C)
        tools = Tools(pool, {source.id: source}, 20, Patience(attempts=2, base_s=0))
        sizes = [len(await stored(pool))]
        for _ in range(3):
            await harvest(Order(source, mapping, max_items=20), tools)
            sizes.append(len(await stored(pool)))
        assert all(later > earlier for earlier, later in pairwise(sizes)), sizes
        whole = await harvest(Order(source, mapping), tools)
        assert whole.status == "done"
        names = await stored(pool)
        again = await harvest(Order(source, mapping), tools)
        assert (again.counts.added, again.counts.changed, again.counts.quarantined) == (0, 0, 0)
        offered = upstreams.truth[L1C]
    assert names <= offered
    assert names == offered or source_id == "demo-sentinelhub", "the hub has products that are online"
    assert len(names) > 80


async def test_a_run_that_failed_goes_on_where_it_was(pool: Pool, tmp_path: Path) -> None:
    await ensure_collections(pool)
    with serve(products=400) as upstreams:
        source = source_of(upstreams.url, "demo-hda", tmp_path)
        mapping = next(one for one in source.collections if one.id == L1C)
        tools = Tools(pool, {source.id: source}, 20, Patience(attempts=2, base_s=0))
        upstreams.control.fail("500", after=3, count=9, path="dataaccess")
        with pytest.raises(UpstreamUnavailable, match="status 500"):
            await harvest(Order(source, mapping), tools)
        upstreams.control.clear()
        await harvest(Order(source, mapping), tools)
    assert await stored(pool) == upstreams.truth[L1C]
