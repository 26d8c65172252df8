"""The transaction extensions' routes: stac-fastapi's, but for what happens before its endpoint is called.

Who writes is asked before the body is read, the body is bounded, and it reaches the client as it was sent: what is wrong in it is told by
`ingest.edits` with code and place, which the models of the routes (they stay in the OpenAPI) cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from stac_fastapi.extensions.bulk_transactions import BulkTransactionExtension
from stac_fastapi.extensions.bulk_transactions.bulk_transactions import BulkTransactionModel, Items
from stac_fastapi.extensions.transaction import TransactionExtension
from stac_fastapi.types.config import ApiSettings as StacSettings
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.access import LOCAL, require
from api.bounds import check_text
from api.guard import read_body
from api.problems import Problem
from api.settings import ApiSettings
from api.stac.edits import JSON_PATCH, MERGE_PATCH, document_of, media_type
from api.stac.transactions import BulkClient, TransactionsClient

_DOCUMENTS = ("application/json", "application/geo+json")
#: What each method takes; a body without a type is taken for JSON.
_TYPES = {"POST": _DOCUMENTS, "PUT": _DOCUMENTS, "PATCH": (MERGE_PATCH, JSON_PATCH, "application/json")}

_COLLECTION_ID = {"name": "collection_id", "in": "path", "required": True, "schema": {"type": "string"}}


@dataclass(frozen=True, slots=True)
class _Given:
    """Arguments of a client's method, as stac-fastapi's endpoints ask their models for them."""

    arguments: dict[str, Any]

    def kwargs(self) -> dict[str, Any]:
        return self.arguments


def scope_of(method: str, path: str) -> str:
    """What a caller of a route of the transaction extensions must be allowed to do."""
    verb = {"POST": "create", "DELETE": "delete"}.get(method, "update")
    return f"stac:{'item' if path.endswith(('/items', '/bulk_items', '{item_id}')) else 'collection'}:{verb}"


class EditRoute(APIRoute):
    """A route that writes."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What FastAPI calls with a request."""

        async def handle(request: Request) -> Response:
            settings: ApiSettings = request.app.state.parts.settings
            _require(request, scope_of(request.method, self.path))
            for value in request.path_params.values():
                check_text(value, "path")
            document = await self._document(request, settings)
            # An endpoint takes a model that has the body in it, or the body's model itself.
            given = self._given(request, document) if self.dependant.dependencies else document
            answer: Response = await self.endpoint(request, given)
            return answer

        return handle

    def _given(self, request: Request, document: Any) -> _Given:
        name = {"PATCH": "patch"}.get(request.method, "item" if "/items" in self.path else "collection")
        return _Given(request.path_params if request.method == "DELETE" else {**request.path_params, name: document})

    async def _document(self, request: Request, settings: ApiSettings) -> Any:
        if request.method == "DELETE":
            return None
        _check_type(request)
        is_bulk = request.method == "POST" and self.path.endswith("items")
        body = await read_body(request, settings.max_bulk_bytes if is_bulk else settings.max_body_bytes)
        return self._read(body)

    def _read(self, body: bytes) -> Any:
        return document_of(body)


class _BulkRoute(EditRoute):
    """Its client reads the body itself, item by item."""

    def _read(self, body: bytes) -> Any:
        return body


def _require(request: Request, scope: str) -> None:
    """Look whether the caller may do this.

    Raises:
        Problem: 401, 403. A program on this machine that has no credential may not delete collections.
    """
    if require(request, scope) == LOCAL:
        detail = (
            "items and collections are written with a token; set FEDERATOR_API_TOKEN, or make a person (docs/people.md)"
        )
        raise Problem(401, "TOKEN_REQUIRED", detail, headers={"WWW-Authenticate": "Bearer"})


def _check_type(request: Request) -> None:
    taken = _TYPES[request.method]
    if media_type(request) not in ("", *taken):
        headers = {"Accept-Patch" if request.method == "PATCH" else "Accept": ", ".join(taken)}
        raise Problem(415, "UNSUPPORTED_MEDIA_TYPE", f"a body here is {' or '.join(taken)}", headers=headers)


class _BulkExtension(BulkTransactionExtension):
    """stac-fastapi's, registered on a router of ours, which its own method does not let in."""

    def register(self, app: FastAPI) -> None:
        """Add `POST /collections/{collection_id}/bulk_items`."""
        router = APIRouter(prefix=app.state.router_prefix, route_class=_BulkRoute)

        async def bulk_items(request: Request, items: Items) -> Response:
            """Store many items at once."""
            return await BulkClient().bulk_item_insert(items, request=request)

        router.add_api_route(
            "/collections/{collection_id}/bulk_items",
            bulk_items,
            name="Bulk Create Item",
            methods=["POST"],
            response_model=BulkTransactionModel,
            response_class=JSONResponse,
            openapi_extra={"parameters": [_COLLECTION_ID]},
        )
        app.include_router(router, tags=["Bulk Transaction Extension"])


def create_extensions(settings: ApiSettings, stac_settings: StacSettings) -> list[Any]:
    """The extensions that let callers write who may; none when they are switched off."""
    if not settings.transactions:
        return []
    router = APIRouter(route_class=EditRoute)
    items = TransactionExtension(client=TransactionsClient(), settings=stac_settings, router=router)
    return [items, _BulkExtension(client=BulkClient())]
