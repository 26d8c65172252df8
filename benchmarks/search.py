"""Reading: our API against the stock server, hydrating in SQL and in the process, and ready text, on one catalogue of a million items.

Requests are random, the same for all servers, and asked in turns; figures are medians in milliseconds.
"""

from __future__ import annotations

import contextlib
import logging
import random
import statistics
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

import orjson
import psycopg

from benchmarks import growth, peers, ready_text
from benchmarks.client import Client, Request, interleaved, medians, rate
from benchmarks.peers import Peer
from db.errors import DatabaseTooNew, MigrationChanged
from db.migrate import migrate
from db.settings import DatabaseSettings

log = logging.getLogger(__name__)

COLLECTION = ready_text.COLLECTION
#: Sizes of the catalogues of the cost curve.
SIZES = (10_000, 100_000, 1_000_000)
CONNECTIONS, DURATION_S, ROUNDS = 8, 6.0, 3
PAGES = 50
DOCUMENTS = ("/collections", f"/collections/{COLLECTION}", "/", "/queryables")
PARTS = ("latencies", "documents", "rates", "walk", "curve")


def _rng(n: int) -> random.Random:
    return random.Random(f"search/{n}")  # noqa: S311


def _place_and_time(n: int, degrees: float = 10.0) -> dict[str, str]:
    """A box of so many degrees and a time of some months."""
    rng = _rng(n)
    west, south = rng.uniform(-170, 180 - degrees), rng.uniform(-70, 80 - degrees)
    since, until = rng.randrange(1, 13), rng.randrange(1, 13)
    return {
        "bbox": f"{west:.3f},{south:.3f},{west + degrees:.3f},{south + degrees:.3f}",
        "datetime": f"2024-{since:02d}-01T00:00:00Z/2025-{until:02d}-28T00:00:00Z",
    }


def search(n: int, **more: str) -> Request:
    asked = {"collections": COLLECTION, "limit": "10", **_place_and_time(n), **more}
    return Request(f"/search?{urlencode(asked)}")


def _cloudless(n: int) -> Request:
    box = [float(one) for one in _place_and_time(n)["bbox"].split(",")]
    cql2 = {"op": "<", "args": [{"property": "eo:cloud_cover"}, 20]}
    body = {"collections": [COLLECTION], "bbox": box, "filter-lang": "cql2-json", "filter": cql2, "limit": 10}
    return Request("/search", orjson.dumps(body))


def _sorted_by_cloud(n: int) -> Request:
    return search(n, sortby="eo:cloud_cover")


def _whole_world(n: int) -> Request:
    return search(n, limit="100", bbox="-180,-80,180,80")


def _newest(n: int) -> Request:
    return Request("/search?limit=10")


def _ids(database: DatabaseSettings) -> list[str]:
    with psycopg.connect(database.conninfo) as conn:
        found = conn.execute("select id from pgstac.items where collection = %s order by id limit 5000", (COLLECTION,))
        return [row[0] for row in found.fetchall()]


def _item(ids: list[str], n: int) -> Request:
    return Request(f"/collections/{COLLECTION}/items/{ids[n * 7 % len(ids)]}")


def _few_ids(ids: list[str], n: int) -> Request:
    asked = {"collections": COLLECTION, "ids": ",".join(ids[(n * 5 + k) % len(ids)] for k in range(5))}
    return Request(f"/search?{urlencode(asked)}")


def _document(path: str, n: int) -> Request:
    return Request(path)


def _compared(
    name: str, servers: list[Peer], make: Callable[[int], Request], number: int
) -> Iterator[tuple[str, float]]:
    found = medians(interleaved(servers, make, number))
    ours = found["ours"]
    yield from ((f"{name}: {server}, ms", value) for server, value in found.items())
    yield from ((f"{name}: {server} / ours", value / ours) for server, value in found.items() if server != "ours")


def _latencies(servers: list[Peer], limit: Peer, ids: list[str]) -> Iterator[tuple[str, float]]:
    yield from _compared("limit 10", [*servers, limit], search, 60)
    yield from _compared("limit 100", [*servers, limit], _whole_world, 12)
    yield from _compared("item", [*servers, limit], partial(_item, ids), 60)
    for name, make in {
        "cloud cover below 20": _cloudless,
        "sorted by cloud cover": _sorted_by_cloud,
        "five ids": partial(_few_ids, ids),
        "newest of all": _newest,
    }.items():
        yield from _compared(name, servers, make, 30)


def _documents(servers: list[Peer]) -> Iterator[tuple[str, float]]:
    for path in DOCUMENTS:
        yield from _compared(path, servers, partial(_document, path), 240)


