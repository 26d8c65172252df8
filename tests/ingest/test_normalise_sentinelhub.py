"""Items of Sentinel Hub catalogues, recorded ones and changes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from starlette.testclient import TestClient

from ingest.errors import RecordRejected
from ingest.merge import merge
from ingest.model import CollectionMapping, Contribution, Source
from ingest.normalise import odata, sentinelhub
from ingest.source_files import find_source, load_sources
from tests.ingest.sensed_harvest import PATH, app_of
from tests.recordings import records
from tests.shared import shared_path
from tests.stac_schemas import faults
from tests.upstreams.odata_records import record as odata_record
from tests.upstreams.products import FEDERATED, catalogue
from tests.upstreams.sentinelhub import SentinelHubService, feature

SOURCES = load_sources()
CDSE, AWS = find_source(SOURCES, "cdse-sentinelhub"), find_source(SOURCES, "sentinelhub-aws")
L2A = CollectionMapping("sentinel-2-l2a", {"collection": "sentinel-2-l2a", "start": "2015-06-27"})
GRD = CollectionMapping("sentinel-1-grd", {"collection": "sentinel-1-grd", "start": "2014-10-03"})
STEM = "S2A_MSIL2A_20210125T073201_N0500_R049_T39TWK_20230528T024029"


def normalised(record: Any, source: Source = CDSE, mapping: CollectionMapping = L2A) -> Contribution:
    return sentinelhub.contribution(source, mapping, orjson.dumps(record))


def recorded(name: str) -> dict[str, Any]:
    path = shared_path("upstreams", "recordings", "sentinel-hub-catalog", name)
    return dict(json.loads(path.read_text(encoding="utf-8")))


@pytest.fixture
def record() -> dict[str, Any]:
    return recorded("sh_dataspace_cell12.json")


def changed(record: dict[str, Any], **properties: Any) -> dict[str, Any]:
    return {**record, "properties": {**record["properties"], **properties}}


def test_a_recorded_item_says_all_that_it_knows(record: dict[str, Any]) -> None:
    found = normalised(record)
    item, properties = found.item, found.item["properties"]
    assert item["id"] == STEM
    assert found.product == f"{STEM}.SAFE"
    assert found.published is None
    assert found.warnings == ()
    assert properties["datetime"] == "2021-01-25T07:37:20.296000Z"
    assert properties["eo:cloud_cover"] == 1.18
    assert properties["platform"] == "sentinel-2a"
    assert properties["proj:code"] == "EPSG:32639"
    assert not {"proj:epsg", "proj:geometry", "proj:bbox"} & set(properties)
    assert "crs" not in item["geometry"]
    assert item["geometry"]["type"] == "Polygon"
    assert item["assets"] == {}
    assert faults(item) == []


def test_the_folder_is_a_link_to_a_bucket_in_lower_case(record: dict[str, Any]) -> None:
    item = normalised(record).item
    (link,) = [one for one in item["links"] if one["rel"] == "enclosure"]
    assert link["href"] == f"s3://eodata/Sentinel-2/MSI/L2A_N0500/2021/01/25/{STEM}.SAFE/"
    assert link["storage:refs"] == list(item["properties"]["storage:schemes"])
    (via,) = [one for one in item["links"] if one["rel"] == "via"]
    assert via["href"] == f"{CDSE.url}/collections/sentinel-2-l2a/items/{STEM}.SAFE"


def test_the_catalogue_on_aws_names_products_without_suffix_and_tiles_by_place() -> None:
    found = normalised(recorded("services_sentinel-hub_com_cell15.json"), AWS)
    assert found.product == "S2A_MSIL2A_20210125T073201_N0214_R049_T39TWK_20210125T105105.SAFE"
    (link,) = [one for one in found.item["links"] if one["rel"] == "enclosure"]
    assert link["href"] == "s3://sentinel-s2-l2a/tiles/39/T/WK/2021/1/25/0/"
    (scheme,) = found.item["properties"]["storage:schemes"].values()
    assert (scheme["type"], scheme["bucket"], scheme["requester_pays"]) == ("aws-s3", "sentinel-s2-l2a", True)
    assert found.warnings == ()
    assert faults(found.item) == []


def test_every_recorded_item_is_valid_or_refused_with_a_reason() -> None:
    """The refused ones were asked for without their footprint or collection, or are of Sentinel Hub's older index."""
    valid, codes = [], []
    folder: Path = shared_path("upstreams", "recordings", "sentinel-hub-catalog")
    for path in sorted(folder.glob("*.json")):
        for one in records(json.loads(path.read_text(encoding="utf-8"))):
            try:
                item = normalised(one).item
            except RecordRejected as error:
                codes.append(error.code)
                continue
            assert faults(item) == [], path.name
            valid.append(item["id"])
    assert len(valid) == 2
    assert codes
    assert set(codes) <= {"field-missing", "footprint-missing", "product-name-unknown"}


