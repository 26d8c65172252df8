"""ONDA's dialect: OData v4 in form, with a full text search behind `$search`; sorted by the beginning of sensing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.upstreams import tiles
from tests.upstreams.answers import json_answer
from tests.upstreams.dhus import Held, Shelf, held
from tests.upstreams.odata_records import time_text
from tests.upstreams.products import Product
from tests.upstreams.solr_query import QueryInvalid, parse

MAX_TOP = 2_000


class OndaService:
    """Answers requests below the catalogue's root."""

    def __init__(self, products: Sequence[Product]) -> None:
        self._rows = [held(one) for one in products if one.kind not in ("COG", "AUX")]

    def routes(self) -> list[Route]:
        """Routes of the service, to be mounted at its root."""
        return [Route("/Products", self.products)]

    async def products(self, request: Request) -> Response:
        """`GET /Products?$search="..."`"""
        options = request.query_params
        top, skip = int(options.get("$top", 20)), int(options.get("$skip", 0))
        search = options.get("$search", "")
        if top > MAX_TOP or not (search[:1] == search[-1:] == '"'):
            return json_answer({"error": {"code": None, "message": "Bad request"}})  # status 200, as seen
        try:
            query = parse(search[1:-1])
        except QueryInvalid as error:
            return json_answer({"error": {"code": None, "message": str(error)}})
        ranges = {name.replace("creationdate", "ingestiondate"): bounds for name, bounds in query.ranges.items()}
        rows = [one for one in self._rows if all(test(one.product) for test in query.tests)]
        found = Shelf(rows).within("beginposition", ranges)
        answer: dict[str, Any] = {"@odata.context": "$metadata#Products"}
        if options.get("$count") == "true":
            answer["@odata.count"] = len(found)
        return json_answer({**answer, "value": [record(one) for one in found[skip : skip + top]]})


def record(one: Held) -> dict[str, Any]:
    """One entity of `Products`."""
    product = one.product
    geometry = product.geometry()
    return {
        "@odata.mediaContentType": "application/zip",
        "id": one.id,
        "name": f"{product.stem}.zip",
        "created": f"{time_text(one.ingestiondate)[:23]}Z",
        "beginPosition": f"{time_text(one.beginposition)[:23]}Z",
        "offline": not product.online,
        "size": product.size,
        "pseudopath": "invented",
        "footprint": tiles.wkt(geometry) if geometry else None,
        "quicklook": "/9j/4AAQ",
        "downloadable": product.online,
        "evictionDate": None,
    }
