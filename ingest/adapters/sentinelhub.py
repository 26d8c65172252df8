"""Sentinel Hub Catalog API 1.0.0, as the Copernicus Data Space Ecosystem and Sentinel Hub on AWS offer it.

Source: eu-cdse/documentation, APIs/SentinelHub/Catalog.qmd and openapi.v1.yaml; sentinel-hub/sentinelhub-py, api/catalog.py.
`datetime` is required and is the sensing time; there is no publication date, no count, no order to ask for (newest first was
seen). `context.next` is an offset into whatever the search gives at that moment. So every page but the first is asked
for from the last row of the page before on: when that row is no longer the first, rows came or went, and the window is read again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, ClassVar

import httpx
import orjson

from ingest.adapters.stac_search import area, instant
from ingest.adapters.windows import Overfull, Sensed, Shifted, Sizes, Window, WindowWalk, limits_of, now_utc, rewound
from ingest.errors import UpstreamChanged
from ingest.http import fetch_object
from ingest.model import JSON, CollectionMapping, Contribution, Cursor, Page, Query, Record, Source
from ingest.normalise import sentinelhub as normalise_sentinelhub

#: Largest `limit` that the service takes.
MAX_LIMIT = 100
#: Sensing times are whole seconds on AWS and milliseconds in the Data Space Ecosystem.
MARGIN = timedelta(seconds=1)


class SentinelHub:
    """One collection of a Sentinel Hub catalogue.

    `mapping.upstream` has `collection` ("sentinel-2-l2a") and `start` (ISO date: nothing was sensed before) and may have `limit`.
    """

    #: A census compares windows of sensing time: nothing else is told.
    AXIS: ClassVar[str] = "sensed"
    REQUIRED_KEYS: ClassVar[frozenset[str]] = frozenset({"collection", "start"})
    KEYS: ClassVar[frozenset[str]] = frozenset({"collection", "start", "limit"})

    def __init__(
        self,
        source: Source,
        mapping: CollectionMapping,
        query: Query | None = None,
        page_size: int = 500,
        *,
        with_total: bool = True,
        now: Callable[[], datetime] = now_utc,
        sizes: Sizes | None = None,
    ) -> None:
        self._source = source
        self._mapping = mapping
        self._query = query or Query()
        self._page_size = page_size
        # A page repeats a row of the one before, so one row a page would never get on.
        self._limit = max(2, min(page_size, int(mapping.upstream.get("limit", MAX_LIMIT)), MAX_LIMIT))
        self._now = now
        self._sizes = sizes or Sizes(MARGIN)

    def item(self, record: Record) -> Contribution:
        """Normalise one record; raises RecordRejected."""
        return normalise_sentinelhub.contribution(self._source, self._mapping, record.raw)

    def rewound(self, cursor: Cursor, overlap: timedelta, not_after: datetime) -> Cursor:
        """Return the cursor of a new run: `overlap` before what was seen and before `not_after`."""
        return rewound(cursor, overlap, not_after)

    async def pages(self, http: httpx.AsyncClient, cursor: Cursor | None) -> AsyncIterator[Page]:
        """Yield pages window by window, oldest first; `since` and `until` limit sensing times. See `ingest.model.Adapter`."""
        limits = limits_of(self._source.id, self._mapping.upstream["start"], self._query, self._now())
        walk = WindowWalk(self._source.id, partial(self._read, http), limits, self._sizes, self._page_size)
        async for page in walk.pages(cursor):
            yield page

    async def _read(self, http: httpx.AsyncClient, window: Window, cap: int) -> Sequence[Sensed]:
        """Every record of a window, each once. Raises Overfull, Shifted."""
        found: dict[bytes, Sensed] = {}
        count = 0  # rows so far, one that the catalogue holds twice being two
        last: str | None = None
        while True:
            answer = await self._ask(http, window, max(0, count - 1))
            rows = [self._checked(feature, window) for feature in answer["features"]]
            is_last = self._is_last(answer["context"], len(rows))
            if last is not None:
                if not rows or rows[0]["id"] != last:
                    raise Shifted("a page did not begin where the one before ended")
                if len(rows) == 1 and not is_last:
                    raise Shifted("there was a next page and nothing on it")
                rows = rows[1:]
            new = {raw: Sensed(_time(row), Record(row["id"], raw)) for row in rows for raw in [orjson.dumps(row)]}
            if new.keys() & found.keys():
                raise Shifted("a record came on two pages")
            found |= new
            count += len(rows)
            if is_last:
                return list(found.values())
            if count > cap:
                raise Overfull(count)
            if not count:
                raise Shifted("there was a next page behind an empty one")
            last = rows[-1]["id"]

    async def _ask(self, http: httpx.AsyncClient, window: Window, offset: int) -> JSON:
        body: JSON = {
            "collections": [self._mapping.upstream["collection"]],
            "datetime": str(window),
            "limit": self._limit,
            **(area(self._query.bbox) if self._query.bbox else {}),
            **({"next": offset} if offset else {}),
        }
        answer = await fetch_object(http, self._source.id, "POST", f"{self._source.url}/search", json=body)
        if not isinstance(answer.get("features"), list) or not isinstance(answer.get("context"), dict):
            raise UpstreamChanged(f"{self._source.id}: the answer has no list 'features' or no object 'context'")
        return answer

    def _checked(self, feature: Any, window: Window) -> JSON:
        """The feature, which has an id, and no time that was not asked for: if `datetime` were ignored, every window would give the same.

        Raises:
            UpstreamChanged, Shifted: else.
        """
        if not isinstance(feature, dict) or not isinstance(feature.get("id"), str) or not feature["id"]:
            raise UpstreamChanged(f"{self._source.id}: a feature without id")
        when = _time(feature)
        if when is not None and not window.meets(when, when):
            raise Shifted(f"there was a record of {when.isoformat()}")
        return feature

    def _is_last(self, context: JSON, rows: int) -> bool:
        """Whether the search ends with these rows. A full page is never believed to be the last: the next one shows."""
        following = context.get("next")
        if following is not None and (not isinstance(following, int) or isinstance(following, bool)):
            raise UpstreamChanged(f"{self._source.id}: context.next is {str(following)[:40]!r}, no offset")
        return following is None and rows < self._limit


def _time(feature: JSON) -> datetime | None:
    """A sensing time; None when nobody can read it, which is for the normaliser to say."""
    try:
        return instant(feature["properties"]["datetime"])
    except (TypeError, ValueError, KeyError):
        return None
