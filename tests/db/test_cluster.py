"""The private cluster: made, reused, killed, started again, from awkward places."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from db import cluster
from db.errors import ClusterError
from db.settings import DatabaseSettings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[DatabaseSettings]:
    """A data directory below pytest's own, which an unprivileged user may not enter."""
    made = DatabaseSettings(data_dir=tmp_path / "data", pghost="", pgdatabase="")
    yield made
    cluster.stop(made)
    if (made.data_dir / "postgres.json").exists():
        shutil.rmtree(json.loads((made.data_dir / "postgres.json").read_text())["directory"], ignore_errors=True)


def place(settings: DatabaseSettings) -> dict[str, str]:
    return dict(json.loads((settings.data_dir / "postgres.json").read_text()))


def pid_of(settings: DatabaseSettings) -> int:
    return int((Path(place(settings)["directory"]) / "postmaster.pid").read_text().splitlines()[0])


def value(settings: DatabaseSettings, statement: bytes) -> object:
    with psycopg.connect(cluster.connection_settings(settings).conninfo) as conn:
        row = conn.execute(statement).fetchone()
        return row[0] if row else None


def test_start_is_idempotent_durable_and_keeps_data(settings: DatabaseSettings) -> None:
    reached = cluster.start(settings)
    assert cluster.is_running(settings)
    with psycopg.connect(reached.conninfo, autocommit=True) as conn:
        conn.execute("create table kept as select 42 as n")
    assert value(settings, b"show fsync") == "on"
    assert value(settings, b"show data_checksums") == "on"
    assert value(settings, b"show listen_addresses") == "127.0.0.1"
    pid = pid_of(settings)
    assert cluster.start(settings) == reached
    assert pid_of(settings) == pid
    assert cluster.stop(settings)
    assert not cluster.is_running(settings)
    assert not Path(f"/proc/{pid}").exists()
    cluster.start(settings)
    assert value(settings, b"select n from kept") == 42


def test_login_needs_the_password_and_its_file_is_private(settings: DatabaseSettings) -> None:
    reached = cluster.start(settings)
    assert (settings.data_dir / "postgres.json").stat().st_mode & 0o077 == 0
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(reached.conninfo + " password=wrong")


def test_kill_and_a_pid_that_now_belongs_to_another_program(settings: DatabaseSettings) -> None:
    cluster.start(settings)
    pid_file = Path(place(settings)["directory"]) / "postmaster.pid"
    os.kill(pid_of(settings), signal.SIGKILL)
    time.sleep(0.3)
    assert not cluster.is_running(settings)
    lines = pid_file.read_text().splitlines()
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        assert not cluster.is_running(settings)
        cluster.start(settings)
        assert value(settings, b"select 1") == 1
    finally:
        stranger.kill()
        stranger.wait()


def test_a_port_that_another_program_took_is_given_up(settings: DatabaseSettings) -> None:
    import socket

    first = cluster.start(settings)
    cluster.stop(settings)
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", first.pgport))
        squatter.listen()
        assert cluster.start(settings).pgport != first.pgport


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another user for the server")
def test_a_folder_that_the_unprivileged_user_may_not_enter(tmp_path: Path, settings: DatabaseSettings) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    inside = settings.model_copy(update={"data_dir": closed / "clone" / ".data"})
    try:
        cluster.start(inside)
        assert not place(inside)["directory"].startswith(str(closed))
        assert value(inside, b"select 1") == 1
        cluster.stop(inside)
        cluster.start(inside)
        assert value(inside, b"select 1") == 1
    finally:
        cluster.stop(inside)
        shutil.rmtree(place(inside)["directory"], ignore_errors=True)


def test_damaged_record_of_the_place_is_a_clear_error(settings: DatabaseSettings) -> None:
    settings.data_dir.mkdir(parents=True)
    record = settings.data_dir / "postgres.json"
    record.write_text("{")
    with pytest.raises(ClusterError, match=r"postgres\.json is damaged"):
        cluster.start(settings)
    record.unlink()


def test_no_cluster_yet_says_what_to_do(settings: DatabaseSettings) -> None:
    with pytest.raises(ClusterError, match="python -m db start"):
        cluster.connection_settings(settings)
