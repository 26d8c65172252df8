"""Helps tests of protocols that are walked by sensing time: services on 127.0.0.1 or in process, and pages read from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.routing import Mount

from ingest.adapters.protocol import Harvestable
from ingest.http import Patience, open_client
from ingest.model import Cursor, Page, Source
from tests.upstreams.faults import Control, Faulty
from tests.upstreams.products import Product
from tests.upstreams.server import running

PATH = "/upstream"


@contextmanager
def served(service: Any) -> Iterator[tuple[str, Control]]:
    """The service on a free port: its URL, and what makes its answers fail."""
    control = Control()
    with running(Faulty(app_of(service), control)) as url:
        yield f"{url}{PATH}", control


def app_of(service: Any) -> Starlette:
    """The service alone, below PATH."""
    return Starlette(routes=[Mount(PATH, routes=service.routes())])


async def read(
    adapter: Harvestable, source: Source, cursor: Cursor | None = None, *, service: Any = None, stop_after: int = 10**9
) -> list[Page]:
    """Pages from the source's URL, or from `service` in this process."""
    inner = httpx.ASGITransport(app_of(service)) if service is not None else None
    pages: list[Page] = []
    async with open_client(source, Patience(attempts=8, base_s=0), inner) as http:
        async for page in adapter.pages(http, cursor):
            pages.append(page)
            if len(pages) == stop_after:
                break
    return pages


def ids(pages: Sequence[Page]) -> list[str]:
    return [record.id for page in pages for record in page.records]


def at(product: Product, when: datetime, number: int) -> Product:
    """The same product, sensed at another time; its name is another one's, whatever it says."""
    name = f"{product.stem[:-6]}{number:06d}.SAFE"
    return replace(product, scene=0, name=name, id=f"{number:032x}", start=when, end=when, online=True)
