"""A mosaic of twenty items over each other: ours against titiler-pgstac's, a registered search on both, over the same files.

`first`: pictures are full after one item, as they mostly are. `mean`: each of the twenty is read.
"""

from __future__ import annotations

import http.client
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.client import Request, interleaved, medians
from benchmarks.peers import Peer
from db.pools import open_pool
from db.settings import DatabaseSettings
from ingest.store import lock_items, write_items

ITEMS = 20
#: Way of laying: number of tiles, and what asks for it (the other server would stop when the picture is full, whatever the way).
_WAYS = {
    "first": (12, "pixel_selection=first"),
    "mean": (6, "pixel_selection=mean&exitwhenfull=false&skipcovered=false"),
}
_OPTIONS = "assets=data&rescale=0,4000"


async def register(
    database: DatabaseSettings,
    collection: str,
    raster: Path,
    cogs: Path,
    port: int,
    item: Callable[..., dict[str, Any]],
) -> None:
    """Twenty items of ours with files of their own, and twenty for the other that name them."""
    items = []
    async with open_pool(database) as pool:
        for number in range(ITEMS):
            upload, file = uuid.uuid4(), cogs / f"mosaic-{number}.tif"
            file.symlink_to(raster)
            (cogs / f"{upload}.tif").symlink_to(raster)
            async with pool.connection() as conn:
                await conn.execute(
                    "insert into federator.upload (id, owner, collection_id, title, datetime, state, item_id, length)"
                    " values ($1, 'bench', $2, $3, now(), 'ready', $3, 1)",
                    (upload, collection, f"layer-{number}"),
                )
            items.append(item(f"layer-{number}", raster, f"http://127.0.0.1:{port}/uploads/{upload}/data.tif"))
            items.append(item(f"file-{number}", raster, str(file)))
        async with pool.connection() as conn, conn.transaction():
            await lock_items(conn, collection)
            await write_items(conn, collection, items, dict.fromkeys(one["id"] for one in items))


def measured(servers: dict[str, Peer], collection: str, path: Callable[[int], str]) -> Iterator[tuple[str, float]]:
    """Milliseconds of both, and how many times as long the other takes.

    Args:
        servers: `ours` and `titiler-pgstac`.
        path: of the n-th tile, from `tiles/` on.
    """
    searches = {
        "ours": ("/raster/searches", _registered(servers["ours"], "/raster/searches", collection, "layer")),
        "titiler-pgstac": ("/searches", _registered(servers["titiler-pgstac"], "/searches", collection, "file")),
    }
    peers = [Peer(name, servers[name].port) for name in searches]
    for way, (number, asking) in _WAYS.items():
        asked = {name: _asking(root, search, path, asking) for name, (root, search) in searches.items()}
        found = medians(interleaved(peers, asked, number))
        label = f"mosaic of {ITEMS}, {way}, PNG"
        yield from ((f"{label}: {name}, ms", value) for name, value in found.items())
        yield f"{label}: titiler-pgstac / ours (goal 4)", found["titiler-pgstac"] / found["ours"]


def _asking(root: str, search: str, path: Callable[[int], str], way: str) -> Callable[[int], Request]:
    return lambda n: Request(f"{root}/{search}/{path(n)}?{_OPTIONS}&{way}")


def _registered(server: Peer, root: str, collection: str, name: str) -> str:
    """The id of a search for the items of one server."""
    search = {"collections": [collection], "ids": [f"{name}-{number}" for number in range(ITEMS)]}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request("POST", f"{root}/register", json.dumps(search), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status not in (200, 201):
        raise RuntimeError(f"{server.name}: {answer.status}: {body[:300]!r}")
    return str(json.loads(body)["id"])
