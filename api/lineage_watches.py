"""`/lineage/v1/watches`: to be told when something that one built on is withdrawn, superseded, replaced or deleted.

Alerts are read, by number of the event: whoever asks from the last number on misses none. They are found when they are asked for, with what
the caller may see then, so there is nothing to get lost.
"""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.access import Caller, known
from api.lineage_asked import MAX_NAME
from api.lineage_graph import json_body, not_found
from api.parts import parts_of
from api.problems import Problem
from db.pools import Connection
from db.queries import sql
from lineage import graph, history, watching
from lineage.ids import uuid7
from lineage.names import product_id, stem_of

router = APIRouter(prefix="/lineage/v1/watches", tags=["lineage"])

MAX_WATCHES = 100
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "product": {"type": "string"},
                        "collection": {"type": "string"},
                        "item": {"type": "string"},
                        "mine": {"type": "boolean"},
                    },
                }
            }
        },
    }
}


def owner_of(caller: Caller) -> str:
    """As watches name him."""
    return f"user:{caller.name}"


@router.post("", status_code=201, openapi_extra=_BODY)
async def watch(request: Request) -> Response:
    """Watch a product by its name, an item, or with `{"mine": true}` all that the caller's own items came of."""
    caller = known(request)
    body = await json_body(request)
    async with parts_of(request).pool.connection() as conn:
        kind, entity, name = await _target(conn, caller, body)
        identity, size = uuid7(), await graph.log_size(conn)
        parameters = (identity, owner_of(caller), kind, entity, name, size, MAX_WATCHES)
        async with conn.transaction():
            await conn.execute(sql("webhook.lock"), (owner_of(caller),))
            row = await (await conn.execute(sql("graph.put_watch"), parameters)).fetchone()
    if row is None:
        raise Problem(409, "TOO_MANY_WATCHES", f"at most {MAX_WATCHES} watches", limit=MAX_WATCHES)
    shown = _shown(request, {"id": identity, "kind": kind, "name": name, "from_seq": size, **row})
    return JSONResponse(shown, status_code=201, headers={"Location": shown["links"][0]["href"]})


async def _target(conn: Connection, caller: Caller, body: dict[str, Any]) -> tuple[str, UUID | None, str | None]:
    """(kind, entity, name). Raises Problem: 400, 404."""
    if body.get("mine") is True:
        return "mine", None, None
    texts = {name: body.get(name) for name in ("product", "collection", "item")}
    for name, text in texts.items():
        if text is not None and not (isinstance(text, str) and 0 < len(text) <= MAX_NAME and "\0" not in text):
            raise Problem(400, "INVALID_FIELD", f"{name} is a text of at most {MAX_NAME} letters", field=name)
    if texts["product"] is not None:
        return "product", product_id(texts["product"]), stem_of(texts["product"])
    if texts["collection"] is None or texts["item"] is None:
        raise Problem(400, "INVALID_FIELD", "say product, or collection and item, or mine", field="product")
    entity = await graph.entity_of_item(conn, texts["collection"], texts["item"], caller.principals)
    if entity is None:
        raise not_found()
    return "product", entity, texts["item"]


def _shown(request: Request, row: Any) -> dict[str, Any]:
    here = f"{parts_of(request).root}/lineage/v1/watches/{row['id']}"
    return {
        "id": str(row["id"]), "kind": row["kind"], "name": row["name"], "from_seq": row["from_seq"],
        "created_at": row["created_at"].isoformat(),
        "links": [{"rel": "self", "href": here}, {"rel": "alerts", "href": f"{here}/alerts"},
                  {"rel": "webhook", "href": f"{here}/webhook"}],
    }  # fmt: skip


@router.get("")
async def watches(request: Request) -> dict[str, Any]:
    """The caller's watches."""
    caller = known(request)
    async with parts_of(request).pool.connection() as conn:
        rows = await (await conn.execute(sql("graph.watches"), (owner_of(caller), None))).fetchall()
    return {"watches": [_shown(request, row) for row in rows]}


async def watch_of(conn: Connection, caller: Caller, watch_id: str) -> Any:
    """One of the caller's watches. Raises Problem: 404."""
    try:
        identity = UUID(watch_id)
    except ValueError:
        raise not_found() from None
    row = await (await conn.execute(sql("graph.watches"), (owner_of(caller), identity))).fetchone()
    if row is None:
        raise not_found()
    return row


@router.get("/{watch_id}")
async def one_watch(watch_id: str, request: Request) -> dict[str, Any]:
    """One of the caller's watches."""
    caller = known(request)
    async with parts_of(request).pool.connection() as conn:
        return _shown(request, await watch_of(conn, caller, watch_id))


@router.delete("/{watch_id}", status_code=204)
async def forget(watch_id: str, request: Request) -> Response:
    """Watch no more."""
    caller = known(request)
    async with parts_of(request).pool.connection() as conn:
        found = await watch_of(conn, caller, watch_id)
        await conn.execute(sql("graph.drop_watch"), (owner_of(caller), found["id"]))
    return Response(status_code=204)


@router.get("/{watch_id}/alerts")
async def alerts(
    watch_id: str,
    request: Request,
    from_seq: Annotated[
        int, Query(ge=0, le=2**62, description="number of the event to begin with; see `next_seq`")
    ] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """What happened since the watch was set: WITHDRAW, OBSOLETE, REPLACE, DELETE, and RESTORE, which ends a withdrawal."""
    caller = known(request)
    async with parts_of(request).pool.connection() as conn:
        found = await watch_of(conn, caller, watch_id)
        size = await graph.log_size(conn)
        first = max(from_seq, found["from_seq"])
        rows = await watching.alerts(conn, found["entity"], owner_of(caller), caller.principals, first, size, limit)
    following = rows[-1]["seq"] + 1 if len(rows) == limit else size
    return {"alerts": [history.shown(row) for row in rows], "next_seq": following}
