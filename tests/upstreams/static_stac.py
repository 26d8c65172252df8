"""Static catalogues as documents on a web server: a small archive of items, and datasets as Earth Engine describes them.

ETags and 304; relative hrefs; links without titles, a circle, two ways to one document, a link to another host.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from tests.upstreams import tiles
from tests.upstreams.answers import service_root
from tests.upstreams.odata_records import time_text
from tests.upstreams.products import FEDERATED, Product

JSON = dict[str, Any]
#: Makes a document; gets the service's URL.
Render = Callable[[str], JSON]

_EXTENT = {
    "spatial": {"bbox": [[-180, -90, 180, 90]]},
    "temporal": {"interval": [["2024-08-01T00:00:00Z", None]]},
}


class StaticService:
    """Documents by path. Tests change them: `bodies` answers as they are, `moved` redirects, `gone` are 404."""

    def __init__(self, documents: dict[str, Render]) -> None:
        self.documents = documents
        self.bodies: dict[str, bytes] = {}
        self.moved: dict[str, str] = {}
        self.gone: set[str] = set()
        self.etags = True
        self.sent: list[tuple[str, int]] = []  # path and status of every answer

    def routes(self) -> list[Route]:
        """One route for all."""
        return [Route("/{path:path}", self.document)]

    async def document(self, request: Request) -> Response:
        """`GET` of any document."""
        path = request.path_params["path"]
        response = self._answer(path, request)
        self.sent.append((path, response.status_code))
        return response

    def _answer(self, path: str, request: Request) -> Response:
        if path in self.moved:
            return RedirectResponse(self.moved[path], 302)
        if path in self.gone or (path not in self.documents and path not in self.bodies):
            return Response("<Error><Code>NoSuchKey</Code></Error>", 404, media_type="application/xml")
        body = self.bodies.get(path)
        if body is None:
            body = orjson.dumps(self.documents[path](service_root(request)))
        etag = f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
        headers = {"etag": etag} if self.etags else {}
        if self.etags and request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(body, media_type="application/json", headers=headers)


def static_products(offered: Sequence[Product]) -> list[Product]:
    """What the archive holds: every fifth scene, no COG twins."""
    return [product for product in offered if product.kind in ("L1C", "L2A", "GRD") and product.scene % 5 == 2]


def static_service(offered: Sequence[Product]) -> StaticService:
    """An archive: a catalogue, a Collection for each collection, a catalogue for each month, an item for each product."""
    months: dict[str, dict[str, list[Product]]] = defaultdict(lambda: defaultdict(list))
    for product in static_products(offered):
        months[FEDERATED[product.kind]][f"{product.start:%Y-%m}"].append(product)
    documents: dict[str, Render] = {"catalog.json": lambda root: _root(sorted(months), root)}
    for name, by_month in months.items():
        documents[f"{name}/collection.json"] = _collection(name, sorted(by_month))
        for month, products in by_month.items():
            documents[f"{name}/{month}/catalog.json"] = _month(month, products)
            for product in products:
                documents[f"{name}/{month}/{product.stem}/{product.stem}.json"] = _item(product)
    documents["again/catalog.json"] = lambda root: _catalog(
        "again",
        [_child(f"../{name}/collection.json") for name in sorted(months)]
        + [_child("./catalog.json"), _child("../catalog.json")],
    )
    return StaticService(documents)


def _child(href: str, title: str | None = None) -> JSON:
    link = {"rel": "child", "href": href, "type": "application/json"}
    return link | ({"title": title} if title else {})


def _catalog(name: str, links: list[JSON]) -> JSON:
    return {
        "type": "Catalog", "stac_version": "1.1.0", "id": name, "description": "Invented products for demonstrations.",
        "links": [{"rel": "root", "href": "../catalog.json"}, *links],
    }  # fmt: skip


def _root(names: Sequence[str], root: str) -> JSON:
    """Collections by relative and absolute hrefs, the second without a title; a circle."""
    links = [_child(f"./{name}/collection.json" if n % 2 == 0 else f"{root}/{name}/collection.json",
                    f"{name}, invented" if n != 1 else None) for n, name in enumerate(names)]  # fmt: skip
    return _catalog("demonstration", [*links, _child("again/catalog.json"), _child("catalog.json#top")])


def _collection(name: str, months: Sequence[str]) -> Render:
    links = [_child(f"./{month}/catalog.json", month) for month in months]
    document = _catalog(f"archive-{name}", [*links, {"rel": "license", "href": "https://example.org/terms"}])
    return lambda root: document | {"type": "Collection", "license": "other", "extent": _EXTENT}


def _month(month: str, products: Sequence[Product]) -> Render:
    links = [{"rel": "item", "href": f"./{product.stem}/{product.stem}.json"} for product in products]
    return lambda root: _catalog(month, links)


def _item(product: Product) -> Render:
    return lambda root: static_item(product)


def static_item(product: Product) -> JSON:
    """An item beside its files: hrefs are relative."""
    geometry = product.geometry()
    assert geometry is not None
    is_radar = product.kind == "GRD"
    files = [pol.lower() for pol in product.polarisations] if is_radar else ["B02", "B03", "B04"]
    ending = "tiff" if is_radar else "jp2"
    keys = {name: f"{name}_10m" if product.kind == "L2A" else name for name in files}
    assets: JSON = {
        keys[name]: {"href": f"./{name}.{ending}", "type": "image/tiff" if is_radar else "image/jp2", "roles": ["data"]}
        for name in files
    }
    assets["thumbnail"] = {"href": "preview.jpg", "type": "image/jpeg", "roles": ["thumbnail"]}
    assets["Product"] = {
        "href": f"../archive/{product.name}.zip",
        "type": "application/zip",
        "file:size": product.size,
        "roles": ["data"],
    }
    made = time_text(product.published)
    properties = {
        "datetime": time_text(product.start), "created": made, "updated": made,
        "platform": f"sentinel-{product.platform[1:].lower()}",
        **({"eo:cloud_cover": product.cloud} if product.cloud is not None else {}),
        **({"sar:polarizations": list(product.polarisations)} if is_radar else {}),
    }  # fmt: skip
    links = [
        {"rel": "self", "href": f"./{product.stem}.json"},
        {"rel": "root", "href": "../../../catalog.json"},
        {"rel": "parent", "href": "../catalog.json"},
        {"rel": "collection", "href": "../../collection.json"},
    ]
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": product.stem, "collection": f"archive-{FEDERATED[product.kind]}",
        "geometry": geometry, "bbox": tiles.bbox(geometry), "properties": properties, "assets": assets, "links": links,
        "stac_extensions": [],
    }  # fmt: skip


# Earth Engine

PROVIDERS = {"INVENTED": 12, "DEMO": 8, "SAMPLE": 5}


def earth_engine_service(providers: dict[str, int] | None = None) -> StaticService:
    """Datasets of invented providers, laid out as Google's catalogue is. No items."""
    providers = providers or PROVIDERS
    documents: dict[str, Render] = {"catalog/catalog.json": lambda root: _ee_root(providers, root)}
    for provider, count in providers.items():
        documents[f"catalog/{provider}/catalog.json"] = _ee_provider(provider, count)
        for number in range(count):
            name = f"{provider}_SET_V{number}"
            documents[f"catalog/{provider}/{name}.json"] = _ee_dataset(f"{provider}/SET_V{number}", number)
    return StaticService(documents)


