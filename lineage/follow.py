"""A follower: makes the catalogue's present state of the change feed alone, over HTTP, and compares it with the catalogue."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from lineage.canonical import item_hashes

_PAGE = 1000
_ITEMS = 200
_GONE = ("DELETE", "WITHDRAW")

JSON = dict[str, Any]


@dataclass
class State:
    """What there is after the events up to `next_seq`: for each collection, each item's hash; None: an event did not tell it."""

    next_seq: int = 0
    collections: dict[str, dict[str, str | None]] = field(default_factory=dict)

    def apply(self, event: JSON) -> None:
        """Go on by one event. Events that change no document, such as a check or a further copy, leave all as it is."""
        self.next_seq = event["seq"] + 1
        collection, item, kind, body = event["collection"], event["item_id"], event["kind"], event["body"]
        if collection is None:
            return
        if item is None:
            if kind == "DELETE":
                self.collections.pop(collection, None)
            return
        items = self.collections.setdefault(collection, {})
        if kind in _GONE:
            items.pop(item, None)
        elif "item_sha256" in body:
            items[item] = str(body["item_sha256"])
        elif event["actor"] == "unattributed":
            items[item] = None

    @property
    def number(self) -> int:
        """How many items there are."""
        return sum(map(len, self.collections.values()))


class FeedFailed(Exception):
    """The service does not answer as it should; the message says which request and how."""


async def follow(http: httpx.AsyncClient, state: State) -> int:
    """Bring a state up to date; returns the number of events read. `http` has the service's address as its base URL.

    Raises:
        FeedFailed
    """
    read = 0
    while True:
        page = await _json(http, "GET", f"/lineage/v1/events?from_seq={state.next_seq}&limit={_PAGE}")
        for event in page["events"]:
            state.apply(event)
        read += len(page["events"])
        if len(page["events"]) < _PAGE:
            return read


async def compare(http: httpx.AsyncClient, state: State) -> AsyncIterator[str]:
    """Yield, in words, where the catalogue is another than the feed says.

    Raises:
        FeedFailed
    """
    for collection in sorted(state.collections.keys() | {one async for one in _collections(http)}):
        told = dict(state.collections.get(collection, {}))
        async for item in _items(http, collection):
            if item["id"] not in told:
                yield f"{collection}/{item['id']} is in the catalogue, and in no event"
                continue
            expected = told.pop(item["id"])
            if expected is not None and expected not in item_hashes(item):
                yield f"{collection}/{item['id']} is another document than its newest event names"
        for item_id in sorted(told):
            yield f"{collection}/{item_id} is not in the catalogue, and its newest event says that it is"


async def _collections(http: httpx.AsyncClient) -> AsyncIterator[str]:
    path: str | None = f"/stac/collections?limit={_PAGE}"
    while path:
        page = await _json(http, "GET", path)
        for one in page["collections"]:
            yield one["id"]
        path = next(_next(page), {}).get("href")


async def _items(http: httpx.AsyncClient, collection: str) -> AsyncIterator[JSON]:
    path: str | None = "/stac/search"
    body: JSON = {"collections": [collection], "limit": _ITEMS}
    while path:
        page = await _json(http, "POST", path, body)
        for item in page["features"]:
            yield item
        link = next(_next(page), {})
        path, body = link.get("href"), {**body, **link.get("body", {})}


def _next(page: JSON) -> Iterator[JSON]:
    return (link for link in page.get("links", ()) if link.get("rel") == "next")


async def _json(http: httpx.AsyncClient, method: str, path: str, body: JSON | None = None) -> JSON:
    try:
        answer = await http.request(method, path, json=body)
        answer.raise_for_status()
        return dict(answer.json())
    except httpx.HTTPStatusError as error:
        raise FeedFailed(f"{method} {path}: {error.response.status_code}") from error
    except (httpx.HTTPError, ValueError) as error:
        raise FeedFailed(f"{method} {path}: {type(error).__name__}") from error
