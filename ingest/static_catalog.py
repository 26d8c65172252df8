"""Static STAC catalogues: JSON documents on a web server that link to one another, crawled by their `child` and `item` links.

Breadth first from one document, each document once, links in the order in which they are written, within bounds. A
document that was read before is asked for with its ETag and costs a 304 while it is unchanged. What cannot be read is
an outcome like any other, never left out.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import orjson

from ingest.errors import UpstreamChanged, UpstreamUnavailable
from ingest.http import fetch
from ingest.model import Source
from ingest.static_documents import (
    BROKEN,
    FOREIGN,
    LINK_BROKEN,
    MISSING,
    TOO_DEEP,
    UNAVAILABLE,
    Bounds,
    Failed,
    Known,
    Link,
    Outcome,
    Read,
    Same,
    joined,
    links_below,
    own_id,
)

log = logging.getLogger(__name__)

MAX_REDIRECTS = 5
#: So many documents that cannot be had while the root can: then something is wrong with the server.
MAX_UNAVAILABLE = 20
#: What stands in the way of reading all that lies below a catalogue. One elsewhere is not ours to read.
_LOSSES = frozenset({MISSING, BROKEN, UNAVAILABLE, TOO_DEEP})


class Crawl:
    """One walk over a catalogue.

    Attributes:
        visited: addresses that links led to.
        collections: ids of the Collections that were met.
        losses: catalogues that could not be read; what lies below them is missing.
    """

    def __init__(
        self, http: httpx.AsyncClient, source: Source, bounds: Bounds, known: Known, collection: str | None = None
    ) -> None:
        self._http = http
        self._source = source
        self._bounds = bounds
        self._known = known
        self._collection = collection  # whose items are wanted; None: all
        self._queue: deque[Link] = deque()
        self._broken_links: list[Failed] = []
        self._unavailable = 0
        self.visited: set[str] = set()
        self.collections: set[str] = set()
        self.losses: list[Failed] = []

    async def outcomes(self) -> AsyncIterator[Outcome]:
        """Yield what became of each document.

        Raises:
            UpstreamUnavailable: the server cannot be reached, or too many documents cannot be had.
            UpstreamChanged: the root cannot be read, or there are more documents than the source's bounds allow.
        """
        self._follow([Link(self._source.url)])
        while self._queue:
            links = [self._queue.popleft() for _ in range(min(len(self._queue), 2 * self._source.concurrency))]
            for link, outcome in zip(links, await asyncio.gather(*map(self._ask, links)), strict=True):
                match outcome:
                    case Failed():
                        await self._fail(outcome)
                    case Read() if not link.is_item:
                        self._enter(outcome)
                    case Same() if not link.is_item:
                        self._meet(self._known.catalogs[self._known.short(link.url)]["id"])
                        self._follow(self._known.links(link))
                yield outcome
            failures, self._broken_links = self._broken_links, []
            for failure in failures:
                yield failure

    def check(self) -> None:
        """Say that the crawl was not whole.

        Raises:
            UpstreamChanged: catalogues could not be read; names the first.
        """
        if self.losses:
            first = self.losses[0]
            message = f"{len(self.losses)} catalogues could not be read, so what lies below them is missing; the first: {first.link.url}"
            raise UpstreamChanged(f"{self._source.id}: {message} ({first.code}: {first.detail})")

    def _meet(self, collection: str | None) -> None:
        if collection is not None:
            self.collections.add(collection)

    def _enter(self, read: Read) -> None:
        """Follow the links of a catalogue that was just read."""
        self._meet(own_id(read.document))
        self._follow(links_below(read.link, own_id(read.document), read.hrefs()))
        for number, link in enumerate(read.document["links"]):
            if _is_broken(link):
                place = replace(read.link, url=f"{read.address}#link-{number}", is_item=True)
                self._broken_links.append(Failed(place, LINK_BROKEN, "has no address that can be followed"))

    def _follow(self, links: list[Link]) -> None:
        for link in links:
            is_wanted = not link.is_item or self._collection is None or link.collection in (None, self._collection)
            if link.url in self.visited or not is_wanted:
                continue
            self.visited.add(link.url)
            if len(self.visited) > self._bounds.documents:
                limit = f"more than {self._bounds.documents} documents; upstream.documents may allow more"
                raise UpstreamChanged(f"{self._source.id}: the catalogue has {limit}")
            self._queue.append(link)

    async def _fail(self, failure: Failed) -> None:
        """Count a failure; the root's is everybody's."""
        if failure.link.url == self._source.url:
            error = UpstreamUnavailable if failure.code == UNAVAILABLE else UpstreamChanged
            raise error(f"{self._source.id}: the catalogue's root cannot be read: {failure.detail}")
        if failure.code == UNAVAILABLE:
            self._unavailable += 1
            root = await self._ask(Link(self._source.url))
            if isinstance(root, Failed) or self._unavailable > MAX_UNAVAILABLE:
                raise UpstreamUnavailable(f"{self._source.id}: {failure.link.url} cannot be had: {failure.detail}")
        if not failure.link.is_item and failure.code in _LOSSES:
            self.losses.append(failure)
        log.warning(
            "document cannot be read", extra={"source": self._source.id, "url": failure.link.url, "code": failure.code}
        )

    async def _ask(self, link: Link) -> Outcome:
        """Ask for a document; raises nothing, so that others asked for at the same time come to their end."""
        if link.depth > self._bounds.depth:
            return Failed(link, TOO_DEEP, f"more than {self._bounds.depth} links from the root")
        etag = self._known.etag(link)
        try:
            response = await self._get(link.url, {"If-None-Match": etag} if etag else {})
        except UpstreamUnavailable as error:
            return Failed(link, UNAVAILABLE, str(error))
        except UpstreamChanged as error:
            return Failed(link, BROKEN, str(error))
        if response is None:
            return Failed(link, FOREIGN, "is or leads to a host that is none of the catalogue's (upstream.hosts)")
        if response.status_code == 304 and etag:
            return Same(link)
        if not response.is_success:
            return Failed(link, MISSING, f"status {response.status_code}")
        return self._parsed(link, response)

    async def _get(self, url: str, headers: dict[str, str]) -> httpx.Response | None:
        """Ask, and follow redirects within the catalogue's hosts; None when they lead elsewhere."""
        for _ in range(MAX_REDIRECTS + 1):
            if not self._is_ours(url):
                return None
            response = await fetch(self._http, self._source.id, "GET", url, headers=headers, follow_redirects=False)
            if response.next_request is None:
                return response
            url = str(response.next_request.url)
        raise UpstreamChanged(f"{self._source.id}: more than {MAX_REDIRECTS} redirects")

    def _is_ours(self, url: str) -> bool:
        parts = httpx.URL(url)
        return parts.scheme in ("http", "https") and parts.netloc.decode().lower() in self._bounds.hosts

    def _parsed(self, link: Link, response: httpx.Response) -> Outcome:
        try:
            document = orjson.loads(response.content)
        except orjson.JSONDecodeError:
            return Failed(link, BROKEN, "no JSON")
        if not isinstance(document, dict):
            return Failed(link, BROKEN, f"a JSON {type(document).__name__}, not an object")
        if not link.is_item and not isinstance(document.get("links"), list):
            return Failed(link, BROKEN, "a catalogue without a list of links")
        return Read(link, document, response.headers.get("etag"), str(response.url))


def _is_broken(link: Any) -> bool:
    """True for a link that should lead to a document and cannot."""
    if not isinstance(link, dict):
        return True
    return link.get("rel") in ("child", "item") and joined("https://example.org/", link.get("href")) is None
