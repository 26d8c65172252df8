"""Brings a database to the state that this code expects: pgstac, then Procrastinate, then our own numbered files.

One runner at a time (advisory lock), each step in one transaction, nothing done twice, nothing undone. A database that newer
code has migrated is refused. Our files: `db/migrations/NNNN_name.sql`, plain and forward-only.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path

import psycopg
from procrastinate.schema import SchemaManager
from psycopg_pool import ConnectionPool

from db.errors import DatabaseTooNew, DbError, MigrationChanged
from db.pools import unavailable
from db.queries import sql
from db.settings import DatabaseSettings

log = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = "federator.migrate"

Conn = psycopg.Connection[tuple[object, ...]]


class MigrationFailed(DbError):
    """A step failed and was rolled back; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One of our files."""

    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file, hex."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def own_migrations() -> list[Migration]:
    """Our files in order; numbers are consecutive from 1."""
    found = [
        Migration(int(path.name[:4]), path.name, path.read_text(encoding="utf-8"))
        for path in sorted(MIGRATIONS.glob("[0-9][0-9][0-9][0-9]_*.sql"))
    ]
    return found


def migrate(settings: DatabaseSettings, say: Callable[[str], None] = log.info) -> list[str]:
    """Bring the database up to date; return what was done, in words (empty: it was up to date).

    Raises:
        DatabaseUnavailable, DatabaseTooNew, MigrationChanged, MigrationFailed
    """
    done: list[str] = []
    with _connect(settings) as conn:
        conn.execute(sql("migrate.lock"), (_LOCK,))
        _refuse_newer(conn)
        for step in (_pgstac, _procrastinate, _own):
            for words in step(settings, conn):
                say(words)
                done.append(words)
    return done


def status(settings: DatabaseSettings) -> dict[str, object]:
    """Versions of the database's schema and what is still to be applied.

    Raises:
        DatabaseUnavailable
    """
    with _connect(settings) as conn:
        applied = _applied(conn)
        return {
            "pgstac": _pgstac_version(conn),
            "procrastinate": _component(conn, "procrastinate"),
            "applied": [name for _, (name, _) in sorted(applied.items())],
            "pending": [file.name for file in own_migrations() if file.number not in applied],
            "too_new": _too_new(conn),
        }


def is_current(settings: DatabaseSettings) -> bool:
    """True when nothing is pending and nothing is newer than this code."""
    state = status(settings)
    return not state["pending"] and not state["too_new"] and state["pgstac"] == installed_version("pypgstac")


def _connect(settings: DatabaseSettings) -> Conn:
    try:
        return psycopg.connect(settings.conninfo, autocommit=True, cursor_factory=psycopg.RawCursor)
    except (psycopg.Error, OSError, UnicodeError) as error:
        raise unavailable(settings, error) from error


def _number(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text))


def _exists(conn: Conn, relation: str) -> bool:
    row = conn.execute(sql("migrate.relation_exists"), (relation,)).fetchone()
    return bool(row and row[0])


def _pgstac_version(conn: Conn) -> str | None:
    if not _exists(conn, "pgstac.migrations"):
        return None
    row = conn.execute(sql("migrate.pgstac_version")).fetchone()
    return str(row[0]) if row and row[0] else None


def _applied(conn: Conn) -> dict[int, tuple[str, str]]:
    if not _exists(conn, "federator.migration"):
        return {}
    rows = conn.execute(sql("migrate.applied")).fetchall()
    return {int(str(number)): (str(name), str(checksum)) for number, name, checksum in rows}


def _component(conn: Conn, name: str) -> str | None:
    if not _exists(conn, "federator.component"):
        return None
    row = conn.execute(sql("migrate.component"), (name,)).fetchone()
    return str(row[0]) if row else None


def _too_new(conn: Conn) -> str | None:
    """What in the database is newer than this code, in words."""
    newest = max((file.number for file in own_migrations()), default=0)
    unknown = [name for number, (name, _) in _applied(conn).items() if number > newest]
    if unknown:
        return f"migration {unknown[-1]} is not known to this code"
    for name, there in (("pypgstac", _pgstac_version(conn)), ("procrastinate", _component(conn, "procrastinate"))):
        if there and _number(there) > _number(installed_version(name)):
            return f"{name} {there} is newer than the installed {installed_version(name)}"
    return None


def _refuse_newer(conn: Conn) -> None:
    if reason := _too_new(conn):
        raise DatabaseTooNew(f"the database is newer than this code: {reason}; update the code")


def _pgstac(settings: DatabaseSettings, conn: Conn) -> list[str]:
    wanted = installed_version("pypgstac")
    if _pgstac_version(conn) == wanted:
        return []
    # Takes as long to import as all the rest that a command needs, and is needed once a release.
    from pypgstac.db import PgstacDB
    from pypgstac.migrate import Migrate

    with ConnectionPool(
        settings.conninfo, min_size=0, max_size=1, open=True
    ) as pool:  # closed even when pypgstac forgets
        database = PgstacDB(pool=pool)
        try:
            Migrate(database).run_migration(wanted)
        except psycopg.Error as error:
            raise MigrationFailed(f"pgstac {wanted} could not be installed: {' '.join(str(error).split())}") from error
        finally:
            database.disconnect()
    return [f"pgstac {wanted}"]


def _procrastinate(settings: DatabaseSettings, conn: Conn) -> list[str]:
    """Install or upgrade the queue's schema. Its files are named by the version that brought them."""
    wanted, there = installed_version("procrastinate"), _component(conn, "procrastinate")
    if there == wanted:
        return []
    with conn.transaction():
        conn.execute(sql("migrate.create_schema"))
        conn.execute(sql("migrate.create_component"))
        conn.execute(sql("migrate.use_public"))
        if there is None and not _exists(conn, "public.procrastinate_jobs"):
            conn.execute(SchemaManager.get_schema())
        elif there is not None:
            for path in sorted(Path(SchemaManager.get_migrations_path()).glob("*.sql")):
                if _number(path.name.split("_")[0]) > _number(there):
                    conn.execute(path.read_text(encoding="utf-8"))
        conn.execute(sql("migrate.set_component"), ("procrastinate", wanted))
    return [f"procrastinate {wanted}"]


def _own(settings: DatabaseSettings, conn: Conn) -> list[str]:
    done = []
    applied = _applied(conn)
    for file in own_migrations():
        if file.number in applied:
            if applied[file.number][1] != file.checksum:
                raise MigrationChanged(
                    f"{file.name} was changed after it was applied; restore it and add a new file instead"
                )
            continue
        try:
            with conn.transaction():
                conn.execute(file.text)
                conn.execute(sql("migrate.record"), (file.number, file.name, file.checksum))
        except psycopg.Error as error:
            raise MigrationFailed(f"{file.name} failed and was rolled back: {' '.join(str(error).split())}") from error
        done.append(file.name)
    return done
