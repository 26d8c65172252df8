"""How large a picture may be asked for: a number in a URL must not decide how much memory is taken. Refused before anything is opened."""

from __future__ import annotations

import math
import re
from typing import Final
from urllib.parse import parse_qsl

from starlette.types import ASGIApp, Receive, Scope, Send

from api.problems import answer

#: Most of each parameter, in pixels.
MOST: Final = {
    "buffer": 256.0,
    "padding": 64.0,
    "tilesize": 2048.0,
    "max_size": 4096.0,
    "width": 4096.0,
    "height": 4096.0,
}
_MOST_SIDE: Final = 4096
_SIZE = re.compile(r"/(\d+)x(\d+)(?:\.[a-z0-9]+)?$")


class Bounded:
    """Refuses what is too large; what is no number goes on, to be refused by who knows the parameter."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (name := too_large(scope["path"], scope["query_string"])) is not None:
            detail = f"{name} is out of bounds"
            await answer(400, "INVALID_PARAMETER", detail, fields=[name])(scope, receive, send)
            return
        await self._app(scope, receive, send)


def too_large(path: str, query: bytes) -> str | None:
    """The parameter that is too large, of a path and its query."""
    for name, value in parse_qsl(query.decode("latin-1")):
        if (most := MOST.get(name)) is not None:
            try:
                number = float(value)
            except ValueError:
                continue
            if not math.isfinite(number) or not 0 <= number <= most:
                return name
    match = _SIZE.search(path)
    return "width x height" if match and any(len(one) > 9 or int(one) > _MOST_SIDE for one in match.groups()) else None
