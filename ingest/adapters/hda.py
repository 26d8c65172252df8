"""Harmonised Data Access (HDA) v2, as WEkEO offers it.

Source: ecmwf/hda, hda/api.py (2025-12); CS-SI/eodag, wekeo_main.yml and WekeoSearch; WEkEO's help pages. The search knows sensing
times only, pages by an offset and tells how many records there are: a window is whole when no record came on two pages and
as many came as every page told. The terms of a dataset must be accepted once by the account's owner (403 until then).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, ClassVar

import httpx
import orjson

from ingest.adapters.stac_search import instant
from ingest.adapters.windows import Overfull, Sensed, Shifted, Sizes, Window, WindowWalk, limits_of, now_utc, rewound
from ingest.errors import UpstreamChanged
from ingest.http import fetch_object
from ingest.model import JSON, CollectionMapping, Contribution, Cursor, Page, Query, Record, Source
from ingest.normalise import hda as normalise_hda

#: Largest `itemsPerPage` that the service takes (CS-SI/eodag, max_limit).
MAX_LIMIT = 200
#: Longer than any product of these collections: whether a product that reaches over a bound is found is not documented.
MARGIN = timedelta(minutes=1)

_Box = tuple[float, float, float, float]


class Hda:
    """One product type of an HDA dataset.

    `mapping.upstream` has `dataset_id` ("EO:ESA:DAT:SENTINEL-2") and `start` (ISO date: nothing was sensed before) and may have
    `product_type` and `limit`.
    """

    #: A census compares windows of sensing time: nothing else is told.
    AXIS: ClassVar[str] = "sensed"
    REQUIRED_KEYS: ClassVar[frozenset[str]] = frozenset({"dataset_id", "start"})
    KEYS: ClassVar[frozenset[str]] = frozenset({"dataset_id", "start", "product_type", "limit"})

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
        self._limit = min(page_size, int(mapping.upstream.get("limit", MAX_LIMIT)), MAX_LIMIT)
        self._with_total = with_total
        self._now = now
        self._sizes = sizes or Sizes(MARGIN)

    def item(self, record: Record) -> Contribution:
        """Normalise one record; raises RecordRejected."""
        return normalise_hda.contribution(self._source, self._mapping, record.raw)

    def rewound(self, cursor: Cursor, overlap: timedelta, not_after: datetime) -> Cursor:
        """Return the cursor of a new run: `overlap` before what was seen and before `not_after`."""
        return rewound(cursor, overlap, not_after)

    async def pages(self, http: httpx.AsyncClient, cursor: Cursor | None) -> AsyncIterator[Page]:
        """Yield pages window by window, oldest first; `since` and `until` limit sensing times. See `ingest.model.Adapter`."""
        limits = limits_of(self._source.id, self._mapping.upstream["start"], self._query, self._now())
        total: int | None = None
        if cursor is None and self._with_total and limits.begin < limits.end:
            whole = Window(limits.begin, limits.end)
            total = sum([(await self._ask(http, whole, box, 0, 1))[1] for box in self._boxes()])
        walk = WindowWalk(self._source.id, partial(self._read, http), limits, self._sizes, self._page_size)
        async for page in walk.pages(cursor, total):
            yield page

    async def _read(self, http: httpx.AsyncClient, window: Window, cap: int) -> Sequence[Sensed]:
        """Every record of a window, each once. Raises Overfull, Shifted."""
        found: dict[bytes, Sensed] = {}
        for box in self._boxes():
            found |= await self._read_box(http, window, box, cap)
        return list(found.values())

    async def _read_box(
        self, http: httpx.AsyncClient, window: Window, box: _Box | None, cap: int
    ) -> dict[bytes, Sensed]:
        """The records by their bytes: two products of one name are two records."""
        found: dict[bytes, Sensed] = {}
        count, total = 0, None
        while True:
            features, told = await self._ask(http, window, box, count, self._limit)
            rows = [self._checked(feature, window) for feature in features]
            if total is not None and told != total:
                raise Shifted(f"there were {total} records and then {told}")
            total = told
            if total > cap:
                raise Overfull(total)
            new = {raw: Sensed(_begin(row), Record(row["id"], raw)) for row in rows for raw in [orjson.dumps(row)]}
            if new.keys() & found.keys():
                raise Shifted("a record came on two pages")
            found |= new
            count += len(rows)
            if count >= total or not rows:
                break
        if count != total:
            raise Shifted(f"{count} records came of {total} that there are")
        return found

    async def _ask(
        self, http: httpx.AsyncClient, window: Window, box: _Box | None, offset: int, limit: int
    ) -> tuple[list[Any], int]:
        """One page, and how many records the whole window has."""
        upstream = self._mapping.upstream
        begin, end = str(window).split("/")
        body: JSON = {
            "dataset_id": upstream["dataset_id"],
            **({"productType": upstream["product_type"]} if "product_type" in upstream else {}),
            "startdate": begin,
            "enddate": end,
            **({"bbox": list(box)} if box else {}),
            "itemsPerPage": limit,
            "startIndex": offset,
        }
        answer = await fetch_object(http, self._source.id, "POST", f"{self._source.url}/dataaccess/search", json=body)
        features, properties = answer.get("features"), answer.get("properties")
        total = properties.get("totalResults") if isinstance(properties, dict) else None
        if not isinstance(features, list) or not isinstance(total, int) or isinstance(total, bool) or total < 0:
            raise UpstreamChanged(f"{self._source.id}: the answer has no list 'features' or no number 'totalResults'")
        return features, total

    def _checked(self, feature: Any, window: Window) -> JSON:
        """The feature, which has an id, and no times that were not asked for: if they were ignored, every window would give the same.

        Raises:
            UpstreamChanged, Shifted: else.
        """
        if not isinstance(feature, dict) or not isinstance(feature.get("id"), str) or not feature["id"]:
            raise UpstreamChanged(f"{self._source.id}: a feature without id")
        times = _times(feature)
        if times and not window.meets(min(times), max(times)):
            raise Shifted(f"there was a record of {times[0].isoformat()}")
        return feature

    def _boxes(self) -> list[_Box | None]:
        """The area asked for; the two sides of the antimeridian when west lies east of east, as `bbox` cannot say that."""
        if self._query.bbox is None:
            return [None]
        west, south, east, north = self._query.bbox
        return [self._query.bbox] if west <= east else [(west, south, 180.0, north), (-180.0, south, east, north)]


def _times(feature: JSON) -> tuple[datetime, datetime] | None:
    """Begin and end of sensing; None when nobody can read them, which is for the normaliser to say."""
    try:
        return instant(feature["properties"]["startdate"]), instant(feature["properties"]["enddate"])
    except (TypeError, ValueError, KeyError):
        return None


def _begin(feature: JSON) -> datetime | None:
    times = _times(feature)
    return times[0] if times else None
