"""What map clients ask in their own ways, each by the symptom that it had. The clients themselves: tests/map_clients."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pystac
import pytest
from rasterio.io import MemoryFile

from api.tiles.asked import time_of
from api.tiles.layers import Layer
from tests.api.sharing_site import Site
from tests.api.tile_site import FIELDS
from tests.contract import environment

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
COLLECTION = f"/raster/collections/{FIELDS}"
GET_MAP = {
    "SERVICE": "WMS", "VERSION": "1.3.0", "REQUEST": "GetMap", "LAYERS": FIELDS, "STYLES": "", "CRS": "CRS:84", "BBOX": "0,0,1,1",
    "WIDTH": "64", "HEIGHT": "64", "FORMAT": "image/png", "TRANSPARENT": "TRUE",
}  # fmt: skip
GET_INFO = {**GET_MAP, "REQUEST": "GetFeatureInfo", "QUERY_LAYERS": FIELDS, "I": "10", "J": "50"}


@pytest.fixture(scope="module")
def site(tiles: Site) -> Site:
    return tiles


def _pixels(content: bytes) -> np.ndarray[Any, Any]:
    with MemoryFile(content) as file, file.open() as picture:
        return picture.read()  # type: ignore[no-any-return]


@pytest.mark.parametrize("place", ["/raster", COLLECTION])
def test_qgis_finds_no_layers_at_the_address_of_wmts_without_a_query(site: Site, place: str) -> None:
    """It asks every such address for the capabilities of a WMS."""
    answer = site.ask("anonymous", "GET", f"{place}/wmts", params={"SERVICE": "WMS", "REQUEST": "GetCapabilities"})
    assert ElementTree.fromstring(answer.content).tag == "{http://www.opengis.net/wmts/1.0}Capabilities"
    other = site.ask("anonymous", "GET", f"{place}/wmts", params={"SERVICE": "WFS", "REQUEST": "GetCapabilities"})
    assert other.status_code == 400


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("2026-05-01T00:00:00Z", "2026-05-01T00:00:00Z/2026-05-01T23:59:59.999Z"),  # QGIS
        ("2026-05-01T00:00:00.000Z", "2026-05-01T00:00:00Z/2026-05-01T23:59:59.999Z"),  # Leaflet.TimeDimension
        ("2026-05-01T00:00:00Z/2026-05-03T00:00:00Z", "2026-05-01T00:00:00Z/2026-05-03T23:59:59.999Z"),
        ("2026-05-01/2026-05-03/P1D", "2026-05-01T00:00:00Z/2026-05-03T23:59:59.999Z"),
        ("2026-05-01T00:00:01Z", "2026-05-01T00:00:01Z"),
        ("2026-05-01T00:00:00+02:00", "2026-05-01T00:00:00+02:00"),
        ("2026-05-01T06:00:00Z/2026-05-01T12:00:00Z", "2026-05-01T06:00:00Z/2026-05-01T12:00:00Z"),
    ],
)
def test_the_temporal_controller_of_qgis_shows_nothing_of_a_day(asked: str, meant: str) -> None:
    """It writes the days of the dimension as their midnights."""
    assert time_of(asked) == meant


@pytest.mark.parametrize("style", ["", "ndvi"])
def test_a_day_without_pictures_is_an_error_in_the_place_of_an_empty_map(site: Site, style: str) -> None:
    away = {**GET_MAP, "TIME": "2020-01-01", "STYLES": style}
    for where in ("/raster/wms", f"{COLLECTION}/wms"):
        answer = site.ask("anonymous", "GET", where, params=away)
        assert answer.headers["content-type"] == "image/png", answer.text
        assert (_pixels(answer.content)[-1] == 0).all()
    tile = f"{COLLECTION}/tiles/WebMercatorQuad/9/256/255.png"
    asked = {"time": "2020-01-01"} | ({"render": style} if style else {})
    assert site.ask("anonymous", "GET", tile, params=asked).status_code == 204
    assert site.ask("anonymous", "GET", f"{COLLECTION}/WebMercatorQuad/tilejson.json", params=asked).is_success
    info = site.ask("anonymous", "GET", "/raster/wms", params={**GET_INFO, "TIME": "2020-01-01"})
    assert info.json()["features"] == []


def test_identifying_in_qgis_fails_with_no_element_found(site: Site) -> None:
    """Values are a collection of features, one of each item: as GeoJSON with what the point route says, and as GML."""
    for where in ("/raster/wms", f"{COLLECTION}/wms"):
        told = site.done("anonymous", "GET", where, params={**GET_INFO, "INFO_FORMAT": "application/json"})
        assert told["type"] == "FeatureCollection"
        assert [one["properties"]["b1"] for one in told["features"]] == [30, 20, 10]
        assert [one["values"][0] for one in told["assets"]] == [30, 20, 10]
        answer = site.ask("anonymous", "GET", where, params={**GET_INFO, "INFO_FORMAT": "application/vnd.ogc.gml"})
        assert answer.headers["content-type"] == "application/vnd.ogc.gml"
        found = ElementTree.fromstring(answer.content).findall("{http://www.opengis.net/gml}featureMember/values")
        assert [[one.findtext("item"), one.findtext("b1")] for one in found] == [
            [f"{FIELDS}/{name}", f"{value}.0"] for name, value in (("low", 30), ("left", 20), ("old", 10))
        ]
    item = site.done(
        "anonymous", "GET", f"{COLLECTION}/items/old/wms", params={**GET_INFO, "LAYERS": "old", "QUERY_LAYERS": "old"}
    )
    assert [one["properties"] for one in item["features"]] == [{"b1": 10, "b2": 20}]
    named = {**GET_INFO, "INFO_FORMAT": "application/vnd.ogc.gml", "expression": "(b2-b1)/(b2+b1)", "assets": "data"}
    answer = site.ask("anonymous", "GET", f"{COLLECTION}/wms", params=named)
    assert ElementTree.fromstring(answer.content).findall(".//values"), "names of bands that are no names in XML"


@pytest.mark.parametrize("place", [COLLECTION, f"{COLLECTION}/items/old"])
def test_openlayers_could_not_find_an_item_link_of_a_tileset(site: Site, place: str) -> None:
    drawn = {"assets": "data|bidx=1", "rescale": "0,99"}  # what every format can show
    listed = site.done("anonymous", "GET", f"{place}/tiles")["tilesets"]
    (same,) = [one for one in listed if one["links"][0]["href"].endswith("/WebMercatorQuad")]
    for tileset in (site.done("anonymous", "GET", f"{place}/tiles/WebMercatorQuad", params=drawn), same):
        items = {link["type"]: link for link in tileset["links"] if link["rel"] == "item"}
        assert list(items)[-1] == "image/png", "OpenLayers takes the last that it can show"
        for media_type, link in items.items():
            filled = link["href"].replace("{z}", "9").replace("{x}", "256").replace("{y}", "255")
            answer = site.http.get(filled, params=drawn)
            assert answer.headers["content-type"].startswith(media_type)
            assert link["templated"]
            assert link["href"].endswith("&rescale=0%2C99") == (tileset is not same)
        (scheme,) = [link["href"] for link in tileset["links"] if link["rel"].endswith("/tiling-scheme")]
        assert site.http.get(scheme).json()["id"] == "WebMercatorQuad"
        assert tileset["boundingBox"]["crs"].endswith("CRS84")
        assert tileset["boundingBox"]["lowerLeft"] == [0, 0]
    page = site.ask("anonymous", "GET", f"{place}/tiles/WebMercatorQuad", params={"f": "html"})
    assert page.headers["content-type"].startswith("text/html")


def test_maps_in_degrees_are_drawn_where_longitude_and_latitude_are_exchanged(site: Site) -> None:
    """OGC API Maps: a box has the axes of its reference system in their order."""
    size = {"width": "64", "height": "64", "f": "png"}
    for crs, box in {
        "EPSG:4326": "0,0,0.5,1", "[EPSG:4326]": "0,0,0.5,1", "http://www.opengis.net/def/crs/EPSG/0/4326": "0,0,0.5,1",
        "http://www.opengis.net/def/crs/OGC/1.3/CRS84": "0,0,1,0.5", "EPSG:3857": "0,0,111319.49,55660.45",
    }.items():  # fmt: skip
        answer = site.ask("anonymous", "GET", f"{COLLECTION}/map", params={**size, "bbox": box, "bbox-crs": crs})
        pixels = _pixels(answer.content)
        assert pixels[-1].all(), crs
        assert set(np.unique(pixels[0])) == {255 * 30 // 100}, f"{crs}: the low item alone"
    assert (
        site.ask(
            "anonymous", "GET", f"{COLLECTION}/map", params={**size, "bbox": "0,0,1,1", "bbox-crs": "EPSG:1"}
        ).status_code
        == 400
    )


_JUDGE = Path(environment.__file__).with_name("ogc_schemas.py")
#: The schema of WMTS 1.0.0 has these as positive integers, and says beside it that they begin at 0 (GeoWebCache's issue 250).
_FROM_ZERO = ("MinTileRow", "MaxTileRow", "MinTileCol", "MaxTileCol")


@pytest.mark.slow  # the judges' packages may have to be installed
@pytest.mark.timeout(600)
def test_capabilities_and_exceptions_are_valid_by_the_schemas_of_the_ogc(site: Site, tmp_path: Path) -> None:
    asked = [
        "/WMTSCapabilities.xml", "/WMTSCapabilities.xml?assets=data&rescale=0,9", "/wmts?SERVICE=WMTS&REQUEST=GetCapabilities",
        "/wmts?REQUEST=GetTile", "/wmts?REQUEST=no",
    ]  # fmt: skip
    for version in ("1.1.1", "1.3.0"):
        asked += [
            f"/wms?SERVICE=WMS&VERSION={version}&REQUEST={name}"
            for name in ("GetCapabilities", "GetMap", "GetFeatureInfo")
        ]
    files = []
    for place in ("/raster", COLLECTION, f"{COLLECTION}/items/old"):
        for who in ("anonymous", "owner"):
            for path in asked:
                files.append(tmp_path / f"{len(files)}.xml")
                files[-1].write_bytes(site.ask(who, "GET", place + path).content)
    command = [str(environment.python()), str(_JUDGE), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    faults = [
        line
        for line in done.stdout.splitlines()
        if not ("'0' is not a valid value" in line and any(one in line for one in _FROM_ZERO))
    ]
    assert faults == []
    assert "'0' is not a valid value" in done.stdout, "it has judged"


def test_map_services_say_when_a_picture_is_not_whole(site: Site) -> None:
    """A client that keeps pictures must not keep this one."""
    tile = {
        "SERVICE": "WMTS", "REQUEST": "GetTile", "VERSION": "1.0.0", "LAYER": FIELDS, "STYLE": "", "FORMAT": "image/png",
        "TILEMATRIXSET": "WebMercatorQuad", "TILEMATRIX": "8", "TILECOL": "128", "TILEROW": "127",
    }  # fmt: skip
    for path, asked in (("wms", GET_MAP), ("wmts", tile)):
        for where in ("/raster", COLLECTION):
            answer = site.ask("anonymous", "GET", f"{where}/{path}", params={**asked, "items_limit": "1"})
            assert answer.headers["content-type"] == "image/png", answer.text
            assert answer.headers["federator-partial"] == "items"
            assert "no-store" in answer.headers["cache-control"]


def test_qgis_is_offered_no_utm_for_a_layer_in_utm() -> None:
    for told, expected in (("EPSG:32632", "EPSG:32632"), ("IAU:30100", None), (["EPSG:1"], None), (None, None)):
        item = pystac.Item("a", None, None, datetime(2026, 5, 1, tzinfo=UTC), {})
        item.add_asset("data", pystac.Asset("https://here.example/a.tif", extra_fields={"proj:code": told}))
        assert Layer("a", "A", "raster/collections/a", (0, 0, 1, 1), ["default"], item=item).system == expected
    assert Layer("a", "A", "raster/collections/a", (0, 0, 1, 1), ["default"]).system is None
