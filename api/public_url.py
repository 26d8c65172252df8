"""Links are made of the configured public URL: this middleware puts it where frameworks look, whatever headers say."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

_FORWARDED = (
    b"host",
    b"forwarded",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"x-forwarded-port",
    b"x-forwarded-prefix",
    b"x-forwarded-path",
)
_MOUNTED = ("/stac", "/raster")


class PublicUrl:
    """Replaces scheme and host of each request; a path of the public URL becomes the root path."""

    def __init__(self, app: ASGIApp, public_url: str) -> None:
        parts = urlsplit(public_url)
        self._app, self._scheme, self._host, self._prefix = (
            app,
            parts.scheme,
            parts.netloc.encode(),
            parts.path.rstrip("/"),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = [(name, value) for name, value in scope["headers"] if name.lower() not in _FORWARDED]
            scope = {**scope, "scheme": self._scheme, "headers": [*headers, (b"host", self._host)]}
            if scope["path"] in _MOUNTED:
                scope["path"] += "/"  # the same without a redirect
            if self._prefix:
                scope |= {"root_path": self._prefix, "path": self._prefix + scope["path"]}
        await self._app(scope, receive, send)


class Mounted:
    """For an application that is mounted: its links are made of the mount's path too, which Starlette leaves out."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["app_root_path"] = scope["root_path"]
            scope.pop("router", None)  # the outer one's links have the mount's path already: twice, then
        await self._app(scope, receive, send)
