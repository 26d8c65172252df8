"""Keys that follow each other: numbers decide who may sign, never a clock; the audit and the offline verifier judge alike."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from db.pools import Connection, Pool
from lineage import key_events, log, verify
from lineage.audit import audit
from lineage.errors import KeyRefused
from lineage.events import Kind
from lineage.export import export
from lineage.history import newest_note
from lineage.keys import Signer
from lineage.note import key_id
from lineage.proof import bundle
from lineage.sequencer import sequence
from tests.lineage.samples import event, signer


@pytest.fixture
def keys(tmp_path: Path) -> Signer:
    return signer(tmp_path)


async def logged(pool: Pool, keys: Signer, number: int) -> UUID:
    one = event(number, Kind.CREATE, "own")
    async with pool.connection() as conn, conn.transaction():
        await log.append(conn, one)
    await sequence(pool, keys)
    return one.id


async def judged(conn: Connection, folder: Path, pinned: str) -> verify.Verdict:
    assert await audit(conn) == []
    await export(conn, folder)
    return verify.judge_folder(folder, verify.Policy(verify.parse_vkey(pinned)))


async def test_a_new_event_key_takes_over_at_its_number(
    pool: Pool, conn: Connection, keys: Signer, tmp_path: Path
) -> None:
    first = await logged(pool, keys, 1)
    new = await key_events.rotate(conn, keys, "event")
    second = await logged(pool, keys, 2)
    third = await logged(pool, keys, 3)
    rows = await (await conn.execute("select kind, key_id from lineage.event order by seq")).fetchall()
    old, made = key_id(keys.event_vkey), key_id(new)
    assert [(row["kind"], row["key_id"]) for row in rows] == [
        ("GENESIS", old), ("CREATE", old), ("KEY", old), ("CREATE", made), ("CREATE", made),
    ]  # fmt: skip
    for one in (first, second, third):
        data = await bundle(conn, one)
        assert data is not None
        assert verify.verify(data, keys.log_vkey).ok
    verdict = await judged(conn, tmp_path / "out", keys.log_vkey)
    assert verdict.ok, verdict.faults


async def test_two_log_keys_sign_until_the_old_one_is_retired(
    pool: Pool, conn: Connection, keys: Signer, tmp_path: Path
) -> None:
    await logged(pool, keys, 1)
    new = await key_events.rotate(conn, keys, "log")
    wanted = await logged(pool, keys, 2)
    note = verify.parse_checkpoint(await newest_note(conn))
    assert [verify.checkpoint_verdict(note, verify.parse_vkey(one)) for one in (keys.log_vkey, new)] == ["ok", "ok"]
    data = await bundle(conn, wanted)
    assert data is not None
    assert verify.verify(data, keys.log_vkey).ok
    assert verify.verify(data, new).ok
    await key_events.retire(conn, keys, key_id(keys.log_vkey))
    await logged(pool, keys, 3)
    after = verify.parse_checkpoint(await newest_note(conn))
    assert verify.checkpoint_verdict(after, verify.parse_vkey(keys.log_vkey)) == "unknown_key"
    assert verify.checkpoint_verdict(after, verify.parse_vkey(new)) == "ok"
    verdict = await judged(conn, tmp_path / "out", keys.log_vkey)
    assert verdict.ok, verdict.faults


async def test_what_a_revoked_key_signed_is_suspect(pool: Pool, conn: Connection, keys: Signer, tmp_path: Path) -> None:
    good = await logged(pool, keys, 1)
    suspect = await logged(pool, keys, 2)
    made = await key_events.revoke(conn, keys, key_id(keys.event_vkey), 2, "laptop stolen")
    assert made is not None
    fresh = await logged(pool, keys, 3)
    verdicts = []
    for one in (good, suspect, fresh):
        data = await bundle(conn, one)
        assert data is not None
        verdicts.append(verify.verify(data, keys.log_vkey))
    assert [one.signature for one in verdicts] == ["ok", "suspect", "ok"]
    assert [one.log for one in verdicts] == ["included"] * 3
    assert [one.code for one in verdicts[1].faults] == ["suspect"]
    verdict = await judged(conn, tmp_path / "out", keys.log_vkey)
    assert verdict.ok
    assert verdict.signature == "suspect"


@pytest.mark.parametrize("purpose", ["event", "log"])
async def test_the_last_key_cannot_be_retired(pool: Pool, conn: Connection, keys: Signer, purpose: str) -> None:
    await logged(pool, keys, 1)
    with pytest.raises(KeyRefused):
        await key_events.retire(conn, keys, key_id(keys.event_vkey if purpose == "event" else keys.log_vkey))
    with pytest.raises(KeyRefused):
        await key_events.retire(conn, keys, "nobody+00000000")


@pytest.mark.parametrize("action", ["add", "retire", "revoke"])
async def test_a_change_of_keys_that_the_keys_have_not_signed_stops_the_sequencer(
    pool: Pool, conn: Connection, keys: Signer, tmp_path: Path, action: str
) -> None:
    """Whoever can only write into the database can neither bring in a key of his own nor take one away."""
    await logged(pool, keys, 1)
    await key_events.rotate(conn, keys, "log")
    thief, old = signer(tmp_path / "thief"), key_id(keys.event_vkey)
    facts = (
        {"vkey": thief.event_vkey, "replaces": old}
        if action == "add"
        else {"key": key_id(keys.log_vkey), "compromised_since": 0}
    )
    body = {"action": action, "purpose": "event", "signatures": {old: "AAAA"}, **facts}
    async with conn.transaction():
        await log.append(conn, event(9, Kind.KEY, "own", **body))
    with pytest.raises(KeyRefused, match="has not signed"):
        await sequence(pool, keys)
