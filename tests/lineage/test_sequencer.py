"""The sequencer refuses to fork, survives kills, and keeps the order of time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from db.pools import Connection, Pool, connect
from db.settings import DatabaseSettings
from lineage import log, verify
from lineage.audit import audit
from lineage.errors import EventInvalid, LogConflict
from lineage.events import Event, Kind
from lineage.history import newest_note
from lineage.ids import uuid7
from lineage.keys import Signer
from lineage.published import Published
from lineage.sequencer import sequence, sequence_batch
from tests.conftest import cloned
from tests.lineage.samples import NOW, event, signer
from tests.size import sized

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return signer(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def published(tmp_path: Path) -> Published:
    return Published(tmp_path / "log", tmp_path / "copies", 0)


async def append(pool: Pool, *numbers: int, **options: Any) -> None:
    async with pool.connection() as conn, conn.transaction():
        await log.append(conn, *(event(number, **options) for number in numbers))


async def logged(pool: Pool, keys: Signer, published: Published | None, *numbers: int) -> None:
    await append(pool, *numbers)
    await sequence(pool, keys, published=published)


@pytest.fixture
async def other(
    postgres: DatabaseSettings, database: DatabaseSettings, pool: Pool, keys: Signer, published: Published
) -> AsyncIterator[Connection]:
    """The log of `pool`, two events long, as it was before a third one was published: yesterday's backup."""
    await logged(pool, keys, published, 1, 2)
    await pool.close()
    with cloned(postgres, database.pgdatabase) as backup:
        async with await connect(database) as conn:
            async with conn.transaction():
                await log.append(conn, event(3))
            await sequence_batch(conn, keys, 10, published)
        async with await connect(backup) as conn:
            yield conn


async def test_a_backup_that_was_restored_is_not_continued(
    other: Connection, keys: Signer, published: Published
) -> None:
    async with other.transaction():
        await log.append(other, event(4))
    with pytest.raises(LogConflict, match="set back"):
        await sequence_batch(other, keys, 10, published)
    note = await newest_note(other)
    assert note is not None
    assert verify.parse_checkpoint(note).size == 3, "nothing was signed"
    assert [fault.code for fault in await audit(other, kept=published.kept())] == ["shrunk"]


async def test_a_backup_that_went_on_is_a_fork_that_anybody_can_see(
    other: Connection, keys: Signer, published: Published, tmp_path: Path
) -> None:
    for numbers in (4, 5), (6, 7):  # without the published checkpoint: another machine
        async with other.transaction():
            await log.append(other, *map(event, numbers))
        await sequence_batch(other, keys, 1, None)
        await sequence_batch(other, keys, 10, None)
    async with other.transaction():
        await log.append(other, event(8))
    with pytest.raises(LogConflict, match="another"):
        await sequence_batch(other, keys, 10, published)
    assert "fork" in {fault.code for fault in await audit(other, kept=published.kept())}
    mine, theirs, evidence = (tmp_path / name for name in ("mine", "theirs", "evidence.json"))
    rows = await (await other.execute("select note from lineage.checkpoint where size = 4")).fetchall()
    mine.write_text(published.newest() or "", encoding="utf-8")
    theirs.write_text(rows[0]["note"], encoding="utf-8")
    said: list[str] = []
    assert (
        verify.main(
            [str(theirs), "--kept", str(mine), "--key", keys.log_vkey, "--evidence", str(evidence)], said.append
        )
        == 1
    )
    verdict = verify.verify(evidence.read_bytes(), keys.log_vkey)
    assert (verdict.log, [fault.code for fault in verdict.faults]) == ("forked", ["fork"])


async def test_an_empty_database_does_not_begin_a_published_log_anew(
    pool: Pool, keys: Signer, published: Published, postgres: DatabaseSettings, template: str
) -> None:
    await logged(pool, keys, published, 1)
    with cloned(postgres, template) as fresh:
        async with await connect(fresh) as conn:
            async with conn.transaction():
                await log.append(conn, event(2))
            with pytest.raises(LogConflict, match="set back"):
                await sequence_batch(conn, keys, 10, published)


