"""GEODES, the dialect of STAC that pages by number: against a portal that sorts and caps as the real one."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import box, shape

from ingest.adapters import adapter_for
from ingest.adapters.stac import Stac
from ingest.errors import RecordRejected, SourceInvalid, UpstreamChanged
from ingest.model import CollectionMapping, Contribution, Cursor, Page, Query, Record, Source
from ingest.source_files import find_source, load_sources
from tests.ingest.sensed_harvest import PATH, ids, read, served
from tests.shared import shared_path
from tests.size import sized
from tests.stac_schemas import faults
from tests.upstreams.geodes import GeodesService, item, milliseconds, urn
from tests.upstreams.products import Product, catalogue, product

OFFERED = catalogue(1200)
L1C = [one for one in OFFERED if one.kind == "L1C"]
GRD = [one for one in OFFERED if one.kind == "GRD"]
SOURCE = Source("portal", "Portal", "stac", f"http://127.0.0.1{PATH}", requests_per_second=1e6)
UPSTREAM = {"dialect": "geodes", "collection": "PEPS_S2_L1C", "watermark": "properties.start_datetime"}
RADAR = {**UPSTREAM, "collection": "PEPS_S1_L1", "product_type": "GRD"}
T = datetime(2026, 1, 1, tzinfo=UTC)


def adapter(query: Query | None = None, source: Source = SOURCE, **options: Any) -> Stac:
    upstream, page_size = options.pop("upstream", UPSTREAM), options.pop("page_size", 20)
    return Stac(source, CollectionMapping("sentinel-2-l1c", upstream), query, page_size, **options)


def urns(products: Sequence[Product]) -> Counter[str]:
    return Counter(urn(one) for one in products)


def at(number: int, start_ms: int) -> Product:
    start = T + timedelta(milliseconds=start_ms)
    return replace(product(4 * number), start=start, end=start)


@pytest.mark.parametrize(("upstream", "offered"), [(UPSTREAM, L1C), (RADAR, GRD)], ids=["optical", "radar"])
async def test_every_product_once_in_order_and_their_number_beforehand(
    upstream: dict[str, Any], offered: list[Product]
) -> None:
    pages = await read(adapter(upstream=upstream), SOURCE, service=GeodesService(OFFERED))
    assert Counter(ids(pages)) == urns(offered)
    assert {page.total for page in pages} == {len(offered)}
    begun = {urn(one): milliseconds(one.start) for one in offered}
    assert [begun[one] for one in ids(pages)] == sorted(begun.values())


async def test_the_request_is_as_clients_send_it() -> None:
    service = GeodesService(OFFERED)
    query = Query(T - timedelta(days=300), T, (-10.0, -20.0, 30.0, 40.0))
    await read(adapter(query, page_size=500, upstream=RADAR), SOURCE, service=service)
    assert service.asked[0] == {
        "collections": ["PEPS_S1_L1"],
        "query": {
            "start_datetime": {"gte": "2025-03-07T00:00:00.000Z", "lte": "2025-12-31T23:59:59.999Z"},
            "product:type": {"eq": "GRD"},
        },
        "sortBy": [{"field": "start_datetime", "direction": "asc"}],
        "limit": 80,
        "page": 1,
        "bbox": [-10.0, -20.0, 30.0, 40.0],
    }


async def test_everything_is_read_once_through_all_faults() -> None:
    with served(GeodesService(OFFERED)) as (url, control):
        for number, kind in enumerate(("429", "500", "html", "cut", "reset", "503")):
            control.fail(kind, after=2 * number, retry_after=0 if kind == "429" else None)
        source = replace(SOURCE, url=url)
        pages = await read(adapter(source=source), source)
        assert control.state()["faults"] == []
    assert Counter(ids(pages)) == urns(L1C)


async def test_a_datatake_with_more_tiles_than_a_page_is_paged_by_number_in_the_order_of_names() -> None:
    crowd = [at(n, 0 if n < 150 else n) for n in range(180)]
    service = GeodesService([*crowd, *L1C[:30]], shuffle=random.Random(1))
    found = ids(await read(adapter(), SOURCE, service=service))
    assert Counter(found) == urns([*crowd, *L1C[:30]])
    assert {one["page"] for one in service.asked} == set(range(1, 9))


async def test_publication_can_be_walked_along_too() -> None:
    upstream = {**UPSTREAM, "watermark": "properties.datetime"}
    one = adapter(upstream=upstream)
    pages = await read(one, SOURCE, service=GeodesService(OFFERED, shuffle=random.Random(2)))
    assert Counter(ids(pages)) == urns(L1C)
    assert (one.AXIS, adapter().AXIS) == ("published", "sensed")


async def test_products_that_come_and_go_while_we_read_shift_nothing() -> None:
    base = [at(n, 1000 + n) for n in range(120)]
    service = GeodesService(base)
    service.before_answer = lambda number: service.offer([*base[5:], at(900, 1)]) if number == 3 else None
    assert Counter(ids(await read(adapter(), SOURCE, service=service))) == urns(base)


@settings(max_examples=30, deadline=None)
@given(times=st.lists(st.integers(0, 12), max_size=50), page_size=st.integers(1, 9), stop_after=st.integers(1, 6))
async def test_a_run_that_stops_anywhere_resumes_without_loss(
    times: list[int], page_size: int, stop_after: int
) -> None:
    offered = [*(at(n, when) for n, when in enumerate(times)), at(999, 13)]
    service = GeodesService(offered)
    found: list[str] = []
    cursor: Cursor | None = None
    for _ in range(300):
        pages: list[Page] = await read(
            adapter(page_size=page_size), SOURCE, cursor, service=service, stop_after=stop_after
        )
        found += ids(pages)
        if len(pages) < stop_after or pages[-1].cursor == cursor:
            break
        cursor = orjson.loads(orjson.dumps(pages[-1].cursor))
    found += ids(await read(adapter(page_size=page_size), SOURCE, cursor, service=service))
    assert set(found) == set(urns(offered))


async def test_a_new_run_reads_the_overlap_again() -> None:
    service = GeodesService([at(n, 1000 * n) for n in range(60)])
    pages = await read(adapter(), SOURCE, service=service)
    cursor = adapter().rewound(pages[-1].cursor, timedelta(seconds=9), T + timedelta(days=1))
    assert Counter(ids(await read(adapter(), SOURCE, cursor, service=service))) == urns(
        [at(n, 0) for n in range(50, 60)]
    )


@pytest.mark.parametrize("bbox", [(-60.0, -40.0, 60.0, 40.0), (150.0, -60.0, -120.0, 60.0)])
async def test_an_area_on_both_sides_of_the_antimeridian(bbox: tuple[float, float, float, float]) -> None:
    west, south, east, north = bbox
    sides = [box(*bbox)] if west < east else [box(west, south, 180, north), box(-180, south, east, north)]
    wanted = [one for one in L1C if any(shape(one.geometry()).intersects(side) for side in sides)]
    found = ids(await read(adapter(Query(bbox=bbox)), SOURCE, service=GeodesService(OFFERED)))
    assert Counter(found) == urns(wanted)
    assert 10 < len(wanted) < len(L1C)


@pytest.mark.slow
async def test_many_products() -> None:
    offered = catalogue(sized(8_000, 25_000))
    service = GeodesService(offered)
    wanted = [one for one in offered if one.kind == "L1C"]
    with served(service) as (url, control):
        for number, kind in enumerate(("429", "500", "html", "cut", "reset")):
            control.fail(kind, after=7 * number, retry_after=0 if kind == "429" else None)
        source = replace(SOURCE, url=url)
        pages = await read(adapter(source=source, page_size=500), source)
        assert control.state()["faults"] == []
    assert Counter(ids(pages)) == urns(wanted)
    assert len(service.asked) < 2 * len(wanted) / 80


# Settings and answers of another shape


@pytest.mark.parametrize(
    "upstream",
    [
        {"dialect": "atom"},
        {"dialect": None, "product_type": "GRD"},
        {"collection": ["PEPS_S2_L1C"]},
        {"watermark": "id"},
    ],
)
def test_a_mapping_that_the_dialect_cannot_ask_for_is_refused(upstream: dict[str, Any]) -> None:
    with pytest.raises(SourceInvalid, match="portal: "):
        adapter(upstream={**UPSTREAM, **upstream})


def good(**changes: Any) -> dict[str, Any]:
    return {
        "id": "a",
        "collection": "PEPS_S2_L1C",
        "properties": {"start_datetime": "2026-01-01T00:00:00.000Z"},
        **changes,
    }


def answer(features: Any, matched: Any = 1) -> dict[str, Any]:
    return {"features": features, "context": {"matched": matched}}


@pytest.mark.parametrize(
    "told",
    [
        [],
        {},
        {"features": []},
        answer({}),
        {"features": [], "context": []},
        answer([], None),
        answer([], True),
        answer([], 1),
        answer(["text"]),
        answer([good(id=None)]),
        answer([good(collection="PEPS_S1_L1")]),
        answer([good(collection=None)]),
        answer([good(properties=[])]),
        answer([good(properties={})]),
        answer([good(properties={"start_datetime": "2026-01-01"})]),
        answer([good(properties={"start_datetime": "2026-01-02T00:00:00Z"}), good()], 9),
        answer([good()], 9),  # for ever the same page
    ],
)
async def test_an_answer_of_another_shape_stops_the_run(told: Any) -> None:
    service = GeodesService([])
    service.alter = lambda number, _: told
    with pytest.raises(UpstreamChanged, match="portal"):
        await read(adapter(), SOURCE, service=service)


# Items


GEODES = find_source(load_sources(), "geodes")


def recorded() -> dict[str, Any]:
    path = shared_path("upstreams", "recordings", "geodes", "search.json")
    return dict(json.loads(path.read_text(encoding="utf-8"))["features"][0])


def normalised(record: Any, number: int = 0) -> Contribution:
    return adapter_for(GEODES, GEODES.collections[number]).item(Record("a", orjson.dumps(record)))


def changed(**properties: Any) -> dict[str, Any]:
    found = item(L1C[0], "https://portal.example.org")
    return {**found, "properties": {**found["properties"], **properties}}


def with_file(**members: Any) -> dict[str, Any]:
    found = changed()
    (key, file), *_ = [(key, file) for key, file in found["assets"].items() if file["roles"] == ["data"]]
    return {**found, "assets": {key: {**file, **members}}}


def test_the_recorded_item_is_valid_and_knows_its_product() -> None:
    found = normalised(recorded())
    name = "S2A_MSIL1C_20250402T175741_N0511_R141_T14ULD_20250403T022035"
    told = found.item["properties"]
    assert (found.item["id"], found.product, found.warnings) == (name, f"{name}.SAFE", ())
    assert told["datetime"] == told["start_datetime"] == "2025-04-02T17:57:41.024000Z"
    assert told["published"] == "2025-04-03T09:00:26.809000Z"
    assert (told["order:status"], told["sat:orbit_state"], told["processing:level"]) == (
        "orderable",
        "descending",
        "L1",
    )
    asset = found.item["assets"]["Product"]
    assert (asset["file:size"], asset["file:checksum"]) == (764_210_185, "d5011086f828c4c7e921615d1cd0476604f780")
    assert told["auth:schemes"]["key"]["name"] == "X-API-Key"
    assert faults(found.item) == []


@pytest.mark.parametrize(("offered", "number"), [(L1C, 0), (GRD, 1)], ids=["optical", "radar"])
def test_invented_products_are_valid_items_with_nothing_unread(offered: list[Product], number: int) -> None:
    for one in offered[:60]:
        found = normalised(item(one, "https://portal.example.org"), number)
        assert (found.product, found.warnings) == (one.name, ())
        assert found.item["properties"].get("order:status") == (None if one.online else "orderable")
        assert found.item["properties"].get("eo:cloud_cover") == one.cloud
        assert faults(found.item) == []


@pytest.mark.parametrize(
    ("properties", "unread"),
    [
        ({"eo:cloud_cover": 250}, "eo:cloud_cover"),
        ({"eo:cloud_cover": "low"}, "eo:cloud_cover"),
        ({"sat:absolute_orbit": True}, "sat:absolute_orbit"),
        ({"sat:absolute_orbit": 0}, "sat:absolute_orbit"),
        ({"sat:orbit_state": "Sideways"}, "sat:orbit_state"),
        ({"processing:level": "L9"}, "processing:level"),
        ({"mood": "good"}, "mood"),
    ],
)
def test_facts_that_cannot_be_are_counted_and_not_taken(properties: dict[str, Any], unread: str) -> None:
    found = normalised(changed(**properties))
    assert found.warnings == (f"properties.{unread}",)
    assert faults(found.item) == []


@pytest.mark.parametrize("told", [None, 7, "", "File size: many bytes", "File size: 0 bytes\n\nChecksum MD5: zz"])
def test_a_description_that_says_nothing_adds_nothing(told: Any) -> None:
    found = normalised(with_file(description=told)).item
    assert not {"file:size", "file:checksum"} & set(found["assets"]["Product"])
    assert "order:status" not in found["properties"]


@pytest.mark.parametrize(
    "members", [{"href": "javascript:alert(1)"}, {"roles": None}, {"roles": ["iso"]}, {"type": "text/html"}]
)
def test_files_that_are_not_the_product_are_no_assets(members: dict[str, Any]) -> None:
    found = normalised(with_file(**members))
    assert found.item["assets"] == {}
    assert len(found.warnings) == 1


@pytest.mark.parametrize(
    ("record", "code"),
    [
        ({**changed(), "id": None}, "field-missing"),
        ({**changed(), "properties": []}, "field-malformed"),
        ({**changed(), "assets": []}, "field-malformed"),
        ({**changed(), "assets": {"a": "text"}}, "field-malformed"),
        ({**changed(), "geometry": None}, "footprint-missing"),
        (with_file(href=None), "field-malformed"),
        (changed(identifier=None), "field-missing"),
        (changed(identifier="URN:FEATURE"), "product-name-unknown"),
        (changed(datetime="2025"), "datetime-invalid"),
        (changed(start_datetime=None), "field-missing"),
        (changed(**{"sat:relative_orbit": L1C[0].relative_orbit % 143 + 1}), "name-contradicts"),
    ],
)
def test_what_cannot_be_is_refused(record: Any, code: str) -> None:
    with pytest.raises(RecordRejected) as caught:
        normalised(record)
    assert caught.value.code == code
