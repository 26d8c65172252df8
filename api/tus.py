"""tus 1.0.0 at `/uploads`: creation, HEAD, PATCH, DELETE. The bytes are taken by `ingest.uploads.receiving`.

Order of what is looked at before a byte of the body is read: token, owner, headers, expiry, lock, offset (quota: when the
upload is made). Sources: tus.io/protocols/resumable-upload, 1.0.0.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC
from email.utils import format_datetime
from typing import Any

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from api import tus_headers as tus
from api.access import require
from api.inlet import inlet_of
from api.parts import parts_of
from api.problems import Problem, answer
from api.upload_forms import make_upload, own_upload
from ingest.errors import UploadRejected
from ingest.uploads import receiving, removal
from ingest.uploads.inflow import SenderGone, Source, Streamed
from ingest.uploads.model import State, Upload
from ingest.uploads.service import UploadUnknown

#: The most that a creation may bring with it: it is read before the upload is made.
MAX_FIRST_BYTES = 2**20
_CLOSING = {"INTERRUPTED", "SENDER_SILENT", "DELETED"}


class TusRoute(APIRoute):
    """Every answer, a refusal too, says which version is spoken, and a refusal what the client goes on with."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                response = await handler(request)
            except UploadRejected as error:
                response = answer(error.status, error.code, str(error), headers_of(error), **error.facts)
            except UploadUnknown:
                response = answer(404, "NOT_FOUND", "there is no such upload")
            except Problem as error:
                response = answer(error.status, error.code, error.detail, error.headers, **error.facts)
            except (ClientDisconnect, SenderGone):
                response = answer(400, "INCOMPLETE_BODY", "the body ended early")  # nobody reads it
            response.headers["Tus-Resumable"] = tus.VERSION
            response.headers["Cache-Control"] = "no-store"
            return response

        return handle


def headers_of(error: UploadRejected) -> dict[str, str]:
    """Headers that go with a refusal."""
    headers = {}
    if error.facts.get("offset") is not None:
        headers["Upload-Offset"] = str(error.facts["offset"])
    if "retry_after" in error.facts:
        headers["Retry-After"] = str(error.facts["retry_after"])
    if error.code in _CLOSING:
        headers["Connection"] = "close"  # the rest of the body is of no use
    return headers


router = APIRouter(prefix="/uploads", tags=["uploads"], route_class=TusRoute)


@contextmanager
def body_of(request: Request) -> Iterator[Source]:
    """A request's body: right from its connection where that can be, for that is quicker."""
    if (inlet := inlet_of(request.scope)) is None:
        yield Streamed(bytes_of(request))
        return
    try:
        yield inlet
    finally:
        inlet.leave()


async def bytes_of(request: Request) -> AsyncIterator[bytes]:
    """A request's body, in pieces as they come.

    Raises:
        SenderGone
    """
    try:
        async for chunk in request.stream():
            if chunk:
                yield chunk
    except ClientDisconnect:
        raise SenderGone from None


@router.api_route("/{upload_id}/", methods=["GET", "HEAD", "PATCH", "DELETE", "PUT", "POST"], include_in_schema=False)
async def nothing(upload_id: str) -> Response:
    """No upload's name ends in a slash, and none is looked for under another name."""
    raise Problem(404, "NOT_FOUND", "there is no such upload")


@router.options("/", status_code=204, include_in_schema=False)
@router.options("", status_code=204)
@router.options("/{upload_id}", status_code=204)
async def offers(request: Request) -> Response:
    """What is offered here."""
    limit = parts_of(request).ingest.upload_file_max_bytes
    headers = {
        "Tus-Version": tus.VERSION,
        "Tus-Extension": tus.EXTENSIONS,
        "Tus-Max-Size": str(limit),
        "Tus-Checksum-Algorithm": ",".join(tus.ALGORITHMS),
    }
    return Response(status_code=204, headers=headers)


async def create(request: Request) -> Response:
    """Make an upload by tus; a body of up to 1 MiB may come with it."""
    parts, headers = parts_of(request), request.headers
    caller = require(request, "upload")
    tus.check_version(headers)
    length = tus.upload_length(headers)
    text = headers.get("upload-metadata", "")
    form: dict[str, Any] = {**tus.metadata(text), "length": length}
    first = await _first_bytes(request, length) if "content-type" in headers else None
    upload = await make_upload(parts, caller, form, tus_metadata=text)
    answered = {"Location": f"{parts.root}/uploads/{upload.id}", **_expires(upload)}
    if first is not None:
        body = receiving.Body(0, len(first), tus.checksum(headers))
        upload = await receiving.receive(parts.pool, parts.ingest, upload.id, Streamed(_one(first)), body)
        answered |= {"Upload-Offset": str(_offset(upload)), **_expires(upload)}
    return Response(status_code=201, headers=answered)


