"""Documents of harvested items as they were: each version has the hash that its event names, whatever came after it."""

from __future__ import annotations

from pathlib import Path

import pytest

from db.pools import Pool
from db.queries import sql
from ingest.collection_files import ensure_collections
from ingest.past_items import document_of, hashed, settle_past_items
from lineage.projector import project
from lineage.sequencer import sequence
from tests.ingest.bench import L1C, Bench
from tests.ingest.odata_server import ODataServer, s2_product
from tests.lineage.samples import signer


@pytest.mark.parametrize("kept", ["settled", "raw", "raw, as text, before 0030_past_items.sql"])
async def test_a_withdrawn_and_restored_product_has_all_its_documents(pool: Pool, tmp_path: Path, kept: str) -> None:
    await ensure_collections(pool)
    bench, upstream = Bench(pool), ODataServer([s2_product(1), s2_product(2)])
    await bench.run(upstream)
    upstream.delete(1, 1000, "Corrupted product")
    await bench.run(upstream)
    again = {
        **s2_product(1),
        "PublicationDate": "2026-08-01T00:00:00.000000Z",
        "ModificationDate": "2026-08-01T00:00:00.000000Z",
    }
    upstream.products.append(again)
    await bench.run(upstream)
    keys = signer(tmp_path)
    await sequence(pool, keys)
    await project(pool)
    item = str(s2_product(1)["Name"]).removesuffix(".SAFE")
    if "text" in kept:
        async with pool.connection() as conn:
            await conn.execute(b"update lineage.past_item set content = stored::text, stored = null")
    if kept == "settled":
        assert await settle_past_items(pool) == 1
        assert await settle_past_items(pool) == 0
    async with pool.connection() as conn:
        rows = await (await conn.execute(sql("graph.versions"), (L1C, item, ["role:admin"]))).fetchall()
        assert [row["kind"] for row in rows] == ["REGISTER", "WITHDRAW", "RESTORE"]
        for row in (rows[0], rows[2]):
            digest = bytes.fromhex(row["item_sha256"])
            document = await document_of(conn, L1C, item, digest)
            assert document is not None
            assert hashed(document)[0] == digest
        assert await document_of(conn, L1C, item, b"\0" * 32) is None


async def test_the_base_item_that_an_item_was_stored_against_is_kept_with_it(pool: Pool) -> None:
    await ensure_collections(pool)
    await Bench(pool).run(ODataServer([s2_product(1), s2_product(2)]))
    async with pool.connection() as conn:
        made = b"insert into pgstac.base_items (collection, base_item) values ($1, '{\"n\": 1}'), ($1, '{\"n\": 2}') returning id"
        (_, second) = await (await conn.execute(made, (L1C,))).fetchall()
        tag = b"update pgstac.items set content = content || jsonb_build_object('pgstac:base_item', $1::int) where id like '%' || $2"
        await conn.execute(tag, (second["id"], str(s2_product(2)["Name"]).removesuffix(".SAFE")))
        await conn.execute(b"delete from pgstac.items")
        kept = b"select stored ? 'pgstac:base_item' as is_tagged, base_item ->> 'n' as n from lineage.past_item order by 1, 2"
        rows = await (await conn.execute(kept)).fetchall()
    assert [(row["is_tagged"], row["n"]) for row in rows] == [(False, "1"), (False, "1"), (True, "2")]
