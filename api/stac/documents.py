"""Answers that change only with collections and sources: landing page, conformance, collections, queryables. Kept as bytes, per caller's
rights.

Stands in front of everything else, so that a kept answer is given without routing and without any other middleware: as it is or
packed, or as 304 when the client has it. What is kept for everybody is given by the connection itself (`api.doors`). It is forgotten
with the change that makes it old (`api.changes`); while nobody hears of changes nothing is kept.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.access import principals_of
from api.changes import Changes
from api.doors import Ready, ready
from api.encoding import KEPT, MIN_BYTES, coding_for, tagged
from api.metrics import observation_of
from api.stac.caching import cache_control
from api.stac.etags import etag_of, names_tag

#: Paths of such answers; the mount and what is below it.
_KEPT = re.compile(
    r"/stac(/?|/(conformance|collections|queryables|aggregations|sortables|collections-(queryables|sortables)|children|catalogs|api)/?"
    r"|/collections/[^/]+(/(queryables|aggregations|sortables))?/?"
    r"|/catalogs/[^/]+(/(conformance|catalogs|children|queryables|collections(/[^/]+)?))?/?)"
)
MOST_BYTES = 32 * 2**20
_MOST_QUERY = 2000
#: Of the request: what this does itself, or what must not be in an answer that others get too.
_NOT_ASKED = frozenset({b"accept-encoding", b"if-none-match", b"if-modified-since", b"origin"})
#: Of the answer: what is made anew for each client.
_MADE_HERE = frozenset({b"content-length", b"content-encoding", b"etag", b"cache-control", b"vary"})
#: Headers that tell of a body; a 304 has none.
_OF_BODY = frozenset({b"content-length", b"content-type", b"content-encoding"})
_VARY = (b"vary", b"Accept-Encoding, Authorization")
_ANY_ORIGIN = (b"access-control-allow-origin", b"*")
_EXPOSED = (b"access-control-expose-headers", b"ETag, Location, RateLimit, RateLimit-Policy, Retry-After")

_Header = tuple[bytes, bytes]


class _Asked(NamedTuple):
    """What tells the answers to one path apart; `principals` None: the caller sends no credentials."""

    path: str
    query: bytes
    principals: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class _Sent:
    """An answer in one coding, ready for the server; whole, and for who has it already."""

    etag: bytes
    start: Message
    body: Message
    whole: Ready | None
    unchanged: Ready | None

    def is_known(self, known: bytes) -> bool:
        """Whether the client has it; `known` is its If-None-Match."""
        return bool(known) and names_tag(known.decode("latin-1"), self.etag.decode(), weakly=True, in_any_coding=False)


@dataclass(slots=True)
class _Kept:
    """An answer as it was made, and as it is sent in each coding that somebody has asked for."""

    route: str
    body: bytes
    etag: bytes
    headers: list[_Header]
    sent: dict[str | None, _Sent] = field(default_factory=dict)

    def size(self) -> int:
        """Bytes of all its bodies."""
        return len(self.body) + sum(len(one.body["body"]) for one in self.sent.values())

    def coding(self, accepted: bytes) -> str | None:
        """The coding for a client that accepts these; b"": it says nothing."""
        return coding_for(accepted) if accepted and len(self.body) >= MIN_BYTES else None

    def in_coding(self, coding: str | None) -> _Sent:
        """As it is sent in this coding; packed at the first time."""
        if coding not in self.sent:
            body = KEPT[coding](self.body) if coding else self.body
            etag = tagged(self.etag, coding) if coding else self.etag
            headers = [*self.headers, (b"etag", etag), (b"content-length", str(len(body)).encode())]
            if coding:
                headers.append((b"content-encoding", coding.encode()))
            start = {"type": "http.response.start", "status": 200, "headers": headers}
            self.sent[coding] = _Sent(
                etag, start, {"type": "http.response.body", "body": body},
                ready(self.route, 200, headers, body), ready(self.route, 304, _without(headers, _OF_BODY), b""),
            )  # fmt: skip
        return self.sent[coding]


class Documents:
    """Keeps answers to GET of such paths.

    Args:
        app: answers what is not kept.
        changes: gives what tells of changes; None while the application is not open.
        parts_app: the application that knows who a caller is (`api.access`).
    """

    def __init__(self, app: ASGIApp, changes: Callable[[], Changes | None], parts_app: object) -> None:
        self._app = app
        self._changes = changes
        self._parts_app = parts_app
        self._generation = -1
        self._kept: OrderedDict[_Asked, _Kept] = OrderedDict()
        self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        changes = self._changes() if _is_document(scope) else None
        if changes is None:
            await self._app(scope, receive, send)
            return
        if self._generation != changes.generation:
            self._forget(changes.generation)
        asked, accepted, known = self._read(scope)
        kept = self._kept.get(asked)
        if kept is None:
            kept = await self._made(scope, receive, send, asked)
            if kept is None:
                return
            if changes.is_live and self._generation == changes.generation:
                self._kept[asked] = kept
                self._bytes += len(kept.body)
        else:
            self._kept.move_to_end(asked)
            observation_of(scope).route = kept.route
        sent = self._sent(kept, kept.coding(accepted), is_kept=self._kept.get(asked) is kept)
        if sent.is_known(known):
            await send({**sent.start, "status": 304, "headers": _without(sent.start["headers"], _OF_BODY)})
            await send({"type": "http.response.body", "body": b""})
            return
        await send(sent.start)
        await send(sent.body)

    def ready(self, scope: Scope) -> Ready | None:
        """What a call with this GET would send, if it is kept, packed, and for everybody; for `api.doors`."""
        changes = self._changes()
        if changes is None or not changes.is_live or self._generation != changes.generation:
            return None
        asked, accepted, known = self._read(scope)
        kept = self._kept.get(asked) if asked.principals is None else None
        sent = kept.sent.get(kept.coding(accepted)) if kept is not None else None
        if sent is None:
            return None
        self._kept.move_to_end(asked)
        return sent.unchanged if sent.is_known(known) else sent.whole

    def _read(self, scope: Scope) -> tuple[_Asked, bytes, bytes]:
        """What is asked for, Accept-Encoding, If-None-Match."""
        accepted = known = b""
        principals = None
        for name, value in scope["headers"]:
            if name == b"accept-encoding":
                accepted = value
            elif name == b"if-none-match":
                known = value
            elif name == b"authorization":
                principals = principals_of(Request({**scope, "app": self._parts_app}))
        return _Asked(scope["path"], scope["query_string"], principals), accepted, known

    async def _made(self, scope: Scope, receive: Receive, send: Send, asked: _Asked) -> _Kept | None:
        """The answer made by the application; None for one that is not good, which has been sent."""
        messages: list[Message] = []

        async def note(message: Message) -> None:
            messages.append(message)

        await self._app({**scope, "headers": _without(scope["headers"], _NOT_ASKED)}, receive, note)
        start, *bodies = messages
        if start["status"] != 200:
            await send({**start, "headers": [*start["headers"], _ANY_ORIGIN]})
            for message in bodies:
                await send(message)
            return None
        body = b"".join(message.get("body", b"") for message in bodies)
        etag = dict(start["headers"]).get(b"etag") or etag_of(body).encode()
        headers = [*_without(start["headers"], _MADE_HERE), _VARY, _ANY_ORIGIN, _EXPOSED]
        headers.append((b"cache-control", cache_control(is_private=asked.principals is not None).encode()))
        return _Kept(observation_of(scope).route, body, etag, headers)

    def _sent(self, kept: _Kept, coding: str | None, *, is_kept: bool) -> _Sent:
        before = len(kept.sent)
        sent = kept.in_coding(coding)
        if is_kept and len(kept.sent) > before:
            self._bytes += len(sent.body["body"])
            while self._bytes > MOST_BYTES:
                self._bytes -= self._kept.popitem(last=False)[1].size()
        return sent

    def _forget(self, generation: int) -> None:
        self._generation = generation
        self._kept.clear()
        self._bytes = 0


def _is_document(scope: Scope) -> bool:
    return (
        scope["type"] == "http"
        and scope["method"] == "GET"
        and scope["path"].startswith("/stac")
        and len(scope["query_string"]) <= _MOST_QUERY
        and _KEPT.fullmatch(scope["path"]) is not None
    )


def _without(headers: list[_Header], names: frozenset[bytes]) -> list[_Header]:
    return [one for one in headers if one[0] not in names]
