"""STAC API item search as stac-fastapi-pgstac (CDSE) and stac-server (Earth Search) speak it.

Pages are followed by the `next` links as given, never built (pgstac and stac-server encode them differently;
stac-server gives one even on the last page). A run that broke off resumes by the watermark: a property that says when
the source published or changed an item, asked for in ascending order. A source that does not keep that order is
harvested all the same, but a run that broke off then starts from where it began.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import httpx
import orjson

from ingest.errors import UpstreamChanged
from ingest.http import fetch_object
from ingest.model import JSON, CollectionMapping, Contribution, Cursor, Page, Query, Record, Source
from ingest.normalise import stac as normalise_stac

log = logging.getLogger(__name__)

_Request = tuple[str, str, JSON | None]  # method, URL, JSON body of a POST


class Stac:
    """One collection of a STAC API.

    `mapping.upstream` has `collection` and may have `watermark` ("properties.updated"), `filter` (how the watermark is
    bounded: "cql2", "query", or "datetime" when the watermark is the acquisition itself), `method`, `limit`.
    """

    def __init__(
        self, source: Source, mapping: CollectionMapping, query: Query | None = None, page_size: int = 500
    ) -> None:
        upstream = mapping.upstream
        self._source = source
        self._mapping = mapping
        self._query = query or Query()
        self._limit = min(page_size, int(upstream.get("limit", page_size)))
        self._watermark = str(upstream.get("watermark", "properties.updated"))
        self._property = self._watermark.removeprefix("properties.")
        self._filter = str(upstream.get("filter", "query"))
        self._method = str(upstream.get("method", "POST"))

    def item(self, record: Record) -> Contribution:
        """Normalise one record; raises RecordRejected."""
        return normalise_stac.contribution(self._source, self._mapping, record.raw)

    def rewound(self, cursor: Cursor, overlap: timedelta, not_after: datetime) -> Cursor:
        """Return the cursor of a new run: `overlap` before what was seen and before `not_after`."""
        if cursor["watermark"] is None:
            return cursor
        begin = min(_instant(cursor["watermark"]), not_after) - overlap
        return {"watermark": _time(begin), "seen": []}

    async def pages(self, http: httpx.AsyncClient, cursor: Cursor | None) -> AsyncIterator[Page]:
        """Yield pages in ascending order of the watermark; see `ingest.model.Adapter`."""
        start = cursor or {"watermark": None, "seen": []}
        dropped = frozenset(start["seen"])
        place = start
        request: _Request | None = self._first_request(start["watermark"])
        asked: set[bytes] = set()
        last_ids: list[str] = []
        total: int | None = None
        sorted_so_far = True
        while request is not None:
            key = orjson.dumps(request, option=orjson.OPT_SORT_KEYS)
            if key in asked:
                log.warning("next link leads in a circle", extra={"source": self._source.id})
                return
            asked.add(key)
            answer = await self._fetch(http, request)
            features = [self._checked(feature) for feature in answer["features"]]
            ids = [feature["id"] for feature in features]
            if not features or ids == last_ids:
                return
            last_ids = ids
            total = _total(answer) if total is None else total
            sorted_so_far = sorted_so_far and self._ascends(place["watermark"], features)
            place = self._behind(place, features) if sorted_so_far else start
            new = tuple(feature for feature in features if feature["id"] not in dropped or not self._at(start, feature))
            yield Page(tuple(Record(feature["id"], orjson.dumps(feature)) for feature in new), place, total)
            request = self._next_request(answer, request)

    async def _fetch(self, http: httpx.AsyncClient, request: _Request) -> JSON:
        method, url, body = request
        answer = await fetch_object(http, self._source.id, method, url, **({} if body is None else {"json": body}))
        if not isinstance(answer.get("features"), list):
            raise UpstreamChanged(f"{self._source.id}: the answer has no list 'features'")
        return answer

    def _checked(self, feature: Any) -> JSON:
        if not isinstance(feature, dict) or not isinstance(feature.get("id"), str) or not feature["id"]:
            raise UpstreamChanged(f"{self._source.id}: a feature without id")
        return feature

    def _first_request(self, watermark: str | None) -> _Request:
        body = self._search(watermark)
        url = f"{self._source.url}/search"
        if self._method == "POST":
            return "POST", url, body
        return "GET", str(httpx.URL(url, params=_as_get(body))), None

    def _search(self, watermark: str | None) -> JSON:
        """The search as a POST body."""
        query = self._query
        lower = max((t for t in (query.since, _instant(watermark) if watermark else None) if t), default=None)
        body: JSON = {"collections": [self._mapping.upstream["collection"]], "limit": self._limit}
        body["sortby"] = [{"field": self._watermark, "direction": "asc"}]
        if query.bbox is not None:
            body |= _area(query.bbox)
        return body | self._bounds(lower, query.until)

    def _bounds(self, lower: datetime | None, upper: datetime | None) -> JSON:
        """Bound the watermark, lower end inclusive, upper exclusive, in the source's filter language."""
        if lower is None and upper is None:
            return {}
        if self._filter == "query":
            ends = {"gte": lower, "lt": upper}
            return {"query": {self._property: {name: _time(end) for name, end in ends.items() if end}}}
        if self._filter == "cql2":
            terms = [
                {"op": op, "args": [{"property": self._property}, {"timestamp": _time(end)}]}
                for op, end in ((">=", lower), ("<", upper))
                if end
            ]
            return {"filter-lang": "cql2-json", "filter": terms[0] if len(terms) == 1 else {"op": "and", "args": terms}}
        last = upper - timedelta(microseconds=1) if upper else None  # `datetime` includes both ends
        return {"datetime": f"{_time(lower) if lower else '..'}/{_time(last) if last else '..'}"}

    def _next_request(self, answer: JSON, request: _Request) -> _Request | None:
        links = [link for link in answer.get("links") or [] if isinstance(link, dict) and link.get("rel") == "next"]
        if not links:
            return None
        link = links[0]
        href, method = link.get("href"), str(link.get("method", "GET")).upper()
        if not isinstance(href, str) or method not in ("GET", "POST"):
            raise UpstreamChanged(f"{self._source.id}: a next link that cannot be followed")
        url = httpx.URL(request[1]).join(href)
        if (url.host, url.port) != (httpx.URL(self._source.url).host, httpx.URL(self._source.url).port):
            raise UpstreamChanged(f"{self._source.id}: its next link leads to another host, {url.host}")
        body = link.get("body") if method == "POST" else None
        if link.get("merge"):
            body = {**(request[2] or {}), **(body or {})}
        return method, str(url), body

    def _time_of(self, feature: JSON) -> str | None:
        value = (feature.get("properties") or {}).get(self._property)
        return value if isinstance(value, str) else None

    def _at(self, place: Cursor, feature: JSON) -> bool:
        """True when the feature stands at the cursor's own instant."""
        when = self._time_of(feature)
        return when is not None and _instant(when) == _instant(place["watermark"])

    def _ascends(self, watermark: str | None, features: Sequence[JSON]) -> bool:
        times = [self._time_of(feature) for feature in features]
        if watermark is not None:
            times.insert(0, watermark)
        try:
            instants = [_instant(time or "") for time in times]
        except ValueError:
            return False
        return all(earlier <= later for earlier, later in pairwise(instants))

    def _behind(self, place: Cursor, features: Sequence[JSON]) -> Cursor:
        """The cursor behind the last feature: its instant and every id seen at it."""
        last = self._time_of(features[-1]) or ""
        here: Cursor = {"watermark": last}
        seen = {feature["id"] for feature in features if self._at(here, feature)}
        if place["watermark"] is not None and _instant(place["watermark"]) == _instant(last):
            seen |= set(place["seen"])
        return {"watermark": last, "seen": sorted(seen)}


