"""Fixtures on a real PostgreSQL: one server a session, one migrated template, one cloned database a test."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from db import cluster
from db.migrate import migrate
from db.pools import Connection, Pool, open_pool
from db.settings import DatabaseSettings
from tests.scheduling import Scheduling

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as `python -m api serve` does, before a test imports numpy


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling | None:
    """xdist asks; anything but `--dist loadfile` stays its own."""
    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


@contextmanager
def admin(settings: DatabaseSettings) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A connection that may create and drop databases."""
    server = settings.model_copy(update={"pgdatabase": "postgres"})
    with psycopg.connect(server.conninfo, autocommit=True) as conn:
        yield conn


def _memory() -> str | None:
    """A folder in memory, if there is plenty; None: on disk. A database is cloned for each test, which takes a disk ten times as long."""
    folder, gibibyte = Path("/dev/shm"), 2**30
    if not os.access(folder, os.W_OK) or shutil.disk_usage(folder).free < 4 * gibibyte:
        return None
    return str(folder)


@pytest.fixture(scope="session")
def postgres() -> Iterator[DatabaseSettings]:
    """A server: the one that PGHOST names, else a private one that is thrown away, without fsync and in memory for speed."""
    if os.environ.get("PGHOST"):
        yield DatabaseSettings()
        return
    with tempfile.TemporaryDirectory(prefix="federator-test-", dir=_memory(), ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        settings = DatabaseSettings(data_dir=Path(folder), pghost="", pgdatabase="")
        try:
            reached = cluster.start(settings)
            with admin(reached) as conn:
                for name in ("fsync", "synchronous_commit", "full_page_writes"):
                    conn.execute(f"alter system set {name} = off".encode())
                conn.execute("alter system set max_wal_size = '256MB'")
                conn.execute("select pg_reload_conf()")
            yield reached
        finally:
            cluster.stop(settings)


@pytest.fixture(scope="session")
def template(postgres: DatabaseSettings) -> Iterator[str]:
    """Name of a migrated database that tests clone."""
    name = f"federator_template_{uuid.uuid4().hex[:12]}"
    with admin(postgres) as conn:
        conn.execute(f'create database "{name}"'.encode())
    migrate(postgres.model_copy(update={"pgdatabase": name}))
    yield name
    with admin(postgres) as conn:
        conn.execute(f'drop database "{name}" with (force)'.encode())


@contextmanager
def cloned(postgres: DatabaseSettings, template: str | None) -> Iterator[DatabaseSettings]:
    """A database of its own, cloned from `template` or (None) empty; dropped afterwards."""
    name = f"federator_test_{uuid.uuid4().hex[:12]}"
    source = f' template "{template}" strategy file_copy' if template else ""
    with admin(postgres) as conn:
        conn.execute(f'create database "{name}"{source}'.encode())
    try:
        yield postgres.model_copy(update={"pgdatabase": name})
    finally:
        with admin(postgres) as conn:
            conn.execute(f'drop database "{name}" with (force)'.encode())


@pytest.fixture
def database(postgres: DatabaseSettings, template: str) -> Iterator[DatabaseSettings]:
    """Settings of a fresh, migrated database."""
    with cloned(postgres, template) as settings:
        yield settings


@pytest.fixture
def empty_database(postgres: DatabaseSettings) -> Iterator[DatabaseSettings]:
    """Settings of a fresh database without any schema of ours."""
    with cloned(postgres, None) as settings:
        yield settings


@pytest.fixture
async def pool(database: DatabaseSettings) -> AsyncIterator[Pool]:
    """A psycopg pool on `database`."""
    async with open_pool(database, min_size=0, max_size=5) as opened:
        yield opened


@pytest.fixture
async def conn(pool: Pool) -> AsyncIterator[Connection]:
    """One psycopg connection on `database`, autocommit; use `conn.transaction()`."""
    async with pool.connection() as connection:
        yield connection
