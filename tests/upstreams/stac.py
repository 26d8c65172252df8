"""The STAC sides: item search as stac-fastapi-pgstac (Copernicus) and as stac-server (Earth Search) speak it.

Copernicus: online products only, of Sentinel-1 only COG twins; no counts; next links as GET or POST with a token
`next:<collection>:<id>`, none on the last page. Earth Search: own ids and gaps, counts, a next link even on the last page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import orjson
import shapely
from shapely.geometry import shape
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.upstreams.answers import json_answer, service_root
from tests.upstreams.products import FEDERATED, Product
from tests.upstreams.stac_items import copernicus_item, earth_search_id, earth_search_item, earth_search_time
from tests.upstreams.stac_search import MAX_LIMIT, Search, SearchInvalid, from_query, instant, read

JSON = dict[str, Any]
CONFORMANCE = [
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/collections",
    "https://api.stacspec.org/v1.0.0/item-search",
    "https://api.stacspec.org/v1.0.0/item-search#sort",
    "https://api.stacspec.org/v1.0.0/item-search#query",
]


@dataclass(frozen=True, slots=True)
class Entry:
    """An item that a catalogue offers, rendered when somebody asks for it. `times` are those that may be sorted by."""

    id: str
    collection: str
    product: Product
    times: dict[str, datetime]
    sequence: int = 0

    def value(self, name: str) -> Any:
        """A property as written or (times) as a datetime, for comparisons and order."""
        if name in self.times:
            return self.times[name]
        if name == "eo:cloud_cover":
            return self.product.cloud
        return f"sentinel-{self.product.platform[1:].lower()}" if name == "platform" else None

    def geometry(self) -> JSON | None:
        """Footprint."""
        return self.product.geometry()


def copernicus_entries(offered: Sequence[Product]) -> list[Entry]:
    """What the Copernicus dialect offers."""
    return [
        Entry(
            p.stem, FEDERATED[p.kind], p,
            {"published": p.published, "updated": p.modified, "created": p.origin, "datetime": p.start},
        )
        for p in offered
        if p.online and p.kind in ("L1C", "L2A", "COG")
    ]  # fmt: skip


def earth_search_entries(offered: Sequence[Product]) -> list[Entry]:
    """What the Earth Search dialect offers: Sentinel-2 with gaps; a third of L2A is missing."""
    sequences: Counter[str] = Counter()
    found = []
    for product in offered:
        gap = product.scene % 3 == 2 if product.kind == "L2A" else product.scene % 11 == 5
        if product.kind not in ("L1C", "L2A") or gap:
            continue
        base = earth_search_id(product, 0)
        sequence = sequences[base]
        sequences[base] += 1
        made = instant(earth_search_time(product))
        item_id = earth_search_id(product, sequence)
        times = {"updated": made, "created": made, "datetime": product.start}
        found.append(Entry(item_id, FEDERATED[product.kind], product, times, sequence))
    return found


class StacService:
    """One STAC API below its root. Entries are `Entry` or look like it."""

    def __init__(
        self,
        entries: Sequence[Any],
        render: Callable[[Any, str], JSON],
        *,
        title: str,
        is_stac_server: bool,
    ) -> None:
        self._by_id = {(entry.collection, entry.id): entry for entry in entries}
        self._render = render
        self._title = title
        self._is_stac_server = is_stac_server
        self._orders: dict[str, list[Entry]] = {}

    def routes(self) -> list[Route]:
        """Routes of the service, to be mounted at its root."""
        return [
            Route("/", self.landing),
            Route("/collections", self.collections),
            Route("/collections/{collection}", self.collection),
            Route("/collections/{collection}/items/{item}", self.item),
            Route("/search", self.search, methods=["GET", "POST"]),
        ]

    async def landing(self, request: Request) -> Response:
        """`GET /`"""
        root = service_root(request)
        links = [
            {"rel": "self", "type": "application/json", "href": f"{root}/"},
            {"rel": "root", "type": "application/json", "href": f"{root}/"},
            {"rel": "data", "type": "application/json", "href": f"{root}/collections"},
            {"rel": "search", "type": "application/geo+json", "href": f"{root}/search", "method": "GET"},
            {"rel": "search", "type": "application/geo+json", "href": f"{root}/search", "method": "POST"},
        ]
        answer = {
            "type": "Catalog",
            "id": "demonstration",
            "stac_version": "1.1.0",
            "title": self._title,
            "links": links,
        }
        return json_answer(answer | {"description": "Invented products for demonstrations.", "conformsTo": CONFORMANCE})

    async def collections(self, request: Request) -> Response:
        """`GET /collections`"""
        names = sorted({collection for collection, _ in self._by_id})
        found = [self._collection(name, service_root(request)) for name in names]
        return json_answer({"collections": found, "links": [{"rel": "root", "href": f"{service_root(request)}/"}]})

    async def collection(self, request: Request) -> Response:
        """`GET /collections/{collection}`"""
        name = request.path_params["collection"]
        if name not in {collection for collection, _ in self._by_id}:
            return json_answer({"code": "NotFound", "description": "Not Found"}, 404)
        return json_answer(self._collection(name, service_root(request)))

    async def item(self, request: Request) -> Response:
        """`GET /collections/{collection}/items/{item}`"""
        entry = self._by_id.get((request.path_params["collection"], request.path_params["item"]))
        if entry is None:
            return json_answer({"code": "NotFound", "description": "Not Found"}, 404)
        return json_answer(self._render(entry, service_root(request)), media="application/geo+json")

    async def search(self, request: Request) -> Response:
        """`GET /search` and `POST /search`"""
        try:
            body = from_query(request.query_params) if request.method == "GET" else orjson.loads(await request.body())
            asked = read(body, default_limit=10, max_limit=MAX_LIMIT)
            return json_answer(self._answer(asked, request), media="application/geo+json")
        except (SearchInvalid, orjson.JSONDecodeError) as error:
            return json_answer({"code": "BadRequest", "description": str(error)}, 400)

    def _collection(self, name: str, root: str) -> JSON:
        extent = {
            "spatial": {"bbox": [[-180, -90, 180, 90]]},
            "temporal": {"interval": [["2024-08-01T00:00:00Z", None]]},
        }
        return {
            "type": "Collection", "id": name, "stac_version": "1.1.0", "title": f"{name}, invented products",
            "description": "Invented products for demonstrations.", "license": "other", "extent": extent,
            "links": [
                {"rel": "self", "type": "application/json", "href": f"{root}/collections/{name}"},
                {"rel": "root", "type": "application/json", "href": f"{root}/"},
            ],
        }  # fmt: skip

    def _order(self, field: str) -> list[Entry]:
        """Entries that have the field, in ascending order of it, the id being the second key."""
        if field not in self._orders:
            rows = [entry for entry in self._by_id.values() if entry.value(field) is not None]
            self._orders[field] = sorted(rows, key=lambda entry: (entry.value(field), entry.id))
        return self._orders[field]

    def _matching(self, asked: Search) -> list[Entry]:
        field, descending = asked.sortby
        rows = [entry for entry in self._order(field) if _passes(entry, asked)]
        return rows[::-1] if descending else rows

    def _answer(self, asked: Search, request: Request) -> JSON:
        rows = self._matching(asked)
        begin = self._begin(rows, asked)
        page = rows[begin : begin + asked.limit]
        root = service_root(request)
        answer: JSON = {"type": "FeatureCollection", "features": [self._render(entry, root) for entry in page]}
        has_next = bool(page) if self._is_stac_server else begin + asked.limit < len(rows)
        links = [{"rel": "root", "type": "application/json", "href": f"{root}/"}]
        if has_next:
            links.append(self._next_link(page[-1], asked, request))
        if self._is_stac_server:
            counts = {"limit": asked.limit, "matched": len(rows), "returned": len(page)}
            answer |= {"stac_version": "1.0.0", "context": counts, "numberMatched": len(rows)}
        return answer | {"links": links, "numberReturned": len(page)}

    def _begin(self, rows: Sequence[Entry], asked: Search) -> int:
        """Where the page begins: behind the entry that the token names."""
        if asked.token is None:
            return 0
        for number, entry in enumerate(rows):
            if asked.token == self._token(entry):
                return number + 1
        raise SearchInvalid("unknown token")

    def _token(self, entry: Entry) -> str:
        if not self._is_stac_server:
            return f"next:{entry.collection}:{entry.id}"
        return f"{entry.times['datetime'].isoformat()},{entry.id},{entry.collection}"

    def _next_link(self, last: Entry, asked: Search, request: Request) -> JSON:
        name = "next" if self._is_stac_server else "token"
        href = f"{service_root(request)}/search"
        link: JSON = {"rel": "next", "type": "application/geo+json", "method": request.method, "href": href}
        if request.method == "POST":
            body = {key: value for key, value in asked.asked.items() if key not in ("token", "next")}
            merge = {"merge": False} if self._is_stac_server else {}
            return link | merge | {"body": body | {name: self._token(last)}}
        pairs = [(key, value) for key, value in request.query_params.multi_items() if key not in ("token", "next")]
        return link | {"href": f"{href}?{urlencode([*pairs, (name, self._token(last))])}"}


def copernicus_service(offered: Sequence[Product], download_path: str) -> StacService:
    """The Copernicus dialect; its assets point below `download_path` on the same host, where nothing can be fetched."""

    def render(entry: Entry, root: str) -> JSON:
        host = root.split("/", 3)[:3]
        return copernicus_item(entry.product, root, "/".join(host) + download_path)

    title = "Demonstration STAC API with invented products"
    return StacService(copernicus_entries(offered), render, title=title, is_stac_server=False)


def earth_search_service(offered: Sequence[Product]) -> StacService:
    """The Earth Search dialect."""
    title = "Demonstration STAC API with invented products, in Earth Search's dialect"
    return StacService(
        earth_search_entries(offered),
        lambda entry, root: earth_search_item(entry.product, entry.sequence, root),
        title=title,
        is_stac_server=True,
    )


def _passes(entry: Entry, asked: Search) -> bool:
    if asked.collections is not None and entry.collection not in asked.collections:
        return False
    if asked.ids is not None and entry.id not in asked.ids:
        return False
    if asked.during is not None:
        first, last = asked.during
        when = entry.times["datetime"]
        if (first is not None and when < first) or (last is not None and when > last):
            return False
    for term in asked.terms:
        if not term.passes(entry.value(term.name)):
            return False
    return asked.area is None or shapely.intersects(shape(entry.geometry()), asked.area)
