"""`/lineage/v1`: what callers tell of lineage: documents of a product, runs."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote
from uuid import NAMESPACE_URL, UUID, uuid5

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.access import author_of, known, require
from api.guard import read_body
from api.lineage_asked import CollectionName, ItemName
from api.lineage_graph import not_found
from api.parts import parts_of
from api.problems import Problem
from db.pools import Connection
from db.queries import sql
from ingest.edits.author import Author, in_transaction
from lineage import documents, names, run_events
from lineage import log as lineage_log
from lineage.commitments import commit_to
from lineage.document_register import DocumentRefused, Subject, Teller, read_document, tell
from lineage.events import Event, Kind
from lineage.ids import uuid7
from lineage.rules import R1

router = APIRouter(prefix="/lineage/v1", tags=["lineage"])

SCOPE = "stac:item:update"
MAX_EVENTS = 100
_ANY_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {}, "application/xml": {}, "text/plain": {}},
    }
}
_RUN_BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}}


@dataclass(frozen=True, slots=True)
class _Told:
    """An item that somebody tells something of."""

    may_write: bool
    is_public: bool
    entity: UUID


async def _item(conn: Connection, author: Author, collection: str, item: str) -> _Told | None:
    """The item, None when there is none that the author sees."""
    parameters = (collection, item, list(author.principals), list(author.rights))
    row = await (await conn.execute(sql("graph.item_to_tell_of"), parameters)).fetchone()
    if row is None:
        return None
    return _Told(row["may_write"], row["is_public"], row["entity"] or names.item_id(collection, item))


@router.post("/collections/{collection}/items/{item}/documents", status_code=201, openapi_extra=_ANY_BODY)
async def tell_document(collection: CollectionName, item: ItemName, request: Request) -> Response:
    """Give a product's own metadata: `manifest.safe`, `xfdumanifest.xml`, Sentinel-2 `MTD_TL.xml`, Landsat `MTL.txt` or `MTL.xml`.

    It is kept word for word; the parents that it names become edges. 200 when it was known already.
    """
    author = author_of(require(request, SCOPE))
    data = await read_body(request, documents.MAX_BYTES)
    teller = Teller("own", author.actor)

    async def work(conn: Connection) -> tuple[bool, list[dict[str, Any]]]:
        told = await _item(conn, author, collection, item)
        if told is None:
            raise not_found()
        if not told.may_write:
            raise Problem(403, "NOT_ALLOWED", "only who may write the item may tell where it comes from")
        return await tell(conn, document, teller, Subject(collection, item, item, told.entity))

    try:
        document = await asyncio.to_thread(read_document, data)
        is_new, inputs = await in_transaction(parts_of(request).pool, work)
    except documents.DocumentInvalid as error:
        raise Problem(400, "DOCUMENT_INVALID", str(error)) from None
    except DocumentRefused as error:
        raise Problem(422, error.code, str(error), **error.facts) from None
    answer = {"kind": document.read.kind, "sha256": document.sha256.hex(), "parents": inputs}
    return JSONResponse(answer, status_code=201 if is_new else 200)


def _event(
    kind: Kind,
    name: str,
    collection: str | None,
    item: str | None,
    author: Author,
    body: dict[str, Any],
    identity: UUID | None = None,
) -> Event:
    return Event(identity or uuid7(), kind, name, "own", collection, item, author.actor, datetime.now(UTC), body)


@router.post("/runs", status_code=201, openapi_extra=_RUN_BODY)
async def tell_run(request: Request) -> Response:
    """Tell of a run of your processing: one OpenLineage RunEvent (2-0-2), or a list of up to 100.

    Data sets whose namespace is the URL of a collection here and whose name is an item's id are that item; Sentinel products are known by
    their names; all others are yours. A COMPLETE event links the outputs that you may write to the inputs. The same event again
    changes nothing.
    """
    author = author_of(require(request, SCOPE))
    text = await read_body(request, parts_of(request).settings.max_body_bytes)
    try:
        body = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise Problem(400, "INVALID_JSON", "the body is no JSON") from None
    listed = body if isinstance(body, list) else [body]
    if not 0 < len(listed) <= MAX_EVENTS:
        raise Problem(400, "INVALID_RUN", f"at least one event and at most {MAX_EVENTS}")
    events = []
    for number, one in enumerate(listed):
        try:
            events.append(run_events.parse(one))
        except run_events.RunInvalid as error:
            place = f"/{number}{error.place}" if isinstance(body, list) else error.place
            raise Problem(400, "INVALID_RUN", str(error), place=place) from None
    if sum(len(one.inputs) * len(one.outputs) for one in events) > run_events.MAX_PAIRS:
        raise Problem(400, "INVALID_RUN", f"at most {run_events.MAX_PAIRS} pairs of an input and an output")
    root = parts_of(request).root

    async def work(conn: Connection) -> list[dict[str, Any]]:
        return [await _tell(conn, author, root, event) for event in events]

    told = await in_transaction(parts_of(request).pool, work)
    status = 201 if any(one["is_new"] for one in told) else 200
    return JSONResponse({"runs": told}, status_code=status)


async def _tell(conn: Connection, author: Author, root: str, event: run_events.RunEvent) -> dict[str, Any]:
    """Log one event of a run, once. Raises Problem: 409: another's run."""
    name, facts = f"run/{event.run_id}", event.facts()
    told = orjson.dumps([author.actor, facts, [(one.namespace, one.name) for one in (*event.inputs, *event.outputs)]])
    identity = uuid5(NAMESPACE_URL, f"{name}/{hashlib.sha256(told).hexdigest()}")
    await conn.execute(sql("graph.lock_run"), (name,))
    row = await (await conn.execute(sql("graph.run_owner"), (name,))).fetchone()
    if row is not None and row["actor_id"] != author.actor:
        raise Problem(409, "RUN_OF_ANOTHER", "a run of this id was told by somebody else", run=str(event.run_id))
    answer: dict[str, Any] = {"run": str(event.run_id), "state": event.type, "is_new": False, "outputs": []}
    row = await (await conn.execute(sql("graph.is_told"), (identity,))).fetchone()
    if row and row["is_told"]:
        return answer
    inputs, shown = await _inputs(conn, author, root, event.inputs)
    outputs: list[dict[str, Any]] = []
    links: list[Event] = []
    for one in event.outputs:
        place = _place(root, one)
        item = await _item(conn, author, *place) if place else None
        is_linked = item is not None and item.may_write
        if place is not None and is_linked and event.type == "COMPLETE":
            body = {"run": facts, "inputs": shown}
            links.append(_event(Kind.CORRECT, place[1], *place, author, body))
        elif place is None or item is None:
            outputs.append(_named(one))
        answer["outputs"].append(
            {"namespace": one.namespace, "name": one.name, "is_item": item is not None, "may_write": is_linked}
        )
    state = {"run": facts, "inputs": inputs, "outputs": outputs if event.type == "COMPLETE" else []}
    await lineage_log.append(conn, _event(Kind.STATE, name, None, None, author, state, identity), *links)
    return answer | {"is_new": True}


