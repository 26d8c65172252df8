"""Who edits, and the transaction in which that happens."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import psycopg

from db.pools import Connection, Pool
from db.queries import sql
from ingest.errors import EditRefused
from ingest.store import RETRYABLE

log = logging.getLogger(__name__)

ATTEMPTS = 5
#: What a caller is made to wait for locks and for a statement, in milliseconds as PostgreSQL reads them.
LOCK_TIMEOUT_MS, STATEMENT_TIMEOUT_MS = "15000", "60000"


@dataclass(frozen=True, slots=True)
class Author:
    """Who edits: the actor of the events, and the principals by which the database decides what is seen."""

    actor: str
    principals: tuple[str, ...] = ()


async def in_transaction[T](
    pool: Pool, work: Callable[[Connection], Awaitable[T]], *, statement_timeout_ms: str = STATEMENT_TIMEOUT_MS
) -> T:
    """Do `work` in one transaction; again when PostgreSQL broke it off because of another one.

    Raises:
        EditRefused: CATALOGUE_BUSY (503): others hold what is needed.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            async with pool.connection() as conn, conn.transaction():
                await conn.execute(sql("edits.be_patient"), (LOCK_TIMEOUT_MS, statement_timeout_ms))
                return await work(conn)
        except RETRYABLE as error:
            if attempt == ATTEMPTS or isinstance(error, psycopg.errors.LockNotAvailable):
                raise EditRefused("CATALOGUE_BUSY", "others write here just now; try again", status=503) from error
            log.info("an edit is tried again", extra={"reason": type(error).__name__, "attempt": attempt})
            await asyncio.sleep(random.uniform(0, 0.05 * 2**attempt))  # noqa: S311 - full jitter
    raise AssertionError("the last attempt returns or raises")


def not_found() -> EditRefused:
    """The answer for what is not there, and for what the caller may not see."""
    return EditRefused("NOT_FOUND", "there is no such collection or item", status=404)
