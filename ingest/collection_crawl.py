"""Sources that offer collections without items: a static catalogue is crawled, its Collections are ours to show."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import httpx

from ingest.errors import RecordRejected
from ingest.model import JSON, Cursor, Source
from ingest.normalise.earth_engine import collection_id, earth_engine_collection
from ingest.static_catalog import Crawl
from ingest.static_documents import Bounds, Failed, Known, Read, own_id


@dataclass(frozen=True, slots=True)
class Refused:
    """A document that did not become a collection, and why; `code` is stable."""

    url: str
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class CollectionPage:
    """What a crawl found, to be stored together with the cursor.

    Attributes:
        collections: new or changed ones, ready to be stored.
        refused: documents that could not be read or make no collection.
        gone: ids of collections that the catalogue no longer has; only on the last page of a whole crawl.
        cursor: where to resume; a crawl from it passes over what has not changed.
        is_last: True when the whole catalogue was seen.
    """

    collections: tuple[JSON, ...]
    refused: tuple[Refused, ...]
    gone: tuple[str, ...]
    cursor: Cursor
    is_last: bool


async def crawl_collections(
    http: httpx.AsyncClient,
    source: Source,
    cursor: Cursor | None,
    *,
    page_size: int = 100,
    bounds: Bounds | None = None,
    normalise: Callable[[JSON], JSON] = earth_engine_collection,
) -> AsyncIterator[CollectionPage]:
    """Yield the Collections below `source.url` that are new or changed since `cursor`. There is always a last page.

    Raises:
        UpstreamUnavailable: try again later; what was yielded is done.
        UpstreamChanged: the root, or a catalogue in between, cannot be read; the rest was yielded before.
    """
    known = Known.of(source.url, cursor)
    crawl = Crawl(http, source, bounds or Bounds.of(source, {}), known)
    taken = {collection_id(entry["id"]): entry["id"] for entry in known.catalogs.values() if entry["id"]}
    made: list[JSON] = []
    refused: list[Refused] = []
    async for outcome in crawl.outcomes():
        if isinstance(outcome, Failed):
            refused.append(Refused(outcome.link.url, outcome.code, outcome.detail))
        elif isinstance(outcome, Read):
            known.remember(outcome)
            if (dataset := own_id(outcome.document)) is None:
                continue
            if taken.setdefault(collection_id(dataset), dataset) != dataset:
                detail = f"{dataset!r} and {taken[collection_id(dataset)]!r} would both be {collection_id(dataset)!r}"
                refused.append(Refused(outcome.address, "id-taken", detail))
            else:
                _add(outcome, normalise, made, refused)
        if len(made) + len(refused) >= page_size:
            yield CollectionPage(tuple(made), tuple(refused), (), known.cursor(), is_last=False)
            made, refused = [], []
    gone = () if crawl.losses else _gone(known, crawl)
    yield CollectionPage(tuple(made), tuple(refused), gone, known.cursor(), is_last=not crawl.losses)
    crawl.check()


def _gone(known: Known, crawl: Crawl) -> tuple[str, ...]:
    """Forget what no link leads to any more; return the ids of collections that have no other document."""
    left = {entry["id"] for entry in known.forget_all_but(crawl.visited)} - {None}
    left -= {entry["id"] for entry in known.catalogs.values()}
    return tuple(sorted(map(collection_id, left)))


def _add(read: Read, normalise: Callable[[JSON], JSON], made: list[JSON], refused: list[Refused]) -> None:
    try:
        made.append(normalise(read.document))
    except RecordRejected as error:
        refused.append(Refused(read.address, error.code, str(error)))