async def test_what_is_published_only_grows_and_copies_are_written_once(
    pool: Pool, keys: Signer, published: Published
) -> None:
    for number in range(3):
        await logged(pool, keys, published, number)
    note = published.newest()
    assert note is not None
    assert [verify.parse_checkpoint(one.read_text()).size for one in published.copied()] == [2, 3, 4]
    published.keep(published.copied()[0].read_text())  # a sequencer that was stopped for a while
    assert published.newest() == note
    assert all(path.stat().st_mode & 0o222 == 0 for path in published.copied())


async def test_what_was_committed_and_not_published_is_published_by_the_next_run(
    pool: Pool, keys: Signer, published: Published
) -> None:
    await logged(pool, keys, published, 1)
    await logged(pool, keys, None, 2)  # killed between the two
    assert await sequence(pool, keys, published=published) == 0
    async with pool.connection() as conn:
        assert published.newest() == await newest_note(conn)


async def test_a_note_that_says_otherwise_than_its_row_stops_the_sequencer(pool: Pool, keys: Signer) -> None:
    await logged(pool, keys, None, 1)
    async with pool.connection() as conn:
        await conn.execute("alter table lineage.checkpoint disable trigger all")
        await conn.execute("update lineage.checkpoint set root = sha256('x')")
    await append(pool, 2)
    with pytest.raises(LogConflict, match="says otherwise"):
        await sequence(pool, keys)


async def _overtaken(stopped: Connection, pool: Pool, keys: Signer) -> None:
    async with stopped.transaction():
        assert await sequence_batch(stopped, keys, 1) == 1
        assert await sequence(pool, keys) == 0, "one at a time"
        async with pool.connection() as conn:
            await conn.execute("select pg_terminate_backend($1)", (stopped.info.backend_pid,))
        while await sequence(pool, keys) == 0:
            pass


async def test_a_sequencer_that_was_stopped_behind_its_lock_leaves_no_second_root(
    pool: Pool, keys: Signer, database: DatabaseSettings
) -> None:
    """As with kill -STOP: the first one holds its lock and has written all; its session is ended, the second one goes on."""
    await logged(pool, keys, None, 1)
    await append(pool, 2, 3)
    async with await connect(database) as stopped:
        with pytest.raises(psycopg.OperationalError):
            await _overtaken(stopped, pool, keys)
    async with pool.connection() as conn:
        assert await audit(conn) == []
        rows = await (await conn.execute("select size from lineage.checkpoint order by size")).fetchall()
        assert [row["size"] for row in rows] == [2, 4]


async def test_a_clock_that_goes_back_is_held_and_told(pool: Pool, keys: Signer) -> None:
    await logged(pool, keys, None, 1)
    async with pool.connection() as conn:
        await conn.execute("alter table lineage.event disable trigger all")
        await conn.execute("update lineage.event set recorded_at = recorded_at + $1", (timedelta(hours=1),))
        await append(pool, 2)
        assert await sequence(pool, keys) == 1
        rows = await (
            await conn.execute("select recorded_at, body::jsonb as body from lineage.event order by seq")
        ).fetchall()
    assert rows[-1]["recorded_at"] == rows[0]["recorded_at"]
    assert rows[-1]["body"]["clock_went_back"]["clock"] < rows[-1]["body"]["clock_went_back"]["recorded_at"]
    assert "clock_went_back" not in rows[1]["body"]


@pytest.mark.parametrize(("source", "actor"), [("demo", "user:ann"), ("own", "worker")])
async def test_what_people_do_is_signed_whatever_it_is_about(pool: Pool, keys: Signer, source: str, actor: str) -> None:
    async with pool.connection() as conn:
        async with conn.transaction():
            await log.append(conn, Event(uuid7(), Kind.UPDATE, "P", source, "things", "item", actor, NOW, {}))
            await log.append(conn, Event(uuid7(), Kind.UPDATE, "Q", "demo", "things", "item", "harvest:demo", NOW, {}))
        await sequence_batch(conn, keys, 10)
        rows = await (
            await conn.execute("select name, sig is not null as signed from lineage.event order by seq")
        ).fetchall()
    assert [(row["name"], row["signed"]) for row in rows[1:]] == [("P", True), ("Q", False)]


