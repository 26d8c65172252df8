"""The federated collections: STAC Collection documents as JSON files beside this module, put into pgstac at start.

The operator's own files (`ingest.operator_files`) change them, add others, and say what is indexed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from psycopg.types.json import Jsonb

from db.pools import Pool
from db.queries import sql
from ingest.model import JSON
from ingest.operator_files import FOLDER, patched

#: Always there.
BASIC = ("uploads", "sentinel-1-grd", "sentinel-2-l1c", "sentinel-2-l2a")
#: Collections whose items come by the million are partitioned by month.
_TRUNC = {"uploads": None}


@cache
def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def collections() -> dict[str, JSON]:
    """Every federated collection's document by id; the file's name is the id."""
    found = {path.stem: json.loads(_text(path)) for path in sorted(FOLDER.glob("*.json"))}
    for name, document in found.items():
        if document["id"] != name:
            raise ValueError(f"{name}.json holds the collection {document['id']!r}")
    return found


def is_described(name: str) -> bool:
    """True when a file of ours describes the collection of that id."""
    # Longer names than a file can have raise with Python 3.12.
    return len(name) < 200 and "/" not in name and (FOLDER / f"{name}.json").is_file()


async def ensure_collections(pool: Pool, names: Iterable[str] = ()) -> list[str]:
    """Put the basic collections and `names` into pgstac, and bring those that are there up to date.

    The others come with their first harvest, so that nobody's catalogue lists dozens of empty ones. Returns the ids of what was
    new or changed.
    """
    written = []
    async with pool.connection() as conn, conn.transaction():
        await conn.execute(sql("harvest.lock_items"), ("collections",))
        present = {row["id"] for row in await (await conn.execute(sql("harvest.collection_ids"))).fetchall()}
        patches = {
            row["collection_id"]: row["patch"]
            for row in await (await conn.execute(sql("harvest.collection_patches"))).fetchall()
        }
        wanted = {*BASIC, *names, *(name for name in patches if name not in collections())} | present
        for name, document in patched(collections(), patches).items():
            if name not in wanted:
                continue
            trunc = _TRUNC.get(name, "month")
            cursor = await conn.execute(sql("harvest.upsert_collection"), (Jsonb(document), trunc))
            if await cursor.fetchone() is not None:
                written.append(name)
        await conn.execute(sql("harvest.arrange_queryables"))
    return written
