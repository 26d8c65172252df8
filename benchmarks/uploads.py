"""Sending a gibibyte: our PATCH and PUT against tuspyserver's PATCH, a multipart form and nginx, one client, interleaved.

The files lie in memory (/dev/shm) where that is there: what is measured is the servers, not the disk. tuspyserver and the form neither
hash nor sync; ours does both before it answers. `disk` is ours again with its files on the disk, beside a plain copy that is synced.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import shutil
import statistics
import subprocess
import tempfile
import time
import venv
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psycopg

from benchmarks.peers import new_database
from db.settings import DatabaseSettings
from tests.contract.environment import ROOT
from tests.demo import free_port
from tests.uploads_torture import Server

SIZE = 2**30
ROUNDS = 5
TUSPYSERVER, MULTIPART = "4.4.3", "0.0.34"
_PIECE = 2**20
_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own in it
_TUS = {"Tus-Resumable": "1.0.0"}
_BODY = {**_TUS, "Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}


@dataclass
class Way:
    """One way to send: the server's process and port, and how a file is sent to it."""

    pid: int
    port: int
    send: Callable[[int, memoryview], None]


def run(server: DatabaseSettings) -> dict[str, float]:
    """MB/s of each way (medians), ratios, and growth of the servers' memory in MiB."""
    database = new_database(server, "uploads")
    content = memoryview(os.urandom(_PIECE) * (SIZE // _PIECE))
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as memory:
        rates, grown = _measure(database, Path(memory), content)
    found = {f"{name}, MB/s": rate for name, rate in rates.items()}
    for peer, aim in (("tuspyserver PATCH", "1.0"), ("multipart form", "2.5"), ("nginx PUT", "0.6")):
        if peer in rates:
            found[f"our PATCH / {peer} (goal {aim})"] = rates["our PATCH"] / rates[peer]
    found |= {f"{name}, MiB above idle": size for name, size in grown.items()}
    with tempfile.TemporaryDirectory() as disk:
        found |= _on_disk(database, Path(disk), content)
    return found


def _measure(
    database: DatabaseSettings, folder: Path, content: memoryview
) -> tuple[dict[str, float], dict[str, float]]:
    rates: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        ways = stack.enter_context(_ways(database, folder, hashlib.sha256(content).hexdigest()))
        idle = {name: _resident(way.pid, "VmRSS") for name, way in ways.items()}
        for number in range(ROUNDS):
            for name in sorted(ways, key=lambda one: hash((one, number))):
                rates.setdefault(name, []).append(_rate(ways[name], content))
                _forget(database, folder)
        grown = {name: _resident(way.pid, "VmHWM") - idle[name] for name, way in ways.items()}
    return {name: statistics.median(values) for name, values in rates.items()}, grown


def _on_disk(database: DatabaseSettings, folder: Path, content: memoryview) -> dict[str, float]:
    rates: dict[str, list[float]] = {"our PATCH on disk": [], "plain file and fsync": []}
    with _ours(database, folder) as (server, port):
        way = Way(server, port, _patch("/uploads"))
        for _ in range(3):
            rates["our PATCH on disk"].append(_rate(way, content))
            _forget(database, folder)
            begun = time.perf_counter()
            with (folder / "plain").open("wb") as file:
                file.write(content)
                os.fsync(file.fileno())
            rates["plain file and fsync"].append(SIZE / 1e6 / (time.perf_counter() - begun))
            (folder / "plain").unlink()
    return {f"{name}, MB/s": statistics.median(values) for name, values in rates.items()}


def _rate(way: Way, content: memoryview) -> float:
    begun = time.perf_counter()
    way.send(way.port, content)
    return len(content) / 1e6 / (time.perf_counter() - begun)


def _resident(pid: int, field: str) -> float:
    """MiB of a process by /proc, with its children (nginx' worker)."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    total = 0
    for one in (pid, *map(int, children)):
        lines = Path(f"/proc/{one}/status").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith(field))
    return total / 1024


def _forget(database: DatabaseSettings, folder: Path) -> None:
    """Make room for the next one."""
    with psycopg.connect(database.conninfo, autocommit=True) as conn:
        conn.execute("update federator.upload set state = 'deleted', error_code = null, freed_at = now()")
    for place in ("ours/uploads", "tuspyserver", "form", "nginx/files", "data/uploads"):
        for path in (folder / place).glob("*"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


@contextlib.contextmanager
def _ways(database: DatabaseSettings, folder: Path, sha256: str) -> Iterator[dict[str, Way]]:
    with contextlib.ExitStack() as stack:
        pid, port = stack.enter_context(_ours(database, folder / "ours"))
        ways = {"our PATCH": Way(pid, port, _patch("/uploads"))}
        ways["our PATCH, sha256 checked"] = Way(pid, port, _patch("/uploads", sha256))
        python = _peer_python()
        for kind, send in (
            ("tuspyserver", _patch("/files")),
            ("form", _form),
        ):
            pid, port = stack.enter_context(_peer(kind, python, folder / kind))
            ways["tuspyserver PATCH" if kind == "tuspyserver" else "multipart form"] = Way(pid, port, send)
        if nginx := shutil.which("nginx"):
            pid, port = stack.enter_context(_nginx(nginx, folder / "nginx"))
            ways["nginx PUT"] = Way(pid, port, lambda to, body: _put(to, "/files/x", body))
        yield ways


def _peer_python() -> str:
    """The interpreter of an environment with tuspyserver, at our versions of what it shares with us; made when missing."""
    folder = ROOT / ".tools" / "upload-peers"
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    shared = [
        f"{name}=={version(name)}" for name in ("fastapi", "starlette", "uvicorn", "uvloop", "httptools", "anyio")
    ]
    pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    subprocess.run(
        [str(python), *pip, f"tuspyserver=={TUSPYSERVER}", f"python-multipart=={MULTIPART}", *shared], check=True
    )
    return str(python)


@contextlib.contextmanager
def _ours(database: DatabaseSettings, folder: Path) -> Iterator[tuple[int, int]]:
    port = free_port(0)
    server = Server(database, folder, f"http://127.0.0.1:{port}", port)
    try:
        server.start()
        assert server.process is not None
        yield server.process.pid, port
    finally:
        server.stop()


@contextlib.contextmanager
def _peer(kind: str, python: str, folder: Path) -> Iterator[tuple[int, int]]:
    port = free_port(0)
    program = str(Path(__file__).with_name("upload_peers.py"))
    process = subprocess.Popen([python, program, kind, str(folder), str(port)])
    try:
        _wait(port)
        yield process.pid, port
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def _nginx(nginx: str, folder: Path) -> Iterator[tuple[int, int]]:
    port = free_port(0)
    (folder / "files").mkdir(parents=True)
    (folder / "files").chmod(0o777)
    folder.parent.chmod(0o755)
    configuration = folder / "nginx.conf"
    configuration.write_text(
        f"daemon off; user root; pid {folder}/pid; error_log {folder}/error.log; events {{}}\n"
        f"http {{ access_log off; client_body_temp_path {folder}/temp; server {{ listen 127.0.0.1:{port};"
        f" client_max_body_size 0; root {folder}; location /files {{ dav_methods PUT; }} }} }}\n"
    )
    process = subprocess.Popen([nginx, "-p", str(folder), "-c", str(configuration)])
    try:
        _wait(port)
        yield process.pid, port
    finally:
        process.terminate()
        process.wait(30)


def _wait(port: int) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/")
            connection.getresponse().read()
            connection.close()
            return
        time.sleep(0.1)
    raise RuntimeError(f"nothing answers at port {port}")


def _send(
    connection: http.client.HTTPConnection, method: str, path: str, headers: dict[str, str], *pieces: bytes | memoryview
) -> None:
    connection.putrequest(method, path)
    for name, value in {**headers, "Content-Length": str(sum(map(len, pieces)))}.items():
        connection.putheader(name, value)
    connection.endheaders()
    for piece in pieces:
        for start in range(0, len(piece), _PIECE):
            connection.send(piece[start : start + _PIECE])


def _done(connection: http.client.HTTPConnection, status: int) -> http.client.HTTPResponse:
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != status:
        raise RuntimeError(f"{answer.status}: {text[:300]!r}")
    return answer


def _patch(endpoint: str, sha256: str | None = None) -> Callable[[int, memoryview], None]:
    """tus: create, then one PATCH; `sha256` is promised, to be checked."""

    def send(port: int, content: memoryview) -> None:
        words = {"title": "t", "filename": "t.tif", "filetype": "image/tiff", "datetime": "2026-05-01T12:00:00Z"}
        if sha256 is not None:
            words["sha256"] = sha256
        metadata = ",".join(f"{key} {b64encode(value.encode()).decode()}" for key, value in words.items())
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        with contextlib.closing(connection):
            _send(
                connection, "POST", endpoint, {**_TUS, "Upload-Length": str(len(content)), "Upload-Metadata": metadata}
            )
            location = _done(connection, 201).headers["Location"]
            path = "/" + location.split("/", 3)[3] if "://" in location else location
            _send(connection, "PATCH", path, _BODY, content)
            _done(connection, 204)

    return send


def _put(port: int, path: str, content: memoryview) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    with contextlib.closing(connection):
        _send(connection, "PUT", path, {}, content)
        _done(connection, 201)


def _form(port: int, content: memoryview) -> None:
    head = (
        b'--edge\r\nContent-Disposition: form-data; name="file"; filename="t.tif"\r\nContent-Type: image/tiff\r\n\r\n'
    )
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    with contextlib.closing(connection):
        headers = {"Content-Type": "multipart/form-data; boundary=edge"}
        _send(connection, "POST", "/form", headers, head, content, b"\r\n--edge--\r\n")
        _done(connection, 200)
