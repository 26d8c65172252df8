"""What sources take back: tombstones are followed, items that nobody has are gone, and an upstream's accident deletes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from db.pools import Pool
from ingest.census import Report, take_census
from ingest.collection_files import ensure_collections
from ingest.harvest import Order, Tools, harvest
from ingest.http import Patience
from ingest.model import Query
from ingest.withdraw import BrakeApplied, check_brake
from tests.ingest.bench import FIRST, MAPPING, SECOND, SOURCES, Bench
from tests.ingest.odata_server import START, ODataServer, s2_product
from tests.size import sized

END = START.replace(year=START.year + 1)


@pytest.fixture
async def bench(pool: Pool) -> Bench:
    await ensure_collections(pool)
    return Bench(pool)


def server(number: int) -> ODataServer:
    return ODataServer([s2_product(n) for n in range(number)])


def name(number: int) -> str:
    return str(s2_product(number)["Name"]).removesuffix(".SAFE")


async def census(bench: Bench, upstream: ODataServer, **how: Any) -> Report:
    tools = Tools(bench.pool, SOURCES, 100, Patience(attempts=1), inner=httpx.MockTransport(upstream))
    return await take_census(Order(FIRST, MAPPING, Query(START, END)), tools, **how)


def found(report: Report) -> tuple[list[str], list[str]]:
    missing = [one for month in report.months for one in month.missing]
    extra = [one for month in report.months for one in month.extra]
    return sorted(missing), sorted(extra)


async def take_away(bench: Bench, numbers: Sequence[int]) -> None:
    """Delete items behind our back; the trigger notes it."""
    async with bench.pool.connection() as conn:
        await conn.execute("delete from pgstac.items where id = any($1)", ([name(n) for n in numbers],))
        await conn.execute("delete from lineage.event_outbox where actor_id = 'unattributed'")


async def test_a_tombstone_takes_the_item_out_of_the_catalogue(bench: Bench) -> None:
    upstream = server(5)
    await bench.run(upstream)
    upstream.delete(2, 1000, "Corrupted product")
    progress = await bench.run(upstream)
    assert progress.withdrawn == 1
    assert await bench.items() == sorted(name(n) for n in (0, 1, 3, 4))
    assert await bench.events() == {"REGISTER": 5, "WITHDRAW": 1}
    (row,) = await bench.rows("select * from federator.harvested_item where withdrawn_at is not null")
    assert (row["item_id"], row["withdrawn_because"], row["successor_id"]) == (name(2), "Corrupted product", None)
    assert (await bench.run(upstream)).withdrawn == 0, "the list is read from where it was left"
    assert await bench.column("select withdrawn from federator.harvest_run order by id") == [0, 1, 0]


async def test_a_tombstone_leaves_the_copies_of_other_sources(bench: Bench) -> None:
    upstream, other = server(3), server(3)
    await bench.run(upstream, FIRST)
    await bench.run(other, SECOND)
    upstream.delete(1, 1000)
    await bench.run(upstream, FIRST)
    item = await bench.item(name(1))
    assert item["properties"]["federation:backends"] == ["second"]
    assert await bench.column("select count(*) from federator.holding where withdrawn_at is not null") == [1]


async def test_a_deleted_product_that_was_published_again_stays(bench: Bench) -> None:
    upstream = server(3)
    upstream.products.append(s2_product(1, published_s=500, Id="20000000-0000-4000-8000-000000000001"))
    await bench.run(upstream)
    upstream.delete(1, 1000, "Duplicated product")
    await bench.run(upstream)
    assert await bench.items() == sorted(name(n) for n in range(3))


async def test_a_record_that_was_published_again_after_its_tombstone_stays(bench: Bench) -> None:
    """Harvest and tombstones of one run: the record is read first, and its tombstone is older."""
    upstream = server(3)
    await bench.run(upstream)
    upstream.delete(1, 1000)
    upstream.products.append(s2_product(1, published_s=2000))  # under the same id
    progress = await bench.run(upstream)
    assert progress.withdrawn == 0
    assert await bench.items() == sorted(name(n) for n in range(3))
    assert await bench.events() == {"REGISTER": 3, "UPDATE": 1}


async def test_a_product_that_comes_back_is_restored(bench: Bench) -> None:
    upstream = server(3)
    await bench.run(upstream)
    upstream.delete(1, 1000)
    await bench.run(upstream)
    upstream.products.append(s2_product(1, published_s=2000, Id="20000000-0000-4000-8000-000000000001"))
    await bench.run(upstream)
    assert await bench.items() == sorted(name(n) for n in range(3))
    assert await bench.events() == {"REGISTER": 3, "WITHDRAW": 1, "RESTORE": 1}


@pytest.mark.slow
async def test_thousands_of_tombstones_are_followed(bench: Bench) -> None:
    gone = sized(1500, 5000)
    upstream = server(gone + 1000)
    await bench.run(upstream, page_size=300)
    for number in range(gone):
        upstream.delete(number, 10_000 + number // 450)
    progress = await bench.run(upstream, page_size=300)
    assert progress.withdrawn == gone
    assert await bench.items() == sorted(name(n) for n in range(gone, gone + 1000))
    assert await bench.events() == {"REGISTER": gone + 1000, "WITHDRAW": gone}


async def test_items_of_a_source_that_is_not_configured_any_more_stay(bench: Bench) -> None:
    """Another source's new version of the same scene must not withdraw what the first one holds."""
    await bench.run(server(1), FIRST)
    newer = s2_product(0, Name=str(s2_product(0)["Name"]).replace("_N0511_", "_N0512_"))
    tools = Tools(
        bench.pool, {"second": SECOND}, 10, Patience(attempts=1), inner=httpx.MockTransport(ODataServer([newer]))
    )
    await harvest(Order(SECOND, MAPPING), tools)
    assert await bench.items() == sorted([name(0), name(0).replace("_N0511_", "_N0512_")])
    assert "WITHDRAW" not in await bench.events()


