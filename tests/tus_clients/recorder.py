"""A small HTTP proxy that writes down what a client and a server say to each other by tus."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

HEADERS = ("Upload-Offset", "Upload-Length", "Tus-Resumable")
_OF_A_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "expect", "date", "server"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    target = ""
    said: list[dict[str, Any]]

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _pass_on(self) -> None:
        body = self._body()
        connection = HTTPConnection(self.target, timeout=30)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _OF_A_HOP}
        connection.request(self.command, self.path, body, {**headers, "Content-Length": str(len(body))})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        self.said.append(
            {
                "method": self.command,
                "asked": {name: self.headers.get(name) for name in HEADERS} | {"bytes": len(body)},
                "status": answer.status,
                "answered": {name: answer.headers.get(name) for name in HEADERS},
            }
        )
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            if name.lower() == "location":
                value = f"http://{self.headers['Host']}{urlsplit(value).path}"
            if name.lower() not in _OF_A_HOP:
                self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PATCH = do_DELETE = do_OPTIONS = _pass_on

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def recording(base: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A proxy in front of `base`: its URL, and what was said through it."""
    said: list[dict[str, Any]] = []
    handler = type("Handler", (_Handler,), {"target": urlsplit(base).netloc, "said": said})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", said
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
