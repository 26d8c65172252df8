"""The landing page with what stac-fastapi's lacks: children, catalogs, sortables, and the sources in openEO's words. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from api.catalog_documents import catalog_href, link
from api.federation import Federation
from api.stac.links import AGGREGATION_RELS, aggregation_links, sortables_link

JSON = dict[str, Any]


def completed(page: Mapping[str, Any], collections: Sequence[JSON], federation: Federation, root: str) -> JSON:
    """Return the page; `collections` are those that the caller may see."""
    links = [
        *(one for one in page["links"] if one["rel"] not in AGGREGATION_RELS),
        *aggregation_links(root),
        sortables_link(f"{root}/sortables"),
        link("children", f"{root}/children", title="All catalogs and collections"),
        link("catalogs", f"{root}/catalogs", title="What each source offers"),
        *(link("child", catalog_href(root, name), title=federation.sources[name].title) for name in federation.offers),
        *(_child(root, one) for one in collections),
    ]
    found = {**page, "links": links}
    return {**found, "federation": federation.described()} if federation.is_one else found


def _child(root: str, collection: JSON) -> JSON:
    href = f"{root}/collections/{quote(collection['id'], safe='')}"
    title = collection.get("title")
    return link("child", href, title=title) if isinstance(title, str) else link("child", href)
