"""Which methods a path takes: for OPTIONS, and for the `Allow` of a 405, in which Starlette names those of one route alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from re import Pattern
from typing import Any

from starlette._utils import get_route_path
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Methods:
    """Answers OPTIONS and completes `Allow`.

    Args:
        routes: gives the application's routes, each with `path_regex` and `methods`; asked once, at the first need.
    """

    def __init__(self, app: ASGIApp, routes: Callable[[], Any]) -> None:
        self._app, self._routes = app, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "OPTIONS" and (allowed := self._allowed(scope)):
            await Response(status_code=204, headers={"Allow": allowed})(scope, receive, send)
            return

        async def completed(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 405:
                MutableHeaders(scope=message)["Allow"] = self._allowed(scope)
            await send(message)

        await self._app(scope, receive, completed)

    @cached_property
    def _table(self) -> list[tuple[Pattern[str], set[str]]]:
        return [(route.path_regex, set(route.methods)) for route in self._routes() if getattr(route, "methods", None)]

    def _allowed(self, scope: Scope) -> str:
        """The methods that the path takes; empty when there is nothing at it."""
        path = get_route_path(scope)
        found = set().union(*(methods for regex, methods in self._table if regex.match(path)))
        if "GET" in found:
            found.add("HEAD")
        return ", ".join(sorted({*found, "OPTIONS"})) if found else ""
