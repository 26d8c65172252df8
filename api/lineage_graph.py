"""`/lineage/v1`: ancestors and descendants, impact, the way between two, orphans. Rules of visibility: db/migrations/0024_graph.sql."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from api.access import caller_of, principals_of
from api.guard import read_body
from api.lineage_asked import MAX_NAME, CollectionName, ItemName, Walk
from api.parts import Parts, parts_of
from api.problems import Problem
from db.pools import Connection
from db.queries import sql
from lineage import graph, multihash
from lineage.formats import FORMATS, native
from lineage.impact import lines as impact_lines
from lineage.names import product_id

router = APIRouter(prefix="/lineage/v1", tags=["lineage"])

MAX_ASKED = 1000
#: Nodes of one stream; a longer one says where it goes on.
MAX_STREAMED = 200_000
#: Seconds that one stream may take: whoever reads no further gives his place to others.
STREAM_S = 300.0


def not_found() -> Problem:
    """What is not there, or not for the caller."""
    return Problem(404, "NOT_FOUND", "there is nothing of that name here")


@router.get("/collections/{collection}/items/{item}/lineage")
async def lineage_of_item(collection: CollectionName, item: ItemName, request: Request, asked: Walk) -> Response:
    """What an item came of, what came of it, or both."""
    async with parts_of(request).pool.connection() as conn:
        entity = await graph.entity_of_item(conn, collection, item, principals_of(request))
        return await answered(request, conn, [entity] if entity else [], asked)


@router.get("/products/{name}/lineage")
async def lineage_of_product(name: ItemName, request: Request, asked: Walk) -> Response:
    """The same of a product by its name, with or without the suffix of the delivered file; it need not be in the catalogue."""
    async with parts_of(request).pool.connection() as conn:
        return await answered(request, conn, [product_id(name)], asked)


@router.get("/hashes/{digest}/lineage")
async def lineage_of_hash(digest: ItemName, request: Request, asked: Walk) -> Response:
    """The same of a file by its hash: a multihash, or the plain hash, in hex."""
    (one,) = digests_of([digest])
    async with parts_of(request).pool.connection() as conn:
        wanted = await graph.entities_of_hashes(conn, [one[0]], principals_of(request))
        return await answered(request, conn, wanted, asked)


async def answered(request: Request, conn: Connection, wanted: list[UUID], asked: Walk) -> Response:
    """A walk from these entities in the form that is asked for. Raises Problem: 404."""
    parts, principals = parts_of(request), principals_of(request)
    roots = await graph.known(conn, wanted, principals) if wanted else []
    if not roots:
        raise not_found()
    found = await graph.gather(
        conn, roots, asked.direction, await asked.filter(conn), skip=asked.skip, limit=asked.limit
    )
    form, times = FORMATS[asked.form], {}
    if form.needs_times:
        times = await _times(conn, [link.seq for link in found.links if link.seq is not None])
    value = native(found)
    following = asked.following(parts.root, found.as_of) if found.truncated else None
    headers = {"Vary": "Accept", "X-Content-Type-Options": "nosniff"}
    if following is not None:
        headers["Link"] = f'<{following}>; rel="next"'
    if asked.form == "json":
        value["links"] = [{"rel": "next", "href": following}] if following else []
    if asked.form == "svg":
        headers["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'"
    text = await asyncio.to_thread(form.write, value, times, parts.root)
    return Response(text, media_type=form.media_type, headers=headers)


async def _times(conn: Connection, numbers: list[int]) -> dict[int, str]:
    rows = await (await conn.execute(sql("graph.times"), (numbers,))).fetchall()
    return {row["seq"]: row["recorded_at"].isoformat(timespec="microseconds").replace("+00:00", "Z") for row in rows}


def digests_of(texts: list[Any]) -> list[tuple[bytes, str]]:
    """(digest, algorithm) of hashes in hex: multihashes, "SHA256:<hex>", or plain ones, of which the algorithm is "".

    Raises:
        Problem: 400, with the place in the list.
    """
    found = []
    for number, text in enumerate(texts):
        try:
            found.append(_digest(text))
        except (ValueError, AttributeError, TypeError):
            raise Problem(400, "INVALID_HASH", "a hash is written in hex", number=number) from None
    return found


def _digest(text: Any) -> tuple[bytes, str]:
    named, colon, plain = text.rpartition(":")
    if colon:
        return bytes.fromhex(plain), named.upper()
    try:
        algorithm, digest = multihash.decode(text)
        return bytes.fromhex(digest), algorithm
    except ValueError:
        data = bytes.fromhex(text)
        if not 16 <= len(data) <= 64:
            raise
        return data, ""


_IMPACT = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "names": {"type": "array", "items": {"type": "string"}, "maxItems": MAX_ASKED},
                        "hashes": {"type": "array", "items": {"type": "string"}, "maxItems": MAX_ASKED},
                        "items": {"type": "array", "items": {"type": "object"}, "maxItems": MAX_ASKED},
                        "scope": {"type": "string", "enum": ["mine", "all"]},
                    },
                }
            }
        },
    }
}


@router.post("/impact", openapi_extra=_IMPACT)
async def impact(request: Request, asked: Walk) -> Response:
    """Everything that came of these products, hashes and items, line by line (NDJSON); `scope: mine`: what the caller has made.

    Each line is {"node": ..., "via": edge or null}; the last is {"done": {"nodes", "truncated", "next"}}.
    """
    parts, principals = parts_of(request), tuple(principals_of(request))
    form = await _asked_impact(request)
    caller = caller_of(request)
    mine = f"user:{caller.name}" if form["scope"] == "mine" and caller else None
    if form["scope"] == "mine" and mine is None:
        raise Problem(
            401, "TOKEN_REQUIRED", "what is yours is known by your token", headers={"WWW-Authenticate": "Bearer"}
        )
    streams: asyncio.Semaphore = request.app.state.impact_streams
    if streams.locked():
        raise Problem(
            503, "TOO_MANY_STREAMS", "others are reading as much at this moment", headers={"Retry-After": "10"}
        )
    async with parts.pool.connection() as conn:
        roots = await _roots(conn, form, principals)
        wanted = await asked.filter(conn)
    lines = _bounded(streams, _lines(parts, roots, wanted, mine, asked))
    return _Timed(lines, media_type="application/x-ndjson", headers={"Cache-Control": "no-store"})


class _Timed(StreamingResponse):
    """A stream that is broken off when its time is over; without its last line a client knows that it is not whole."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STREAM_S):
                await super().__call__(scope, receive, send)


