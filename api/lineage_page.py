"""An item's lineage for people: the graph as a picture, history, state of proof. One page without scripts."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from api.access import principals_of
from api.home import templates
from api.lineage_asked import CollectionName, ItemName
from api.lineage_graph import not_found
from api.parts import parts_of
from db.pools import Connection
from db.queries import sql
from lineage import graph, history
from lineage.formats import FORMATS, drawing, native
from lineage.formats.value import JSON, label_of

router = APIRouter(prefix="/lineage/v1", tags=["lineage"])

#: The picture's own styles are attributes and the page's are in the page; there is nothing else.
POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_MAX_NODES, _DEPTH = 150, 6


@router.get("/collections/{collection}/items/{item}.html")
async def page(collection: CollectionName, item: ItemName, request: Request) -> Response:
    """The lineage of an item, to look at."""
    parts, principals = parts_of(request), tuple(principals_of(request))
    async with parts.pool.connection() as conn:
        entity = await graph.entity_of_item(conn, collection, item, principals)
        if entity is None:
            raise not_found()
        value = await _graph(conn, entity, principals)
        parameters = (collection, item, list(principals))
        state = await (await conn.execute(sql("graph.status"), parameters)).fetchone()
        versions = await (await conn.execute(sql("graph.versions"), parameters)).fetchall()
        events = await history.events_of(conn, collection, item, principals)
        checkpoint = await (await conn.execute(sql("lineage.newest_checkpoint"))).fetchone()
    root, path = parts.root, f"collections/{quote(collection, safe='')}/items/{quote(item, safe='')}"
    shown = templates.get_template("lineage.html").render(
        title=parts.settings.title, root=root, here=f"{root}/lineage/v1/{path}", stac=f"{root}/stac/{path}",
        collection=collection, item=item, status=state["status"] if state else "unknown",
        successor=state["successor"] if state else None, reason=state["reason"] if state else None,
        picture=drawing.svg(value), edges=_edges(value), events=events, versions=versions, forms=list(FORMATS),
        checkpoint=checkpoint["size"] if checkpoint else None,
    )  # fmt: skip
    headers = {
        "Content-Security-Policy": POLICY,
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    return HTMLResponse(shown, headers=headers)


async def _graph(conn: Connection, entity: Any, principals: tuple[str, ...]) -> JSON:
    roots = await graph.known(conn, [entity], principals)
    wanted = graph.Filter(principals, await graph.log_size(conn), depth=_DEPTH)
    return native(await graph.gather(conn, roots, "both", wanted, limit=_MAX_NODES))


def _edges(value: JSON) -> list[JSON]:
    """The edges with names in place of ids; those that lead out of the picture are left out."""
    names = {node["id"]: label_of(node) for node in value["nodes"]}
    blank = {"rule": None, "confidence": None, "seq": None, "label": None}
    return [
        {**blank, **edge, "child": names[edge["child"]], "parent": names[edge["parent"]]}
        for edge in value["edges"]
        if edge["child"] in names and edge["parent"] in names
    ]
