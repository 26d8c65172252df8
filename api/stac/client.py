"""stac-fastapi's client interface over our search path: routes, models and OpenAPI stay stac-fastapi's, answers are bytes of ours."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import attr
import cql2
import orjson
from fastapi import HTTPException
from pydantic import ValidationError
from stac_fastapi.pgstac.core import CoreCrudClient, join_free_text_query
from stac_fastapi.pgstac.types.search import PgstacSearch
from stac_fastapi.types.errors import InvalidQueryParameter, NotFoundError
from starlette.requests import Request
from starlette.responses import Response

from api.access import principals_of
from api.federation import CONFORMANCE as FEDERATION
from api.federation import Federation, federation_of, named
from api.problems import Problem
from api.stac.caching import headers_of, not_modified, weak_tag
from api.stac.collections import DEFAULT_LIMIT as COLLECTIONS_LIMIT
from api.stac.collections import every_collection, find_collection, find_collections
from api.stac.conformance import MORE_CLASSES
from api.stac.etags import names_tag, tagged
from api.stac.export import exported, wants_parquet
from api.stac.features import FeatureWriter
from api.stac.fields import Fields, fields_of
from api.stac.filters import planned
from api.stac.landing import completed
from api.stac.lineage_fields import PARAMETER, with_lineage
from api.stac.links import page_links, root_of
from api.stac.search import Found, Searcher
from api.stac.timings import note_search
from api.stac.tokens import TokenInvalid
from api.stac.within import Within
from db.queries import sql

GEOJSON = "application/geo+json"
DEFAULT_LIMIT = 10
#: Parts of the names of classes whose routes a source's catalog does not have.
_AT_THE_ROOT_ALONE = ("collection-search", "simple-query", "sortables", "aggregation", "transaction", "oas30")
#: Members of a search request that say how to answer it and not what is searched.
_NOT_SEARCHED = {"token", "limit", "fields", "conf"}


@attr.s
class Client(CoreCrudClient):  # type: ignore[misc]
    """Answers item searches, collections' items and items."""

    async def landing_page(self, **kwargs: Any) -> Any:
        """`GET /`."""
        request = kwargs["request"]
        federation = await federation_of(request)
        page = completed(
            await super().landing_page(**kwargs), await every_collection(request), federation, root_of(request)
        )
        return {**page, "conformsTo": self._conforming(federation)}

    async def conformance(self, **kwargs: Any) -> Any:
        """`GET /conformance`."""
        return {"conformsTo": self._conforming(await federation_of(kwargs["request"]))}

    async def all_collections(self, request: Request, **arguments: Any) -> Response:
        """`GET /collections`: collection search; the landing page asks too."""
        return Response(orjson.dumps(await self._collections(request, arguments)), media_type="application/json")

    async def get_collection(self, collection_id: str, request: Request, **kwargs: Any) -> Response:
        """`GET /collections/{collection_id}`."""
        document = named(await find_collection(request, collection_id), await federation_of(request))
        return tagged(orjson.dumps(document), "application/json")

    async def _collections(self, request: Request, arguments: Mapping[str, Any]) -> dict[str, Any]:
        if arguments.get("query") and arguments.get("filter_expr"):
            raise InvalidQueryParameter("query or filter")
        search = planned(on_the_map(self._asked({"bbox": arguments.get("bbox")}, arguments)))
        join_free_text_query(search)
        federation = await federation_of(request)
        page = await find_collections(
            request, search, arguments.get("limit") or COLLECTIONS_LIMIT, arguments.get("offset") or 0
        )
        page["collections"] = [named(one, federation) for one in page["collections"]]
        return {**page, "federation:missing": federation.offline} if federation.offline else page

    async def post_search(self, search_request: PgstacSearch, request: Request, **kwargs: Any) -> Response:
        """`POST /search`."""
        return await self.answer(search_request, request, orjson.loads(await request.body() or b"{}"))

    async def get_search(self, request: Request, **arguments: Any) -> Response:
        """`GET /search`."""
        return await self.answer(self.model_of(arguments), request, None)

    async def item_collection(self, collection_id: str, request: Request, **arguments: Any) -> Response:
        """`GET /collections/{collection_id}/items`."""
        await find_collection(request, collection_id)  # 404 when there is none
        return await self.answer(self.model_of({**arguments, "collections": [collection_id]}), request, None)

    async def get_item(self, item_id: str, collection_id: str, request: Request, **kwargs: Any) -> Response:
        """`GET /collections/{collection_id}/items/{item_id}`; one that left the catalogue is gone, with what follows it."""
        searcher: Searcher = request.app.state.searcher
        item = await searcher.item(collection_id, item_id, principals_of(request))
        if item is None:
            raise await self._missing(collection_id, item_id, request)
        (item,) = await with_lineage(request, [item])
        return tagged(FeatureWriter(root_of(request)).write(item, None), GEOJSON, headers=headers_of(request))

    def conformance_classes(self) -> list[str]:
        """What the parts declare, and what they leave out."""
        return sorted({*map(str, super().conformance_classes()), *MORE_CLASSES})

    def classes_in_catalogs(self) -> list[str]:
        """Of these what holds below `/catalogs/{source}` too: where there is no route, nothing is declared."""
        return [one for one in self.conformance_classes() if not any(part in one for part in _AT_THE_ROOT_ALONE)]

    def _conforming(self, federation: Federation) -> list[str]:
        return sorted({*self.conformance_classes(), *([FEDERATION] if federation.is_one else [])})

    async def item_within(self, request: Request, item_id: str, within: Within) -> Response:
        """One item, if it is in these bounds; `within` names one collection."""
        searcher: Searcher = request.app.state.searcher
        search = planned(within.bound({"ids": [item_id]}))
        found = await searcher.page(search, 1, None, principals_of(request))
        if not found.features:
            raise await self._missing(within.collections[0], item_id, request)
        (item,) = await with_lineage(request, found.features)
        return tagged(FeatureWriter(root_of(request)).write(item, None), GEOJSON, headers=headers_of(request))

    def model_of(self, arguments: Mapping[str, Any]) -> PgstacSearch:
        """A GET's parameters as the model of a POST."""
        known = {name: arguments.get(name) for name in ("collections", "ids", "bbox", "limit", "token")}
        try:
            return self.pgstac_search_model(**self._asked(known, arguments))
        except ValidationError as error:
            raise HTTPException(status_code=400) from error

    def _asked(self, known: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters of a GET as pgstac takes them."""
        texts = {name: orjson.loads(text) for name in ("query", "intersects") if (text := arguments.get(name))}
        more = {name: arguments.get(name) for name in ("datetime", "fields", "sortby")}
        more["q"] = [term for term in arguments.get("q") or () if term.strip()] or None  # as in "radar,"
        asked: dict[str, Any] = self._clean_search_args(base_args={**known, **texts}, **more)
        if text := arguments.get("filter_expr"):  # the guard has let it pass
            is_json = arguments.get("filter_lang") == "cql2-json"
            expression = orjson.loads(text) if is_json else cql2.parse_text(text).to_json()
            # TRUE and FALSE alone are filters too; the model knows objects only
            asked["filter"] = {"op": "and", "args": [expression]} if isinstance(expression, bool) else expression
            asked["filter_lang"] = "cql2-json"
        return asked

    async def answer(
        self, asked: PgstacSearch, request: Request, body: Mapping[str, Any] | None, within: Within | None = None
    ) -> Response:
        """A page of items; `body` is what was posted, None for GET."""
        search = searched(asked, within=within)
        wanted = _fields(asked, request, body)
        if wants_parquet(request):
            return await exported(request, search, _export_limit(asked, request, body), wanted)
        limit = asked.limit if asked.limit is not None else DEFAULT_LIMIT
        searcher: Searcher = request.app.state.searcher
        try:
            found = await searcher.page(search, limit, getattr(asked, "token", None), principals_of(request))
        except TokenInvalid:
            raise Problem(400, "INVALID_TOKEN", "the token is not one of this search", field="token") from None
        if PARAMETER in request.query_params:
            found = replace(found, features=await with_lineage(request, found.features))
        headers = headers_of(request)
        if body is None:  # the answer to a POST has no tag
            headers["ETag"] = etag = _page_tag(found)
            if names_tag(request.headers.get("if-none-match", ""), etag, weakly=True):
                return not_modified(headers)
        begun = time.perf_counter()
        content = page_bytes(
            found, FeatureWriter(root_of(request)), wanted, page_links(request, body, found.next, found.prev)
        )
        if found.timings:
            note_search(request, search, found.timings, time.perf_counter() - begun, len(content))
        return Response(content, headers=headers, media_type=GEOJSON)

    async def _missing(self, collection_id: str, item_id: str, request: Request) -> Exception:
        await find_collection(request, collection_id)
        async with request.app.state.get_connection(request) as conn:
            principals = list(principals_of(request))
            if row := await conn.fetchrow(sql("api.withdrawn_item"), collection_id, item_id, principals):
                return _gone(request, collection_id, row)
            row = await conn.fetchrow(sql("uploads.deleted_item"), collection_id, item_id, principals)
        return NotFoundError("no such item") if row is None else _deleted(row)


def searched(
    asked: PgstacSearch, *, ignored: frozenset[str] = frozenset(), within: Within | None = None
) -> dict[str, Any]:
    """What is searched, as pgstac's functions take it; `ignored` are members of a request that say something else."""
    fields = asked.model_dump(mode="json", exclude_none=True, by_alias=True, exclude=_NOT_SEARCHED | ignored)
    search = on_the_map(fields)
    return planned(within.bound(search) if within else search)


def _page_tag(found: Found) -> str:
    """The entity tag of a page: the URL says the rest. Its tokens may differ, what they lead to does not."""
    rest = orjson.dumps([found.next is None, found.prev is None, found.matched])
    return weak_tag([rest, *(feature.stored for feature in found.features)])


def _export_limit(asked: PgstacSearch, request: Request, body: Mapping[str, Any] | None) -> int | None:
    """How many items an export has at most, if the caller says so himself."""
    return asked.limit if "limit" in (request.query_params if body is None else body) else None


def on_the_map(search: dict[str, Any]) -> dict[str, Any]:
    """The same search with a bbox as pgstac takes it: of six numbers it makes a box that PostGIS cannot compare with footprints, which are
    flat; of one that crosses the antimeridian all but what is asked for, so that is asked for as two areas.
    """
    box = search.get("bbox")
    if box is None:
        return search
    west, south, east, north = box if len(box) == 4 else (*box[:2], *box[3:5])
    if west <= east:
        return {**search, "bbox": [west, south, east, north]}
    sides = [(west, 180.0), (-180.0, east)]
    parts = [[[[w, south], [e, south], [e, north], [w, north], [w, south]]] for w, e in sides]
    rest = {name: value for name, value in search.items() if name != "bbox"}
    return {**rest, "intersects": {"type": "MultiPolygon", "coordinates": parts}}


def page_bytes(found: Found, writer: FeatureWriter, fields: Fields | None, links: list[dict[str, Any]]) -> bytes:
    """A page as a FeatureCollection."""
    rest: dict[str, Any] = {"links": links, "numberReturned": len(found.features)}
    if found.matched is not None:
        rest["numberMatched"] = found.matched.number
        if not found.matched.is_exact:
            rest["federator:numberMatchedIsEstimate"] = True
    features = b",".join([writer.write(feature, fields) for feature in found.features])
    return b'{"type":"FeatureCollection","features":[' + features + b"]," + orjson.dumps(rest)[1:]


def _fields(asked: PgstacSearch, request: Request, body: Mapping[str, Any] | None) -> Fields | None:
    """What the caller wants of each item; None: everything."""
    if body is None:
        if "fields" not in request.query_params:
            return None
        wanted: Any = asked.fields
        return fields_of(wanted.include, wanted.exclude)
    if "fields" not in body:
        return None
    given = body["fields"]
    return fields_of(given.get("include"), given.get("exclude"), names_include="include" in given)


def _deleted(row: Any) -> Problem:
    """What was there: an uploaded item that its owner has deleted."""
    detail = "the owner has deleted this item; its history stays in the log"
    deleted_at = row["deleted_at"].isoformat()
    return Problem(410, "ITEM_DELETED", detail, deleted=deleted_at, item_title=row["title"], sha256=row["sha256"])


def _gone(request: Request, collection_id: str, row: Any) -> Problem:
    facts: dict[str, Any] = {"withdrawn": row["withdrawn_at"].isoformat()}
    headers = {}
    if row["successor_id"]:
        href = f"{root_of(request)}/collections/{quote(collection_id, safe='')}/items/{quote(row['successor_id'], safe='')}"
        facts["successor"] = href
        headers["Link"] = f'<{href}>; rel="successor-version"'
    detail = "the item left the catalogue; its history stays in the log"
    return Problem(410, "ITEM_WITHDRAWN", detail, headers=headers, **facts)
