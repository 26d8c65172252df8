"""Every attack of the table is found, and named, by the audit of the server and by the offline verifier."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from db.pools import Connection, connect, open_pool
from db.settings import DatabaseSettings
from lineage import log, verify
from lineage.audit import audit
from lineage.canonical import item_sha256
from lineage.events import Event, Kind
from lineage.export import export
from lineage.history import newest_note
from lineage.ids import uuid7
from lineage.keys import Signer
from lineage.sequencer import sequence
from tests.conftest import cloned
from tests.lineage.attacks import ATTACKS, Attack, collection, run
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
