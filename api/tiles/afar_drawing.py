"""Makes the kept pictures from afar (`federator.overview`): the finest level as any tile of its collection, coarser ones of four below.

The finest tiles are asked of the application itself, as nobody in particular would ask: they show what everybody may see, in the look and
on the grid of the tiles of the next zoom. What is to be made anew is marked by the worker (`ingest.overviews`). Any number of processes
may make them: a tile is taken by one, and thrown away when there was a new reason to make it meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg.types.json import Jsonb
from psycopg_pool import PoolTimeout
from starlette.types import ASGIApp, Message, Receive

from api.settings import ApiSettings
from api.tiles.afar_pictures import halved, joined, packed, pixels_of
from api.tiles.notes import DEADLINE, PARTIAL, UNREADABLE
from api.tiles.rendering import DRAWING, KEY, Drawing, Rendering
from db.errors import DatabaseUnavailable
from db.pools import Pool
from db.queries import sql

log = logging.getLogger(__name__)

#: Tiles of a collection that are drawn before those above them are made, so that all zooms grow together.
_ROUND: Final = 32
_MOST_ABOVE: Final = 500
#: Seconds between looks for what is marked, and between looks at how much is kept.
_PAUSE_S: Final = 5.0
_THIN_S: Final = 60.0
#: Drawing takes a quarter of the time of one thread, and the rest is for who waits.
_REST: Final = 3.0
#: Seconds that a tile is left to who has taken it, and after which one that could not be drawn is tried again.
_TAKEN_S: Final = 120.0
_AGAIN_S: Final = 60.0
#: Seconds after which one that took too long is drawn again.
_REDRAWN_S: Final = 600.0
_GONE: Final = (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout, DatabaseUnavailable)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A tile: WEBP, None where nothing is to be seen; why it is not whole; the render hint it was drawn by."""

    picture: bytes | None
    partial: str | None
    hint: dict[str, Any] | None = None


class CannotBeDrawn(Exception):
    """Not now: try again later."""


