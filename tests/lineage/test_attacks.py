"""Every attack of the table is found, and named, by the audit of the server and by the offline verifier."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from db.pools import Connection, connect, open_pool
from db.settings import DatabaseSettings
from lineage import log, verify
from lineage.audit import CHECKS, LISTED, audit, faults_of
from lineage.audit_graph import graph_faults
from lineage.canonical import item_sha256
from lineage.events import Event, Kind
from lineage.export import export
from lineage.history import newest_note
from lineage.ids import uuid7
from lineage.keys import Signer
from lineage.proof import bundle
from lineage.sequencer import sequence
from tests.conftest import cloned
from tests.lineage.attacks import ATTACKS, Attack, collection, open_up, rewrite, run
from tests.lineage.more_attacks import IN_A_FOLDER, IN_THE_DATABASE
from tests.lineage.samples import NOW, event, signer

ITEM: dict[str, Any] = {
    "type": "Feature", "stac_version": "1.1.0", "id": "waiting", "collection": "things", "links": [], "assets": {},
    "geometry": {"type": "Point", "coordinates": [1, 2]}, "bbox": [1, 2, 1, 2],
    "properties": {"datetime": "2026-01-15T00:00:00Z", "cloud": 5},
}  # fmt: skip


@dataclass(frozen=True)
class Site:
    """A log of 50 events in three batches, an item whose event waits, and the checkpoint that was published."""

    database: DatabaseSettings
    keys: Signer
    note: str


@pytest.fixture(scope="module")
def site(postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    import asyncio

    keys = signer(tmp_path_factory.mktemp("keys"))
    with cloned(postgres, template) as database:
        yield Site(database, keys, asyncio.run(_filled(database, keys)))


async def _filled(database: DatabaseSettings, keys: Signer) -> str:
    async with open_pool(database, min_size=0, max_size=2) as pool:
        for numbers in (range(1, 16), range(16, 31), range(31, 50)):
            async with pool.connection() as conn, conn.transaction():
                await log.append(conn, *(event(number, *_kind(number)) for number in numbers))
            await sequence(pool, keys)
        async with pool.connection() as conn:
            async with conn.transaction():
                await conn.execute("insert into pgstac.collections (content) values ($1)", (collection("things"),))
                await conn.execute("select pgstac.create_items($1)", (Jsonb([ITEM]),))
                body = {"item_sha256": item_sha256(ITEM)}
                await log.append(
                    conn, Event(uuid7(), Kind.CREATE, "waiting", "own", "things", "waiting", "user:ann", NOW, body)
                )
            note = await newest_note(conn)
            assert note is not None
            return note


def _kind(number: int) -> tuple[Kind, str]:
    return (Kind.CREATE, "own") if number % 7 == 0 else (Kind.REGISTER, "demo")


@pytest.fixture
async def copy(postgres: DatabaseSettings, site: Site) -> AsyncIterator[Connection]:
    """A connection to a copy of the log's database."""
    with cloned(postgres, site.database.pgdatabase) as database:
        async with await connect(database) as conn:
            yield conn


async def test_without_an_attack_all_is_whole(copy: Connection, site: Site, tmp_path: Path) -> None:
    assert await audit(copy, kept=[site.note]) == []
    verdict = await exported(copy, site, tmp_path, kept=True)
    assert verdict.ok, verdict.faults
    assert (verdict.signature, verdict.content, verdict.log, verdict.checkpoint, verdict.key) == (
        "ok", "match", "included", "ok", "pinned",
    )  # fmt: skip


async def exported(conn: Connection, site: Site, folder: Path, *, kept: bool) -> verify.Verdict:
    await export(conn, folder / "log")
    known = [verify.parse_checkpoint(site.note)] if kept else []
    return verify.judge_folder(folder / "log", verify.Policy(verify.parse_vkey(site.keys.log_vkey), known))


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
async def test_an_attack_is_named(attack: Attack, copy: Connection, site: Site, tmp_path: Path) -> None:
    await run(copy, attack, site.keys)
    found = await audit(copy, kept=[site.note] if attack.kept else [])
    assert _named(found, attack.online, attack.seq), found
    if attack.offline is not None:
        verdict = await exported(copy, site, tmp_path, kept=attack.kept)
        assert _named(verdict.faults, attack.offline, attack.seq), verdict.faults


def _named(faults: list[verify.Fault], codes: set[str], seq: int | None) -> bool:
    return any(fault.code in codes and seq in (None, fault.seq) for fault in faults)


async def test_what_the_owner_of_the_database_does_is_named_and_breaks_nothing(copy: Connection, site: Site) -> None:
    await open_up(copy)
    await copy.execute("alter table lineage.commitment disable trigger all")
    wrong = {}
    for name, (statement, codes, seq) in IN_THE_DATABASE.items():
        async with copy.transaction(force_rollback=True):
            await copy.execute(statement.encode())
            found = await faults_of(copy, [site.note], [], CHECKS)
            await graph_faults(copy, is_damaged=bool(found))
        if not _named(found, codes, seq):
            wrong[name] = found
    assert wrong == {}
    assert await audit(copy, kept=[site.note]) == []


async def test_many_faults_of_one_kind_hide_none_of_another(copy: Connection) -> None:
    await open_up(copy)
    columns = "geometry, collection, datetime, end_datetime, content"
    await copy.execute(
        f"insert into pgstac.items (id, {columns}) select 'i' || n, {columns} from pgstac.items, generate_series(1, 300) as n".encode()
    )
    await copy.execute("insert into lineage.commitment values (sha256('a'), 'salt', array[gen_random_uuid()])")
    found = [fault.code for fault in await audit(copy)]
    assert (found.count("unattributed"), found.count("commitment-differs")) == (LISTED + 1, 1)


async def test_what_a_folder_of_a_log_may_hold_is_named_and_breaks_nothing(
    copy: Connection, site: Site, tmp_path: Path
) -> None:
    await export(copy, tmp_path / "log")
    wrong = {}
    for name, (change, codes) in IN_A_FOLDER.items():
        folder = shutil.copytree(tmp_path / "log", tmp_path / name)
        change(folder)
        try:
            found = verify.judge_folder(folder, verify.Policy(verify.parse_vkey(site.keys.log_vkey))).faults
        except verify.Unreadable:
            found = []
        if not (_named(found, codes, None) if codes else found == []):
            wrong[name] = found
    assert wrong == {}


async def test_an_own_event_that_nobody_has_signed_is_named(copy: Connection, site: Site, tmp_path: Path) -> None:
    """Who has the log's key and no event key could say anything in a person's name."""
    await open_up(copy)
    leaf = """convert_to(replace(convert_from(leaf, 'UTF8'), '"' || key_id || '"', 'null'), 'UTF8')"""
    await copy.execute(f"update lineage.event set leaf = {leaf}, sig = null, key_id = null where seq = 7".encode())
    await rewrite(copy, site.keys, all_checkpoints=True)
    assert ("signature-missing", 7) in {(fault.code, fault.seq) for fault in await audit(copy)}
    verdict = await exported(copy, site, tmp_path, kept=False)
    assert [(fault.code, fault.seq) for fault in verdict.faults] == [("signature-missing", 7)]
    row = await (await copy.execute("select id from lineage.event where seq = 7")).fetchone()
    assert row is not None
    alone = verify.verify(await bundle(copy, row["id"]) or b"", site.keys.log_vkey)
    assert [fault.code for fault in alone.faults] == ["signature-missing"]
