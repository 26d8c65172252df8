"""The Sentinel Hub side: Catalog API 1.0.0 in the dialects of the Copernicus Data Space Ecosystem ("cdse") and of AWS ("aws").

`datetime` must be given; newest first; at most 100 a page; `context.next` is an offset; no count. CDSE: ids with `.SAFE`,
milliseconds. AWS: ids without, whole seconds, no COG twins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from shapely.geometry import box, shape
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.upstreams import tiles
from tests.upstreams.answers import json_answer, service_root
from tests.upstreams.login import Login
from tests.upstreams.products import FEDERATED, Product
from tests.upstreams.sensed import SensedIndex

JSON = dict[str, Any]
MAX_LIMIT = 100
KINDS = {"cdse": ("L1C", "L2A", "GRD", "COG"), "aws": ("L1C", "L2A", "GRD")}
_CRS = {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC::CRS84"}}


class SearchInvalid(Exception):
    """A body that the service does not take."""


def sensed_at(product: Product) -> datetime:
    """A tile is sensed some seconds after its datatake began."""
    return product.start + timedelta(milliseconds=product.scene * 7919 % 15_000)


def offered_by(products: Sequence[Product], dialect: str) -> list[Product]:
    """What the service has of a catalogue: products online, of its kinds."""
    return [one for one in products if one.online and one.kind in KINDS[dialect]]


class SentinelHubService:
    """Answers requests below the service root, to everybody or to those with a token.

    With `is_open` an interval leaves its own ends out. `before_answer` is called with the number of each search; `alter` gets
    number and answer and gives the one to send.
    """

    def __init__(
        self, products: Sequence[Product], dialect: str = "cdse", login: Login | None = None, *, is_open: bool = False
    ) -> None:
        self._is_aws = dialect == "aws"
        self._login = login
        self._inset = timedelta(microseconds=1 if is_open else 0)
        groups: dict[str, list[Product]] = {name: [] for name in FEDERATED.values()}
        for one in offered_by(products, dialect):
            groups[FEDERATED[one.kind]].append(one)
        self.indexes = {name: SensedIndex(group, sensed_at) for name, group in groups.items()}
        self.asked: list[JSON] = []
        self.before_answer: Callable[[int], None] = lambda number: None
        self.alter: Callable[[int, JSON], Any] = lambda number, answer: answer

    def routes(self) -> list[Route]:
        """Routes of the service, to be mounted at its root; with a login also its token's."""
        found = [Route("/search", self.search, methods=["POST"])]
        if self._login is not None:
            found.append(Route("/token", self._login.by_client_credentials, methods=["POST"]))
        return found

    async def search(self, request: Request) -> Response:
        """`POST /search`"""
        if self._login is not None and self._login.refuses(request):
            return json_answer({"status": 401, "reason": "Unauthorized", "code": "COMMON_UNAUTHORIZED"}, 401)
        body = orjson.loads(await request.body())
        self.asked.append(body)
        self.before_answer(len(self.asked))
        try:
            answer = self.alter(len(self.asked), self._answer(body, service_root(request)))
        except SearchInvalid as error:
            return json_answer({"code": "BadRequest", "description": str(error)}, 400)
        return json_answer(answer, media="application/geo+json")

    def _answer(self, body: JSON, root: str) -> JSON:
        collections = body.get("collections")
        if not isinstance(collections, list) or len(collections) != 1 or collections[0] not in self.indexes:
            raise SearchInvalid("Illegal collection")
        limit, offset = body.get("limit", 10), body.get("next", 0)
        if not isinstance(limit, int) or not 1 <= limit <= MAX_LIMIT or not isinstance(offset, int) or offset < 0:
            raise SearchInvalid("Invalid limit or next")
        begin, end = _interval(body.get("datetime"))
        found = self.indexes[collections[0]].between(begin + self._inset, end - self._inset, _area(body))[::-1]
        page = found[offset : offset + limit]
        context: JSON = {"limit": limit, "returned": len(page)}
        if offset + limit < len(found):
            context["next"] = offset + limit
        features = [feature(one, root, is_aws=self._is_aws) for one in page]
        links = [{"rel": "self", "href": f"{root}/search", "type": "application/geo+json"}]
        return {"type": "FeatureCollection", "features": features, "links": links, "context": context}


