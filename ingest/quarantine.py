"""Refused records are tried again from their kept bytes, when the mapping has learnt something; no source is asked."""

from __future__ import annotations

import asyncio
import zlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from db.pools import Pool
from db.queries import sql
from ingest.adapters import adapter_for
from ingest.model import Record, Source
from ingest.page import Harvested, normalise, store_page

_BATCH = 200


@dataclass(slots=True)
class Retried:
    """How many refused records were tried, and what became of them."""

    tried: int = 0
    stored: int = 0
    refused: int = 0


async def retry(
    pool: Pool, sources: Mapping[str, Source], source_id: str | None = None, code: str | None = None
) -> Retried:
    """Normalise refused records anew and store those that are good now; None means any source, any code.

    Records of sources or collections that are not harvested any more stay where they are.
    """
    done = Retried()
    last = ("", "", "")
    while True:
        async with pool.connection() as conn:
            parameters = (source_id, code, *last, _BATCH)
            rows = await (await conn.execute(sql("harvest.records_in_quarantine"), parameters)).fetchall()
        if not rows:
            return done
        last = (rows[-1]["source_id"], rows[-1]["collection_id"], rows[-1]["record_id"])
        records: dict[tuple[str, str], list[Record]] = defaultdict(list)
        for row in rows:
            key = row["source_id"], row["collection_id"]
            records[key].append(Record(row["record_id"], zlib.decompress(row["record"])))
        for (source, collection), some in records.items():
            await _retry(pool, sources, source, collection, some, done)


async def _retry(
    pool: Pool, sources: Mapping[str, Source], source_id: str, collection: str, records: list[Record], done: Retried
) -> None:
    source = sources.get(source_id)
    mapping = next((one for one in source.collections if one.id == collection), None) if source else None
    done.tried += len(records)
    if source is None or mapping is None:
        done.refused += len(records)
        return
    normalised = await asyncio.to_thread(normalise, adapter_for(source, mapping), mapping, records)
    async with pool.connection() as conn:
        counts = await store_page(conn, Harvested(0, source, mapping, sources), normalised, None)
    done.refused += counts.quarantined
    done.stored += counts.fetched - counts.quarantined
