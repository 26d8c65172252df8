"""Migrations on a real server."""

from __future__ import annotations

import threading
from pathlib import Path

import psycopg
import pytest

from db import migrate as module
from db.errors import DatabaseTooNew, DatabaseUnavailable, MigrationChanged
from db.migrate import is_current, migrate, own_migrations, status
from db.pools import connect
from db.settings import DatabaseSettings


def execute(settings: DatabaseSettings, statement: bytes) -> None:
    with psycopg.connect(settings.conninfo, autocommit=True) as conn:
        conn.execute(statement)


def test_an_empty_database_gets_everything_once(empty_database: DatabaseSettings) -> None:
    done = migrate(empty_database)
    assert done[0] == "pgstac 0.10.0"
    assert done[-1] == own_migrations()[-1].name
    assert migrate(empty_database) == []
    assert is_current(empty_database)


def test_two_at_once_do_it_once(empty_database: DatabaseSettings) -> None:
    results: list[list[str]] = []
    threads = [threading.Thread(target=lambda: results.append(migrate(empty_database))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(bool, results)) == [False, True]


def test_numbers_have_no_gap() -> None:
    assert [file.number for file in own_migrations()] == list(range(1, len(own_migrations()) + 1))


@pytest.mark.parametrize(
    "statement",
    [
        b"insert into federator.migration (number, name, checksum) values (9999, '9999_future.sql', '')",
        b"insert into pgstac.migrations (version) values ('99.0.0')",
        b"update federator.component set version = '99.0.0'",
    ],
)
def test_a_newer_database_is_refused(database: DatabaseSettings, statement: bytes) -> None:
    execute(database, statement)
    with pytest.raises(DatabaseTooNew, match="newer"):
        migrate(database)


def test_an_edited_file_is_refused(database: DatabaseSettings) -> None:
    execute(database, b"update federator.migration set checksum = 'other' where number = 1")
    with pytest.raises(MigrationChanged, match=r"0001_federator\.sql"):
        migrate(database)


def test_a_file_that_fails_leaves_nothing(
    database: DatabaseSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = len(own_migrations()) + 1
    for file in own_migrations():
        (tmp_path / file.name).write_text(file.text, encoding="utf-8")
    (tmp_path / f"{number:04}_bad.sql").write_text("create table federator.half (); select 1/0;", encoding="utf-8")
    monkeypatch.setattr(module, "MIGRATIONS", tmp_path)
    with pytest.raises(module.MigrationFailed, match="division by zero"):
        migrate(database)
    with psycopg.connect(database.conninfo) as conn:
        assert conn.execute("select to_regclass('federator.half')").fetchone() == (None,)
    assert status(database)["pending"] == [f"{number:04}_bad.sql"]


@pytest.mark.parametrize(
    "change",
    [{"pgport": 9}, {"pghost": "no-such-host.invalid"}, {"pgdatabase": "nowhere"}, {"pguser": "nobody-here"}],
)
async def test_wrong_settings_are_named_without_the_password(
    database: DatabaseSettings, change: dict[str, object]
) -> None:
    wrong = database.model_copy(update=change)
    with pytest.raises(DatabaseUnavailable) as caught:
        await connect(wrong)
    assert str(next(iter(change.values()))) in str(caught.value)
    assert database.pgpassword.get_secret_value() not in str(caught.value)
    with pytest.raises(DatabaseUnavailable):
        migrate(wrong)
