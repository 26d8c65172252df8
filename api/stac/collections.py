"""Collections: documents of pgstac with the links of this place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

import orjson
from stac_fastapi.types.errors import NotFoundError
from starlette.requests import Request

from api.access import principals_of
from api.stac.fields import fields_of
from api.stac.links import (
    AGGREGATION_RELS,
    QUERYABLES,
    SORTABLES,
    Link,
    aggregation_links,
    collection_href,
    queryables_link,
    root_of,
    sortables_link,
)
from db.queries import sql
from ingest.packing import OWN_RELS

#: Collections of a page when nobody says how many: all of most catalogues, as many clients do not turn pages here.
DEFAULT_LIMIT = 200
#: Of lists without pages.
MOST_COLLECTIONS = 10_000
#: No catalogue has so many, and PostgreSQL counts no further.
_FARTHEST = 2**31 - 1
_SCHEMA = "application/schema+json"
_OWN_RELS = {*OWN_RELS, *AGGREGATION_RELS, QUERYABLES, SORTABLES}


async def find_collections(request: Request, search: Mapping[str, Any], limit: int, offset: int) -> dict[str, Any]:
    """A page of collections that the caller may see; `search` as pgstac's functions take it, without limit and offset."""
    place = {"limit": min(limit, MOST_COLLECTIONS), "offset": min(offset, _FARTHEST)}
    asked = orjson.dumps({**search, **place}).decode()
    principals = list(principals_of(request))
    async with request.app.state.get_connection(request) as conn:
        rows = await conn.fetch(sql("api.find_collections"), asked, principals)
        matched = rows[0]["matched"] if rows else 0
        if not rows and offset:
            matched = await conn.fetchval(sql("api.count_collections"), asked, principals)
    root = root_of(request)
    has_links = fields_of(**search["fields"]).has_links() if search.get("fields") else True
    found = [with_links(row["content"], root) if has_links else row["content"] for row in rows]
    return {
        "collections": found,
        "links": _page_links(request, limit, offset, matched),
        "numberMatched": matched,
        "numberReturned": len(found),
    }


async def every_collection(request: Request) -> list[dict[str, Any]]:
    """All collections that the caller may see."""
    found: list[dict[str, Any]] = (await find_collections(request, {}, MOST_COLLECTIONS, 0))["collections"]
    return found


async def find_collection(request: Request, collection_id: str) -> dict[str, Any]:
    """One collection.

    Raises:
        NotFoundError: there is none that the caller may see.
    """
    async with request.app.state.get_connection(request) as conn:
        content = await conn.fetchval(sql("api.collection"), collection_id, list(principals_of(request)))
    if content is None:
        raise NotFoundError("no such collection")
    return with_links(content, root_of(request))


def with_links(content: dict[str, Any], root: str) -> dict[str, Any]:
    """A stored collection with links of where it is; one without id (`fields`) stays as it is."""
    if "id" not in content:
        return content
    here = collection_href(root, content["id"])
    links: list[Link] = [
        {"rel": "self", "type": "application/json", "href": here},
        {"rel": "parent", "type": "application/json", "href": f"{root}/"},
        {"rel": "root", "type": "application/json", "href": f"{root}/"},
        {"rel": "items", "type": "application/geo+json", "href": f"{here}/items"},
        {"rel": "queryables", "type": _SCHEMA, "title": "Queryables", "href": f"{here}/queryables"},
        queryables_link(f"{here}/queryables"),
        sortables_link(f"{here}/sortables"),
        *aggregation_links(here),
    ]
    stored = [one for one in content.get("links") or () if one.get("rel") not in _OWN_RELS]
    links += [{**one, "href": urljoin(f"{root}/", str(one.get("href", "")))} for one in stored]
    return {**content, "links": links}


def _page_links(request: Request, limit: int, offset: int, matched: int) -> list[Link]:
    root, url = root_of(request), str(request.url)
    links: list[Link] = [
        {"rel": "root", "type": "application/json", "href": f"{root}/"},
        {"rel": "self", "type": "application/json", "href": url},
        queryables_link(f"{root}/collections-queryables"),
        sortables_link(f"{root}/collections-sortables"),
    ]
    if offset + limit < matched:
        links.append({"rel": "next", "type": "application/json", "method": "GET", "href": _at(url, offset + limit)})
    if offset > 0:
        links.append(
            {
                "rel": "prev",
                "type": "application/json",
                "method": "GET",
                "href": _at(url, max(0, min(offset, matched) - limit)),
            }
        )
    return links


def _at(url: str, offset: int) -> str:
    parts = urlsplit(url)
    query = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name != "offset"]
    return urlunsplit(parts._replace(query=urlencode([*query, *([("offset", str(offset))] if offset else [])])))
