"""Any order of sending, breaking off, crashing, looking, taking back, expiring, working and deleting keeps every promise.

Real database, real files; only time is moved by hand. The model knows which bytes a client was told to be durable.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from db.pools import open_pool
from db.settings import DatabaseSettings
from ingest.collection_files import ensure_collections
from ingest.errors import UploadRejected
from ingest.settings import IngestSettings
from ingest.uploads import receiving, removal, service
from ingest.uploads.digests import Kept
from ingest.uploads.inflow import SenderGone, Streamed
from ingest.uploads.model import ARROWS, ENDED, IllegalArrow, State, Upload
from ingest.uploads.partial import Partial
from ingest.uploads.pouring import Checksum
from ingest.uploads.receiving import Body
from tests.size import sized

WHEN = "2026-05-01T12:00:00Z"
NEXT = {
    State.RECEIVED: State.SCANNING,
    State.SCANNING: State.CONVERTING,
    State.CONVERTING: State.REGISTERING,
    State.REGISTERING: State.READY,
}


@dataclass
class Known:
    """What the model knows of one upload: the file to be sent, and how much of it is durable."""

    id: UUID
    content: bytes
    sent: int = 0
    state: State = State.CREATED
    code: str | None = None
    keeps: bool = True
    path: list[State] = field(default_factory=lambda: [State.CREATED])

    def goes(self, *states: State, code: str | None = None) -> None:
        """Note arrows."""
        self.path += states
        self.state, self.code = states[-1], code


class Uploads(RuleBasedStateMachine):
    """One owner with a few uploads."""

    def __init__(self, database: DatabaseSettings, folder: Path) -> None:
        super().__init__()
        self.settings = IngestSettings(data_dir=folder, public_url="http://127.0.0.1:8080", upload_open_max=1000)
        self.known: list[Known] = []
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.pool = self.run(self.stack.enter_async_context(open_pool(database, min_size=0, max_size=2)))
        self.run(ensure_collections(self.pool))

    def run(self, work: Any) -> Any:
        return self.runner.run(work) if asyncio.iscoroutine(work) else self.runner.run(_awaited(work))

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        self.runner.close()

    def one(self, number: int, *states: State) -> Known | None:
        """One of the uploads in these states."""
        fitting = [one for one in self.known if not states or one.state in states]
        return fitting[number % len(fitting)] if fitting else None

    async def stored(self, one: Known) -> Upload:
        async with self.pool.connection() as conn:
            return await service.get(conn, one.id)

    def attempt(self, work: Any) -> str | None:
        """Run; return the code of a refusal."""
        try:
            self.run(work)
        except UploadRejected as error:
            return error.code
        except SenderGone:
            return "GONE"
        except IllegalArrow:
            return "ILLEGAL"
        return None

    @rule(length=st.integers(1, 40), promise=st.sampled_from(["none", "right", "wrong"]), keeps=st.booleans())
    def create(self, length: int, promise: str, keeps: bool) -> None:
        content = hashlib.sha512(f"{len(self.known)}".encode()).digest()[:length]
        sha256 = {"none": None, "right": hashlib.sha256(content).digest(), "wrong": bytes(32)}[promise]

        async def make() -> Upload:
            async with self.pool.connection() as conn:
                plan = service.Plan(length=length, sha256=sha256, keep_original=keeps)
                return await service.create(
                    conn, collection="uploads", when=WHEN, title="t", owner="o", plan=plan, limits=self.settings
                )

        self.known.append(Known(self.run(make()).id, content, keeps=keeps))
        self.known[-1].code = "wrong" if promise == "wrong" else None

    def received(self, one: Known) -> None:
        """All bytes are there: what follows is decided by the promise."""
        if one.code == "wrong":
            one.goes(State.RECEIVED, State.REJECTED, code="CHECKSUM_MISMATCH")
        else:
            one.goes(State.RECEIVED)

    @rule(
        number=st.integers(0, 9), size=st.integers(0, 45), shift=st.sampled_from([0, 0, 0, 0, -1, 3]),
        check=st.sampled_from(["none", "none", "right", "wrong"]), breaks=st.booleans(), announced=st.booleans(),
    )  # fmt: skip
    def send(self, number: int, size: int, shift: int, check: str, breaks: bool, announced: bool) -> None:
        one = self.one(number)
        if one is None:
            return
        offset = max(0, one.sent + shift)
        piece = (one.content + bytes(64))[offset : offset + size]
        digest = hashlib.sha1(piece if check == "right" else b"other").digest()
        checksum = None if check == "none" else Checksum("sha1", digest)
        length = len(piece) + (9 if breaks and announced else 0) if announced else None
        body = Body(offset, length, checksum)
        work = receiving.receive(self.pool, self.settings, one.id, Streamed(_stream(piece, breaks)), body)
        self.judge(one, piece, body, breaks, self.attempt(work))

    @rule(number=st.integers(0, 9))
    def send_rest(self, number: int) -> None:
        one = self.one(number, State.CREATED, State.UPLOADING)
        if one is None:
            return
        piece = one.content[one.sent :]
        body = Body(one.sent, len(piece))
        self.judge(
            one,
            piece,
            body,
            False,
            self.attempt(receiving.receive(self.pool, self.settings, one.id, Streamed(_stream(piece, False)), body)),
        )

    def judge(self, one: Known, piece: bytes, body: Body, breaks: bool, code: str | None) -> None:
        """What must have come of a PATCH."""
        if one.state is State.REJECTED and one.code in ENDED:
            assert code == one.code
        elif one.state in (State.DELETED, State.DELETING):
            assert code == "DELETED"
        elif one.state not in (State.CREATED, State.UPLOADING):
            assert code == "ALREADY_RECEIVED"
        elif body.offset != one.sent:
            assert code == "OFFSET_CONFLICT"
        elif body.length is not None and body.offset + body.length > len(one.content):
            assert code == "TOO_LARGE"
        elif body.length == 0 and one.sent < len(one.content):
            assert code is None
        else:
            self.taken(one, piece, body, breaks, code)

    def taken(self, one: Known, piece: bytes, body: Body, breaks: bool, code: str | None) -> None:
        """What must have come of a PATCH whose body was read."""
        if one.state is State.CREATED:
            one.goes(State.UPLOADING, code=one.code)
        if one.sent + len(piece) > len(one.content):
            assert code == "TOO_LARGE"
        elif breaks:
            if body.checksum is None:
                one.sent += len(piece)
        elif body.checksum and body.checksum.digest != hashlib.sha1(piece).digest():
            assert code == ("CHECKSUM_MISMATCH" if one.sent < len(one.content) else code)
        else:
            one.sent += len(piece)
        if one.sent == len(one.content):
            self.received(one)

    @rule(number=st.integers(0, 9), size=st.integers(1, 9), unverified=st.booleans())
    def crash_while_sending(self, number: int, size: int, unverified: bool) -> None:
        """kill -9: bytes are in the file, nothing else knows of them; no hash survives."""
        receiving._kept = Kept()
        one = self.one(number, State.UPLOADING)
        if one is None or one.sent == len(one.content):
            return
        partial = Partial.acquire(service.folder_of(self.settings, one.id))
        piece = one.content[one.sent : one.sent + size]
        if unverified:
            partial.mark()
        with (partial.folder / "original").open("ab") as file:
            file.write(b"?" * size if unverified else piece)
        partial.close()
        if not unverified:
            one.sent += len(piece)

    @rule(number=st.integers(0, 9))
    def look(self, number: int) -> None:
        one = self.one(number)
        if one is None:
            return
        code = self.attempt(receiving.look(self.pool, self.settings, one.id))
        if one.state in (State.CREATED, State.UPLOADING):
            if one.sent == len(one.content):
                self.received(one)
            assert code == (one.code if one.state is State.REJECTED else None)

    @rule(number=st.integers(0, 9))
    def remove(self, number: int) -> None:
        one = self.one(number)
        if one is None:
            return
        code = self.attempt(removal.remove(self.pool, self.settings, one.id))
        if one.state in (State.READY, State.FAILED):
            one.goes(State.DELETING, State.DELETED)
        elif State.REJECTED in ARROWS[one.state] and one.code not in ENDED:
            one.goes(State.REJECTED, code="DELETED")
        else:
            assert code == (one.code if one.code in ENDED else "DELETED" if one.state is State.DELETED else "ILLEGAL")

    @rule(number=st.integers(0, 9))
    def time_goes_by(self, number: int) -> None:
        one = self.one(number, State.CREATED, State.UPLOADING)
        if one is None:
            return
        self.execute("update federator.upload set expires_at = now() - interval '1 s' where id = $1", one.id)
        assert self.attempt(receiving.look(self.pool, self.settings, one.id)) == "EXPIRED"
        self.sweep(expired=one)

    @rule()
    def sweep(self, expired: Known | None = None) -> None:
        self.run(removal.sweep(self.pool, self.settings))
        if expired:
            expired.goes(State.REJECTED, code="EXPIRED")
        for one in self.known:
            if one.state is State.UPLOADING and one.sent == len(one.content):
                self.received(one)
            freed = one.state in (State.REJECTED, State.DELETED) or (one.state is State.READY and not one.keeps)
            assert (self.run(self.stored(one)).freed_at is not None) == freed

    @rule(number=st.integers(0, 9), verdict=st.sampled_from(["on", "on", "on", "reject", "fail", "again"]))
    def work(self, number: int, verdict: str) -> None:
        one = self.one(number, *NEXT)
        if one is None:
            return
        to = {"on": NEXT[one.state], "reject": State.REJECTED, "fail": State.FAILED, "again": State.SCANNING}[verdict]
        error = UploadRejected("CORRUPT", "no") if to in (State.REJECTED, State.FAILED) else None

        async def go() -> None:
            async with self.pool.connection() as conn, conn.transaction():
                if to is State.READY:
                    await conn.execute("update federator.upload set item_id = id::text where id = $1", (one.id,))
                await service.move(conn, one.id, to, error=error)

        is_legal = to in ARROWS[one.state]
        assert (self.attempt(go()) is None) == is_legal
        if is_legal:
            one.goes(to, code=error.code if error else None)

    @rule(number=st.integers(0, 9), to=st.sampled_from(State))
    def illegal_arrows_change_nothing(self, number: int, to: State) -> None:
        one = self.one(number)
        if one is None or to in ARROWS[one.state]:
            return

        async def go() -> None:
            async with self.pool.connection() as conn, conn.transaction():
                await service.move(conn, one.id, to)

        assert self.attempt(go()) == "ILLEGAL"

    def execute(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        async def go() -> list[dict[str, Any]]:
            async with self.pool.connection() as conn:
                cursor = await conn.execute(statement.encode(), values)
                return await cursor.fetchall() if cursor.description else []

        return list(self.run(go()))

    @precondition(lambda self: self.known)
    @invariant()
    def rows_files_events_and_jobs_agree(self) -> None:
        events = self.execute(
            "select name, body::jsonb ->> 'from' as before, body::jsonb ->> 'to' as after from lineage.event_outbox"
            " where kind = 'STATE' order by position"
        )
        jobs = self.execute("select args ->> 'upload_id' as id, count(*) as n from procrastinate_jobs group by 1")
        for one in self.known:
            upload = self.run(self.stored(one))
            assert (upload.state, upload.error_code) == (one.state, one.code if one.state in BAD else None)
            path = [row["after"] for row in events if row["name"] == f"upload/{one.id}"]
            assert path == one.path, "one event for each arrow"
            self.check_bytes(one, upload)
            enqueued = sum(job["n"] for job in jobs if job["id"] == str(one.id))
            wanted = State.RECEIVED in one.path and one.path[one.path.index(State.RECEIVED) + 1 :] != [State.REJECTED]
            assert enqueued <= 1
            assert enqueued == 1 or not wanted or one.code == "DELETED"

    def check_bytes(self, one: Known, upload: Upload) -> None:
        """Bytes and hashes are those of the file that was to be sent."""
        path = service.folder_of(self.settings, one.id) / "original"
        if upload.freed_at is not None:
            assert not path.parent.exists()
        elif one.state is State.UPLOADING and (path.parent / "unverified").exists():
            assert path.read_bytes()[: one.sent] == one.content[: one.sent]
        elif one.sent:
            assert path.read_bytes() == one.content[: one.sent]
        if State.RECEIVED in one.path:
            assert upload.sha256 == hashlib.sha256(one.content).hexdigest()
            assert upload.length == len(one.content)


BAD = (State.REJECTED, State.FAILED)


async def _awaited(work: Any) -> Any:
    return await work


async def _stream(piece: bytes, breaks: bool) -> AsyncIterator[bytes]:
    for start in range(0, len(piece), 7):
        yield piece[start : start + 7]
    if breaks:
        raise SenderGone


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_order_of_things_keeps_the_promises(
    cloned_databases: Callable[[], DatabaseSettings], tmp_path: Path
) -> None:
    made = iter(range(10**6))

    def machine() -> Uploads:
        return Uploads(cloned_databases(), tmp_path / str(next(made)))

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=sized(15, 60),
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to shrink takes long: each try is a database
        ),
    )
