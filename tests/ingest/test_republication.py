"""What a source publishes again under its name is noticed at harvest: other bytes REPLACE, a newer baseline makes the older OBSOLETE."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from db.pools import Pool
from ingest.collection_files import ensure_collections
from lineage import trace
from lineage.keys import Signer, load_signer
from lineage.projector import project
from lineage.sequencer import sequence
from lineage.settings import LineageSettings
from tests.ingest.bench import SECOND, Bench
from tests.ingest.odata_server import ODataServer, s2_product

AGAIN = "20000000-0000-4000-8000-000000000001"
BLAKE3 = "c" * 64


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return load_signer(LineageSettings(data_dir=tmp_path_factory.mktemp("keys")))


@pytest.fixture
async def bench(pool: Pool) -> Bench:
    await ensure_collections(pool)
    return Bench(pool)


def checksum(digest: str, algorithm: str = "MD5") -> list[dict[str, str]]:
    return [{"Value": digest, "Algorithm": algorithm, "ChecksumDate": "2026-01-01T00:00:00Z"}]


async def last(bench: Bench) -> tuple[str, dict[str, Any]]:
    row = (await bench.rows("select kind, body from lineage.event_outbox order by id"))[-1]
    return row["kind"], orjson.loads(row["body"])


async def test_other_bytes_under_the_same_record_are_a_replacement_and_two_traces(bench: Bench, keys: Signer) -> None:
    upstream = ODataServer([s2_product(1)])
    await bench.run(upstream)
    upstream.products[0] |= {"Checksum": checksum("b" * 32), "ContentLength": 7, "ModificationDate": "2026-02-01T00:00:00Z"}  # fmt: skip
    await bench.run(upstream)
    kind, body = await last(bench)
    assert kind == "REPLACE"
    assert body["hashes"] == [{"alg": "MD5", "digest": "b" * 32}]
    assert body["size"] == 7
    old = {"alg": "MD5", "digest": f"{1:032x}"}
    assert body["replaces"] | {"published": ""} == {
        "record_id": s2_product(1)["Id"], "published": "", "size": 200_000_001, "hashes": [old], "assets": ["Product"],
    }  # fmt: skip
    assert body["changed"] == ["updated"]
    assert "republished" not in body
    assert await bench.events() == {"REGISTER": 1, "REPLACE": 1}
    await sequence(bench.pool, keys)
    await project(bench.pool)
    async with bench.pool.connection() as conn:
        page = await trace.traces_by_name(conn, s2_product(1)["Name"])
        assert [(one.document()["event"], one.document()["product"]["hash"]) for one in page.traces] == [
            ("COPY", old["digest"]), ("OBSOLETE", old["digest"]), ("COPY", "b" * 32),
        ]  # fmt: skip
        by_old = await trace.traces_by_hash(conn, old["digest"])
        assert [one.outcome for one in by_old.traces] == ["current", "superseded"]
    assert await bench.column("select status from lineage.entity_item") == ["current"]


async def test_a_product_published_anew_is_replaced_when_its_bytes_are_others(bench: Bench) -> None:
    upstream = ODataServer([s2_product(1)])
    await bench.run(upstream)
    upstream.products.append(s2_product(1, published_s=500, Id=AGAIN, Checksum=checksum("b" * 32)))
    await bench.run(upstream)
    kind, body = await last(bench)
    assert (kind, body["record_id"]) == ("REPLACE", AGAIN)
    assert body["republished"]["record_id"] == body["replaces"]["record_id"] == s2_product(1)["Id"]
    assert len(await bench.items()) == 1


@pytest.mark.parametrize(
    "change",
    [{}, {"Checksum": checksum(BLAKE3, "BLAKE3")}, {"Checksum": [{"Value": "none", "Algorithm": "MD5"}]}],
    ids=["same", "another algorithm", "no checksum"],
)
async def test_a_product_published_anew_with_the_same_bytes_is_an_update(bench: Bench, change: dict[str, Any]) -> None:
    upstream = ODataServer([s2_product(1)])
    await bench.run(upstream)
    upstream.products.append(s2_product(1, published_s=500, Id=AGAIN, **change))
    await bench.run(upstream)
    kind, body = await last(bench)
    assert kind == "UPDATE"
    assert body["republished"]["record_id"] == s2_product(1)["Id"]
    assert "published" in body["changed"]
    assert "replaces" not in body


async def test_without_checksums_to_compare_another_size_is_a_replacement(bench: Bench) -> None:
    upstream = ODataServer([s2_product(1)])
    await bench.run(upstream)
    upstream.products[0] |= {"Checksum": checksum(BLAKE3, "BLAKE3"), "ContentLength": 5}
    await bench.run(upstream)
    assert (await last(bench))[0] == "REPLACE"


async def test_an_older_record_that_comes_late_replaces_nothing(bench: Bench) -> None:
    upstream = ODataServer([s2_product(1, published_s=500, Id=AGAIN)])
    await bench.run(upstream)
    upstream.products.append(s2_product(1, published_s=499, Checksum=checksum("b" * 32)))
    await bench.run(upstream)
    assert await bench.events() == {"REGISTER": 1}


async def test_both_records_in_one_page_are_one_registration_that_says_what_it_replaces(bench: Bench) -> None:
    await bench.run(ODataServer([s2_product(1), s2_product(1, published_s=500, Id=AGAIN, Checksum=checksum("b" * 32))]))
    kind, body = await last(bench)
    assert (kind, body["record_id"], body["replaces"]["record_id"]) == ("REGISTER", AGAIN, s2_product(1)["Id"])


async def test_other_bytes_at_another_source_replace_nothing(bench: Bench) -> None:
    await bench.run(ODataServer([s2_product(1)]))
    await bench.run(ODataServer([s2_product(1, Checksum=checksum("b" * 32))]), SECOND)
    assert await bench.events() == {"REGISTER": 1, "COPY": 1}


async def test_a_product_that_goes_offline_says_what_changed(bench: Bench) -> None:
    upstream = ODataServer([s2_product(1)])
    await bench.run(upstream)
    upstream.products[0] |= {"Online": False, "EvictionDate": "2026-03-01T00:00:00Z"}
    await bench.run(upstream)
    kind, body = await last(bench)
    assert (kind, body["changed"]) == ("UPDATE", ["expires", "order:status"])


async def test_a_newer_baseline_makes_the_older_product_obsolete(bench: Bench, keys: Signer) -> None:
    old = s2_product(1)
    newer = str(old["Name"]).replace("_N0511_", "_N0512_")
    upstream = ODataServer([old])
    await bench.run(upstream)
    upstream.products.append(s2_product(1, published_s=500, Id=AGAIN, Name=newer, Checksum=checksum("b" * 32)))
    await bench.run(upstream)
    assert await bench.events() == {"REGISTER": 2, "OBSOLETE": 1}
    (row,) = await bench.rows("select item_id, body from lineage.event_outbox where kind = 'OBSOLETE'")
    successor = newer.removesuffix(".SAFE")
    assert row["item_id"] == str(old["Name"]).removesuffix(".SAFE")
    body = orjson.loads(row["body"])
    assert (body["successor"], body["reason"]) == (successor, f"superseded by {successor}")
    await sequence(bench.pool, keys)
    await project(bench.pool)
    edges = await bench.rows(
        "select c.name as child, p.name as parent, e.role from lineage.edge as e "
        "join lineage.entity as c on c.id = e.child join lineage.entity as p on p.id = e.parent"
    )
    assert edges == [{"child": successor, "parent": row["item_id"], "role": "revision_of"}]
