"""The same invented products as four providers tell them, each in its naming style, through the real normalisers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson

from ingest.adapters import adapter_for
from ingest.model import CollectionMapping, Record, Source
from ingest.versions import Held
from tests.upstreams.odata_records import record
from tests.upstreams.products import FEDERATED, Product
from tests.upstreams.stac_items import copernicus_item, earth_search_item

ROOT = "http://127.0.0.1:1"
EVERYTHING = frozenset({"Attributes", "Assets"})


def _source(name: str, protocol: str, rank: int) -> Source:
    mappings = tuple(CollectionMapping(one, {"collection": "any"}) for one in sorted(set(FEDERATED.values())))
    return Source(name, f"Invented {name}", protocol, f"{ROOT}/{name}", rank, 1e6, collections=mappings)


#: By rank: full names with suffix, full names without, names of its own, names without baseline or CRC.
PROVIDERS = {
    "named": _source("named", "odata", 10),
    "stemmed": _source("stemmed", "stac", 20),
    "renamed": _source("renamed", "stac", 30),
    "shortened": _source("shortened", "stac", 40),
}


def _named(product: Product) -> dict[str, Any]:
    return record(product, ROOT, EVERYTHING)


def _stemmed(product: Product) -> dict[str, Any]:
    """The Copernicus STAC catalogue's way; its radar items are written alike for a product and its COG twin."""
    return copernicus_item(replace(product, kind="COG") if product.kind == "GRD" else product, ROOT, ROOT)


def _renamed(product: Product) -> dict[str, Any]:
    """Earth Search's way; it has no radar here, so that is told by the product's identifier."""
    if product.kind in ("L1C", "L2A"):
        return earth_search_item(product, 0, ROOT)
    item = _foreign(product, f"radar-{product.id}")
    item["properties"]["s1:product_identifier"] = product.stem
    return item


def _shortened(product: Product) -> dict[str, Any]:
    """Planetary Computer's way."""
    parts = product.stem.removesuffix("_COG").split("_")
    if product.kind in ("L1C", "L2A"):
        return _foreign(product, "_".join(part for number, part in enumerate(parts) if number != 3))
    return _foreign(product, "_".join(parts[:-1]))


def _foreign(product: Product, item_id: str) -> dict[str, Any]:
    """An item whose files' addresses tell nothing."""
    item = _stemmed(product)
    key = "vv" if product.kind in ("GRD", "COG") else "B04"
    item["assets"] = {key: {"href": f"https://pixels.example.org/{product.id}.tif", "type": "image/tiff"}}
    return {**item, "id": item_id, "links": []}


_STYLES: dict[str, Callable[[Product], dict[str, Any]]] = {
    "named": _named, "stemmed": _stemmed, "renamed": _renamed, "shortened": _shortened,
}  # fmt: skip


def record_of(provider: str, product: Product) -> Record:
    """The record that a provider gives of a product."""
    value = _STYLES[provider](product)
    return Record(str(value.get("Id") or value["id"]), orjson.dumps(value))


def held_by(provider: str, product: Product) -> Held:
    """A provider's holding of a product."""
    source = PROVIDERS[provider]
    mapping = next(one for one in source.collections if one.id == FEDERATED[product.kind])
    one = record_of(provider, product)
    return Held(source, one.id, adapter_for(source, mapping).item(one))