@pytest.mark.parametrize("dialect", ["cdse", "aws"])
def test_invented_products_are_valid_items_with_nothing_unread(dialect: str) -> None:
    kinds = ("L1C", "L2A", "GRD") if dialect == "aws" else ("L1C", "L2A", "GRD", "COG")
    for product in (one for one in catalogue(160) if one.kind in kinds):
        collection = FEDERATED[product.kind]
        mapping = CollectionMapping(collection, {"collection": collection, "start": "2015-06-27"})
        source = AWS if dialect == "aws" else CDSE
        found = normalised(feature(product, "https://hub.example.org", is_aws=dialect == "aws"), source, mapping)
        assert found.product == product.name
        assert found.warnings == ()
        assert [one["rel"] for one in found.item["links"]] == ["via", "enclosure"]
        assert faults(found.item) == []


def test_a_radar_item_says_its_timeliness_and_orbit_direction() -> None:
    product = next(one for one in catalogue(8) if one.kind == "GRD")
    properties = normalised(feature(product, "https://hub.example.org", is_aws=False), mapping=GRD).item["properties"]
    assert properties["sar:polarizations"] == list(product.polarisations)
    assert properties["sat:orbit_state"] == ("ascending" if product.ascending else "descending")
    assert properties["product:timeliness"] == "PT24H"


def test_one_product_of_two_catalogues_is_one_item_with_one_folder() -> None:
    product = next(one for one in catalogue(8) if one.kind == "L2A")
    plain = Source("plain", "Plain", "odata", "https://catalogue.dataspace.copernicus.eu/odata/v1", 10)
    first = odata.contribution(plain, L2A, orjson.dumps(odata_record(product, plain.url, frozenset({"Attributes"}))))
    second = normalised(feature(product, "https://hub.example.org", is_aws=False))
    item = merge([(CDSE, second), (plain, first)], first.item["id"])
    assert len([one for one in item["links"] if one["rel"] == "enclosure"]) == 1
    assert item["properties"]["datetime"] == first.item["properties"]["datetime"], "the datatake's, not the tile's"
    assert item["properties"]["federation:backends"] == ["cdse-sentinelhub", "plain"]
    assert faults(item) == []


def test_words_that_are_not_understood_are_counted_and_not_taken(record: dict[str, Any]) -> None:
    found = normalised(changed(record, **{"s1:timeliness": "Sometime", "eo:mood": "good"}))
    assert set(found.warnings) == {"properties.s1:timeliness", "properties.eo:mood"}
    assert "product:timeliness" not in found.item["properties"]


@pytest.mark.parametrize(
    "asset",
    [
        {"href": "s3://somebody-elses-bucket/secret/"},
        {"href": "s3://EODATA"},
        {"href": "s3://EODATA/ with blanks/"},
        {"href": "https://example.org/"},
        {"href": "file:///etc/passwd"},
        {"href": 7},
        {},
        "text",
    ],
)
def test_a_folder_that_we_do_not_know_is_counted_and_not_linked(record: dict[str, Any], asset: Any) -> None:
    found = normalised({**record, "assets": {"data": asset, "extra": {"href": "https://example.org/x"}}})
    assert set(found.warnings) == {"assets.data", "assets.extra"}
    assert [one["rel"] for one in found.item["links"]] == ["via"]
    assert "storage:schemes" not in found.item["properties"]


