"""LIN-L19: the role under which the service runs does its work, and can change nothing that is in the log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from db.pools import Connection, Pool, connect
from db.roles import grant_service
from db.settings import DatabaseSettings
from ingest.store import put_item
from lineage import key_events, log
from lineage.audit import audit
from lineage.canonical import item_sha256
from lineage.events import Event, Kind
from lineage.ids import uuid7
from lineage.keys import Signer
from lineage.sequencer import sequence_batch
from tests.api.samples import item as made_item
from tests.conftest import admin
from tests.lineage.attacks import collection
from tests.lineage.samples import NOW, signer

ROLE = "federator_service_of_tests"


@pytest.fixture
async def service(database: DatabaseSettings, pool: Pool) -> AsyncIterator[Connection]:
    """A connection of the service's role to a database with a collection."""
    grant_service(database, ROLE)
    grant_service(database, ROLE)  # as after a migration
    async with pool.connection() as conn:
        await conn.execute(
            "insert into pgstac.collections (content, partition_trunc) values ($1, 'month')", (collection("things"),)
        )
    async with await connect(database) as conn:
        await conn.execute(f"set role {ROLE}".encode())
        yield conn
    await pool.close()
    with psycopg.connect(database.conninfo, autocommit=True) as owner:
        owner.execute(f"drop owned by {ROLE}".encode())
    with admin(database) as server:
        server.execute(f"drop role {ROLE}".encode())


async def _item(conn: Connection, number: int) -> None:
    one = {**made_item(number), "collection": "things"}
    body = {"item_sha256": item_sha256(one), "hashes": [{"alg": "SHA256", "digest": f"{number:064x}"}]}
    async with conn.transaction():
        await put_item(
            conn, one, Event(uuid7(), Kind.CREATE, str(number), "own", "things", one["id"], "user:ann", NOW, body)
        )


TABLES = (
    "event", "event_hash", "checkpoint", "cosignature", "log_tile", "trace_signature", "signing_key",
    "foreign_trace", "foreign_trace_hash", "checkpoint_stamp",
)  # fmt: skip
VERBS = [
    *(f"truncate lineage.{table} cascade" for table in TABLES),
    *(f"delete from lineage.{table}" for table in TABLES),
    *(f"alter table lineage.{table} disable trigger all" for table in TABLES),
    *(f"drop table lineage.{table}" for table in TABLES),
    "update lineage.event set body = '{}'",
    "update lineage.event_hash set seq = 0",
    "update lineage.checkpoint set note = ''",
    "update lineage.log_tile set data = data",
    "update lineage.foreign_trace set raw = raw",
    "update lineage.checkpoint_stamp set reply = reply",
    "update lineage.foreign_trace_hash set digest = digest",
    "update lineage.signing_key set vkey = ''",
    "update lineage.signing_key set from_size = 5",
    "update lineage.signing_key set to_size = 4 where to_size is not null",
    "update lineage.trace_signature set message = ''",
    "set session_replication_role = replica",
    "update federator.migration set checksum = ''",
    f"select federator.grant_service('{ROLE}')",
]


async def _refusal(conn: Connection, verb: str) -> str | None:
    try:
        await conn.execute(verb.encode())
    except psycopg.Error as error:
        return error.sqlstate
    return None


async def test_it_works_and_changes_nothing_of_the_log(service: Connection, tmp_path: Path) -> None:
    keys: Signer = signer(tmp_path)
    for number in range(3):
        await _item(service, number)
    assert await sequence_batch(service, keys, 1000) == 4
    await key_events.rotate(service, keys, "event")
    await _item(service, 1)
    assert await sequence_batch(service, keys, 1000) == 2
    assert await audit(service) == []
    before = await (await service.execute("select * from lineage.event order by seq")).fetchall()
    for verb in VERBS:
        assert await _refusal(service, verb) == "42501", verb
    assert await (await service.execute("select * from lineage.event order by seq")).fetchall() == before
    assert await audit(service) == []
    await service.execute(
        "update lineage.signing_key set to_size = 5 where purpose = 'log'"
    )  # the sequencer must be able to
    assert [fault.code for fault in await audit(service)] == ["key-differs"]


async def test_partial_tiles_go_by_the_function_alone(service: Connection, tmp_path: Path) -> None:
    keys = signer(tmp_path)
    bodies = [Event(uuid7(), Kind.UPDATE, "x", "demo", None, None, "tester", NOW, {"n": n}) for n in range(300)]
    for part in (bodies[:100], bodies[100:]):
        async with service.transaction():
            await log.append(service, *part)
        await sequence_batch(service, keys, 1000)
    rows = await (
        await service.execute("select level, idx, width from lineage.log_tile order by level, idx, width")
    ).fetchall()
    assert [tuple(row.values()) for row in rows] == [(0, 0, 256), (0, 1, 45), (1, 0, 1)]
    await service.execute("select lineage.drop_partial_tiles(0, 0)")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await service.execute("select lineage.drop_partial_tiles(0, 1)")
