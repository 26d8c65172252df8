"""Keeps tiles: an answer that was made once for what is still so is given again, without FastAPI, without opening a raster.

At every request the database is asked first whether the caller may see what is shown, and which version of it there is: the key holds
that version, so a replaced item has no old tile and what became private is no longer answered (`api.tiles.versions`). Equal requests at
the same moment are made once. Stands behind whatever decides about a request, and in front of whatever makes answers.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl

import asyncpg
import orjson
import rasterio
from blake3 import blake3
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.access import principals_of
from api.metrics import Metrics, observation_of
from api.private_answers import PRIVATE
from api.settings import ApiSettings
from api.signed import SIGNED, note_private
from api.stac.etags import etag_of, names_tag
from api.tiles.leaving import staying
from api.tiles.rendering import KEY, Rendering
from api.tiles.single_flight import SingleFlight
from api.tiles.tile_store import KEPT_HEADERS, Disk, Kept, Memory
from api.tiles.versions import Asker, State, Versions

log = logging.getLogger(__name__)

_PIXELS = (
    r"(?:tiles/[A-Za-z0-9_]{1,64}/\d{1,2}/\d{1,9}/\d{1,9}(?:@\dx)?(?:\.[a-z0-9]{1,8})?"
    r"|preview(?:/\d+x\d+)?(?:\.[a-z0-9]{1,8})?|bbox/[^/]{1,200}(?:/\d+x\d+)?\.[a-z0-9]{1,8})"
)
ITEM_PIXELS: Final = re.compile(rf"/raster/collections/([^/]+)/items/([^/]+)/{_PIXELS}")
COLLECTION_PIXELS: Final = re.compile(
    rf"/raster/collections/([^/]+)/(?:density/\d{{1,2}}/\d{{1,9}}/\d{{1,9}}(?:\.[a-z]{{3}})?|{_PIXELS})"
)
#: Longer queries are answered anew each time.
_MOST_QUERY = 2000
_MOST_BODY = 8 * 2**20
#: More than cores, for some wait for a disk; few, for they wait for each other in Python.
_THREADS: Final = max(4, 2 * (os.cpu_count() or 1))
#: Of a request: what is done here, and what must not decide about an answer that others get too.
_NOT_ASKED = frozenset(
    {b"accept-encoding", b"if-none-match", b"if-modified-since", b"origin", b"authorization", b"cookie", b"range"}
)
_ANY_ORIGIN = (b"access-control-allow-origin", b"*")
_EXPOSED = (b"access-control-expose-headers", b"ETag, Location, RateLimit, RateLimit-Policy, Retry-After")
_VARY = (b"vary", b"Accept")
_DATABASE_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)


@dataclass(frozen=True, slots=True)
class Made:
    """An answer, and what was told of it. `kept` None: it is `messages`, sent to who asked, and to nobody later; with `is_for_all` false
    not even to those who wait for it. `outcome` as metrics call it."""

    messages: list[Message]
    version: str | None
    kept: Kept | None
    is_for_all: bool = True
    outcome: str = "made"


class Maker(Protocol):
    """Makes some answers more quickly than the application does; of the state that is given, and with the same bytes."""

    def work(
        self, path: str, query: bytes, names: tuple[str, ...], asker: Asker, state: State
    ) -> Callable[[], Kept | None] | None:
        """What makes the answer, to be called in a thread. None, as its result: the application is to answer."""
        ...


def renderer_name(database: str) -> str:
    """Name of everything besides requests and items that decides about bytes: programs that draw, and the database."""
    programs = [
        f"{name} {version(name)}"
        for name in ("rio-tiler", "titiler-core", "titiler-pgstac", "rasterio", "numpy", "imagecodecs")
    ]
    text = "; ".join([*programs, rasterio.__gdal_version__, _own_code(), database])
    return blake3(text.encode()).hexdigest()[:24]


def _own_code() -> str:
    """Hash of our own modules that draw."""
    here = Path(__file__).parent
    files = sorted([*here.glob("*.py"), here.parent / "raster.py", here.parent / "render_hints.py"])
    return blake3(b"".join(file.read_bytes() for file in files)).hexdigest()


class TileCache:
    """Keeps answers to GET of pixels.

    Args:
        app: makes what is not kept.
        kinds: patterns of paths and what tells the versions of what they name; the first that fits.
        maker: is asked first for what is not kept.
    """

    def __init__(
        self,
        app: ASGIApp,
        kinds: Mapping[re.Pattern[str], Versions],
        settings: ApiSettings,
        metrics: Metrics,
        maker: Maker | None = None,
    ) -> None:
        self._app, self._kinds, self._metrics, self._maker = app, kinds, metrics, maker
        self._threads: ThreadPoolExecutor | None = None
        self._settings = settings
        self._memory = Memory(settings.tile_memory_bytes)
        self._disk: Disk | None = None
        self._renderer = ""
        self._flights: SingleFlight[str, Made] = SingleFlight()
        public = f"public, max-age={settings.tile_max_age_s}" if settings.tile_max_age_s else "no-cache"
        self._public = (b"cache-control", public.encode())

    def open(self, database: str) -> None:
        """Begin to keep, for the database of this name."""
        self._renderer = renderer_name(database)
        self._threads = ThreadPoolExecutor(_THREADS, "tiles")
        if self._settings.tile_cache_bytes:
            folder = self._settings.tile_cache_dir or self._settings.data_dir / "tiles"
            self._disk = Disk(folder, self._settings.tile_cache_bytes, self._settings.processes)

    def close(self) -> None:
        """Wait for what is being made and written."""
        self._renderer = ""
        if self._threads is not None:
            self._threads.shutdown(wait=True)
            self._threads = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._named(scope) if self._renderer else None
        if found is None:
            await self._ask(scope, receive, send)
            return
        versions, names = found
        asker = Asker(principals_of(Request(scope)), SIGNED in scope)
        try:
            state = await versions.state(names, asker)
        except _DATABASE_ERRORS:
            state = None  # the application says what is wrong
        if state is None:
            await self._ask(scope, receive, send)
            return
        note_private(Request(scope), is_private=not state.is_public)
        key = self._key(scope, names, state)
        kept = self._memory.get(key)
        if kept is not None:
            self._count("memory", kept)
            await self._send(kept, state, scope, send)
            return
        async with staying(receive) as stay:
            made, begun_here = await self._flights.do(key, lambda: self._answer(scope, key, names, asker, state))
        if stay.has_left:
            self._note_left(scope)
            return
        if not begun_here and not (made.is_for_all and made.version in (None, state.version)):
            await self._ask(scope, stay.receive, send)  # an item that has changed meanwhile may be for others
            return
        self._count(made.outcome if begun_here else "shared", made.kept)
        if made.kept is not None:
            await self._send(made.kept, state, scope, send)
            return
        await _pass_on(made.messages, scope, send)

    async def _ask(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on to the application; what is below `/raster/` as long as the client waits for it."""
        if scope["type"] != "http" or not scope["path"].startswith("/raster/"):
            await self._app(scope, receive, send)
            return
        async with staying(receive) as stay:
            await self._app(scope, stay.receive, stay.sending(send))
        if stay.has_left:
            self._note_left(scope)

    def _note_left(self, scope: Scope) -> None:
        observation_of(scope).has_left = True
        self._count("left", None)

    def _named(self, scope: Scope) -> tuple[Versions, tuple[str, ...]] | None:
        if (
            scope["type"] != "http"
            or scope["method"] != "GET"
            or not scope["path"].startswith("/raster/collections/")
            or len(scope["query_string"]) > _MOST_QUERY
        ):
            return None
        for pattern, versions in self._kinds.items():
            if match := pattern.fullmatch(scope["path"]):
                return versions, match.groups()
        return None

    def _key(self, scope: Scope, names: tuple[str, ...], state: State) -> str:
        """Hash of everything that decides about the answer's bytes."""
        path = scope["path"]
        accepted = b"" if "." in path.rpartition("/")[2] else _accepted(scope)
        query = _in_order(scope["query_string"])
        what = [self._renderer, path, names, query, accepted.decode("latin-1"), state.version, state.audience]
        return blake3(orjson.dumps(what)).hexdigest()

    async def _answer(self, scope: Scope, key: str, names: tuple[str, ...], asker: Asker, state: State) -> Made:
        """What is kept on disk, or is made quickly, or by the application."""
        asked = scope["path"], scope["query_string"], names, asker, state
        work = None if self._maker is None else self._maker.work(*asked)
        kept, is_new = await self._looked_up(key, work)
        if kept is None or not 0 < len(kept.body) <= _MOST_BODY:
            return await self._make(scope, key, state)
        self._memory.put(key, kept)
        if is_new and self._disk is not None and self._threads is not None:
            self._threads.submit(self._disk.put, key, kept)  # nobody waits for it
        return Made([], state.version, kept, outcome="made" if is_new else "disk")

    async def _looked_up(self, key: str, work: Callable[[], Kept | None] | None) -> tuple[Kept | None, bool]:
        """What is on disk or else what `work` makes, and whether it was made: one turn in a thread for both."""
        disk = self._disk
        if disk is None and work is None:
            return None, False

        def found() -> tuple[Kept | None, bool]:
            kept = None if disk is None else disk.get(key)
            return (kept, False) if kept is not None or work is None else (work(), True)

        context = contextvars.copy_context()  # which says whether the client is still there
        return await asyncio.get_running_loop().run_in_executor(self._threads, context.run, found)

    async def _make(self, scope: Scope, key: str, state: State) -> Made:
        """The answer by the application, kept when it may be."""
        messages: list[Message] = []
        rendering = Rendering()

        async def note(message: Message) -> None:
            messages.append(message)

        headers = [one for one in scope["headers"] if one[0] not in _NOT_ASKED]
        inner = {**scope, "headers": headers, "state": dict(scope.get("state") or {}), KEY: rendering}
        try:
            await self._app(inner, _nothing_more(), note)
        except Exception:  # logged where it was answered with a problem
            if not messages:
                raise
        kept = _kept_of(messages, observation_of(scope).route, rendering.until)
        if not rendering.is_of(state.audience):  # sharing has changed meanwhile: it is for who asked, as of now
            return Made(messages, rendering.version, None, is_for_all=False)
        # Between the look at the version and the making of the tile the item may have become another one.
        if kept is None or not rendering.is_kept or (rendering.version or state.version) != state.version:
            return Made(messages, rendering.version, None, rendering.is_for_all)
        self._memory.put(key, kept)
        if self._disk is not None:
            await asyncio.to_thread(self._disk.put, key, kept)
        return Made(messages, rendering.version, kept)

    async def _send(self, kept: Kept, state: State, scope: Scope, send: Send) -> None:
        observation_of(scope).route = kept.route
        known, has_said_who = b"", False
        for name, value in scope["headers"]:
            if name == b"if-none-match":
                known = value
            elif name == b"authorization":
                has_said_who = True
        control = (b"cache-control", PRIVATE.encode()) if has_said_who or not state.is_public else self._public
        headers = [(b"etag", kept.etag), control, _ANY_ORIGIN, _EXPOSED]
        if "." not in scope["path"].rpartition("/")[2]:
            headers.append(_VARY)
        if known and names_tag(known.decode("latin-1"), kept.etag.decode(), weakly=True, in_any_coding=False):
            await send({"type": "http.response.start", "status": 304, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        headers += [*kept.headers, (b"content-length", str(len(kept.body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": kept.body})

    def _count(self, outcome: str, kept: Kept | None) -> None:
        self._metrics.note_tile(outcome, len(kept.body) if kept is not None else 0)


async def _pass_on(messages: list[Message], scope: Scope, send: Send) -> None:
    """Send what is not kept, with what was left out because others may get it too."""
    has_said_who = any(name == b"authorization" for name, _ in scope["headers"])
    for message in messages:
        if message["type"] == "http.response.start":
            headers = [*message["headers"], _ANY_ORIGIN]
            if has_said_who:
                headers = [
                    *(one for one in headers if one[0] != b"cache-control"),
                    (b"cache-control", PRIVATE.encode()),
                ]
            message = {**message, "headers": headers}
        await send(message)


@lru_cache(maxsize=2048)
def _in_order(query: bytes) -> list[tuple[str, str]]:
    """Parameters by name; values of one name keep their order, which says something."""
    return sorted(parse_qsl(query.decode("latin-1"), keep_blank_values=True), key=lambda pair: pair[0])


def _accepted(scope: Scope) -> bytes:
    """What media types the client asks for, when pictures are among them."""
    for name, value in scope["headers"]:
        if name == b"accept":
            return bytes(value).lower() if b"image/" in value else b""
    return b""


def _nothing_more() -> Receive:
    """The body of a GET; who asked may go away, the answer is made for others too."""
    is_read = False

    async def receive() -> Message:
        nonlocal is_read
        if is_read:
            await asyncio.Event().wait()
        is_read = True
        return {"type": "http.request", "body": b"", "more_body": False}

    return receive


def _kept_of(messages: list[Message], route: str, until: float | None) -> Kept | None:
    """The answer in one piece, if it is a good one."""
    start: Any = messages[0] if messages else None
    if start is None or start["status"] != 200:
        return None
    body = b"".join(message.get("body", b"") for message in messages[1:])
    if not body or len(body) > _MOST_BODY:
        return None
    headers = tuple((name, value) for name, value in start["headers"] if name in KEPT_HEADERS)
    return Kept(route, headers, etag_of(body).encode(), body, until)


def primary_of(reads: Any) -> Callable[[], asyncpg.Pool]:
    """The pool that every change is seen in at once: a replica may be behind."""
    return lambda: getattr(reads, "primary", reads)
