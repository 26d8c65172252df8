"""The private PostgreSQL cluster below the data directory, for machines that have no server for us.

Made from the system's PostgreSQL >= 15 with PostGIS. PostgreSQL refuses to run as root, so there the cluster belongs to an
unprivileged user; when that user may not enter the data directory, the files lie under /var/lib/stac-federator.
`<data_dir>/postgres.json` (0600) says where, on which port, and with which password.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import pwd
import re
import secrets
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psycopg
from pydantic import SecretStr

from db.errors import ClusterError
from db.settings import DatabaseSettings

USER = DATABASE = "federator"
MIN_VERSION = 15
START_TIMEOUT_S = 60
#: Kept short: a socket's path may have 107 bytes at most.
_MAX_SOCKET_DIR = 80

_CONF = """
# Written by db/cluster.py. Durable: fsync, full_page_writes and synchronous_commit keep their defaults (on).
listen_addresses = '127.0.0.1'
unix_socket_directories = '{socket_dir}'
max_connections = 100
shared_buffers = '{shared_buffers_mb}MB'
work_mem = '16MB'
maintenance_work_mem = '256MB'
max_wal_size = '2GB'
jit = off
default_toast_compression = 'lz4'
timezone = 'UTC'
log_timezone = 'UTC'
log_min_duration_statement = '5s'
max_locks_per_transaction = 256
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a private cluster is and how to enter it: the content of `postgres.json`."""

    directory: str
    port: int
    password: str
    system_user: str | None  # None: the user who runs us
    bin_dir: str


def connection_settings(settings: DatabaseSettings) -> DatabaseSettings:
    """Settings that reach the private cluster.

    Raises:
        ClusterError: there is none yet.
    """
    place = _load(settings)
    if place is None:
        raise ClusterError(
            f"there is no database below {settings.data_dir} yet: run `python -m db start`, or set PGHOST"
        )
    return settings.model_copy(
        update={
            "pghost": "127.0.0.1",
            "pgport": place.port,
            "pguser": USER,
            "pgpassword": SecretStr(place.password),
            "pgdatabase": DATABASE,
        }
    )


def is_running(settings: DatabaseSettings) -> bool:
    """True when the private cluster's server process is there."""
    place = _load(settings)
    return place is not None and _server_pid(place) is not None


