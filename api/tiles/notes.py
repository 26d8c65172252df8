"""What is learned of a picture while it is made, and what its answer says of that: not to be kept, not whole."""

from __future__ import annotations

from typing import Any, Final

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.tiles.rendering import note_unkept

#: Header of a picture that is not all it could be: why, the first reason alone.
PARTIAL: Final = "Federator-Partial"
#: The time for one picture was over; more items than one picture is made of; an item that could not be read; a kept picture without what
#: came in the last seconds.
DEADLINE, ITEMS, UNREADABLE, PENDING = "deadline", "items", "unreadable", "pending"


def note_partial(request: Request, why: str) -> None:
    """Some of the picture is missing."""
    note_unkept(request)
    if getattr(request.state, "partial", None) is None:
        request.state.partial = why


class Noted:
    """Pictures that are not whole, or of a coarse copy that the full resolution will replace, are not to be kept."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state: dict[str, Any] = scope.setdefault("state", {})

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": _noted(message["headers"], state)}
            await send(message)

        await self._app(scope, receive, marked)


def _noted(headers: list[tuple[bytes, bytes]], state: dict[str, Any]) -> list[tuple[bytes, bytes]]:
    why = state.get("partial")
    if why is None and not state.get("is_preview"):
        return headers
    kept = [(name, value) for name, value in headers if name.lower() != b"cache-control"]
    kept.append((b"cache-control", b"no-store"))
    return kept if why is None else [*kept, (PARTIAL.lower().encode(), why.encode())]
