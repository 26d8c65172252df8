"""Items of Planetary Computer, USGS, Earth Search's newer collections and static catalogues by our vocabulary."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from ingest.errors import RecordRejected
from ingest.model import CollectionMapping, Contribution, Signing, Source
from ingest.normalise import stac
from ingest.normalise.signing import needs_signing, unsigned
from tests.recordings import FOLDER, documents, outcome_of, records
from tests.shared import shared_path
from tests.stac_schemas import faults
from tests.upstreams.planetary_computer import SIGNATURE, planetary_entries, planetary_item
from tests.upstreams.products import catalogue
from tests.upstreams.static_stac import static_item, static_products

SAS = frozenset({"st", "se", "sp", "sv", "sr", "sig"})
SIGNING = Signing("pc-sas", ("*.blob.example.net", "files.example.org"), "https://example.org/sas/v1/sign", SAS)
SOURCE = Source("example", "Example", "stac", "https://example.org/stac/v1", 40, signing=SIGNING)
OFFERED = catalogue(240)
ROOT = "https://example.org/stac/v1"


def normalised(item: dict[str, Any], source: Source = SOURCE, document: str | None = None) -> Contribution:
    mapping = CollectionMapping("any", {"collection": ["asked-first", "asked-second"]})
    return stac.contribution(source, mapping, orjson.dumps(item), document=document)


# Signed hrefs


@pytest.mark.parametrize(
    ("href", "needed"),
    [
        ("https://a.blob.example.net/x.tif", True),
        ("https://A.BLOB.example.net:443/x.tif", True),
        ("https://files.example.org/x", True),
        ("https://blob.example.net/x", False),
        ("https://files.example.org.evil.net/x", False),
        ("https://evilblob.example.net/x", False),
        ("s3://a.blob.example.net/x", True),
        ("https://[::1/x", False),
    ],
)
def test_whose_files_need_a_signature(href: str, needed: bool) -> None:
    assert needs_signing(href, SIGNING) is needed
    assert not needs_signing(href, None)


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("", ""),
        (f"?{SIGNATURE}", ""),
        (f"?a=1&{SIGNATURE}&b=%2F+x", "?a=1&b=%2F+x"),
        ("?SIG=x&v=2", "?v=2"),
        ("?sign=1", "?sign=1"),
    ],
)
def test_a_signature_that_came_along_is_taken_off_and_nothing_else(query: str, left: str) -> None:
    assert (
        unsigned(f"https://a.blob.example.net/c/x.tif{query}", SIGNING) == f"https://a.blob.example.net/c/x.tif{left}"
    )
    other = f"https://elsewhere.example/x.tif{query}"
    assert unsigned(other, SIGNING) == unsigned(other, None) == other


@pytest.mark.parametrize("entry", planetary_entries(OFFERED)[::3], ids=lambda entry: entry.id)
def test_every_planetary_computer_item_is_valid_known_by_its_product_and_unsigned(entry: Any) -> None:
    found = normalised(planetary_item(entry.product, ROOT))
    assert (found.product, found.warnings) == (entry.product.name, ())
    assert faults(found.item) == []
    assert "sig=" not in json.dumps(found.item)
    stored = [asset for asset in found.item["assets"].values() if "blob.example.net" in asset["href"]]
    assert len(stored) >= 3
    assert all(asset["auth:refs"] == ["pc-sas"] for asset in stored)
    (flow,) = found.item["properties"]["auth:schemes"]["pc-sas"]["flows"].values()
    assert (flow["authorizationApi"], flow["responseField"]) == ("https://example.org/sas/v1/sign", "href")


def test_planetary_computer_files_have_our_keys_and_bands() -> None:
    entries = {entry.product.kind: entry.product for entry in planetary_entries(OFFERED)}
    optical = normalised(planetary_item(entries["L2A"], ROOT)).item
    assert {"B02_10m-cog", "B11_20m-cog", "AOT_10m-cog", "SCL_20m-cog", "TCI_10m-cog", "safe_manifest"} <= set(
        optical["assets"]
    )
    assert optical["assets"]["B02_10m-cog"]["bands"][0]["eo:common_name"] == "blue", "by our vocabulary, not as told"
    assert optical["assets"]["thumbnail"]["href"].startswith("https://example.org/stac/data/v1/item/preview.png")
    assert "tilejson" not in optical["assets"]
    assert optical["properties"]["constellation"] == "sentinel-2"
    radar = normalised(planetary_item(entries["GRD"], ROOT)).item
    pol = entries["GRD"].polarisations[0].lower()
    assert radar["assets"][f"{pol}-cog"]["bands"] == [{"name": pol.upper()}]
    assert radar["assets"]["thumbnail"]["href"].endswith("quick-look.png")
    assert radar["properties"]["start_datetime"] < radar["properties"]["datetime"] < radar["properties"]["end_datetime"]


def test_a_source_that_signs_nothing_keeps_hrefs_as_they_are() -> None:
    entry = planetary_entries(OFFERED)[0]
    found = normalised(planetary_item(entry.product, ROOT), Source("plain", "", "stac", ROOT))
    assert "sig=" in json.dumps(found.item["assets"])
    assert "auth:schemes" not in found.item["properties"]


def test_alternates_and_links_are_signed_too() -> None:
    item = planetary_item(planetary_entries(OFFERED)[0].product, ROOT)
    item["assets"]["visual"]["alternate"] = {"copy": {"href": f"https://b.blob.example.net/v.tif?{SIGNATURE}"}}
    item["links"].append({"rel": "enclosure", "href": f"https://c.blob.example.net/folder?{SIGNATURE}"})
    found = normalised(item).item
    copy = found["assets"]["TCI_10m-cog"]["alternate"]["copy"]
    assert copy == {"href": "https://b.blob.example.net/v.tif", "auth:refs": ["pc-sas"]}
    (link,) = [link for link in found["links"] if link["rel"] == "enclosure"]
    assert (link["href"], link["auth:refs"]) == ("https://c.blob.example.net/folder", ["pc-sas"])


# Landsat

SCENE = "LC09_L2SP_010065_20220129_20220131_02_T1"


def usgs_item(part: str = "SR", **properties: Any) -> dict[str, Any]:
    """As USGS's stac-server answers: STAC 1.0 with copies in a bucket whose readers pay."""
    path = f"collection02/level-2/standard/oli-tirs/2022/010/065/{SCENE}/{SCENE}"

    def asset(
        end: str, title: str, media: str = "image/vnd.stac.geotiff; cloud-optimized=true", **more: Any
    ) -> dict[str, Any]:
        copy = {"storage:platform": "AWS", "storage:requester_pays": True, "href": f"s3://usgs-landsat/{path}_{end}"}
        href = f"https://landsatlook.usgs.gov/data/{path}_{end}"
        return {"title": title, "type": media, "roles": ["data"], "href": href, "alternate": {"s3": copy}, **more}

    band = {"name": "B4", "common_name": "red", "gsd": 30, "center_wavelength": 0.65}
    files = {
        "red": asset("SR_B4.TIF", "Red Band (B4)", **{"eo:bands": [band]}),
        "qa_aerosol": asset("SR_QA_AEROSOL.TIF", "Aerosol"),
    }
    if part == "ST":
        thermal = {"name": "B10", "common_name": "lwir11", "gsd": 100, "center_wavelength": 10.9}
        files = {"lwir11": asset("ST_B10.TIF", "Surface Temperature Band (B10)", **{"eo:bands": [thermal]})}
    shared = {
        "thumbnail": asset("thumb_small.jpeg", "Thumbnail image", "image/jpeg"),
        "index": {
            "title": "HTML index page",
            "type": "text/html",
            "href": "https://landsatlook.usgs.gov/stac-browser/x",
        },
        "MTL.json": asset("MTL.json", "Product Metadata File (json)", "application/json"),
        "ANG.txt": asset("ANG.txt", "Angle Coefficients File", "text/plain"),
        "qa_pixel": asset("QA_PIXEL.TIF", "Pixel Quality Assessment Band"),
    }
    told = {
        "datetime": "2022-01-29T15:12:07.123456Z", "eo:cloud_cover": 12.5, "view:sun_azimuth": -149.5, "view:sun_elevation": 28.9,
        "view:off_nadir": 0, "platform": "LANDSAT_9", "instruments": ["OLI", "TIRS"], "landsat:cloud_cover_land": 10.0,
        "landsat:wrs_type": "2", "landsat:wrs_path": "010", "landsat:wrs_row": "065", "landsat:scene_id": "LC90100652022029LGN00",
        "landsat:collection_category": "T1", "landsat:collection_number": "02", "landsat:correction": "L2SP", "proj:epsg": 32717,
        "proj:shape": [7741, 7591], "proj:transform": [30.0, 0.0, 507885.0, 0.0, -30.0, -729585.0], "created": "2022-07-06T18:41:07.350Z",
        "updated": "2022-07-06T18:41:07.350Z",
    }  # fmt: skip
    ring = [[-79.0, -6.5], [-77.0, -6.5], [-77.0, -8.5], [-79.0, -8.5], [-79.0, -6.5]]
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": f"{SCENE}_{part}", "collection": f"landsat-c2l2-{part.lower()}",
        "description": "Landsat Collection 2 Level-2", "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": told | properties, "assets": files | shared, "links": [],
    }  # fmt: skip


