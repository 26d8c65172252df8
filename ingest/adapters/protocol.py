"""What the harvest loop asks of an adapter, and what a source file asks of its class."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable

import httpx

from ingest.model import Adapter, CollectionMapping, Cursor, Query, Source


class Harvestable(Adapter, Protocol):
    """An adapter that can also start a new run some time before the end of the last one."""

    def rewound(self, cursor: Cursor, overlap: timedelta, not_after: datetime) -> Cursor:
        """Return the cursor that lies `overlap` before what `cursor` has seen and before `not_after`."""
        ...


@dataclass(frozen=True, slots=True)
class Deletion:
    """A record that the source took back, and why in its words."""

    record_id: str
    cause: str


@dataclass(frozen=True, slots=True)
class DeletionPage:
    """Some tombstones in the source's order and the cursor that stands behind the last of them."""

    deletions: tuple[Deletion, ...]
    cursor: Cursor


@runtime_checkable
class ListsDeletions(Protocol):
    """An adapter whose protocol has a list of what was deleted."""

    def deletions(self, http: httpx.AsyncClient, cursor: Cursor | None) -> AsyncIterator[DeletionPage]:
        """Yield tombstones from `cursor` on, oldest first.

        Raises:
            UpstreamUnavailable, UpstreamChanged: as `Adapter.pages`.
        """
        ...


@runtime_checkable
class Counts(Protocol):
    """An adapter whose protocol tells how many records a query has without listing them."""

    async def count(self, http: httpx.AsyncClient) -> int | None:
        """How many records there are for the adapter's query; None when the source does not say.

        Raises:
            UpstreamUnavailable, UpstreamChanged: as `Adapter.pages`.
        """
        ...


class AdapterClass(Protocol):
    """A protocol's class. The keys are those that a source file may, or must, give under `upstream`."""

    KEYS: frozenset[str]
    REQUIRED_KEYS: frozenset[str]

    def __call__(
        self,
        source: Source,
        mapping: CollectionMapping,
        query: Query | None = None,
        page_size: int = 500,
        *,
        with_total: bool = True,
    ) -> Harvestable:
        """Make the adapter of one collection of a source."""
        ...
