"""`/lineage/v1`: what an item was and is: versions, as of a date, differences, status; audit; files by their hashes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote

import orjson
from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from api.access import principals_of
from api.lineage_asked import MAX_NAME, CollectionName, ItemName, listed, size_or_time, time_of
from api.lineage_graph import digests_of, json_body, not_found
from api.parts import parts_of
from api.problems import Problem
from db.pools import Connection
from db.queries import sql
from ingest.past_items import document_of
from lineage import history
from lineage.difference import MAX_CHANGES, differences
from lineage.events import Kind
from lineage.trace import names_like

router = APIRouter(prefix="/lineage/v1", tags=["lineage"])

MAX_HASHES = 1000
_KINDS = tuple(kind.value for kind in Kind)


@dataclass(frozen=True, slots=True)
class _Item:
    """An item that a request names, for those who may see its history."""

    request: Request
    collection: str
    item: str

    @property
    def principals(self) -> list[str]:
        return list(principals_of(self.request))

    @property
    def here(self) -> str:
        root = parts_of(self.request).root
        return f"{root}/lineage/v1/collections/{quote(self.collection, safe='')}/items/{quote(self.item, safe='')}"

    async def version(
        self, conn: Connection, *, at: datetime | None = None, size: int | None = None, number: int | None = None
    ) -> Any:
        """The version at a time, in a log of a size, or of a number; the newest without any.

        Raises:
            Problem: 404.
        """
        parameters = (self.collection, self.item, self.principals, at, size, number)
        row = await (await conn.execute(sql("graph.version_at"), parameters)).fetchone()
        if row is None:
            raise not_found()
        return row

    async def document(self, conn: Connection, row: Any) -> dict[str, Any]:
        """The document of a version. Raises Problem: 410, 404 when it was there and is not kept."""
        if row["item_sha256"] is None:
            raise Problem(
                410, "ITEM_GONE", "the item was not in the catalogue then", version=row["version"], kind=row["kind"]
            )
        found = await document_of(conn, self.collection, self.item, bytes.fromhex(row["item_sha256"]))
        if found is None:
            raise Problem(404, "DOCUMENT_NOT_KEPT", "the log knows this version by its hash; its document was not kept")
        return found


def _time(value: datetime | None) -> str | None:
    return None if value is None else value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _version_of(row: Any, item: _Item) -> dict[str, Any]:
    """A version as it is told: its number, when it held, its hash, and where its proof and its document are."""
    root = parts_of(item.request).root
    shown = {
        "version": row["version"], "kind": row["kind"], "from_seq": row["from_seq"], "to_seq": row["to_seq"],
        "valid_from": _time(row["valid_from"]), "valid_to": _time(row["valid_to"]), "item_sha256": row["item_sha256"],
        "event": str(row["event_id"]),
    }  # fmt: skip
    links = [{"rel": "proof", "href": f"{root}/lineage/v1/log/proof/{row['event_id']}"}]
    if row["item_sha256"] is not None:
        links.append({"rel": "item", "href": f"{item.here}?version={row['version']}"})
    return {**shown, "links": links}


@router.get("/collections/{collection}/items/{item}/versions")
async def versions(collection: CollectionName, item: ItemName, request: Request) -> dict[str, Any]:
    """What the item was, oldest first, with who changed it."""
    asked = _Item(request, collection, item)
    async with parts_of(request).pool.connection() as conn:
        rows = await (await conn.execute(sql("graph.versions"), (collection, item, asked.principals))).fetchall()
    if not rows:
        raise not_found()
    shown = [_version_of(row, asked) | {"actor": row["actor"], "source": row["source"]} for row in rows]
    return {"collection": collection, "item": item, "versions": shown}


@router.get("/collections/{collection}/items/{item}")
async def as_of(
    collection: CollectionName,
    item: ItemName,
    request: Request,
    as_of: Annotated[str | None, Query(max_length=40, description="a time, or a size of the log")] = None,
    version: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
) -> Response:
    """The item as it was; its canonical form without links has the hash that the event names, and the event is in the log.

    410 when it was not there then; 404 before it came.
    """
    asked = _Item(request, collection, item)
    when = None if as_of is None else size_or_time(as_of)
    async with parts_of(request).pool.connection() as conn:
        at, size = (when, None) if isinstance(when, datetime) else (None, when)
        row = await asked.version(conn, at=at, size=size, number=version)
        document = await asked.document(conn, row)
    body = {"item": document, "version": _version_of(row, asked)}
    return Response(orjson.dumps(body), media_type="application/json")


@router.get("/collections/{collection}/items/{item}/diff")
async def diff(
    collection: CollectionName,
    item: ItemName,
    request: Request,
    a: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="version; none: the one before b")] = None,
    b: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="version; none: the newest")] = None,
    other: Annotated[
        str | None,
        Query(max_length=2 * MAX_NAME, pattern=r"^[^\x00]+$", description="another item, as collection/item, as b"),
    ] = None,
) -> dict[str, Any]:
    """What differs between two versions of an item, or between it and another, such as another baseline of the same acquisition."""
    first = second = _Item(request, collection, item)
    if other is not None:
        second = _Item(request, *_place(other, collection))
    async with parts_of(request).pool.connection() as conn:
        newer = await second.version(conn, number=b)
        number = a if a is not None or other is not None else max(1, newer["version"] - 1)
        older = await first.version(conn, number=number)
        documents = [await first.document(conn, older), await second.document(conn, newer)]
    for document in documents:
        document.pop("links", None)
    changes = list(differences(documents[0], documents[1]))
    return {
        "a": _version_of(older, first), "b": _version_of(newer, second),
        "changes": changes[:MAX_CHANGES], "truncated": len(changes) > MAX_CHANGES,
    }  # fmt: skip


def _place(text: str, collection: str) -> tuple[str, str]:
    """Collection and item of "collection/item", or of an item in the same collection."""
    named, slash, item = text.partition("/")
    return (named, item) if slash else (collection, text)


@router.get("/collections/{collection}/items/{item}/status")
async def status(collection: CollectionName, item: ItemName, request: Request) -> dict[str, Any]:
    """How the item is by what the log says: current, superseded, withdrawn or deleted, since which event, and what follows it."""
    asked = _Item(request, collection, item)
    async with parts_of(request).pool.connection() as conn:
        row = await (await conn.execute(sql("graph.status"), (collection, item, asked.principals))).fetchone()
    if row is None:
        raise not_found()
    root = parts_of(request).root
    links = [{"rel": "proof", "href": f"{root}/lineage/v1/log/proof/{row['event_id']}"}]
    since = {"seq": row["status_seq"], "event": str(row["event_id"]), "kind": row["event_kind"]}
    shown = {
        "collection": collection, "item": item, "status": row["status"], "product": row["name"] if row["kind"] == "product" else None,
        "successor": row["successor"], "reason": row["reason"],
        "since": since | {"recorded_at": _time(row["recorded_at"])},
        "links": links,
    }  # fmt: skip
    return {name: value for name, value in shown.items() if value is not None}


@router.get("/audit")
async def audit(
    request: Request,
    actor: Annotated[str | None, Query(max_length=MAX_NAME, pattern=r"^[^\x00]+$")] = None,
    kind: Annotated[str | None, Query(max_length=200, description="divided by commas")] = None,
    name: Annotated[str | None, Query(max_length=MAX_NAME, pattern=r"^[^\x00]+$", description="product")] = None,
    collection: Annotated[str | None, Query(max_length=MAX_NAME, pattern=r"^[^\x00]+$")] = None,
    item: Annotated[str | None, Query(max_length=MAX_NAME, pattern=r"^[^\x00]+$")] = None,
    since: Annotated[str | None, Query(max_length=40)] = None,
    until: Annotated[str | None, Query(max_length=40)] = None,
    from_seq: Annotated[int, Query(ge=0, le=2**62)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """Who did what, when, signed by which key: events by number, as far as the caller may see what they are about."""
    parts = parts_of(request)
    kinds = None if kind is None else list(listed(kind, _KINDS, "kind"))
    parameters = (
        from_seq, actor, kinds, name, names_like(name) if name else None, collection, item,
        time_of(since) if since else None, time_of(until) if until else None, list(principals_of(request)), limit,
    )  # fmt: skip
    async with parts.pool.connection() as conn:
        rows = await (await conn.execute(sql("graph.audit"), parameters)).fetchall()
    links = []
    if len(rows) == limit:
        given = str(request.url.include_query_params(from_seq=rows[-1]["seq"] + 1).query)
        links.append({"rel": "next", "href": f"{parts.root}{request.url.path}?{given}"})
    return {"events": [history.shown(row) for row in rows], "links": links}


_HASHES = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["hashes"],
                    "properties": {"hashes": {"type": "array", "maxItems": MAX_HASHES, "items": {"type": "string"}}},
                }
            }
        },
    }
}


@router.post("/hashes/verify", openapi_extra=_HASHES)
async def verify_hashes(request: Request) -> Response:
    """Whether files are those that were published, for up to 1,000 hashes at once, without an account.

    Each is a multihash, `SHA256:<hex>` or plain hex. For each: the newest 20 events that name it; those of contents have a `path`.
    """
    body = await json_body(request)
    hashes = body.get("hashes")
    if not isinstance(hashes, list) or not 0 < len(hashes) <= MAX_HASHES:
        raise Problem(400, "INVALID_FIELD", f"hashes is a list of 1 to {MAX_HASHES}", field="hashes")
    digests = digests_of(hashes)
    principals, root = list(principals_of(request)), parts_of(request).root
    async with parts_of(request).pool.connection() as conn:
        row = await (await conn.execute(sql("graph.hidden_collections"), (principals,))).fetchone()
        hidden = list(row["hidden"]) if row else []
        columns = (list(range(len(digests))), [one[0] for one in digests], [one[1] for one in digests])
        rows = await (await conn.execute(sql("graph.hash_matches"), (*columns, hidden, principals))).fetchall()
    results: list[dict[str, Any]] = [{"hash": text, "found": False, "matches": []} for text in hashes]
    for row in rows:
        one = results[row["number"]]
        one["found"] = True
        one["matches"].append(_match(row, root))
    return Response(orjson.dumps({"results": results}), media_type="application/json")


def _match(row: Any, root: str) -> dict[str, Any]:
    """An event that names the hash; with how its item is now."""
    event = {"seq": row["seq"], "id": str(row["id"]), "kind": row["kind"], "source": row["source"]}
    match = {
        "algorithm": row["alg"], "name": row["name"], "part": "content" if row["path"] else "product", "path": row["path"],
        "collection": row["collection"], "item": row["item_id"], "status": row["status"], "successor": row["successor"],
        "event": event | {"recorded_at": _time(row["recorded_at"])},
        "proof": f"{root}/lineage/v1/log/proof/{row['id']}",
    }  # fmt: skip
    return {name: value for name, value in match.items() if value is not None}
