"""Reads from a real streaming replica: while it answers and keeps up, and never with something old kept for good."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from api.settings import ApiSettings
from db import cluster
from db.settings import DatabaseSettings
from tests.api.corpus import L1C, fill
from tests.api.server import listening, running
from tests.api.test_documents import execute, soon
from tests.conftest import cloned

pytestmark = pytest.mark.slow


class Replica:
    """A copy of a server that follows it. Runs as whoever owns the server's files."""

    def __init__(self, primary: DatabaseSettings, home: Path) -> None:
        with psycopg.connect(primary.conninfo, autocommit=True) as conn:
            source = Path(str(conn.execute("show data_directory").fetchone()[0]))  # type: ignore[index]
        self._owner = source.owner()
        self._bin = cluster._find_bin_dir()
        self._folder = home / "replica"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        shutil.chown(home, self._owner)
        self._run("pg_basebackup", "-D", str(self._folder), "-d", primary.conninfo, "-R", "-X", "stream", "-c", "fast")

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._bin / program), *arguments],
            user=self._owner,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        self._run(
            "pg_ctl", "-D", str(self._folder), "-w", "-l", str(self._folder / "log"), "-o", f"-p {self.port}", "start"
        )

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self._folder), "-w", "-m", "immediate", "stop")


@pytest.fixture(scope="module")
def replica(postgres: DatabaseSettings, template: str) -> Iterator[tuple[Replica, DatabaseSettings]]:
    if not postgres.pghost.startswith(("127.", "/")):
        pytest.skip("the server is on another machine")
    with cloned(postgres, template) as database, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        asyncio.run(fill(database, 30))
        made = Replica(database, Path(folder))
        made.start()
        try:
            yield (
                made,
                database.model_copy(
                    update={"pghost_reader": "127.0.0.1", "pgport_reader": made.port, "reader_max_lag_s": 2.0}
                ),
            )
        finally:
            with contextlib.suppress(AssertionError):
                made.stop()


@pytest.fixture
def http(replica: tuple[Replica, DatabaseSettings], tmp_path: Path) -> Iterator[httpx.Client]:
    listener, url = listening()
    settings = ApiSettings(data_dir=tmp_path, public_url=url)
    with running(settings, replica[1], listener), httpx.Client(base_url=f"{url}/stac", timeout=30) as client:
        yield client


def on_replica(replica: tuple[Replica, DatabaseSettings], statement: str) -> Any:
    with psycopg.connect(replica[1].reader.conninfo, autocommit=True) as conn:
        return conn.execute(statement.encode()).fetchone()


def readers(replica: tuple[Replica, DatabaseSettings]) -> int:
    """Connections of the API at the replica that have read."""
    others = "datname = current_database() and pid <> pg_backend_pid()"
    asked = f"select count(*) from pg_stat_activity where {others} and query like '%federator.%'"
    return int(on_replica(replica, asked)[0])


def test_searches_read_from_the_replica_and_see_what_is_written(
    http: httpx.Client, replica: tuple[Replica, DatabaseSettings]
) -> None:
    assert len(http.get("/search?limit=50").json()["features"]) == 30
    assert http.get("/search?filter=gsd > 1&limit=1").status_code == 200
    assert readers(replica) > 0
    execute(
        replica[1], "update items set content = jsonb_set(content, '{properties,gsd}', '77') where id = 'item-0003'"
    )
    assert soon(
        lambda: 77 in [one["properties"]["gsd"] for one in http.get("/search?ids=item-0003").json()["features"]]
    )


def test_a_document_is_not_kept_as_it_was_when_the_replica_is_behind_the_news(
    http: httpx.Client, replica: tuple[Replica, DatabaseSettings]
) -> None:
    http.get(f"/collections/{L1C}")
    on_replica(replica, "select pg_wal_replay_pause()")
    execute(replica[1], 'update collections set content = content || \'{"title": "Late"}\' where id = %s', L1C)
    for _ in range(5):
        assert "Late" not in http.get(f"/collections/{L1C}").text, "asked again while the replica does not have it"
    on_replica(replica, "select pg_wal_replay_resume()")
    assert soon(lambda: "Late" in http.get(f"/collections/{L1C}").text, 30)


def test_a_replica_that_lags_is_left_and_taken_again(
    http: httpx.Client, replica: tuple[Replica, DatabaseSettings]
) -> None:
    on_replica(replica, "select pg_wal_replay_pause()")
    execute(
        replica[1], "update items set content = jsonb_set(content, '{properties,gsd}', '88') where id = 'item-0004'"
    )
    asked = "/search?ids=item-0004"
    assert soon(lambda: 88 in [one["properties"]["gsd"] for one in http.get(asked).json()["features"]], 15)
    on_replica(replica, "select pg_wal_replay_resume()")
    before = readers(replica)
    assert soon(lambda: bool(http.get(asked)) and readers(replica) >= max(before, 1), 10)


def test_without_the_replica_the_primary_answers(http: httpx.Client, replica: tuple[Replica, DatabaseSettings]) -> None:
    replica[0].stop()
    try:
        assert soon(lambda: http.get("/search?limit=50").status_code == 200, 10)
        answers = [http.get("/search?limit=50").status_code for _ in range(10)]
        assert answers == [200] * 10
    finally:
        replica[0].start()
    assert soon(lambda: readers(replica) > 0 or (http.get("/search?limit=1").status_code != 200), 15)