def _ee_root(providers: dict[str, int], root: str) -> JSON:
    links = [_child(f"{root}/catalog/{provider}/catalog.json", provider) for provider in providers]
    return _catalog("GEE_catalog", links) | {"stac_version": "1.0.0"}


def _ee_provider(provider: str, count: int) -> Render:
    def render(root: str) -> JSON:
        base = f"{root}/catalog/{provider}"
        links = [
            _child(f"{base}/{provider}_SET_V{n}.json", f"{provider}_SET_V{n}" if n % 3 else None) for n in range(count)
        ]
        return _catalog(provider, [{"rel": "parent", "href": f"{root}/catalog/catalog.json"}, *links])

    return render


def _ee_dataset(dataset: str, number: int) -> Render:
    def render(root: str) -> JSON:
        return earth_engine_dataset(dataset, number, root)

    return render


def earth_engine_dataset(dataset: str, number: int, root: str) -> JSON:
    """A dataset's document as Earth Engine writes them (google/earthengine-catalog), invented."""
    provider, basename = dataset.split("/")[0], dataset.replace("/", "_")
    page = f"https://developers.example.org/catalog/{basename}"
    classes = [{"value": value, "color": "0a6624", "description": f"class {value}"} for value in range(4)]
    return {
        "stac_version": "1.0.0", "type": "Collection", "id": dataset, "title": f"Invented dataset {dataset}",
        "stac_extensions": ["https://stac-extensions.github.io/eo/v1.0.0/schema.json"],
        "gee:type": ("image_collection", "image", "table")[number % 3], "gee:status": "deprecated" if number % 5 == 4 else "ready",
        "gee:interval": {"type": "cadence", "unit": "day", "interval": 5}, "gee:categories": ["invented"],
        "gee:terms_of_use": "Nothing here is real.", "license": "proprietary" if number % 2 else "CC-BY-4.0",
        "description": "An invented dataset.\n", "keywords": ["invented", "demonstration"], "version": str(number),
        "providers": [
            {"name": "Nobody", "roles": ["producer", "licensor", "author"], "url": "https://example.org"},
            {"name": "Demonstration", "roles": ["host"], "url": page},
        ],
        "extent": {"spatial": {"bbox": [[-180, -60, 180, 85]]}, "temporal": {"interval": [["1850-01-01T00:00:00Z", None]]}},
        "summaries": {
            "gsd": [10, 30.5], "platform": ["Sentinel-2A"], "gee:schema": [{"name": "CLOUDS", "description": "share", "type": "DOUBLE"}],
            "eo:bands": [
                {"name": "B4", "description": "Red", "gsd": 10, "center_wavelength": 0.665, "common_name": "red", "gee:scale": 0.0001},
                {"name": "LC", "description": "Land cover", "gsd": [30.5], "gee:units": "class", "gee:classes": classes},
            ],
            "LC": {"minimum": 0, "maximum": 3, "gee:estimated_range": False}, "empty": [],
            "gee:visualizations": [{"display_name": "RGB", "image_visualization": {"band_vis": {"bands": ["B4"], "max": [3000]}}}],
        },
        "sci:citation": "Nobody (2026)", "sci:doi": "10.5555/invented",
        "links": [
            {"rel": "self", "href": f"{root}/catalog/{provider}/{basename}.json", "type": "application/json"},
            {"rel": "parent", "href": f"{root}/catalog/{provider}/catalog.json", "type": "application/json"},
            {"rel": "root", "href": f"{root}/catalog/catalog.json", "type": "application/json"},
            {"rel": "related", "href": "https://code.example.org", "code": "JavaScript"},
            {"rel": "preview", "href": f"https://example.org/{basename}_sample.png", "type": "image/png"},
            {"rel": "license", "href": f"{page}#terms-of-use", "type": "text/html"},
        ],
    }  # fmt: skip
