"""Records of the HDA broker: names are exact, much else is not known."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from ingest.errors import RecordRejected
from ingest.model import CollectionMapping, Contribution
from ingest.normalise import hda
from ingest.source_files import find_source, load_sources
from tests.stac_schemas import faults
from tests.upstreams.hda import WORLD, feature
from tests.upstreams.products import FEDERATED, catalogue, product

WEKEO = find_source(load_sources(), "wekeo")
MAPPINGS = {mapping.id: mapping for mapping in WEKEO.collections}
L2A = product(1)


def normalised(record: Any, mapping: CollectionMapping = MAPPINGS["sentinel-2-l2a"]) -> Contribution:
    return hda.contribution(WEKEO, mapping, orjson.dumps(record))


def record(**properties: Any) -> dict[str, Any]:
    found = feature(L2A)
    return {**found, "properties": {**found["properties"], **properties}}


def rectangle(west: float, south: float, east: float, north: float) -> dict[str, Any]:
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


def test_a_record_says_what_it_knows() -> None:
    found = normalised(record())
    item, properties = found.item, found.item["properties"]
    assert (item["id"], found.product, found.published) == (L2A.stem, L2A.name, None)
    assert properties["start_datetime"] == properties["datetime"] <= properties["end_datetime"]
    assert properties["sat:absolute_orbit"] == L2A.orbit
    assert properties["eo:cloud_cover"] == L2A.cloud
    asset = item["assets"]["Product"]
    assert asset["file:size"] == L2A.size
    assert asset["auth:refs"] == list(properties["auth:schemes"])
    assert item["assets"]["thumbnail"]["href"].startswith("https://")
    assert item["links"][0]["href"] == f"{WEKEO.url}/datasets/EO:ESA:DAT:SENTINEL-2"
    assert found.warnings == ()
    assert faults(item) == []


def test_invented_products_are_valid_items_with_nothing_unread() -> None:
    for one in catalogue(160):
        if one.kind in ("L1C", "L2A", "GRD"):
            found = normalised(feature(one), MAPPINGS[FEDERATED[one.kind]])
            assert found.product == one.name
            assert found.warnings == ()
            assert faults(found.item) == []


@pytest.mark.parametrize("size", ["ND", "", None, 0, -1, True, [], "12 MB", 1.5])
def test_a_size_that_nobody_knows_is_none(size: Any) -> None:
    found = normalised(record(size=size))
    assert "file:size" not in found.item["assets"]["Product"]
    assert found.warnings == ()


def test_a_size_may_be_a_text() -> None:
    assert normalised(record(size="123456")).item["assets"]["Product"]["file:size"] == 123456


@pytest.mark.parametrize(
    "location", ["S2A_MSIL2A/x.zip", "s3://bucket/key", "javascript:alert(1)", "http://[", "", None, 7]
)
def test_a_location_that_is_no_address_is_no_asset(location: Any) -> None:
    found = normalised(record(location=location))
    assert set(found.item["assets"]) == {"thumbnail"}
    assert "auth:schemes" not in found.item["properties"]


@pytest.mark.parametrize(
    "geometry",
    [None, {}, [], WORLD, rectangle(-180, -90, 180, 90), rectangle(-179.9, -60, 179.9, 75), rectangle(0, -90, 360, 90),
     {"type": "MultiPolygon", "coordinates": [WORLD["coordinates"]]}, {"type": "Polygon", "coordinates": []}],
)  # fmt: skip
def test_the_extent_of_a_dataset_is_no_footprint(geometry: Any) -> None:
    with pytest.raises(RecordRejected) as caught:
        normalised({**record(), "geometry": geometry})
    assert caught.value.code in ("footprint-missing", "geometry-invalid")
    if geometry != {"type": "Polygon", "coordinates": []}:
        assert caught.value.code == "footprint-missing"


AROUND_THE_POLE = {
    "type": "MultiPolygon",
    "coordinates": [rectangle(west, -85, west + 90, -70)["coordinates"] for west in (-180, -90, 0, 90)],
}


@pytest.mark.parametrize("geometry", [rectangle(10, 50, 11, 51), AROUND_THE_POLE, rectangle(-179.5, -17, 179.5, -16)])
def test_a_product_at_a_pole_or_across_the_antimeridian_is_not_the_world(geometry: Any) -> None:
    assert normalised({**record(), "geometry": geometry}).item["geometry"]


def test_a_record_without_geometry_is_refused() -> None:
    found = record()
    del found["geometry"]
    with pytest.raises(RecordRejected) as caught:
        normalised(found)
    assert caught.value.code == "footprint-missing"


@pytest.mark.parametrize("metadata", [
    {"cloudCover": 250}, {"cloudCover": "low"}, {"relativeOrbitNumber": 0}, {"relativeOrbitNumber": []}, {"orbitNumber": True},
    {"orbitDirection": "SIDEWAYS"}, {"mood": "good"},
])  # fmt: skip
def test_metadata_that_cannot_be_are_counted_and_not_taken(metadata: dict[str, Any]) -> None:
    found = normalised(record(metadata=metadata))
    assert found.warnings == (f"properties.metadata.{next(iter(metadata))}",)
    assert faults(found.item) == []


def test_metadata_may_be_texts() -> None:
    told = {
        "cloudCover": "12.5",
        "relativeOrbitNumber": str(L2A.relative_orbit),
        "orbitDirection": "DESCENDING",
        "timeliness": "NRT-3h",
    }
    properties = normalised(record(metadata=told)).item["properties"]
    assert properties["eo:cloud_cover"] == 12.5
    assert properties["sat:relative_orbit"] == L2A.relative_orbit
    assert properties["sat:orbit_state"] == "descending"
    assert properties["product:timeliness"] == "PT3H"


def test_metadata_that_contradict_the_name_are_refused() -> None:
    with pytest.raises(RecordRejected) as caught:
        normalised(record(metadata={"relativeOrbitNumber": L2A.relative_orbit % 143 + 1}))
    assert caught.value.code == "name-contradicts"


@pytest.mark.parametrize(
    ("change", "code"),
    [({"id": None}, "field-missing"), ({"id": 7}, "field-malformed"), ({"id": "S3A_OL_1"}, "product-name-unknown"),
     ({"properties": None}, "field-missing"), ({"properties": "text"}, "field-malformed")],
)  # fmt: skip
def test_what_is_missing_or_malformed_is_refused(change: dict[str, Any], code: str) -> None:
    with pytest.raises(RecordRejected) as caught:
        normalised({**record(), **change})
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("change", "code"),
    [({"startdate": None}, "field-missing"), ({"enddate": None}, "field-missing"), ({"startdate": "2024-08-01"}, "datetime-invalid"),
     ({"startdate": "2024-08-01T00:00:00"}, "datetime-invalid"), ({"enddate": "1999-01-01T00:00:00Z"}, "datetime-invalid"),
     ({"metadata": []}, "field-malformed"), ({"metadata": {"orbitDirection": 7}}, "field-malformed")],
)  # fmt: skip
def test_properties_that_cannot_be(change: dict[str, Any], code: str) -> None:
    with pytest.raises(RecordRejected) as caught:
        normalised(record(**change))
    assert caught.value.code == code


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000])
def test_bytes_that_are_no_record(raw: bytes) -> None:
    with pytest.raises(RecordRejected) as caught:
        hda.contribution(WEKEO, MAPPINGS["sentinel-2-l2a"], raw)
    assert caught.value.code == "record-malformed"