def start(settings: DatabaseSettings) -> DatabaseSettings:
    """Make the cluster when there is none, start it when it does not run, return settings that reach it.

    Survives a pid file left by a killed server or by a reboot, and a port that another program took meanwhile.

    Raises:
        ClusterError: no PostgreSQL or PostGIS, no suitable user, or the server does not start (with its log's tail).
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with _locked(settings.data_dir / "postgres.lock"):
        place = _load(settings) or _make(settings)
        if _server_pid(place) is None:
            place = _start_server(settings, place)
        reachable = connection_settings(settings)
        _wait_until_ready(reachable, place)
        return reachable


def stop(settings: DatabaseSettings) -> bool:
    """Stop the cluster cleanly; True when it ran.

    Raises:
        ClusterError: it did not stop within a minute.
    """
    place = _load(settings)
    pid = _server_pid(place) if place is not None else None
    if place is None or pid is None:
        return False
    with _locked(settings.data_dir / "postgres.lock"):
        answer = _run(place, "pg_ctl", "stop", "-D", place.directory, "-m", "fast", "-w", "-t", "60")
        if answer.returncode != 0 and _server_pid(place) is not None:
            raise ClusterError(f"the database did not stop: {answer.stderr.strip()}")
        _wait_until_gone(pid)
    return True


def _wait_until_gone(pid: int, timeout_s: float = 10) -> None:
    """The pid file goes a moment before its process does."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and _alive(pid) is not None:
        time.sleep(0.02)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock file, so that two commands do not make or start the cluster at once."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _load(settings: DatabaseSettings) -> Place | None:
    try:
        place = Place(**json.loads((settings.data_dir / "postgres.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise ClusterError(f"{settings.data_dir / 'postgres.json'} is damaged: {error}") from error
    return place if (Path(place.directory) / "PG_VERSION").exists() else None


def _save(settings: DatabaseSettings, place: Place) -> None:
    path = settings.data_dir / "postgres.json"
    temporary = path.with_suffix(".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(place), file)
    temporary.replace(path)


def _find_bin_dir() -> Path:
    """Folder of the newest PostgreSQL >= 15 that has PostGIS."""
    candidates = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    for name in ("pg_config", "postgres"):
        if found := shutil.which(name):
            candidates.append(Path(found).resolve().parent)
    versions = sorted({(_version(path), path) for path in candidates if (path / "initdb").exists()}, reverse=True)
    usable = [(version, path) for version, path in versions if version >= MIN_VERSION]
    if not usable:
        raise ClusterError(
            f"no PostgreSQL >= {MIN_VERSION} found: install it with PostGIS, or set PGHOST to use a server"
        )
    for _, path in usable:
        if _has_postgis(path):
            return path
    raise ClusterError(
        f"PostgreSQL {usable[0][0]} is here, PostGIS is not: install it (Debian: postgresql-{usable[0][0]}-postgis-3)"
    )


def _version(bin_dir: Path) -> int:
    try:
        answer = subprocess.run(
            [bin_dir / "postgres", "--version"], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return 0
    found = re.search(r"(\d+)", answer.stdout)
    return int(found.group(1)) if found else 0


def _has_postgis(bin_dir: Path) -> bool:
    folders = [Path(f"/usr/share/postgresql/{bin_dir.parent.name}")]
    if (bin_dir / "pg_config").exists():
        answer = subprocess.run(
            [bin_dir / "pg_config", "--sharedir"], capture_output=True, text=True, check=False, timeout=10
        )
        folders.append(Path(answer.stdout.strip()))
    return any((folder / "extension" / "postgis.control").exists() for folder in folders)


def _system_user() -> str | None:
    """The user that the server runs as: ourselves, or for root `postgres`, else `nobody`."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            pwd.getpwnam(name)
            return name
    raise ClusterError(
        "PostgreSQL does not run as root and there is no user `postgres` or `nobody`; create one of them"
    )


def _may_enter(path: Path, user: str | None) -> bool:
    """True when `user` may walk to `path` through all folders above it."""
    if user is None:
        return True
    entry = pwd.getpwnam(user)
    groups = set(os.getgrouplist(user, entry.pw_gid))
    for folder in [path, *path.parents]:
        mode = folder.stat()
        bit = stat.S_IXOTH
        if mode.st_uid == entry.pw_uid:
            bit = stat.S_IXUSR
        elif mode.st_gid in groups:
            bit = stat.S_IXGRP
        if not mode.st_mode & bit:
            return False
    return True


def _choose_directory(data_dir: Path, user: str | None) -> Path:
    absolute = data_dir.resolve()
    if _may_enter(absolute, user):
        return absolute / "postgres"
    key = hashlib.sha256(str(absolute).encode()).hexdigest()[:16]
    return Path("/var/lib/stac-federator") / key


def _make(settings: DatabaseSettings) -> Place:
    """Run initdb into a fresh folder; a half-made one of a killed attempt is moved away first."""
    bin_dir, user = _find_bin_dir(), _system_user()
    directory = _choose_directory(settings.data_dir, user)
    if directory.exists():
        directory.rename(directory.with_name(f"{directory.name}.{time.strftime('%Y%m%dT%H%M%S')}.aside"))
    directory.mkdir(parents=True, mode=0o700)
    place = Place(str(directory), _free_port(), secrets.token_urlsafe(24), user, str(bin_dir))
    if user is not None:
        shutil.chown(directory, user, pwd.getpwnam(user).pw_gid)
    _initdb(place)
    _save(settings, place)
    return place


def _initdb(place: Place) -> None:
    password_file = Path(place.directory).parent / f"initdb-{secrets.token_hex(8)}"
    try:
        password_file.write_text(place.password + "\n", encoding="ascii")
        password_file.chmod(0o600)
        if place.system_user is not None:
            shutil.chown(password_file, place.system_user)
        answer = _run(
            place, "initdb", "-D", place.directory, "-U", USER, f"--pwfile={password_file}", "--auth=scram-sha-256",
            "--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums",
        )  # fmt: skip
    finally:
        password_file.unlink(missing_ok=True)
    if answer.returncode != 0:
        raise ClusterError(f"initdb failed: {answer.stderr.strip()[-800:]}")
    conf = Path(place.directory) / "postgresql.conf"
    text = _CONF.format(socket_dir=_socket_dir(place), shared_buffers_mb=_shared_buffers_mb())
    with conf.open("a", encoding="utf-8") as file:
        file.write(text)


def _socket_dir(place: Place) -> str:
    """The cluster's own folder when its path is short enough for a socket, else none: TCP on loopback serves all."""
    return place.directory if len(place.directory) <= _MAX_SOCKET_DIR else ""


def _shared_buffers_mb() -> int:
    """A quarter of the memory, 128 MB to 2 GB."""
    total_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    return max(128, min(2048, total_mb // 4))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _run(place: Place, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of PostgreSQL's programs as the cluster's user, with none of our environment's PG variables."""
    environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    identity: dict[str, object] = {}
    if place.system_user is not None:
        entry = pwd.getpwnam(place.system_user)
        identity = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        [str(Path(place.bin_dir) / program), *arguments],
        env=environment, cwd=place.directory, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=START_TIMEOUT_S * 2, check=False, start_new_session=True, **identity,
    )  # fmt: skip


def _server_pid(place: Place) -> int | None:
    """Pid of the running server, None when the pid file is missing or names a process that is not this server."""
    try:
        pid = int((Path(place.directory) / "postmaster.pid").read_text().splitlines()[0])
    except (OSError, ValueError, IndexError):
        return None
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except FileNotFoundError:
        return None if Path("/proc/self").exists() else _alive(pid)
    return pid if place.directory in command else None


def _alive(pid: int) -> int | None:
    """The pid when such a process exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return pid
    return pid


def _start_server(settings: DatabaseSettings, place: Place) -> Place:
    """Start the server; after a kill -9 its last children may hold shared memory for a moment, so try for a while."""
    if not _port_is_free(place.port):
        place = Place(place.directory, _free_port(), place.password, place.system_user, place.bin_dir)
        _save(settings, place)
    _remove_stale_locks(Path(place.directory))
    log = Path(place.directory) / "server.log"
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        answer = _run(
            place, "pg_ctl", "start", "-D", place.directory, "-w", "-t", str(START_TIMEOUT_S), "-l", str(log),
            "-o", f"-p {place.port}",
        )  # fmt: skip
        if answer.returncode == 0:
            return place
        tail = _tail(log)
        if "shared memory block" not in tail or time.monotonic() > deadline:
            raise ClusterError(f"PostgreSQL does not start; the end of {log}:\n{tail}")
        time.sleep(0.3)


def _remove_stale_locks(directory: Path) -> None:
    """We know that no server of ours runs; PostgreSQL asks only whether some process has the old number."""
    for path in (directory / "postmaster.pid", *directory.glob(".s.PGSQL.*")):
        path.unlink(missing_ok=True)


def _tail(log: Path, lines: int = 15) -> str:
    try:
        return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return "(no log)"


def _wait_until_ready(settings: DatabaseSettings, place: Place) -> None:
    """Wait through recovery, and make our database when it is not there."""
    deadline = time.monotonic() + START_TIMEOUT_S
    admin = settings.model_copy(update={"pgdatabase": "postgres"})
    while True:
        try:
            with psycopg.connect(admin.conninfo, autocommit=True) as conn:
                if conn.execute("select 1 from pg_database where datname = 'federator'").fetchone() is None:
                    conn.execute("create database federator")
            return
        except psycopg.OperationalError as error:
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"PostgreSQL does not answer; the end of its log:\n{_tail(Path(place.directory) / 'server.log')}"
                ) from error
        time.sleep(0.1)
