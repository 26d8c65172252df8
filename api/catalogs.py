"""`/stac/catalogs`: each source's view of the catalogue, after STAC's multi-tenant catalogs extension (1.0.0-rc.2), for reading.

A source's catalog lists the federated collections that were harvested from it; their items are those that the source holds a copy of.
"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import orjson
from fastapi import APIRouter, Query
from stac_fastapi.types.errors import NotFoundError
from starlette.requests import Request
from starlette.responses import Response

from api.parts import Parts
from api.stac.collections import find_collection
from api.stac.links import AGGREGATION_RELS
from db.queries import sql
from ingest.model import Source

CONFORMANCE = "https://api.stacspec.org/v1.0.0/multi-tenant-catalogs"
STAC_VERSION = "1.1.0"

Link = dict[str, str]


def create_router(client: Any) -> APIRouter:
    """Return the routes; `client` is the STAC API's own, which answers for collections and items."""
    router = APIRouter(tags=["catalogs"])

    @router.get("/catalogs")
    async def catalogs(request: Request) -> dict[str, Any]:
        """All sources that were harvested."""
        root = _root(request)
        held = await _held(request)
        found = [_catalog(root, source, held[source.id]) for source in _sources(request).values() if source.id in held]
        links = [_link("self", f"{root}/catalogs"), _link("root", f"{root}/"), _link("parent", f"{root}/")]
        return {"catalogs": found, "links": links, "numberMatched": len(found), "numberReturned": len(found)}

    @router.get("/catalogs/{source_id}")
    async def catalog(request: Request, source_id: str) -> dict[str, Any]:
        """One source as a catalog."""
        return _catalog(_root(request), *await _source(request, source_id))

    @router.get("/catalogs/{source_id}/collections")
    @router.get("/catalogs/{source_id}/children")
    async def collections(request: Request, source_id: str) -> dict[str, Any]:
        """The collections that were harvested from a source."""
        source, names = await _source(request, source_id)
        root = _root(request)
        found = [_scoped(root, source, await find_collection(request, name)) for name in names]
        here = _catalog_href(root, source.id)
        return {
            "collections": found,
            "links": [_link("self", f"{here}/collections"), _link("root", f"{root}/"), _link("parent", here)],
        }

    @router.get("/catalogs/{source_id}/collections/{collection_id}")
    async def collection(request: Request, source_id: str, collection_id: str) -> dict[str, Any]:
        """One collection of a source."""
        source = await _source_of(request, source_id, collection_id)
        return _scoped(_root(request), source, await find_collection(request, collection_id))

    @router.get("/catalogs/{source_id}/collections/{collection_id}/items")
    async def items(
        request: Request,
        source_id: str,
        collection_id: str,
        bbox: str | None = None,
        datetime: str | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 10,
        token: str | None = None,
    ) -> Response:
        """Items of a collection that the source holds a copy of."""
        await _source_of(request, source_id, collection_id)
        is_held = {"op": "a_contains", "args": [{"property": "federation:backends"}, [source_id]]}
        answer: Response = await client.item_collection(
            collection_id,
            request=request,
            bbox=[float(number) for number in bbox.split(",")] if bbox else None,
            datetime=datetime,
            limit=limit,
            filter_expr=orjson.dumps(is_held).decode(),
            filter_lang="cql2-json",
            token=token,
        )
        return answer

    @router.get("/catalogs/{source_id}/conformance")
    async def conformance(request: Request, source_id: str) -> dict[str, list[str]]:
        """What the catalog conforms to."""
        await _source(request, source_id)
        return {"conformsTo": client.conformance_classes()}

    return router


def _root(request: Request) -> str:
    return str(request.base_url).removesuffix("/")


def _sources(request: Request) -> dict[str, Source]:
    parts: Parts = request.app.state.parts
    return dict(parts.sources)


async def _held(request: Request) -> dict[str, list[str]]:
    """Source -> collections that were harvested from it."""
    found: dict[str, list[str]] = {}
    async with request.app.state.get_connection(request) as conn:
        for row in await conn.fetch(sql("api.harvested_collections")):
            found.setdefault(row["source_id"], []).append(row["collection_id"])
    return found


async def _source(request: Request, source_id: str) -> tuple[Source, list[str]]:
    source, held = _sources(request).get(source_id), await _held(request)
    if source is None or source_id not in held:
        raise NotFoundError(f"no catalog {source_id!r}")
    return source, held[source_id]


async def _source_of(request: Request, source_id: str, collection_id: str) -> Source:
    source, names = await _source(request, source_id)
    if collection_id not in names:
        raise NotFoundError(f"no collection {collection_id!r} in {source_id!r}")
    return source


def _catalog_href(root: str, source_id: str) -> str:
    return f"{root}/catalogs/{quote(source_id, safe='')}"


def _catalog(root: str, source: Source, names: list[str]) -> dict[str, Any]:
    here = _catalog_href(root, source.id)
    children = [_link("child", f"{here}/collections/{quote(name, safe='')}") for name in names]
    return {
        "type": "Catalog",
        "stac_version": STAC_VERSION,
        "id": source.id,
        "title": source.title,
        "description": f"What {source.title} offers, as far as it was harvested.",
        "links": [
            _link("self", here),
            _link("root", f"{root}/"),
            _link("parent", f"{root}/catalogs"),
            _link("data", f"{here}/collections"),
            *children,
        ],
    }


def _scoped(root: str, source: Source, document: dict[str, Any]) -> dict[str, Any]:
    """A collection seen from its source: self, parent and items lie below the catalog."""
    here = _catalog_href(root, source.id)
    own = f"{here}/collections/{quote(document['id'], safe='')}"
    replaced = {"self", "parent", "items"} | AGGREGATION_RELS  # which would count other sources' items too
    kept = [link for link in document["links"] if link.get("rel") not in replaced]
    links = [_link("self", own), _link("parent", here), _link("items", f"{own}/items", "application/geo+json")]
    return {**document, "links": [*kept, *links]}


def _link(rel: str, href: str, media_type: str = "application/json") -> Link:
    return {"rel": rel, "href": href, "type": media_type}
