"""STAC API item search as stac-fastapi-pgstac (CDSE, Planetary Computer) and stac-server (Earth Search, USGS) speak it.

Pages are followed by their `next` links (`ingest.adapters.stac_links`); stac-server gives one even on the last page. A
run that broke off resumes by the watermark: a property that says when the source published or changed an item, asked for
in ascending order. The same serves when the links fail us: a full page without one (Planetary Computer, January 2026), a
circle, a page that comes again. One instant that holds more items than a page is then walked by id. A source that keeps
no order is harvested all the same, but a run that broke off then starts from where it began, and links that fail are an
error.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import ClassVar

import httpx
import orjson

from ingest.adapters.stac_geodes import GeodesSearch
from ingest.adapters.stac_links import Links, PagingFailed, Request
from ingest.adapters.stac_search import Window, area, as_get, bounds, instant, rfc3339, total_of
from ingest.adapters.stac_walk import START, Instant, Walk
from ingest.errors import SourceInvalid, UpstreamChanged
from ingest.model import JSON, CollectionMapping, Contribution, Cursor, Page, Query, Record, Source
from ingest.normalise import geodes as normalise_geodes
from ingest.normalise import stac as normalise_stac

log = logging.getLogger(__name__)


class Stac:
    """One collection of a STAC API.

    `mapping.upstream` has `collection` (an id, or a list of ids that together are one federated collection) and may have `watermark`
    ("properties.updated", or "id" for a collection without useful times), `filter` (how the watermark is bounded: "cql2",
    "query", or "datetime" when the watermark is the acquisition itself), `method`, `limit`. `dialect = "geodes"` is the search of CNES'
    GEODES, which may have `product_type`.
    """

    REQUIRED_KEYS: ClassVar[frozenset[str]] = frozenset({"collection"})
    KEYS: ClassVar[frozenset[str]] = frozenset(
        {"collection", "watermark", "filter", "method", "limit", "dialect", "product_type"}
    )

    def __init__(
        self,
        source: Source,
        mapping: CollectionMapping,
        query: Query | None = None,
        page_size: int = 500,
        *,
        with_total: bool = True,
    ) -> None:
        upstream = mapping.upstream
        self._source = source
        self._mapping = mapping
        self._query = query or Query()
        self._limit = min(page_size, int(upstream.get("limit", page_size)))
        self._watermark = str(upstream.get("watermark", "properties.updated"))
        self._property = self._watermark.removeprefix("properties.")
        self._filter = str(upstream.get("filter", "query"))
        self._links = Links(source, self._limit)
        self._method = str(upstream.get("method", "POST"))
        self._geodes = self._dialect(upstream, with_total=with_total)
        #: What a query's times mean (`ingest.census`). GEODES' `datetime` is when it published an item.
        sensed = "start_datetime" if self._geodes else "datetime"
        self.AXIS = "sensed" if self._property == sensed else "published"

    def _dialect(self, upstream: JSON, *, with_total: bool) -> GeodesSearch | None:
        dialect = upstream.get("dialect")
        if dialect == "geodes":
            return GeodesSearch(self._source, upstream, self._query, self._limit, self._property, with_total=with_total)
        if dialect is not None or "product_type" in upstream:
            raise SourceInvalid(f"{self._source.id}: upstream.dialect can be 'geodes', which alone knows product_type")
        return None

    def item(self, record: Record) -> Contribution:
        """Normalise one record; raises RecordRejected."""
        if self._geodes is not None:
            return normalise_geodes.contribution(self._source, self._mapping, record.raw)
        return normalise_stac.contribution(self._source, self._mapping, record.raw)

    def rewound(self, cursor: Cursor, overlap: timedelta, not_after: datetime) -> Cursor:
        """Return the cursor of a new run: `overlap` before what was seen and before `not_after`."""
        if cursor["watermark"] is None:
            return dict(START)
        begin = min(instant(cursor["watermark"]), not_after) - overlap
        return {"watermark": rfc3339(begin), "seen": []}

    async def pages(self, http: httpx.AsyncClient, cursor: Cursor | None) -> AsyncIterator[Page]:
        """Yield pages in ascending order of the watermark; see `ingest.model.Adapter`."""
        start = cursor or START
        if self._geodes is not None:
            async for page in self._geodes.pages(http, start):
                yield page
            return
        if self._property == "id":
            if self._query.since or self._query.until:
                raise SourceInvalid(f"{self._source.id}: {self._mapping.id} has no times to limit a harvest by")
            async for page in self._by_id(http, Instant(), start.get("after")):
                yield page
            return
        walk = Walk(self._property, start)
        after = start.get("after")  # a run broke off within a crowded instant
        crowd = Instant(start["watermark"]) if after is not None else None
        while True:
            if crowd is not None:
                async for page in self._by_id(http, crowd, after):
                    yield page
                walk.leave(crowd)
                after = None
            bound = walk.place["watermark"]
            try:
                async for page in self._sweep(http, walk, bound):
                    yield page
                return
            except PagingFailed as failure:
                if not self._can_go_on(walk, failure):
                    return
            crowd = walk.crowd(bound)

    def _can_go_on(self, walk: Walk, failure: PagingFailed) -> bool:
        """False when everything was read after all. Raises UpstreamChanged when there is no way to read the rest."""
        if walk.is_sorted and walk.place["seen"]:
            extra = {"source": self._source.id, "reason": str(failure), "watermark": walk.place["watermark"]}
            log.warning("paging failed, going on from the watermark", extra=extra)
            return True
        if failure.is_all:
            return False
        message = f"{failure}, and the items do not come by {self._property} as asked: no way to read the rest"
        raise UpstreamChanged(f"{self._source.id}: {message}") from failure

    async def _sweep(self, http: httpx.AsyncClient, walk: Walk, bound: str | None) -> AsyncIterator[Page]:
        """Yield what is new from `bound` on, as far as the next links lead. Raises PagingFailed behind the last page."""
        total: int | None = None
        async for features, answer in self._links.chain(http, self._request(self._from(bound))):
            total = total_of(answer) if total is None else total
            new, place = walk.take(features, bound)
            if new:
                yield Page(_records(new), place, total)

    async def _by_id(self, http: httpx.AsyncClient, within: Instant, after: str | None) -> AsyncIterator[Page]:
        """Yield items in the order of their ids. Each search begins with the last id read, so that a filter that does nothing shows."""
        limit = max(self._limit, 2)
        passed: set[str] = set()
        began_again = False
        while True:
            window = replace(within.window, first_id=after)
            body = self._search(window) | {"sortby": [{"field": "id", "direction": "asc"}], "limit": limit}
            features, answer = await self._links.fetch(http, self._request(body))
            if (stranger := within.stranger(features, self._property)) is not None:
                raise self._inseparable(within, f"a search for it answers with {stranger['id']!r} of another")
            if after is not None and (not features or features[0]["id"] != after):
                if began_again:  # once, it may just have been deleted
                    raise self._inseparable(within, f"a search from the id {after!r} on does not begin with it")
                began_again, after = True, None
                passed.clear()
                continue
            rows = features if after is None else features[1:]
            if rows:
                after = rows[-1]["id"]
                if after in passed:
                    raise self._inseparable(within, f"the id {after!r} came again")
                passed.add(after)
                new = [row for row in rows if row["id"] not in within.seen]
                yield Page(_records(new), within.cursor(after), total_of(answer))
            if len(features) < limit:
                return

    def _inseparable(self, within: Instant, why: str) -> UpstreamChanged:
        where = f"more than a page of items at {self._property} = {within.text}" if within.text else "paging by id"
        return UpstreamChanged(f"{self._source.id}: {where}: {why}; they cannot be told apart by paging")

    def _request(self, body: JSON) -> Request:
        url = f"{self._source.url}/search"
        if self._method == "POST":
            return "POST", url, body
        return "GET", str(httpx.URL(url, params=as_get(body))), None

    def _from(self, watermark: str | None) -> JSON:
        """The search for everything from `watermark` on, in its order."""
        times = (self._query.since, instant(watermark) if watermark else None)
        lower = max((time for time in times if time), default=None)
        body = self._search(Window(lower, self._query.until))
        return body | {"sortby": [{"field": self._watermark, "direction": "asc"}], "limit": self._limit}

    def _search(self, window: Window) -> JSON:
        """The search as a POST body, without order and limit."""
        collection = self._mapping.upstream["collection"]
        body: JSON = {"collections": collection if isinstance(collection, list) else [collection]}
        if self._query.bbox is not None:
            body |= area(self._query.bbox)
        return body | bounds(window, self._property, self._filter)


def _records(features: Sequence[JSON]) -> tuple[Record, ...]:
    return tuple(Record(feature["id"], orjson.dumps(feature)) for feature in features)
