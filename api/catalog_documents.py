"""Documents of sources' catalogs. Pure."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from api.federation import Federation
from api.stac.links import AGGREGATION_RELS, queryables_link

STAC_VERSION = "1.1.0"
GEOJSON = "application/geo+json"

JSON = dict[str, Any]
Link = dict[str, str]


def link(rel: str, href: str, media_type: str = "application/json", **more: str) -> Link:
    """A link."""
    return {"rel": rel, "href": href, "type": media_type, **more}


def catalog_href(root: str, source_id: str) -> str:
    """Where a source's catalog is."""
    return f"{root}/catalogs/{quote(source_id, safe='')}"


def listed(name: str, found: list[JSON], root: str, url: str, *, parent: str | None = None) -> JSON:
    """A list of documents with its links."""
    links = [link("self", url), link("root", f"{root}/")]
    return {name: found, "links": [*links, link("parent", parent)] if parent else links}


def catalog_document(root: str, federation: Federation, source_id: str) -> JSON:
    """A source as a catalog."""
    here, source = catalog_href(root, source_id), federation.sources[source_id]
    return {
        "type": "Catalog",
        "stac_version": STAC_VERSION,
        "id": source_id,
        "title": source.title,
        "description": f"What {source.title} offers, as far as it was harvested.",
        "federation:backends": [source_id],
        "links": [
            link("self", here),
            link("root", f"{root}/"),
            link("parent", f"{root}/"),
            link("data", f"{here}/collections"),
            link("children", f"{here}/children"),
            link("catalogs", f"{here}/catalogs"),
            link("conformance", f"{here}/conformance"),
            link("search", f"{here}/search", GEOJSON, method="GET"),
            link("search", f"{here}/search", GEOJSON, method="POST"),
            queryables_link(f"{here}/queryables"),
            *(link("child", f"{here}/collections/{quote(name, safe='')}") for name in federation.offers[source_id]),
        ],
    }


def scoped(root: str, source_id: str, document: JSON) -> JSON:
    """A collection seen from its source: self, parent and items lie below the catalog; the canonical one is that of all sources."""
    here, name = catalog_href(root, source_id), quote(document["id"], safe="")
    own = f"{here}/collections/{name}"
    replaced = {
        "self",
        "parent",
        "items",
        "canonical",
        "related",
    } | AGGREGATION_RELS  # which would count other sources' items too
    kept = [one for one in document["links"] if one.get("rel") not in replaced]
    links = [
        link("self", own),
        link("parent", here),
        link("items", f"{own}/items", GEOJSON),
        link("canonical", f"{root}/collections/{name}"),
    ]
    return {**document, "links": [*kept, *links]}
