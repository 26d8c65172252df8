"""Hears from PostgreSQL when collections, queryables, their visibility or what items have changes, whoever changes it on whatever host."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

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
    nobody knows. With a replica it is called once more when `caught_up` says that what is read has the change; until then nothing holds.
    """

    def __init__(
        self,
        database: DatabaseSettings,
        on_change: Callable[[], None],
        caught_up: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._database = database
        self._on_change = on_change
        self._caught_up = caught_up
        self._settling: asyncio.Task[None] | None = None
        self._is_listening = False
        self.generation = 0

    @property
    def is_live(self) -> bool:
        """Whether every change is heard of and seen."""
        return self._is_listening and self._settling is None

    def _heard(self, connection: object, process: int, channel: str, payload: object) -> None:
        self.generation += 1
        if payload != SUMMARIES:
            self._on_change()
        self._wait_for_replica()

    def note(self) -> None:
        """This process has changed the catalogue itself: its next answer is new, before the news is here."""
        self._changed()

    def _changed(self) -> None:
        self.generation += 1
        self._on_change()
        self._wait_for_replica()

    def _wait_for_replica(self) -> None:
        if self._caught_up is not None:
            if self._settling is not None:
                self._settling.cancel()
            self._settling = asyncio.create_task(self._settle(self._caught_up))

    async def _settle(self, caught_up: Callable[[], Awaitable[None]]) -> None:
        await caught_up()
        self._settling = None
        self.generation += 1
        self._on_change()

    def read_elsewhere(self) -> None:
        """What is read comes from another server from now on, which may be ahead or behind."""
        self._changed()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Listen while the block runs."""
        task = asyncio.create_task(self._listen())
        try:
            yield
        finally:
            await _ended(task)
            await _ended(self._settling)

    async def _listen(self) -> None:
        while True:
            try:
                async with open_listener(self._database, CHANNEL, self._heard) as conn:
                    self._changed()
                    self._is_listening = True
                    while True:
                        await asyncio.sleep(_PULSE_S)
                        await conn.fetchval("select 1", timeout=_PULSE_S)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
                log.warning("no news of the catalogue, trying again", extra={"reason": type(error).__name__})
            finally:
                self._is_listening = False
                self._changed()
            await asyncio.sleep(_RETRY_S)


async def _ended(task: asyncio.Task[None] | None) -> None:
    """End a task."""
    if task is not None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
