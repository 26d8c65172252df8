"""`python -m tests.uploads_torture`: a large file sent by an unmodified client while connections are cut and the server is killed.

At the end length and SHA-256 must be those of the file. Clients: tuspy, and tus-js-client and Uppy where node is there.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from db import cluster
from db.migrate import migrate
from db.settings import DatabaseSettings
from tests.demo import free_port
from tests.tus_clients import environment


@dataclass
class Server:
    """`python -m api serve`, which can be killed and started again at the same port."""

    database: DatabaseSettings
    data_dir: Path
    public_url: str
    port: int = field(default_factory=lambda: free_port(0))
    process: subprocess.Popen[bytes] | None = None
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        """The environment of the server, and of a worker beside it."""
        return {
            **os.environ,
            "FEDERATOR_PORT": str(self.port),
            "FEDERATOR_PUBLIC_URL": self.public_url,
            "FEDERATOR_DATA_DIR": str(self.data_dir),
            "PGHOST": self.database.pghost,
            "PGPORT": str(self.database.pgport),
            "PGUSER": self.database.pguser,
            "PGPASSWORD": self.database.pgpassword.get_secret_value(),
            "PGDATABASE": self.database.pgdatabase,
            **self.settings,
        }

    def start(self) -> None:
        """Start and wait until it answers."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        with (self.data_dir / "api.log").open("ab") as log:
            command = [sys.executable, "-m", "api", "serve"]
            self.process = subprocess.Popen(command, env=self.env, stdout=log, stderr=log)
        until = time.monotonic() + 60
        while time.monotonic() < until and self.process.poll() is None:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"http://127.0.0.1:{self.port}/_mgmt/ping", timeout=2).status_code == 200:
                    return
            time.sleep(0.1)
        raise RuntimeError(f"the API did not start: {(self.data_dir / 'api.log').read_text()[-2000:]}")

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)

    def stop(self) -> None:
        """End it in order."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)


class Wire:
    """A TCP proxy that can be slow and that can cut all its connections."""

    def __init__(self, bytes_per_s: float) -> None:
        self.target = 0
        self.sent = 0
        self.is_down = False
        self.limit(bytes_per_s)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)  # a sender soon notices how slow it is
        self.port = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def limit(self, bytes_per_s: float) -> None:
        """How fast each connection is from now on, towards the server."""
        self._pause = 65536 / bytes_per_s

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            if self.is_down:
                raise ConnectionRefusedError
            server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        with self._lock:
            self._open |= {client, server}
        back = threading.Thread(target=self._pump, args=(server, client, False), daemon=True)
        back.start()
        self._pump(client, server, True)
        back.join()
        with self._lock:
            self._open -= {client, server}
        client.close()
        server.close()

    def _pump(self, source: socket.socket, target: socket.socket, is_up: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
                if is_up:
                    self.sent += len(data)
                    time.sleep(self._pause * len(data) / 65536)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Reset every connection."""
        with self._lock:
            for end in self._open:
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    end.shutdown(socket.SHUT_RDWR)

    def down(self) -> None:
        """Reset every connection, and every new one, until `up`."""
        self.is_down = True
        self.cut()

    def up(self) -> None:
        """Let connections through again."""
        self.is_down = False

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()
        self.cut()


def by_tuspy(path: Path, endpoint: str, chunk_bytes: int) -> str:
    """Send with tuspy; return the upload's URL."""
    return _run([sys.executable, "-m", "tests.tus_clients.by_tuspy", str(path), endpoint, str(chunk_bytes)], Path.cwd())


def by_tus_js(path: Path, endpoint: str, chunk_bytes: int) -> str:
    """Send with tus-js-client; return the upload's URL."""
    return _run(["node", "upload.mjs", str(path), endpoint, str(chunk_bytes)], environment.folder())


def by_uppy(path: Path, endpoint: str, chunk_bytes: int) -> str:
    """Send with Uppy and its plugin @uppy/tus; return the upload's URL."""
    return _run(["node", "uppy.mjs", str(path), endpoint, str(chunk_bytes)], environment.folder())


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1800)
    if done.returncode:
        raise RuntimeError(f"{command[1:3]}: {done.stderr[-2000:]}")
    return done.stdout.strip()


CLIENTS: dict[str, Callable[[Path, str, int], str]] = {"tuspy": by_tuspy, "tus-js-client": by_tus_js, "uppy": by_uppy}


