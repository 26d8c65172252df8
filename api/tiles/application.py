"""An application that makes its routes when it is first asked: titiler's take FastAPI most of a second, whoever wants tiles or not."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send


class TileApplication(FastAPI):
    """FastAPI's; `make_routes` adds the routes, once."""

    def __init__(self, make_routes: Callable[[FastAPI], None], **options: Any) -> None:
        super().__init__(**options)
        self._make_routes: Callable[[FastAPI], None] | None = make_routes
        self._making = threading.Lock()

    def fill(self) -> None:
        """Make the routes, if they are not made yet."""
        with self._making:
            if self._make_routes is not None:
                self._make_routes(self)
                self._make_routes = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        if self._make_routes is not None:
            await run_in_threadpool(self.fill)
        await super().__call__(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """The description of all routes."""
        self.fill()
        return super().openapi()
