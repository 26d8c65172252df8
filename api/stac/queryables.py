"""`/queryables`, `/sortables` and those of collections, for stac-fastapi's extensions; documents of collections that the caller may see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import orjson
from fastapi import APIRouter
from stac_fastapi.extensions.filter.client import AsyncBaseFiltersClient
from stac_fastapi.extensions.sort.client import AsyncBaseSortablesClient
from stac_fastapi.types.errors import NotFoundError
from starlette.requests import Request
from starlette.responses import Response

from api.access import principals_of
from api.stac import schemas
from api.stac.links import root_of
from api.stac.schemas import Facts
from db.queries import sql

MEDIA_TYPE = "application/schema+json"


async def facts_of(request: Request, collections: Sequence[str] | None) -> Facts:
    """What is known of the properties of these collections, or (None) of all that the caller may see.

    Raises:
        NotFoundError: there is none of them that the caller may see.
    """
    asked = None if collections is None else list(collections)
    async with request.app.state.get_connection(request) as conn:
        row = await conn.fetchrow(sql("api.property_facts"), asked, list(principals_of(request)))
    if row is None:
        raise NotFoundError("no such collection")
    return Facts(row["collections"], row["registered"], row["summaries"], row["is_open"])


def answer(document: dict[str, Any]) -> Response:
    """A JSON schema."""
    return Response(orjson.dumps(document), media_type=MEDIA_TYPE)


class Queryables(AsyncBaseFiltersClient):
    """What can be filtered by."""

    async def get_queryables(  # type: ignore[override]
        self, request: Request, collection_id: str | None = None, **kwargs: Any
    ) -> Response:
        """`GET /queryables` and `GET /collections/{collection_id}/queryables`."""
        facts = await facts_of(request, None if collection_id is None else [collection_id])
        url = _url(request, "queryables", collection_id)
        return answer(schemas.queryables(facts, url, of_one=collection_id is not None))


class Sortables(AsyncBaseSortablesClient):
    """What can be sorted by."""

    async def get_sortables(self, request: Request, **kwargs: Any) -> Response:  # type: ignore[override]
        """`GET /sortables`."""
        return answer(schemas.sortables(await facts_of(request, None), _url(request, "sortables"), of_one=False))

    async def get_collection_sortables(  # type: ignore[override]
        self, collection_id: str, request: Request, **kwargs: Any
    ) -> Response:
        """`GET /collections/{collection_id}/sortables`."""
        facts = await facts_of(request, [collection_id])
        return answer(schemas.sortables(facts, _url(request, "sortables", collection_id), of_one=True))


def collection_schemas() -> APIRouter:
    """Routes that say what collections can be filtered and sorted by; stac-fastapi's have no places of their own."""
    router = APIRouter(tags=["Collection Search"])

    @router.get("/collections-queryables")
    async def collections_queryables(request: Request) -> Response:
        """What collections can be filtered by."""
        return answer(schemas.of_collections("Queryables of collections", f"{root_of(request)}/collections-queryables"))

    @router.get("/collections-sortables")
    async def collections_sortables(request: Request) -> Response:
        """What collections can be sorted by."""
        return answer(schemas.of_collections("Sortables of collections", f"{root_of(request)}/collections-sortables"))

    return router


def _url(request: Request, name: str, collection_id: str | None = None) -> str:
    here = "" if collection_id is None else f"/collections/{quote(collection_id, safe='')}"
    return f"{root_of(request)}{here}/{name}"
