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


@pytest.mark.parametrize("is_settled", [True, False])
async def test_a_withdrawn_and_restored_product_has_all_its_documents(
    pool: Pool, tmp_path: Path, is_settled: bool
) -> None:
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
    if is_settled:
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
