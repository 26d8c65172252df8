"""Checkpoints stamped by a time-stamping authority: a real one, made of openssl."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from db.pools import Connection, Pool
from lineage import history
from lineage.audit import audit
from lineage.errors import StampRefused
from lineage.keys import Signer
from lineage.sequencer import read_head
from lineage.settings import LineageSettings
from lineage.stamping import MAX_REPLY_BYTES, Stamping
from tests.lineage.authority import Authority, authority
from tests.lineage.samples import signer
from tests.lineage.test_keys import logged

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl, the authority of the test, is absent")


@pytest.fixture(scope="module")
def tsa(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    with authority(tmp_path_factory.mktemp("tsa")) as made:
        yield made


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as client:
        yield client


@pytest.fixture
def keys(tmp_path: Path) -> Signer:
    return signer(tmp_path)


def _stamping(tsa: Authority, http: httpx.AsyncClient, root: Path | None = None, interval_s: float = 0) -> Stamping:
    settings = LineageSettings(
        log_stamp_url=tsa.url, log_stamp_authorities_file=root or tsa.root, log_stamp_interval_s=interval_s
    )
    made = Stamping.of(settings, http)
    assert made is not None
    return made


async def test_openssl_confirms_the_stamp_of_a_checkpoint(
    pool: Pool, conn: Connection, keys: Signer, tsa: Authority, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    stamping = _stamping(tsa, http, interval_s=3600)
    assert not await stamping.ask(pool), "there is no checkpoint yet"
    await logged(pool, keys, 1)
    assert await stamping.ask(pool)
    assert not await stamping.ask(pool), "the checkpoint has one"
    await logged(pool, keys, 2)
    assert not await stamping.ask(pool), "the last one is young"
    (listed,) = await history.stamps(conn, 2**62, 10)
    found = await history.stamp(conn, listed["size"])
    assert found is not None
    (tmp_path / "note").write_text(found["note"])
    (tmp_path / "stamp.tsr").write_bytes(found["reply"])
    words = ["openssl", "ts", "-verify", "-data", "note", "-in", "stamp.tsr", "-CAfile", str(tsa.root)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "Verification: OK" in done.stdout, done.stderr
    (tmp_path / "note").write_text(found["note"] + "x")
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "Verification: OK" not in done.stdout
    assert await audit(conn) == []
    await conn.execute("alter table lineage.checkpoint_stamp disable trigger all")
    await conn.execute("update lineage.checkpoint_stamp set stamped_at = stamped_at - interval '1 day'")
    assert [fault.code for fault in await audit(conn)] == ["stamp-time"]


async def test_what_is_no_stamp_of_the_checkpoint_is_not_kept(
    pool: Pool, conn: Connection, keys: Signer, tsa: Authority, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    await logged(pool, keys, 1)
    assert await _stamping(tsa, http).ask(pool)
    found = await history.stamp(conn, (await read_head(conn)).size)
    assert found is not None
    await logged(pool, keys, 2)
    with authority(tmp_path / "other") as other:
        for answer in (
            b"",
            b"<html>",
            bytes(MAX_REPLY_BYTES + 1),
            bytes(found["reply"]),
        ):  # the last one is of another checkpoint
            tsa.answers.append(answer)
            stamping = _stamping(tsa, http)
            assert not await stamping.ask(pool), answer[:10]
            assert not await stamping.ask(pool), "it rests"
        assert not await _stamping(tsa, http, other.root).ask(pool), "another root"
    gone = _stamping(Authority("http://127.0.0.1:9/", tsa.root), http)
    assert not await gone.ask(pool)
    assert len(await history.stamps(conn, 2**62, 10)) == 1


async def test_a_checkpoint_that_was_made_anew_after_its_stamp_is_named(
    pool: Pool, conn: Connection, keys: Signer, tsa: Authority, http: httpx.AsyncClient
) -> None:
    await logged(pool, keys, 1)
    assert await _stamping(tsa, http).ask(pool)
    await conn.execute("alter table lineage.checkpoint disable trigger all")
    await conn.execute("update lineage.checkpoint set note = note || chr(10)")
    assert "stamp-differs" in {fault.code for fault in await audit(conn)}


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_an_authority_without_a_root_is_none(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "roots.pem"
    if content is not None:
        path.write_bytes(content)
    settings = LineageSettings(log_stamp_url="http://127.0.0.1:9/", log_stamp_authorities_file=path)
    with pytest.raises(StampRefused):
        Stamping.of(settings, httpx.AsyncClient())
