"""The application at `/stac`: stac-fastapi's routes and models with our client behind them, our guard in front, our errors.

Assembled from its parts and not by its `instantiate_api`, which reads links' host from request headers.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import orjson
from asyncpg import Connection
from fastapi import FastAPI
from stac_fastapi.api.app import StacApi
from stac_fastapi.api.models import (
    ItemCollectionUri,
    create_get_request_model,
    create_post_request_model,
    create_request_model,
)
from stac_fastapi.extensions import (
    CollectionSearchFilterExtension,
    ItemCollectionFilterExtension,
    SearchFilterExtension,
)
from stac_fastapi.extensions.sort import (
    CollectionSearchSortExtension,
    ItemCollectionSortExtension,
    SearchSortExtension,
)
from stac_fastapi.pgstac.config import Settings
from stac_fastapi.pgstac.models.extensions import Extensions
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from api.bounds import refuse
from api.catalogs import create_router
from api.guard import check_crs, check_search, read_body, replayed, zoned
from api.problems import Problem, add_handlers, answer
from api.public_url import Mounted
from api.settings import ApiSettings
from api.stac.aggregate import create_extension
from api.stac.aggregations import Asked
from api.stac.client import Client
from api.stac.edit_routes import create_extensions
from api.stac.etags import NotModified
from api.stac.inline import make_models_inline, served
from api.stac.methods import Methods
from api.stac.openapi import describe_in_3_0
from api.stac.queries import QueryExtension
from api.stac.queryables import Queryables, Sortables, collection_schemas
from api.stac.requests import Search

DESCRIPTION = "One STAC API over every Earth-observation catalogue that is harvested here."
VERSION = "1.0.0"
_WITH_SEARCH_IN_BODY = ("/search", "/aggregate")
_LISTS = frozenset({"ids", "collections", "fields", "sortby", "q", "aggregations"})


class Guard:
    """Reads and bounds what a search asks before the frameworks do; other requests pass."""

    def __init__(self, app: ASGIApp, settings: ApiSettings) -> None:
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            receive = await self._checked(scope, receive)
        except Problem as problem:
            await answer(problem.status, problem.code, problem.detail, **problem.facts)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _checked(self, scope: Scope, receive: Receive) -> Receive:
        request = Request(scope, receive)
        if scope["method"] == "GET" and "\0" in scope["path"]:  # writers are asked who they are first
            raise Problem(404, "NOT_FOUND", "there is no such collection or item")
        if len(scope.get("query_string", b"")) > self._settings.max_body_bytes:
            raise refuse("QUERY_TOO_LONG", "the query string is too long")
        parameters = _parameters(request)
        for name in ("ids", "collections", "fields", "sortby", "q"):
            parameters.pop(name, None) if parameters.get(name) == "" else None
        parameters["datetime"] = zoned(parameters.get("datetime"))
        scope["query_string"] = _query_string(request, parameters)
        for name in {"crs", "bbox-crs"} & parameters.keys():
            check_crs(parameters[name], name)
        self._check(scope, parameters)
        if scope["method"] != "POST" or _is_edit(scope):
            return receive
        _check_media_type(request)
        body = await read_body(request, self._settings.max_body_bytes)
        if scope["path"].rstrip("/").endswith(_WITH_SEARCH_IN_BODY):
            try:
                document = orjson.loads(body or b"{}")
            except orjson.JSONDecodeError:
                raise refuse("INVALID_BODY", "the body is no JSON") from None
            if isinstance(document, dict) and "datetime" in document:
                document["datetime"] = zoned(document["datetime"])
            self._check(scope, document)
            body = orjson.dumps(document)  # as it was checked: another parser would read integers that nobody can store
        return replayed(body, receive)

    def _check(self, scope: Scope, parameters: Any) -> None:
        check_search(parameters, self._settings)
        if scope["path"].rstrip("/").endswith("/aggregate"):
            Asked.of(parameters)


def _parameters(request: Request) -> dict[str, Any]:
    """Parameters of the query; lists that come in several parts (`ids=a&ids=b`) are one."""
    found: dict[str, Any] = dict(request.query_params)
    for name in _LISTS & found.keys():
        found[name] = ",".join(part for part in request.query_params.getlist(name) if part)
    return found


def _query_string(request: Request, parameters: dict[str, Any]) -> bytes:
    """The query with these values where they are others than it says."""
    said = request.query_params.multi_items()
    changed = {name: value for name, value in said if parameters.get(name, value) != value}
    if not changed:
        return bytes(request.scope["query_string"])
    rest = [(name, value) for name, value in said if name not in changed]
    return urlencode([*rest, *((name, parameters[name]) for name in changed)]).encode()


def _check_media_type(request: Request) -> None:
    """Bodies are JSON. One that does not say what it is is taken for it; models given anything else would fail in their validators."""
    given = request.headers.get("content-type")
    if given is None:
        request.scope["headers"] = [*request.scope["headers"], (b"content-type", b"application/json")]
        return
    kind = given.partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise Problem(415, "UNSUPPORTED_MEDIA_TYPE", "bodies are JSON here: send it as application/json")


def _is_edit(scope: Scope) -> bool:
    """Whether a POST writes: its route asks who does before it reads the body (`api.stac.edit_routes`)."""
    path = str(scope["path"]).removeprefix(scope.get("root_path", "")).rstrip("/")
    return path == "/collections" or (path.startswith("/collections/") and path.endswith("items"))


@asynccontextmanager
async def _connection(request: Request, readwrite: str = "r") -> Any:
    """A read connection; errors of the database become problems further out."""
    pool = request.app.state.readpool
    async with pool.acquire() as conn:
        one: Connection = conn
        yield one


def create_stac_app(settings: ApiSettings) -> FastAPI:
    """Return the application that is mounted at `/stac`; the caller sets `state.readpool`."""
    stac_settings = Settings(
        _env_file=None, openapi_url="/api", docs_url="/api.html", root_path="", stac_fastapi_title=settings.title,
        stac_fastapi_description=DESCRIPTION, stac_fastapi_landing_id="stac-federator", stac_fastapi_version=VERSION,
        enable_transactions_extensions=False, enable_catalogs_extension=False, use_api_hydrate=False, prefix_path="",
    )  # fmt: skip
    extensions = Extensions(
        settings=stac_settings,
        search_map={
            "filter": SearchFilterExtension(client=Queryables()),
            "sort": SearchSortExtension(client=Sortables()),
            "query": QueryExtension(),
        },
        item_collection_map={
            "filter": ItemCollectionFilterExtension(client=Queryables()),
            "sort": ItemCollectionSortExtension(client=Sortables()),
        },
        collection_search_map={
            "filter": CollectionSearchFilterExtension(client=Queryables()),
            "sort": CollectionSearchSortExtension(client=Sortables()),
        },
    )
    post_model = create_post_request_model(extensions.search, base_model=Search)
    items_model = create_request_model(
        "ItemCollectionUri", base_model=ItemCollectionUri, extensions=extensions.item_collection, request_type="GET"
    )
    collection_search = extensions.collection_search
    assert collection_search is not None
    client = Client(  # type: ignore[call-arg]
        pgstac_search_model=post_model,
        title=settings.title,
        description=DESCRIPTION,
        landing_page_id="stac-federator",
    )
    aggregation = create_extension(client, [extensions.search_map[name] for name in ("query", "filter")])
    api = StacApi(
        app=FastAPI(
            openapi_url=stac_settings.openapi_url,
            docs_url=stac_settings.docs_url,
            redoc_url=None,
            title=settings.title,
            description=stac_settings.stac_fastapi_description,
        ),
        settings=stac_settings,
        extensions=[
            *extensions.search,
            *extensions.item_collection,
            collection_search,
            aggregation,
            *create_extensions(settings, stac_settings),
        ],
        client=client,
        response_class=JSONResponse,
        items_get_request_model=items_model,  # type: ignore[arg-type]
        search_get_request_model=create_get_request_model(extensions.search),
        search_post_request_model=post_model,
        collections_get_request_model=collection_search.GET,
        middlewares=[],
        add_metrics=False,
    )
    app: FastAPI = api.app
    app.include_router(create_router(api.client, search_get=api.search_get_request_model, items_get=items_model))
    app.include_router(collection_schemas())
    make_models_inline(app)
    describe_in_3_0(app)
    app.state.get_connection = _connection
    app.state.api = api
    add_handlers(app)
    app.add_middleware(Guard, settings=settings)
    app.add_middleware(NotModified)
    app.add_middleware(Methods, routes=lambda: served(app.routes))
    app.add_middleware(Mounted)
    return app
