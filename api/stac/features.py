"""Rows of items become the JSON that is answered, as bytes: unpacked (`ingest.packing`) or hydrated from pgstac's columns, with links."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import quote, urljoin

import orjson

from api.stac.fields import Fields
from ingest.hydration import dumped, item_of
from ingest.packing import OWN_RELS, unpack

JSON = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Feature:
    """An item: its JSON without links, its links that are stored, and what it was read from, which is shorter."""

    collection: str
    id: str
    body: bytes
    links: list[JSON]
    stored: bytes


def unpacked(row: Any) -> Feature:
    """The item of a row that has `packed`. Raises ValueError: it is of another format."""
    return Feature(row["collection"], row["id"], *unpack(row["packed"]), row["packed"])


def hydrated(row: Any, content: JSON, base: JSON) -> Feature:
    """The item of a row; `content` is its parsed column, which is used up."""
    item = item_of(row, content, base)
    links = [link for link in item.pop("links", None) or () if link.get("rel") not in OWN_RELS]
    body = dumped(item)
    return Feature(row["collection"], row["id"], body, links, body + orjson.dumps(links))


class FeatureWriter:
    """Writes items of one answer; `root` is the STAC API's URL without a slash at its end."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._service = root.removesuffix("/stac")
        self._own_raster = orjson.dumps(f"{self._service}/uploads/")[:-1]
        self._places = cache(self._place)

    def write(self, feature: Feature, fields: Fields | None) -> bytes:
        """The JSON of an item with its links, or of what of it is wanted."""
        if fields is None:
            return feature.body[:-1] + b',"links":' + self._links(feature) + b"}"
        item = orjson.loads(feature.body)
        item["links"] = orjson.loads(self._links(feature)) if fields.has_links() else []
        return orjson.dumps(fields.apply(item))

    def _links(self, feature: Feature) -> bytes:
        """Where the item is, what is stored with it, its history, and the tiles of an own raster. Quoted names need no escapes in JSON."""
        where, items, path = self._places(feature.collection)
        item_id = quote(feature.id, safe="")
        stored = "".join([f"{orjson.dumps(self._resolved(link)).decode()}," for link in feature.links])
        links = (
            f'[{where}{{"rel":"self","type":"application/geo+json","href":"{items}/{item_id}"}},{stored}'
            '{"rel":"version-history","type":"application/json","title":"Traces",'
            f'"href":"{self._service}/trace/api/v1/traces/name/{item_id}"}},'
            '{"rel":"lineage","type":"application/json","title":"Events in the log",'
            f'"href":"{self._service}/lineage/v1/{path}/items/{item_id}/events"}},'
            '{"rel":"lineage","type":"text/html","title":"Lineage: where it comes from and what came of it",'
            f'"href":"{self._service}/lineage/v1/{path}/items/{item_id}.html"}},'
            '{"rel":"lineage-proof","type":"application/json","title":"Proof that the log has it",'
            f'"href":"{self._service}/lineage/v1/{path}/items/{item_id}/proof"}}'
        )
        if self._own_raster in feature.body:
            raster = f"{self._service}/raster/{path}/items/{item_id}"
            tiles, layer = f"{raster}/WebMercatorQuad", orjson.dumps(feature.id).decode()
            links += (
                f',{{"rel":"tilejson","type":"application/json","href":"{tiles}/tilejson.json"}},'
                f'{{"rel":"preview","type":"text/html","title":"Map","href":"{tiles}/map.html"}},'
                f'{{"rel":"xyz","type":"image/png","href":"{raster}/tiles/WebMercatorQuad/{{z}}/{{x}}/{{y}}.png"}},'
                f'{{"rel":"wmts","type":"text/xml","href":"{raster}/WMTSCapabilities.xml","wmts:layer":{layer}}}'
            )
        return f"{links}]".encode()

    def _place(self, collection: str) -> tuple[str, str, str]:
        """Of a collection's items: their links to what they are in, where they are, and the collection's path below each service."""
        path = f"collections/{quote(collection, safe='')}"
        here = f"{self._root}/{path}"
        where = (
            f'{{"rel":"collection","type":"application/json","href":"{here}"}},'
            f'{{"rel":"parent","type":"application/json","href":"{here}"}},'
            f'{{"rel":"root","type":"application/json","href":"{self._root}/"}},'
        )
        return where, f"{here}/items", path

    def _resolved(self, link: JSON) -> JSON:
        """A stored link, whose href may be relative to the API."""
        href = str(link.get("href", ""))
        return link if "://" in href else {**link, "href": urljoin(f"{self._root}/", href)}
