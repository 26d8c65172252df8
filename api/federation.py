"""Sources in openEO's words (federation extension 0.1.0): who there is and answers, and what of a caller's catalogue each offers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from api.access import principals_of
from api.parts import Parts
from db.queries import sql
from ingest.model import Source

CONFORMANCE = "https://api.openeo.org/extensions/federation/0.1.0"
#: A collection's member with the ids of its sources.
BACKENDS = "federation:backends"
#: The extension asks for so many at least; fewer are no federation.
FEWEST = 2

JSON = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Federation:
    """Sources that offer something that the caller may see: the collections of each, and the state of those that were asked."""

    sources: Mapping[str, Source]
    offers: Mapping[str, list[str]]
    states: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_one(self) -> bool:
        return len(self.offers) >= FEWEST

    @property
    def offline(self) -> list[str]:
        """Sources that do not answer at present; what they offered before is still in the catalogue."""
        return [name for name in self.offers if self._status(name) == "offline"]

    def backends_of(self, collection_id: str) -> list[str]:
        """Sources that offer a collection."""
        return [name for name, collections in self.offers.items() if collection_id in collections]

    def described(self) -> dict[str, JSON]:
        """The landing page's member `federation`."""
        return {name: self._described(name) for name in self.offers}

    def _described(self, name: str) -> JSON:
        source, state = self.sources[name], self.states.get(name)
        found: JSON = {"title": source.title, "url": source.url, "status": self._status(name)}
        if state is not None and state["checked_at"] is not None:
            found["last_status_check"] = state["checked_at"].isoformat()
            if state["answered_at"] is not None:
                found["last_successful_check"] = state["answered_at"].isoformat()
        return found

    def _status(self, name: str) -> str:
        state = self.states.get(name)
        return "offline" if state is not None and state["is_offline"] else "online"


async def federation_of(request: Request) -> Federation:
    """The sources of the caller's catalogue, by their ids."""
    parts: Parts = request.app.state.parts
    async with request.app.state.get_connection(request) as conn:
        rows = await conn.fetch(sql("api.offers"), list(principals_of(request)))
        states = {row["source_id"]: row for row in await conn.fetch(sql("api.backends"))}
    offers: dict[str, list[str]] = {}
    for row in rows:
        if row["source_id"] in parts.sources:
            offers.setdefault(row["source_id"], []).append(row["collection_id"])
    return Federation(parts.sources, offers, states)


def named(collection: JSON, federation: Federation) -> JSON:
    """A collection with the sources that offer it; one without id (`fields`) stays as it is."""
    backends = federation.backends_of(collection["id"]) if "id" in collection else []
    return {**collection, BACKENDS: backends} if backends else collection
