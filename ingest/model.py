"""The words of harvesting as types: source, cursor, page, record, item, contribution.

docs/glossary.md defines each word. Everything here is a value without behaviour of its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

import httpx

from ingest.identity import ProductName

JSON = dict[str, Any]


@dataclass(frozen=True, slots=True)
class CollectionMapping:
    """One federated collection as a source offers it.

    `upstream` is what the adapter needs to ask for it. `protocol` is given where it is not the source's own.
    """

    id: str
    upstream: JSON
    overlap: timedelta = timedelta(hours=24)
    protocol: str | None = None


@dataclass(frozen=True, slots=True)
class Auth:
    """How to log in upstream. Secrets are named by environment variable, never held.

    With "basic", "token-json" and "oauth2-password" the client's id is a user name and its secret a password; the last, which
    subscriptions alone may have, names the application by `client_id`, which is no secret.
    """

    type: str = "none"  # none | bearer | basic | oauth2-client-credentials | token-json | oauth2-password
    token_url: str | None = None
    client_id_env: str | None = None
    client_secret_env: str | None = None
    client_id: str | None = None


@dataclass(frozen=True, slots=True)
class Subscription:
    """A queue of notifications that the operator ordered at a source; `id_env` names the variable that holds its id."""

    id_env: str
    auth: Auth


@dataclass(frozen=True, slots=True)
class Signing:
    """Hrefs that must be signed just before they are fetched ("signedUrl" of the authentication extension 1.1).

    Attributes:
        scheme: the scheme's name in `auth:schemes`.
        hosts: whose hrefs need it; "*.example.net" stands for every host below example.net.
        url: asked by GET with the href as parameter `href`; answers `{"href": <signed>}`.
        parameters: query parameters that a signature consists of; they are never stored.
        description: for people who fetch the files.
    """

    scheme: str
    hosts: tuple[str, ...]
    url: str
    parameters: frozenset[str]
    description: str = ""


@dataclass(frozen=True, slots=True)
class Provenance:
    """What is asked of others about the products of a source, besides its records; nothing unless its file says so.

    Attributes:
        traces: base URL of a service in the shape of the Copernicus traceability service.
        documents: keys of assets that hold a product's own metadata; read at the source's `asset_hosts` alone.
        requests_per_second, requests_per_month: how often, all of it together.
        per_run: most products that one harvest asks about.
    """

    traces: str | None = None
    documents: tuple[str, ...] = ()
    requests_per_second: float = 1.0
    requests_per_month: int | None = None
    per_run: int = 200


@dataclass(frozen=True, slots=True)
class Source:
    """One upstream that we harvest: the content of one TOML file.

    `offers` is "items", or "collections" for a catalogue that has no items: its own collections are shown as they are.
    """

    id: str
    title: str
    protocol: str  # a key of ingest.adapters.PROTOCOLS
    url: str
    rank: int = 100  # lower wins when holdings disagree
    requests_per_second: float = 4.0
    concurrency: int = 4
    auth: Auth = field(default_factory=Auth)
    collections: tuple[CollectionMapping, ...] = ()
    offers: str = "items"  # items | collections
    signing: Signing | None = None
    asset_hosts: tuple[
        str, ...
    ] = ()  # where its items' rasters may be read for tiles: hosts, `*.host`, `host:port`, `s3://bucket`
    requests_per_month: int | None = None  # what the account's contract allows, all collections together
    retry_after_unit: str = "s"  # s | ms: what a number in this source's Retry-After counts
    subscription: Subscription | None = None
    provenance: Provenance | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """What a harvest run is limited to. Times are UTC; `bbox` is west, south, east, north in degrees."""

    since: datetime | None = None  # publication (or last change) at the source, inclusive
    until: datetime | None = None  # exclusive
    bbox: tuple[float, float, float, float] | None = None


#: Where to resume. Opaque to the loop, JSON in the database, written and read by the adapter alone.
Cursor = JSON


@dataclass(frozen=True, slots=True)
class Record:
    """One upstream record exactly as received.

    `id` is the source's own id of the record (OData Id, STAC id); `raw` its bytes as JSON (the record
    alone, cut out of the page and re-encoded by orjson without change of order or numbers).
    """

    id: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """Some records in the source's order and the cursor that stands behind the last of them."""

    records: tuple[Record, ...]
    cursor: Cursor
    total: int | None = None  # how many the source says there are for this query, when it says so


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one record says about one product: a whole STAC item as this source alone would give it.

    Attributes:
        item: STAC 1.1 item, links only upstream ones; asset keys and bands by our vocabulary;
            asset hrefs as the source gives them, assets carry `storage:refs`/`auth:refs` as needed.
        name: the product's name as its mission's rules read it.
        published: when the source published it (its watermark), UTC.
        warnings: upstream fields that were not read ("attributes.foo"), counted per source.
    """

    item: JSON
    name: ProductName
    published: datetime | None
    warnings: tuple[str, ...] = ()

    @property
    def product(self) -> str:
        """The product's name with suffix, the key across providers."""
        return self.name.product


class Adapter(Protocol):
    """A protocol that some upstreams speak. The loop owns retries, storage, cursors and lineage."""

    def pages(self, http: httpx.AsyncClient, cursor: Cursor | None) -> AsyncIterator[Page]:
        """Yield pages from `cursor` (None: from the query's start) until the source has no more.

        Raises:
            UpstreamUnavailable: try again later.
            UpstreamChanged: the answer has a shape that we do not know.
        """
        ...

    def item(self, record: Record) -> Contribution:
        """Normalise one record. Pure: no network, no clock, no database.

        Raises:
            RecordRejected: this record cannot become a valid item; carries a stable code.
        """
        ...