class Overviews:
    """Keeps pictures of collections.

    Args:
        app: the application of tiles.
        pool: of the database.
    """

    def __init__(self, app: ASGIApp, pool: Pool, settings: ApiSettings) -> None:
        self._app, self._pool = app, pool
        self._most, self.has_remote = settings.overview_bytes, settings.overview_remote
        self._asked: dict[str, float] = {}
        self._wanted: set[str] = set()
        self._is_wanted, self._is_over = asyncio.Event(), threading.Event()
        self._thinned = time.monotonic()

    @property
    def is_on(self) -> bool:
        """Whether any are kept."""
        return self._most > 0

    def ask(self, collection: str) -> None:
        """Say that pictures of a collection are made of many items; asked again a minute later it is looked at again."""
        now = time.monotonic()
        self._asked = {name: until for name, until in self._asked.items() if until > now}
        if collection not in self._asked:
            self._asked[collection] = now + 60
            self._wanted.add(collection)
            self._is_wanted.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Make pictures meanwhile."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            self._is_over.set()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        while True:
            begun, pause_s = time.monotonic(), _PAUSE_S if self.is_on else _AGAIN_S
            try:
                if await self.step():
                    pause_s = min(60.0, (time.monotonic() - begun) * _REST)
            except _GONE as error:
                log.warning("pictures from afar wait for the database", extra={"reason": type(error).__name__})
            except Exception:
                log.exception("pictures from afar cannot be made")
                pause_s = _AGAIN_S
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._is_wanted.wait(), pause_s)
            self._is_wanted.clear()

    async def step(self) -> int:
        """Begin with what is asked for, and make some tiles of each collection; return how many."""
        if not self.is_on:
            await self.thin()
            return 0
        while self._wanted:
            await self._rows("tiles.keep_overview", self._wanted.pop())
        made = 0
        for due in await self._rows("tiles.overviews_due"):
            try:
                made += await self._round(due["collection_id"], due["base"], due["hint"])
            except _GONE:
                raise
            except Exception:  # others' are made all the same; what was taken is tried again
                log.exception("pictures from afar cannot be made", extra={"collection": due["collection_id"]})
        if made and time.monotonic() - self._thinned > _THIN_S:
            await self.thin()
        return made

    async def thin(self) -> None:
        """Keep within the bytes that are allowed."""
        self._thinned = time.monotonic()
        for row in await self._rows("tiles.thin_overviews", self._most):
            if row["thinned"]:
                log.info("pictures from afar lose their finest level", extra={"times": row["thinned"]})

    async def _round(self, collection: str, base: int, hint: Any) -> int:
        """Draw some tiles of the finest level, then all that are to be made above."""
        made = 0
        for level in range(base, -1, -1):
            most = _ROUND if level == base else _MOST_ABOVE
            for one in await self._rows("tiles.take_overviews", collection, level, most, _TAKEN_S):
                place = (level, one["x"], one["y"])
                try:
                    drawn = await (self._drawn(collection, *place) if level == base else self._made(collection, *place))
                except CannotBeDrawn:
                    await self._rows("tiles.leave_overview", collection, *place, one["mark"], _AGAIN_S)
                    continue
                if hint is None and drawn.hint:  # from now on all are drawn so; this one is, too
                    hint = drawn.hint
                    await self._rows("tiles.hint_overview", collection, Jsonb(hint))
                await self._rows("tiles.store_overview", collection, *place, one["mark"], drawn.picture, drawn.partial)
                if level == base and drawn.partial == DEADLINE:
                    await self._rows("tiles.redraw_overview", collection, *place, _REDRAWN_S)
                made += 1
        return made

    async def _drawn(self, collection: str, level: int, x: int, y: int) -> Drawn:
        """Ask for a tile as anybody would.

        Raises:
            CannotBeDrawn: a deadline, a raster elsewhere.
        """
        path = f"/raster/collections/{collection}/tiles/WebMercatorQuad/{level}/{x}/{y}.png"
        rendering, state, messages = Rendering(), dict[str, Any](), list[Message]()
        scope: dict[str, Any] = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
            "path": path, "raw_path": path.encode(), "root_path": "/raster", "query_string": b"", "headers": [],
            "server": ("localhost", 80), "client": None, "state": state, KEY: rendering, DRAWING: Drawing(self.has_remote, self._is_over),
        }  # fmt: skip

        async def note(message: Message) -> None:
            messages.append(message)

        await self._app(scope, _nothing(), note)
        status, headers = messages[0]["status"], dict(messages[0]["headers"])
        if status >= 500 or status == 404:  # 404: it is hidden by now, and forgotten with the next look
            log.info("a picture from afar is drawn later", extra={"path": path, "status": status})
            raise CannotBeDrawn
        partial = headers.get(PARTIAL.lower().encode())
        if status != 200:
            return Drawn(None, None)
        if not rendering.is_for_all:  # it shows a raster of another item, which may be private tomorrow
            return Drawn(None, UNREADABLE)
        body = b"".join(message.get("body", b"") for message in messages[1:])
        picture = await asyncio.to_thread(lambda: packed(pixels_of(body)))
        return Drawn(picture, partial and partial.decode(), state.get("hint"))

    async def _made(self, collection: str, level: int, x: int, y: int) -> Drawn:
        """Of the four below."""
        rows = await self._rows("tiles.overview_children", collection, level, x, y)
        tiles = [(row["x"], row["y"], row["picture"]) for row in rows]
        partial = next((row["partial"] for row in rows if row["partial"]), None)
        return Drawn(await asyncio.to_thread(lambda: packed(halved(joined((2 * x, 2 * y), tiles)))), partial)

    async def _rows(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        async with self._pool.connection() as conn:
            cursor = await conn.execute(sql(statement), values)
            return await cursor.fetchall() if cursor.description else []


def _nothing() -> Receive:
    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    return receive
