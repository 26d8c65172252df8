"""A small STAC API in memory, for tests of the adapter: pages as pgstac and as stac-server do, and fails where a test says."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

import httpx
import orjson

from ingest.adapters.stac import Stac
from ingest.http import Patience, open_client
from ingest.model import CollectionMapping, Cursor, Page, Query, Source

SOURCE = Source("example", "", "stac", "https://example.org/v1", requests_per_second=1e6)
START = datetime(2026, 1, 1, tzinfo=UTC)


def feature(number: int, seconds: float) -> dict[str, Any]:
    stamp = (START + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {"type": "Feature", "id": f"item-{number:04d}", "properties": {"published": stamp}}


class Server:
    """Items in memory. `dialect` "pgstac": token in the next link's body; "stac-server": always a next link, by GET.

    `drop_link` says at which requests the next link is missing, `loop_link` where it leads back to the same page; `knows_ids` is
    False for one that cannot search by id.
    """

    def __init__(
        self, items: list[dict[str, Any]], dialect: str = "pgstac", *, is_sorted: bool = True, knows_ids: bool = True
    ) -> None:
        self.items = items
        self.dialect = dialect
        self.is_sorted = is_sorted
        self.knows_ids = knows_ids
        self.drop_link: Callable[[int], bool] = lambda request: False
        self.loop_link: Callable[[int], bool] = lambda request: False
        self.says_total = True
        self.before_answer: Callable[[int], None] = lambda request: None
        self.bodies: list[dict[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            body = orjson.loads(request.content)
        else:
            body = {name: values[0] for name, values in parse_qs(request.url.query.decode()).items()}
            for name in ("query", "intersects", "saved"):
                body = {**body, name: orjson.loads(body[name])} if name in body else body
            body = {**body.pop("saved", {}), **body}
        self.before_answer(len(self.bodies))
        self.bodies.append(body)
        rows = [item for item in self.items if self._matches(item, body)]
        if self.is_sorted:
            rows.sort(key=lambda item: (item["properties"]["published"], item["id"]))
        if self.knows_ids and body["sortby"] == [{"field": "id", "direction": "asc"}]:
            rows.sort(key=lambda item: item["id"])
        begin, limit = int(body.get("token", 0)), int(body["limit"])
        page = rows[begin : begin + limit]
        following = begin if self.loop_link(len(self.bodies)) else begin + limit
        links = []
        if self.dialect == "pgstac" and begin + limit < len(rows):
            link = {"rel": "next", "method": "POST", "href": str(request.url), "merge": True}
            links.append({**link, "body": {"token": str(following)}})
        if self.dialect == "stac-server":
            saved = orjson.dumps({name: value for name, value in body.items() if name != "token"}).decode()
            params = {"limit": limit, "token": following, "saved": saved}
            links.append({"rel": "next", "href": str(httpx.URL("https://example.org/v1/search", params=params))})
        if self.drop_link(len(self.bodies)):
            links.clear()
        counts = {"numberMatched": len(rows)} if self.says_total else {}
        return httpx.Response(200, json={"features": page, "links": links, **counts})

    def _matches(self, item: dict[str, Any], body: dict[str, Any]) -> bool:
        published = datetime.fromisoformat(item["properties"]["published"])
        bounds = dict(body.get("query", {}).get("published", {}))
        terms = body.get("filter", {}) if body.get("filter-lang") == "cql2-json" else {}
        first_id = body.get("query", {}).get("id", {}).get("gte")
        for term in terms.get("args", []) if terms.get("op") == "and" else [terms] if terms else []:
            if term["args"][0]["property"] == "id":
                first_id = term["args"][1]
            else:
                bounds[{">=": "gte", "<": "lt"}[term["op"]]] = term["args"][1]["timestamp"]
        if self.knows_ids and first_id is not None and item["id"] < first_id:
            return False
        lower, upper = bounds.get("gte"), bounds.get("lt")
        above = lower is None or published >= datetime.fromisoformat(lower)
        return above and (upper is None or published < datetime.fromisoformat(upper))


def mapping(**upstream: Any) -> CollectionMapping:
    known = {"collection": "sentinel-2-l2a", "watermark": "properties.published", "filter": "cql2"}
    return CollectionMapping("sentinel-2-l2a", known | upstream)


async def read(
    server: Any, cursor: Cursor | None = None, *, query: Query | None = None, stop_after: int = 10**9,
    page_size: int = 10, **upstream: Any,
) -> list[Page]:  # fmt: skip
    adapter = Stac(SOURCE, mapping(**upstream), query, page_size)
    pages = []
    async with open_client(SOURCE, Patience(attempts=1), httpx.MockTransport(server)) as http:
        async for page in adapter.pages(http, cursor):
            pages.append(page)
            if len(pages) == stop_after:
                break
    return pages


def ids(pages: list[Page]) -> list[str]:
    return [record.id for page in pages for record in page.records]