Entries = list[dict[str, Any]]


async def _inputs(
    conn: Connection, author: Author, root: str, given: tuple[run_events.Dataset, ...]
) -> tuple[Entries, Entries]:
    """Entries of `inputs`, for the run's own event, and for those of its outputs, which more people see.

    What not everybody may see is behind one hash there (`lineage.commitments`): private items, and the caller's own data sets.
    """
    told = {"rule": R1.id, "assertion": R1.assertion, "confidence": R1.confidence}
    own: Entries = []
    shown: Entries = []
    secret: list[UUID] = []
    for one in given:
        place = _place(root, one)
        item = await _item(conn, author, *place) if place else None
        if place is not None and item is not None and item.is_public:
            shown.append({"name": place[1], "collection": place[0], "item": place[1], **told})
        elif item is not None:
            secret.append(item.entity)
        elif "namespace" in (entry := _named(one)):
            own.append({**entry, **told})
            secret.append(names.dataset_id(one.namespace, one.name, author.actor))
        else:
            shown.append({**entry, **told})
    hidden = [{"name": "", "hash": "", "commitment": await commit_to(conn, secret), **told}] if secret else []
    return [*shown, *own, *hidden], [*shown, *hidden]


def _place(root: str, one: run_events.Dataset) -> tuple[str, str] | None:
    """Collection and item of a data set that is one of ours."""
    prefix = f"{root}/stac/collections/"
    if not one.namespace.startswith(prefix):
        return None
    return unquote(one.namespace.removeprefix(prefix).rstrip("/")), one.name


def _named(one: run_events.Dataset) -> dict[str, Any]:
    """What is no item of ours: a product by its mission's rules, else the caller's own data set."""
    stem = names.stem_of(one.name)
    return {"name": stem} if names.read(stem) else {"namespace": one.namespace, "name": one.name}


@router.get("/runs/{run_id}")
async def run(run_id: str, request: Request) -> dict[str, Any]:
    """One of your runs."""
    caller = known(request)
    try:
        identity = UUID(run_id)
    except ValueError:
        raise not_found() from None
    async with parts_of(request).pool.connection() as conn:
        parameters = (identity, f"user:{caller.name}", list(caller.principals))
        row = await (await conn.execute(sql("graph.run"), parameters)).fetchone()
    if row is None:
        raise not_found()
    return {name: str(value) if isinstance(value, UUID) else value for name, value in row.items() if value is not None}
