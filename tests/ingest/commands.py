"""Runs `python -m ingest ...` as a user would: a process of its own against a test's database and sources."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from click.testing import Result
from typer.testing import CliRunner

from db.settings import DatabaseSettings
from ingest.__main__ import app
from tests.ingest.odata_server import ODataServer, source_toml

ROOT = Path(__file__).parents[2]


@dataclass
class Commands:
    """The environment of one installation: database, data directory, folder of own sources."""

    database: DatabaseSettings
    folder: Path
    extra_env: dict[str, str] = field(default_factory=dict)

    def add_source(self, url: str, source_id: str = "test-odata") -> None:
        """Write a source file for an OData server of Sentinel-2 L1C at `url`."""
        sources = self.folder / "sources"
        sources.mkdir(exist_ok=True)
        (sources / f"{source_id}.toml").write_text(source_toml(url, source_id=source_id), encoding="utf-8")

    @property
    def env(self) -> dict[str, str]:
        """The caller's environment with this installation's variables."""
        (self.folder / "sources").mkdir(exist_ok=True)
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "FEDERATOR_"))}
        return {
            **ours,
            "PGHOST": self.database.pghost,
            "PGPORT": str(self.database.pgport),
            "PGUSER": self.database.pguser,
            "PGPASSWORD": self.database.pgpassword.get_secret_value(),
            "PGDATABASE": self.database.pgdatabase,
            "FEDERATOR_DATA_DIR": str(self.folder / "data"),
            "FEDERATOR_SOURCES_DIR": str(self.folder / "sources"),
            "FEDERATOR_PAGE_SIZE": "20",
            "FEDERATOR_RETRY_BASE_S": "0.1",
            **self.extra_env,
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command; the caller waits for it."""
        return subprocess.Popen(
            [sys.executable, "-m", "ingest", *arguments],
            cwd=ROOT, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def run(self, *arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=timeout_s)
        assert "Traceback" not in out + err, err
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def run_here(self, *arguments: str) -> Result:
        """The same in this process, which spares the start of one: for commands that end before they do anything."""
        names = [name for name in os.environ if name.startswith(("PG", "FEDERATOR_"))]
        return CliRunner().invoke(app, list(arguments), env={**dict.fromkeys(names), **self.env})

    def column(self, statement: str) -> list[Any]:
        """First column of a query's rows."""
        with psycopg.connect(self.database.conninfo) as conn:
            return [row[0] for row in conn.execute(statement.encode()).fetchall()]

    def count_items(self) -> int:
        """Items of all collections."""
        return int(self.column("select count(*) from pgstac.items")[0])

    def assert_whole(self, server: ODataServer) -> None:
        """Exactly the upstream's products: one item, one holding and one event each."""
        names = sorted(row["Name"].removesuffix(".SAFE") for row in server.products)
        assert self.column("select id from pgstac.items order by id") == names
        assert self.column("select count(*) from federator.holding") == [len(names)]
        either = "select item_id from lineage.event_outbox union all select item_id from lineage.event"
        events = self.column(f"select item_id from ({either}) as e where item_id is not null order by item_id")
        assert events == names
