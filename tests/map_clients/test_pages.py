"""Pages of another origin with Leaflet, MapLibre and OpenLayers in headless Chromium: each colour where it belongs, nothing beside."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.api.sharing_site import Site
from tests.e2e.browser import NotHere
from tests.map_clients.pages import Pages, map_pages
from tests.map_clients.squares import FIELDS, JUNE, MAGENTA, MAY, PLACES, SECRET, differing
from tests.size import FULL
from tests.tus_clients import environment

pytestmark = [
    pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
]  # fmt: skip
IMAGES = Path(__file__).parents[2] / "docs" / "images"
KEEP = os.environ.get("KEEP_PICTURES")

OF_ALL, OF_ONE = "/raster", f"/raster/collections/{FIELDS}"
TILES = f"{OF_ONE}/tiles/WebMercatorQuad/{{z}}/{{x}}/{{y}}.png"
GET_MAP = f"{OF_ALL}/wms?" + urlencode({
    "SERVICE": "WMS", "VERSION": "1.3.0", "REQUEST": "GetMap", "LAYERS": FIELDS, "STYLES": "", "CRS": "EPSG:3857",
    "WIDTH": 256, "HEIGHT": 256, "FORMAT": "image/png", "TRANSPARENT": "TRUE",
}) + "&BBOX={bbox-epsg-3857}"  # fmt: skip


def _wms(layer: str = FIELDS, **more: str) -> dict[str, Any]:
    return {"kind": "wms", "url": f"{OF_ALL}/wms", "options": {"layers": layer, **more}}


def _ol_wms(kind: str, **more: str) -> dict[str, Any]:
    return {"kind": kind, "url": f"{OF_ALL}/wms", "options": {"params": {"LAYERS": FIELDS, **more}}}


def _wmts(where: str, matrix_set: str, **more: str) -> dict[str, Any]:
    return {"kind": "wmts", "url": where, "options": {"layer": FIELDS, "matrixSet": matrix_set, **more}}


XML, KVP = "WMTSCapabilities.xml", f"{OF_ONE}/wmts?SERVICE=WMTS&REQUEST=GetCapabilities"
#: Client and what it shows, as its page takes it; `day` until which there are pictures.
USUAL: dict[str, tuple[str, dict[str, Any]]] = {
    "leaflet-tilejson": ("leaflet", {"kind": "tilejson", "url": f"{OF_ONE}/WebMercatorQuad/tilejson.json"}),
    "leaflet-wms-1.3.0-degrees": ("leaflet", {**_wms(version="1.3.0"), "crs": "EPSG4326"}),
    "leaflet-wms-a-day-as-its-midnight": ("leaflet", {**_wms(time=f"{MAY}T00:00:00.000Z"), "day": MAY}),
    "openlayers-wmts": ("openlayers", _wmts(f"{OF_ALL}/{XML}", "WebMercatorQuad")),
    "openlayers-wmts-latitude-first": ("openlayers", {**_wmts(f"{OF_ONE}/{XML}", "WGS1984Quad"), "crs": "EPSG:4326"}),
    "openlayers-wmts-utm": ("openlayers", {**_wmts(f"{OF_ONE}/{XML}", "UTM31WGS84Quad"), "crs": "EPSG:32631"}),
    "openlayers-ogc-tiles": ("openlayers", {"kind": "ogc", "url": f"{OF_ONE}/tiles/WebMercatorQuad"}),
    "openlayers-ogc-map-latitude-first": ("openlayers", {
        "kind": "map", "url": f"{OF_ONE}/map", "options": {"projection": "EPSG:4326"}, "crs": "EPSG:4326",
    }),
    "openlayers-wms-utm": ("openlayers", {**_ol_wms("image"), "crs": "EPSG:32632"}),
    "maplibre-wms": ("maplibre", {"kind": "tiles", "url": GET_MAP}),
}  # fmt: skip
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "leaflet-wms": ("leaflet", _wms()),
    "leaflet-wms-1.1.1-degrees-a-day": ("leaflet", {**_wms(time=MAY), "crs": "EPSG4326", "day": MAY}),
    "openlayers-wmts-kvp": ("openlayers", _wmts(KVP, "WebMercatorQuad", requestEncoding="KVP")),
    "openlayers-wmts-degrees": ("openlayers", {**_wmts(f"{OF_ONE}/{XML}", "WorldCRS84Quad"), "crs": "EPSG:4326"}),
    "openlayers-wmts-no-set-chosen": ("openlayers", {
        "kind": "wmts", "url": f"{OF_ONE}/{XML}", "options": {"layer": FIELDS, "projection": "EPSG:3857"},
    }),
    "openlayers-ogc-tiles-degrees": ("openlayers", {"kind": "ogc", "url": f"{OF_ONE}/tiles/WorldCRS84Quad", "crs": "EPSG:4326"}),
    "openlayers-ogc-map": ("openlayers", {"kind": "map", "url": f"{OF_ONE}/map", "options": {"projection": "EPSG:3857"}}),
    "openlayers-wms": ("openlayers", _ol_wms("wms")),
    "openlayers-wms-degrees": ("openlayers", {**_ol_wms("wms"), "crs": "EPSG:4326"}),
    "openlayers-wms-1.1.1-a-day": ("openlayers", {**_ol_wms("image", VERSION="1.1.1", TIME=MAY), "crs": "EPSG:4326", "day": MAY}),
    "maplibre-tilejson": ("maplibre", {"kind": "tilejson", "url": f"{OF_ONE}/WebMercatorQuad/tilejson.json"}),
}  # fmt: skip
SHOWN = USUAL | OTHERS if FULL else USUAL
#: Pages that are pictures in docs/images.
PICTURES = {"leaflet-tilejson": "leaflet.png", "openlayers-wmts-utm": "openlayers.png"}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    try:
        with map_pages(tmp_path_factory.mktemp("browser") / "profile") as found:
            yield found
    except (NotHere, environment.NotHere) as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", SHOWN)
def test_a_client_shows_each_colour_where_it_belongs(pages: Pages, site: Site, name: str) -> None:
    client, asked = SHOWN[name]
    spec = {**asked, "url": f"{site.http.base_url}{asked['url']}"}
    day = spec.pop("day", JUNE)
    keep = IMAGES / PICTURES[name] if KEEP and name in PICTURES else None
    found = pages.colours(client, keep=keep, **spec)
    assert pages.failures() == []
    assert differing(found, at=day) == {}


@pytest.mark.parametrize("client", ["leaflet", "openlayers"] if FULL else ["openlayers"])
def test_tiles_without_a_pixel_leave_their_place_empty(pages: Pages, site: Site, client: str) -> None:
    """They are answered with 204, of which these clients say that it is no picture."""
    found = pages.colours(client, kind="tiles", url=f"{site.http.base_url}{TILES}")
    assert differing(found) == {}
    for failure in pages.failures():
        address = failure.rpartition(" ")[2]
        assert site.http.get(address).status_code == 204, address


def test_maplibre_shows_a_private_raster_by_a_signed_url_and_nothing_without(pages: Pages, site: Site) -> None:
    urls = site.done("owner", "POST", "/raster/signed", json={"collection": SECRET})["mosaic"]
    for kind in ("tiles", "tilejson"):
        keep = IMAGES / "maplibre.png" if KEEP else None
        found = pages.colours("maplibre", keep=keep, kind=kind, url=urls[kind])
        assert pages.failures() == []
        assert differing(found, at=MAY) == {}
    unsigned = urls["tiles"].partition("?")[0]
    assert pages.colours("maplibre", kind="tiles", url=unsigned) == {place: list(MAGENTA) for place in PLACES}
