"""One item of several uploads, and its versions: what is added, taken away, moved. Pure.

Each upload is an asset. The item's footprint is the union of theirs; an asset whose own differs says so in `federator:footprint`.
The upload that the item was begun with gives title, time and the rest; whoever comes first of several under way stands in for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import shapely
from shapely.geometry import mapping, shape

from ingest.errors import UploadRejected
from ingest.footprint import clean
from ingest.model import JSON
from ingest.sanitise import check_item
from ingest.uploads.item import THUMBNAIL, extensions_of, thumbnail

FOOTPRINT = "federator:footprint"
_VERSION_RELS = {"predecessor-version", "successor-version", "latest-version"}
#: Degrees by which a union is simplified until it has few enough vertices.
_TOLERANCES = (0.0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


def with_asset(stored: JSON, own: JSON, key: str, *, leads: bool) -> JSON:
    """The stored item with an upload's asset. `leads`: all but the others' assets is as the upload's own item has it."""
    if leads:
        item = {**own, "assets": {**stored["assets"], **own["assets"]}}
    else:
        properties = {**stored["properties"], "updated": own["properties"]["updated"]}
        sizes = [one["properties"]["gsd"] for one in (stored, own) if "gsd" in one["properties"]]
        properties |= {"gsd": min(sizes)} if sizes else {}
        links = [*stored["links"], *(link for link in own["links"] if link not in stored["links"])]
        assets = {**stored["assets"], key: own["assets"][key]}
        item = {**stored, "properties": properties, "links": links, "assets": assets}
    return item


def without_asset(stored: JSON, key: str, others: Mapping[str, JSON], *, raster_url: str, updated: str) -> JSON:
    """The stored item without an asset; drawn by that of the first of the others if it was by this one."""
    assets = {name: asset for name, asset in stored["assets"].items() if name != key}
    properties = {**stored["properties"], "updated": updated}
    if key in ((properties.get("renders") or {}).get("default") or {}).get("assets", ()):
        render = next(iter(others.values()))["render"]
        properties["renders"] = {**properties["renders"], "default": render}
        assets[THUMBNAIL] = thumbnail(raster_url, stored["collection"], stored["id"], render)
    return {**stored, "properties": properties, "assets": assets}


def finished(item: JSON, shown: Mapping[str, JSON], *, max_vertices: int) -> JSON:
    """The item with the footprint of all its uploads, as it may be stored.

    Args:
        shown: by asset key, each with its footprint as `geometry`.

    Raises:
        RecordRejected, UploadRejected: what became of it may not be stored.
    """
    footprints = {key: one["geometry"] for key, one in shown.items()}
    first = next(iter(footprints.values()))
    if any(footprint != first for footprint in footprints.values()):
        item["geometry"], item["bbox"] = united(list(footprints.values()), max_vertices)
    else:
        item["geometry"], item["bbox"] = clean(first)
    for key, footprint in footprints.items():
        if key in item["assets"]:
            asset = {name: value for name, value in item["assets"][key].items() if name != FOOTPRINT}
            item["assets"][key] = asset | ({FOOTPRINT: footprint} if footprint != item["geometry"] else {})
    item["stac_extensions"] = sorted({*extensions_of(item), *item["stac_extensions"]})
    return check_item(item)


def united(footprints: list[JSON], max_vertices: int) -> tuple[JSON, list[float]]:
    """Union of footprints as (GeoJSON, bbox).

    Raises:
        UploadRejected: OUT_OF_BOUNDS when it has too many vertices however it is simplified.
    """
    union = shapely.union_all([shapely.make_valid(shape(footprint)) for footprint in footprints])
    for candidate in (*(union.simplify(one) if one else union for one in _TOLERANCES), union.convex_hull):
        areas = [part for part in getattr(candidate, "geoms", [candidate]) if part.geom_type == "Polygon"]
        if areas and sum(len(part.exterior.coords) for part in areas) <= max_vertices:
            rings = [[[list(point) for point in mapping(part)["coordinates"][0]]] for part in areas]
            return clean({"type": "MultiPolygon", "coordinates": rings})
    raise UploadRejected("OUT_OF_BOUNDS", "the footprints of the item's files make no area on the Earth")


def older_id(item_id: str, version: int) -> str:
    """Where an item's older version is kept."""
    return f"{item_id}~v{version}"


def older_version(stored: JSON, version: int, *, raster_url: str, updated: str) -> JSON:
    """The stored item as an older version of the one that takes its place and id (version extension 1.2)."""
    newest, moved_to = str(stored["id"]), older_id(stored["id"], version)
    kept = [link for link in stored["links"] if link.get("rel") not in ("successor-version", "latest-version")]
    links = [*kept, _to(stored, newest, "successor-version"), _to(stored, newest, "latest-version")]
    properties = {**stored["properties"], "version": str(version), "deprecated": True, "updated": updated}
    item = {**stored, "id": moved_to, "properties": properties, "links": links, "assets": dict(stored["assets"])}
    render = (properties.get("renders") or {}).get("default")
    if THUMBNAIL in item["assets"] and _is_ours(item["assets"][THUMBNAIL], raster_url) and isinstance(render, dict):
        item["assets"][THUMBNAIL] = thumbnail(raster_url, stored["collection"], moved_to, render)
    item["stac_extensions"] = sorted({*extensions_of(item), *item["stac_extensions"]})
    return check_item(item)


def newer_version(own: JSON, version: int) -> JSON:
    """An upload's own item as the newest version; the one before is kept."""
    properties = {**own["properties"], "version": str(version), "deprecated": False}
    links = [*own["links"], _to(own, older_id(own["id"], version - 1), "predecessor-version")]
    return {**own, "properties": properties, "links": links}


def with_versions(stored: JSON, ids: Mapping[str, str | None], *, updated: str) -> JSON:
    """The item with links to these versions, by relation, in place of those that it has; None: with none."""
    kept = [link for link in stored["links"] if link.get("rel") not in ids]
    links = [*kept, *(_to(stored, item_id, rel) for rel, item_id in ids.items() if item_id is not None)]
    return {**stored, "properties": {**stored["properties"], "updated": updated}, "links": links}


def version_id(stored: JSON, rel: str) -> str | None:
    """Id of the version that a link of this relation leads to."""
    hrefs = (str(link.get("href", "")) for link in stored["links"] if link.get("rel") == rel)
    return next((href.rpartition("/")[2] for href in hrefs), None)


def version_links(stored: JSON) -> list[JSON]:
    """Links to other versions."""
    return [link for link in stored["links"] if link.get("rel") in _VERSION_RELS]


def _to(item: JSON, item_id: str, rel: str) -> JSON:
    """A link to another item here; the API resolves it against its own address."""
    href = f"collections/{item['collection']}/items/{item_id}"
    return {"rel": rel, "href": href, "type": "application/geo+json", "title": item_id}


def _is_ours(asset: Any, raster_url: str) -> bool:
    return isinstance(asset, dict) and str(asset.get("href", "")).startswith(raster_url)
