"""DHuS, the software of SciHub, as national mirrors run it: full text search in JSON ("solr"), or OData v1 ("odata-v1").

Sources: answers recorded by sentinelsat; SentinelDataHub/dhus-core SearchController.java and olingo/v1. Both dialects are
walked along the ingestion date (see `ingest.adapters.walk`). The search index lags behind that date, on some hubs for
hours: give collections an overlap of days. Equal dates have no order, in neither dialect.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any, ClassVar, Protocol

import httpx
import orjson
from shapely.geometry import box, shape

from ingest.adapters.questions import (
    any_of,
    order_of,
    phrase,
    ranges_of,
    row_of,
    sides_of,
    texts,
    time_text,
    url_of,
    whole_number,
    wkt_of,
)  # fmt: skip
from ingest.adapters.walk import MAX_ROWS, Answer, Position, Question, Row, Walk
from ingest.errors import RecordRejected, SourceInvalid, UpstreamChanged
from ingest.footprint import clean
from ingest.http import fetch_object
from ingest.model import JSON, CollectionMapping, Contribution, Cursor, Page, Query, Record, Source
from ingest.normalise import dhus as normalise_dhus
from ingest.normalise.footprints import gml_geometry
from ingest.sanitise import parse_time

#: More rows than this are answered with an error (an operator may set less: `upstream.limit`).
MAX_TOP = 100


class _Dialect(Protocol):
    """How to put a question."""

    TIMES: ClassVar[tuple[str, ...]]

    def __init__(self, source: Source, upstream: JSON, query: Query, top: int) -> None: ...

    async def ask(self, http: httpx.AsyncClient, question: Question) -> Answer: ...

    def is_wanted(self, raw: JSON) -> bool:
        """False for rows outside the query that the server could not leave out."""
        ...


class Dhus:
    """One collection of a DHuS; `source.url` is the hub, without `/search` and `/odata/v1`.

    `mapping.upstream` has `product_type` or `product_types` ("S2MSI1C", "GRD") and may have `platform` ("Sentinel-2"); for
    `dialect = "odata-v1"`, which knows no types, `name_contains` ("_MSIL1C_") or a list of such. It may have `limit`.
    """

    REQUIRED_KEYS: ClassVar[frozenset[str]] = frozenset()
    KEYS: ClassVar[frozenset[str]] = frozenset(
        {"dialect", "platform", "product_type", "product_types", "name_contains", "limit"}
    )

    def __init__(
        self,
        source: Source,
        mapping: CollectionMapping,
        query: Query | None = None,
        page_size: int = 500,
        *,
        with_total: bool = True,
        max_rows: int = MAX_ROWS,
    ) -> None:
        """Raises SourceInvalid: the mapping does not say which products, or asks what the dialect does not know."""
        upstream = mapping.upstream
        self._source = source
        self._mapping = mapping
        self._with_total = with_total
        self._max_rows = max_rows
        dialect = str(upstream.get("dialect", "solr"))
        if dialect not in _DIALECTS:
            raise SourceInvalid(f"{source.id}: upstream.dialect = {dialect!r} is none of: {', '.join(_DIALECTS)}")
        top = min(page_size, int(upstream.get("limit", MAX_TOP)), MAX_TOP)
        self._dialect = _DIALECTS[dialect](source, upstream, query or Query(), top)

    def item(self, record: Record) -> Contribution:
        """Normalise one record; raises RecordRejected."""
        return normalise_dhus.contribution(self._source, self._mapping, record.raw)

    def rewound(self, cursor: Cursor, overlap: timedelta, not_after: datetime) -> Cursor:
        """Return the cursor of a new run: `overlap` before what was seen and before `not_after`."""
        return {"ingested": time_text(min(parse_time(cursor["ingested"]), not_after) - overlap), "seen": []}

    async def pages(self, http: httpx.AsyncClient, cursor: Cursor | None) -> AsyncIterator[Page]:
        """Yield pages in order of the ingestion date, oldest first; see `ingest.model.Adapter`."""

        async def ask(question: Question) -> Answer:
            return await self._dialect.ask(http, question)

        with_total = self._with_total and cursor is None
        walk = Walk(self._source.id, ask, self._dialect.TIMES, with_total=with_total, max_rows=self._max_rows)
        start = Position()
        if cursor is not None:
            start = Position(parse_time(cursor["ingested"]), frozenset(cursor["seen"]))
        async for rows, position in walk.steps(start):
            assert position.at is not None
            wanted = [row for row in rows if self._dialect.is_wanted(row.raw)]
            records = tuple(Record(row.id, orjson.dumps(row.raw)) for row in wanted)
            place: Cursor = {"ingested": time_text(position.at), "seen": sorted(position.seen)}
            yield Page(records, place, walk.total)


class _Solr:
    """`/search?q=...&format=json`. Errors come with status 200; every answer has the total."""

    TIMES: ClassVar[tuple[str, ...]] = ("ingestiondate", "beginposition")

    def __init__(self, source: Source, upstream: JSON, query: Query, top: int) -> None:
        types = texts(source, upstream, "product_types", "product_type")
        platforms = texts(source, upstream, "platform")
        if not (types or platforms) or "name_contains" in upstream:
            raise SourceInvalid(
                f"{source.id}: the dialect 'solr' needs upstream.product_type and knows no name_contains"
            )
        self._source = source
        self._query = query
        self._top = top
        self._terms = [
            any_of([f"{field}:{phrase(value)}" for value in values], "OR")
            for field, values in (("platformname", platforms), ("producttype", types))
            if values
        ]
        if query.bbox is not None:
            self._terms.append(
                any_of([f'footprint:"Intersects({wkt_of(side)})"' for side in sides_of(query.bbox)], "OR")
            )

    async def ask(self, http: httpx.AsyncClient, question: Question) -> Answer:
        ranges = [
            f"{field}:[{phrase(time_text(low)) if low else '*'} TO {phrase(time_text(high)) if high else '*'}]"
            for field, (low, high) in ranges_of(self.TIMES, question, self._query).items()
        ]
        parameters = {
            "q": " AND ".join([*self._terms, *ranges]),
            "rows": str(self._top),
            "start": str(question.skip),
            "orderby": f"{order_of(self.TIMES, question)} asc",
            "format": "json",
        }
        url = url_of(self._source, "/search", parameters)
        feed = (await fetch_object(http, self._source.id, "GET", url)).get("feed")
        if not isinstance(feed, dict) or "error" in feed:
            error = feed.get("error") if isinstance(feed, dict) else "no feed"
            raise UpstreamChanged(f"{self._source.id}: the search answered {str(error)[:300]}")
        entries = feed.get("entry") or []
        rows = [self._row(entry, question) for entry in (entries if isinstance(entries, list) else [entries])]
        return Answer(rows, whole_number(self._source, feed.get("opensearch:totalResults")))

    def is_wanted(self, raw: JSON) -> bool:
        return True

    def _row(self, entry: Any, question: Question) -> Row:
        try:
            dates = normalise_dhus.group(entry, "date")
            times = tuple(parse_time(dates.get(name)) for name in self.TIMES[: len(question.fixed) + 1])
            return row_of(entry["id"], times, entry)
        except (RecordRejected, KeyError, TypeError, AttributeError) as error:
            raise UpstreamChanged(f"{self._source.id}: an entry without id or readable date ({error})") from error


class _ODataV1:
    """`/odata/v1/Products`. It cannot search by place; counting costs the server a query of its own."""

    TIMES: ClassVar[tuple[str, ...]] = ("IngestionDate", "ContentDate/Start")

    def __init__(self, source: Source, upstream: JSON, query: Query, top: int) -> None:
        parts = texts(source, upstream, "name_contains")
        if not parts or {"platform", "product_type", "product_types"} & set(upstream):
            raise SourceInvalid(
                f"{source.id}: the dialect 'odata-v1' needs upstream.name_contains and knows nothing else"
            )
        self._source = source
        self._query = query
        self._top = top
        self._terms = [any_of([f"substringof({_string(part)},Name)" for part in parts], "or")]
        self._area = [box(*side) for side in sides_of(query.bbox)] if query.bbox else []

    async def ask(self, http: httpx.AsyncClient, question: Question) -> Answer:
        bounds = [
            f"{field} {op} datetime'{time_text(at)[:-1]}'"  # no zone: they take UTC
            for field, (low, high) in ranges_of(self.TIMES, question, self._query).items()
            for op, at in (("ge", low), ("le", high))
            if at is not None
        ]
        parameters = {
            "$filter": " and ".join([*self._terms, *bounds]),
            "$orderby": f"{order_of(self.TIMES, question)} asc",
            "$top": str(self._top),
            "$skip": str(question.skip),
            "$format": "json",
        }
        if question.with_total:
            parameters["$inlinecount"] = "allpages"
        url = url_of(self._source, "/odata/v1/Products", parameters)
        answer = (await fetch_object(http, self._source.id, "GET", url)).get("d")
        if not isinstance(answer, dict) or not isinstance(answer.get("results"), list):
            raise UpstreamChanged(f"{self._source.id}: the answer has no list 'd.results'")
        rows = [self._row(entity, question) for entity in answer["results"]]
        total = answer.get("__count")
        return Answer(rows, None if total is None else whole_number(self._source, total))

    def is_wanted(self, raw: JSON) -> bool:
        """Compare the footprint with the query's area; one that cannot be read is left to normalising."""
        if not self._area:
            return True
        try:
            footprint = shape(clean(gml_geometry(raw.get("ContentGeometry")))[0])
        except (RecordRejected, TypeError):
            return True
        return any(footprint.intersects(side) for side in self._area)

    def _row(self, entity: Any, question: Question) -> Row:
        try:
            times = [normalise_dhus.date_of(entity["IngestionDate"])]
            if question.fixed:
                times.append(normalise_dhus.date_of(entity["ContentDate"]["Start"]))
            return row_of(entity["Id"], tuple(times), entity)
        except (RecordRejected, KeyError, TypeError) as error:
            raise UpstreamChanged(f"{self._source.id}: a product without Id or readable date ({error})") from error


_DIALECTS: dict[str, type[_Dialect]] = {"solr": _Solr, "odata-v1": _ODataV1}


def _string(text: str) -> str:
    """A string of OData."""
    escaped = text.replace("'", "''")
    return f"'{escaped}'"
