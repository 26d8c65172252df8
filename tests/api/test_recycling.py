"""A serving process that has grown too large is replaced, and no request fails."""

from __future__ import annotations

import contextlib
import mmap
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from api.recycling import LOOK_S, PAUSE_S, MemoryMark, private_bytes

_SERVER = """
import os, socket, sys
import uvicorn
from api import recycling
from api.server import Parent

KEPT = []

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    if scope["path"] == "/grow":
        KEPT.append(b"x" * 300_000_000)
    body = str(os.getpid()).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]})
    await send({"type": "http.response.body", "body": body})

if __name__ == "__main__":
    recycling.LOOK_S = 0.3
    config = uvicorn.Config("recycled:app", port=int(sys.argv[1]), workers=1, lifespan="off", timeout_graceful_shutdown=5)
    Parent(config, [config.bind_socket()], recycling.MemoryMark(200_000_000)).run()
"""


def test_one_over_the_mark_twice_is_replaced_the_largest_first() -> None:
    now, sizes = [0.0], {1: 10, 2: 200, 3: 300}
    mark = MemoryMark(100, sizes.__getitem__, lambda: now[0])

    def look(after_s: float = LOOK_S) -> int | None:
        now[0] += after_s
        return mark.over([1, 2, 3])

    assert look() is None
    assert look(LOOK_S / 2) is None
    assert look() == 3
    assert look() is None  # for a while none, whatever they hold
    sizes[3] = 5
    assert look(PAUSE_S) is None
    assert look() == 2
    sizes[2] = 5
    look(PAUSE_S)
    sizes[1] = 500  # one picture that took much for a moment
    assert look() is None
    sizes[1] = 10
    assert look() is None
    assert MemoryMark(0, sizes.__getitem__).over([2]) is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says")
def test_private_memory_is_what_a_process_holds() -> None:
    before = private_bytes(os.getpid())
    with mmap.mmap(
        -1, 50_000_000, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    ) as held:  # new pages: a large process takes others from what it has freed
        held.write(bytes(len(held)))
        assert private_bytes(os.getpid()) - before > 0.9 * len(held)
    assert private_bytes(2**22 + 1) == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says")
def test_a_worker_that_has_grown_is_replaced_without_an_error(tmp_path: Path) -> None:
    (tmp_path / "recycled.py").write_text(_SERVER)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, str(tmp_path)])}
    process = subprocess.Popen([sys.executable, str(tmp_path / "recycled.py"), str(port)], env=environment)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            end = time.monotonic() + 90
            first = ""
            while not first:  # nobody listens before the worker is there
                assert time.monotonic() < end, "no worker came up"
                time.sleep(0.1)
                with contextlib.suppress(httpx.ConnectError):
                    first = client.get("/").text
            assert client.get("/grow").text == first
            while (now := client.get("/", headers={"connection": "close"}).text) == first:
                assert time.monotonic() < end, "it was not replaced"
                time.sleep(0.1)
            assert private_bytes(int(now)) < 200_000_000
            while Path(f"/proc/{first}").exists():
                assert time.monotonic() < end, "the old one is still there"
                time.sleep(0.1)
            assert client.get("/").text == now
    finally:
        process.terminate()
        process.wait(60)
