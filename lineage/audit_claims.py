"""Looks whether documents that are kept word for word beside the log (`lineage.document_register`) are those that their events name."""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections.abc import AsyncIterator
from typing import Any

from psycopg import AsyncConnection

from db.queries import sql
from lineage.documents import MAX_BYTES
from lineage.verify import Fault

PORTION = 100

Row = dict[str, Any]


async def claim_faults(conn: AsyncConnection[Row]) -> AsyncIterator[Fault]:
    """Documents that were changed, put in without an event of who told them, or taken away."""
    last: tuple[str, str, bytes] = ("", "", b"")
    while rows := await (await conn.execute(sql("audit.claims"), (*last, PORTION))).fetchall():
        same = await asyncio.to_thread(lambda found: list(map(_is_same, found)), rows)
        for row, is_same in zip(rows, same, strict=True):
            where = f"the document {bytes(row['raw_sha256']).hex()[:16]} of {row['collection']}/{row['item_id']}"
            if not row["is_logged"]:
                yield Fault("claim-added", f"{where} is in no event of the log of who has told it")
            elif not is_same:
                yield Fault("claim-differs", f"{where} is another than its event says")
        last = rows[-1]["collection"], rows[-1]["item_id"], bytes(rows[-1]["raw_sha256"])
    for row in await (await conn.execute(sql("audit.missing_claims"))).fetchall():
        yield Fault("claim-missing", f"event {row['seq']}: the document that it names is gone", row["seq"])


def _is_same(row: Row) -> bool:
    try:
        data = zlib.decompressobj().decompress(bytes(row["raw"]), MAX_BYTES + 1)
    except zlib.error:
        return False
    return hashlib.sha256(data).digest() == bytes(row["raw_sha256"])
