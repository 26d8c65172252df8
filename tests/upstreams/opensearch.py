"""The OpenSearch side: resto as Copernicus ran it, and resto 2 as mirrors run it, with their quirks.

Copernicus: unknown parameters are refused; `itemsPerPage` echoes what was asked, though no page is longer than 1000; no count
unless `exactCount=1`; nothing behind offset 10000; a next link on every full page. resto 2: unknown parameters are ignored; newest
first, whatever is asked; pages are cut to 500; both `startDate` and `completionDate` bound the start; counts are estimates when large.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from hashlib import blake2b
from typing import Any
from urllib.parse import urlencode
from xml.sax.saxutils import quoteattr

import shapely
from shapely.geometry import shape
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.upstreams.answers import json_answer, service_root
from tests.upstreams.opensearch_index import TIMES, Bound, Group
from tests.upstreams.opensearch_records import RESTO2_COLLECTIONS, SHORT_TYPES, copernicus_feature, resto2_feature
from tests.upstreams.products import Product

#: Other names of collections.
ALIASES = {"Sentinel1": "SENTINEL-1", "Sentinel2": "SENTINEL-2"}
_PAGING = ("maxRecords", "index", "page")
_COMMON = ("startDate", "completionDate", "updated", "productType", "platform", "identifier", "box", "geometry")


@dataclass(frozen=True)
class Dialect:
    """What tells the two apart. `bounds`: parameter -> time that it bounds, and whether from below."""

    default_records: int
    most_records: int
    refused_records: int
    parameters: tuple[str, ...]
    bounds: dict[str, tuple[str, bool]]
    feature: Callable[[Product, str, int], dict[str, Any]]

    @property
    def is_copernicus(self) -> bool:
        return self.feature is copernicus_feature


COPERNICUS = Dialect(
    20, 1000, 2000,
    (*_PAGING, *_COMMON, "publishedAfter", "publishedBefore", "sortParam", "sortOrder", "exactCount", "status"),
    {"startDate": ("startDate", True), "completionDate": ("completionDate", False), "updated": ("updated", True),
     "publishedAfter": ("published", True), "publishedBefore": ("published", False)},
    copernicus_feature,
)  # fmt: skip
RESTO2 = Dialect(
    50, 500, 10**9, (*_PAGING, *_COMMON),
    {"startDate": ("startDate", True), "completionDate": ("startDate", False), "updated": ("updated", True)},
    resto2_feature,
)  # fmt: skip


class _Refused(Exception):
    def __init__(self, status: int, message: str, detail: Any = None) -> None:
        super().__init__(message)
        body: dict[str, Any] = {"ErrorMessage": message, "ErrorCode": status}
        self.status = status
        self.body = {"detail": {**body, "ErrorDetail": detail, "RequestID": "00000000-0000-4000-8000-000000000000"}}


class RestoService:
    """Answers requests below the service root.

    Args:
        digits: fractional digits of times in answers; searches are exact.
        includes: whether bounds include themselves, which no manual says of publication.
        has_order: whether equal times have an order; without, each answer has its own, as PostgreSQL may.
    """

    def __init__(
        self, products: Sequence[Product], dialect: Dialect = COPERNICUS, *, digits: int = 6, includes: bool = True,
        most_records: int | None = None, max_offset: int = 10_000, has_order: bool = True,
    ) -> None:  # fmt: skip
        self.questions: list[dict[str, str]] = []
        self._dialect = dialect
        self._digits = digits
        self._includes = includes
        self._most_records = most_records or dialect.most_records
        self._max_offset = max_offset
        self._has_order = has_order
        self.offer(products)

    def offer(self, products: Sequence[Product]) -> None:
        """Offer these from now on."""
        self.offered = list(products)
        self._by_id = {product.id: product for product in products}
        self._groups: dict[tuple[str, str], Group] = {}
        self.__dict__.pop("_tree", None)
        for product in self._by_id.values():
            for kind in {"", product.product_type, SHORT_TYPES.get(product.product_type, "")}:
                self._groups.setdefault((self._collection_of(product), kind), Group()).products.append(product)

    def routes(self) -> list[Route]:
        """Routes of the service, to be mounted at its root."""
        return [
            Route("/api/collections/{collection}/search.json", self.search),
            Route("/api/collections/{collection}/describe.xml", self.describe),
            Route("/collections/{collection}/{id}.json", self.feature),
        ]

    async def search(self, request: Request) -> Response:
        """`GET /api/collections/{collection}/search.json`"""
        query = dict(request.query_params)
        self.questions.append(query)
        try:
            return json_answer(self._page(request, self._known(request), query))
        except _Refused as error:
            return json_answer(error.body, error.status)

    async def feature(self, request: Request) -> Response:
        """`GET /collections/{collection}/{id}.json`"""
        found = self._by_id.get(request.path_params["id"])
        if found is None:
            return json_answer({"detail": {"ErrorMessage": "loadFromStore - Not Found", "ErrorCode": 404}}, 404)
        return json_answer(self._dialect.feature(found, service_root(request), self._digits))

    async def describe(self, request: Request) -> Response:
        """`GET /api/collections/{collection}/describe.xml`"""
        try:
            collection = self._known(request)
        except _Refused as error:
            return json_answer(error.body, error.status)
        template = "&".join(f"{name}={{{name}?}}" for name in self._dialect.parameters)
        address = quoteattr(f"{service_root(request)}/api/collections/{collection}/search.json?{template}")
        names = "".join(f"<parameters:Parameter name={quoteattr(name)}/>" for name in self._dialect.parameters)
        return Response(
            '<?xml version="1.0" encoding="UTF-8"?>\n<OpenSearchDescription xmlns="http://a9.com/-/spec/opensearch/1.1/" '
            'xmlns:parameters="http://a9.com/-/spec/opensearch/extensions/parameters/1.0/">'
            f"<ShortName>{collection}</ShortName><Description>Invented products</Description>"
            f'<Url type="application/json" rel="results" template={address}>{names}</Url></OpenSearchDescription>\n',
            media_type="application/opensearchdescription+xml",
        )

    def _collection_of(self, product: Product) -> str:
        return product.collection if self._dialect.is_copernicus else RESTO2_COLLECTIONS[product.collection]

    def _known(self, request: Request) -> str:
        name = str(request.path_params["collection"])
        name = ALIASES.get(name, name)
        if name not in (RESTO2_COLLECTIONS if self._dialect.is_copernicus else RESTO2_COLLECTIONS.values()):
            raise _Refused(404, "Unknown collection.", [{"loc": ["collection"], "msg": "Collection does not exist."}])
        return name

    def _page(self, request: Request, collection: str, query: dict[str, str]) -> dict[str, Any]:
        is_copernicus = self._dialect.is_copernicus
        unknown = sorted(set(query) - set(self._dialect.parameters))
        if unknown and is_copernicus:
            raise _Refused(
                400, "Unknown query parameter(s).", {"loc": unknown, "msg": "Query parameters do not exist."}
            )
        asked = _number(query, "maxRecords", self._dialect.default_records, self._dialect.refused_records)
        records = min(asked, self._most_records)
        page, index = _number(query, "page", 1), _number(query, "index", 1)
        offset = (page - 1) * records + index - 1
        if is_copernicus and offset >= self._max_offset:
            message = "The '(page - 1) * maxRecords + index - 1' should be less than 10000."
            raise _Refused(400, "Validation error.", [{"loc": ["page", "maxRecords", "index"], "msg": message}])
        rows = self._rows(collection, query)
        found = [] if offset >= self._max_offset else rows[offset : offset + records]
        root = service_root(request)
        about: dict[str, Any] = {"id": "00000000-0000-4000-8000-000000000000", "startIndex": offset + 1}
        if is_copernicus:
            is_counted = query.get("exactCount") == "1"
            about |= {"totalResults": len(rows) if is_counted else None, "exactCount": int(is_counted)}
            about["itemsPerPage"] = asked
        else:
            is_exact = len(rows) < 10 * self._dialect.default_records
            about |= {"totalResults": len(rows) if is_exact else len(rows) * 9 // 10, "exactCount": is_exact}
            about |= {"itemsPerPage": len(found), "totalItemsPerPage": str(records)}
        about["links"] = _links(f"{root}/api/collections/{collection}", query, page, is_full=len(found) == records)
        features = [self._dialect.feature(product, root, self._digits) for product in found]
        return {"type": "FeatureCollection", "properties": about, "features": features}

    def _rows(self, collection: str, query: dict[str, str]) -> list[Product]:
        """Everything that passes, in order; looks only at what lies within the narrowest bounds."""
        group = self._groups.get((collection, query.get("productType", "")), Group())
        name, is_descending = self._order(query)
        bounds = self._bounds(query)
        spans = {one: group.span(one, bounds) for one in (name, *(bound.name for bound in bounds))}
        narrow = min(spans, key=lambda one: spans[one][1] - spans[one][0])
        low, high = spans[narrow]
        rows = group.order(narrow)[0][low:high]
        tests = [bound.test for bound in bounds if bound.name != narrow] + self._tests(query)
        if tests:
            rows = [product for product in rows if all(test(product) for test in tests)]
        read = TIMES[name]
        if not self._has_order:
            salt = str(len(self.questions)).encode()
            rows.sort(key=lambda p: (read(p), blake2b(p.id.encode(), salt=salt).digest()))
        elif narrow != name:
            rows.sort(key=lambda p: (read(p), p.id))
        return rows[::-1] if is_descending else rows

    def _order(self, query: dict[str, str]) -> tuple[str, bool]:
        if not self._dialect.is_copernicus:
            return "startDate", True
        name = query.get("sortParam", "startDate")
        if name not in TIMES:
            raise _Refused(400, "Validation error.", [{"loc": ["sortParam"], "msg": "unknown"}])
        return name, not query.get("sortOrder", "descending").startswith("asc")

    def _bounds(self, query: dict[str, str]) -> list[Bound]:
        return [
            Bound(name, is_lower, self._includes, _time(parameter, query[parameter]))
            for parameter, (name, is_lower) in self._dialect.bounds.items()
            if parameter in query
        ]

    def _tests(self, query: dict[str, str]) -> list[Callable[[Product], bool]]:
        tests: list[Callable[[Product], bool]] = []
        if (area := _area(query)) is not None:
            ids = self._meeting(area)
            tests.append(lambda product: product.id in ids)
        if (status := query.get("status", "ALL")) != "ALL":
            tests.append(lambda product: product.online is (status == "ONLINE"))
        return tests

    @cached_property
    def _tree(self) -> tuple[list[str], shapely.STRtree]:
        placed = [(p.id, geometry) for p in self._by_id.values() if (geometry := p.geometry())]
        return [name for name, _ in placed], shapely.STRtree([shape(geometry) for _, geometry in placed])

    def _meeting(self, area: Any) -> frozenset[str]:
        ids, tree = self._tree
        return frozenset(ids[int(n)] for n in tree.query(area, predicate="intersects"))


def _links(search: str, query: dict[str, str], page: int, *, is_full: bool) -> list[dict[str, str]]:
    """As unreliable as recorded: a next page is promised behind every full one, and the last page is far beyond the end."""
    links = [{"rel": "search", "type": "application/opensearchdescription+xml", "href": f"{search}/describe.xml"}]
    for rel, number in (("next", page + 1), ("last", 1_245_289)) if is_full else ():
        href = f"{search}/search.json?{urlencode({**query, 'page': str(number)})}"
        links.append({"rel": rel, "type": "application/json", "title": rel, "href": href})
    return links


def _number(query: dict[str, str], name: str, default: int, most: int = 10**9) -> int:
    text = query.get(name, str(default))
    if not text.isdigit() or not 1 <= int(text) <= most:
        message = f"Input should be less than or equal to {most}."
        raise _Refused(400, "Validation error.", [{"loc": [name], "msg": message}])
    return int(text)


def _time(name: str, text: str) -> datetime:
    if not re.fullmatch(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d(\.\d+)?(|Z|[+-]\d\d:\d\d))?", text):
        raise _Refused(400, "Validation error.", [{"loc": [name], "msg": "no time"}])
    when = datetime.fromisoformat(text)
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when


def _area(query: dict[str, str]) -> Any:
    if "box" in query:
        return shapely.box(*(float(part) for part in query["box"].split(",")))
    return shapely.from_wkt(query["geometry"]) if "geometry" in query else None
