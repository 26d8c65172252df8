"""Processes that serve HTTP are replaced and ended while clients work: nobody sees an error."""

from __future__ import annotations

import asyncio
import collections
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from db.settings import DatabaseSettings
from tests.api.corpus import fill
from tests.conftest import cloned

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@dataclass
class Served:
    """`python -m api serve` with two workers."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def started(self) -> list[int]:
        """Processes that have come up so far, in order."""
        return [int(pid) for pid in re.findall(r"Started server process \[(\d+)\]", self.log.read_text())]

    def ready(self) -> int:
        return self.log.read_text().count("Application startup complete")


def wait(claim: object, seconds: float = 150) -> None:
    deadline = time.monotonic() + seconds
    while not claim():  # type: ignore[operator]
        assert time.monotonic() < deadline, "too late"
        time.sleep(0.05)


@pytest.fixture
def served(postgres: DatabaseSettings, template: str, tmp_path: Path) -> Iterator[Served]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with cloned(postgres, template) as database:
        asyncio.run(fill(database, 60))
        environment = {
            **os.environ, "PGHOST": database.pghost, "PGPORT": str(database.pgport), "PGUSER": database.pguser,
            "PGPASSWORD": database.pgpassword.get_secret_value(), "PGDATABASE": database.pgdatabase, "FEDERATOR_PORT": str(port),
            "FEDERATOR_DATA_DIR": str(tmp_path), "FEDERATOR_PUBLIC_URL": url, "FEDERATOR_PROCESSES": "2", "FEDERATOR_DRAIN_S": "1",
        }  # fmt: skip
        log = tmp_path / "api.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "api", "serve"], env=environment, stdout=output, stderr=output
            )
        try:
            one = Served(process, url, log)
            wait(lambda: one.ready() == 2)
            yield one
        finally:
            process.terminate()
            process.wait(30)


class Clients:
    """Some that ask all the time on one connection, and one that pauses between requests."""

    PATHS = ("/stac/search?limit=20", "/stac/", "/stac/collections", "/stac/search?limit=60&f=parquet", "/_mgmt/ping")

    def __init__(self, url: str) -> None:
        self.seen: collections.Counter[object] = collections.Counter()
        self.until_refused = False
        self._url, self._stop = url, threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(pause,)) for pause in (0.02, 0.1, 0.3)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, pause_s: float) -> None:
        with httpx.Client(base_url=self._url, timeout=30) as client:
            number = 0
            while not self._stop.wait(pause_s):
                number += 1
                try:
                    answer = client.get(self.PATHS[number % len(self.PATHS)])
                    is_whole = answer.status_code == 200 and (
                        not answer.url.query.endswith(b"parquet") or answer.content[-4:] == b"PAR1"
                    )
                    self.seen["good" if is_whole else answer.status_code] += 1
                except (httpx.ConnectError, httpx.ReadError) as error:
                    if self.until_refused:  # a connection that nobody has taken yet when the last process ends is reset
                        return
                    self.seen[repr(error)] += 1
                except httpx.HTTPError as error:
                    self.seen[repr(error)] += 1


@pytest.mark.timeout(420)
def test_new_processes_take_over_and_then_all_end_without_an_error(served: Served) -> None:
    first = served.started()
    with Clients(served.url) as clients:
        time.sleep(1)
        served.process.send_signal(signal.SIGHUP)
        wait(lambda: served.ready() == 4 and served.log.read_text().count("Finished server process") == 2, 120)
        time.sleep(1)
        assert set(clients.seen) <= {"good", 503}, clients.seen
        busy = clients.seen.pop(503, 0)
        good = clients.seen["good"]
        assert good > 20
        assert busy < good, "exports may be too many at once, and nothing else"
        clients.until_refused = True
        served.process.send_signal(signal.SIGTERM)
        served.process.wait(40)
        time.sleep(0.5)
        assert set(clients.seen) <= {"good", 503}, clients.seen
    second = served.started()[len(first) :]
    assert len(first) == len(second) == 2
    assert not set(first) & set(second)
    assert all(not Path(f"/proc/{pid}").exists() for pid in first + second)
    assert served.process.returncode == 0


@pytest.mark.timeout(300)
def test_metrics_are_of_all_processes_a_killed_one_is_replaced_and_a_killed_parent_takes_all_along(
    served: Served,
) -> None:
    for _ in range(20):  # each on a connection of its own: any process
        httpx.get(f"{served.url}/stac/search?limit=1")
    for _ in range(4):
        text = httpx.get(f"{served.url}/_mgmt/metrics").text
        assert 'federator_request_seconds_count{method="GET",route="/stac/search"} 20.0' in text
    os.kill(served.started()[0], signal.SIGKILL)
    wait(lambda: served.ready() == 3)
    assert httpx.get(f"{served.url}/stac/search?limit=1").status_code == 200
    workers = served.started()
    served.process.kill()
    served.process.wait()
    wait(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
