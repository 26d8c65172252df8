"""Hears from PostgreSQL when collections, queryables, their visibility or what items have changes, whoever changes it on whatever host."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable

import asyncpg

from db.pools import open_listener
from db.settings import DatabaseSettings

log = logging.getLogger(__name__)

CHANNEL = "federator_catalogue"
#: Payload of changes that make documents old and nothing else: what items have, which source answers.
SUMMARIES = "summaries"
#: Seconds between looks at whether the connection lives, and before a new one is tried.
_PULSE_S = 5.0
_RETRY_S = 1.0


class Changes:
    """Counts changes. What was made while `generation` was the same and `is_live` holds is still true.

    `on_change` is called at each change of collections, queryables or rights, and when a connection was lost: what happened meanwhile
    nobody knows.
    """

    def __init__(self, database: DatabaseSettings, on_change: Callable[[], None]) -> None:
        self._database = database
        self._on_change = on_change
        self.generation = 0
        self.is_live = False

    def _heard(self, connection: object, process: int, channel: str, payload: object) -> None:
        self.generation += 1
        if payload != SUMMARIES:
            self._on_change()

    def note(self) -> None:
        """This process has changed the catalogue itself: its next answer is new, before the news is here."""
        self._changed()

    def _changed(self) -> None:
        self.generation += 1
        self._on_change()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Listen while the block runs."""
        task = asyncio.create_task(self._listen())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _listen(self) -> None:
        while True:
            try:
                async with open_listener(self._database, CHANNEL, self._heard) as conn:
                    self._changed()
                    self.is_live = True
                    while True:
                        await asyncio.sleep(_PULSE_S)
                        await conn.fetchval("select 1", timeout=_PULSE_S)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
                log.warning("no news of the catalogue, trying again", extra={"reason": type(error).__name__})
            finally:
                self.is_live = False
                self._changed()
            await asyncio.sleep(_RETRY_S)
