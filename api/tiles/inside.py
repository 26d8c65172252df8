"""Asking our own tile routes from within: what map services ask by name is answered by the routes that answer everybody, with their caches,
their limits and their errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import orjson
from starlette.requests import Request
from starlette.types import Message

from api.signatures import PARAMETER


@dataclass(slots=True)
class Answer:
    """What a route has answered."""

    status: int = 500
    media_type: str = ""
    body: bytes = b""

    @property
    def code(self) -> str:
        """The stable code of a problem."""
        try:
            return str(orjson.loads(self.body)["code"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return ""

    @property
    def detail(self) -> str:
        """The words of a problem."""
        try:
            return str(orjson.loads(self.body)["detail"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return "the request cannot be answered"


async def ask_inside(request: Request, path: str, query: list[tuple[str, str]]) -> Answer:
    """GET a path of the application that answers `request`, as its caller."""
    scope = request.scope
    where = scope.get("root_path", "") + path
    inner: dict[str, Any] = {
        **{name: value for name, value in scope.items() if name not in ("route", "endpoint", "path_params", "router")},
        "method": "GET",
        "path": where,
        "raw_path": where.encode(),
        "query_string": urlencode(
            [one for one in query if one[0] != PARAMETER]
        ).encode(),  # it is given back on the way
        "headers": [(name, value) for name, value in scope["headers"] if not name.lower().startswith(b"if-")],
    }
    found = Answer()
    chunks: list[bytes] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            found.status = message["status"]
            headers = {name.lower(): value for name, value in message["headers"]}
            found.media_type = headers.get(b"content-type", b"").decode("latin-1")
        elif message["type"] == "http.response.body":
            chunks.append(message.get("body", b""))

    await request.app(inner, receive, send)
    found.body = b"".join(chunks)
    return found
