"""A witness on a real socket, and a log that asks it: what it has seen cannot be taken back."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import aics_tlog
import httpx
import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from db.pools import Connection, Pool
from lineage import key_events, log, verify
from lineage.audit import audit
from lineage.cosigning import Cosigner, Cosigning, cosigners
from lineage.errors import KeyMismatch, WitnessRefuses
from lineage.events import Kind
from lineage.history import newest_note
from lineage.keys import Signer, load_ed25519, load_mldsa44
from lineage.note import checkpoint_text, cosigner_vkey, key_id, sign_note
from lineage.proof import bundle, consistency, tlog_proof
from lineage.sequencer import sequence
from lineage.tree import Appender, consistency_path, leaf_hash
from lineage.witness import Witness, request_body
from lineage.witness_command import add_arguments, run, serving
from tests.lineage.attacks import forge_event, open_up, rewrite
from tests.lineage.samples import event, signer
from tests.size import sized

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Stand:
    """A witness that serves, and its address."""

    witness: Witness
    url: str

    def post(self, old: int, path: list[bytes], note: str) -> httpx.Response:
        return self.post_bytes(request_body(old, path, note))

    def post_bytes(self, body: bytes) -> httpx.Response:
        return httpx.post(f"{self.url}/add-checkpoint", content=body, timeout=10)


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return signer(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def stand(keys: Signer, tmp_path: Path) -> Iterator[Stand]:
    witness = Witness(
        "example.org/w1",
        [load_ed25519(tmp_path / "witness.pem"), load_mldsa44(tmp_path / "witness-mldsa44.pem")],
        {keys.origin: [verify.parse_vkey(keys.log_vkey)]},
        tmp_path,
    )
    with serving(witness, "127.0.0.1", 0) as server:
        yield Stand(witness, f"http://127.0.0.1:{server.server_port}")


class Log:
    """A log in memory."""

    def __init__(self, keys: Signer) -> None:
        self.keys, self.tree, self.store = keys, Appender(0, {}), dict[tuple[int, int], bytes]()

    def grow(self, *leaves: bytes) -> str:
        self.tree.append(map(leaf_hash, leaves))
        self.store.update(self.tree.changed)
        return self.note()

    def note(self, origin: str | None = None) -> str:
        name = origin or self.keys.origin
        return sign_note(checkpoint_text(name, self.tree.size, self.tree.root()), name, self.keys.log_key)

    def path(self, old: int) -> list[bytes]:
        return consistency_path(self.store.__getitem__, old, self.tree.size)


def test_it_cosigns_what_goes_on_and_nothing_else(stand: Stand, keys: Signer, tmp_path: Path) -> None:
    mine = Log(keys)
    first = mine.grow(b"a", b"b", b"c")
    answer = stand.post(0, [], first)
    assert answer.status_code == 200
    parsed = aics_tlog.parse_note(first + answer.text)
    assert aics_tlog.verify_note(parsed, [aics_tlog.parse_vkey(keys.log_vkey)])
    checkpoint = verify.parse_checkpoint(first + answer.text)
    assert [verify.checkpoint_verdict(checkpoint, verify.parse_vkey(one)) for one in stand.witness.vkeys] == [
        "ok",
        "ok",
    ]
    assert stand.post(3, [], first).status_code == 200, "the same once more"
    second = mine.grow(b"d", b"e")
    too_old = stand.post(2, mine.path(2), second)
    assert (too_old.status_code, too_old.text, too_old.headers["content-type"]) == (409, "3\n", "text/x.tlog.size")
    assert stand.post(3, mine.path(3)[:-1], second).status_code == 422
    assert stand.post(3, [], second).status_code == 422
    other = Log(keys)
    fork = other.grow(b"a", b"b", b"x")
    assert stand.post(3, [], fork).status_code == 409
    other.grow(b"d", b"e")
    assert stand.post(3, other.path(3), other.note()).status_code == 422
    assert stand.post(3, mine.path(3), second).status_code == 200
    assert stand.post(5, [], first).status_code == 400, "smaller than the old size"
    again = Witness("example.org/w1", stand.witness.keys, stand.witness.logs, tmp_path)  # begun anew
    last = again.last(keys.origin)
    assert last is not None
    assert last.size == 5


@pytest.mark.parametrize("state", [b"", b"\xff\xfe", b"x"], ids=["empty", "no text", "no note"])
def test_what_it_has_seen_and_cannot_read_is_not_taken_for_a_new_log(
    stand: Stand, keys: Signer, tmp_path: Path, state: bytes
) -> None:
    note = Log(keys).grow(b"a")
    assert stand.post(0, [], note).status_code == 200
    (file,) = tmp_path.glob("*.checkpoint")
    file.write_bytes(state)
    assert stand.post(0, [], note).status_code == 500
    assert file.read_bytes() == state


def test_it_knows_its_logs_and_their_keys(stand: Stand, keys: Signer, tmp_path: Path) -> None:
    mine = Log(keys)
    mine.grow(b"a")
    assert stand.post(0, [], mine.note("example.org/other")).status_code == 404
    stranger = Log(signer(tmp_path / "stranger"))
    assert stand.post(0, [], stranger.grow(b"a")).status_code == 403


BODIES = [
    b"", b"old 0", b"old 0\n\n", b"\xff\xfe", b"old 00\n\nx\n1\nAA==\n\n", b"old -1\n\nx", b"old 1\nAAAA\n\nx", b"new 0\n\nx",
    b"old 0\n" * 100, b"old 9999999999999999999999\n\nx",
]  # fmt: skip


@pytest.mark.parametrize("body", BODIES)
def test_what_is_no_request_is_refused(stand: Stand, body: bytes) -> None:
    assert stand.post_bytes(body).status_code == 400


def test_bodies_are_bounded_and_there_is_one_route(stand: Stand) -> None:
    assert stand.post_bytes(b"old 0\n" + b"x" * 130_000).status_code == 413
    assert httpx.post(f"{stand.url}/other", content=b"x").status_code == 404


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=10) as client:
        yield client


def asking(stand: Stand, http: httpx.AsyncClient) -> Cosigning:
    return Cosigning(cosigners([f"{stand.url}={one}" for one in stand.witness.vkeys]), http)


async def logged(pool: Pool, keys: Signer, *numbers: int) -> None:
    async with pool.connection() as conn, conn.transaction():
        await log.append(conn, *map(event, numbers))
    await sequence(pool, keys)


async def test_the_log_has_its_checkpoints_cosigned(
    pool: Pool, conn: Connection, keys: Signer, stand: Stand, http: httpx.AsyncClient
) -> None:
    ask = asking(stand, http)
    assert await ask.ask(pool) == 0, "the log has not begun"
    for numbers in ((1, 2), (3,)):
        await logged(pool, keys, *numbers)
        assert await ask.ask(pool) == 1
        assert await ask.ask(pool) == 0
    await logged(pool, keys, 4)
    assert await asking(stand, http).ask(pool) == 1, "a new process finds where the witness is"
    note = await newest_note(conn, cosigned=True)
    for pinned in (stand.witness.vkeys[:1], stand.witness.vkeys[1:], stand.witness.vkeys):
        policy = verify.Policy(verify.parse_vkey(keys.log_vkey), witnesses=[verify.parse_vkey(one) for one in pinned])
        assert verify.judge_note(note or "", policy).witness == "cosigned"
    bare = verify.judge_note(await newest_note(conn) or "", policy)
    assert (bare.witness, bare.log, [one.code for one in bare.faults]) == ("missing", "unwitnessed", ["unwitnessed"])
    assert await audit(conn, witnesses=stand.witness.vkeys) == []
    await open_up(conn)
    await conn.execute(
        """
        update lineage.cosignature as c set line = (select line from lineage.cosignature where size = 3 and witness = c.witness)
        where size = 4
        """
    )
    for vkey in stand.witness.vkeys:
        assert [one.code for one in await audit(conn, witnesses=[vkey])] == ["witness-bad"]


async def test_proofs_carry_the_lines_of_witnesses_when_asked(
    pool: Pool, conn: Connection, keys: Signer, stand: Stand, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    vkeys = stand.witness.vkeys
    pinned = [verify.parse_vkey(one) for one in vkeys]
    await logged(pool, keys, 1)
    await asking(stand, http).ask(pool)
    await logged(pool, keys, 2)  # not cosigned yet
    rows = await (await conn.execute("select id from lineage.event where kind = 'REGISTER' order by seq")).fetchall()
    first, second = (row["id"] for row in rows)

    def judged(data: bytes | None, *witnesses: verify.VerifierKey) -> verify.Verdict:
        policy = verify.Policy(verify.parse_vkey(keys.log_vkey), witnesses=list(witnesses))
        return verify.judge_file(verify.load(data or b""), policy)

    data = await bundle(conn, first, witnesses=vkeys)
    for asked in (pinned, pinned[:1], pinned[1:]):
        verdict = judged(data, *asked)
        assert (verdict.ok, verdict.witness, verdict.facts["size"]) == (True, "cosigned", 2)
    alone = judged(data)
    assert (alone.ok, alone.witness) == (True, "none")
    assert "example.org/w1" in alone.notes[0]
    plain = judged(await bundle(conn, first), pinned[1])
    assert (plain.witness, plain.facts["size"]) == ("missing", 3)
    late = judged(await bundle(conn, second, witnesses=vkeys), pinned[1])
    assert (late.log, late.witness, late.facts["size"]) == ("unwitnessed", "missing", 3)
    stranger = cosigner_vkey("example.org/w2", load_mldsa44(tmp_path / "stranger.pem"))
    assert judged(await bundle(conn, first, witnesses=[stranger])).ok, "no line of it, and no word of it"
    assert (await tlog_proof(conn, first, witnesses=vkeys) or "").count("example.org/w1") == 2
    await asking(stand, http).ask(pool)
    grown = judged(await consistency(conn, 2, witnesses=vkeys[1:]), pinned[1])
    assert (grown.ok, grown.log, grown.witness) == (True, "consistent", "cosigned")
    assert judged(await consistency(conn, 2)).ok
    _no_change_is_unseen(await bundle(conn, first, witnesses=vkeys) or b"")


async def test_an_older_checkpoint_that_is_cosigned_hides_no_revocation(
    pool: Pool, conn: Connection, stand: Stand, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    own = signer(tmp_path / "own")
    stand.witness.logs[own.origin] = [verify.parse_vkey(own.log_vkey)]
    made = event(1, Kind.CREATE, "own")
    async with conn.transaction():
        await log.append(conn, made)
    await sequence(pool, own)
    await asking(stand, http).ask(pool)
    before = verify.verify(await bundle(conn, made.id, witnesses=stand.witness.vkeys) or b"")
    assert (before.signature, before.facts["size"]) == ("ok", 2)
    await key_events.revoke(conn, own, key_id(own.event_vkey), 0, "stolen")
    await sequence(pool, own)
    after = verify.verify(await bundle(conn, made.id, witnesses=stand.witness.vkeys) or b"")
    assert (after.signature, after.log) == ("suspect", "included")


def _no_change_is_unseen(data: bytes) -> None:
    for position in range(0, len(data), sized(41, 1)):
        changed = bytearray(data)
        changed[position] ^= 0x01
        try:
            verdict = verify.verify(bytes(changed))
        except verify.Unreadable:
            continue
        assert not verdict.ok, f"byte {position}: {data[max(0, position - 20) : position + 20]!r}"


async def test_l04_a_history_that_was_rewritten_with_all_keys_is_refused(
    pool: Pool, conn: Connection, keys: Signer, stand: Stand, http: httpx.AsyncClient
) -> None:
    await logged(pool, keys, *range(1, 30))
    await asking(stand, http).ask(pool)
    await open_up(conn)
    await forge_event(conn, keys, 20)
    await conn.execute("delete from lineage.cosignature")
    await rewrite(conn, keys, all_checkpoints=True)
    assert await audit(conn) == [], "nobody without an old checkpoint can see it"
    with pytest.raises(WitnessRefuses, match="another log of 30"):
        await asking(stand, http).ask(pool)
    await logged(pool, keys, 31)
    with pytest.raises(WitnessRefuses, match="rewritten"):
        await asking(stand, http).ask(pool)


async def test_l09_a_log_that_was_set_back_is_refused(
    pool: Pool, conn: Connection, keys: Signer, stand: Stand, http: httpx.AsyncClient
) -> None:
    await logged(pool, keys, 1, 2)
    await logged(pool, keys, 3)
    await asking(stand, http).ask(pool)
    await open_up(conn)
    for statement in (
        "delete from lineage.cosignature",
        "delete from lineage.event where seq = 3",
        "delete from lineage.checkpoint where size = 4",
    ):
        await conn.execute(statement)
    with pytest.raises(WitnessRefuses, match="set back"):
        await asking(stand, http).ask(pool)


async def test_a_witness_that_is_away_stops_nothing(
    pool: Pool, keys: Signer, http: httpx.AsyncClient, stand: Stand
) -> None:
    await logged(pool, keys, 1)
    away = Cosigning([Cosigner("http://127.0.0.1:9", [verify.parse_vkey(stand.witness.vkeys[0])])], http)
    assert await away.ask(pool) == 0
    other = verify.parse_vkey(signer(stand.witness.folder / "other").log_vkey).cosigner
    assert await Cosigning([Cosigner(stand.url, [other])], http).ask(pool) == 0, (
        "another key than the one that is known"
    )


@pytest.mark.parametrize("word", ["http://x", "http://x=y", "http://x=a+00000000+AAAA"])
def test_a_setting_that_names_no_witness_is_refused(word: str) -> None:
    with pytest.raises(KeyMismatch, match="FEDERATOR_LOG_WITNESSES"):
        cosigners([word])


@pytest.mark.parametrize("body", ["", "— x AAAA\n" * 5000, "\0" * 100_000])
async def test_an_answer_without_its_lines_costs_the_lines_alone(pool: Pool, keys: Signer, body: str) -> None:
    await logged(pool, keys, 1)
    transport = httpx.MockTransport(lambda _: httpx.Response(200, text=body))
    key = cosigner_vkey("w", MLDSA44PrivateKey.from_seed_bytes(bytes(32)))
    async with httpx.AsyncClient(transport=transport) as http:
        assert await Cosigning(cosigners([f"http://w={key}"]), http).ask(pool) == 0


async def test_a_witness_with_one_of_its_keys_is_heard(
    pool: Pool, conn: Connection, keys: Signer, stand: Stand, http: httpx.AsyncClient
) -> None:
    await logged(pool, keys, 1)
    asked = asking(stand, http)
    stand.witness.keys = stand.witness.keys[:1]
    assert await asked.ask(pool) == 1
    assert await asked.ask(pool) == 0, "it is not asked again for what it does not have"
    stored = await (await conn.execute("select witness from lineage.cosignature")).fetchall()
    assert [row["witness"] for row in stored] == [asked.witnesses[0].keys[0].id]


def _printed(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> tuple[int, list[str]]:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    status = run(parser.parse_args(["key", "--dir", str(folder), "--name", "example.org/w1", *words]))
    return status, capsys.readouterr().out.splitlines()


def test_a_witness_of_before_keeps_its_key_and_gets_another(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = cosigner_vkey("example.org/w1", load_ed25519(tmp_path / "witness.pem"))
    status, printed = _printed(capsys, tmp_path)
    assert (status, printed[0]) == (0, before)
    assert [verify.parse_vkey(one).kind for one in printed] == [b"\x04", b"\x06"]
    assert _printed(capsys, tmp_path) == (0, printed), "they stay"
    assert _printed(capsys, tmp_path, "--keys", "ed25519") == (0, printed[:1])
    assert _printed(capsys, tmp_path, "--keys", "ml-dsa-44") == (0, printed[1:])
    assert _printed(capsys, tmp_path, "--name", "two words")[0] == 2
    swapped = tmp_path / "swapped"
    load_ed25519(tmp_path / "witness.pem")
    swapped.mkdir()
    (swapped / "witness-mldsa44.pem").write_bytes((tmp_path / "witness.pem").read_bytes())
    assert _printed(capsys, swapped)[0] == 2

    def unsupported(_: Path) -> None:
        raise UnsupportedAlgorithm("no ML-DSA here")

    monkeypatch.setattr("lineage.witness_command.load_mldsa44", unsupported)
    assert _printed(capsys, tmp_path) == (0, [before])
    assert _printed(capsys, tmp_path, "--keys", "ml-dsa-44") == (2, ["no ML-DSA here"])


def test_it_runs_as_a_process_of_its_own(keys: Signer, tmp_path: Path) -> None:
    words = ["witness", "serve", "--dir", str(tmp_path), "--log", keys.log_vkey, "--port", "0"]
    env = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "lineage", *words], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        vkeys = [process.stdout.readline().strip() for _ in range(2)]
        url = process.stdout.readline().strip().split()[-1]
        mine = Log(keys)
        answer = httpx.post(f"{url}/add-checkpoint", content=request_body(0, [], mine.grow(b"a")), timeout=10)
        checkpoint = verify.parse_checkpoint(mine.note() + answer.text)
        assert [verify.checkpoint_verdict(checkpoint, verify.parse_vkey(one)) for one in vkeys] == ["ok", "ok"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert all(one.startswith("localhost/witness+") for one in vkeys)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("witness.pem", "witness-mldsa44.pem")] == [
        0o600,
        0o600,
    ]