def _as_get(body: JSON) -> dict[str, str]:
    """The same search as query parameters (STAC API, item search, GET)."""
    out = {"collections": ",".join(body["collections"]), "limit": str(body["limit"])}
    out["sortby"] = ",".join(f"{'-' if key['direction'] == 'desc' else '+'}{key['field']}" for key in body["sortby"])
    for name in ("datetime",):
        if name in body:
            out[name] = body[name]
    if "bbox" in body:
        out["bbox"] = ",".join(str(number) for number in body["bbox"])
    for name in ("intersects", "query"):
        if name in body:
            out[name] = orjson.dumps(body[name]).decode()
    if "filter" in body:
        out |= {"filter-lang": "cql2-text", "filter": _cql2_text(body["filter"])}
    return out


def _cql2_text(term: JSON) -> str:
    if term["op"] == "and":
        return " AND ".join(_cql2_text(part) for part in term["args"])
    name, value = term["args"]
    return f"\"{name['property']}\" {term['op']} TIMESTAMP('{value['timestamp']}')"


def _area(bbox: tuple[float, float, float, float]) -> JSON:
    """A bbox; across the antimeridian two polygons, because pgstac answers such a bbox with the whole world."""
    west, south, east, north = bbox
    if west <= east:
        return {"bbox": list(bbox)}
    sides = ((west, 180.0), (-180.0, east))
    rings = [[[[w, south], [e, south], [e, north], [w, north], [w, south]]] for w, e in sides]
    return {"intersects": {"type": "MultiPolygon", "coordinates": rings}}


def _total(answer: JSON) -> int | None:
    """How many the source says there are: `numberMatched`, or `context.matched` of older servers."""
    context = answer.get("context")
    for value in (answer.get("numberMatched"), context.get("matched") if isinstance(context, dict) else None):
        if isinstance(value, int):
            return value
    return None


def _instant(text: str) -> datetime:
    """Parse RFC 3339; no zone means UTC. Raises ValueError."""
    when = datetime.fromisoformat(text)
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)


def _time(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