async def test_the_largest_leaf_is_taken_and_the_next_one_is_refused_at_once(pool: Pool, keys: Signer) -> None:
    async def with_name(length: int) -> None:
        async with pool.connection() as conn, conn.transaction():
            await log.append(
                conn, Event(uuid7(), Kind.UPDATE, "x" * length, "own", "things", "item", "user:ann", NOW, {})
            )

    await logged(pool, keys, None, 1)
    async with pool.connection() as conn:
        await with_name(9_000)
        await sequence(pool, keys)
        row = await (await conn.execute("select max(length(leaf)) as bytes from lineage.event")).fetchone()
        assert row is not None
        longest = 9_000 + 65_535 - int(row["bytes"])
        with pytest.raises(EventInvalid, match="65536 bytes"):
            await with_name(longest + 1)
        await with_name(longest)
        assert await sequence(pool, keys) == 1
        assert await audit(conn) == []


async def test_a_nul_in_a_body_is_refused_and_a_backslash_is_not(pool: Pool) -> None:
    with pytest.raises(EventInvalid):
        await append(pool, 1, reason="a\0b")
    await append(pool, 1, reason="a\\u0000b")


async def test_hashes_that_no_index_takes_are_left_out_and_each_is_kept_once(pool: Pool, keys: Signer) -> None:
    await append(
        pool,
        1,
        hashes=[
            {"alg": "X" * 5000, "digest": "00"},
            {"alg": "MD5", "digest": "00" * 5000},
            {"alg": "MD5", "digest": "ab"},
            {"alg": "md5", "digest": "AB", "path": "twice"},
        ],
    )
    await sequence(pool, keys)
    async with pool.connection() as conn:
        rows = await (await conn.execute("select alg, digest from lineage.event_hash")).fetchall()
        assert [(row["alg"], bytes(row["digest"])) for row in rows] == [("MD5", b"\xab")]
        assert await audit(conn) == []


async def test_killed_at_random_moments_the_log_is_that_of_an_undisturbed_run(
    pool: Pool, keys: Signer, postgres: DatabaseSettings, database: DatabaseSettings
) -> None:
    await logged(pool, keys, None, 1)
    await append(pool, *range(2, 2 + sized(60, 1000)))
    await pool.close()
    with cloned(postgres, database.pgdatabase) as undisturbed:
        async with await connect(undisturbed) as conn:
            await sequence_batch(conn, keys, 10_000)
            expected = verify.parse_checkpoint(await newest_note(conn))
    data_dir = keys.folder.parent
    command = [sys.executable, "-m", "tests.lineage.killing", database.conninfo, str(data_dir), str(sized(8, 200)), "7"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout) > 0, "no child was killed before it had ended"
    async with await connect(database) as conn:
        found = verify.parse_checkpoint(await newest_note(conn))
        kept = Published(data_dir / "log", data_dir / "log" / "copies").kept()
        assert await audit(conn, kept=kept) == []
    assert (found.size, found.root) == (expected.size, expected.root)
    assert verify.parse_checkpoint(kept[-1]).size == expected.size


async def test_without_the_published_checkpoint_the_newest_copy_counts(
    pool: Pool, keys: Signer, published: Published, postgres: DatabaseSettings, template: str
) -> None:
    await logged(pool, keys, published, 1)
    (published.folder / "published").unlink()
    with cloned(postgres, template) as fresh:
        async with await connect(fresh) as conn:
            async with conn.transaction():
                await log.append(conn, event(2))
            with pytest.raises(LogConflict, match="set back"):
                await sequence_batch(conn, keys, 10, published)
    await logged(pool, keys, published, 3)
    assert (published.folder / "published").is_file(), "made anew by the next checkpoint"


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"x", None], ids=["empty", "no text", "no note", "other lines"])
async def test_a_published_checkpoint_that_cannot_be_read_stops_the_sequencer(
    pool: Pool, keys: Signer, published: Published, data: bytes | None
) -> None:
    await logged(pool, keys, published, 1)
    file = published.folder / "published"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n") if data is None else data)
    with pytest.raises(LogConflict, match="cannot be read"):
        await logged(pool, keys, published, 2)
    async with pool.connection() as conn:
        assert [fault.code for fault in await audit(conn, kept=published.kept())] == ["kept-unreadable"]
