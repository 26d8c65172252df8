"""Jobs come with the change that made them due, and outlive the worker and the database session that ran them."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from procrastinate.jobs import Job

from db.pools import Connection, Pool
from db.settings import DatabaseSettings
from ingest.errors import SourceInvalid, UpstreamChanged, UpstreamUnavailable
from ingest.harvest import HarvestBusy
from ingest.settings import IngestSettings
from ingest.source_files import load_sources
from ingest.worker import create_worker_app, defer_everything, defer_in
from tests.ingest.commands import Commands
from tests.ingest.odata_server import ODataServer, over_http, s2_product


async def jobs(conn: Connection) -> list[dict[str, Any]]:
    return await (await conn.execute("select * from procrastinate_jobs order by id")).fetchall()


async def test_a_job_commits_with_its_transaction_or_not_at_all(pool: Pool, conn: Connection) -> None:
    async def fail() -> None:
        async with pool.connection() as other, other.transaction():
            await defer_in(other, "process_upload", upload_id="gone")
            await other.execute("select 1 / 0")

    with pytest.raises(psycopg.errors.DivisionByZero):
        await fail()
    assert await jobs(conn) == []
    async with conn.transaction():
        job = await defer_in(conn, "process_upload", upload_id="kept")
    (row,) = await jobs(conn)
    assert (row["id"], row["task_name"], row["args"]) == (job, "process_upload", {"upload_id": "kept"})


async def test_the_same_work_waits_only_once_and_spoils_no_transaction(pool: Pool, conn: Connection) -> None:
    async with conn.transaction():
        assert await defer_in(conn, "harvest", lock="a", source_id="s", collection_id="c") is not None
        assert await defer_in(conn, "harvest", lock="a", source_id="s", collection_id="c") is None
        assert await defer_in(conn, "harvest", lock="b", source_id="s", collection_id="d") is not None
    assert len(await jobs(conn)) == 2


async def test_everything_is_every_collection_of_every_source(pool: Pool, conn: Connection) -> None:
    sources = load_sources()
    assert await defer_everything(pool, sources) == sum(len(source.collections) or 1 for source in sources.values())
    assert await defer_everything(pool, sources) == 0


def test_a_plan_of_times_is_taken_over(database: DatabaseSettings) -> None:
    def planned(cron: str) -> list[str]:
        app = create_worker_app(IngestSettings(harvest_cron=cron), database)
        return [task.cron for task in app.periodic_registry.periodic_tasks.values()]

    assert planned("") == []
    assert planned("*/15 * * * *") == ["*/15 * * * *"]


@pytest.mark.parametrize(
    ("error", "attempts", "seconds"),
    [
        (UpstreamChanged("x"), 0, None),
        (SourceInvalid("x"), 0, None),
        (HarvestBusy("x"), 50, 15),
        (UpstreamUnavailable("x"), 0, 30),
        (UpstreamUnavailable("x", retry_after_s=7200), 0, 7200),
        (UpstreamUnavailable("x"), 12, 3600),
        (psycopg.OperationalError("x"), 50, 1),
        (RuntimeError("x"), 1, 10),
        (RuntimeError("x"), 3, None),
    ],
)
def test_when_a_failed_job_is_tried_again(
    database: DatabaseSettings, error: Exception, attempts: int, seconds: int | None
) -> None:
    strategy = create_worker_app(IngestSettings(), database).tasks["harvest"].retry_strategy
    assert strategy is not None
    job = Job(id=1, queue="q", lock=None, queueing_lock=None, task_name="harvest", attempts=attempts)
    decision = strategy.get_retry_decision(exception=error, job=job)
    if seconds is None:
        assert decision is None
    else:
        assert decision is not None
        assert decision.retry_at is not None
        assert abs(decision.retry_at - datetime.now(UTC) - timedelta(seconds=seconds)) < timedelta(seconds=2)


@pytest.fixture
def commands(database: DatabaseSettings, tmp_path: Path) -> Commands:
    quick = {"FEDERATOR_WORKER_HEARTBEAT_S": "0.5", "FEDERATOR_WORKER_STALLED_S": "2"}
    return Commands(database, tmp_path, quick)


@pytest.fixture
def upstream(commands: Commands) -> Iterator[ODataServer]:
    server = ODataServer([s2_product(n) for n in range(200)])
    with over_http(server) as url:
        commands.add_source(url)
        yield server


class Workers:
    """Worker processes, ended at the end of the test."""

    def __init__(self, commands: Commands) -> None:
        self.commands = commands
        self.processes: list[subprocess.Popen[str]] = []

    def start(self) -> subprocess.Popen[str]:
        self.processes.append(self.commands.start("worker"))
        return self.processes[-1]

    def wait_for(self, what: Callable[[], bool], timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while not what():
            if time.monotonic() > deadline or self.processes[-1].poll() is not None:
                self.processes[-1].kill()
                raise AssertionError(self.processes[-1].communicate()[1][-4000:])
            time.sleep(0.05)

    def wait_until_done(self, server: ODataServer) -> None:
        def done() -> bool:
            waiting = self.commands.column("select count(*) from procrastinate_jobs where status in ('todo', 'doing')")
            unnumbered = self.commands.column("select count(*) from lineage.event_outbox")
            return waiting == [0] and unnumbered == [0] and self.commands.count_items() == len(server.products)

        self.wait_for(done)


@pytest.fixture
def workers(commands: Commands) -> Iterator[Workers]:
    workers = Workers(commands)
    yield workers
    for process in workers.processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_a_queued_harvest_is_done_by_the_worker(commands: Commands, upstream: ODataServer, workers: Workers) -> None:
    assert "job" in commands.run("harvest", "test-odata", "--queue").stdout
    assert "waits in the queue already" in commands.run("harvest", "test-odata", "--queue").stdout
    worker = workers.start()
    workers.wait_until_done(upstream)
    commands.assert_whole(upstream)
    worker.send_signal(signal.SIGTERM)
    out, err = worker.communicate(timeout=15)
    assert worker.returncode == 0
    assert "Traceback" not in out + err, err


@pytest.mark.slow
def test_kill_9_of_a_worker_gives_its_job_to_the_next(
    commands: Commands, upstream: ODataServer, workers: Workers
) -> None:
    may_go = upstream.hold_from(4)
    commands.run("harvest", "test-odata", "--queue")
    worker = workers.start()
    workers.wait_for(lambda: commands.count_items() >= 30)
    worker.kill()
    worker.communicate()
    assert commands.column("select status::text from procrastinate_jobs") == ["doing"]
    may_go.set()
    workers.start()
    workers.wait_until_done(upstream)
    commands.assert_whole(upstream)
    assert commands.column("select status from federator.harvest_run order by id") == ["interrupted", "done"]


@pytest.mark.slow
def test_a_stopped_worker_puts_its_job_back(commands: Commands, upstream: ODataServer, workers: Workers) -> None:
    may_go = upstream.hold_from(4)
    commands.run("harvest", "test-odata", "--queue")
    worker = workers.start()
    workers.wait_for(lambda: commands.count_items() >= 20)
    worker.send_signal(signal.SIGTERM)
    _, err = worker.communicate(timeout=30)
    assert worker.returncode == 0, err
    assert commands.column("select status::text from procrastinate_jobs") == ["todo"]
    may_go.set()
    workers.start()
    workers.wait_until_done(upstream)
    commands.assert_whole(upstream)


@pytest.mark.slow
def test_a_worker_outlives_the_loss_of_all_database_sessions(
    commands: Commands, upstream: ODataServer, workers: Workers
) -> None:
    upstream.before_answer = lambda number: time.sleep(0.2)
    commands.run("harvest", "test-odata", "--queue")
    worker = workers.start()
    for at_least in (20, 100):
        workers.wait_for(lambda at_least=at_least: commands.count_items() >= at_least)  # type: ignore[misc]
        commands.column(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
    workers.wait_until_done(upstream)
    assert worker.poll() is None
    commands.assert_whole(upstream)