async def test_a_run_that_is_limited_does_not_follow_deletions(bench: Bench) -> None:
    upstream = server(3)
    await bench.run(upstream)
    upstream.delete(1, 1000)
    assert (await bench.run(upstream, query=Query(since=START))).withdrawn == 0


async def test_census_of_a_whole_collection_finds_nothing(bench: Bench) -> None:
    upstream = server(40)
    await bench.run(upstream)
    asked = len(upstream.queries)
    report = await census(bench, upstream)
    assert report.is_complete
    assert len(upstream.queries) - asked == 12, "a count for each month, no list"
    rows = await bench.rows("select * from federator.census order by since")
    assert (rows[0]["expected"], rows[0]["held"], rows[0]["missing"]) == (40, 40, 0)


async def test_census_names_what_is_missing_and_heals_exactly_that(bench: Bench) -> None:
    upstream = server(300)
    await bench.run(upstream, page_size=100)
    gone = [7, 100, 288]
    await take_away(bench, gone)
    async with bench.pool.connection() as conn:  # of one even the holding
        await conn.execute("delete from federator.holding where record_id = $1", (s2_product(7)["Id"],))
    report = await census(bench, upstream)
    assert found(report) == (sorted(s2_product(n)["Id"] for n in gone), [])
    assert not report.is_complete
    healed = await census(bench, upstream, heal=True)
    assert healed.is_complete
    assert sum(month.healed for month in healed.months) == 3
    assert await bench.items() == sorted(name(n) for n in range(300))
    assert (await census(bench, upstream)).is_complete
    assert (await bench.events())["RESTORE"] == 3


async def test_census_says_what_is_in_quarantine_and_does_not_call_it_missing(bench: Bench) -> None:
    upstream = server(10)
    upstream.products[4] = s2_product(4, Name="what is this.SAFE")
    await bench.run(upstream)
    report = await census(bench, upstream, heal=True)
    assert found(report) == ([], [])
    assert sum(month.quarantined for month in report.months) == 1


async def test_census_withdraws_what_vanished_without_a_tombstone(bench: Bench) -> None:
    upstream = server(100)
    await bench.run(upstream, page_size=100)
    del upstream.products[50:52]
    report = await census(bench, upstream, heal=True)
    assert found(report)[1] == sorted(s2_product(n)["Id"] for n in (50, 51))
    assert report.is_complete
    assert len(await bench.items()) == 98
    assert (await census(bench, upstream)).is_complete


async def test_an_upstream_that_suddenly_answers_empty_deletes_nothing(bench: Bench) -> None:
    upstream = server(100)
    await bench.run(upstream, page_size=100)
    upstream.products.clear()
    report = await census(bench, upstream, heal=True)
    assert report.alarm is not None
    assert "100 of 100" in report.alarm
    assert len(await bench.items()) == 100
    assert await bench.column("select count(*) from federator.holding where withdrawn_at is not null") == [0]
    allowed = await census(bench, upstream, heal=True, allow_mass_withdrawal=True)
    assert allowed.is_complete
    assert await bench.items() == []


async def test_a_large_window_is_halved_before_it_is_listed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.census.LIST_LIMIT", 20)
    upstream = server(200)
    await bench.run(upstream, page_size=100)
    await take_away(bench, [3])
    asked = len(upstream.queries)
    assert found(await census(bench, upstream)) == ([s2_product(3)["Id"]], [])
    lists = [query for query in upstream.queries[asked:] if "$count" not in query]
    assert len(lists) == 1


@pytest.mark.parametrize(
    ("absent", "held", "stops"),
    [(1, 1, False), (1, 5, False), (2, 40, False), (3, 40, True), (1000, 30_000, False), (1001, 1_000_000, True)],
)
def test_the_brake(absent: int, held: int, stops: bool) -> None:
    if not stops:
        check_brake("s", "c", absent, held)
        return
    with pytest.raises(BrakeApplied):
        check_brake("s", "c", absent, held)
