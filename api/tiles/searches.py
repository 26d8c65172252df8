"""`/raster/searches`: searches that callers register for tiles. Each belongs to who registered it, and shows everybody what he may see.

pgstac names a search by a hash of what is asked, lists all of them to everybody, and evaluates none of them for who asks. Here an id is
random, a person's search is his alone unless he says `"visibility": "public"` in its metadata, and one of nobody's is known to who has
its id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from secrets import token_hex
from typing import Annotated, Any, Final
from urllib.parse import urlencode

import orjson
from fastapi import APIRouter, Path, Query
from psycopg.rows import dict_row
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.access import LOCAL, OPERATOR, caller_of, principals_of, require
from api.bounds import check_text, refuse
from api.guard import read_body
from api.problems import Problem
from api.settings import ApiSettings
from api.signed import SIGNED, note_private
from api.tiles.asked import MEMBERS, search_of
from api.tiles.limits import check_request
from api.tiles.mosaics import WORLD, Mosaic
from db.queries import sql

JSON = dict[str, Any]
ID: Final = r"^[0-9a-f]{32}$"
_MAX_BODY: Final = 100_000
_METADATA: Final = ("name", "visibility", "bounds", "minzoom", "maxzoom", "assets", "defaults", "type")
_BODY: Final = {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}
#: What a key needs to remove its person's searches; a key without scopes only reads.
REMOVAL: Final = "stac:item:delete"
_NO_SEARCH: Final = "there is no such search"


def search_mosaic_of(settings: ApiSettings) -> Callable[..., Mosaic]:
    """The path dependency of registered searches."""

    def of_search(request: Request, search_id: Annotated[str, Path(description="Id of a registered search")]) -> Mosaic:
        check_request(request)
        row = _found(request, search_id)
        asked = dict(row["search"])
        box = _numbers_of(asked["bbox"]) if asked.get("bbox") else None
        metadata = row["metadata"]
        bounds = box or metadata.get("bounds") or WORLD
        defaults = metadata.get("defaults")
        return Mosaic(
            name=search_id,
            title=str(metadata.get("name") or search_id),
            search=search_of(asked, settings),
            principals=tuple(row["principals"]),
            bounds=tuple(bounds) if bounds[0] <= bounds[2] else WORLD,
            renders=defaults if isinstance(defaults, dict) else {},
            zooms=(metadata.get("minzoom"), metadata.get("maxzoom")),
            document=row,
        )

    return of_search


def _found(request: Request, search_id: str) -> JSON:
    """A search that the caller may use.

    Raises:
        Problem: 404.
    """
    asked = (search_id[:40], list(principals_of(request)), SIGNED in request.scope)
    with request.app.state.dbpool.connection() as conn, conn.cursor(row_factory=dict_row) as cursor:
        row: JSON | None = cursor.execute(sql("tiles.search"), asked).fetchone() if "\0" not in search_id else None
        if row is None:
            raise Problem(404, "NOT_FOUND", _NO_SEARCH)
        if row["is_stale"]:
            cursor.execute(sql("tiles.note_use"), (row["id"],))
    note_private(request, is_private=not row["is_public"])
    return row


def searches_router(settings: ApiSettings, root: str) -> APIRouter:
    """Register, list, info and removal."""
    router = APIRouter(prefix="/searches", tags=["searches"])

    @router.post(
        "/register",
        openapi_extra={"requestBody": _BODY},
    )
    async def register(request: Request) -> Response:
        """Register a search for tiles; the same one of the same caller has the same id."""
        owner = _owner(request)
        if owner is None and not settings.anonymous_searches and caller_of(request) is None:
            raise Problem(
                401, "TOKEN_REQUIRED", "send Authorization: Bearer <token>", headers={"WWW-Authenticate": "Bearer"}
            )
        search, metadata = _registered(await read_body(request, _MAX_BODY), settings)
        is_public = owner is None or metadata.get("visibility") == "public"
        values = (
            token_hex(16),
            owner,
            is_public,
            _text(search),
            _text(metadata),
            _digest(search, metadata),
            settings.searches_per_caller,
        )
        search_id = await run_in_threadpool(_store, request, values)
        return JSONResponse(
            {"id": search_id, "links": _links(root, search_id, info=False)}, headers={"Cache-Control": "no-store"}
        )

    @router.get("/", summary="List Searches")
    @router.get("/list", deprecated=True)
    def list_searches(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=1000)] = 10,
        offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
        name: Annotated[str | None, Query(max_length=200, description="Of this name in their metadata.")] = None,
    ) -> Response:
        """The caller's searches, and those that persons have made public."""
        check_text(name or "", "name")
        asked = (list(principals_of(request)), _text({} if name is None else {"name": name}))
        with request.app.state.dbpool.connection() as conn, conn.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(sql("tiles.searches"), (*asked, limit, offset)).fetchall()
            total = cursor.execute(sql("tiles.count_searches"), asked).fetchone()
        matched = total["matched"] if total else 0
        places = {"self": offset}
        if offset + len(rows) < matched and rows:
            places["next"] = offset + len(rows)
        if offset > 0:
            places["prev"] = max(0, offset - limit)
        document = {
            "searches": [{"search": _shown(row), "links": _links(root, row["id"])} for row in rows],
            "links": [_page_link(root, rel, limit, place, name) for rel, place in places.items()],
            "context": {"returned": len(rows), "limit": limit, "matched": matched},
        }
        return JSONResponse(document, headers={"Cache-Control": "no-store"})

    @router.get("/{search_id}/info")
    def info(request: Request, search_id: str) -> Response:
        """What a search asks for, and where its tiles are."""
        row = _found(request, search_id)
        return JSONResponse({"search": _shown(row), "links": _links(root, search_id)})

    @router.delete("/{search_id}", status_code=204)
    def remove(request: Request, search_id: str) -> Response:
        """Forget a search of the caller's own: with a scope that lets him take away what he made."""
        row = _found(request, search_id)
        if (caller := caller_of(request)) is not None and "admin" not in caller.scopes:
            require(request, REMOVAL)
        with request.app.state.dbpool.connection() as conn:
            if conn.execute(sql("tiles.forget_search"), (row["id"], list(principals_of(request)))).fetchone() is None:
                raise Problem(403, "NOT_ALLOWED", "it is not yours")
        return Response(status_code=204)

    return router