@pytest.mark.parametrize("part", ["SR", "ST"])
def test_both_halves_of_a_landsat_product_are_one_item(part: str) -> None:
    found = normalised(usgs_item(part))
    assert (found.item["id"], found.name.part, found.warnings) == (SCENE, part, ())
    assert found.item["collection"] == "landsat-c2-l2"
    assert faults(found.item) == []
    assert {"mtl.json", "ang", "qa_pixel", "thumbnail", "red" if part == "SR" else "lwir11"} <= set(
        found.item["assets"]
    )
    assert "index" not in found.item["assets"]
    (via,) = [link for link in found.item["links"] if link["rel"] == "via"]
    assert via["href"] == f"{ROOT}/collections/landsat-c2l2-{part.lower()}/items/{SCENE}_{part}"


def test_a_copy_whose_readers_pay_says_so() -> None:
    item = normalised(usgs_item()).item
    copy = item["assets"]["red"]["alternate"]["s3"]
    assert copy == {"href": f"s3://usgs-landsat/collection02/level-2/standard/oli-tirs/2022/010/065/{SCENE}/{SCENE}_SR_B4.TIF",
                    "storage:refs": ["aws-usgs-landsat"]}  # fmt: skip
    scheme = item["properties"]["storage:schemes"]["aws-usgs-landsat"]
    assert (scheme["type"], scheme["bucket"], scheme["requester_pays"]) == ("aws-s3", "usgs-landsat", True)
    assert item["assets"]["red"]["type"] == "image/tiff; application=geotiff; profile=cloud-optimized"


