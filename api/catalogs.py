"""`/catalogs` and `/children`: each source's view of the catalogue, for reading.

After STAC's children extension and its multi-tenant catalogs extension (1.0.0-rc.2). A source's catalog lists the federated collections
that it offers and the caller may see; their items are those that the source holds a copy of. There are no catalogs in catalogs.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, Query
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from stac_fastapi.types.errors import NotFoundError
from starlette.requests import Request
from starlette.responses import Response

from api.catalog_documents import GEOJSON, catalog_document, catalog_href, listed, scoped
from api.federation import Federation, federation_of, named
from api.stac import schemas
from api.stac.collections import every_collection, find_collection
from api.stac.links import root_of
from api.stac.queryables import answer, facts_of
from api.stac.within import Within

Kind = Annotated[Literal["Catalog", "Collection"] | None, Query(alias="type")]


def create_router(client: Any, *, search_get: Any, items_get: Any) -> APIRouter:
    """Return the routes; `client` is the STAC API's own, which answers for items.

    Args:
        search_get: request model of `GET /search`.
        items_get: request model of `GET /collections/{collection_id}/items`.
    """
    router = APIRouter(tags=["catalogs"])

    @router.get("/children")
    async def children_of_root(request: Request, kind: Kind = None) -> dict[str, Any]:
        """All catalogs and collections below the landing page."""
        root, federation = root_of(request), await federation_of(request)
        found: list[dict[str, Any]] = []
        if kind != "Collection":
            found += [catalog_document(root, federation, name) for name in federation.offers]
        if kind != "Catalog":
            found += [named(one, federation) for one in await every_collection(request)]
        return listed("children", found, root, str(request.url))

    @router.get("/catalogs")
    async def catalogs(request: Request) -> dict[str, Any]:
        """All sources that offer something here."""
        root, federation = root_of(request), await federation_of(request)
        found = [catalog_document(root, federation, name) for name in federation.offers]
        return {
            **listed("catalogs", found, root, f"{root}/catalogs", parent=f"{root}/"),
            "numberMatched": len(found),
            "numberReturned": len(found),
        }

    @router.get("/catalogs/{source_id}")
    async def catalog(request: Request, source_id: str) -> dict[str, Any]:
        """One source as a catalog, which is the landing page of its part."""
        federation, _ = await _source(request, source_id)
        document = catalog_document(root_of(request), federation, source_id)
        return {**document, "conformsTo": client.classes_in_catalogs()}

    @router.get("/catalogs/{source_id}/conformance")
    async def conformance(request: Request, source_id: str) -> dict[str, list[str]]:
        """What the catalog conforms to."""
        await _source(request, source_id)
        return {"conformsTo": client.classes_in_catalogs()}

    @router.get("/catalogs/{source_id}/catalogs")
    async def catalogs_of(request: Request, source_id: str) -> dict[str, Any]:
        """Catalogs in a catalog: none."""
        await _source(request, source_id)
        root = root_of(request)
        here = catalog_href(root, source_id)
        return listed("catalogs", [], root, f"{here}/catalogs", parent=here)

    @router.get("/catalogs/{source_id}/children")
    async def children(request: Request, source_id: str, kind: Kind = None) -> dict[str, Any]:
        """The collections that a source offers."""
        found = [] if kind == "Catalog" else await _collections(request, source_id)
        if kind == "Catalog":
            await _source(request, source_id)
        root = root_of(request)
        return listed("children", found, root, str(request.url), parent=catalog_href(root, source_id))

    @router.get("/catalogs/{source_id}/collections")
    async def collections(request: Request, source_id: str) -> dict[str, Any]:
        """The collections that a source offers."""
        root, found = root_of(request), await _collections(request, source_id)
        here = catalog_href(root, source_id)
        numbers = {"numberMatched": len(found), "numberReturned": len(found)}
        return {**listed("collections", found, root, f"{here}/collections", parent=here), **numbers}

    @router.get("/catalogs/{source_id}/collections/{collection_id}")
    async def collection(request: Request, source_id: str, collection_id: str) -> dict[str, Any]:
        """One collection of a source."""
        federation = await _collection(request, source_id, collection_id)
        document = named(await find_collection(request, collection_id), federation)
        return scoped(root_of(request), source_id, document)

    @router.get("/catalogs/{source_id}/collections/{collection_id}/items", response_class=_GeoJson)
    async def items(request: Request, source_id: str, asked: Any = Depends(items_get)) -> Response:  # noqa: B008
        """Items of a collection that the source holds a copy of."""
        arguments = asked.kwargs()
        collection_id = arguments.pop("collection_id")
        await _collection(request, source_id, collection_id)
        model = client.model_of({**arguments, "collections": [collection_id]})
        found: Response = await client.answer(model, request, None, Within(source_id, [collection_id]))
        return found

    @router.get("/catalogs/{source_id}/collections/{collection_id}/items/{item_id}", response_class=_GeoJson)
    async def item(request: Request, source_id: str, collection_id: str, item_id: str) -> Response:
        """One item that the source holds a copy of."""
        await _collection(request, source_id, collection_id)
        found: Response = await client.item_within(request, item_id, Within(source_id, [collection_id]))
        return found

    @router.get("/catalogs/{source_id}/queryables")
    async def queryables(request: Request, source_id: str) -> Response:
        """What can be filtered by in a source's catalog."""
        _, names = await _source(request, source_id)
        url = f"{catalog_href(root_of(request), source_id)}/queryables"
        return answer(schemas.queryables(await facts_of(request, names), url, of_one=True))

    @router.get("/catalogs/{source_id}/search", response_class=_GeoJson)
    async def search(request: Request, source_id: str, asked: Any = Depends(search_get)) -> Response:  # noqa: B008
        """`/search` among what the source holds."""
        _, names = await _source(request, source_id)
        found: Response = await client.answer(client.model_of(asked.kwargs()), request, None, Within(source_id, names))
        return found

    @router.post("/catalogs/{source_id}/search", response_class=_GeoJson)
    async def search_posted(request: Request, source_id: str, body: Annotated[dict[str, Any], Body()]) -> Response:
        """`/search` among what the source holds."""
        _, names = await _source(request, source_id)
        try:
            asked = client.pgstac_search_model.model_validate(body)
        except ValidationError as error:
            raise RequestValidationError(error.errors()) from error
        found: Response = await client.answer(asked, request, body, Within(source_id, names))
        return found

    return router


class _GeoJson(Response):
    media_type = GEOJSON


async def _source(request: Request, source_id: str) -> tuple[Federation, list[str]]:
    """The federation, and the collections that a source offers to the caller."""
    federation = await federation_of(request)
    if source_id not in federation.offers:
        raise NotFoundError(f"no catalog {source_id!r}")
    return federation, federation.offers[source_id]


async def _collection(request: Request, source_id: str, collection_id: str) -> Federation:
    federation, names = await _source(request, source_id)
    if collection_id not in names:
        raise NotFoundError(f"no collection {collection_id!r} in {source_id!r}")
    return federation


async def _collections(request: Request, source_id: str) -> list[dict[str, Any]]:
    federation, names = await _source(request, source_id)
    found = [one for one in await every_collection(request) if one["id"] in names]
    return [scoped(root_of(request), source_id, named(one, federation)) for one in found]