def test_a_thumbnail_is_taken_when_it_has_an_address(record: dict[str, Any]) -> None:
    found = normalised({**record, "assets": {"thumbnail": {"href": "https://example.org/preview.jpg"}}})
    assert found.item["assets"]["thumbnail"]["href"] == "https://example.org/preview.jpg"
    assert normalised({**record, "assets": {"thumbnail": {"href": "javascript:alert(1)"}}}).warnings == (
        "assets.thumbnail",
    )


REFUSALS: list[tuple[str, dict[str, Any], str]] = [
    ("no id", {"id": None}, "field-missing"),
    ("id is a number", {"id": 7}, "field-malformed"),
    ("id is no product", {"id": "39TWK"}, "product-name-unknown"),
    ("test data", {"id": STEM.replace("N0500", "N9999")}, "test-data"),
    ("no footprint", {"geometry": None}, "footprint-missing"),
    ("empty footprint", {"geometry": {}}, "footprint-missing"),
    ("footprint in metres", {"geometry": {"type": "MultiPolygon", "coordinates": [], "crs": {"type": "name", "properties": {
        "name": "urn:ogc:def:crs:EPSG::32639"}}}}, "geometry-invalid"),
    ("crs is a text", {"geometry": {"type": "MultiPolygon", "coordinates": [], "crs": "CRS84"}}, "geometry-invalid"),
    ("properties are a list", {"properties": []}, "field-malformed"),
    ("no properties", {"properties": None}, "field-missing"),
    ("assets are a list", {"assets": [1]}, "field-malformed"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "code"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS])
def test_what_is_missing_or_malformed_is_refused(record: dict[str, Any], change: dict[str, Any], code: str) -> None:
    with pytest.raises(RecordRejected) as caught:
        normalised({**record, **change})
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [("datetime", None, "field-missing"), ("datetime", "2021-01-25", "datetime-invalid"), ("datetime", 7, "field-malformed"),
     ("eo:cloud_cover", 101, "field-malformed"), ("eo:cloud_cover", "low", "field-malformed"),
     ("platform", "sentinel-2b", "name-contradicts"), ("sat:orbit_state", "sideways", "field-malformed"),
     ("instruments", "msi", "field-malformed"), ("instruments", [["msi"]], "field-malformed"),
     ("sar:polarizations", [{}], "field-malformed"), ("sat:relative_orbit", 48, "name-contradicts")],
)  # fmt: skip
def test_properties_that_cannot_be(record: dict[str, Any], name: str, value: Any, code: str) -> None:
    with pytest.raises(RecordRejected) as caught:
        normalised(changed(record, **{name: value}))
    assert caught.value.code == code


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"7", b"null", b"\xff", b"[" * 100_000])
def test_bytes_that_are_no_record(raw: bytes) -> None:
    with pytest.raises(RecordRejected) as caught:
        sentinelhub.contribution(CDSE, L2A, raw)
    assert caught.value.code == "record-malformed"


def test_the_demonstration_answers_as_the_service_does() -> None:
    client = TestClient(app_of(SentinelHubService(catalogue(40))))
    body = {"collections": ["sentinel-2-l2a"], "datetime": "2024-08-01T00:00:00Z/2025-08-01T00:00:00Z", "limit": 3}
    first = client.post(f"{PATH}/search", json=body).json()
    second = client.post(f"{PATH}/search", json={**body, "next": first["context"]["next"]}).json()
    assert first["context"] == {"limit": 3, "returned": 3, "next": 3}
    times = [one["properties"]["datetime"] for answer in (first, second) for one in answer["features"]]
    assert times == sorted(times, reverse=True)
    for wrong in (
        {"limit": 101},
        {"collections": ["dem"]},
        {"datetime": "2024-08-01T00:00:00Z/.."},
        {"datetime": None},
    ):
        answer = client.post(f"{PATH}/search", json={**body, **wrong})
        assert (answer.status_code, set(answer.json())) == (400, {"code", "description"})
