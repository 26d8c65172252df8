"""`/sharing`: who sees a collection or an item and who writes into it, for its owner and administrators. Rules: `ingest.edits.sharing`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any
from urllib.parse import quote

import orjson
from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import Response

from api.access import author_of, require
from api.parts import parts_of
from api.stac.etags import check_write, etag_of, tagged
from api.upload_forms import read_form
from ingest.edits import sharing
from ingest.edits.author import Author, in_transaction
from ingest.sanitise import ID
from ingest.sharing import Sharing, parse_sharing

router = APIRouter(prefix="/sharing", tags=["sharing"])

Name = Annotated[str, Path(pattern=f"^{ID}$")]
#: Of `PUT`, for the description.
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["visibility"],
                    "properties": {
                        "visibility": {"type": "string", "enum": ["private", "shared", "public"]},
                        "readers": {"type": "array", "items": {"type": "string"}},
                        "writers": {"type": "array", "items": {"type": "string"}},
                    },
                }
            }
        },
    }
}


@router.get("/collections/{collection_id}")
async def collection(collection_id: Name, request: Request) -> Response:
    """Who sees a collection and who writes into it."""
    author = _author(request, "stac:collection:update")
    found = await in_transaction(
        parts_of(request).pool, lambda conn: sharing.collection_sharing(conn, author, collection_id)
    )
    return _answer(request, found, collection_id, None)


@router.put("/collections/{collection_id}", openapi_extra=_BODY)
async def share_collection(collection_id: Name, request: Request) -> Response:
    """Decide who sees a collection and who writes into it."""
    author = _author(request, "stac:collection:update")
    change = await _change(request, collection_id, None)
    found = await in_transaction(
        parts_of(request).pool, lambda conn: sharing.share_collection(conn, author, collection_id, change)
    )
    request.app.state.changes.note()  # this process need not wait for the news
    return _answer(request, found, collection_id, None)


@router.get("/collections/{collection_id}/items/{item_id}")
async def item(collection_id: Name, item_id: Name, request: Request) -> Response:
    """Who sees an item, of those who see its collection."""
    author = _author(request, "stac:item:update")
    found = await in_transaction(
        parts_of(request).pool, lambda conn: sharing.item_sharing(conn, author, collection_id, item_id)
    )
    return _answer(request, found, collection_id, item_id)


@router.put("/collections/{collection_id}/items/{item_id}", openapi_extra=_BODY)
async def share_item(collection_id: Name, item_id: Name, request: Request) -> Response:
    """Decide who sees an item, of those who see its collection."""
    author = _author(request, "stac:item:update")
    change = await _change(request, collection_id, item_id)
    found = await in_transaction(
        parts_of(request).pool, lambda conn: sharing.share_item(conn, author, collection_id, item_id, change)
    )
    request.app.state.changes.note()  # this process need not wait for the news
    return _answer(request, found, collection_id, item_id)


def _author(request: Request, scope: str) -> Author:
    """Who asks; here a program on this machine sees all that it may change, so that it can take back what it has hidden.

    Raises:
        Problem: 401, 403 as `require`.
    """
    author = author_of(require(request, scope))
    return replace(author, principals=author.rights)


async def _change(request: Request, collection_id: str, item_id: str | None) -> Callable[[Sharing], Sharing]:
    """What the body and the conditions of a PUT make of what is there."""
    form = await read_form(request, parts_of(request).settings.max_body_bytes)
    is_item = item_id is not None
    parse_sharing(form, None, is_item=is_item)  # what is wrong with it is told before anybody waits

    def changed(before: Sharing) -> Sharing:
        check_write(request.headers, etag_of(_body(request, before, collection_id, item_id)))
        return parse_sharing(form, before.owner, is_item=is_item)

    return changed


def _answer(request: Request, found: Sharing, collection_id: str, item_id: str | None) -> Response:
    return tagged(_body(request, found, collection_id, item_id), "application/json")


def _body(request: Request, found: Sharing, collection_id: str, item_id: str | None) -> bytes:
    root, here = parts_of(request).root, f"/collections/{quote(collection_id, safe='')}"
    shown: dict[str, Any] = {"collection": collection_id}
    if item_id is not None:
        here += f"/items/{quote(item_id, safe='')}"
        shown["item"] = item_id
    shown |= {"owner": found.owner, "visibility": found.visibility, "readers": list(found.readers)}
    if item_id is None:
        shown["writers"] = list(found.writers)
    shown["links"] = [
        {"rel": "self", "href": f"{root}/sharing{here}"},
        {"rel": "about", "href": f"{root}/stac{here}"},
    ]
    return orjson.dumps(shown)
