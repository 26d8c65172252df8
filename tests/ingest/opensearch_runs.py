"""Runs of the OpenSearch adapter against the invented resto service, in process, with answers changed on their way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
from starlette.applications import Starlette
from starlette.routing import Mount

from ingest.adapters.opensearch import OpenSearch
from ingest.http import Patience, open_client
from ingest.model import CollectionMapping, Cursor, Page, Query, Source
from tests.upstreams.opensearch import RestoService
from tests.upstreams.products import Product, product

START = datetime(2026, 1, 1, tzinfo=UTC)
SOURCE = Source("example", "Example", "opensearch", "http://resto.test/resto", requests_per_second=1e6)
COPERNICUS = {"collection": "SENTINEL-2", "product_type": "S2MSI1C"}
MIRROR = {"collection": "S2ST", "product_type": "S2MSI1C", "sort": "startDate"}

#: (number of the request from 1, its parameters, answer) -> answer, which may be the same.
Change = Callable[[int, dict[str, str], dict[str, Any]], Any]


def at(seconds: float) -> datetime:
    """Seconds after START."""
    return START + timedelta(seconds=seconds)


def invented(number: int, published_s: float, start_s: float | None = None) -> Product:
    """An L1C product with chosen times."""
    start = at(float(number) if start_s is None else start_s)
    published = at(published_s)
    return replace(product(4 * number), published=published, modified=published, start=start, end=start)


class Changing(httpx.AsyncBaseTransport):
    """The service, and what a network, a cache or an update makes of its answers."""

    def __init__(self, service: RestoService, change: Change | None) -> None:
        self.hosts: set[str] = set()
        self._inner = httpx.ASGITransport(Starlette(routes=[Mount("/resto", routes=service.routes())]))
        self._change = change
        self._number = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer, changed."""
        self._number += 1
        self.hosts.add(request.url.host)
        response = await self._inner.handle_async_request(request)
        body = await response.aread()
        if self._change is None or response.status_code != 200:
            return httpx.Response(response.status_code, headers=response.headers, content=body)
        changed = self._change(self._number, dict(request.url.params), orjson.loads(body))
        return httpx.Response(200, content=orjson.dumps(changed), headers={"content-type": "application/json"})


async def read(
    service: RestoService, upstream: dict[str, Any], cursor: Cursor | None = None, *, query: Query | None = None,
    change: Change | None = None, stop_after: int = 10**9, **options: Any,
) -> list[Page]:  # fmt: skip
    """Pages of a run; `stop_after` so many it is killed."""
    settings: dict[str, Any] = {"page_size": 10, "with_total": False, "now": lambda: at(86_400 * 400), **options}
    adapter = OpenSearch(SOURCE, CollectionMapping("sentinel-2-l1c", upstream), query, **settings)
    pages = []
    async with open_client(SOURCE, Patience(attempts=1), Changing(service, change)) as http:
        async for page in adapter.pages(http, cursor):
            pages.append(page)
            if len(pages) == stop_after:
                break
    return pages


def ids(pages: list[Page]) -> list[str]:
    """Ids in the order read."""
    return [record.id for page in pages for record in page.records]


def ids_of(products: list[Product]) -> list[str]:
    """Ids sorted."""
    return sorted(one.id for one in products)
