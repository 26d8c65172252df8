"""The log on a real database: order, numbers, proofs, crashes, changes behind its back, tampering."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from psycopg.types.json import Jsonb

from db.pools import Connection, Pool
from db.settings import DatabaseSettings
from lineage import log, verify
from lineage.audit import audit
from lineage.errors import EventInvalid, KeyMismatch, LogConflict, ProofPending
from lineage.events import Kind
from lineage.history import events_from, events_of, newest_note
from lineage.keys import Signer
from lineage.proof import bundle, tlog_proof
from lineage.sequencer import sequence, sequence_batch
from tests.lineage.samples import event, signer

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return signer(tmp_path_factory.mktemp("keys"))


async def append(pool: Pool, *numbers: int, **options: Any) -> list[UUID]:
    events = [event(number, **options) for number in numbers]
    async with pool.connection() as conn, conn.transaction():
        await log.append(conn, *events)
    return [one.id for one in events]


async def test_numbers_are_consecutive_and_begin_with_genesis(pool: Pool, keys: Signer) -> None:
    await append(pool, *range(300))
    assert await sequence(pool, keys, batch_size=100) == 301
    await append(pool, 300)
    assert await sequence(pool, keys) == 1
    async with pool.connection() as conn:
        feed = await events_from(conn, 0, 1000)
        assert [one["seq"] for one in feed] == list(range(302))
        assert feed[0]["kind"] == "GENESIS"
        assert [one["item_id"] for one in feed[1:]] == [f"item-{number}" for number in range(301)]
        assert await audit(conn) == []


async def test_an_event_vanishes_with_its_transaction(pool: Pool, keys: Signer) -> None:
    async with pool.connection() as conn, conn.transaction(force_rollback=True):
        await log.append(conn, event(1))
    assert await sequence(pool, keys) == 0


async def test_sequencers_at_once_give_every_number_once(pool: Pool, keys: Signer) -> None:
    await append(pool, *range(200))
    done = await asyncio.gather(*(sequence(pool, keys, batch_size=20) for _ in range(4)))
    while (more := await sequence(pool, keys, batch_size=20)) > 0:
        done.append(more)
    async with pool.connection() as conn:
        assert [one["seq"] for one in await events_from(conn, 0, 1000)] == list(range(201))
        assert await audit(conn) == []


async def test_a_crash_inside_a_batch_leaves_the_batch_before(pool: Pool, keys: Signer) -> None:
    await append(pool, 1, 2)
    await sequence(pool, keys)
    await append(pool, 3, 4)
    async with pool.connection() as conn, conn.transaction(force_rollback=True):
        assert await sequence_batch(conn, keys, 10) == 2
    async with pool.connection() as conn:
        assert len(await events_from(conn, 0, 10)) == 3
    assert await sequence(pool, keys) == 2
    async with pool.connection() as conn:
        assert await audit(conn) == []


async def test_another_key_may_not_continue_the_log(pool: Pool, keys: Signer, tmp_path: Path) -> None:
    await append(pool, 1)
    await sequence(pool, keys)
    await append(pool, 2)
    with pytest.raises(KeyMismatch):
        await sequence(pool, signer(tmp_path))
    assert await sequence(pool, keys) == 1


async def test_tiles_that_do_not_lead_to_the_checkpoint_stop_the_sequencer(pool: Pool, keys: Signer) -> None:
    await append(pool, 1, 2)
    await sequence(pool, keys)
    async with pool.connection() as conn:
        await conn.execute("alter table lineage.log_tile disable trigger all")
        await conn.execute("update lineage.log_tile set data = sha256('x') || substr(data, 33)")
    await append(pool, 3)
    with pytest.raises(LogConflict):
        await sequence(pool, keys)


@pytest.mark.parametrize("body", [{"n": 2**60}, {"n": float("nan")}, {"s": "\ud800"}])
async def test_a_body_without_canonical_form_is_refused_at_once(conn: Connection, body: dict[str, Any]) -> None:
    with pytest.raises(EventInvalid):
        await log.append(conn, event(1, **body))


async def test_events_of_an_item_show_pending_ones(pool: Pool, keys: Signer) -> None:
    await append(pool, 7)
    await sequence(pool, keys)
    (waiting,) = await append(pool, 7, kind=Kind.UPDATE)
    async with pool.connection() as conn:
        found = await events_of(conn, "things", "item-7")
        assert [(one["kind"], one["pending"]) for one in found] == [("REGISTER", False), ("UPDATE", True)]
        with pytest.raises(ProofPending):
            await bundle(conn, waiting)


async def proof_of(pool: Pool, keys: Signer, **options: Any) -> bytes:
    await append(pool, *range(5))
    (wanted,) = await append(pool, 5, **options)
    await append(pool, *range(6, 11))
    await sequence(pool, keys)
    async with pool.connection() as conn:
        data = await bundle(conn, wanted)
    assert data is not None
    return data


async def test_proofs_hold_offline_with_and_without_a_pinned_key(pool: Pool, keys: Signer, tmp_path: Path) -> None:
    data = await proof_of(pool, keys, kind=Kind.CREATE, source="own")
    assert verify.verify(data).ok
    verdict = verify.verify(data, keys.log_vkey)
    assert verdict.ok
    assert (verdict.signature, verdict.key) == ("ok", "pinned")
    assert not verify.verify(data, signer(tmp_path).log_vkey).ok
    async with pool.connection() as conn:
        note = await newest_note(conn)
        text = await tlog_proof(conn, UUID(verdict.facts["id"]))
    assert note is not None
    assert text is not None
    assert text.startswith("c2sp.org/tlog-proof@v1\n")
    assert text.endswith(note)


@pytest.mark.parametrize("options", [{"kind": Kind.CREATE, "source": "own"}, {}], ids=["signed", "unsigned"])
async def test_every_changed_byte_of_a_proof_is_found(pool: Pool, keys: Signer, options: dict[str, Any]) -> None:
    data = await proof_of(pool, keys, **options)
    for position in range(len(data)):
        for flip in (0x01, 0x20):
            changed = bytearray(data)
            changed[position] ^= flip
            try:
                verdict = verify.verify(bytes(changed))
            except verify.Unreadable:
                continue
            assert not verdict.ok, f"byte {position}: {data[max(0, position - 20) : position + 20]!r}"


async def test_verify_command_in_an_empty_folder(pool: Pool, keys: Signer, tmp_path: Path) -> None:
    proof = tmp_path / "proof.json"
    proof.write_bytes(await proof_of(pool, keys))
    env = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "lineage", "verify", *words]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)

    good = run("proof.json", "--key", keys.log_vkey)
    assert (good.returncode, good.stdout.split("\n")[0]) == (0, "OK"), good.stdout + good.stderr
    content = bytearray(proof.read_bytes())
    content[content.index(b'"leaf":"') + 40] ^= 1
    proof.write_bytes(content)
    bad = run("proof.json")
    assert bad.returncode in (1, 2)
    assert bad.stdout.startswith(("FAULT: ", "UNREADABLE: "))
    assert run("missing.json").returncode == 2
    assert json.loads(run("proof.json", "--json").stdout)["ok"] is False


def test_the_verifier_imports_nothing_of_ours_nor_a_driver() -> None:
    program = (
        "import sys, lineage.verify; "
        "print([name for name in sys.modules if name.split('.')[0] in ('psycopg', 'asyncpg', 'db', 'ingest', 'api', 'pydantic')"
        " or name.startswith('lineage.') and not name.startswith('lineage.verify')])"
    )
    answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert answer.stdout.strip() == "[]", answer.stdout + answer.stderr


@pytest.mark.parametrize(
    "verb", ["update lineage.event set body = '{}'", "delete from lineage.event", "truncate lineage.event cascade"]
)
async def test_the_log_refuses_changes(pool: Pool, keys: Signer, verb: str) -> None:
    await append(pool, 1)
    await sequence(pool, keys)
    async with pool.connection() as conn:
        with pytest.raises(Exception, match="append-only"):
            await conn.execute(verb)


COLLECTION = {"id": "things", "type": "Collection", "stac_version": "1.1.0", "description": "", "license": "other", "links": [],
              "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}}}  # fmt: skip


def item(number: int, when: str = "2026-01-15T00:00:00Z") -> dict[str, Any]:
    return {
        "type": "Feature", "stac_version": "1.1.0", "id": f"item-{number}", "collection": "things", "links": [], "assets": {},
        "geometry": {"type": "Point", "coordinates": [1, 2]}, "bbox": [1, 2, 1, 2], "properties": {"datetime": when},
    }  # fmt: skip


@pytest.fixture
async def collection(conn: Connection) -> None:
    await conn.execute(
        "insert into pgstac.collections (content, partition_trunc) values ($1, 'month')", (Jsonb(COLLECTION),)
    )


async def unattributed(conn: Connection) -> list[tuple[str, str]]:
    rows = await (
        await conn.execute("select kind, item_id, actor_id from lineage.event_outbox order by position")
    ).fetchall()
    assert {row["actor_id"] for row in rows} <= {"unattributed", "tester"}
    return [(row["kind"], row["item_id"]) for row in rows if row["actor_id"] == "unattributed"]


@pytest.mark.usefixtures("collection")
async def test_changes_without_an_event_are_logged_as_unattributed(conn: Connection) -> None:
    await conn.execute("select pgstac.create_items($1)", (Jsonb([item(1), item(2)]),))
    assert sorted(await unattributed(conn)) == [("CREATE", "item-1"), ("CREATE", "item-2")]
    await conn.execute("delete from lineage.event_outbox")
    await conn.execute("select pgstac.upsert_item($1)", (Jsonb(item(1, "2026-03-15T00:00:00Z")),))
    assert await unattributed(conn) == [("UPDATE", "item-1")]
    await conn.execute("delete from lineage.event_outbox")
    await conn.execute("select pgstac.delete_item('item-2')")
    assert await unattributed(conn) == [("DELETE", "item-2")]
    await conn.execute("delete from lineage.event_outbox")
    await conn.execute("update pgstac.items set private = '{}' where id = 'item-1'")
    assert await unattributed(conn) == [("UPDATE", "item-1")]


@pytest.mark.usefixtures("collection")
@pytest.mark.parametrize("event_first", [True, False])
async def test_a_change_with_its_event_is_not_reported(conn: Connection, event_first: bool) -> None:
    async with conn.transaction():
        if event_first:
            await log.append(conn, event(1))
        await conn.execute("select pgstac.create_items($1)", (Jsonb([item(1)]),))
        if not event_first:
            await log.append(conn, event(1))
    assert await unattributed(conn) == []
    async with conn.transaction():
        await log.append(conn, event(2))
        await conn.execute("select pgstac.upsert_item($1)", (Jsonb(item(1, "2026-05-01T00:00:00Z")),))
    assert await unattributed(conn) == [("UPDATE", "item-1")], "the event was about another item"


@pytest.mark.usefixtures("collection")
async def test_loading_with_pypgstac_is_reported_too(
    conn: Connection, database: DatabaseSettings, tmp_path: Path
) -> None:
    from psycopg_pool import ConnectionPool
    from pypgstac.db import PgstacDB
    from pypgstac.load import Loader, Methods

    path = tmp_path / "items.ndjson"
    path.write_text("\n".join(json.dumps(item(number)) for number in range(3)))
    with ConnectionPool(database.conninfo, min_size=0, max_size=1, open=True) as sync_pool:
        loader_db = PgstacDB(pool=sync_pool)
        Loader(loader_db).load_items(str(path), Methods.insert)
        loader_db.disconnect()
    assert sorted(await unattributed(conn)) == [("CREATE", f"item-{number}") for number in range(3)]


async def test_recorded_times_never_go_back(pool: Pool, keys: Signer) -> None:
    for number in range(3):
        await append(pool, number)
        await sequence(pool, keys)
    async with pool.connection() as conn:
        times = [datetime.fromisoformat(one["recorded_at"]) for one in await events_from(conn, 0, 10)]
    assert times == sorted(times)