def test_old_numbers_and_bands_become_new_ones() -> None:
    item = normalised(usgs_item()).item
    properties = item["properties"]
    assert properties["view:sun_azimuth"] == 210.5
    assert (properties["proj:code"], properties["proj:shape"]) == ("EPSG:32717", [7741, 7591])
    assert properties["grid:code"] == "WRS2-010065"
    assert item["assets"]["red"]["bands"] == [{"name": "B4", "eo:common_name": "red", "eo:center_wavelength": 0.65}]


def test_clouds_that_nobody_could_see_are_no_share() -> None:
    found = normalised(usgs_item(**{"eo:cloud_cover": -1, "landsat:cloud_cover_land": -1}))
    assert "eo:cloud_cover" not in found.item["properties"]
    assert found.warnings == ()
    assert faults(found.item) == []
    assert normalised(usgs_item(**{"eo:cloud_cover": 130})).warnings == ("properties.eo:cloud_cover",)


@pytest.mark.parametrize(
    "change", [{"landsat:scene_id": "LC9"}, {"landsat:scene_id": None}, {"landsat:cloud_cover_land": None}]
)
def test_the_landsat_extension_is_kept_whole_or_not_at_all(change: dict[str, Any]) -> None:
    item = normalised(usgs_item(**change)).item
    assert not [name for name in item["properties"] if name.startswith("landsat:")]
    assert faults(item) == []


