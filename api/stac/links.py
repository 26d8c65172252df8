"""Links of pages of items, and to what both the root and its collections have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from starlette.requests import Request

Link = dict[str, Any]
_GEOJSON = "application/geo+json"
_SCHEMA = "application/schema+json"
#: Relations of OGC API - Features, parts 3 and 5.
QUERYABLES = "http://www.opengis.net/def/rel/ogc/1.0/queryables"
SORTABLES = "http://www.opengis.net/def/rel/ogc/1.0/sortables"
#: Relations of `aggregation_links`.
AGGREGATION_RELS = frozenset({"aggregate", "aggregations"})
#: Relations of links that are made for items and collections when they are read, besides `ingest.packing.OWN_RELS`.
MADE_RELS = AGGREGATION_RELS | {
    "queryables", QUERYABLES, SORTABLES, "version-history", "lineage", "lineage-proof", "tilejson", "preview", "xyz", "wmts",
}  # fmt: skip

#: What lineage adds to an item that is asked for it (`api.stac.lineage_fields`): properties, members of links, and what marks whole links.
STATUS, LOG_INDEX = "lineage:status", "lineage:log_index"
_MADE_PROPERTIES = frozenset({STATUS, LOG_INDEX})
_MADE_OF_LINKS = frozenset({"lineage:assertion", "lineage:confidence", "lineage:rule"})
FROM_LOG = "lineage:from_log"


def root_of(request: Request) -> str:
    """The STAC API's URL without a slash at its end."""
    return str(request.base_url).removesuffix("/")


def queryables_link(href: str) -> Link:
    """Where it says what can be filtered by."""
    return {"rel": QUERYABLES, "type": _SCHEMA, "title": "Queryables", "href": href}


def sortables_link(href: str) -> Link:
    """Where it says what can be sorted by."""
    return {"rel": SORTABLES, "type": _SCHEMA, "title": "Sortables", "href": href}


def collection_href(root: str, collection_id: str) -> str:
    """Where a collection is."""
    return f"{root}/collections/{quote(collection_id, safe='')}"


def aggregation_links(here: str) -> list[Link]:
    """Links to the aggregations of what is at `here`, the root or a collection."""
    json = "application/json"
    return [
        {"rel": "aggregate", "type": json, "title": "Aggregate", "href": f"{here}/aggregate", "method": "GET"},
        {"rel": "aggregate", "type": json, "title": "Aggregate", "href": f"{here}/aggregate", "method": "POST"},
        {"rel": "aggregations", "type": json, "title": "Aggregations", "href": f"{here}/aggregations"},
    ]


def without_made(document: Any, service: str) -> Any:
    """A document that comes back, without links that were made for it here; `service` is our URL without a slash at its end."""
    if not isinstance(document, dict) or not isinstance(document.get("links"), list):
        return document
    links = [_plain(link) for link in document["links"] if not _is_made(link, service)]
    plain = {**document, "links": links}
    if isinstance(document.get("properties"), dict):
        plain["properties"] = {
            name: value for name, value in document["properties"].items() if name not in _MADE_PROPERTIES
        }
    return plain


def _plain(link: Any) -> Any:
    """A link without what was added to it here."""
    if not isinstance(link, dict) or _MADE_OF_LINKS.isdisjoint(link):
        return link
    return {name: value for name, value in link.items() if name not in _MADE_OF_LINKS}


def _is_made(link: Any, service: str) -> bool:
    if not isinstance(link, dict) or not isinstance(link.get("href"), str) or not isinstance(link.get("rel"), str):
        return False
    if link.get(FROM_LOG) is True:
        return True
    return link["rel"] in MADE_RELS and link["href"].startswith(f"{service}/")


def page_links(
    request: Request, body: Mapping[str, Any] | None, following: str | None, before: str | None
) -> list[Link]:
    """Links of a page of items to itself, to the pages beside it and to the root; `body` is what was posted, None for GET."""
    url = str(request.url)
    links: list[Link] = [{"rel": "root", "type": "application/json", "href": f"{root_of(request)}/"}]
    if body is None:
        links.append({"rel": "self", "type": _GEOJSON, "href": url})
    for rel, token in (("next", following), ("prev", before)):
        if token is None:
            continue
        if body is None:
            links.append({"rel": rel, "type": _GEOJSON, "method": "GET", "href": _with_token(url, token)})
        else:
            asked = {**body, "token": token}
            links.append({"rel": rel, "type": _GEOJSON, "method": "POST", "href": url, "body": asked})
    return links


def _with_token(url: str, token: str) -> str:
    """The same URL with this token; all else in it stays as the client wrote it."""
    path, _, query = url.partition("?")
    rest = [part for part in query.split("&") if part and not part.startswith("token=")]
    return f"{path}?{'&'.join([*rest, f'token={token}'])}"
