"""OData as the Copernicus Data Space Ecosystem and its relatives speak it.

Source: eu-cdse/documentation, APIs/OData.qmd (2025-03), and what clients found out. `@odata.nextLink` is missing both
at the end and where the next `$skip` would pass the cap, and was seen wrong: we never use it. Instead the harvest walks
along PublicationDate: each page asks for `PublicationDate ge` the last one seen and drops the ids already seen at that
instant, so rows that appear or vanish behind us shift nothing. `$skip` serves only within one instant; one that holds
more rows than `$skip` can reach is walked along ContentDate/Start; one that even so holds too many is an error.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, ClassVar

import httpx
import orjson

from ingest.adapters.protocol import Deletion, DeletionPage
from ingest.errors import UpstreamChanged
from ingest.http import fetch_object
from ingest.model import JSON, CollectionMapping, Contribution, Cursor, Page, Query, Record, Source
from ingest.normalise import odata as normalise_odata

#: Largest `$skip` and `$top` that the server takes (limits since 2024-11-12).
MAX_SKIP = 10_000
MAX_TOP = 1_000
_CONTENT = "ContentDate/Start"


@dataclass(frozen=True, slots=True)
class _Entities:
    """An entity set, the time along which it is walked, and what comes with each entity."""

    name: str
    time: str
    expand: tuple[str, ...] = ()


_PRODUCTS = _Entities("Products", "PublicationDate", ("Attributes", "Assets"))
_DELETED = _Entities("DeletedProducts", "DeletionDate")


@dataclass(frozen=True, slots=True)
class _Position:
    """How far a walk along one time field has come: an instant as the server wrote it, and ids seen at it."""

    instant: str | None = None
    seen: frozenset[str] = frozenset()

    def after(self, rows: Sequence[JSON], field: str) -> _Position:
        """The position behind `rows`, which are not empty and ascend."""
        last = _time_text(rows[-1], field)
        ids = {str(row["Id"]) for row in rows if _instant(_time_text(row, field)) == _instant(last)}
        same = self.instant is not None and _instant(self.instant) == _instant(last)
        return _Position(last, frozenset(ids | self.seen) if same else frozenset(ids))

    def is_behind(self, row: JSON, field: str) -> bool:
        """True for a row that was seen already."""
        if self.instant is None or str(row["Id"]) not in self.seen:
            return False
        return _instant(_time_text(row, field)) == _instant(self.instant)


class _TooManyAtOnce(Exception):
    """One instant holds more rows than `$skip` can reach."""


class OData:
    """One collection of an OData source.

    `mapping.upstream` has `collection` ("SENTINEL-2") and may have `product_type` or `product_types`, `limit`, and
    `deletions = true` where the service has the entity set DeletedProducts.
    """

    REQUIRED_KEYS: ClassVar[frozenset[str]] = frozenset({"collection"})
    KEYS: ClassVar[frozenset[str]] = frozenset({"collection", "product_type", "product_types", "limit", "deletions"})

    def __init__(
        self,
        source: Source,
        mapping: CollectionMapping,
        query: Query | None = None,
        page_size: int = 500,
        *,
        with_total: bool = True,
        max_skip: int = MAX_SKIP,
    ) -> None:
        self._source = source
        self._mapping = mapping
        self._query = query or Query()
        self._top = min(page_size, int(mapping.upstream.get("limit", MAX_TOP)), MAX_TOP)
        self._with_total = with_total
        self._max_skip = max_skip

    def item(self, record: Record) -> Contribution:
        """Normalise one record; raises RecordRejected."""
        return normalise_odata.contribution(self._source, self._mapping, record.raw)

    def rewound(self, cursor: Cursor, overlap: timedelta, not_after: datetime) -> Cursor:
        """Return the cursor of a new run: `overlap` before what was seen and before `not_after`."""
        begin = min(_instant(cursor["published"]), not_after) - overlap
        return {"published": _odata_time(begin), "seen": []}

    async def pages(self, http: httpx.AsyncClient, cursor: Cursor | None) -> AsyncIterator[Page]:
        """Yield pages in order of PublicationDate, oldest first; see `ingest.model.Adapter`."""
        position = _Position()
        total: int | None = None
        if cursor is None:
            total = await self.count(http) if self._with_total else None
        else:
            position = _Position(cursor["published"], frozenset(cursor["seen"]))
        async for rows, behind in self._along(http, _PRODUCTS, position):
            yield self._page(rows, behind, total)

    async def deletions(self, http: httpx.AsyncClient, cursor: Cursor | None) -> AsyncIterator[DeletionPage]:
        """Yield the source's tombstones in order of DeletionDate, oldest first; none when it keeps no list of them."""
        if not self._mapping.upstream.get("deletions"):
            return
        position = _Position(cursor["deleted"], frozenset(cursor["seen"])) if cursor else _Position()
        async for rows, behind in self._along(http, _DELETED, position):
            found = tuple(Deletion(str(row["Id"]), str(row.get("DeletionCause") or "")[:200]) for row in rows)
            yield DeletionPage(found, {"deleted": behind.instant, "seen": sorted(behind.seen)})

    async def _along(
        self, http: httpx.AsyncClient, entities: _Entities, position: _Position
    ) -> AsyncIterator[tuple[Sequence[JSON], _Position]]:
        """Yield new rows in order of the entities' own time, and the position behind them."""
        while True:
            try:
                async for rows, behind in self._walk(http, entities, self._terms(entities), entities.time, position):
                    position = behind
                    yield rows, behind
                return
            except _TooManyAtOnce:
                assert position.instant is not None
                async for rows in self._walk_instant(http, entities, position.instant):
                    yield rows, _Position(position.instant)
                position = _Position(_next_instant(position.instant))

    def _page(self, rows: Sequence[JSON], position: _Position, total: int | None) -> Page:
        records = tuple(Record(str(row["Id"]), orjson.dumps(row)) for row in rows)
        return Page(records, {"published": position.instant, "seen": sorted(position.seen)}, total)

    async def _walk_instant(
        self, http: httpx.AsyncClient, entities: _Entities, instant: str
    ) -> AsyncIterator[Sequence[JSON]]:
        """Yield every row of one crowded instant, in order of ContentDate/Start."""
        terms = [
            *self._terms(entities),
            f"{entities.time} ge {instant}",
            f"{entities.time} lt {_next_instant(instant)}",
        ]
        try:
            async for rows, _ in self._walk(http, entities, terms, _CONTENT, _Position()):
                yield rows
        except _TooManyAtOnce as error:
            message = f"more than {self._max_skip} products with {entities.time} {instant} start at one instant"
            raise UpstreamChanged(f"{self._source.id}: {message}; they cannot be told apart by paging") from error

    async def _walk(
        self, http: httpx.AsyncClient, entities: _Entities, terms: Sequence[str], field: str, position: _Position
    ) -> AsyncIterator[tuple[Sequence[JSON], _Position]]:
        """Yield new rows and the position behind them until the server has no more."""
        skip = 0
        while True:
            if skip > self._max_skip:
                raise _TooManyAtOnce
            bound = [f"{field} ge {position.instant}"] if position.instant else []
            rows = await self._ask(http, entities, [*terms, *bound], field, skip)
            self._check_order(rows, field, position)
            new = [row for row in rows if not position.is_behind(row, field)]
            before = position
            if rows:
                position = position.after(rows, field)
            if new:
                yield new, position
            if len(rows) < self._top:
                return
            moved = before.instant is None or _instant(before.instant) != _instant(position.instant or "")
            skip = 0 if moved else skip + len(rows)

    async def _ask(
        self, http: httpx.AsyncClient, entities: _Entities, terms: Sequence[str], field: str, skip: int
    ) -> list[JSON]:
        parameters = [
            ("$filter", " and ".join(terms)),
            ("$orderby", f"{field} asc"),
            ("$top", str(self._top)),
            ("$skip", str(skip)),
            *(("$expand", name) for name in entities.expand),
        ]
        answer = await self._fetch(http, entities.name, parameters)
        return [self._checked(row) for row in answer["value"]]

    async def count(self, http: httpx.AsyncClient) -> int | None:
        """How many there are by the source's word: an estimate, slow on the server's side."""
        parameters = [("$filter", " and ".join(self._terms(_PRODUCTS))), ("$top", "1"), ("$count", "True")]
        count = (await self._fetch(http, _PRODUCTS.name, parameters)).get("@odata.count")
        return count if isinstance(count, int) else None

    async def _fetch(self, http: httpx.AsyncClient, entities: str, parameters: list[tuple[str, str]]) -> JSON:
        url = f"{self._source.url}/{entities}"
        answer = await fetch_object(http, self._source.id, "GET", url, params=parameters)
        if not isinstance(answer.get("value"), list):
            raise UpstreamChanged(f"{self._source.id}: the answer has no list 'value'")
        return answer

    def _checked(self, row: Any) -> JSON:
        if not isinstance(row, dict) or not isinstance(row.get("Id"), str) or not row["Id"]:
            raise UpstreamChanged(f"{self._source.id}: a product without Id")
        return row

    def _check_order(self, rows: Sequence[JSON], field: str, position: _Position) -> None:
        """Paging by time is lossless only while the server keeps to the order and the bound that we asked for."""
        try:
            times = [_instant(_time_text(row, field)) for row in rows]
        except (KeyError, TypeError, ValueError) as error:
            raise UpstreamChanged(f"{self._source.id}: a product without a readable {field}") from error
        bound = [_instant(position.instant)] if position.instant else []
        if any(earlier > later for earlier, later in pairwise([*bound, *times])):
            raise UpstreamChanged(f"{self._source.id}: products do not come in the order of {field} that we asked for")

    def _terms(self, entities: _Entities) -> list[str]:
        upstream, query = self._mapping.upstream, self._query
        terms = [f"Collection/Name eq {_quoted(upstream['collection'])}"]
        types = upstream.get("product_types") or [upstream[key] for key in ("product_type",) if key in upstream]
        if types:
            terms.append(_any_of([_attribute_is("productType", kind) for kind in types]))
        if query.since is not None:
            terms.append(f"{entities.time} ge {_odata_time(query.since)}")
        if query.until is not None:
            terms.append(f"{entities.time} lt {_odata_time(query.until)}")
        if query.bbox is not None:
            terms.append(_any_of([_intersects(box) for box in _boxes(query.bbox)]))
        return terms


