"""`/lineage/v1`: what traces are worth, of our own and of anybody's; and upstream's traces told of an item."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.access import author_of, principals_of, require
from api.guard import read_body
from api.parts import parts_of
from api.problems import Problem
from api.trace import registrant_of, shown_trace
from db.pools import Connection
from db.queries import sql
from ingest.edits.author import in_transaction, not_allowed, not_found
from lineage import proof, trace, verify
from lineage.errors import LogConflict, ProofPending
from lineage.trace_parse import MAX_ENTRIES, MAX_PATH, MAX_TRACE_BYTES, Trace, TraceInvalid, parse_trace, parse_traces
from lineage.trace_register import MAX_TRACES, Judged, tell, trust_here
from lineage.trace_shape import Shown
from lineage.trace_verdict import GRADES, HASH_NAMES, USUAL_POLICY, Verdict, grade_content, judge

router = APIRouter(prefix="/lineage/v1", tags=["traces"])

TELL_SCOPE = "stac:item:update"
MAX_BODY_BYTES = 2 * MAX_TRACE_BYTES
_ANY_JSON = {"requestBody": {"required": True, "content": {"application/json": {"schema": {}}}}}


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is to be judged: traces, hashes to compare them with, and the grades that decide."""

    traces: list[Trace]
    is_list: bool
    whole: Mapping[str, str]
    contents: Mapping[str, Mapping[str, str]] | None
    policy: Sequence[str]

    @property
    def has_content(self) -> bool:
        return bool(self.whole) or self.contents is not None


@router.post("/verify", openapi_extra=_ANY_JSON)
async def verify_traces(request: Request) -> Response:
    """Judge a trace, or a list of up to 50; nothing is stored and nobody is asked who he is.

    Either the trace alone, or `{"trace": ... | "traces": [...], "content": {"hashes": {"BLAKE3": "..."}, "contents": [{"path", "hash"}]},
    "policy": ["signature", ...]}`.
    """
    asked = await _asked(request)
    async with parts_of(request).pool.connection() as conn:
        trust = await trust_here(conn, request.app.state.trace_trust)
        now = datetime.now(UTC)
        judged = await asyncio.to_thread(lambda: [judge(one, now=now, trust=trust) for one in asked.traces])
        found = [
            await _seen_here(request, conn, one, verdict) for one, verdict in zip(asked.traces, judged, strict=True)
        ]
    answers = [
        _with_content(one, verdict, asked).as_json(asked.policy)
        for one, verdict in zip(asked.traces, found, strict=True)
    ]
    return JSONResponse({"verdicts": answers} if asked.is_list else answers[0])


async def _asked(request: Request) -> _Asked:
    data = await read_body(request, MAX_BODY_BYTES)
    try:
        return await asyncio.to_thread(_read, data)
    except TraceInvalid as error:
        raise Problem(422, "INVALID_TRACE", str(error), place=error.place) from None


def _read(data: bytes) -> _Asked:
    """Raises TraceInvalid."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise TraceInvalid("", "no valid JSON") from None
    if not isinstance(value, dict) or not value.keys() & {"trace", "traces"}:
        traces = parse_traces(data, most=MAX_TRACES)
        return _some(traces, isinstance(value, list), {}, None, USUAL_POLICY)
    if unknown := value.keys() - {"trace", "traces", "content", "policy"}:
        raise TraceInvalid("", f"there is no member {min(unknown)[:50]!r}")
    if {"trace", "traces"} <= value.keys():
        raise TraceInvalid("", "either trace or traces")
    given = value.get("traces", value.get("trace"))
    traces = parse_traces(json.dumps(given).encode(), most=MAX_TRACES)
    whole, contents = _content(value["content"]) if "content" in value else ({}, None)
    return _some(traces, "traces" in value, whole, contents, _policy(value.get("policy", list(USUAL_POLICY))))


def _some(
    traces: list[Trace],
    is_list: bool,
    whole: Mapping[str, str],
    contents: Mapping[str, Mapping[str, str]] | None,
    policy: Sequence[str],
) -> _Asked:
    if not traces:
        raise TraceInvalid("", "there is no trace")
    return _Asked(traces, is_list, whole, contents, policy)


def _policy(value: Any) -> list[str]:
    if not isinstance(value, list) or not value or not all(isinstance(one, str) and one in GRADES for one in value):
        raise TraceInvalid("/policy", f"a list of {', '.join(GRADES)}")
    return list(dict.fromkeys(value))


def _content(value: Any) -> tuple[dict[str, str], dict[str, dict[str, str]] | None]:
    """Hashes of a file and of the files in it, all by the same algorithms' names as traces have them."""
    if not isinstance(value, dict) or value.keys() - {"hashes", "contents"}:
        raise TraceInvalid("/content", "an object of hashes and contents")
    whole = _hashes(value.get("hashes", {}), "/content/hashes")
    listed = value.get("contents")
    if listed is None:
        return whole, None
    if not isinstance(listed, list) or len(listed) > MAX_ENTRIES:
        raise TraceInvalid("/content/contents", f"a list of at most {MAX_ENTRIES}")
    contents = {}
    for number, one in enumerate(listed):
        place = f"/content/contents/{number}"
        path = one.get("path") if isinstance(one, dict) else None
        if not isinstance(path, str) or len(path) > MAX_PATH:
            raise TraceInvalid(place, "an object of path and hashes")
        contents[path] = _hashes(one.get("hashes", {}), f"{place}/hashes")
    return whole, contents


