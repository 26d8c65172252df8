"""A running application with a log, for the tests of traces."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg

from api.main import create_app
from api.settings import ApiSettings
from db.pools import open_pool
from db.settings import DatabaseSettings
from lineage import log
from lineage.events import Event, Kind
from lineage.ids import uuid7
from lineage.keys import Signer, load_signer
from lineage.sequencer import sequence
from lineage.settings import LineageSettings
from tests.api.server import listening, serving
from tests.conftest import cloned
from tests.shared import shared_path

TOKEN = "a-token-for-the-test"
V1 = "/trace/api/v1/traces"


@dataclass
class Traced:
    """The application, callers' credentials, and its log."""

    http: httpx.Client
    database: DatabaseSettings
    signer: Signer
    keys: dict[str, str]
    app: Any

    def ask(self, who: str, method: str, path: str, **given: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.keys[who]}"} if who in self.keys else {}
        return self.http.request(method, path, headers=headers, **given)

    def put(self, traces: Any, who: str = "ann") -> httpx.Response:
        return self.ask(who, "PUT", V1, json=traces)

    def log(self, *events: Event) -> None:
        """Let things happen, and give what waits its numbers."""

        async def work() -> None:
            async with open_pool(self.database) as pool:
                async with pool.connection() as conn, conn.transaction():
                    await log.append(conn, *events)
                await sequence(pool, self.signer)

        asyncio.run(work())

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database.conninfo, autocommit=True) as conn:
            return conn.execute(query.encode()).fetchall()

    def found(self, path: str, **parameters: Any) -> list[dict[str, Any]]:
        answer = self.http.get(V1 + path, params=parameters)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()
        return found


@contextlib.contextmanager
def trace_site(postgres: DatabaseSettings, template: str, folder: Path) -> Iterator[Traced]:
    """The application with ann and bob, who may register traces, and a key of bob's that only reads."""
    listener, url = listening()
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(cloned(postgres, template))
        app = create_app(ApiSettings(data_dir=folder, public_url=url, api_token=TOKEN), database)
        stack.enter_context(serving(app, listener))
        http = stack.enter_context(httpx.Client(base_url=url, timeout=60))
        signer = load_signer(LineageSettings(data_dir=folder))
        site = Traced(http, database, signer, {"operator": TOKEN}, app)
        for name in ("ann", "bob"):
            may = ["trace:register", "stac:item:update", "stac:item:create", "stac:collection:create"]
            made = site.ask("operator", "POST", "/auth/users", json={"name": name, "scopes": may})
            assert made.status_code == 201, made.text
            key = site.ask("operator", "POST", "/auth/keys", json={"person": name, "scopes": may})
            site.keys[name] = key.json()["key"]
        reader = site.ask("operator", "POST", "/auth/keys", json={"person": "bob", "scopes": []})
        site.keys["reader"] = reader.json()["key"]
        yield site


def event(kind: Kind, name: str, source: str = "own", **body: Any) -> Event:
    return Event(uuid7(), kind, name, source, "things", f"item-{name}", "tester", datetime.now(UTC), body)


def hashed(number: int, **more: Any) -> dict[str, Any]:
    return {"size": 10, "hashes": [{"alg": "BLAKE3", "digest": f"{number:064x}"}], **more}


def schema() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(shared_path("lineage", "cdse-trace", "trace.schema.json").read_text())
    return loaded


def summary(traces: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(one["event"], int(one["product"]["hash"] or "0", 16)) for one in traces]


def changed(trace: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The trace with another value somewhere."""
    copy = json.loads(json.dumps(trace))
    *places, last = path.split("/")
    where = copy
    for place in places:
        where = where[place]
    where[last] = value
    return copy