async def _asked_impact(request: Request) -> dict[str, Any]:
    body = await json_body(request)
    form: dict[str, Any] = {"scope": body.get("scope", "all")}
    for name in ("names", "hashes", "items"):
        value = body.get(name, [])
        if not isinstance(value, list) or len(value) > MAX_ASKED:
            raise Problem(400, "INVALID_FIELD", f"{name} is a list of at most {MAX_ASKED}", field=name)
        form[name] = value
    if form["scope"] not in ("mine", "all"):
        raise Problem(400, "INVALID_FIELD", "scope is mine or all", field="scope")
    if not all(isinstance(one, str) and 0 < len(one) <= MAX_NAME for one in form["names"]):
        raise Problem(400, "INVALID_FIELD", "names are texts", field="names")
    for one in form["items"]:
        if not isinstance(one, dict) or not all(
            isinstance(one.get(key), str) and "\0" not in one[key] for key in ("collection", "item")
        ):
            raise Problem(400, "INVALID_FIELD", "items are objects with collection and item", field="items")
    form["digests"] = [one[0] for one in digests_of(form["hashes"])]
    return form


async def json_body(request: Request) -> dict[str, Any]:
    """The body, a JSON object. Raises Problem: 400, 413."""
    text = await read_body(request, parts_of(request).settings.max_body_bytes)
    try:
        body = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise Problem(400, "INVALID_JSON", "the body is no JSON") from None
    if not isinstance(body, dict):
        raise Problem(400, "INVALID_JSON", "the body is a JSON object")
    return body