def _hashes(value: Any, place: str) -> dict[str, str]:
    if not isinstance(value, dict) or value.keys() - HASH_NAMES.keys():
        raise TraceInvalid(place, f"an object of {', '.join(HASH_NAMES)}")
    for name, digest in value.items():
        if not isinstance(digest, str) or len(digest) != 64 or set(digest.lower()) - set("0123456789abcdef"):
            raise TraceInvalid(f"{place}/{name}", "a hash has 64 characters of hex")
    return {HASH_NAMES[name]: digest.lower() for name, digest in value.items()}


def _with_content(one: Trace, verdict: Verdict, asked: _Asked) -> Verdict:
    if not asked.has_content:
        return verdict
    grade, reasons = grade_content(one, asked.whole, asked.contents)
    verdict = verdict.with_grade("content", grade)
    for code, words in reasons:
        verdict = verdict.with_grade("content", grade, code, words)
    return verdict


async def _seen_here(request: Request, conn: Connection, one: Trace, verdict: Verdict) -> Verdict:
    """What this catalogue knows, as far as the caller may see it: is the trace in the log, and how is its product."""
    principals = principals_of(request)
    shown = None
    if one.id is not None:
        shown = await trace.trace_by_id(conn, one.id, principals)
    if shown is None or not _is_same(shown, one):
        log = verdict.with_grade("log", "absent", "NOT_IN_LOG", "the log of this catalogue does not have the trace")
    else:
        log = await _logged(request, conn, shown.event_id, verdict)
    return await _with_status(conn, one, log, principals)


def _is_same(shown: Shown, one: Trace) -> bool:
    """Whether a trace with the id of one of ours says the same."""
    ours = _own(shown)
    return ours is not None and (ours.product, ours.event, ours.signature, ours.timestamp, ours.origin) == (
        one.product,
        one.event,
        one.signature,
        one.timestamp,
        one.origin,
    )


def _own(shown: Shown) -> Trace | None:
    """One of our traces read as others' are; None: an event with a name or a hash that no trace can have."""
    try:
        return parse_trace(shown.text.encode())
    except TraceInvalid:
        return None


async def _logged(request: Request, conn: Connection, event_id: UUID, verdict: Verdict) -> Verdict:
    """The event's proof, made and judged."""
    principals = principals_of(request)
    try:
        bundle = await proof.bundle(conn, event_id, principals)
    except ProofPending:
        return verdict.with_grade("log", "pending", "PENDING", "the event waits for its number")
    except LogConflict:
        bundle = b"{}"
    if bundle is None:
        return verdict.with_grade("log", "absent", "NOT_IN_LOG", "the log of this catalogue does not have the trace")
    try:
        is_whole = verify.verify(bundle).ok
    except verify.Unreadable:
        is_whole = False
    if not is_whole:
        return verdict.with_grade("log", "inconsistent", "LOG_INCONSISTENT", "the proof of the event does not hold")
    if request.app.state.has_witnesses:
        row = await (await conn.execute(sql("trace.is_witnessed"), (event_id,))).fetchone()
        if not (row and row["is_witnessed"]):
            return verdict.with_grade("log", "unwitnessed", "UNWITNESSED", "no witness has seen the event yet")
    return verdict.with_grade("log", "included")


