"""WMTS and WMS over the running application: what capabilities say, what pictures show, and exceptions as clients read them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit
from xml.etree import ElementTree

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from imagecodecs import avif_decode
from morecantile import TileMatrixSet
from rasterio.io import MemoryFile
from starlette.requests import Request

from api.tiles import wms
from api.tiles.layers import Layer, Offer
from api.tiles.services import XML, Asked, ServiceError
from api.tiles.wmts import wmts_router
from tests.api.sharing_site import Site
from tests.api.tile_site import FIELDS, SECRET

NAMES = {
    "wmts": "http://www.opengis.net/wmts/1.0", "ows": "http://www.opengis.net/ows/1.1", "wms": "http://www.opengis.net/wms",
    "xlink": "http://www.w3.org/1999/xlink", "ogc": "http://www.opengis.net/ogc",
}  # fmt: skip
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
PLACES = ("/raster", f"/raster/collections/{FIELDS}", f"/raster/collections/{FIELDS}/items/old")
GET_MAP = {
    "SERVICE": "WMS", "VERSION": "1.3.0", "REQUEST": "GetMap", "LAYERS": FIELDS, "STYLES": "", "CRS": "EPSG:4326", "BBOX": "0,0,1,1",
    "WIDTH": "64", "HEIGHT": "64", "FORMAT": "image/png", "TRANSPARENT": "TRUE",
}  # fmt: skip


@pytest.fixture(scope="module")
def site(tiles: Site) -> Site:
    return tiles


def _xml(answer: httpx.Response, status: int = 200) -> ElementTree.Element:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("text/xml")
    return ElementTree.fromstring(answer.content)


def _pixels(answer: httpx.Response) -> np.ndarray[Any, Any]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("image/"), answer.text
    with MemoryFile(answer.content) as file, file.open() as picture:
        return picture.read()  # type: ignore[no-any-return]


@pytest.mark.parametrize("place", PLACES)
def test_wmts_capabilities_lead_to_tiles(site: Site, place: str) -> None:
    for url in (f"{place}/WMTSCapabilities.xml", f"{place}/wmts?Service=WMTS&request=GetCapabilities"):
        root = _xml(site.ask("anonymous", "GET", url))
        (layer,) = root.findall(".//wmts:Layer", NAMES)
        resource = layer.find("wmts:ResourceURL", NAMES)
        assert resource is not None
        template = resource.attrib["template"]
        assert template.startswith(str(site.http.base_url))
        styles = [one.text for one in layer.findall("wmts:Style/ows:Identifier", NAMES)]
        assert styles == (["default"] if place.endswith("old") else ["default", "ndvi"])
        assert (layer.find("wmts:Dimension", NAMES) is None) == place.endswith("old")
        sets = [one.text for one in layer.findall(".//wmts:TileMatrixSetLink/wmts:TileMatrixSet", NAMES)]
        assert sets[0] == "WebMercatorQuad"
        declared = [one.text for one in root.findall("wmts:Contents/wmts:TileMatrixSet/ows:Identifier", NAMES)]
        assert declared == sets
        (limit, *_) = reversed(layer.findall(".//wmts:TileMatrixSetLink[1]//wmts:TileMatrixLimits", NAMES))
        numbers = {one.tag.split("}")[1]: str(one.text) for one in limit}
        filled = template
        for name, value in {
            "TileMatrixSet": "WebMercatorQuad", "TileMatrix": numbers["TileMatrix"], "TileCol": numbers["MinTileCol"],
            "TileRow": numbers["MinTileRow"], "Style": "default", "Time": "2026-01-01/2026-12-31",
        }.items():  # fmt: skip
            filled = filled.replace(f"{{{name}}}", value)
        assert _pixels(site.http.get(filled)).shape[1:] == (256, 256)
        service = root.find(".//ows:Operation[@name='GetTile']//ows:Get", NAMES)
        assert service is not None
        asked = {
            "SERVICE": "WMTS", "REQUEST": "GetTile", "VERSION": "1.0.0", "LAYER": str(layer.findtext("ows:Identifier", None, NAMES)),
            "STYLE": styles[-1], "FORMAT": "image/png", "TILEMATRIXSET": "WebMercatorQuad", "TILEMATRIX": numbers["TileMatrix"],
            "TILECOL": numbers["MinTileCol"], "TILEROW": numbers["MinTileRow"],
        }  # fmt: skip
        where = service.attrib[f"{{{NAMES['xlink']}}}href"]
        assert _pixels(site.http.get(where, params=asked)).shape[1:] == (256, 256)
        values = site.http.get(where, params={**asked, "REQUEST": "GetFeatureInfo", "I": "40", "J": "220"}).json()
        assert values["assets" if "items" not in place else "values"]


#: What GDAL's clients read, in a process of their own: ours may open GeoTIFF only.
_GDAL = """
import json, sys, warnings
import rasterio
warnings.simplefilter("ignore")
found = {}
for name, address in json.loads(sys.argv[1]).items():
    with rasterio.open(address) as source:
        window = rasterio.windows.from_bounds(*json.loads(sys.argv[2])[str(source.crs)], source.transform)
        pixels = source.read(1, window=window, out_shape=(8, 8))
        found[name] = [str(source.crs), source.count, int(pixels[6, 6]), int(pixels[1, 1]), int(pixels[1, 6])]