@dataclass(frozen=True, slots=True)
class Plan:
    """How large, how often cut, how often killed; `bytes_per_s` of the wire, `chunk_bytes` of the client's requests."""

    size: int
    cuts: int
    kills: int
    bytes_per_s: float
    chunk_bytes: int
    seed: int = 1


def torture(server: Server, wire: Wire, client: str, path: Path, plan: Plan) -> dict[str, Any]:
    """Send `path`; return what came of it: the upload's state, how often it was disturbed, how many bytes went over the wire."""
    rng, done = random.Random(plan.seed), threading.Event()
    kinds = ["cut"] * plan.cuts + ["kill"] * plan.kills
    rng.shuffle(kinds)
    at = sorted(rng.uniform(0.02, 0.9) * plan.size for _ in kinds)
    disturbed: list[str] = []

    def disturb() -> None:
        """At these numbers of bytes on the wire; a part that is sent again counts again."""
        for kind, threshold in zip(kinds, at, strict=True):
            while wire.sent < threshold and not done.is_set():
                time.sleep(0.01)
            if done.is_set():
                return
            disturbed.append(kind)
            if kind == "cut":
                wire.cut()
            else:
                server.kill()
                server.start()

    thread = threading.Thread(target=disturb)
    thread.start()
    begun = time.monotonic()
    try:
        url = CLIENTS[client](path, f"{server.public_url}/uploads", plan.chunk_bytes)
    finally:
        done.set()
        thread.join()
    state = _state(url.replace(str(wire.port), str(server.port)))
    file = server.data_dir / "uploads" / state["id"] / "original"
    return {
        "state": state,
        "sha256": sha256_of(file),
        "cuts": disturbed.count("cut"),
        "kills": disturbed.count("kill"),
        "sent": wire.sent,
        "seconds": time.monotonic() - begun,
    }


def _state(url: str) -> dict[str, Any]:
    """What the service says of an upload; what answered a moment ago may have been a worker of the killed one, that was just ending."""
    until = time.monotonic() + 60
    while True:
        try:
            found: dict[str, Any] = httpx.get(url, timeout=60).raise_for_status().json()
            return found
        except httpx.TransportError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_file(path: Path, size: int, seed: int) -> None:
    """Random bytes."""
    rng = random.Random(seed)
    with path.open("wb") as file:
        for start in range(0, size, 2**20):
            file.write(rng.randbytes(min(2**20, size - start)))


@contextlib.contextmanager
def under(
    database: DatabaseSettings, folder: Path, bytes_per_s: float, **settings: str
) -> Iterator[tuple[Server, Wire]]:
    """A server with settings of the environment behind a wire."""
    wire = Wire(bytes_per_s)
    server = Server(database, folder / "data", f"http://127.0.0.1:{wire.port}", settings=settings)
    wire.target = server.port
    try:
        server.start()
        yield server, wire
    finally:
        server.stop()
        wire.close()


def main() -> int:
    """Torture with each client and say what came of it; exit status 1 when a byte is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.uploads_torture", description=__doc__)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--cuts", type=int, default=5)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--mib-per-s", type=float, default=40)
    parser.add_argument("--chunk-mib", type=int, default=64)
    parser.add_argument("--client", choices=CLIENTS, action="append")
    options = parser.parse_args()
    plan = Plan(options.mib * 2**20, options.cuts, options.kills, options.mib_per_s * 2**20, options.chunk_mib * 2**20)
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="federator-torture-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        settings = DatabaseSettings(data_dir=folder, pghost="", pgdatabase="")
        try:
            database = cluster.start(settings)
            migrate(database)
            make_file(folder / "sent.tif", plan.size, plan.seed)
            wanted = sha256_of(folder / "sent.tif")
            for client in options.client or CLIENTS:
                with under(database, folder / client, plan.bytes_per_s) as (server, wire):
                    found = torture(server, wire, client, folder / "sent.tif", plan)
                state = found["state"]
                is_right = state["length"] == plan.size and wanted == state["sha256"] == found["sha256"]
                wrong += not is_right
                print(
                    f"{client}: {'right' if is_right else 'WRONG'}: {state['state']}, {state['length']} bytes,"
                    f" {found['cuts']} cuts, {found['kills']} kills, {found['sent'] / plan.size:.2f} times the file on the wire,"
                    f" {found['seconds']:.0f} s",
                    flush=True,
                )
        finally:
            cluster.stop(settings)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
