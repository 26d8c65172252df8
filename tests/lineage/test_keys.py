"""Keys that follow each other: numbers decide who may sign, never a clock; the audit and the offline verifier judge alike."""

from __future__ import annotations

from base64 import b64decode, b64encode
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from db.pools import Connection, Pool
from lineage import key_events, log, sequencer, verify
from lineage.audit import audit
from lineage.errors import KeyRefused, LogConflict
from lineage.events import Event, Kind
from lineage.export import export
from lineage.history import newest_note
from lineage.keyring import facade_id, facade_print
from lineage.keys import Signer
from lineage.note import key_id
from lineage.proof import bundle
from lineage.sequencer import sequence
from lineage.trace_register import trust_here
from lineage.trace_trust import grade_certificate
from tests.lineage.samples import event, signer


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Signer:
    monkeypatch.setattr("lineage.keys.FACADE_BITS", 2048)  # longer ones take a second to make
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


async def _certificates(conn: Connection) -> list[str]:
    query = """select t.certificate from lineage.trace_signature as t join lineage.event as e on e.id = t.event_id order by e.seq"""
    return [facade_id(row["certificate"]) for row in await (await conn.execute(query)).fetchall()]


async def _newest_certificate(conn: Connection) -> x509.Certificate:
    query = "select certificate from lineage.signing_key where purpose = 'facade' order by from_size desc limit 1"
    row = await (await conn.execute(query)).fetchone()
    assert row is not None
    return x509.load_der_x509_certificate(b64decode(row["certificate"]))


async def test_a_new_key_of_the_facade_signs_the_traces_that_follow(
    pool: Pool, conn: Connection, keys: Signer, tmp_path: Path
) -> None:
    await logged(pool, keys, 1)
    made = await key_events.rotate(conn, keys, "facade")
    await logged(pool, keys, 2)
    first = facade_id(keys.facade.text)
    assert await _certificates(conn) == [first, made]
    verdict = await judged(conn, tmp_path / "out", keys.log_vkey)
    assert verdict.ok, verdict.faults
    trust = await trust_here(conn)
    old, new = keys.facade.certificate, await _newest_certificate(conn)
    assert [grade_certificate(one, datetime.now(UTC), trust)[0] for one in (old, new)] == ["valid", "valid"]
    await key_events.revoke(conn, keys, first, 1, "laptop stolen")
    await logged(pool, keys, 3)
    trust = await trust_here(conn)
    assert [grade_certificate(one, datetime.now(UTC), trust)[0] for one in (old, new)] == [
        "revoked",
        "valid",
    ]
    assert await _certificates(conn) == [first, made, made]
    assert await key_events.revoke(conn, keys, made, 3) is not None, "another follows at once"
    await logged(pool, keys, 4)
    assert (await _certificates(conn))[-1] not in (first, made)
    assert await audit(conn) == []
    with pytest.raises(KeyRefused):
        await key_events.retire(conn, keys, (await _certificates(conn))[-1])


async def test_a_trace_with_the_certificate_of_another_is_named(
    pool: Pool, conn: Connection, keys: Signer, tmp_path: Path
) -> None:
    """Whoever may write everything in the database signs a trace anew, with a certificate of his own; the log names ours."""
    await logged(pool, keys, 1)
    await key_events.rotate(conn, keys, "facade")
    wanted = await logged(pool, keys, 2)
    for thief in (signer(tmp_path / "thief").facade, keys.facade):  # the second signs no more
        key, certificate = thief.key, thief.text
        row = await (
            await conn.execute("select message from lineage.trace_signature where event_id = $1", (wanted,))
        ).fetchone()
        assert row is not None
        signature = b64encode(key.sign(row["message"].encode(), PKCS1v15(), SHA256())).decode()
        await conn.execute("alter table lineage.trace_signature disable trigger all")
        await conn.execute(
            "update lineage.trace_signature set signature = $2, certificate = $3 where event_id = $1",
            (wanted, signature, certificate),
        )
        assert [fault.code for fault in await audit(conn)] == ["trace-signature"]
    await conn.execute("alter table lineage.signing_key disable trigger all")
    await conn.execute(
        "update lineage.signing_key set to_size = null where key_id = $1", (facade_id(keys.facade.text),)
    )
    assert {fault.code for fault in await audit(conn)} == {"trace-signature", "key-differs"}


