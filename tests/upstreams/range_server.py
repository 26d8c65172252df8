"""A host of rasters: answers ranges of the files of a folder, late if told so, and fails as hosts fail."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_LIES = frozenset({"gzip", "another range", "too short", "too long", "the whole file", "many parts"})


@dataclass
class Host:
    """What it serves, and how; `fault` by the first part of a path, such as `slow` for `/slow/a.tif`."""

    folder: Path
    port: int = 0
    delay_s: float = 0.0
    requests: int = 0
    byte_s: float = 1.0
    sent: list[tuple[int, int]] = field(default_factory=list)
    fault: str = ""
    hung_up: int = 0
    is_over: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def name(self) -> str:
        """As a source's file names it."""
        return f"127.0.0.1:{self.port}"


@lru_cache(maxsize=50)
def _content(path: str, changed_ns: int) -> tuple[bytes, str]:
    """Bytes and entity tag of a file."""
    data = Path(path).read_bytes()
    return data, f'"{hashlib.sha256(data).hexdigest()[:16]}"'


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        host: Host = self.server.host  # type: ignore[attr-defined]
        host.requests += 1
        if host.delay_s:
            time.sleep(host.delay_s)
        fault = host.fault
        if self._is_faulty(host, fault):
            return
        path = host.folder / self.path.partition("?")[0].rpartition("/")[2]
        if not path.is_file():
            self._plain(404, b"no")
            return
        data, tag = _content(str(path), path.stat().st_mtime_ns)
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        first, last = (int(match[1]), min(int(match[2]), len(data) - 1)) if match else (0, len(data) - 1)
        self.send_response(206 if match else 200)
        self.send_header("Content-Type", "image/tiff")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", tag)
        self.send_header("Content-Length", str(last - first + 1))
        if match:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
            host.sent.append((first, last))
        self.end_headers()
        if not with_body:
            return
        if fault == "slow":
            try:
                for place in range(first, last + 1):
                    self.wfile.write(data[place : place + 1])
                    self.wfile.flush()
                    if host.is_over.wait(host.byte_s):
                        return
            except OSError:
                host.hung_up += 1
                return
        with contextlib.suppress(OSError):
            self.wfile.write(data[first : last + 1])

    def _is_faulty(self, host: Host, fault: str) -> bool:
        """Answer as the fault says, if it is one of the whole answer."""
        if fault == "html":
            self._plain(200, b"<html>please log in</html>")
            return True
        if fault.isdigit():
            self._plain(int(fault), b"no")
            return True
        if fault.startswith("to "):
            self.send_response(302)
            self.send_header("Location", fault[3:] + self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return True
        if fault == "slow headers":
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.wfile.write(b"HTTP/1.1 206 Partial Content\r\nX-Slow: ")
                while not host.is_over.wait(0.05):
                    self.wfile.write(b"x")
            return True
        if fault == "many digits":
            self.send_response(206)
            self.send_header("Content-Range", f"bytes 0-9/{'9' * 5000}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return True
        if fault in _LIES:
            self._lie(fault)
            return True
        if fault == "hang up":
            self.close_connection = True
            self.connection.close()
            return True
        return False

    def _lie(self, fault: str) -> None:
        """A part that is not what its headers say, or not what was asked for."""
        body = gzip.compress(bytes(5000)) if fault == "gzip" else bytes(5000)
        first = 70_000 if fault == "another range" else 0
        claimed = {"too short": 90_000, "too long": len(body) - 1000}.get(fault, len(body))
        self.close_connection = True
        self.send_response(200 if fault == "the whole file" else 206)
        self.send_header("Content-Range", f"bytes {first}-{first + claimed - 1}/100000")
        self.send_header("Content-Length", str(claimed))
        if fault == "gzip":
            self.send_header("Content-Encoding", "gzip")
        if fault == "many parts":
            self.send_header("Content-Type", "multipart/byteranges; boundary=x")
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def _plain(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients go away."""


@contextlib.contextmanager
def range_server(folder: Path) -> Iterator[Host]:
    """Serve until the block ends."""
    host = Host(folder)
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.host = host  # type: ignore[attr-defined]
        host.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield host
        finally:
            host.is_over.set()
            server.shutdown()
            thread.join(10)
