"""`/uploads`: create, send, look, fetch the finished COG. Rules are in `ingest.uploads.service`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from api import tus, tus_headers
from api.access import caller_of, owns, principals_of, require
from api.map_page import map_path
from api.parts import parts_of
from api.problems import Problem
from api.signatures import Place
from api.signed import map_query
from api.upload_forms import make_upload, own_upload, parse_id, read_form
from db.queries import sql
from ingest.sanitise import time_text
from ingest.uploads import asking, receiving, service
from ingest.uploads.item import COG_TYPE, item_id_of
from ingest.uploads.model import State, Upload

router = APIRouter(prefix="/uploads", tags=["uploads"], route_class=tus.TusRoute)
files = APIRouter(prefix="/uploads", tags=["uploads"])
#: Large files are there before they are ready, by a preview.
_ON_THE_MAP = (State.CONVERTING, State.REGISTERING, State.READY)


def shown(upload: Upload, root: str) -> dict[str, Any]:
    """An upload as JSON."""
    found: dict[str, Any] = {
        "id": str(upload.id),
        "state": upload.state.value,
        "collection": upload.collection_id,
        "title": upload.title,
        "datetime": time_text(upload.datetime) if upload.datetime else None,
        "length": upload.length,
        "offset": upload.offset if upload.is_open else upload.length,
        "file_name": upload.file_name,
        "keep_original": upload.keep_original,
        "visibility": upload.visibility,
        "readers": list(upload.readers),
        "expires": time_text(upload.expires_at) if upload.is_open else None,
        "sha256": upload.sha256,
        "item_id": None if upload.state is State.DETACHED else upload.item_id,
        "item": None if upload.state is State.DETACHED else item_id_of(upload),
        "asset": upload.asset_key,
        "version": upload.version,
        "warnings": list(upload.warnings),
        "created": time_text(upload.created_at),
        "updated": time_text(upload.updated_at),
        "error": None,
        "links": [
            {"rel": "self", "href": f"{root}/uploads/{upload.id}"},
        ],
    }
    if upload.part_bytes is None:
        found["links"].append({"rel": "content", "href": f"{root}/uploads/{upload.id}/content", "method": "PUT"})
    else:
        found["part_bytes"] = upload.part_bytes
        found["links"] += [
            {"rel": "parts", "href": f"{root}/uploads/{upload.id}/parts", "method": "POST"},
            {"rel": "complete", "href": f"{root}/uploads/{upload.id}/complete", "method": "POST"},
        ]
    if upload.error_code:
        found["error"] = {"code": upload.error_code, "detail": upload.error_detail, **upload.error_facts}
    if upload.error_code == asking.CODE:
        found["links"].append({"rel": "datetime", "href": f"{root}/uploads/{upload.id}/datetime", "method": "PUT"})
    if upload.item_id and upload.state in _ON_THE_MAP:
        found["links"].append(
            {"rel": "map", "href": f"{root}/{map_path(upload.collection_id, upload.item_id)}", "type": "text/html"}
        )
    if upload.state is State.READY:
        found["links"].append(
            {"rel": "item", "href": f"{root}/stac/collections/{upload.collection_id}/items/{upload.item_id}"}
        )
        found["links"].append({"rel": "data", "href": f"{root}/uploads/{upload.id}/data.tif", "type": COG_TYPE})
    return found


@router.post("/", status_code=201, include_in_schema=False)  # as many clients write it
@router.post("", status_code=201)
async def create(request: Request) -> Response:
    """Make an upload, by JSON or by tus; its bytes are sent to `Location`."""
    if tus_headers.is_tus(request.headers):
        return await tus.create(request)
    parts = parts_of(request)
    caller = require(request, "upload")
    form = await read_form(request, parts.settings.max_body_bytes)
    upload = await make_upload(parts, caller, form)
    headers = {"Location": f"{parts.root}/uploads/{upload.id}"}
    return JSONResponse(shown(upload, parts.root), status_code=201, headers=headers)


@router.put("/{upload_id}/content", status_code=202)
async def send(upload_id: str, request: Request) -> Response:
    """Send the whole file, with its `Content-Digest` if you like. 202: it is durable, a worker takes it on."""
    parts = parts_of(request)
    upload = await own_upload(request, upload_id)
    checksum = tus_headers.content_digest(request.headers)
    length = tus_headers.number(request.headers, "content-length")
    with tus.body_of(request) as source:
        upload = await receiving.receive_whole(parts.pool, parts.ingest, upload.id, source, length, checksum)
    return JSONResponse(shown(upload, parts.root), status_code=202)


@router.put("/{upload_id}/datetime", status_code=202)
async def say_when(upload_id: str, request: Request) -> Response:
    """Answer an upload that was refused with `DATETIME_REQUIRED`; its bytes are there still."""
    parts = parts_of(request)
    upload = await own_upload(request, upload_id)
    form = await read_form(request, parts.settings.max_body_bytes)
    upload = await asking.say_when(parts.pool, upload.id, form)
    return JSONResponse(shown(upload, parts.root), status_code=202)


@router.get("/{upload_id}")
async def look(upload_id: str, request: Request) -> Response:
    """State of an upload."""
    parts = parts_of(request)
    upload = await own_upload(request, upload_id)
    content = {**shown(upload, parts.root), "same_as": await _same_as(request, upload)}
    for link in content["links"]:
        if link["rel"] == "map":  # a browser follows it without the caller's credential
            link["href"] += await map_query(request, Place(upload.collection_id, upload.item_id))
    return JSONResponse(content, headers={"Cache-Control": "no-store"})


async def _same_as(request: Request, upload: Upload) -> dict[str, Any] | None:
    """The owner's first item of the same bytes, never another's; None: there is none."""
    parts = parts_of(request)
    if (sha256 := upload.known_sha256) is None:
        return None
    async with parts.pool.connection() as conn:
        values = (upload.owner, sha256, upload.id)
        row = await (await conn.execute(sql("uploads.first_of_same"), values)).fetchone()
    if row is None:
        return None
    item = f"{parts.root}/stac/collections/{row['collection_id']}/items/{row['item_id']}"
    return {"upload": f"{parts.root}/uploads/{row['id']}", "item": item}


async def _readable(request: Request, upload_id: UUID) -> Upload:
    """An upload that is the caller's own, or whose item he sees. Raises UploadUnknown."""
    caller = caller_of(request)
    async with parts_of(request).pool.connection() as conn:
        upload = await service.get(conn, upload_id)
        if caller is None or not owns(caller, upload.owner):
            seen = await conn.execute(sql("sharing.readable_uploads"), ([upload_id], list(principals_of(request))))
            if await seen.fetchone() is None:
                raise service.UploadUnknown(str(upload_id))
    return upload


