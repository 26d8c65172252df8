"""Values at a place as clients of WMS and WMTS show them in a table: GeoJSON, GML, or the text of the point routes.

QGIS 3.22 does not know JSON as such unless the name of its header is written `Content-Type`, in these letters, as servers of today do not.
GML it reads in all versions, and guesses its schema (QgsGmlSchema::guessSchema).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import orjson
from starlette.responses import Response

from api.tiles.services import page

GML: Final = "application/vnd.ogc.gml"
#: Media types of values; of those that it can make a table of QGIS takes the last.
INFO_FORMATS: Final = ("application/json", GML, "text/plain")
#: What the point routes would say of a place without pixels.
NOWHERE: Final = b'{"assets":[]}'
_NO_NAME: Final = re.compile(r"[^A-Za-z0-9_]")


def together(found: Iterable[tuple[str, bytes]]) -> bytes:
    """What point routes have answered of several layers, as one answer: each row says which layer it is of."""
    rows: list[dict[str, Any]] = []
    told: dict[str, Any] = {}
    for layer, body in found:
        values: dict[str, Any] = orjson.loads(body)
        told.setdefault("coordinates", values.get("coordinates"))
        own = {name: value for name, value in values.items() if name not in ("coordinates", "assets")}
        rows += [{"layer": layer, **one} for one in values.get("assets", [own])]
    return orjson.dumps({**told, "assets": rows})


def told(body: bytes, media_type: str) -> Response:
    """What a point route has answered, as one of `INFO_FORMATS`; JSON keeps the route's own members."""
    if media_type == "text/plain":
        return Response(body, media_type=media_type)
    found: dict[str, Any] = orjson.loads(body)
    rows = [dict(_row(one)) for one in found.get("assets", [found])]
    if media_type == GML:
        return page(
            "values_gml.xml",
            {"rows": [[(_named(name), value) for name, value in row.items()] for row in rows]},
            kind=GML,
        )
    features = [{"type": "Feature", "geometry": None, "properties": row} for row in rows]
    return Response(orjson.dumps({"type": "FeatureCollection", "features": features, **found}), media_type=media_type)


def _row(found: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The layer, where there are several, the item of a mosaic, and each band's value."""
    if "layer" in found:
        yield "layer", found["layer"]
    if "name" in found:
        yield "item", found["name"]
    yield from zip(found["band_names"], found["values"], strict=False)


def _named(band: str) -> str:
    """A name that XML takes."""
    name = _NO_NAME.sub("_", band)
    return name if name[:1].isalpha() else f"_{name}"
