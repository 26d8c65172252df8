"""`/trace/api`: the log in the shape of the Copernicus traceability service (service description 1.1.0), which trace-cli reads and writes.

Faults of a request are 422, as the service documents it. Nothing is found by a name or a hash: an empty list; by an id: 404.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote, urlencode, urlsplit

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.access import Caller, principals_of, require, rights_of
from api.bounds import check_text
from api.guard import read_body
from api.parts import parts_of
from api.problems import Problem
from db.pools import Connection
from db.queries import sql
from ingest.edits.author import in_transaction
from lineage import trace
from lineage.history import newest_note
from lineage.trace_parse import MAX_TRACE_BYTES, TraceInvalid, parse_traces
from lineage.trace_register import MAX_TRACES, Judged, Registrant, RegistrationRefused, judge_call, register, trust_here
from lineage.trace_shape import Shown

router = APIRouter(prefix="/trace/api", tags=["traces"])

SCOPE = "trace:register"
MAX_NAME, MAX_LIMIT = 512, 1000
#: Bytes of a registration: fifty traces of products with some 160 files.
MAX_BODY_BYTES = 4 * MAX_TRACE_BYTES

Limit = Annotated[str, Query(description=f"traces, at most {MAX_LIMIT}")]
After = Annotated[str, Query(description="as the link `next` has it")]
_TRACES = {"requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "array"}}}}}


def _fault(field: str, detail: str) -> Problem:
    return Problem(422, "INVALID_PARAMETER", detail, field=field)


def _number(text: str, field: str, least: int, most: int) -> int:
    try:
        number = int(text) if len(text) <= 20 else least - 1
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        raise _fault(field, f"{field} is a number from {least} to {most}")
    return number


def _name(text: str, field: str = "productname") -> str:
    try:
        check_text(text, field)
    except Problem:
        raise _fault(field, "the name holds a character that is not allowed") from None
    if len(text) > MAX_NAME:
        raise _fault(field, f"a name has at most {MAX_NAME} characters")
    return text


def _digest(text: str, field: str = "hash") -> str:
    try:
        if len(text) <= 128 and bytes.fromhex(text):
            return text.lower()
    except ValueError:
        pass
    raise Problem(422, "INVALID_HASH", "a hash is written in hex", field=field)


def _time(text: str | None, field: str) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text.replace(" ", "+"))  # a plus sign that was not percent-encoded
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise _fault(field, f"{field} is a time as 2024-06-19T02:19:24Z") from None


def _answer(request: Request, page: trace.Page) -> Response:
    """The list, and where the next part of it is."""
    headers = {}
    if page.next is not None:
        asked = {name: value for name, value in request.query_params.items() if name != "after"}
        query = urlencode({**asked, "after": page.next})
        headers["Link"] = f'<{parts_of(request).root}{quote(request.url.path)}?{query}>; rel="next"'
    return Response(page.text(), media_type="application/json", headers=headers)


@router.get("/status")
async def status(request: Request) -> dict[str, Any]:
    """`running` when the database answers and the log has begun, `degraded` before; a database that is away is a 503."""
    async with parts_of(request).pool.connection() as conn:
        has_begun = await newest_note(conn) is not None
    state = "running" if has_begun else "degraded"
    return {"server_version": request.app.version, "protocol_version": ["1.1.0"], "status": state}


@router.get("/v1/traces/name/{name:path}")
async def by_name(name: str, request: Request, limit: Limit = str(trace.MAX_TRACES), after: After = "-1") -> Response:
    """Traces of a product by its name, with or without the suffix of the delivered file; none is an empty list."""
    wanted, most, first = _name(name), _number(limit, "limit", 1, MAX_LIMIT), _number(after, "after", -1, 2**62)
    async with parts_of(request).pool.connection() as conn:
        page = await trace.traces_by_name(conn, wanted, after=first, limit=most, principals=principals_of(request))
    return _answer(request, page)


@router.get("/v1/traces/hash/{digest}")
async def by_hash(digest: str, request: Request, limit: Limit = str(trace.MAX_TRACES), after: After = "-1") -> Response:
    """Traces that name this hash (hex), of a product or of a content, and those that ended such a product."""
    wanted, most, first = _digest(digest), _number(limit, "limit", 1, MAX_LIMIT), _number(after, "after", -1, 2**62)
    async with parts_of(request).pool.connection() as conn:
        page = await trace.traces_by_hash(conn, wanted, after=first, limit=most, principals=principals_of(request))
    return _answer(request, page)


@router.get("/v1/traces/obsolete")
async def obsolete(
    request: Request,
    name_prefix: str = "",
    start: Annotated[str | None, Query(description="registered then or later")] = None,
    end: Annotated[str | None, Query(description="registered before")] = None,
    limit: Limit = str(trace.MAX_TRACES),
    after: After = "-1",
) -> Response:
    """OBSOLETE traces: products that were withdrawn, superseded or replaced."""
    prefix, first, last = _name(name_prefix, "name_prefix"), _time(start, "start"), _time(end, "end")
    most, place = _number(limit, "limit", 1, MAX_LIMIT), _number(after, "after", -1, 2**62)
    async with parts_of(request).pool.connection() as conn:
        page = await trace.obsolete_traces(
            conn, prefix, first, last, after=place, limit=most, principals=principals_of(request)
        )
    return _answer(request, page)


@router.get("/v1/traces/validate")
async def validate_by_query(request: Request, product_name: str | None = None, hash: str | None = None) -> Response:
    """Whether a hash is the product's, as it is now."""
    return await _validated(request, product_name, "product_name", hash, "hash")