async def _roots(conn: Connection, form: dict[str, Any], principals: tuple[str, ...]) -> list[graph.Node]:
    wanted = [product_id(name) for name in form["names"]]
    if form["items"]:
        items = [(one["collection"], one["item"]) for one in form["items"]]
        wanted += await graph.entities_of_items(conn, items, principals)
    if form["digests"]:
        wanted += await graph.entities_of_hashes(conn, form["digests"], principals)
    return await graph.known(conn, wanted, principals) if wanted else []


async def _bounded(streams: asyncio.Semaphore, lines: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    """A stream holds a connection to the database for as long as its reader takes: there are few at once."""
    async with streams, aclosing(lines):
        async for line in lines:
            yield line


async def _lines(
    parts: Parts, roots: list[graph.Node], wanted: graph.Filter, mine: str | None, asked: Walk
) -> AsyncGenerator[bytes]:
    """The lines of `/impact`."""
    async with parts.pool.connection() as conn:
        own = await _own(conn, mine) if mine is not None else None
        told = impact_lines(conn, roots, wanted, skip=asked.skip, limit=MAX_STREAMED, own=own)
        async with aclosing(told) as lines:
            async for some in lines:
                yield some


async def _own(conn: Connection, owner: str) -> set[str]:
    rows = await (await conn.execute(sql("graph.mine"), (owner, 1_000_000))).fetchall()
    return {str(row["id"]) for row in rows}


@router.get("/path")
async def path(
    request: Request,
    start: Annotated[
        str, Query(alias="from", max_length=2 * MAX_NAME, description="`collection/item`, or a product's name")
    ],
    end: Annotated[str, Query(alias="to", max_length=2 * MAX_NAME)],
    asked: Walk,
) -> Response:
    """The shortest way by which one of two came of the other."""
    principals = tuple(principals_of(request))
    async with parts_of(request).pool.connection() as conn:
        nodes = [await _node(conn, name, principals) for name in (start, end)]
        found = await graph.shortest(conn, nodes[0], nodes[1], await asked.filter(conn))
        if found is None:
            raise Problem(404, "NO_PATH", "neither came of the other, as far as is known")
        value, form, times = native(found), FORMATS[asked.form], {}
        if form.needs_times:
            times = await _times(conn, [link.seq for link in found.links if link.seq is not None])
    text = await asyncio.to_thread(form.write, value, times, parts_of(request).root)
    return Response(text, media_type=form.media_type, headers={"Vary": "Accept"})


async def _node(conn: Connection, name: str, principals: tuple[str, ...]) -> graph.Node:
    if "\0" in name:
        raise Problem(400, "INVALID_NAME", "this is no name")
    collection, slash, item = name.partition("/")
    entity = await graph.entity_of_item(conn, collection, item, principals) if slash else None
    found = await graph.known(conn, [entity or product_id(name)], principals)
    if not found:
        raise not_found()
    return found[0]


@router.get("/collections/{collection}/orphans")
async def orphans(
    collection: CollectionName,
    request: Request,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[str, Query(max_length=MAX_NAME, pattern=r"^[^\x00]*$")] = "",
) -> dict[str, Any]:
    """Items of which no parent is known, or none that a catalogue has; in the order of their ids. An unknown collection has none."""
    parts = parts_of(request)
    async with parts.pool.connection() as conn:
        parameters = (collection, list(principals_of(request)), after, limit)
        rows = await (await conn.execute(sql("graph.orphans"), parameters)).fetchall()
    found = [
        {"item": row["item_id"], "status": row["status"], "reason": "parent_missing" if row["missing"] else "no_parent"}
        | ({"parent": row["missing"]} if row["missing"] else {})
        for row in rows
    ]
    links = []
    if len(rows) == limit:
        given = str(request.url.include_query_params(after=rows[-1]["item_id"]).query)
        links.append({"rel": "next", "href": f"{parts.root}{request.url.path}?{given}"})
    return {"orphans": found, "links": links}
