"""Connections and pools, each with time limits, so that nothing waits for ever."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import asyncpg
import orjson
import psycopg
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from db.errors import DatabaseUnavailable
from db.settings import DatabaseSettings

Connection = AsyncConnection[DictRow]
Pool = AsyncConnectionPool[Connection]

#: Seconds after the server's own limit that a read is waited for.
_SILENCE_S = 2.0
#: For reads that take milliseconds: to start parallel workers or to compile takes longer than they do.
SHORT_READS = {"max_parallel_workers_per_gather": "0", "jit": "off"}
#: pgstac's functions call each other without their schema.
SEARCH_PATH = "pgstac,public"


def session_options(settings: DatabaseSettings, *, statement_timeout_s: float | None = None) -> dict[str, str]:
    """PostgreSQL parameters of every session of ours; times in milliseconds as the server reads them."""
    statement_s = settings.statement_timeout_s if statement_timeout_s is None else statement_timeout_s
    return {
        "search_path": SEARCH_PATH,
        "timezone": "UTC",
        "statement_timeout": f"{int(statement_s * 1000)}",
        "lock_timeout": f"{int(settings.lock_timeout_s * 1000)}",
        "idle_in_transaction_session_timeout": f"{int(settings.idle_timeout_s * 1000)}",
    }


def psycopg_options(settings: DatabaseSettings, more: Mapping[str, str] | None = None) -> str:
    """`options` value of a libpq connection."""
    return " ".join(f"-c {name}={value}" for name, value in {**session_options(settings), **(more or {})}.items())


async def connect(settings: DatabaseSettings) -> Connection:
    """Open one psycopg connection: dict rows, `$1` placeholders, transactions begun by hand (autocommit).

    Raises:
        DatabaseUnavailable: no connection; the message names server, database and user.
    """
    try:
        return await AsyncConnection.connect(
            settings.conninfo,
            autocommit=True,
            row_factory=dict_row,
            cursor_factory=AsyncRawCursor,
            options=psycopg_options(settings),
        )
    except (psycopg.Error, OSError, UnicodeError) as error:
        raise unavailable(settings, error) from error


def unavailable(settings: DatabaseSettings, error: Exception) -> DatabaseUnavailable:
    """Say which database does not answer and why, without the password."""
    reason = " ".join(str(error).split()) or type(error).__name__
    if secret := settings.pgpassword.get_secret_value():
        reason = reason.replace(secret, "***")
    return DatabaseUnavailable(f"no connection to the database at {settings.where}: {reason}")


@asynccontextmanager
async def open_pool(
    settings: DatabaseSettings, *, min_size: int | None = None, max_size: int | None = None
) -> AsyncIterator[Pool]:
    """Open a psycopg pool: autocommit connections (use `conn.transaction()`), dict rows, `$1` placeholders.

    Raises:
        DatabaseUnavailable: the first connection did not come within the connect timeout.
    """
    pool: Pool = AsyncConnectionPool(
        settings.conninfo,
        min_size=settings.min_conn_size if min_size is None else min_size,
        max_size=settings.max_conn_size if max_size is None else max_size,
        timeout=settings.connect_timeout_s * 2,
        reconnect_timeout=30,
        check=AsyncConnectionPool.check_connection,
        kwargs={
            "autocommit": True,
            "row_factory": dict_row,
            "cursor_factory": AsyncRawCursor,
            "options": psycopg_options(settings),
        },
        open=False,
    )
    await (await connect(settings)).close()  # a clear error now instead of the pool's time-out later
    try:
        await pool.open(wait=True, timeout=settings.connect_timeout_s * 2)
    except PoolTimeout as error:
        await pool.close()
        raise unavailable(settings, error) from error
    try:
        yield pool
    finally:
        await pool.close()


async def _use_orjson(conn: asyncpg.Connection) -> None:
    for name in ("json", "jsonb"):
        await conn.set_type_codec(name, encoder=_dumps, decoder=orjson.loads, schema="pg_catalog")


async def _leave_as_it_is(conn: asyncpg.Connection) -> None:
    """Readers change nothing in a session, so there is nothing to reset when it goes back: spares a request to the server."""


def _dumps(value: object) -> str:
    return orjson.dumps(value).decode()


async def open_asyncpg(settings: DatabaseSettings) -> asyncpg.Pool:
    """Open an asyncpg pool for the API's reads, with their shorter time limit; the caller closes it.

    Raises:
        DatabaseUnavailable: no connection.
    """
    try:
        return await asyncpg.create_pool(
            settings.dsn,
            min_size=settings.min_conn_size,
            max_size=settings.max_conn_size,
            timeout=settings.connect_timeout_s,
            # The server ends a statement before; this is for one that says nothing any more. asyncpg waits as long again for its cancel.
            command_timeout=settings.read_timeout_s + _SILENCE_S,
            init=_use_orjson,
            reset=_leave_as_it_is,
            server_settings=session_options(settings, statement_timeout_s=settings.read_timeout_s) | SHORT_READS,
        )
    except (asyncpg.PostgresError, OSError, TimeoutError) as error:
        raise unavailable(settings, error) from error


@asynccontextmanager
async def open_listener(
    settings: DatabaseSettings, channel: str, on_notice: Callable[..., None]
) -> AsyncIterator[asyncpg.Connection]:
    """Open a connection of its own that hears a channel; `on_notice` is called on the event loop.

    Raises:
        asyncpg.PostgresError, OSError, TimeoutError: no connection.
    """
    conn = await asyncpg.connect(
        settings.dsn, timeout=settings.connect_timeout_s, server_settings={"application_name": "federator listener"}
    )
    try:
        await conn.add_listener(channel, on_notice)
        yield conn
    finally:
        await conn.close(timeout=settings.connect_timeout_s)
