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
from lineage.visibility import EVERYTHING

log = logging.getLogger(__name__)

ATTEMPTS = 5
#: What a caller is made to wait for locks and for a statement, in milliseconds as PostgreSQL reads them.
LOCK_TIMEOUT_MS, STATEMENT_TIMEOUT_MS = "15000", "60000"


@dataclass(frozen=True, slots=True)
class Author:
    """Who edits: the actor of the events, and the principals by which the database decides what is seen and what may be written.

    `rights` decide about writing: those of a program on this machine are wider than what it sees. None: the same.
    """

    actor: str
    principals: tuple[str, ...] = ()
    wider_rights: tuple[str, ...] | None = None

    @property
    def rights(self) -> tuple[str, ...]:
        """Principals that decide about writing."""
        return self.principals if self.wider_rights is None else self.wider_rights

    @property
    def is_person(self) -> bool:
        """Whether what he makes can be his: the operator's token and programs on this machine are nobody in particular."""
        return self.actor in self.principals

    @property
    def is_admin(self) -> bool:
        """Whether he sees everything."""
        return "role:admin" in self.principals


#: The operator's own programs.
OPERATOR = Author("user:local", EVERYTHING)


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


def not_allowed() -> EditRefused:
    """The answer for what the caller sees and may not change."""
    return EditRefused("NOT_ALLOWED", "you may see this, but not change it: its owner can let you", status=403)


def not_found() -> EditRefused:
    """The answer for what is not there, and for what the caller may not see."""
    return EditRefused("NOT_FOUND", "there is no such collection or item", status=404)
