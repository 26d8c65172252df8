"""The WEkEO side: Harmonised Data Access v2. At most 200 a page, an offset, a count, sensing times as the only order.

What its dates mean is not documented, so a test chooses: "start" (a product begins within them), "within" (it begins and ends within),
"meets" (any part of it lies within).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from shapely.geometry import box
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.upstreams.answers import json_answer
from tests.upstreams.login import Login
from tests.upstreams.products import Product
from tests.upstreams.sensed import SensedIndex

JSON = dict[str, Any]
MAX_LIMIT = 200
#: (dataset, product type) -> kinds of products.
DATASETS = {
    ("EO:ESA:DAT:SENTINEL-2", "S2MSI1C"): ("L1C",),
    ("EO:ESA:DAT:SENTINEL-2", "S2MSI2A"): ("L2A",),
    ("EO:ESA:DAT:SENTINEL-1", "GRD"): ("GRD",),
}
WORLD = {"type": "Polygon", "coordinates": [[[-180, -84], [180, -84], [180, 84], [-180, 84], [-180, -84]]]}
#: No product of these lasts longer.
_LONGEST = timedelta(seconds=30)


class SearchInvalid(Exception):
    """A body that the service does not take."""


class HdaService:
    """Answers requests below `.../hda-broker`, to everybody or to those with a token; hooks as in `SentinelHubService`.

    With `has_gaps` a tenth of the records has the dataset's extent for a footprint, a tenth has none.
    """

    def __init__(
        self, products: Sequence[Product], login: Login | None = None, meaning: str = "start", *, has_gaps: bool = False
    ) -> None:
        self._login = login
        self._meaning = meaning
        self._has_gaps = has_gaps
        groups = {key: [one for one in products if one.kind in kinds] for key, kinds in DATASETS.items()}
        self.indexes = {key: SensedIndex(group, lambda one: one.start) for key, group in groups.items()}
        self.asked: list[JSON] = []
        self.refused_with = 401
        self.before_answer: Callable[[int], None] = lambda number: None
        self.alter: Callable[[int, JSON], Any] = lambda number, answer: answer

    def routes(self) -> list[Route]:
        """Routes of the broker, to be mounted at its root; the API is below /api/v1."""
        found = [Route("/api/v1/dataaccess/search", self.search, methods=["POST"])]
        if self._login is not None:
            found.append(Route("/gettoken", self._login.by_json, methods=["POST"]))
        return found

    async def search(self, request: Request) -> Response:
        """`POST /api/v1/dataaccess/search`"""
        if self._login is not None and self._login.refuses(request):
            return json_answer({"detail": "token"}, self.refused_with)
        body = orjson.loads(await request.body())
        self.asked.append(body)
        self.before_answer(len(self.asked))
        try:
            return json_answer(self.alter(len(self.asked), self._answer(body)))
        except SearchInvalid as error:
            return json_answer({"detail": str(error)}, 400)

    def _answer(self, body: JSON) -> JSON:
        index = self.indexes.get((body.get("dataset_id"), body.get("productType")))
        if index is None:
            raise SearchInvalid("unknown dataset or productType")
        limit, offset = body.get("itemsPerPage"), body.get("startIndex")
        if not isinstance(limit, int) or not 1 <= limit <= MAX_LIMIT or not isinstance(offset, int) or offset < 0:
            raise SearchInvalid("itemsPerPage or startIndex")
        begin, end = (datetime.fromisoformat(body[name]).astimezone(UTC) for name in ("startdate", "enddate"))
        area = box(*body["bbox"]) if "bbox" in body else None
        early = begin - _LONGEST if self._meaning == "meets" else begin
        found = [one for one in index.between(early, end, area) if self._lies(one, begin, end)]
        features = [feature(one, has_gaps=self._has_gaps) for one in found[offset : offset + limit]]
        properties = {"totalResults": len(found), "startIndex": offset, "itemsPerPage": limit}
        return {"type": "FeatureCollection", "features": features, "properties": properties}

    def _lies(self, product: Product, begin: datetime, end: datetime) -> bool:
        match self._meaning:
            case "within":
                return product.end <= end
            case "meets":
                return product.end >= begin
            case _:
                return True


def feature(product: Product, *, has_gaps: bool = False) -> JSON:
    """One record; sizes are not always known."""
    gap = product.scene % 10 if has_gaps else None
    geometry = WORLD if gap == 3 else None if gap == 4 else product.geometry()
    found = {
        "type": "Feature",
        "id": product.name,
        "properties": {
            "startdate": _time(product.start),
            "enddate": _time(product.end),
            "location": f"https://broker.example.org/{product.id}",
            "localpath": product.name,
            "size": "ND" if product.scene % 7 == 2 else product.size,
            "thumbnail": f"https://broker.example.org/{product.id}/quicklook",
            "metadata": {
                "platformShortName": product.collection, "platformSerialIdentifier": product.platform[2],
                "productType": product.product_type, "relativeOrbitNumber": str(product.relative_orbit), "orbitNumber": product.orbit,
                **({"cloudCover": product.cloud} if product.cloud is not None else {}),
            },
        },
    }  # fmt: skip
    return found if gap == 5 else {**found, "geometry": geometry}


def _time(when: datetime) -> str:
    return f"{when.strftime('%Y-%m-%dT%H:%M:%S')}.{when.microsecond // 1000:03d}Z"