def _rates(servers: list[Peer]) -> Iterator[tuple[str, float]]:
    found: dict[str, list[float]] = {server.name: [] for server in servers}
    for turn in range(ROUNDS):
        for server in servers[turn % len(servers) :] + servers[: turn % len(servers)]:
            found[server.name].append(rate(server, search, connections=CONNECTIONS, duration_s=DURATION_S))
    ours = statistics.median(found["ours"])
    for name, values in found.items():
        yield f"{CONNECTIONS} connections, limit 10: {name}, requests/s", statistics.median(values)
    for name, values in found.items():
        if name != "ours":
            yield f"{CONNECTIONS} connections, limit 10: ours / {name}", ours / statistics.median(values)


def _walk(server: Peer) -> list[float]:
    """Seconds of each page of ten of a whole collection; the first page is asked for once before."""
    request, spent = Request(f"/search?collections={COLLECTION}&limit=10"), []
    with contextlib.closing(Client(server)) as client:
        client.ask(request)
        for _ in range(PAGES):
            seconds, body = client.timed(request)
            spent.append(seconds)
            href = next(link["href"] for link in orjson.loads(body)["links"] if link["rel"] == "next")
            request = Request(href.removeprefix(f"http://127.0.0.1:{server.port}{server.root}"))
    return spent


def _walks(servers: list[Peer]) -> Iterator[tuple[str, float]]:
    last = {}
    for server in servers:
        walks = [_walk(server) for _ in range(ROUNDS)]
        first = statistics.median(walk[0] for walk in walks)
        last[server.name] = statistics.median(second for walk in walks for second in walk[-5:])
        yield f"walk: {server.name}, page 1, ms", first * 1000
        yield f"walk: {server.name}, page {PAGES}, ms", last[server.name] * 1000
        yield f"walk: {server.name}, page {PAGES} / page 1", last[server.name] / first
    yield f"walk: page {PAGES}, stock / ours", last["stock"] / last["ours"]


def catalogue(server: DatabaseSettings, size: int, *, fresh: bool = False) -> DatabaseSettings:
    """A catalogue of this size, made when it is missing or when other migrations than ours have made it; a fresh one may be changed."""
    name = growth.DATABASE if size == growth.TOTAL else f"bench_{size}"
    if fresh:
        growth.fill(server, "bench_fresh", size)
        return server.model_copy(update={"pgdatabase": "bench_fresh"})
    with psycopg.connect(server.conninfo) as conn:
        is_there = conn.execute("select exists (select from pg_database where datname = %s)", (name,)).fetchone() == (
            True,
        )
    database = server.model_copy(update={"pgdatabase": name})
    if not is_there or not _is_ours(database):
        log.warning("a catalogue of %s items is being made: %s", f"{size:,}", name)
        growth.fill(server, name, size)
    return database


def _is_ours(database: DatabaseSettings) -> bool:
    """Whether a catalogue that was kept is as our migrations make it, once those that it does not have were applied."""
    try:
        migrate(database)
    except (MigrationChanged, DatabaseTooNew) as error:
        log.warning("%s is of no use any more: %s", database.pgdatabase, error)
        return False
    return True


def _curve(server: DatabaseSettings, folder: Path) -> Iterator[tuple[str, float]]:
    """The same requests on catalogues of growing size."""
    with contextlib.ExitStack() as stack:
        sized = [stack.enter_context(peers.ours(catalogue(server, size), folder, f"{size:,} items")) for size in SIZES]
        ids = _ids(catalogue(server, SIZES[0]))
        for name, make in {
            "limit 10": search, "limit 100": _whole_world, "cloud cover below 20": _cloudless, "item": partial(_item, ids),
        }.items():  # fmt: skip
            for size, value in medians(interleaved(sized, make, 30)).items():
                yield f"curve: {name}, {size}, ms", value


def _beside_peers(server: DatabaseSettings, folder: Path, parts: Collection[str]) -> Iterator[tuple[str, float]]:
    """What is measured on a million items, ours and the others in turns."""
    database = catalogue(server, growth.TOTAL)
    ready_text.prepare(database)
    ids = _ids(database)
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(peers.ours(database, folder)),
            stack.enter_context(peers.stock(database, folder, api_hydrate=False)),
            stack.enter_context(peers.stock(database, folder, api_hydrate=True)),
        ]
        limit = stack.enter_context(peers.ready_text(database, folder))
        if "latencies" in parts:
            yield from _latencies(servers, limit, ids)
        if {"latencies", "documents"} & set(parts):
            yield from _documents(servers)
        if "rates" in parts:
            yield from _rates([*servers, limit])
        if "walk" in parts:
            yield from _walks(servers)


def run(server: DatabaseSettings, parts: Collection[str] = PARTS) -> Iterator[tuple[str, float]]:
    """Give latencies, rates, a walk and the cost curve, or those of them that are asked for, as they are measured.

    Servers' logs and the stock environment are below the server's data folder.
    """
    folder = server.data_dir / "peers"
    folder.mkdir(exist_ok=True)
    if set(parts) - {"curve"}:
        yield from _beside_peers(server, folder, parts)
    if "curve" in parts:
        yield from _curve(server, folder)