def test_an_id_without_processing_date_is_completed_from_the_files() -> None:
    """As Earth Search and Planetary Computer name Landsat scenes."""
    item = usgs_item() | {"id": "LC09_L2SP_010065_20220129_02_T1"}
    assert normalised(item).item["id"] == SCENE


# Details of STAC 1.0


def test_bands_of_one_file_that_differ_keep_what_differs() -> None:
    item = usgs_item()
    names = [{"name": "VV"}, {"name": "VH"}]
    rasters = [{"data_type": "float32", "unit": "dB", "scale": 2}, {"data_type": "float32", "unit": "dB", "scale": 3}]
    item["assets"]["red"] |= {"eo:bands": names, "raster:bands": rasters}
    asset = normalised(item).item["assets"]["red"]
    assert (asset["data_type"], asset["unit"]) == ("float32", "dB")
    assert [band["raster:scale"] for band in asset["bands"]] == [2, 3]


@pytest.mark.parametrize(
    ("member", "value"),
    [("nodata", "none"), ("data_type", "uint17"), ("roles", "data"), ("gsd", "ten"), ("proj:shape", [1.5, 2]), ("proj:transform", [1]),
     ("proj:bbox", [1, 2, 3]), ("raster:scale", "x"), ("title", 3), ("auth:refs", "s3")],
)  # fmt: skip
def test_a_member_of_the_wrong_kind_is_counted_and_left_out(member: str, value: Any) -> None:
    item = usgs_item()
    item["assets"]["red"][member] = value
    found = normalised(item)
    assert found.warnings == (f"assets.red.{member}",)
    assert member not in found.item["assets"]["red"]
    assert faults(found.item) == []


def test_an_item_without_a_moment_begins_when_its_interval_does() -> None:
    times = {"datetime": None, "start_datetime": "2022-01-29T15:00:00Z", "end_datetime": "2022-01-29T16:00:00Z"}
    assert normalised(usgs_item(**times)).item["properties"]["datetime"] == "2022-01-29T15:00:00.000000Z"
    with pytest.raises(RecordRejected) as caught:
        normalised(usgs_item(datetime=None))
    assert caught.value.code == "datetime-invalid"


def test_collection_1_of_earth_search_is_known_by_its_product() -> None:
    product = next(one for one in OFFERED if one.kind == "L2A")
    assert product.tile is not None
    item = {
        "type": "Feature", "stac_version": "1.0.0", "collection": "sentinel-2-c1-l2a", "geometry": product.geometry(),
        "id": f"{product.platform}_T{product.tile.name}_{product.start:%Y%m%dT%H%M%S}_L2A", "links": [],
        "properties": {
            "datetime": "2025-07-29T18:03:19.545000Z", "platform": f"sentinel-{product.platform[1:].lower()}",
            "s2:product_uri": product.name,
            "created": "2025-07-30T01:00:00.000Z", "updated": "2025-07-30T01:00:00.000Z", "proj:epsg": product.tile.epsg,
            "proj:centroid": {"lat": 1, "lon": 2}, "s2:tile_id": "S2C_OPER_MSI_L2A_TL", "earthsearch:payload_id": "x",
        },
        "assets": {
            "blue": {
                "href": "https://example.org/c1/B02.tif", "type": "image/tiff; application=geotiff; profile=cloud-optimized", "gsd": 10,
                "eo:bands": [{"name": "B02", "common_name": "blue"}], "file:size": 5, "file:checksum": "1220" + "ab" * 32,
                "raster:bands": [{"nodata": 0, "data_type": "uint16", "spatial_resolution": 10, "scale": 0.0001, "offset": -0.1}],
            },
            "preview": {"href": "https://example.org/c1/L2A_PVI.tif", "type": "image/tiff; application=geotiff; profile=cloud-optimized"},
        },
    }  # fmt: skip
    found = normalised(item)
    assert (found.product, found.warnings) == (product.name, ())
    blue = found.item["assets"]["B02_10m-cog"]
    assert (blue["raster:offset"], blue["raster:spatial_resolution"]) == (-0.1, 10)
    assert faults(found.item) == []