async def test_a_log_that_began_without_naming_the_facade_can_rotate_it(
    pool: Pool, conn: Connection, keys: Signer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = sequencer.body_text
    monkeypatch.setattr(sequencer, "body_text", lambda one: real(_without_facade(one)))
    await logged(pool, keys, 1)
    monkeypatch.undo()
    assert await audit(conn) == []
    made = await key_events.rotate(conn, keys, "facade")
    await logged(pool, keys, 2)
    assert await _certificates(conn) == [facade_id(keys.facade.text), made]
    verdict = await judged(conn, tmp_path / "out", keys.log_vkey)
    assert verdict.ok, verdict.faults


def _without_facade(one: Event) -> Event:
    if one.kind is Kind.GENESIS:
        del one.body["keys"]["facade"]
    return one


@pytest.mark.parametrize("action", ["add", "retire", "revoke", "follow"])
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
    if action == "follow":
        certificate, replaced = signer(tmp_path / "thief").make_facade().text, facade_id(keys.facade.text)
        named = {"vkey": facade_print(certificate), "certificate": certificate, "replaces": replaced}
        body = {**body, "action": "add", "purpose": "facade", **named}
    async with conn.transaction():
        await log.append(conn, event(9, Kind.KEY, "own", **body))
    with pytest.raises(KeyRefused, match="has not signed"):
        await sequence(pool, keys)


async def test_a_key_that_is_revoked_once_more_stays_suspect_from_where_it_was(
    pool: Pool, conn: Connection, keys: Signer, tmp_path: Path
) -> None:
    """From 0 on, and then from 1 on: the sequencer stood still, and the worker with it."""
    await logged(pool, keys, 1)
    old = key_id(keys.event_vkey)
    for since in (1, 0, 1):
        await key_events.revoke(conn, keys, old, since)
        await sequence(pool, keys)
    rows = await (
        await conn.execute("select compromised_since from lineage.signing_key where key_id = $1", (old,))
    ).fetchall()
    assert [row["compromised_since"] for row in rows] == [0]
    verdict = await judged(conn, tmp_path / "out", keys.log_vkey)
    assert (verdict.faults, verdict.signature) == ([], "suspect")


@pytest.mark.parametrize("since", [-1, 3, 10**19])
async def test_a_key_is_not_suspect_from_a_number_that_the_log_does_not_have(
    pool: Pool, conn: Connection, keys: Signer, since: int
) -> None:
    await logged(pool, keys, 1)
    with pytest.raises(KeyRefused, match="none has the number"):
        await key_events.revoke(conn, keys, key_id(keys.event_vkey), since)
    await sequence(pool, keys)


#: Rows of the outbox that `log.append` writes never: kind, time, body.
POISON = {
    "no object": ("CREATE", "2026-01-01", "5"),
    "a number beyond all": ("CREATE", "2026-01-01", '{"a":1e400}'),
    "very deep": ("CREATE", "2026-01-01", "[" * 3000 + "]" * 3000),
    "the end of time": ("CREATE", "infinity", "{}"),
    "before Christ": ("CREATE", "0044-03-15 BC", "{}"),
    "a second beginning": ("GENESIS", "2026-01-01", '{"keys":{}}'),
    "no change of keys": ("KEY", "2026-01-01", '{"action":"add"}'),
    "a key that is a list": ("KEY", "2026-01-01", '{"action":"add","purpose":"event","vkey":[],"replaces":{}}'),
}


async def test_what_somebody_writes_into_the_outbox_stops_the_log_with_words(
    pool: Pool, conn: Connection, keys: Signer
) -> None:
    """Other errors ended the worker, and with it harvests and uploads."""
    await logged(pool, keys, 1)
    insert = """insert into lineage.event_outbox (id, kind, name, source, actor_id, claimed_at, body)
        values (gen_random_uuid(), $1, 'n', 'own', 'eve', $2::text::timestamptz, $3)"""
    for values in POISON.values():
        await conn.execute(insert, values)
        with pytest.raises((LogConflict, KeyRefused)):
            await sequence(pool, keys)
        await conn.execute("delete from lineage.event_outbox")
    await logged(pool, keys, 2)
    assert await audit(conn) == []
