"""Static STAC catalogues: items are documents of their own, found by crawling from one catalogue document (`ingest.static_catalog`).

There is no search, so every run looks at every document; an unchanged one costs a 304. The cursor holds the ETags of
what was read: a run that broke off begins at the root again and meets 304s up to where it was. A record's id is its
document's address. Items that cannot be read become records that are refused, and so counted; when a catalogue cannot be
read, the run goes on and fails at its end, because what lies below is missing.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any, ClassVar, TypeGuard

import httpx
import orjson

from ingest.errors import RecordRejected, SourceInvalid, UpstreamChanged
from ingest.model import JSON, CollectionMapping, Contribution, Cursor, Page, Query, Record, Source
from ingest.normalise import stac as normalise_stac
from ingest.sanitise import parse_time
from ingest.static_catalog import Crawl
from ingest.static_documents import BROKEN, CODES, Bounds, Failed, Known, Read

log = logging.getLogger(__name__)

#: Member of a record that stands for a document which could not be read.
FAULT = "federator:fault"
#: Member of a record whose document was found elsewhere, behind redirects: there relative hrefs begin.
ADDRESS = "federator:address"


class StaticStac:
    """The items below a catalogue document: all of them, or those of one of its Collections.

    `source.url` is the document. `mapping.upstream` may have `collection` (id of the upstream's Collection), `hosts` (further
    hosts whose documents belong to it), and bounds: `depth` (links from the root), `documents`.
    """

    REQUIRED_KEYS: ClassVar[frozenset[str]] = frozenset()
    KEYS: ClassVar[frozenset[str]] = frozenset({"collection", "hosts", "depth", "documents"})

    def __init__(
        self,
        source: Source,
        mapping: CollectionMapping,
        query: Query | None = None,
        page_size: int = 500,
        *,
        with_total: bool = True,
    ) -> None:
        self._source = source
        self._mapping = mapping
        self._query = query or Query()
        self._page_size = page_size
        self._collection = mapping.upstream.get("collection")
        if not isinstance(self._collection, str | None):
            raise SourceInvalid(f"{source.id}: upstream.collection must be the id of one collection")
        self._bounds = Bounds.of(source, mapping.upstream)

    def item(self, record: Record) -> Contribution:
        """Normalise one record; raises RecordRejected."""
        raw, address = record.raw, record.id
        extra = _extra_of(raw)
        if fault := extra.get(FAULT):
            raise RecordRejected(*_fault(fault))
        if isinstance(moved := extra.get(ADDRESS), str):
            raw, address = orjson.dumps({name: value for name, value in extra.items() if name != ADDRESS}), moved
        return normalise_stac.contribution(self._source, self._mapping, raw, document=address)

    def rewound(self, cursor: Cursor, overlap: timedelta, not_after: datetime) -> Cursor:
        """Return the cursor as it is: every run looks at everything."""
        return cursor

    async def pages(self, http: httpx.AsyncClient, cursor: Cursor | None) -> AsyncIterator[Page]:
        """Yield what is new or changed, in the order of the links; see `ingest.model.Adapter`."""
        known = Known.of(self._source.url, cursor)
        crawl = Crawl(http, self._source, self._bounds, known, self._collection)
        records: list[Record] = []
        async for outcome in crawl.outcomes():
            if isinstance(outcome, Failed):
                records.append(_faulty(outcome))
            if isinstance(outcome, Read):
                known.remember(outcome)
                if outcome.link.is_item and self._is_wanted(outcome, crawl):
                    records.append(_record(outcome))
            if len(records) >= self._page_size:
                yield Page(tuple(records), known.cursor())
                records = []
        self._check_collection(crawl)
        if not crawl.losses:
            known.forget_all_but(crawl.visited)
        if records or (cursor is not None and known.cursor() != cursor):
            yield Page(tuple(records), known.cursor())
        crawl.check()

    def _is_wanted(self, read: Read, crawl: Crawl) -> bool:
        """True for an item of the collection that is asked for, within the query's limits."""
        told = read.document.get("collection")
        if self._collection is not None and self._collection not in (read.link.collection, told):
            return False
        if self._collection is not None:
            crawl.collections.add(self._collection)
        return _is_within(self._query, read.document)

    def _check_collection(self, crawl: Crawl) -> None:
        if self._collection is None or crawl.losses or self._collection in crawl.collections:
            return
        found = ", ".join(sorted(crawl.collections)[:20]) or "none"
        raise UpstreamChanged(
            f"{self._source.id}: no collection {self._collection!r} in the catalogue; it has: {found}"
        )


def _record(read: Read) -> Record:
    moved = {ADDRESS: read.address} if read.address != read.link.url else {}
    return Record(read.link.url, orjson.dumps(read.document | moved))


def _faulty(failure: Failed) -> Record:
    """A record in place of a document that could not be read."""
    detail = f"{failure.link.url}: {failure.detail}"
    return Record(failure.link.url, orjson.dumps({FAULT: {"code": failure.code, "detail": detail[:1000]}}))


def _extra_of(raw: bytes) -> JSON:
    """The record when it says more than its document does; else nothing, and the normaliser looks at it."""
    if FAULT.encode() not in raw and ADDRESS.encode() not in raw:
        return {}
    try:
        record = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return {}
    return record if isinstance(record, dict) else {}


def _fault(fault: Any) -> tuple[str, str]:
    told = fault if isinstance(fault, dict) else {}
    code = str(told.get("code"))
    return code if code in CODES else BROKEN, str(told.get("detail", ""))


def _is_within(query: Query, item: JSON) -> bool:
    """False for an item that lies outside the limits. One without a time of change is within no limits of time."""
    if query.since is not None or query.until is not None:
        properties = item.get("properties")
        changed = _time_in(properties if isinstance(properties, dict) else {})
        if changed is None or (query.since and changed < query.since) or (query.until and changed >= query.until):
            return False
    bbox = item.get("bbox")
    return query.bbox is None or not _is_bbox(bbox) or _meet(query.bbox, bbox)


def _time_in(properties: JSON) -> datetime | None:
    for name in ("published", "updated", "created"):
        try:
            return parse_time(properties[name])
        except (KeyError, RecordRejected):
            continue
    return None


def _is_bbox(value: Any) -> TypeGuard[list[float]]:
    return isinstance(value, list) and len(value) in (4, 6) and all(isinstance(one, int | float) for one in value)


def _meet(asked: tuple[float, float, float, float], bbox: list[float]) -> bool:
    west, south, east, north = bbox if len(bbox) == 4 else (*bbox[:2], *bbox[3:5])
    if north < asked[1] or south > asked[3]:
        return False
    return any(w <= e2 and e >= w2 for w, e in _sides(asked[0], asked[2]) for w2, e2 in _sides(west, east))


def _sides(west: float, east: float) -> list[tuple[float, float]]:
    """The longitudes of a box; two ranges across the antimeridian."""
    return [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