async def _first_bytes(request: Request, length: int) -> bytes | None:
    """The bytes that come with a creation; all of them before anything is made.

    Raises:
        Problem: 415, 413.
    """
    announced = tus.number(request.headers, "content-length")
    if announced == 0 or (announced is None and "transfer-encoding" not in request.headers):
        return None  # clients name a media type for no body, too
    tus.check_body_type(request.headers)
    tus.checksum(request.headers)
    body, limit = bytearray(), min(length, MAX_FIRST_BYTES)
    if (announced or 0) <= limit:
        async for chunk in bytes_of(request):
            body += chunk
            if len(body) > limit:
                break
    if max(len(body), announced or 0) > limit:
        detail = f"a creation brings at most {limit} bytes; send the rest by PATCH"
        raise Problem(413, "TOO_LARGE", detail, limit=limit)
    return bytes(body)


async def _one(piece: bytes) -> AsyncIterator[bytes]:
    yield piece


@router.head("/{upload_id}")
async def head(upload_id: str, request: Request) -> Response:
    """How far an upload is. A request that sends bytes now is asked to stop."""
    parts = parts_of(request)
    upload = await own_upload(request, upload_id)
    tus.check_version(request.headers)
    upload = await receiving.look(parts.pool, parts.ingest, upload.id)
    headers = {"Upload-Offset": str(_offset(upload)), **_expires(upload)}
    if upload.length is not None:
        headers["Upload-Length"] = str(upload.length)
    if upload.tus_metadata:
        headers["Upload-Metadata"] = upload.tus_metadata
    return Response(status_code=200, headers=headers)


@router.patch("/{upload_id}", status_code=204)
async def patch(upload_id: str, request: Request) -> Response:
    """Send bytes from `Upload-Offset` on."""
    parts, headers = parts_of(request), request.headers
    upload = await own_upload(request, upload_id)
    tus.check_version(headers)
    tus.check_body_type(headers)
    body = receiving.Body(
        tus.needed_number(headers, "upload-offset"), tus.number(headers, "content-length"), tus.checksum(headers)
    )
    if _is_over(upload, body):
        return Response(status_code=204, headers={"Upload-Offset": str(body.offset)})
    receiving.check_wanted(upload)
    with body_of(request) as source:
        upload = await receiving.receive(parts.pool, parts.ingest, upload.id, source, body)
    return Response(status_code=204, headers={"Upload-Offset": str(_offset(upload)), **_expires(upload)})


def _is_over(upload: Upload, body: receiving.Body) -> bool:
    """Nothing is asked for, and nothing is missing: clients do that to make sure."""
    return not upload.is_open and not upload.has_ended and body.length == 0 and body.offset == upload.length


@router.delete("/{upload_id}", status_code=204)
async def delete(upload_id: str, request: Request) -> Response:
    """Take an upload back; a ready one goes with its item."""
    parts = parts_of(request)
    upload = await own_upload(request, upload_id)
    tus.check_version(request.headers)
    await removal.remove(parts.pool, parts.ingest, upload.id)
    return Response(status_code=204)


_METHODS = {"HEAD": head, "PATCH": patch, "DELETE": delete}


@router.post("/{upload_id}", include_in_schema=False)
async def override(upload_id: str, request: Request) -> Response:
    """For clients behind proxies that let only GET and POST through (tus, X-HTTP-Method-Override)."""
    method = _METHODS.get(request.headers.get("x-http-method-override", "").upper())
    if method is None:
        raise Problem(
            405, "METHOD_NOT_ALLOWED", "this method is not allowed here", headers={"Allow": "GET, HEAD, PATCH, DELETE"}
        )
    return await method(upload_id, request)


def _offset(upload: Upload) -> int:
    """What the client is told: everything, once it has arrived."""
    return upload.offset if upload.is_open else upload.length or upload.offset


def _expires(upload: Upload) -> dict[str, str]:
    if upload.state not in (State.CREATED, State.UPLOADING):
        return {}
    return {"Upload-Expires": format_datetime(upload.expires_at.astimezone(UTC).replace(microsecond=0), usegmt=True)}
