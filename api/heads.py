"""HEAD is answered as GET is, without the body (RFC 9110, 9.3.2): FastAPI's routes know GET alone."""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Where each GET comes to an end soon and changes nothing. Uploads have a HEAD of their own, rasters and logs are streams.
_PLACES = re.compile(r"/|/(upload|stac|sources|_mgmt)(/.*)?", re.DOTALL)


class Heads:
    """Asks for what HEAD names by GET: caches, codings and tags are then the same."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD" or not _PLACES.fullmatch(scope["path"]):
            await self._app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        await self._app({**scope, "method": "GET"}, receive, without_body)
