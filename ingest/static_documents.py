"""Documents of a static STAC catalogue, and what a crawl knows of them (`ingest.static_catalog`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from ingest.errors import SourceInvalid
from ingest.model import JSON, Cursor, Source

MISSING, BROKEN, UNAVAILABLE = "document-missing", "document-broken", "document-unavailable"
FOREIGN, TOO_DEEP, LINK_BROKEN = "document-elsewhere", "document-too-deep", "link-broken"
CODES = frozenset({MISSING, BROKEN, UNAVAILABLE, FOREIGN, TOO_DEEP, LINK_BROKEN})
_KINDS = {"child": "children", "item": "items"}


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far a crawl goes. `hosts` (with port where it is not the usual one) are those whose documents belong to the catalogue."""

    hosts: frozenset[str]
    depth: int = 16
    documents: int = 20_000

    @classmethod
    def of(cls, source: Source, upstream: Mapping[str, Any]) -> Bounds:
        """The source's own host and those that `hosts` adds; `depth` and `documents` where they are given.

        Raises:
            SourceInvalid: one has the wrong type.
        """
        hosts = upstream.get("hosts", [])
        limits = {name: upstream[name] for name in ("depth", "documents") if name in upstream}
        if not isinstance(hosts, list) or not all(isinstance(host, str) for host in hosts):
            raise SourceInvalid(f"{source.id}: upstream.hosts must be a list of host names")
        if not all(isinstance(limit, int) and limit > 0 for limit in limits.values()):
            raise SourceInvalid(f"{source.id}: upstream.depth and upstream.documents must be whole numbers above 0")
        return cls(frozenset({httpx.URL(source.url).netloc.decode(), *map(str.lower, hosts)}), **limits)


@dataclass(frozen=True, slots=True)
class Link:
    """A document to be read. `collection` is the id of the nearest Collection above an item, or of a document's own."""

    url: str
    is_item: bool = False
    depth: int = 0
    collection: str | None = None


@dataclass(frozen=True, slots=True)
class Read:
    """A document that is new or changed. `address` is where redirects led to: relative hrefs begin there."""

    link: Link
    document: JSON
    etag: str | None
    address: str

    def hrefs(self) -> dict[str, list[str]]:
        """Addresses that a catalogue links to: `children` and `items`."""
        found: dict[str, list[str]] = {"children": [], "items": []}
        for link in self.document["links"]:
            kind = _KINDS.get(str(link.get("rel"))) if isinstance(link, dict) else None
            if kind is not None and (url := joined(self.address, link.get("href"))) is not None:
                found[kind].append(url)
        return found


@dataclass(frozen=True, slots=True)
class Same:
    """A document that has not changed since it was read."""

    link: Link


@dataclass(frozen=True, slots=True)
class Failed:
    """A link or document that cannot be read, and why; `code` is stable."""

    link: Link
    code: str
    detail: str


Outcome = Read | Same | Failed


@dataclass(slots=True)
class Known:
    """What was read before: of items the ETag, of catalogues also the links, so that a 304 says all. Is the cursor of a crawl."""

    root: str
    catalogs: dict[str, JSON] = field(default_factory=dict)
    items: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, root: str, cursor: Cursor | None) -> Known:
        """Read a cursor."""
        cursor = cursor or {}
        return cls(root, dict(cursor.get("catalogs", {})), dict(cursor.get("items", {})))

    def cursor(self) -> Cursor:
        """The present state, as a copy."""
        return {"catalogs": dict(self.catalogs), "items": dict(self.items)}

    def etag(self, link: Link) -> str | None:
        """The ETag that the document had."""
        if link.is_item:
            return self.items.get(self.short(link.url))
        entry = self.catalogs.get(self.short(link.url))
        return entry["etag"] if entry else None

    def remember(self, read: Read) -> None:
        """Note that a document is dealt with."""
        url = self.short(read.link.url)
        if not read.link.is_item:
            entry = {kind: [self.short(href) for href in hrefs] for kind, hrefs in read.hrefs().items()}
            self.catalogs[url] = {"etag": read.etag, "id": own_id(read.document), **entry}
        elif read.etag is not None:
            self.items[url] = read.etag
        else:
            self.items.pop(url, None)

    def forget_all_but(self, urls: set[str]) -> list[JSON]:
        """Forget documents that no link leads to any more; return the entries of catalogues among them."""
        kept = {self.short(url) for url in urls}
        self.items = {url: etag for url, etag in self.items.items() if url in kept}
        gone = [entry for url, entry in self.catalogs.items() if url not in kept]
        self.catalogs = {url: entry for url, entry in self.catalogs.items() if url in kept}
        return gone

    def links(self, link: Link) -> list[Link]:
        """The links of a catalogue that has not changed."""
        entry = self.catalogs[self.short(link.url)]
        hrefs = {kind: [self.long(url) for url in entry[kind]] for kind in _KINDS.values()}
        return links_below(link, entry["id"], hrefs)

    def short(self, url: str) -> str:
        """Without what all addresses have in common; cursors hold thousands of them."""
        return url.removeprefix(self.root.rpartition("/")[0] + "/")

    def long(self, url: str) -> str:
        """The opposite of `short`."""
        return url if url.startswith(("http://", "https://")) else f"{self.root.rpartition('/')[0]}/{url}"


def own_id(document: JSON) -> str | None:
    """The id of a Collection; None for a Catalog."""
    found = document.get("id")
    return found if document.get("type") == "Collection" and isinstance(found, str) else None


def links_below(link: Link, own: str | None, hrefs: dict[str, list[str]]) -> list[Link]:
    """The links of a catalogue; items belong to the nearest Collection above them."""
    below = replace(link, depth=link.depth + 1, collection=own or link.collection)
    found = [replace(below, url=url) for url in hrefs["children"]]
    return found + [replace(below, url=url, is_item=True) for url in hrefs["items"]]


def joined(base: str, href: Any) -> str | None:
    """The address of a relative or absolute href, without a fragment; None for what is none."""
    if not isinstance(href, str) or not href:
        return None
    try:
        url = httpx.URL(base).join(href).copy_with(fragment=None)
    except httpx.InvalidURL:
        return None
    return str(url) if url.scheme in ("http", "https") and url.host else None
