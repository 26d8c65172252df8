"""Answers that change only with collections and sources: landing page, conformance, collections, queryables. Kept as bytes, per caller's
rights.

A kept answer is given without any routing. It is forgotten with the change that makes it old (`api.changes`); while nobody hears of
changes nothing is kept.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.access import principals_of
from api.changes import Changes

#: Paths below the STAC API, without the mount.
_KEPT = re.compile(
    r"/?|/(conformance|collections|queryables|aggregations|sortables|collections-(queryables|sortables)|children|catalogs|api)/?"
    r"|/collections/[^/]+(/(queryables|aggregations|sortables))?/?"
    r"|/catalogs/[^/]+(/(conformance|catalogs|children|queryables|collections(/[^/]+)?))?/?"
)
MOST_BYTES = 32 * 2**20
_MOST_QUERY = 2000

_Key = tuple[str, bytes, tuple[str, ...]]


class Documents:
    """Keeps answers to GET of such paths."""

    def __init__(self, app: ASGIApp, changes: Callable[[], Changes | None]) -> None:
        self._app = app
        self._changes = changes
        self._generation = -1
        self._kept: OrderedDict[_Key, list[Message]] = OrderedDict()
        self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        changes = self._changes()
        if not _is_document(scope) or changes is None or not changes.is_live:
            await self._app(scope, receive, send)
            return
        if self._generation != changes.generation:
            self._forget(changes.generation)
        key = (scope["path"], scope["query_string"], principals_of(Request(scope)))
        if key not in self._kept:
            messages: list[Message] = []
            await self._app(scope, receive, _recording(messages, send))
            if self._generation == changes.generation and _is_good(messages):
                self._keep(key, messages)
            return
        self._kept.move_to_end(key)
        for message in self._kept[key]:
            await send(_copied(message))

    def _forget(self, generation: int) -> None:
        self._generation = generation
        self._kept.clear()
        self._bytes = 0

    def _keep(self, key: _Key, messages: list[Message]) -> None:
        self._kept[key] = messages
        self._bytes += _size(messages)
        while self._bytes > MOST_BYTES:
            self._bytes -= _size(self._kept.popitem(last=False)[1])


def _is_document(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] != "GET" or len(scope["query_string"]) > _MOST_QUERY:
        return False
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    return _KEPT.fullmatch(path) is not None


def _copied(message: Message) -> Message:
    return {**message, "headers": list(message["headers"])} if "headers" in message else {**message}


def _recording(messages: list[Message], send: Send) -> Send:
    async def noted(message: Message) -> None:
        messages.append(_copied(message))  # compression further out writes into what it is sent
        await send(message)

    return noted


def _is_good(messages: list[Message]) -> bool:
    return bool(messages) and messages[0].get("status") == 200 and not messages[-1].get("more_body", False)


def _size(messages: list[Message]) -> int:
    return sum(len(message.get("body", b"")) for message in messages)
