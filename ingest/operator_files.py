"""The operator's collection files (`FEDERATOR_COLLECTIONS_DIR`): what differs from our collections, collections of his own, and indexes.

`<id>.json` holds what is to be different in the collection of that id, as a JSON merge patch (RFC 7396), or a whole Collection where we
have none. Two members are no part of it:

    {"index": ["eo:cloud_cover", "grid:code"],
     "queryables": {"mine:score": {"title": "Score", "type": "number", "minimum": 0, "maximum": 1}}}

`index` are properties by which items are filtered and sorted so often that an index pays; pgstac keeps one for each partition of the
collection. `queryables` are JSON schemas of properties that we do not know, or know otherwise.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from db.pools import Pool
from db.queries import sql
from ingest.edits.patches import merged
from ingest.errors import SourceInvalid
from ingest.model import JSON

log = logging.getLogger(__name__)

OURS = ("index", "queryables")
#: Where the collections are that we describe ourselves.
FOLDER = Path(__file__).parent / "collections"
#: Indexes of a collection; each makes every item that is stored dearer.
MOST_INDEXES = 16
_LONGEST_NAME = 200


def read_files(folder: Path) -> dict[str, JSON]:
    """Return each file's content by collection id.

    Raises:
        SourceInvalid: a file is wrong; the message names it.
    """
    return {path.stem: _read(path) for path in sorted(folder.glob("*.json"))}


def patched(documents: Mapping[str, JSON], patches: Mapping[str, JSON]) -> dict[str, JSON]:
    """Return collections by id as they are with these patches; those that have no document before are whole ones."""
    found = dict(documents)
    for name, patch in patches.items():
        rest = {key: value for key, value in patch.items() if key not in OURS}
        if name in documents or rest.get("type") == "Collection":
            found[name] = {**merged(documents.get(name, {}), rest), "id": name}
    return found


async def adopt_files(pool: Pool, folder: Path | None) -> None:
    """Let the database know what the files say; None leaves it as it is. `ensure_collections` then brings collections and indexes there.

    Raises:
        SourceInvalid: as `read_files`; nothing has changed then.
    """
    if folder is None:
        return
    found = read_files(folder)
    async with pool.connection() as conn, conn.transaction():
        await conn.execute(sql("harvest.lock_items"), ("collections",))
        patches = [orjson.dumps(patch).decode() for patch in found.values()]
        await conn.execute(sql("harvest.keep_patches"), (list(found), patches))
        await conn.execute(sql("harvest.drop_patches"), (list(found),))


async def build_indexes(pool: Pool) -> int:
    """Run what waits in pgstac's queue: indexes to be built or dropped, one transaction each; return how many statements ran."""
    number = 0
    while True:
        async with pool.connection() as conn, conn.transaction():
            await conn.execute(sql("harvest.patiently"))
            row = await (await conn.execute(sql("harvest.run_queued"))).fetchone()
        if row is None or not row["did_run"]:
            return number
        number += 1


def _read(path: Path) -> JSON:
    try:
        content = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise SourceInvalid(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(content, dict) or content.get("id", path.stem) != path.stem:
        raise SourceInvalid(f"{path}: is of the collection {path.stem!r} and holds something else")
    index, queryables = content.get("index", []), content.get("queryables", {})
    if not isinstance(index, list) or not all(map(_is_name, index)) or len(index) > MOST_INDEXES:
        raise SourceInvalid(f"{path}: 'index' is a list of at most {MOST_INDEXES} names of properties")
    if not isinstance(queryables, dict) or not all(
        _is_name(name) and isinstance(one, dict) for name, one in queryables.items()
    ):
        raise SourceInvalid(f"{path}: 'queryables' holds a JSON schema for each name of a property")
    rest = {key: value for key, value in content.items() if key not in (*OURS, "id")}
    if rest and not (FOLDER / path.name).is_file() and not _is_whole(rest):
        raise SourceInvalid(
            f"{path}: we have no such collection, so a whole STAC Collection is needed, or 'index' and 'queryables' alone"
        )
    found: JSON = content
    return found


def _is_whole(document: JSON) -> bool:
    """Whether pgstac can hold it and clients can read it."""
    extent = document.get("extent")
    parts = [extent.get(name) for name in ("spatial", "temporal")] if isinstance(extent, dict) else []
    return (
        document.get("type") == "Collection"
        and all(isinstance(document.get(name), str) for name in ("stac_version", "description", "license"))
        and isinstance(document.get("links"), list)
        and bool(parts)
        and all(isinstance(part, dict) for part in parts)
    )


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value.strip()) <= _LONGEST_NAME and "\0" not in value
