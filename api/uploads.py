"""`/uploads`: create, send, look, fetch the finished COG. Rules are in `ingest.uploads.service`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from api.access import require_writer
from api.parts import parts_of
from api.problems import Problem
from ingest.sanitise import time_text
from ingest.uploads import service
from ingest.uploads.item import COG_TYPE
from ingest.uploads.model import State, Upload

router = APIRouter(prefix="/uploads", tags=["uploads"])


def parse_id(upload_id: str) -> UUID:
    """An upload's id; anything else is not found."""
    try:
        return UUID(upload_id)
    except ValueError:
        raise Problem(404, "NOT_FOUND", "there is no such upload") from None


def shown(upload: Upload, root: str) -> dict[str, Any]:
    """An upload as JSON."""
    found: dict[str, Any] = {
        "id": str(upload.id),
        "state": upload.state.value,
        "collection": upload.collection_id,
        "title": upload.title,
        "datetime": time_text(upload.datetime),
        "length": upload.length,
        "sha256": upload.sha256,
        "item_id": upload.item_id,
        "warnings": list(upload.warnings),
        "created": time_text(upload.created_at),
        "updated": time_text(upload.updated_at),
        "error": None,
        "links": [
            {"rel": "self", "href": f"{root}/uploads/{upload.id}"},
            {"rel": "content", "href": f"{root}/uploads/{upload.id}/content", "method": "PUT"},
        ],
    }
    if upload.error_code:
        found["error"] = {"code": upload.error_code, "detail": upload.error_detail, **upload.error_facts}
    if upload.state is State.READY:
        found["links"].append(
            {"rel": "item", "href": f"{root}/stac/collections/{upload.collection_id}/items/{upload.item_id}"}
        )
        found["links"].append({"rel": "data", "href": f"{root}/uploads/{upload.id}/data.tif", "type": COG_TYPE})
    return found


async def _form(request: Request, limit: int) -> dict[str, Any]:
    """The JSON object of a small body."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise Problem(413, "BODY_TOO_LARGE", f"a body has at most {limit} bytes", limit=limit)
    try:
        form = orjson.loads(bytes(body))
    except orjson.JSONDecodeError:
        raise Problem(400, "INVALID_BODY", "the body is no JSON") from None
    if not isinstance(form, dict):
        raise Problem(400, "INVALID_BODY", "the body is a JSON object with collection, datetime and title")
    return form


def _text(form: dict[str, Any], name: str, default: str | None) -> str | None:
    value = form.get(name, default)
    if value is not None and (not isinstance(value, str) or "\0" in value):
        raise Problem(422, "INVALID_FIELD", f"{name} is a text", field=name)
    return value


@router.post("", status_code=201)
async def create(request: Request) -> Response:
    """Make an upload; its bytes are sent to `Location` + `/content`."""
    parts = parts_of(request)
    owner = require_writer(request, parts.settings)
    form = await _form(request, parts.settings.max_body_bytes)
    async with parts.pool.connection() as conn:
        upload = await service.create(
            conn,
            collection=_text(form, "collection", "uploads") or "uploads",
            when=_text(form, "datetime", None),
            title=_text(form, "title", "") or "",
            owner=owner,
        )
    headers = {"Location": f"{parts.root}/uploads/{upload.id}"}
    return JSONResponse(shown(upload, parts.root), status_code=201, headers=headers)


@router.put("/{upload_id}/content", status_code=202)
async def send(upload_id: str, request: Request) -> Response:
    """Send the bytes. 202: they are durable, a worker takes them on."""
    parts = parts_of(request)
    require_writer(request, parts.settings)
    length = request.headers.get("content-length")
    announced = int(length) if length and length.isascii() and length.isdigit() else None
    upload = await service.receive(parts.pool, parts.ingest, parse_id(upload_id), request.stream(), announced)
    return JSONResponse(shown(upload, parts.root), status_code=202)


@router.get("/{upload_id}")
async def look(upload_id: str, request: Request) -> Response:
    """State of an upload."""
    parts = parts_of(request)
    async with parts.pool.connection() as conn:
        upload = await service.get(conn, parse_id(upload_id))
    return JSONResponse(shown(upload, parts.root), headers={"Cache-Control": "no-store"})


@router.head("/{upload_id}/data.tif", include_in_schema=False)
@router.get("/{upload_id}/data.tif")
async def data(upload_id: str, request: Request) -> Response:
    """The finished COG, with range requests."""
    parts = parts_of(request)
    async with parts.pool.connection() as conn:
        upload = await service.get(conn, parse_id(upload_id))
    path = service.cog_path(parts.ingest, upload.id)
    if upload.state is not State.READY or not path.is_file():
        raise Problem(404, "NOT_READY", "this upload has no finished raster")
    return FileResponse(path, media_type=COG_TYPE)
