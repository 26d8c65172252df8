"""Servers over one database, each a process of its own: ours, the stock stac-fastapi-pgstac in an environment of its own, ready text."""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psycopg

from db.migrate import migrate
from db.settings import DatabaseSettings
from tests.demo import free_port

#: As its image starts it, in one process as ours.
_STOCK = ("-m", "uvicorn", "stac_fastapi.pgstac.app:create_app", "--factory", "--host", "127.0.0.1", "--port")
#: What the stock server runs on, at our versions.
_SHARED = (
    "stac-fastapi-pgstac",
    "asyncpg",
    "orjson",
    "pydantic",
    "fastapi",
    "starlette",
    "uvicorn",
    "uvloop",
    "httptools",
)
_READY = ("-m", "uvicorn", "benchmarks.ready_text:app", "--host", "127.0.0.1", "--log-level", "warning", "--port")


@dataclass(frozen=True, slots=True)
class Peer:
    """Where a server answers; `root` is the path of its STAC API."""

    name: str
    port: int
    root: str = ""


#: What stock tile servers run on, at our versions.
_TILES = (
    "titiler-core",
    "titiler-pgstac",
    "rio-tiler",
    "rasterio",
    "numpy",
    "psycopg",
    "psycopg-binary",
    "psycopg-pool",
    *_SHARED[3:],
)


def stock_python(folder: Path, name: str = "stock", packages: tuple[str, ...] = _SHARED) -> Path:
    """The interpreter of an environment with the stock server, at our versions of it and of what it shares with us; made when missing."""
    python = folder / name / "bin" / "python"
    if not python.exists():
        venv.create(folder / name, with_pip=True)
    wanted = [f"{name}=={version(name)}" for name in packages]
    pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    subprocess.run([str(python), *pip, *wanted], check=True)
    return python


@contextlib.contextmanager
def ours(database: DatabaseSettings, folder: Path, name: str = "ours", **settings: str) -> Iterator[Peer]:
    """`python -m api serve`, with these settings besides."""
    port = free_port(0)
    own = {
        "FEDERATOR_PORT": str(port),
        "FEDERATOR_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "FEDERATOR_DATA_DIR": str(folder / name),
        **settings,
    }
    with _running(
        name, [sys.executable, "-m", "api", "serve"], database, own, folder, f"http://127.0.0.1:{port}/_mgmt/ping"
    ):
        yield Peer(name, port, "/stac")


@contextlib.contextmanager
def stock(database: DatabaseSettings, folder: Path, *, api_hydrate: bool) -> Iterator[Peer]:
    """The stock server, hydrating in SQL (its default) or in the process."""
    port, name = free_port(0), "stock, api hydrate" if api_hydrate else "stock"
    own = {"USE_API_HYDRATE": str(api_hydrate).lower()}
    command = [str(stock_python(folder)), *_STOCK, str(port)]
    with _running(name, command, database, own, folder, f"http://127.0.0.1:{port}/_mgmt/ping"):
        yield Peer(name, port)


@contextlib.contextmanager
def titiler(database: DatabaseSettings, folder: Path) -> Iterator[Peer]:
    """titiler-core, in one process as ours; it needs no database."""
    port = free_port(0)
    command = [str(stock_python(folder, "tiles", _TILES)), "benchmarks/titiler_core.py", str(port)]
    with _running("titiler", command, database, {}, folder, f"http://127.0.0.1:{port}/ping"):
        yield Peer("titiler", port)


@contextlib.contextmanager
def titiler_pgstac(database: DatabaseSettings, folder: Path) -> Iterator[Peer]:
    """titiler-pgstac on the same database."""
    port, python = free_port(0), stock_python(folder, "tiles", _TILES)
    command = [str(python), "-m", "uvicorn", "titiler.pgstac.main:app", "--host", "127.0.0.1", "--port", str(port)]
    with _running("titiler-pgstac", command, database, {}, folder, f"http://127.0.0.1:{port}/healthz"):
        yield Peer("titiler-pgstac", port)


@contextlib.contextmanager
def ready_text(database: DatabaseSettings, folder: Path) -> Iterator[Peer]:
    """Text that is stored as it is answered, from a plain table: the limit of what a server on PostgreSQL can do."""
    port = free_port(0)
    with _running(
        "ready text", [sys.executable, *_READY, str(port)], database, {}, folder, f"http://127.0.0.1:{port}/ping"
    ):
        yield Peer("ready text", port)


@contextlib.contextmanager
def _running(
    name: str, command: list[str], database: DatabaseSettings, own: dict[str, str], folder: Path, ping: str
) -> Iterator[None]:
    env = {**os.environ, **_connection(database), **own}
    with (folder / f"{name.replace(', ', '-')}.log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        try:
            _wait(ping, process)
            yield
        finally:
            process.terminate()
            process.wait(30)


def _connection(database: DatabaseSettings) -> dict[str, str]:
    return {
        "PGHOST": database.pghost,
        "PGPORT": str(database.pgport),
        "PGUSER": database.pguser,
        "PGPASSWORD": database.pgpassword.get_secret_value(),
        "PGDATABASE": database.pgdatabase,
    }


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    host, _, path = url.removeprefix("http://").partition("/")
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection(host, timeout=5)
        try:
            connection.request("GET", f"/{path}")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.1)
        finally:
            connection.close()
    raise RuntimeError(f"{' '.join(process.args)} did not start")  # type: ignore[arg-type]


def new_database(server: DatabaseSettings, name: str) -> DatabaseSettings:
    """A new, migrated database of this name, in the place of one that is there."""
    with psycopg.connect(server.conninfo, autocommit=True) as conn:
        conn.execute(f'drop database if exists "{name}" with (force)'.encode())
        conn.execute(f'create database "{name}"'.encode())
    database = server.model_copy(update={"pgdatabase": name})
    migrate(database)
    return database