# Static catalogues


@pytest.mark.parametrize("product", static_products(OFFERED)[::6], ids=lambda product: product.stem)
def test_relative_hrefs_begin_at_the_document(product: Any) -> None:
    address = f"https://archive.example/a/b/{product.stem}.json?v=1"
    found = normalised(static_item(product), document=address)
    assert (found.product, found.warnings) == (product.name, ())
    assert faults(found.item) == []
    assert found.item["assets"]["thumbnail"]["href"] == "https://archive.example/a/b/preview.jpg"
    assert found.item["assets"]["Product"]["href"] == f"https://archive.example/a/archive/{product.name}.zip"
    assert found.item["links"][0]["href"] == address


@pytest.mark.parametrize("href", ["file:///etc/passwd", "//[::1", "javascript:alert(1)", "data:text/plain,x"])
def test_an_href_that_is_no_address_is_left_out(href: str) -> None:
    product = static_products(OFFERED)[0]
    item = static_item(product)
    item["assets"]["thumbnail"]["href"] = href
    found = normalised(item, document="https://archive.example/a.json")
    assert "thumbnail" not in found.item["assets"]
    assert found.warnings == ("assets.thumbnail",)


# Recordings


@pytest.mark.parametrize("folder", ["planetary-computer", "usgs-landsatlook", "earth-search"])
def test_every_recorded_item_is_valid_or_refused_for_a_reason(folder: str) -> None:
    shared_path("upstreams", "recordings", folder)
    items = 0
    for path in sorted((FOLDER / folder).iterdir()):
        outcome = outcome_of(SOURCE, path)
        for one in outcome.contributions:
            items += 1
            assert faults(one.item) == [], path.name
        assert {error.code for error in outcome.refusals} <= {"footprint-missing", "product-name-unknown"}, path.name
    assert items


def test_recorded_scenes_and_tiles_say_all_that_they_know() -> None:
    shared_path("upstreams", "recordings")
    found: dict[str, Contribution] = {}
    for path in ("earth-search/cassette_two_collections_paging_to_empty_page.yaml", "earth-search/cassette_matched.yaml",
                 "usgs-landsatlook/LC08_L2SP_047027_20201204_20210313_02_T1_SR_stac.json"):  # fmt: skip
        for document in documents(FOLDER / path):
            for record in records(document):
                one = normalised(record)
                assert one.warnings == ()
                found[one.item["id"]] = one
    scene = found["LC08_L2SP_033032_20231008_20231017_02_T1"].item
    assert scene["assets"]["lwir11"]["storage:refs"] == ["aws-usgs-landsat"]
    assert scene["properties"]["storage:schemes"]["aws-usgs-landsat"]["region"] == "us-west-2"
    usgs = found["LC08_L2SP_047027_20201204_20210313_02_T1"].item
    assert {"coastal", "blue", "nir08", "swir22", "qa_pixel", "mtl.xml", "ang"} <= set(usgs["assets"])
    assert usgs["assets"]["blue"]["bands"][0]["name"] == "SR_B2"
    assert usgs["properties"]["view:sun_elevation"] == 18.80722985
    tile = found["Copernicus_DSM_COG_10_S90_00_W180_00_DEM"].item
    assert (tile["collection"], tile["assets"]["data"]["raster:sampling"]) == ("cop-dem-glo-30", "point")
    assert tile["properties"]["storage:schemes"]["aws-copernicus-dem-30m"]["requester_pays"] is False
