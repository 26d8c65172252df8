"""What a caller gets who has said who he is is for him alone: no cache keeps it (RFC 9111). What everybody may see is asked about again,
for it may be private by then. Pixels by a signed URL are the matter of `api.signed`.
"""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PRIVATE, ASKED_ABOUT = "private, no-store", "no-cache"


class PrivateAnswers:
    """Gives answers their `Cache-Control`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_private = any(name == b"authorization" for name, _ in scope["headers"])

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                said = headers.get("Cache-Control", "")
                # What nobody keeps anyway, and files of our pages, the same for all.
                if is_private and "no-store" not in said and "immutable" not in said:
                    headers["Cache-Control"] = PRIVATE
                else:
                    headers.setdefault("Cache-Control", ASKED_ABOUT)
            await send(message)

        await self._app(scope, receive, sent)
