"""`make bench`: runs every measurement on a private server of its own and prints it as lines for RESULTS.md."""

from __future__ import annotations

import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from benchmarks import harvest, load
from db import cluster
from db.settings import DatabaseSettings

PACKAGES = ("pypgstac", "psycopg", "orjson")


def main() -> int:
    """Measure and print; durable settings, nothing else on the server."""
    with tempfile.TemporaryDirectory(prefix="federator-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        settings = DatabaseSettings(data_dir=Path(folder), pghost="", pgdatabase="")
        try:
            server = cluster.start(settings).model_copy(update={"pgdatabase": "postgres"})
            print(
                "versions:",
                ", ".join(f"{name} {version(name)}" for name in PACKAGES),
                f"Python {sys.version.split()[0]}",
            )
            for word, measure in (("harvest", harvest.run), ("load", load.run)):
                for name, value in measure(server).items():
                    print(f"{word}: {name}: {value:,.2f}", flush=True)
        finally:
            cluster.stop(settings)
    return 0


if __name__ == "__main__":
    sys.exit(main())