def _interval(text: Any) -> tuple[datetime, datetime]:
    if not isinstance(text, str):
        raise SearchInvalid("datetime is required")
    parts = text.split("/")
    try:
        begin, end = (datetime.fromisoformat(part).astimezone(UTC) for part in parts)
    except ValueError:
        raise SearchInvalid(f"no closed interval: {text}") from None
    return begin, end


def _area(body: JSON) -> Any:
    if "bbox" in body and "intersects" in body:
        raise SearchInvalid("bbox or intersects, not both")
    if "bbox" in body:
        return box(*body["bbox"])
    return shape(body["intersects"]) if "intersects" in body else None


def feature(product: Product, root: str, *, is_aws: bool) -> JSON:
    """One item as it was recorded, with a `crs` in its geometry."""
    collection = FEDERATED[product.kind]
    feature_id = product.stem if is_aws else product.name
    geometry = product.geometry()
    assert geometry is not None
    is_multi = geometry["type"] == "MultiPolygon"
    coordinates = geometry["coordinates"] if is_multi else [geometry["coordinates"]]
    links = [
        {"href": f"{root}/", "rel": "root", "type": "application/json"},
        {"href": f"{root}/collections/{collection}/items/{feature_id}", "rel": "self", "type": "application/geo+json"},
    ]
    return {
        "stac_version": "1.0.0",
        "stac_extensions": ["https://stac-extensions.github.io/eo/v1.0.0/schema.json"],
        "id": feature_id,
        "type": "Feature",
        "geometry": {"type": "MultiPolygon", "crs": _CRS, "coordinates": coordinates},
        "bbox": tiles.bbox(geometry),
        "properties": {
            "datetime": sensed_at(product).strftime("%Y-%m-%dT%H:%M:%S") + ("Z" if is_aws else _milliseconds(product)),
            "platform": f"sentinel-{product.platform[1:].lower()}",
            "constellation": f"sentinel-{product.platform[1]}",
            **(_radar(product) if collection == "sentinel-1-grd" else _optical(product)),
        },
        "assets": {"data": {"href": _folder(product, is_aws=is_aws), "title": "s3", "type": "inode/directory"}},
        "collection": collection,
        "links": links,
    }


def _milliseconds(product: Product) -> str:
    return f".{sensed_at(product).microsecond // 1000:03d}Z"


def _optical(product: Product) -> JSON:
    tile = product.tile
    assert tile is not None
    west, north = tile.origin
    edges = [west, north - tiles.SIDE_M, west + tiles.SIDE_M, north]
    return {
        "instruments": ["msi"], "gsd": 10, "eo:cloud_cover": product.cloud, "proj:epsg": tile.epsg, "proj:bbox": edges,
    }  # fmt: skip


def _radar(product: Product) -> JSON:
    return {
        "instruments": ["c-sar"],
        "sat:orbit_state": "ascending" if product.ascending else "descending",
        "sar:instrument_mode": "IW",
        "sar:frequency_band": "C",
        "sar:center_frequency": 5.405,
        "sar:product_type": "GRD",
        "sar:polarizations": list(product.polarisations),
        "s1:timeliness": "Fast24h",
        "s1:resolution": "HIGH",
        "s1:polarization": "DH" if "HH" in product.polarisations else "DV",
    }


def _folder(product: Product, *, is_aws: bool) -> str:
    if not is_aws:
        return f"s3:/{product.path.replace('/eodata/', '/EODATA/')}"
    day = f"{product.start:%Y}/{product.start.month}/{product.start.day}"
    if product.tile is None or product.kind == "GRD":
        return f"s3://sentinel-s1-l1c/GRD/{day}/IW/DV/{product.stem}/"
    zone, band, square = product.tile.name[:2], product.tile.name[2], product.tile.name[3:]
    return f"s3://sentinel-s2-{product.kind.lower()}/tiles/{int(zone)}/{band}/{square}/{day}/0/"