def _owner(request: Request) -> str | None:
    """The principal that a search belongs to; None: nobody's, or that of a program that may do all."""
    caller = caller_of(request)
    if caller is None or caller.name == LOCAL.name:
        return None
    return "role:admin" if caller.name == OPERATOR.name else f"user:{caller.name}"


def _store(request: Request, values: tuple[Any, ...]) -> str:
    with request.app.state.dbpool.connection() as conn:
        row = conn.execute(sql("tiles.register"), values).fetchone()
        return str(row[0])


def _registered(body: bytes, settings: ApiSettings) -> tuple[JSON, JSON]:
    """The search and its metadata.

    Raises:
        Problem: 400.
    """
    try:
        asked = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise refuse("INVALID_BODY", "the body is a JSON object") from None
    if not isinstance(asked, dict):
        raise refuse("INVALID_BODY", "the body is a JSON object")
    metadata = asked.pop("metadata", None) or {}
    unknown = sorted(asked.keys() - {*MEMBERS, "limit", "fields", "token", "conf"})
    if unknown:
        raise refuse("INVALID_PARAMETER", "a search has other members", fields=[one[:80] for one in unknown[:10]])
    search = {name: asked[name] for name in MEMBERS if asked.get(name) is not None}
    if isinstance(search.get("filter"), dict):
        search["filter-lang"] = "cql2-json"
    search_of(search, settings)
    if "bbox" in search:
        search["bbox"] = _numbers_of(search["bbox"])
    return search, _checked(metadata)


def _checked(metadata: Any) -> JSON:
    if not isinstance(metadata, dict) or not metadata.keys() <= set(_METADATA):
        raise refuse("INVALID_PARAMETER", f"metadata has {', '.join(_METADATA)}", fields=["metadata"])
    if not isinstance(metadata.get("name", ""), str) or metadata.get("visibility", "private") not in (
        "private",
        "public",
    ):
        raise refuse("INVALID_PARAMETER", "a name is a text, a visibility private or public", fields=["metadata"])
    check_text(orjson.dumps(metadata).decode().replace("\\u0000", "\0"), "metadata")
    for name in ("minzoom", "maxzoom"):
        if metadata.get(name) is not None and not (type(metadata[name]) is int and 0 <= metadata[name] <= 30):
            raise refuse("INVALID_PARAMETER", "a zoom is 0 to 30", fields=["metadata"])
    if (bounds := metadata.get("bounds")) is not None and not _is_box(bounds):
        raise refuse("INVALID_PARAMETER", "bounds are west, south, east, north in degrees", fields=["metadata"])
    return {"type": "mosaic", **{name: value for name, value in metadata.items() if value is not None}}


def _numbers_of(box: Any) -> list[float]:
    """West, south, east, north of a box that the guard has let pass: a text, a list of numbers or of texts, with heights or without."""
    numbers = [float(one) for one in (box.split(",") if isinstance(box, str) else box)]
    return numbers if len(numbers) == 4 else [*numbers[:2], *numbers[3:5]]


def _is_box(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 4 or not all(type(one) in (int, float) for one in value):
        return False
    west, south, east, north = value
    return bool(-180 <= west <= east <= 180 and -90 <= south <= north <= 90)


def _text(value: JSON) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def _digest(search: JSON, metadata: JSON) -> bytes:
    return hashlib.sha256(_text({"search": search, "metadata": metadata}).encode()).digest()


def _shown(row: JSON) -> JSON:
    """As titiler-pgstac's model of a search, without the SQL that it was made into."""
    return {
        "id": row["id"],
        "search": row["search"],
        "metadata": row["metadata"],
        "lastused": row["used_at"].isoformat(),
        "usecount": row["use_count"],
        "owner": row["owner"],
        "visibility": "public" if row["is_public"] else "private",
    }


def _page_link(root: str, rel: str, limit: int, offset: int, name: str | None) -> JSON:
    query = {"limit": limit, "offset": offset} | ({} if name is None else {"name": name})
    return {"rel": rel, "href": f"{root}/raster/searches/list?{urlencode(query)}"}


def _links(root: str, search_id: str, *, info: bool = True) -> list[JSON]:
    here = f"{root}/raster/searches/{search_id}"
    own = {"rel": "self" if info else "metadata", "title": "Mosaic metadata", "href": f"{here}/info"}
    return [
        own,
        {
            "rel": "tilejson",
            "title": "TileJSON (template)",
            "href": f"{here}/{{tileMatrixSetId}}/tilejson.json",
            "templated": True,
        },
        {"rel": "map", "title": "Map (template)", "href": f"{here}/{{tileMatrixSetId}}/map.html", "templated": True},
        {"rel": "wmts", "title": "WMTS capabilities", "href": f"{here}/WMTSCapabilities.xml"},
        {"rel": "wms", "title": "WMS", "href": f"{here}/wms?service=WMS&request=GetCapabilities"},
    ]
