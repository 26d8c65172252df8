"""The real application for tests of uploads, with short times and small quotas, and raw requests that misbehave."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.rows import dict_row

from api.settings import ApiSettings
from db.settings import DatabaseSettings
from ingest.settings import IngestSettings
from tests.api.server import listening, running
from tests.conftest import cloned

VERSION = {"Tus-Resumable": "1.0.0"}
BODY = {**VERSION, "Content-Type": "application/offset+octet-stream"}


def metadata(**values: str) -> str:
    """An Upload-Metadata header."""
    return ",".join(f"{key} {b64encode(value.encode()).decode()}" for key, value in values.items())


@dataclass
class TusSite:
    """A running application, its database and its data folder."""

    http: httpx.Client
    database: DatabaseSettings
    data_dir: Path

    @property
    def port(self) -> int:
        assert self.http.base_url.port is not None
        return self.http.base_url.port

    @property
    def ingest(self) -> IngestSettings:
        return IngestSettings(data_dir=self.data_dir, public_url=str(self.http.base_url))

    def made(self, length: int, **values: str) -> str:
        """Create an upload by tus; return its path."""
        given = {"title": "t", "datetime": "2026-05-01T12:00:00Z", **values}
        headers = {**VERSION, "Upload-Length": str(length), "Upload-Metadata": metadata(**given)}
        answer = self.http.post("/uploads", headers=headers)
        assert answer.status_code == 201, answer.text
        return answer.headers["location"].removeprefix(str(self.http.base_url).rstrip("/"))

    def patch(self, path: str, offset: int, content: Any, **headers: str) -> httpx.Response:
        return self.http.patch(path, content=content, headers={**BODY, "Upload-Offset": str(offset), **headers})

    def offset(self, path: str) -> int:
        answer = self.http.head(path, headers=VERSION)
        assert answer.status_code == 200, answer.status_code
        return int(answer.headers["upload-offset"])

    def state(self, path: str) -> dict[str, Any]:
        return dict(self.http.get(path).raise_for_status().json())

    def file(self, path: str) -> Path:
        return self.data_dir / "uploads" / path.rsplit("/", 1)[-1] / "original"

    def rows(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        with psycopg.connect(self.database.conninfo, autocommit=True, row_factory=dict_row) as conn:
            cursor = conn.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def clear(self) -> None:
        """Give the quota back."""
        self.rows("update federator.upload set state = 'deleted', error_code = null, freed_at = now()")

    def slow_patch(self, path: str, offset: int, length: int, first: bytes, **headers: str) -> Slow:
        """Begin a PATCH of `length` bytes and send some."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=40)
        connection.putrequest("PATCH", path)
        given = {**BODY, "Upload-Offset": str(offset), "Content-Length": str(length), **headers}
        for name, value in given.items():
            connection.putheader(name, value)
        connection.endheaders()
        connection.send(first)
        return Slow(connection)


@dataclass
class Slow:
    """A request whose body is sent by hand."""

    connection: HTTPConnection

    def send(self, content: bytes) -> None:
        self.connection.send(content)

    def answer(self) -> HTTPResponse:
        answer = self.connection.getresponse()
        answer.read()
        self.connection.close()
        return answer

    def drop(self) -> None:
        """Go away without a word."""
        sock = self.connection.sock
        assert sock is not None
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.connection.close()


@contextlib.contextmanager
def serving(postgres: DatabaseSettings, template: str, data_dir: Path, **settings: str) -> Iterator[TusSite]:
    """Run the application with settings of the environment."""
    listener, url = listening()
    with pytest.MonkeyPatch.context() as environment:
        for name, value in settings.items():
            environment.setenv(name, value)
        api = ApiSettings(data_dir=data_dir, public_url=url)
        client = httpx.Client(base_url=url, timeout=60)
        with cloned(postgres, template) as database, running(api, database, listener), client as http:
            yield TusSite(http, database, data_dir)


def eventually(check: Any, timeout_s: float = 10.0) -> None:
    """Wait until `check()` is true."""
    until = time.monotonic() + timeout_s
    while not check():
        assert time.monotonic() < until, "it did not come true"
        time.sleep(0.05)


@contextlib.contextmanager
def measuring(site: TusSite) -> Iterator[list[float]]:
    """Seconds that other requests take meanwhile."""
    seconds: list[float] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=site.http.base_url) as http:
            while not stop.is_set():
                begun = time.monotonic()
                http.get("/_mgmt/ping").raise_for_status()
                seconds.append(time.monotonic() - begun)
                stop.wait(0.02)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield seconds
    finally:
        stop.set()
        thread.join()
