"""LIN-L20, LIN-L21: a row of the graph or of the past that the events do not give is named."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from db.pools import Connection, Pool
from lineage.audit import audit
from lineage.audit_graph import graph_faults
from lineage.keys import Signer
from tests.lineage.samples import signer
from tests.lineage.test_graph import history, tell

ATTACKS = {
    "edge dropped": ("delete from lineage.edge where ctid = (select min(ctid) from lineage.edge)", "edge-differs"),
    "edge edited": ("update lineage.edge set confidence = 0.123", "edge-differs"),
    "edge added": (
        "insert into lineage.edge select gen_random_uuid(), parent, role, assertion, confidence, rule, seq, superseded_by, run, label,"
        " told_in, told_of, by_name from lineage.edge limit 1",
        "edge-differs",
    ),
    "item version": (
        "update lineage.item_version set item_sha256 = sha256('x') where from_seq = (select min(from_seq) from lineage.item_version)",
        "item-version-differs",
    ),
    "status": ("update lineage.entity_item set status = 'withdrawn'", "entity-item-differs"),
    "owner": ("update lineage.entity set owner = 'user:eve'", "entity-differs"),
    "run": ("update lineage.run set owner = 'user:eve'", "run-differs"),
    "valid for ever": (
        "update lineage.item_version set valid_to = '10000-01-01' where valid_to is not null",
        "item-version-differs",
    ),
    "read anew": ("update lineage.projection set next_seq = 5", "projection-differs"),
    "read by nobody": ("delete from lineage.projection", "projection-differs"),
    "table gone": ("drop table lineage.past_item cascade", "table-missing"),
    "past document": (
        "insert into lineage.past_item (collection, item_id, item_sha256, doc) values ('c', 'i', sha256('x'), '{}')",
        "past-item-differs",
    ),
}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return signer(tmp_path_factory.mktemp("keys"))


@pytest.fixture
async def told(pool: Pool, keys: Signer) -> AsyncIterator[Connection]:
    """A connection to a log with a graph."""
    await tell(pool, keys, *history())
    async with pool.connection() as conn:
        yield conn


async def test_what_differs_from_the_events_is_named_and_nothing_is_changed(told: Connection) -> None:
    assert await graph_faults(told) == []
    for statement, code in ATTACKS.values():
        async with told.transaction(force_rollback=True):
            await told.execute(statement.encode())
            found = await graph_faults(told)
            assert code in {fault.code for fault in found}, (statement, found)
    assert await graph_faults(told) == []
    assert await audit(told, checks=[]) == []
