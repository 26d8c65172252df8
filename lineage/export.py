"""Writes the log as files that `lineage.verify` judges (layout: verify/folder.py).

Tiles are as they are stored, entries and bodies from the rows. What is damaged is written as it is, so that the verifier finds it; an
event that is missing is an empty entry.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from psycopg import AsyncConnection

from db.queries import sql
from lineage.sealing import time_text
from lineage.verify import tile_name

WIDTH = 256
PORTION = WIDTH * 40

Row = dict[str, Any]


async def export(conn: AsyncConnection[Row], folder: Path) -> int:
    """Write the log into an empty or new folder, from one consistent snapshot; returns its size.

    Raises:
        FileExistsError: the folder is not empty.
    """
    _enter(folder)
    async with conn.transaction():
        await conn.execute("set transaction isolation level repeatable read read only")
        size = min(await _checkpoints(conn, folder), await _end(conn))
        async for row in await conn.execute(sql("lineage.all_tiles")):
            suffix = "" if row["width"] == WIDTH else f".p/{row['width']}"
            write_file(folder / "tile" / str(row["level"]) / (tile_name(row["idx"]) + suffix), bytes(row["data"]))
        for start in range(0, size, PORTION):
            cursor = await conn.execute(sql("lineage.leaves_between"), (start, min(size, start + PORTION)))
            _write_events(folder, start, min(size, start + PORTION), await cursor.fetchall())
    return size


def _enter(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty")


async def _end(conn: AsyncConnection[Row]) -> int:
    """Where files end, whatever the newest checkpoint says: behind the block of the last event or tile of leaves that there is."""
    row = await (await conn.execute(sql("lineage.last_block"))).fetchone()
    return (int(row["block"]) + 1) * WIDTH if row else 0


async def _checkpoints(conn: AsyncConnection[Row], folder: Path) -> int:
    """Write all checkpoints, each with its witnesses' lines; returns the newest one's size."""
    rows = await (await conn.execute(sql("lineage.checkpoints"))).fetchall()
    lines: dict[int, str] = {}
    cosignatures = await conn.execute(sql("lineage.cosignatures"), ([row["size"] for row in rows],))
    for row in await cosignatures.fetchall():
        lines[row["size"]] = lines.get(row["size"], "") + row["line"]
    note = b""
    for row in rows:
        note = (row["note"] + lines.get(row["size"], "")).encode()
        write_file(folder / "checkpoints" / f"{row['size']:020}", note)
    write_file(folder / "checkpoint", note)
    return int(rows[-1]["size"]) if rows else 0


def _write_events(folder: Path, start: int, end: int, rows: Sequence[Row]) -> None:
    found = {row["seq"]: row for row in rows}
    for first in range(start, end, WIDTH):
        last = min(first + WIDTH, end)
        numbers = range(first, last)
        suffix = "" if len(numbers) == WIDTH else f".p/{len(numbers)}"
        name = tile_name(first // WIDTH)
        leaves = [bytes(found[seq]["leaf"]) if seq in found else b"" for seq in numbers]
        write_file(folder / "tile" / "entries" / (name + suffix), entry_bundle(leaves))
        lines = [orjson.dumps(_event(found[seq])) for seq in numbers if seq in found]
        write_file(folder / "events" / f"{name}.ndjson", b"\n".join(lines) + b"\n")


def entry_bundle(leaves: Sequence[bytes]) -> bytes:
    """An entry bundle of tlog-tiles: each leaf behind its length in two bytes."""
    return b"".join(len(leaf).to_bytes(2, "big") + leaf for leaf in leaves)


def _event(row: Row) -> dict[str, Any]:
    signature = None if row["sig"] is None else base64.b64encode(row["sig"]).decode()
    return {
        "seq": row["seq"],
        "body": row["body"],
        "signature": signature,
        "recorded_at": time_text(row["recorded_at"]),
    }


def write_file(path: Path, data: bytes) -> None:
    """Write a file, and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
