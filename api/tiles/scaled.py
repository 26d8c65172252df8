"""`@2x` in the path of a tile: what titiler had before it had `tilesize`, and what Leaflet writes for `{r}` on fine screens."""

from __future__ import annotations

import re
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

_SCALED: Final = re.compile(
    r"(/raster/(?:collections/[^/]+(?:/items/[^/]+)?|searches/[^/]+)/tiles/[A-Za-z0-9_]{1,64}/\d{1,2}/\d{1,9}/\d{1,9})@([1-4])x(\.[a-z0-9]{1,8})?"
)
_TILE: Final = 256


class Scaled:
    """Asks for `{y}@2x.png` as for `{y}.png?tilesize=512`, up to four times as large; a `tilesize` that is named holds."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        if scope["type"] == "http" and "@" in scope["path"] and (match := _SCALED.fullmatch(scope["path"])):
            path, query = f"{match[1]}{match[3] or ''}", scope["query_string"]
            if b"tilesize=" not in query and match[2] != "1":
                query = b"&".join(part for part in (query, f"tilesize={_TILE * int(match[2])}".encode()) if part)
            scope = {**scope, "path": path, "raw_path": path.encode(), "query_string": query}
        await self._app(scope, receive, send)