@files.head("/{upload_id}/data.tif", include_in_schema=False)
@files.get("/{upload_id}/data.tif")
async def data(upload_id: str, request: Request) -> Response:
    """The finished COG, with range requests, for those who see its item."""
    parts = parts_of(request)
    upload = await _readable(request, parse_id(upload_id))
    path = service.cog_path(parts.ingest, upload.id)
    if upload.state in (State.DELETING, State.DELETED) and upload.item_id is not None:
        deleted = time_text(upload.updated_at)
        raise Problem(410, "DELETED", "the owner has deleted this raster", item_id=upload.item_id, deleted=deleted)
    if upload.state is State.DETACHED:
        deleted = time_text(upload.updated_at)
        raise Problem(
            410, "ITEM_DELETED", "the item of this raster was deleted", item_id=upload.item_id, deleted=deleted
        )
    if upload.state is State.READY and not path.is_file():
        await _refuse_damaged(request, upload.id)
    if upload.state is not State.READY or not path.is_file():
        raise Problem(404, "NOT_READY", "this upload has no finished raster")
    return FileResponse(path, media_type=COG_TYPE)


async def _refuse_damaged(request: Request, upload_id: UUID) -> None:
    """Raises Problem: 410: its bytes are no longer what the log names, so it is not served."""
    async with parts_of(request).pool.connection() as conn:
        row = await (await conn.execute(sql("scrub.damaged"), (upload_id,))).fetchone()
    if row is not None:
        raise Problem(
            410, "RASTER_DAMAGED", "the stored raster is damaged and out of service", found=time_text(row["found_at"])
        )