print(json.dumps(found))
"""


def test_gdal_reads_wmts_and_wms(site: Site) -> None:
    base = str(site.http.base_url)
    fields = f"{base}/raster/collections/{FIELDS}"
    wms = "service=WMS&request=GetMap&layers=fields&styles=&format=image/png&transparent=TRUE"
    asked = {
        "collection": f"WMTS:{fields}/WMTSCapabilities.xml,layer={FIELDS},tilematrixset=WebMercatorQuad",
        "kvp": f"WMTS:{fields}/wmts?SERVICE=WMTS&REQUEST=GetCapabilities",
        "degrees": f"WMTS:{base}/raster/WMTSCapabilities.xml,layer={FIELDS},tilematrixset=WorldCRS84Quad",
        "epsg": f"WMTS:{fields}/WMTSCapabilities.xml?use_epsg=true,tilematrixset=WGS1984Quad",
        "wms-1.1.1": f"WMS:{fields}/wms?{wms}&version=1.1.1&srs=EPSG:4326&bbox=0,0,1,1",
        "wms-1.3.0": f"WMS:{base}/raster/wms?{wms}&version=1.3.0&crs=EPSG:4326&bbox=0,0,1,1&bboxorder=yxYX",
        "wms-3857": f"WMS:{base}/raster/wms?{wms}&version=1.3.0&crs=EPSG:3857&bbox=0,0,111319,111325",
    }
    boxes = {
        "EPSG:3857": [1000, 1000, 111000, 111000],
        "EPSG:4326": [0.01, 0.01, 0.99, 0.99],
        "OGC:CRS84": [0.01, 0.01, 0.99, 0.99],
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GDAL_", "CPL_"))}
    command = [sys.executable, "-c", _GDAL, json.dumps(asked), json.dumps(boxes)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.keys() == asked.keys()
    for name, (_, _, low, left, old) in found.items():
        assert [low, left, old] == pytest.approx([76, 51, 25], abs=2), name


def test_parameters_of_capabilities_are_those_of_tiles(site: Site) -> None:
    given = {"assets": "data|bidx=2", "rescale": "0,200", "filter": "eo:cloud_cover < 60", "tile_format": "jpeg"}
    root = _xml(site.ask("anonymous", "GET", f"{PLACES[1]}/WMTSCapabilities.xml", params=given))
    resource = root.find(".//wmts:ResourceURL", NAMES)
    assert resource is not None
    parts = urlsplit(resource.attrib["template"])
    assert parts.path.endswith("{TileCol}/{TileRow}.jpeg")
    query = dict(parse_qsl(parts.query))
    assert query.items() >= {name: given[name] for name in ("assets", "rescale", "filter")}.items()
    assert "render" not in query


@pytest.mark.parametrize(
    ("changed", "status", "code"),
    [
        ({"REQUEST": ""}, 400, "MissingParameterValue"),
        ({"REQUEST": "Dance"}, 400, "OperationNotSupported"),
        ({"LAYER": "no-such<&>"}, 400, "InvalidParameterValue"),
        ({"LAYER": ""}, 400, "MissingParameterValue"),
        ({"TILEMATRIXSET": "no"}, 400, "InvalidParameterValue"),
        ({"TILEMATRIX": "99"}, 400, "InvalidParameterValue"),
        ({"TILECOL": "x"}, 400, "InvalidParameterValue"),
        ({"TILECOL": "999"}, 400, "TileOutOfRange"),
        ({"TILEROW": "-1"}, 400, "InvalidParameterValue"),
        ({"FORMAT": "image/gif"}, 400, "InvalidParameterValue"),
        ({"STYLE": "none"}, 400, "InvalidParameterValue"),
        ({"TIME": "yesterday"}, 400, "InvalidParameterValue"),
        ({"SERVICE": "WMS"}, 400, "InvalidParameterValue"),
        ({"VERSION": "2.0.0"}, 400, "InvalidParameterValue"),
    ],
)
def test_wmts_exceptions(site: Site, changed: dict[str, str], status: int, code: str) -> None:
    asked = {
        "SERVICE": "WMTS", "REQUEST": "GetTile", "VERSION": "1.0.0", "LAYER": FIELDS, "STYLE": "default", "FORMAT": "image/png",
        "TILEMATRIXSET": "WebMercatorQuad", "TILEMATRIX": "7", "TILECOL": "64", "TILEROW": "63",
    }  # fmt: skip
    root = _xml(site.ask("anonymous", "GET", f"{PLACES[1]}/wmts", params={**asked, **changed}), status)
    report = root.find("ows:Exception", NAMES)
    assert report is not None
    assert report.attrib["exceptionCode"] == code


def test_wms_draws_with_the_axes_of_its_version(site: Site) -> None:
    """North is up, the west left: the low item is the lower half, the left one the left half above it."""
    asked = [
        {**GET_MAP, "BBOX": "0,0,1,0.5"},
        {**GET_MAP, "CRS": "CRS:84", "BBOX": "0,0,0.5,1"},
        {**GET_MAP, "VERSION": "1.1.1", "SRS": "EPSG:4326", "BBOX": "0,0,0.5,1"},
        {**GET_MAP, "CRS": "EPSG:3857", "BBOX": "0,0,55659.75,111325.14"},
    ]
    for place in PLACES[:2]:
        for parameters in asked:
            pixels = _pixels(site.ask("anonymous", "GET", f"{place}/wms", params=parameters))
            assert abs(int(pixels[0, 48, 32]) - 255 * 30 // 100) <= 1, parameters
            assert abs(int(pixels[0, 16, 32]) - 255 * 20 // 100) <= 1, parameters
    lower = {name.lower(): value for name, value in GET_MAP.items()}
    assert (_pixels(site.ask("anonymous", "GET", f"{PLACES[1]}/wms", params=lower))[-1] == 255).all()


def test_wms_of_a_day_of_a_style_of_nothing_and_on_a_ground(site: Site) -> None:
    where = f"{PLACES[1]}/wms"
    day = _pixels(site.ask("anonymous", "GET", where, params={**GET_MAP, "TIME": "2026-02-01"}))
    assert (day[-1, :, 40:] == 0).all()
    ndvi = _pixels(site.ask("anonymous", "GET", where, params={**GET_MAP, "STYLES": "ndvi"}))
    assert ndvi.shape[0] == 4
    away = {**GET_MAP, "BBOX": "40,40,41,41"}
    assert (_pixels(site.ask("anonymous", "GET", where, params=away))[-1] == 0).all()
    for format_ in ("image/png", "image/jpeg"):
        ground = {**GET_MAP, "TIME": "2026-02-01", "TRANSPARENT": "FALSE", "BGCOLOR": "0xFF0000", "FORMAT": format_}
        pixels = _pixels(site.ask("anonymous", "GET", where, params=ground)).astype(int)
        assert abs(pixels[:3, 20, 50] - np.array([255, 0, 0])).max() <= 8
        assert abs(pixels[:3, 20, 5] - 51).max() <= 8
    assert _pixels(site.ask("anonymous", "GET", where, params={**away, "FORMAT": "image/jpeg"})).min() > 250
    info = {
        **GET_MAP,
        "REQUEST": "GetFeatureInfo",
        "QUERY_LAYERS": FIELDS,
        "I": "10",
        "J": "50",
        "INFO_FORMAT": "application/json",
    }
    assert [one["values"][0] for one in site.done("anonymous", "GET", where, params=info)["assets"]] == [30, 20, 10]
    old = {**info, "VERSION": "1.1.1", "SRS": "EPSG:4326", "X": "50", "Y": "10"}
    assert [one["values"][0] for one in site.done("anonymous", "GET", where, params=old)["assets"]] == [None, None, 10]


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"LAYERS": "nothing-of-this"}, "LayerNotDefined"),
        ({"LAYERS": "fields,b"}, "LayerNotDefined"),
        ({"STYLES": "none"}, "StyleNotDefined"),
        ({"CRS": "EPSG:1"}, "InvalidCRS"),
        ({"CRS": "EPSG:999999"}, "InvalidCRS"),
        ({"CRS": "+proj=longlat"}, "InvalidCRS"),
        ({"BBOX": "1,2,3"}, "InvalidParameterValue"),
        ({"BBOX": "1,1,0,0"}, "InvalidParameterValue"),
        ({"BBOX": "nan,0,1,1"}, "InvalidParameterValue"),
        ({"WIDTH": "0"}, "InvalidParameterValue"),
        ({"WIDTH": "99999"}, "InvalidParameterValue"),
        ({"FORMAT": "image/gif"}, "InvalidFormat"),
        ({"TIME": "soon"}, "InvalidDimensionValue"),
        ({"REQUEST": ""}, "MissingParameterValue"),
        ({"REQUEST": "Dance"}, "OperationNotSupported"),
    ],
)
def test_wms_exceptions(site: Site, changed: dict[str, str], code: str) -> None:
    for version in ("1.3.0", "1.1.1"):
        asked = {**GET_MAP, **changed, "VERSION": version, "SRS": changed.get("CRS", "EPSG:4326")}
        answer = site.ask("anonymous", "GET", "/raster/wms", params=asked)
        root = _xml(answer, answer.status_code)
        report = root.find("ogc:ServiceException" if version == "1.3.0" else "ServiceException", NAMES)
        assert report is not None
        assert report.attrib["code"] == (code if version == "1.3.0" or code != "InvalidCRS" else "InvalidSRS")
    blank = site.ask("anonymous", "GET", "/raster/wms", params={**GET_MAP, "LAYERS": "none", "EXCEPTIONS": "BLANK"})
    assert (_pixels(blank)[-1] == 0).all()


async def test_a_blank_picture_is_no_larger_than_any_other_may_be() -> None:
    query = urlencode({**GET_MAP, "EXCEPTIONS": "BLANK"}).encode()
    asked = Asked(Request({"type": "http", "query_string": query, "headers": []}), wms._NAMES)
    for most, kind in ((64 * 64, "image/png"), (64 * 64 - 1, XML)):
        answer = await wms._refused(ServiceError("LayerNotDefined", "there is none"), asked, most)
        assert answer.headers["content-type"] == kind


@pytest.mark.parametrize("query", ["wmts?request=GetCapabilities", "WMTSCapabilities.xml"])
async def test_other_requests_go_on_while_capabilities_are_made(query: str) -> None:
    threads: set[int] = set()

    class Watched(Layer):
        def zooms(self, tms: TileMatrixSet) -> tuple[int, int]:
            threads.add(threading.get_ident())
            return super().zooms(tms)

    offer = Offer(lambda: [Watched("a", "A", "raster/collections/a", (0, 0, 1, 1), ["default"])], lambda _: None)
    app = FastAPI()
    app.include_router(wmts_router("http://127.0.0.1", "", "test", lambda: offer))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as http:
        _xml(await http.get(f"/{query}"))
    assert threads
    assert threading.get_ident() not in threads


def test_the_catalogue_offers_what_the_caller_sees(site: Site) -> None:
    for who, expected in {"anonymous": {FIELDS}, "other": {FIELDS}, "owner": {FIELDS, SECRET}}.items():
        wmts = _xml(site.ask(who, "GET", "/raster/WMTSCapabilities.xml"))
        assert {one.text for one in wmts.findall(".//wmts:Layer/ows:Identifier", NAMES)} == expected
        for version in ("1.3.0", "1.1.1"):
            text = site.ask(who, "GET", f"/raster/wms?service=WMS&request=GetCapabilities&version={version}").text
            assert (f"<Name>{SECRET}</Name>" in text) == (SECRET in expected)
            assert f"<Name>{FIELDS}</Name>" in text
        secret = site.ask(who, "GET", "/raster/wms", params={**GET_MAP, "LAYERS": SECRET})
        assert (secret.headers["content-type"] == "image/png") == (SECRET in expected)


def test_titles_are_escaped(site: Site) -> None:
    path = f"/stac/collections/{SECRET}"
    title = '<&"> ]]> a title'
    assert site.ask("owner", "PATCH", path, json={"title": title}).is_success
    root = _xml(site.ask("owner", "GET", f"/raster/collections/{SECRET}/WMTSCapabilities.xml"))
    assert root.findtext(".//wmts:Layer/ows:Title", None, NAMES) == title
    for version in ("1.3.0", "1.1.1"):
        answer = site.ask(
            "owner",
            "GET",
            f"/raster/collections/{SECRET}/wms",
            params={"request": "GetCapabilities", "version": version},
        )
        assert title in [one.text for one in _xml(answer).iter() if one.tag.endswith("Title")]


def test_a_signature_opens_the_services_of_a_collection(site: Site) -> None:
    signed = site.done("owner", "POST", "/raster/signed", json={"collection": SECRET})
    root = _xml(site.http.get(signed["mosaic"]["wmts"]))
    resource = root.find(".//wmts:ResourceURL", NAMES)
    assert resource is not None
    assert "sig=" in resource.attrib["template"]
    tile = signed["mosaic"]["tiles"].format(z=9, x=256, y=255)
    assert _pixels(site.http.get(tile)).shape[0] in (2, 4)
    assert site.http.get(tile.replace(SECRET, FIELDS)).status_code == 403
    where = f"/raster/collections/{SECRET}/wms"
    asked = {**GET_MAP, "LAYERS": SECRET, "sig": signed["signature"]["value"]}
    answer = site.ask("anonymous", "GET", where, params=asked)
    assert _pixels(answer).size
    assert "no-store" in answer.headers["cache-control"]
    assert site.ask("anonymous", "GET", where, params=GET_MAP).status_code == 404


def test_an_item_links_to_its_tiles(site: Site) -> None:
    """The relations of the web-map-links extension lead to pictures."""
    item = site.done("anonymous", "GET", f"/stac/collections/{FIELDS}/items/old")
    links = {one["rel"]: one for one in item["links"]}
    assert _pixels(site.http.get(links["xyz"]["href"].format(z=9, x=256, y=255))).shape[1:] == (256, 256)
    root = _xml(site.http.get(links["wmts"]["href"]))
    assert root.findtext(".//wmts:Layer/ows:Identifier", None, NAMES) == links["wmts"]["wmts:layer"]
    assert site.done("anonymous", "GET", links["tilejson"]["href"].removeprefix(str(site.http.base_url)))["tiles"]


def test_ogc_api_leads_from_the_landing_page_to_a_map(site: Site) -> None:
    landing = site.done("anonymous", "GET", "/raster/")
    links = {one["rel"]: one["href"] for one in landing["links"]}
    assert (
        "http://www.opengis.net/spec/ogcapi-tiles-1/1.0/conf/core"
        in site.http.get(links["conformance"]).json()["conformsTo"]
    )
    for who, expected in {"anonymous": {FIELDS}, "owner": {FIELDS, SECRET}}.items():
        assert {one["id"] for one in site.done(who, "GET", "/raster/collections")["collections"]} == expected
    (collection,) = site.http.get(links["data"]).json()["collections"]
    there = {one["rel"]: one["href"] for one in collection["links"]}
    assert site.http.get(there["self"]).json() == collection
    tilesets = site.http.get(there["http://www.opengis.net/def/rel/ogc/1.0/tilesets-map"]).json()["tilesets"]
    assert len(tilesets) > 5
    for tileset in tilesets[:3]:
        assert site.http.get(tileset["links"][0]["href"]).is_success
    assert _pixels(site.http.get(there["http://www.opengis.net/def/rel/ogc/1.0/map"])).size


def test_avif_wherever_pictures_are(site: Site) -> None:
    item, query = PLACES[2], {"assets": "data|bidx=1", "rescale": "0,100"}
    wms = {**GET_MAP, "FORMAT": "image/avif"}
    tile = {
        "SERVICE": "WMTS", "REQUEST": "GetTile", "VERSION": "1.0.0", "LAYER": FIELDS, "STYLE": "default", "FORMAT": "image/avif",
        "TILEMATRIXSET": "WebMercatorQuad", "TILEMATRIX": "8", "TILECOL": "128", "TILEROW": "127",
    }  # fmt: skip
    for where, asked, headers in (
        (f"{item}/tiles/WebMercatorQuad/8/128/127.avif", query, {}),
        (f"{item}/preview.avif", query, {}),
        (f"{PLACES[1]}/bbox/0,0,0.5,0.5/32x32.avif", query, {}),
        (f"{item}/map", {**query, "f": "avif"}, {}),
        (f"{item}/map", query, {"accept": "image/avif"}),
        (f"{PLACES[1]}/wms", wms, {}),
        (f"{PLACES[1]}/wms", {**wms, "BBOX": "40,40,41,41"}, {}),
        (f"{PLACES[1]}/wms", {**wms, "TRANSPARENT": "FALSE"}, {}),
        (f"{PLACES[1]}/wmts", tile, {}),
    ):
        answer = site.ask("anonymous", "GET", where, params=asked, headers=headers)
        assert (answer.status_code, answer.headers.get("content-type")) == (200, "image/avif"), (where, answer.text)
        pixels = avif_decode(answer.content)  # of what is opaque everywhere it leaves the alpha out
        assert (pixels.shape[2] == 4 and pixels[..., 3].max() == 0) == (asked.get("BBOX") == "40,40,41,41"), where
    assert "image/avif" in site.ask("anonymous", "GET", f"{PLACES[1]}/WMTSCapabilities.xml").text
    paths = site.http.get("/raster/api").json()
    assert "avif" in paths["components"]["schemas"]["ImageType"]["enum"]
