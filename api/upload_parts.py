"""`/uploads/{id}/parts`: presigned URLs for clients that send to the object store themselves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.parts import parts_of
from api.problems import Problem
from api.tus import TusRoute
from api.upload_forms import own_upload, read_form
from api.uploads import shown
from ingest.errors import UploadRejected
from ingest.sanitise import time_text
from ingest.uploads import parts as store_parts
from ingest.uploads.model import Upload
from ingest.uploads.receiving import check_there

router = APIRouter(prefix="/uploads", tags=["uploads"], route_class=TusRoute)
#: URLs that one request may ask for.
MAX_NUMBERS = 1000


async def _open_upload(request: Request, upload_id: str) -> Upload:
    """The caller's upload, sent in parts and not finished.

    Raises:
        UploadRejected: EXPIRED, DELETED (410), NOT_IN_PARTS, ALREADY_RECEIVED (409).
    """
    upload = await own_upload(request, upload_id)
    check_there(upload)
    if upload.part_bytes is None:
        raise UploadRejected("NOT_IN_PARTS", "this upload is sent by tus or PUT", status=409)
    if not upload.is_open:
        raise UploadRejected("ALREADY_RECEIVED", "the file has arrived already", status=409, offset=upload.length)
    return upload


@router.post("/{upload_id}/parts")
async def urls(upload_id: str, request: Request) -> Response:
    """URLs for parts: `{"numbers": [1, 2]}`. Each is for one part and its length, and lives 15 minutes."""
    parts = parts_of(request)
    upload = await _open_upload(request, upload_id)
    form = await read_form(request, parts.settings.max_body_bytes)
    numbers = form.get("numbers")
    if not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
        raise Problem(422, "INVALID_FIELD", "numbers is a list of part numbers", field="numbers")
    if len(numbers) > MAX_NUMBERS:
        raise Problem(422, "TOO_MANY", f"at most {MAX_NUMBERS} numbers", field="numbers", limit=MAX_NUMBERS)
    upload = await store_parts.begin(parts.pool, parts.ingest, upload)
    now = datetime.now(UTC)
    made = [store_parts.url_of(parts.ingest, upload, number, now) for number in numbers]
    expires = time_text(now + timedelta(seconds=store_parts.URL_S))
    return JSONResponse({"part_bytes": upload.part_bytes, "expires": expires, "parts": made})


@router.get("/{upload_id}/parts")
async def listed(upload_id: str, request: Request) -> Response:
    """The parts that the bucket has, and the numbers that are missing or wrong."""
    parts = parts_of(request)
    upload = await _open_upload(request, upload_id)
    found = {part.number: part.size for part in await store_parts.listed(parts.ingest, upload) or []}
    wanted = dict(enumerate(store_parts.sizes(upload), start=1))
    answer: dict[str, Any] = {
        "part_bytes": upload.part_bytes,
        "parts": [{"number": number, "size": size} for number, size in sorted(found.items())],
        "missing": [number for number, size in wanted.items() if found.get(number) != size],
    }
    return JSONResponse(answer)


@router.post("/{upload_id}/complete", status_code=202)
async def complete(upload_id: str, request: Request) -> Response:
    """All parts are sent: they are listed, checked and joined. 202: a worker takes the file on."""
    parts = parts_of(request)
    upload = await _open_upload(request, upload_id)
    upload = await store_parts.join(parts.pool, parts.ingest, upload)
    return JSONResponse(shown(upload, parts.root), status_code=202)
