"""What counting requests costs: CPU time of the application alone, limits off and on, asked without a server in between.

`on`: an address without a name, its quota never used up, so each request is counted and carries the headers.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from api.main import create_app
from api.settings import ApiSettings
from benchmarks.peers import new_database
from db.settings import DatabaseSettings
from tests.api.corpus import fill

ROUNDS = 7
ITEMS = 600
#: Path -> requests a round.
ASKED = {"/stac/collections": 3000, "/stac/search?limit=10": 200}
TIERS = "[general]\n[anonymous]\nrequests_per_minute = 300_000_000\nprocessing_per_month = 300_000_000\n"


def run(server: DatabaseSettings) -> dict[str, float]:
    """Microseconds a request, medians of rounds in turns."""
    database = new_database(server, f"limits_{uuid.uuid4().hex[:8]}")
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_measured(database, Path(folder)))


async def _measured(database: DatabaseSettings, folder: Path) -> dict[str, float]:
    await fill(database, ITEMS)
    tiers = folder / "tiers.toml"
    tiers.write_text(TIERS, encoding="utf-8")
    common: dict[str, Any] = {"data_dir": folder, "api_token": "t", "tiers_file": tiers}
    apps = {name: create_app(ApiSettings(**common, rate_limits=name == "on"), database) for name in ("off", "on")}
    found: dict[str, list[float]] = {}
    async with apps["off"].router.lifespan_context(apps["off"]), apps["on"].router.lifespan_context(apps["on"]):
        await asyncio.sleep(1)  # until they hear of changes, and keep documents
        for path, number in ASKED.items():
            for _ in range(ROUNDS):
                for name, app in apps.items():
                    found.setdefault(f"{path}, limits {name}, us", []).append(await _round(app, path, number))
    return {name: statistics.median(values[1:]) for name, values in found.items()}


async def _round(app: Any, path: str, number: int) -> float:
    """Microseconds of CPU time a request."""
    parts = urlsplit(path)
    common = {
        "type": "http", "method": "GET", "path": parts.path, "raw_path": parts.path.encode(), "query_string": parts.query.encode(),
        "headers": [(b"host", b"x")], "client": ("203.0.113.5", 1), "server": ("127.0.0.1", 80), "scheme": "http",
        "http_version": "1.1", "root_path": "", "asgi": {"version": "3.0", "spec_version": "2.3"},
    }  # fmt: skip

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start" and message["status"] != 200:
            raise RuntimeError(message["status"])

    async def receive() -> Any:
        await asyncio.sleep(3600)

    begun = time.process_time()
    for _ in range(number):
        await app(dict(common), receive, send)
    return (time.process_time() - begun) / number * 1e6