def _any_of(terms: Sequence[str]) -> str:
    return terms[0] if len(terms) == 1 else f"({' or '.join(terms)})"


def _quoted(text: str) -> str:
    escaped = str(text).replace("'", "''")
    return f"'{escaped}'"


def _attribute_is(name: str, value: str) -> str:
    kind = "OData.CSC.StringAttribute"
    return f"Attributes/{kind}/any(att:att/Name eq {_quoted(name)} and att/{kind}/Value eq {_quoted(value)})"


def _boxes(bbox: tuple[float, float, float, float]) -> list[tuple[float, float, float, float]]:
    """One box, or the two sides of the antimeridian when west lies east of east."""
    west, south, east, north = bbox
    return [bbox] if west <= east else [(west, south, 180.0, north), (-180.0, south, east, north)]


def _intersects(box: tuple[float, float, float, float]) -> str:
    west, south, east, north = box
    ring = ",".join(
        f"{x:.6f} {y:.6f}" for x, y in ((west, south), (east, south), (east, north), (west, north), (west, south))
    )
    return f"OData.CSC.Intersects(area=geography'SRID=4326;POLYGON(({ring}))')"


def _odata_time(when: datetime) -> str:
    """UTC with Z: without a zone the server once took Warsaw time."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _time_text(row: JSON, field: str) -> str:
    """The time as the server wrote it, checked to be one.

    Raises:
        KeyError, TypeError, ValueError: it is missing or unreadable.
    """
    value: Any = row
    for part in field.split("/"):
        value = value[part]
    if not isinstance(value, str):
        raise TypeError(field)
    return value


def _instant(text: str) -> datetime:
    """Parse RFC 3339 freely (3 or 6 fractional digits, Z or offset); no zone means UTC."""
    when = datetime.fromisoformat(text)
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)


def _next_instant(text: str) -> str:
    """The next instant that the server could write in the precision of `text`."""
    fraction = text.partition(".")[2].rstrip("Zz").partition("+")[0]
    step = (
        timedelta(seconds=1)
        if not fraction
        else timedelta(milliseconds=1)
        if len(fraction) <= 3
        else timedelta(microseconds=1)
    )
    return _odata_time(_instant(text) + step)
