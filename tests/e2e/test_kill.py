"""kill -9 of worker, API and PostgreSQL in the middle of a harvest (of 5,000 products at full size): nothing lost, nothing doubled."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from db import resolve
from db.settings import DatabaseSettings
from tests.e2e.system import System
from tests.size import sized
from tests.upstreams import serve

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]

PRODUCTS = sized(700, 5_000)
SOURCE = """
id = "many"
title = "Demonstration upstream"
protocol = "odata"
url = "{url}"
requests_per_second = 50
[[collections]]
id = "sentinel-2-l2a"
upstream = {{ collection = "SENTINEL-2", product_type = "S2MSI2A" }}
[[collections]]
id = "sentinel-2-l1c"
upstream = {{ collection = "SENTINEL-2", product_type = "S2MSI1C" }}
[[collections]]
id = "sentinel-1-grd"
upstream = {{ collection = "SENTINEL-1", product_type = "IW_GRDH_1S" }}
"""

COUNTS = """
select (select count(*) from pgstac.items where collection <> 'uploads') as items,
       (select count(*) from federator.holding) as holdings,
       (select count(*) from lineage.event where item_id is not null) as events,
       (select count(distinct (collection, item_id)) from lineage.event where item_id is not null) as products,
       (select count(*) from lineage.event_outbox) as waiting
"""


def conninfo(system: System) -> str:
    """How to reach the private database of `system`."""
    return resolve(DatabaseSettings(FEDERATOR_DATA_DIR=str(system.data_dir), _env_file=None)).conninfo


def counts(system: System) -> dict[str, int]:
    """Rows that matter; empty while the database is away."""
    with contextlib.suppress(psycopg.Error), psycopg.connect(conninfo(system), connect_timeout=3) as conn:
        cursor = conn.execute(COUNTS)
        names = [column.name for column in cursor.description or ()]
        return dict(zip(names, cursor.fetchone() or (), strict=True))
    return {}


def postmaster_pid(system: System) -> int:
    with psycopg.connect(conninfo(system)) as conn:
        (folder,) = conn.execute("show data_directory").fetchone() or ("",)
    return int((Path(folder) / "postmaster.pid").read_text().splitlines()[0])


@contextlib.contextmanager
def running(data_dir: Path, sources_dir: Path) -> Iterator[System]:
    system = System(data_dir, ("-m", "api", "up"), extra_env={"FEDERATOR_SOURCES_DIR": str(sources_dir)})
    try:
        system.start(until="ready:", timeout_s=120)
        yield system
    finally:
        if system.process is not None:
            system.stop()


def wait_for_items(system: System, at_least: int, timeout_s: float = 240) -> None:
    deadline = time.monotonic() + timeout_s
    while counts(system).get("items", 0) < at_least:
        assert time.monotonic() < deadline, f"{counts(system)}\n{system.report()}"
        time.sleep(0.1)


def wait_until_healthy(system: System, timeout_s: float = 60) -> None:
    """All parts are up again; whatever was just started gives its first sign of life a moment later."""
    deadline = time.monotonic() + timeout_s
    told = ""
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            answer = httpx.get(f"{system.url}/_mgmt/health", timeout=10)
            if answer.status_code == 200:
                return
            told = answer.text
        time.sleep(0.5)
    raise AssertionError(told)


def test_kill_worker_api_and_database_in_the_middle_of_a_harvest(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("kill")
    sources = folder / "sources"
    sources.mkdir()
    with serve(products=PRODUCTS, seed=7) as upstream:
        (sources / "many.toml").write_text(SOURCE.format(url=upstream.odata_url), encoding="utf-8")
        truth = sum(len(names) for names in upstream.items.values())
        with running(folder / "data", sources) as system:
            answer = system.run("-m", "ingest", "harvest", "many", "--queue")
            assert answer.returncode == 0, answer.stdout + answer.stderr
            for share, words in (
                (0.15, "-m ingest worker"),
                (0.35, "-m api serve"),
                (0.55, "postgres"),
                (0.75, "-m ingest worker"),
            ):
                wait_for_items(system, int(truth * share))
                pids = [postmaster_pid(system)] if words == "postgres" else system.processes(words)
                assert pids, words
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)
            wait_for_items(system, truth, timeout_s=300)
            deadline = time.monotonic() + 30
            while counts(system).get("waiting") != 0 and time.monotonic() < deadline:
                time.sleep(0.2)
            after = counts(system)
            assert after == {"items": truth, "holdings": truth, "events": truth, "products": truth, "waiting": 0}
            wait_until_healthy(system)
            audit = system.run("-m", "lineage", "audit")
            assert audit.returncode == 0, audit.stdout + audit.stderr