@router.get("/v1/traces/{productname:path}/validate")
async def validate(productname: str, request: Request, filehash: str | None = None) -> Response:
    """Whether a hash is the product's, as it is now."""
    return await _validated(request, productname, "productname", filehash, "filehash")


async def _validated(
    request: Request, name: str | None, name_field: str, digest: str | None, hash_field: str
) -> Response:
    if name is None or digest is None:
        raise _fault(name_field if name is None else hash_field, "the name and the hash of a product are needed")
    wanted, hashed = _name(name, name_field), _digest(digest, hash_field)
    async with parts_of(request).pool.connection() as conn:
        is_good, message = await trace.validate(conn, wanted, hashed, principals_of(request))
    return JSONResponse({"success": is_good, "message": message})


@router.get("/v1/traces/{trace_id}")
async def by_id(trace_id: str, request: Request) -> Response:
    """One trace. The link `describedby` leads to what it is worth (docs/traces.md)."""
    found = await shown_trace(request, trace_id)
    link = f'<{parts_of(request).root}/lineage/v1/traces/{quote(trace_id, safe="")}/verdict>; rel="describedby"'
    return Response(found.text, media_type="application/json", headers={"Link": link})


async def shown_trace(request: Request, trace_id: str) -> Shown:
    """One trace that the caller may see.

    Raises:
        Problem: 404.
    """
    if len(trace_id) <= 64 and trace_id.isprintable():
        async with parts_of(request).pool.connection() as conn:
            found = await trace.trace_by_id(conn, trace_id, principals_of(request))
        if found is not None:
            return found
    raise Problem(404, "NOT_FOUND", "there is no such trace")


@router.put("/v1/traces", status_code=201, openapi_extra=_TRACES)
async def put_traces(request: Request) -> Response:
    """Register 1 to 50 traces of one event, signed by whoever sends them. The scope `trace:register`. All are queued, or none is.

    The certificate's subject is the sender's name, or its key is registered as his (`python -m api trace-keys`). An administrator may pass
    on traces of another service: those that have their `id`, `timestamp` and `origin` keep them.
    """
    registrant = registrant_of(require(request, SCOPE), request)
    data = await read_body(request, MAX_BODY_BYTES)
    try:
        traces = await asyncio.to_thread(parse_traces, data, most=MAX_TRACES)
    except TraceInvalid as error:
        raise Problem(422, "INVALID_TRACE", str(error), place=error.place) from None
    if data.lstrip()[:1] != b"[":
        raise Problem(422, "INVALID_TRACE", "a list of traces is needed", place="")

    async def work(conn: Connection) -> list[Judged]:
        trust = await trust_here(conn, request.app.state.trace_trust)
        rows = await (await conn.execute(sql("trace.keys_of"), (registrant.name,))).fetchall()
        keys = frozenset(bytes(row["key_sha256"]) for row in rows)
        judged = await asyncio.to_thread(judge_call, traces, registrant, keys, trust)
        await register(conn, judged, registrant)
        return judged

    try:
        judged = await in_transaction(parts_of(request).pool, work)
    except RegistrationRefused as error:
        raise refused(error) from None
    answers = [{"success": True, "message": f"queued: {one.trace.name}"} for one in judged]
    return JSONResponse({"success": len(answers), "error": 0, "traces": answers}, status_code=201)


def refused(error: RegistrationRefused) -> Problem:
    """What the rules of registration say, as an answer."""
    return Problem(403 if error.is_forbidden else 422, error.code, str(error), place=error.place)


def registrant_of(caller: Caller, request: Request) -> Registrant:
    """The caller as traces name him."""
    host = urlsplit(parts_of(request).root).hostname or "localhost"
    return Registrant(caller.name, f"{caller.name}@{host}", "role:admin" in rights_of(caller))