async def _with_status(conn: Connection, one: Trace, verdict: Verdict, principals: Sequence[str]) -> Verdict:
    if not one.hash:
        return verdict
    status = await trace.status_by_hash(conn, one.hash, verdict.key_sha256, principals)
    if one.event == "OBSOLETE" and status in ("unknown", "current"):
        status = "obsolete"  # by its own word
    words = {
        "superseded": "a newer product has taken its place",
        "obsolete": "it is not to be used any more",
        "deleted_here": "it was deleted here",
    }
    return verdict.with_grade("status", status, status.upper() if status in words else "", words.get(status, ""))


@router.get("/traces/{trace_id}/verdict")
async def verdict_of(trace_id: str, request: Request) -> Response:
    """What one of the traces of `/trace/api` is worth now."""
    shown = await shown_trace(request, trace_id)
    one = _own(shown)
    if one is None:
        raise Problem(422, "TRACE_UNREADABLE", "this trace has a name or a hash that no client can read")
    async with parts_of(request).pool.connection() as conn:
        trust = await trust_here(conn, request.app.state.trace_trust)
        verdict = judge(one, now=datetime.now(UTC), trust=trust)
        verdict = await _logged(request, conn, shown.event_id, verdict)
        verdict = await _with_status(conn, one, verdict, principals_of(request))
    return JSONResponse(verdict.as_json((*USUAL_POLICY, "log")))


@router.post("/collections/{collection}/items/{item}/traces", status_code=201, openapi_extra=_ANY_JSON)
async def tell_trace(collection: str, item: str, request: Request) -> Response:
    """Give a trace that another service has answered of a product: it is kept word for word, with a verdict. 200 when it is known.

    The scope `stac:item:update`, and the right to write the item.
    """
    caller = require(request, TELL_SCOPE)
    author, registrant = author_of(caller), registrant_of(caller, request)
    data = await read_body(request, MAX_TRACE_BYTES)

    async def work(conn: Connection) -> tuple[UUID, dict[str, Any], bool]:
        names = await _names(conn, collection, item, author.principals, author.rights)
        one = await _parsed(data)
        if one.name not in {like for name in names for like in trace.names_like(name)}:
            raise Problem(422, "TRACE_OF_ANOTHER", "the trace is of another product", product=one.name)
        trust = await trust_here(conn, request.app.state.trace_trust)
        verdict = judge(one, now=datetime.now(UTC), trust=trust)
        return await tell(conn, Judged(one, verdict, is_upstream=True), registrant, collection, item)

    event_id, verdict, is_new = await in_transaction(parts_of(request).pool, work)
    return JSONResponse({"event": str(event_id), "verdict": verdict}, status_code=201 if is_new else 200)


async def _parsed(data: bytes) -> Trace:
    try:
        return await asyncio.to_thread(parse_trace, data)
    except TraceInvalid as error:
        raise Problem(422, "INVALID_TRACE", str(error), place=error.place) from None


async def _names(
    conn: Connection, collection: str, item: str, principals: Sequence[str], rights: Sequence[str]
) -> list[str]:
    """What an item's product may be called.

    Raises:
        EditRefused: NOT_FOUND, NOT_ALLOWED.
    """
    if "\0" in collection + item:
        raise not_found()
    parameters = (collection, item, list(principals), list(rights))
    row = await (await conn.execute(sql("trace.item"), parameters)).fetchone()
    if row is None:
        raise not_found()
    if not row["may_write"]:
        raise not_allowed()
    return [item, *row["names"]]


@router.get("/collections/{collection}/items/{item}/traces")
async def traces_of_item(collection: str, item: str, request: Request) -> Response:
    """Traces of other services that an item has, as they came, each with the verdict of that time; an unknown item has none."""
    if "\0" in collection + item:
        return JSONResponse([])
    async with parts_of(request).pool.connection() as conn:
        parameters = (collection, item, list(principals_of(request)), MAX_TRACES)
        rows = await (await conn.execute(sql("trace.of_item"), parameters)).fetchall()
    parts = [
        f'{{"event":"{row["event_id"]}","is_passed_on":{str(row["is_passed_on"]).lower()},'
        f'"verdict":{row["verdict"]},"trace":{row["raw"]}}}'
        for row in rows
    ]
    return Response("[" + ",".join(parts) + "]", media_type="application/json")
