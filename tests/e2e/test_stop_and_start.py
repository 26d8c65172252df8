"""Ctrl-C leaves nothing behind; the next start is quick and shows the same data."""

from __future__ import annotations

import os
import signal
import time

import httpx
import pytest

from tests.e2e.system import System

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(500)]


def everything(url: str) -> dict[str, str]:
    """Every item of the catalogue: id -> when its record last changed here."""
    found: dict[str, str] = {}
    page = httpx.get(f"{url}/stac/search", params={"limit": 200}, timeout=30).json()
    while True:
        for item in page["features"]:
            found[f"{item['collection']}/{item['id']}"] = str(item["properties"].get("updated"))
        onward = [link["href"] for link in page["links"] if link["rel"] == "next"]
        if not onward:
            return found
        page = httpx.get(onward[0], timeout=30).json()


def gone(system: System, timeout_s: float = 10) -> list[int]:
    """Pids still there after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while system.processes() and time.monotonic() < deadline:
        time.sleep(0.2)
    return system.processes()


def test_stop_leaves_no_process_and_the_second_start_shows_the_same_data(demo: System) -> None:
    before = everything(demo.url)
    assert len(before) > 160  # 240 products, of which a quarter are COG twins
    assert demo.stop(signal.SIGINT) == 0
    assert gone(demo) == []
    again_s = demo.start(until="ready in", timeout_s=60)
    assert everything(demo.url) == before
    # How long it takes is the machine's matter; that little of the first start's work is done again is ours.
    assert again_s < demo.first_start_s, f"first start {demo.first_start_s:.1f} s, second {again_s:.1f} s"


def test_kill_of_the_supervisor_leaves_no_api_and_the_next_start_works(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    behind_a_proxy = {"FEDERATOR_PUBLIC_URL": "https://federator.invalid/catalogue"}  # nobody answers there
    system = System(tmp_path_factory.mktemp("killed") / "data", ("-m", "api", "up"), extra_env=behind_a_proxy)
    try:
        system.start(until="ready:", timeout_s=120)
        assert system.process is not None
        os.kill(system.process.pid, signal.SIGKILL)
        system.process.wait()
        deadline = time.monotonic() + 30
        while system.processes("-m api serve") + system.processes("-m ingest worker") and time.monotonic() < deadline:
            time.sleep(0.2)
        assert system.processes("-m api serve") + system.processes("-m ingest worker") == []
        system.start(until="ready:", timeout_s=60)  # the private database outlived its supervisor and is used again
        assert system.stop() == 0
    finally:
        if system.process is not None and system.process.poll() is None:
            system.stop()
    assert gone(system) == []
