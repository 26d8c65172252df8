"""ONDA's catalogue: OData v4 in form, a full text search behind `$search`.

The service is closed and clients dropped it; this is for archives and copies of it. Sources: CS-SI/eodag's recorded answer
and its test of the query's form; onda-dias.eu, "Query string options". It is walked along the beginning of sensing, the
one time that is known to be ordered by: what arrives later with older data than the overlap needs a new walk.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any, ClassVar

import httpx
import orjson

from ingest.adapters.questions import (
    any_of,
    order_of,
    ranges_of,
    row_of,
    sides_of,
    texts,
    time_text,
    url_of,
    whole_number,
    wkt_of,
)
from ingest.adapters.walk import MAX_ROWS, Answer, Position, Question, Row, Walk
from ingest.errors import RecordRejected, SourceInvalid, UpstreamChanged
from ingest.http import fetch_object
from ingest.model import JSON, CollectionMapping, Contribution, Cursor, Page, Query, Record, Source
from ingest.normalise import onda as normalise_onda
from ingest.sanitise import parse_time

#: Above this many rows the server answers 200 and an error (eodag, 2021-03).
MAX_TOP = 2_000
_TIMES = ("beginPosition",)
_WORD = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


class Onda:
    """One collection of ONDA's catalogue.

    `mapping.upstream` has `product_type` or `product_types` ("S2MSI1C") and may have `limit`.
    """

    REQUIRED_KEYS: ClassVar[frozenset[str]] = frozenset()
    KEYS: ClassVar[frozenset[str]] = frozenset({"product_type", "product_types", "limit"})

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
        """Raises SourceInvalid: the mapping does not say which products."""
        self._source = source
        self._mapping = mapping
        self._query = query or Query()
        self._top = min(page_size, int(mapping.upstream.get("limit", MAX_TOP)), MAX_TOP)
        self._with_total = with_total
        self._max_rows = max_rows
        self._terms = self._static_terms(mapping.upstream)

    def item(self, record: Record) -> Contribution:
        """Normalise one record; raises RecordRejected."""
        return normalise_onda.contribution(self._source, self._mapping, record.raw)

    def rewound(self, cursor: Cursor, overlap: timedelta, not_after: datetime) -> Cursor:
        """Return the cursor of a new run: `overlap` before what was seen and before `not_after`."""
        return {"begun": time_text(min(parse_time(cursor["begun"]), not_after) - overlap), "seen": []}

    async def pages(self, http: httpx.AsyncClient, cursor: Cursor | None) -> AsyncIterator[Page]:
        """Yield pages in order of the beginning of sensing, oldest first; see `ingest.model.Adapter`."""

        async def ask(question: Question) -> Answer:
            return await self._ask(http, question)

        with_total = self._with_total and cursor is None
        walk = Walk(self._source.id, ask, _TIMES, with_total=with_total, max_rows=self._max_rows)
        start = Position()
        if cursor is not None:
            start = Position(parse_time(cursor["begun"]), frozenset(cursor["seen"]))
        async for rows, position in walk.steps(start):
            assert position.at is not None
            records = tuple(Record(row.id, orjson.dumps(row.raw)) for row in rows)
            yield Page(records, {"begun": time_text(position.at), "seen": sorted(position.seen)}, walk.total)

    def _static_terms(self, upstream: JSON) -> list[str]:
        types = texts(self._source, upstream, "product_types", "product_type")
        if not types or not all(_WORD.fullmatch(one) for one in types):
            raise SourceInvalid(f"{self._source.id}: upstream.product_type must be a type, or product_types several")
        terms = [any_of([f"productType:{one}" for one in types], "OR")]
        since, until = ranges_of(("creationDate",), Question(), self._query).get("creationDate", (None, None))
        if since or until:
            terms.append(_range("creationDate", since, until))
        if self._query.bbox is not None:
            terms.append(
                any_of([f'footprint:"Intersects({wkt_of(side)})"' for side in sides_of(self._query.bbox)], "OR")
            )
        return terms

    async def _ask(self, http: httpx.AsyncClient, question: Question) -> Answer:
        ranges = [_range(name, *bounds) for name, bounds in ranges_of(_TIMES, question, Query()).items()]
        parameters = {
            "$search": f'"{" AND ".join([*self._terms, *ranges])}"',  # quotes within are not escaped
            "$orderby": f"{order_of(_TIMES, question)} asc",
            "$top": str(self._top),
            "$skip": str(question.skip),
            "$count": "true" if question.with_total else "false",
            "$format": "json",
        }
        answer = await fetch_object(http, self._source.id, "GET", url_of(self._source, "/Products", parameters))
        if not isinstance(answer.get("value"), list):
            raise UpstreamChanged(f"{self._source.id}: the answer has no list 'value'")
        total = answer.get("@odata.count")
        rows = [self._row(record) for record in answer["value"]]
        return Answer(rows, None if total is None else whole_number(self._source, total))

    def _row(self, record: Any) -> Row:
        try:
            return row_of(record["id"], (parse_time(record["beginPosition"]),), record)
        except (RecordRejected, KeyError, TypeError) as error:
            raise UpstreamChanged(f"{self._source.id}: a product without id or beginPosition ({error})") from error


def _range(name: str, low: datetime | None, high: datetime | None) -> str:
    return f"{name}:[{time_text(low) if low else '*'} TO {time_text(high) if high else '*'}]"
