"""A request to change the catalogue: who asks, on which conditions, and how it is answered."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import orjson
from starlette.requests import Request
from starlette.responses import Response

from api.access import author_of, caller_of
from api.bounds import refuse
from api.federation import BACKENDS, Federation, federation_of, named
from api.parts import Parts
from api.settings import ApiSettings
from api.stac.collections import with_links
from api.stac.etags import check_write, etag_of, tagged
from api.stac.features import Feature, FeatureWriter
from api.stac.links import root_of, without_made
from db.pools import Connection
from ingest.edits.author import Author, in_transaction
from ingest.edits.documents import check_plain
from ingest.edits.patches import merged, patched
from ingest.edits.stored import Stored
from ingest.errors import EditRefused
from ingest.model import JSON

GEOJSON, PLAIN_JSON = "application/geo+json", "application/json"
MERGE_PATCH, JSON_PATCH = "application/merge-patch+json", "application/json-patch+json"
_WANTS_REPRESENTATION = re.compile(r'(^|[,;\s])return\s*=\s*"?representation"?($|[,;\s])', re.IGNORECASE)


def media_type(request: Request) -> str:
    """The body's media type without parameters, in small letters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def document_of(body: bytes) -> Any:
    """The JSON of a body. Raises Problem: 400 INVALID_BODY."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise refuse("INVALID_BODY", "the body is no JSON") from None


@dataclass(frozen=True, slots=True)
class Edit:
    """What the clients of the transaction extensions work with; `root` is the STAC API's URL without a slash at its end."""

    request: Request
    parts: Parts
    author: Author
    root: str
    federation: Federation | None = None

    @classmethod
    def of(cls, request: Request) -> Edit:
        """The edit that a request asks for; its route has asked who sends it."""
        parts: Parts = request.app.state.parts
        caller = caller_of(request)
        assert caller is not None
        return cls(request, parts, author_of(caller), root_of(request))

    @classmethod
    async def of_collection(cls, request: Request) -> Edit:
        """The same of a collection, whose document names its sources."""
        return replace(cls.of(request), federation=await federation_of(request))

    @property
    def settings(self) -> ApiSettings:
        return self.parts.settings

    async def do[T](self, work: Callable[[Connection], Awaitable[T]], *, timeout_ms: str | None = None) -> T:
        """Do `work` in one transaction. Raises EditRefused: CATALOGUE_BUSY (503)."""
        if timeout_ms is None:
            return await in_transaction(self.parts.pool, work)
        return await in_transaction(self.parts.pool, work, statement_timeout_ms=timeout_ms)

    def permit_new(self) -> None:
        """Look at the conditions on what is not there yet. Raises Problem: 412."""
        check_write(self.request.headers, None)

    def permit_item(self, stored: Stored | None) -> None:
        """Look at the conditions on an item; None: there is none. Raises Problem: 412."""
        check_write(self.request.headers, etag_of(self.item_body(stored)) if stored else None)

    def permit_collection(self, content: JSON) -> None:
        """Look at the conditions on a collection. Raises Problem: 412."""
        check_write(self.request.headers, etag_of(self.collection_body(content)))

    def item_body(self, stored: Stored) -> bytes:
        """An item as it is answered to GET, byte for byte."""
        feature = Feature(stored.collection, stored.id, stored.body, stored.links, stored.body)
        return FeatureWriter(self.root).write(feature, None)

    def collection_body(self, content: JSON) -> bytes:
        """A collection as it is answered to GET, byte for byte."""
        document = with_links(content, self.root)
        return orjson.dumps(named(document, self.federation) if self.federation else document)

    def sent(self, document: Any) -> Any:
        """A document that a caller sends, without links that were made for it when he read it here."""
        return without_made(document, self.root.removesuffix("/stac"))

    def sent_collection(self, document: Any) -> Any:
        """The same for a collection, without the names of its sources."""
        sent = self.sent(document)
        return {name: value for name, value in sent.items() if name != BACKENDS} if isinstance(sent, dict) else sent

    def href(self, collection_id: str, item_id: str | None = None) -> str:
        """Where a collection or an item is."""
        here = f"{self.root}/collections/{quote(collection_id, safe='')}"
        return here if item_id is None else f"{here}/items/{quote(item_id, safe='')}"

    def created(self, body: bytes, media: str, href: str) -> Response:
        """201 with what was created and where it is."""
        return tagged(body, media, status=201, headers={"Location": href})

    def changed(self, body: bytes, media: str, href: str) -> Response:
        """204, or 200 with what it is now to a caller who prefers that (RFC 7240).

        The tag comes with the body or after a patch: after PUT a client would take it for the tag of what it sent (RFC 9110, 9.3.4).
        """
        if _WANTS_REPRESENTATION.search(self.request.headers.get("prefer", "")):
            headers = {"Preference-Applied": "return=representation", "Content-Location": href}
            return tagged(body, media, headers=headers)
        return Response(status_code=204, headers={"ETag": etag_of(body)} if self.request.method == "PATCH" else {})

    def patching(self, patch: Any) -> Callable[[JSON], Any]:
        """What a patch makes of a document: JSON Patch (RFC 6902) or merge patch (RFC 7396), as the body's type says.

        Raises:
            EditRefused: INVALID_PATCH, INVALID_CONTENT, TOO_DEEP (400); the function raises what `ingest.edits.patches.patched` does.
        """
        check_plain(patch)
        if media_type(self.request) == JSON_PATCH:
            return lambda document: patched(document, patch, self.settings.max_patch_operations)
        if not isinstance(patch, dict):
            why = f"a merge patch is an object; a JSON Patch has the type {JSON_PATCH}"
            raise EditRefused("INVALID_PATCH", why, place="")
        return lambda document: merged(document, patch)

    def note_items(self) -> None:
        """Numbers of items that this process has told are old."""
        self.request.app.state.searcher.recount()

    def note_collections(self) -> None:
        """This process need not wait for the news of its own change."""
        self.request.app.state.changes.note()
