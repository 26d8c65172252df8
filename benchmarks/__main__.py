"""`make bench`: measurements on a private server of their own, printed as lines for RESULTS.md.

`python -m benchmarks [PART ...] [--folder FOLDER]`: only these parts; with a folder the server and the catalogue of a million items in it
are kept for the next call.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

from benchmarks import bulk, busy, graph, growth, harvest, limits, load, search, uploads
from db import cluster
from db.settings import DatabaseSettings

PACKAGES = ("pypgstac", "psycopg", "asyncpg", "stac-fastapi-pgstac", "orjson", "uvicorn")
PARTS: dict[str, Callable[[DatabaseSettings], dict[str, float]]] = {
    "harvest": harvest.run,
    "load": load.run,
    "bulk": bulk.run,
    "graph": graph.run,
    "growth": growth.run,
    "search": search.run,
    "busy": busy.run,
    "uploads": uploads.run,
    "limits": limits.run,
}


@contextlib.contextmanager
def server_in(folder: Path | None) -> Iterator[DatabaseSettings]:
    """A server with durable settings and nothing else on it."""
    with tempfile.TemporaryDirectory(prefix="federator-bench-", ignore_cleanup_errors=True) as temporary:
        home = folder or Path(temporary)
        home.mkdir(exist_ok=True, parents=True)
        home.chmod(0o755)
        settings = DatabaseSettings(data_dir=home, pghost="", pgdatabase="")
        try:
            yield cluster.start(settings).model_copy(update={"pgdatabase": "postgres"})
        finally:
            cluster.stop(settings)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"any of {', '.join(PARTS)}; none: all")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    print("versions:", versions, f"Python {sys.version.split()[0]}")
    with server_in(options.folder) as server:
        for word in options.parts or PARTS:
            for name, value in PARTS[word](server).items():
                print(f"{word}: {name}: {value:,.2f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
