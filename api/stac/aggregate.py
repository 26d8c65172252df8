"""`/aggregate` and `/aggregations`: stac-fastapi's aggregation extension over what our search finds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

import attr
import orjson
from fastapi import Depends, FastAPI, Path
from stac_fastapi.api.models import EmptyRequest, create_get_request_model, create_post_request_model
from stac_fastapi.api.routes import create_async_endpoint
from stac_fastapi.extensions import AggregationExtension as StockExtension
from stac_fastapi.extensions.aggregation.client import AsyncBaseAggregationClient
from stac_fastapi.types.extension import ApiExtension
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.access import principals_of
from api.problems import Problem
from api.stac.aggregations import MOST_BUCKETS, PARAMETERS, AggregationCollection, Asked, answered, offered
from api.stac.client import Client, searched
from api.stac.collections import find_collection
from api.stac.links import Link, collection_href, root_of
from api.stac.requests import AggregateGet, AggregatePost
from api.stac.search import fetched
from db.queries import sql

_URI = "https://api.stacspec.org/v0.3.0/aggregation"
CONFORMANCE = [_URI, f"{_URI}#filter", f"{_URI}#query"]


class Turns:
    """Lets some go at the same time, others wait for theirs: counting takes seconds, and must not take all connections from searches."""

    def __init__(self, at_once: int = 4, patience_s: float = 10) -> None:
        self._places = asyncio.Semaphore(at_once)
        self._patience_s = patience_s

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Hold a place.

        Raises:
            Problem: 503, none has become free.
        """
        try:
            async with asyncio.timeout(self._patience_s):
                await self._places.acquire()
        except TimeoutError:
            busy = "too many aggregations are being counted; try again"
            raise Problem(503, "AGGREGATIONS_BUSY", busy, headers={"Retry-After": "5"}) from None
        try:
            yield
        finally:
            self._places.release()


class AggregationClient(AsyncBaseAggregationClient):
    """Answers aggregations; `client` is the STAC API's own, which knows what a search is."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._turns = Turns()

    async def get_aggregations(  # type: ignore[override]
        self, request: Request, collection_id: str | None = None, **kwargs: Any
    ) -> Response:
        """`/aggregations` and `/collections/{collection_id}/aggregations`: what can be asked for."""
        collection_id = await _collection_of(request)
        return _answer({"aggregations": offered(), "links": _links(request, collection_id)})

    async def aggregate(  # type: ignore[override]
        self, posted: AggregatePost | None = None, *, request: Request, **arguments: Any
    ) -> Response:
        """`/aggregate` and `/collections/{collection_id}/aggregate`; `arguments` are those of a GET."""
        asked = Asked.of(arguments if posted is None else posted.model_dump(include=set(PARAMETERS)))
        collection_id = await _collection_of(request)
        search = searched(self._client.model_of(arguments) if posted is None else posted, ignored=PARAMETERS)
        if collection_id is not None:
            search["collections"] = [collection_id]
        aggregations = answered(asked, await self._found(request, search, asked)) if asked.names else []
        return _answer({"aggregations": aggregations, "links": _links(request, collection_id)})

    async def _found(self, request: Request, search: Mapping[str, Any], asked: Asked) -> Mapping[str, Any]:
        query = (
            sql("api.aggregate"),
            orjson.dumps(search).decode(),
            list(principals_of(request)),
            orjson.dumps(asked.wanted()).decode(),
            MOST_BUCKETS,
        )
        async with self._turns.one(), request.app.state.get_connection(request) as conn:
            (row,) = await fetched(conn, *query)
        return dict(row)


async def _in_collection(collection_id: Annotated[str, Path(description="Collection ID")]) -> None:
    """Declares the path's parameter, which stac-fastapi's own routes do not."""


@attr.s
class AggregationExtension(StockExtension):
    """The stock extension with routes of one method each, whose parameters and answers are all in the OpenAPI document."""

    def register(self, app: FastAPI) -> None:
        """Add the routes."""
        self.router.prefix = app.state.router_prefix
        for prefix, title, dependencies in (
            ("", "", []),
            ("/collections/{collection_id}", "Collection ", [Depends(_in_collection)]),
        ):
            for name, method, model in (
                ("aggregations", "GET", EmptyRequest),
                ("aggregations", "POST", EmptyRequest),
                ("aggregate", "GET", self.GET),
                ("aggregate", "POST", self.POST),
            ):
                work = self.client.aggregate if name == "aggregate" else self.client.get_aggregations
                self.router.add_api_route(
                    f"{prefix}/{name}",
                    create_async_endpoint(work, model),
                    methods=[method],
                    name=f"{title}{name.capitalize()}",
                    response_class=JSONResponse,
                    responses={200: {"model": AggregationCollection}},
                    dependencies=dependencies,
                )
        app.include_router(self.router, tags=["Aggregation Extension"])


def create_extension(client: Client, filters: list[ApiExtension]) -> AggregationExtension:
    """Return the extension; `filters` are the search's extensions that say what is searched."""
    extension = AggregationExtension(client=AggregationClient(client), conformance_classes=CONFORMANCE)
    extension.GET = create_get_request_model(filters, base_model=AggregateGet)
    extension.POST = create_post_request_model(filters, base_model=AggregatePost)
    return extension


async def _collection_of(request: Request) -> str | None:
    """The collection of the path, if it names one that the caller may see."""
    collection_id: str | None = request.path_params.get("collection_id")
    if collection_id is not None:
        await find_collection(request, collection_id)  # 404 when there is none
    return collection_id


def _answer(content: dict[str, Any]) -> Response:
    return Response(orjson.dumps({"type": "AggregationCollection", **content}), media_type="application/json")


def _links(request: Request, collection_id: str | None) -> list[Link]:
    root = root_of(request)
    found = [_link("self", str(request.url)), _link("root", f"{root}/")]
    return found if collection_id is None else [*found, _link("collection", collection_href(root, collection_id))]


def _link(rel: str, href: str) -> Link:
    return {"rel": rel, "type": "application/json", "href": href}
