"""The role of the service: it can do its work and change nothing that is in the log."""

from __future__ import annotations

import psycopg

from db.errors import DbError
from db.pools import unavailable
from db.queries import sql
from db.settings import DatabaseSettings


class RoleRefused(DbError):
    """The database does not let this user make or grant the role; the message says why."""


def grant_service(settings: DatabaseSettings, name: str) -> None:
    """Give a role what the service needs; make it (without log-in) when it is not there. Connect as the owner of the tables.

    Raises:
        DatabaseUnavailable: no connection.
        RoleRefused
    """
    try:
        with psycopg.connect(settings.conninfo, cursor_factory=psycopg.RawCursor) as conn:
            conn.execute(sql("migrate.grant_service"), (name,))
    except psycopg.OperationalError as error:
        raise unavailable(settings, error) from error
    except psycopg.DatabaseError as error:
        raise RoleRefused(f"the role {name} cannot be made or granted: {error.diag.message_primary}") from error
