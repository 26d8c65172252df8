"""A real S3 server (SeaweedFS, from the package index) on loopback, which checks signatures."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import httpx

from ingest.uploads.sigv4 import Account, presign
from tests.contract import environment
from tests.demo import free_port

KEY, SECRET = "tester", "a secret of the tests"
BUCKET = "rasters"


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where the server answers, and the settings with which we use it."""

    endpoint: str

    @property
    def settings(self) -> dict[str, str]:
        return {
            "FEDERATOR_UPLOAD_STORE_URL": f"s3://{BUCKET}/some/prefix",
            "FEDERATOR_UPLOAD_PART_BYTES": str(5 * 2**20),
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }


def _program() -> Path:
    return environment.python().with_name("weed")


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[Bucket]:
    """Start it with one bucket; its data are in `folder`."""
    identity = {
        "name": "tester",
        "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
        "actions": ["Admin", "Read", "List", "Tagging", "Write"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    (folder / "data").mkdir()
    with (folder / "log").open("wb") as log:
        process, endpoint = _started(folder, log)
        try:
            yield Bucket(endpoint)
        finally:
            _kill(process)


def _started(folder: Path, log: BinaryIO) -> tuple[subprocess.Popen[bytes], str]:
    """The server and its address. Once more with other ports when it does not come: another program may have taken one meanwhile."""
    for attempt in range(3):
        ports = [free_port(0) for _ in range(8)]
        process = subprocess.Popen(_command(folder, ports), stdout=log, stderr=log, cwd=folder)
        endpoint = f"http://127.0.0.1:{ports[-1]}"
        try:
            _wait(endpoint, process, folder / "log")
            _make_bucket(endpoint, process)
        except (RuntimeError, httpx.TransportError):
            _kill(process)
            if attempt == 2:
                raise
        except BaseException:
            _kill(process)
            raise
        else:
            return process, endpoint
    raise AssertionError


def _command(folder: Path, ports: list[int]) -> list[str]:
    parts = ("master", "volume", "filer", "s3")
    names = [f"-{part}.port{kind}" for kind in (".grpc", "") for part in parts]
    return [
        str(_program()), "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", f"-dir={folder / 'data'}",
        f"-s3.config={folder / 's3.json'}", "-volume.max=20", "-master.volumeSizeLimitMB=100", "-s3.port.iceberg=0", "-s3.port.lance=0",
        *(f"{name}={port}" for name, port in zip(names, ports, strict=True)),
    ]  # fmt: skip


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()  # its data go with it, and its farewell takes half a minute
    process.wait(30)


def _wait(endpoint: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 60
    port = int(endpoint.rpartition(":")[2])
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise RuntimeError(log.read_text(errors="replace")[-3000:])


def _make_bucket(endpoint: str, process: subprocess.Popen[bytes]) -> None:
    """Raises httpx.TransportError, RuntimeError: it does not answer, or not as it should."""
    until = time.monotonic() + 30
    while process.poll() is None:
        url = presign(
            Account(KEY, SECRET, "us-east-1"), "PUT", f"{endpoint}/{BUCKET}", at=datetime.now(UTC), expires_s=60
        )
        answer = httpx.put(url)
        if answer.status_code == 200:
            return
        if time.monotonic() > until:
            raise RuntimeError(answer.text)
        time.sleep(0.2)
    raise RuntimeError("the server has ended")
