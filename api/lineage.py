"""`/lineage/v1`: the log as it is."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from api import feed
from api.access import principals_of
from api.parts import parts_of
from api.problems import Problem
from db.queries import sql
from lineage import history, proof

native = APIRouter(prefix="/lineage/v1", tags=["lineage"])

MAX_NAME = 512


def _event_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Problem(404, "NOT_FOUND", "there is no such event") from None


def _name(text: str) -> str:
    if "\0" in text or len(text) > MAX_NAME:
        raise Problem(400, "INVALID_NAME", "this is no name")
    return text


@native.get("/collections/{collection}/items/{item}/events")
async def events_of_item(collection: str, item: str, request: Request) -> dict[str, Any]:
    """Events of one item, oldest first; an unknown item has none."""
    async with parts_of(request).pool.connection() as conn:
        return {
            "collection": collection,
            "item": item,
            "events": await history.events_of(conn, _name(collection), _name(item), principals_of(request)),
        }


@native.get("/collections/{collection}/items/{item}/proof")
async def proof_of_item(collection: str, item: str, request: Request, cosigned: bool = False) -> Response:
    """Proof of the event that made an item what it is now; `cosigned`: with the lines of witnesses. An event that has no number yet, and an
    item that is not there: 404.
    """
    async with parts_of(request).pool.connection() as conn:
        parameters = (_name(collection), _name(item), list(principals_of(request)))
        row = await (await conn.execute(sql("graph.present_event"), parameters)).fetchone()
        found = None
        if row and row["id"]:
            witnesses = request.app.state.witnesses if cosigned else None
            found = await proof.bundle(conn, row["id"], principals_of(request), witnesses=witnesses)
    if found is None:
        raise Problem(404, "NOT_FOUND", "there is no such item in the log")
    return Response(found, media_type="application/json")


@native.get("/events")
async def events(
    request: Request,
    from_seq: Annotated[int, Query(ge=0, le=2**62)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Any:
    """The change feed by number: a page, or with `Accept: text/event-stream` a stream that goes on (`Last-Event-ID` is understood)."""
    parts = parts_of(request)
    if feed.wants_stream(request):
        return feed.stream(parts.pool, feed.start_of(request, from_seq), principals_of(request))
    async with parts.pool.connection() as conn:
        found = await history.events_from(conn, from_seq, limit, principals_of(request))
    links = []
    if len(found) == limit:
        links.append(
            {"rel": "next", "href": f"{parts.root}/lineage/v1/events?from_seq={found[-1]['seq'] + 1}&limit={limit}"}
        )
    return {"events": found, "links": links}


@native.get("/log/keys")
async def keys(request: Request) -> dict[str, Any]:
    """Public keys that signed, and for which part of the log."""
    async with parts_of(request).pool.connection() as conn:
        return {"keys": await history.keys(conn)}


@native.get("/log/proof/{event_id}")
async def proof_of(
    event_id: str,
    request: Request,
    format: Annotated[str, Query(pattern="^(json|tlog-proof)$")] = "json",
    cosigned: bool = False,
) -> Response:
    """Proof that an event is in the log, for `python -m lineage verify`, or as C2SP text; `cosigned`: with the lines of witnesses."""
    identity = _event_id(event_id)
    witnesses = request.app.state.witnesses if cosigned else None
    async with parts_of(request).pool.connection() as conn:
        make = proof.tlog_proof if format == "tlog-proof" else proof.bundle
        found = await make(conn, identity, principals_of(request), witnesses=witnesses)
    if found is None:
        raise Problem(404, "NOT_FOUND", "there is no such event")
    return Response(found, media_type="text/plain" if isinstance(found, str) else "application/json")
