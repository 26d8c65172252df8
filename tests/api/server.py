"""The real application on a real port, for the tests of the API."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp

from api.main import create_app
from api.server import Draining
from api.settings import ApiSettings
from db.settings import DatabaseSettings


class Prompt(Draining):
    """Connections as the server has them; idle ones are closed at once at the end."""

    drain_s = 0.0


def listening() -> tuple[socket.socket, str]:
    """A bound socket and the base URL of what is served on it."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    return listener, f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextlib.contextmanager
def running(
    settings: ApiSettings,
    database: DatabaseSettings,
    listener: socket.socket,
    *,
    clock: Callable[[], float] = time.time,
) -> Iterator[str]:
    """Serve on an already bound socket in a thread; yields the base URL."""
    with serving(create_app(settings, database, clock=clock), listener):
        yield settings.public_url


@contextlib.contextmanager
def serving(app: ASGIApp, listener: socket.socket) -> Iterator[None]:
    """Serve any application on an already bound socket in a thread."""
    config = uvicorn.Config(
        app, log_level="warning", lifespan="on", ws="none", http=Prompt, access_log=False, proxy_headers=False, server_header=False,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started and thread.is_alive() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.started, "the application did not start"
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=20)
        listener.close()
