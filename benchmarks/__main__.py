"""`make bench`: measurements on a private server of their own, printed as lines for RESULTS.md.

`python -m benchmarks [PART ...] [--folder FOLDER] [--only latencies,documents,rates,walk,curve]`: only these parts, and of `search` only
those; with a folder the server and its catalogues of up to a million items are kept for the next call.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

from benchmarks import (
    afar,
    badtiles,
    bulk,
    busy,
    graph,
    growth,
    harvest,
    kept_tiles,
    limits,
    load,
    log,
    lowzoom,
    remote,
    search,
    tiles,
    to_the_map,
    uploads,
    warps,
)
from db import cluster
from db.settings import DatabaseSettings

PACKAGES = ("pypgstac", "psycopg", "asyncpg", "stac-fastapi-pgstac", "orjson", "uvicorn")
PARTS: dict[str, Callable[[DatabaseSettings], dict[str, float]]] = {
    "harvest": harvest.run,
    "load": load.run,
    "bulk": bulk.run,
    "graph": graph.run,
    "growth": growth.run,
    "lineage": log.run,
    "search": lambda server: dict(search.run(server)),
    "busy": busy.run,
    "uploads": uploads.run,
    "to_the_map": to_the_map.run,
    "limits": limits.run,
    "tiles": tiles.run,
    "warps": warps.run,
    "kept_tiles": kept_tiles.run,
    "remote": remote.run,
    "lowzoom": lowzoom.run,
    "badtiles": badtiles.run,
    "afar": afar.run,
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
    parser.add_argument("--only", default=",".join(search.PARTS), help="parts of search, with commas between them")
    options = parser.parse_args()
    only = options.only.split(",")
    if unknown := (set(options.parts) - set(PARTS)) | (set(only) - set(search.PARTS)):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    print("versions:", versions, f"Python {sys.version.split()[0]}")
    with server_in(options.folder) as server:
        for word in options.parts or PARTS:
            measured = search.run(server, only) if word == "search" else PARTS[word](server).items()
            for name, value in measured:
                print(f"{word}: {name}: {value:,.2f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
