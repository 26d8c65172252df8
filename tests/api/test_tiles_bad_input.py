"""Wrong values for every parameter of every route of the tile server: each is refused with a code, none is a failure here."""

from __future__ import annotations

import random
import re
from typing import Any

import httpx
import pytest

from tests.api.sharing_site import Site
from tests.api.tile_site import FIELDS
from tests.api.visibility_table import METHODS
from tests.size import sized

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # numpy's, of numbers that callers choose badly
]
ODD = (
    "", "0", "-1", "1", "2", "256", "1e308", "-1e308", "1e999", "nan", "inf", "99999999999999999999", "0.5", "true", "null", "[]", "{}",
    '{"a":1}',
    "text", "b1", "b1/0", "b9", "(b1+b2)*1e30", "data", "data|bidx=1", "data|bidx=0", "data|bidx=9", "data|bidx=x",
    "data|expression=b1/b2", "data|x",
    "data|bidx", "nope", "1,2", "1,2,3,4", "2,1", "0,0,1,1", "0,0,0,0", "-200,-100,200,100", "170,0,-170,10", "EPSG:4326", "EPSG:3857",
    "EPSG:32661",
    "EPSG:0", "EPSG:2056", "OGC:CRS84", "/etc/passwd", "http://example.org/a.tif", "viridis", '{"0":"#ff0000"}', '{"0":[1,2,3,4]}',
    '[[[0,1],[1,2,3]]]',
    "gamma R 3", "sigmoidal RGB 3 0.5", "saturation 0", "2026-01-01", "2026-01-01T00:00:00Z/..", "newest", "-datetime", "first",
    "median", "png", "tif",
    "default", "ndvi", "WebMercatorQuad", "UTM31WGS84Quad", "hillshade", "contours", "cast", "terrainrgb", "normalizedIndex",
    '{"buffer":99}',
    '{"increment":0}', '{"output_dtype":"U99999"}', "id = 'old'", "<&\"'>", "%00", "é", "\ud7ff", "GetMap", "GetTile", "GetCapabilities",
    "GetFeatureInfo", "WMS", "WMTS", "1.1.1", "image/png", "image/tiff", "nearest", "bilinear", "cubic", "sum", "0,100", "inf,-inf",
    "nan,nan", "*::0,5",
)  # fmt: skip
SERVICE = (
    "SERVICE", "REQUEST", "VERSION", "LAYERS", "LAYER", "STYLES", "STYLE", "CRS", "SRS", "BBOX", "WIDTH", "HEIGHT", "FORMAT",
    "TRANSPARENT", "BGCOLOR",
    "TIME", "TILEMATRIXSET", "TILEMATRIX", "TILEROW", "TILECOL", "I", "J", "X", "Y", "QUERY_LAYERS", "INFO_FORMAT", "EXCEPTIONS",
    "ACCEPTVERSIONS",
)  # fmt: skip
GOOD = {
    "collection_id": FIELDS, "item_id": "old", "format": "png", "tileMatrixSetId": "WebMercatorQuad", "z": "9", "x": "256", "y": "255",
    "minx": "0.1",
    "miny": "0.1", "maxx": "0.9", "maxy": "0.9", "lon": "0.5", "lat": "0.5", "width": "16", "height": "16", "colorMapId": "viridis",
    "algorithmId": "hillshade", "SERVICE": "WMS", "REQUEST": "GetMap", "LAYERS": FIELDS, "LAYER": FIELDS, "CRS": "EPSG:4326",
    "SRS": "EPSG:4326",
    "BBOX": "0,0,1,1", "WIDTH": "16", "HEIGHT": "16", "FORMAT": "image/png", "TILEMATRIXSET": "WebMercatorQuad", "TILEMATRIX": "9",
    "TILEROW": "255",
    "TILECOL": "256", "I": "3", "J": "3", "X": "3", "Y": "3", "QUERY_LAYERS": FIELDS, "max_size": "16",
}  # fmt: skip
SHAPES: tuple[Any, ...] = (
    {}, [], None, 5, {"type": "Feature"}, {"type": "FeatureCollection", "features": []},
    *(
        {"type": "Feature", "properties": {}, "geometry": {"type": kind, "coordinates": coordinates}}
        for kind, coordinates in (
            ("Polygon", [[[0, 0], [1, 0], [1, 1], [0, 0]]]), ("Polygon", [[[0, 0], [0, 0], [0, 0], [0, 0]]]), ("Polygon", []), ("Point",
            [0.5, 0.5]),
            ("LineString", [[0, 0], [1, 1]]), ("Polygon", [[[0, 0], [1e308, 0], [1e308, 1e308], [0, 0]]]), ("MultiPolygon", [[]]),
            ("Polygon", [[[170, 0], [190, 0], [190, 9], [170, 0]]]),
        )
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def site(tiles: Site) -> Site:
    return tiles


def _routes(site: Site) -> list[tuple[str, str, list[str]]]:
    paths = site.http.get("/raster/api").json()["paths"]
    return [
        (method, path, [one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"])
        for path, operations in paths.items()
        for method, operation in operations.items()
        if method in METHODS and method != "delete"
    ]


def _asked(dice: random.Random, site: Site, search: str, route: tuple[str, str, list[str]]) -> httpx.Response:
    method, template, names = route
    good = {**GOOD, "search_id": search}
    path = re.sub(r"{([^}:]+)(?::[^}]*)?}", lambda found: _value(dice, good, found[1], 0.08), template)
    if template.endswith(("/wms", "/wmts")):
        names = [*names, *SERVICE]
        query = [(name, _value(dice, good, name, 0.15)) for name in SERVICE if dice.random() < 0.8]
    else:
        query = [("assets", "data")] if dice.random() < 0.7 else []
    query += [(name, dice.choice(ODD)) for name in dice.sample(names, min(len(names), dice.randint(0, 3)))]
    body = dice.choice(SHAPES) if method == "post" else None
    try:
        return site.ask("owner", method.upper(), f"/raster{path}", params=query, json=body)
    except httpx.InvalidURL:
        return httpx.Response(400)


def _value(dice: random.Random, good: dict[str, str], name: str, wrong: float) -> str:
    return dice.choice(ODD).replace("/", "%2F") if dice.random() < wrong else good.get(name, "0")


def test_no_wrong_value_is_a_failure_here(site: Site) -> None:
    dice, routes = random.Random(20261126), _routes(site)
    search = site.done("owner", "POST", "/raster/searches/register", json={"collections": [FIELDS]})["id"]
    for _ in range(sized(200, 20_000)):
        route = dice.choice(routes)
        answer = _asked(dice, site, search, route)
        is_late = answer.status_code == 503 and answer.json()["code"] == "TILE_DEADLINE"  # as the caller has asked
        assert answer.status_code < 500 or is_late, (
            route[:2],
            str(answer.request.url),
            answer.request.content,
            answer.text,
        )
        if answer.status_code >= 400 and answer.headers.get("content-type", "").startswith("application/problem"):
            assert answer.json()["code"]
