"""QGIS lists our services, and draws each colour where it belongs: WMTS, WMS, XYZ, and the COG of an item that a search has found."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.api.sharing_site import Site
from tests.map_clients import system_qgis
from tests.map_clients.squares import FIELDS, JUNE, MAY, PLACES, SECRET, VIEW, differing

pytestmark = [
    pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300),
    pytest.mark.skipif(not system_qgis.is_here(), reason="QGIS is not installed; `make test-clients` installs it"),
]  # fmt: skip
PICTURE = Path(__file__).parents[2] / "docs" / "images" / "qgis.png"
TITLE, GROUP = f"Fields of {FIELDS}", "STAC Federator, tiles"
#: Within the extent of the squares in degrees, west of all: their sides are not those of degrees.
CORNER = (10.2145, 50.115)
MERCATOR = ("WebMercatorQuad", "image/png")
#: Layers by the names that lead to them in the browser's tree.
LISTED: dict[str, dict[str, Any]] = {
    "wmts": {"path": ["all", TITLE, *MERCATOR], "identify": PLACES["yellow middle"]},
    "wmts-of-one": {"path": ["one", TITLE, *MERCATOR]},
    "wmts-by-key-and-value": {"path": ["kvp", TITLE, *MERCATOR]},
    "wmts-of-an-item": {"path": ["item", f"Squares of {MAY}", *MERCATOR], "until": MAY},
    "wmts-signed": {"path": ["signed", f"Fields of {SECRET}", *MERCATOR], "until": MAY},
    "wmts-degrees": {"path": ["one", TITLE, "WorldCRS84Quad", "image/png"]},
    "wmts-latitude-first": {"path": ["one", TITLE, "WGS1984Quad", "image/png"]},
    "wmts-utm": {"path": ["one", TITLE, "UTM31WGS84Quad", "image/png"]},
    "wmts-europe-north-first": {"path": ["one", TITLE, "EuropeanETRS89_LAEAQuad", "image/png"]},
    "wmts-jpeg": {"path": ["one", TITLE, "WebMercatorQuad", "image/jpeg"]},
    "wms": {"path": ["wms", GROUP, TITLE], "identify": PLACES["yellow middle"], "picture": True},
    "wms-beside": {"path": ["wms", GROUP, TITLE], "identify": CORNER},
    "wms-1.1.1": {"path": ["wms-1.1.1", GROUP, TITLE], "crs": "EPSG:4326", "identify": PLACES["yellow middle"]},
    "wms-signed": {"path": ["wms-signed", GROUP, f"Fields of {SECRET}"], "until": MAY},
    "wms-a-day": {"path": ["wms", GROUP, TITLE], "day": MAY, "until": MAY},
    "wms-a-day-without-pictures": {"path": ["wms", GROUP, TITLE], "day": "2026-05-15"},
}


@pytest.fixture(scope="module")
def drawn(site: Site, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """QGIS is started once; it takes ten seconds to come up on a busy machine."""
    base = str(site.http.base_url).rstrip("/")
    one = f"{base}/raster/collections/{FIELDS}"
    first = next(iter(site.uploads.values()))
    signed = site.done("owner", "POST", "/raster/signed", json={"collection": SECRET})
    connections = {
        "all": f"{base}/raster/WMTSCapabilities.xml", "one": f"{one}/WMTSCapabilities.xml", "kvp": f"{base}/raster/wmts",
        "item": f"{one}/items/{first}/WMTSCapabilities.xml", "signed": signed["mosaic"]["wmts"],
        "wms": f"{base}/raster/wms", "wms-1.1.1": f"{base}/raster/wms?VERSION=1.1.1",
        "wms-signed": f"{base}/raster/collections/{SECRET}/wms?sig={signed['signature']['value']}",
    }  # fmt: skip
    tiles = quote(f"{one}/tiles/WebMercatorQuad/{{z}}/{{x}}/{{y}}.png", safe=":/{}")
    wms = f"dpiMode=7&format=image/png&layers={FIELDS}&styles&url={base}/raster/wms"
    layers = {
        **LISTED,
        "xyz": {"provider": "wms", "uri": f"type=xyz&url={tiles}&zmin=0&zmax=18"},
        "wms-degrees": {"provider": "wms", "uri": f"crs=EPSG:4326&{wms}"},
        "wms-utm": {"provider": "wms", "uri": f"crs=EPSG:32632&{wms}"},
        "wms-north-first": {"provider": "wms", "uri": f"crs=EPSG:3035&{wms}"},
        "cog": {"provider": "gdal", "uri": _cog_found(base), "until": MAY},
    }
    for asked in layers.values():
        if asked.pop("picture", False) and os.environ.get("KEEP_PICTURES"):
            asked["picture"] = str(PICTURE)
    return system_qgis.asked(tmp_path_factory.mktemp("qgis"), connections, layers) | {"layers": layers}


def _cog_found(base: str) -> str:
    """As QGIS 3.40 and later: from the landing page to a search of what its map shows, and the file of an item as its layer.

    `QgsStacDataItems` and `QgsStacAsset::uri`: a cloud-optimised GeoTIFF is opened where it is, by GDAL.
    """
    with httpx.Client(headers={"User-Agent": "Mozilla/5.0 QGIS/34400"}) as http:
        landing = http.get(f"{base}/stac/").json()
        (search,) = {link["href"] for link in landing["links"] if link["rel"] == "search"}
        asked = {
            "collections": FIELDS,
            "bbox": ",".join(map(str, VIEW)),
            "datetime": f"{MAY}T00:00:00.000/{MAY}T23:59:59.000",
        }
        (item,) = http.get(search, params=asked).json()["features"]
    (asset,) = [
        one
        for one in item["assets"].values()
        if one["type"] == "image/tiff; application=geotiff; profile=cloud-optimized"
    ]
    return f"/vsicurl/{asset['href']}"


@pytest.mark.parametrize("name", [*LISTED, "xyz", "wms-degrees", "wms-utm", "wms-north-first", "cog"])
def test_qgis_draws_each_colour_where_it_belongs(drawn: dict[str, Any], name: str) -> None:
    layer, found = drawn["layers"][name], drawn["drawn"][name]
    colours = found["colours"]
    assert colours, found
    if name == "wms-a-day-without-pictures":
        assert {tuple(one) for one in colours.values()} == {(255, 0, 255)}
    else:
        if "jpeg" in name:  # it has no mask
            colours |= {place: [255, 0, 255] for place in colours if " " not in place}
        assert differing(colours, at=layer.get("until", JUNE)) == {}
    if name != "xyz":  # it says of an empty answer (204) that it is no picture
        assert found["complaints"] == []


def test_qgis_zooms_to_where_the_layers_are(drawn: dict[str, Any]) -> None:
    west, south, east, north = VIEW
    for name in ("wmts", "wmts-utm", "wms", "wms-degrees", "wms-1.1.1", "cog"):
        extent = drawn["drawn"][name]["extent"]
        assert west < extent[0] < extent[2] < east, name
        assert south < extent[1] < extent[3] < north, name


def test_qgis_lists_what_everybody_may_see_and_by_a_signature_what_it_opens(drawn: dict[str, Any]) -> None:
    titles = {(path[0], path[2 if path[0].startswith("wms") else 1]) for path in drawn["listed"]}
    by_name = {name: {title for one, title in titles if one == name} for name, _ in titles}
    assert by_name["all"] == by_name["kvp"] == by_name["wms"] == by_name["wms-1.1.1"] == {TITLE}
    assert by_name["signed"] == by_name["wms-signed"] == {f"Fields of {SECRET}"}


def test_the_temporal_controller_of_qgis_is_offered_the_days_of_the_layer(drawn: dict[str, Any]) -> None:
    assert drawn["drawn"]["wms"]["times"] == [f"{MAY}T00:00:00", f"{JUNE}T00:00:00"]


def test_qgis_identifies_the_values_of_a_pixel_in_a_table(drawn: dict[str, Any]) -> None:
    for name in ("wmts", "wms", "wms-1.1.1"):
        (row,) = drawn["drawn"][name]["identified"]["feature"]
        assert row.pop("item").startswith(f"{FIELDS}/squares-of-{MAY}")
        assert list(row.values()) == ["255.0", "255.0", "0.0"]
    assert drawn["drawn"]["wms-beside"]["identified"]["feature"] == []
