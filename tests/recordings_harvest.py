"""Harvests the replayed recordings with `python -m ingest harvest`, as a user would: `python -m tests.recordings_harvest`.

A private database in a temporary folder, a loopback server that answers with the recorded records verbatim, the real
command. Prints one row per source and collection: records read, items stored, refused; then what is in the catalogue.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psycopg

from db import cluster
from db.migrate import migrate
from db.settings import DatabaseSettings
from tests.upstreams import replay

ROOT = Path(__file__).parents[1]
SUMMARY = """
select (select count(*) from pgstac.items) as items, (select count(*) from federator.holding) as holdings,
       (select count(*) from federator.quarantine) as quarantine,
       (select count(*) from lineage.event where item_id is not null) as events
"""


def harvest(data_dir: Path, sources_dir: Path, source: str) -> list[dict[str, Any]]:
    """Run the command for one source; its JSON report, one object a collection."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "FEDERATOR_"))}
    env = {**ours, "FEDERATOR_DATA_DIR": str(data_dir), "FEDERATOR_SOURCES_DIR": str(sources_dir)}
    command = [sys.executable, "-m", "ingest", "harvest", source, "--json"]
    answer = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False)
    if answer.returncode not in (0, 1) or "Traceback" in answer.stderr:
        raise RuntimeError(answer.stderr)
    report = json.loads(answer.stdout)
    return [{"source": source, **row} for row in report["collections"]]


def run(folder: Path) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Harvest every replayed source; return the reports and the catalogue's counts."""
    sources_dir, data_dir = folder / "sources", folder / "data"
    sources_dir.mkdir(parents=True)
    settings = DatabaseSettings(data_dir=data_dir, pghost="", pgdatabase="")
    rows: list[dict[str, Any]] = []
    try:
        reached = cluster.start(settings)
        migrate(reached)
        with replay.serve() as upstream:
            files = replay.source_files(upstream.url)
            for name, text in files.items():
                (sources_dir / name).write_text(text, encoding="utf-8")
            for name in sorted(files):
                rows += harvest(data_dir, sources_dir, name.removesuffix(".toml"))
        with psycopg.connect(reached.conninfo) as conn:
            cursor = conn.execute(SUMMARY.encode())
            names = [column.name for column in cursor.description or ()]
            return rows, dict(zip(names, cursor.fetchone() or (), strict=True))
    finally:
        cluster.stop(settings)


def markdown(rows: list[dict[str, Any]], summary: dict[str, int]) -> str:
    """The table of docs/recordings.md."""
    lines = ["| source | collection | records | items new or merged | refused |", "| --- | --- | ---: | ---: | ---: |"]
    for row in rows:
        stored = row["added"] + row["changed"] + row["unchanged"]
        lines.append(f"| {row['source']} | {row['collection']} | {row['fetched']} | {stored} | {row['quarantined']} |")
    lines += ["", ", ".join(f"{name}: {value}" for name, value in summary.items())]
    return "\n".join(lines)


def main() -> int:
    """Harvest and print."""
    with tempfile.TemporaryDirectory(prefix="federator-replay-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        print(markdown(*run(Path(folder))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
