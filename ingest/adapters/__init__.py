"""Protocols that upstreams speak: one module each, two methods each (`ingest.model.Adapter`)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Protocol

from ingest.adapters.odata import OData
from ingest.adapters.stac import Stac
from ingest.errors import SourceInvalid
from ingest.model import Adapter, CollectionMapping, Cursor, Query, Source


class Harvestable(Adapter, Protocol):
    """An adapter that can also start a new run some time before the end of the last one."""

    def rewound(self, cursor: Cursor, overlap: timedelta, not_after: datetime) -> Cursor:
        """Return the cursor that lies `overlap` before what `cursor` has seen and before `not_after`."""
        ...


def adapter_for(
    source: Source,
    mapping: CollectionMapping,
    query: Query | None = None,
    page_size: int = 500,
    *,
    with_total: bool = True,
) -> Harvestable:
    """Return the adapter that speaks the source's protocol; `with_total` may cost a request for the number of records.

    Raises:
        SourceInvalid: nobody here speaks it.
    """
    match source.protocol:
        case "odata":
            return OData(source, mapping, query, page_size, with_total=with_total)
        case "stac":
            return Stac(source, mapping, query, page_size)
        case protocol:
            raise SourceInvalid(f"the source {source.id!r} speaks {protocol!r}, which is not known here")
