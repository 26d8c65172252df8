"""What routes work with: settings, pools, sources. Opened in the lifespan of the application."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from api.people.callers import People
from api.settings import ApiSettings
from db.pools import Pool
from ingest.model import Source
from ingest.settings import IngestSettings


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that a route may need."""

    settings: ApiSettings
    ingest: IngestSettings
    pool: Pool
    sources: dict[str, Source]
    people: People

    @property
    def root(self) -> str:
        """The public URL without a slash at its end."""
        return self.settings.public_url.rstrip("/")


def parts_of(request: Request) -> Parts:
    """The parts of the application that answers this request."""
    parts: Parts = request.app.state.parts
    return parts
