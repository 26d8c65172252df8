"""Requests at the edge of what a search may be: odd spellings that mean something, and what was answered late, wrongly or with a 500."""

from __future__ import annotations

import json
import socket
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.api.conftest import ITEMS

ITEMS_PATH = "/stac/collections/sentinel-2-l2a/items"
#: Around some of the items, and the same with heights.
BOX, WITH_HEIGHTS = "0.95,45,1.25,45.1", "0.95,45,-10,1.25,45.1,9000"


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [one["id"] for one in answer.json().get("features", answer.json().get("collections"))]


def code(answer: httpx.Response) -> str:
    assert answer.headers["content-type"] == "application/problem+json", answer.text[:300]
    assert answer.status_code == 400
    return str(answer.json()["code"])


# Boxes and times


def test_a_bbox_with_heights_is_not_refused_and_finds_what_it_finds_without(api: httpx.Client) -> None:
    for path in ("/stac/search", ITEMS_PATH):
        found = ids(api.get(path, params={"bbox": BOX}))
        assert found
        assert ids(api.get(path, params={"bbox": WITH_HEIGHTS})) == found
    assert ids(api.post("/stac/search", json={"bbox": [float(one) for one in WITH_HEIGHTS.split(",")]})) == found
    counted = api.get("/stac/aggregate", params={"bbox": WITH_HEIGHTS, "aggregations": "total_count"}).json()
    assert counted["aggregations"][0]["value"] == len(found)
    assert "sentinel-2-l2a" in ids(api.get("/stac/collections", params={"bbox": WITH_HEIGHTS}))


def test_collections_on_the_other_side_of_the_earth_are_not_found_across_the_antimeridian(api: httpx.Client) -> None:
    around_them = ids(api.get("/stac/collections", params={"bbox": BOX}))
    assert "sentinel-2-l2a" in around_them
    assert "sentinel-2-l2a" not in ids(api.get("/stac/collections", params={"bbox": "170,-80,-170,80"}))


@pytest.mark.parametrize("box", ["0,0,10,1,1,5", "0,0,0,1,1,1,1", "0,0,0,1,1"])
def test_boxes_that_are_none_are_told_so(api: httpx.Client, box: str) -> None:
    assert code(api.get("/stac/search", params={"bbox": box})) == "INVALID_BBOX"
    assert code(api.post("/stac/search", json={"bbox": [float(one) for one in box.split(",")]})) == "INVALID_BBOX"


@pytest.mark.parametrize("text", ["2016-12-31T23:59:60Z", "2016-12-31t15:59:60.5-08:00"])
def test_a_leap_second_is_a_time(api: httpx.Client, text: str) -> None:
    for interval, number in ((text, 0), (f"{text}/..", ITEMS), (f"../{text}", 0)):
        assert api.get("/stac/search", params={"datetime": interval, "limit": 1}).json()["numberMatched"] == number
        assert len(ids(api.post("/stac/search", json={"datetime": interval, "limit": 100}))) == number


@pytest.mark.parametrize("text", ["2026-03-01T10:10:60Z", "2016-12-31T23:59:61Z", "2016-12-30T23:59:60Z"])
def test_a_second_that_never_was_is_refused(api: httpx.Client, text: str) -> None:
    assert code(api.get("/stac/search", params={"datetime": text})) == "INVALID_DATETIME"
    assert code(api.post("/stac/search", json={"datetime": text})) == "INVALID_DATETIME"


# Parameters


@pytest.mark.parametrize("limit", ["1_0", "٣", "1e3", "+", "0x5"])
def test_numbers_are_digits_and_not_what_python_reads(api: httpx.Client, limit: str) -> None:
    for path in ("/stac/search", ITEMS_PATH, "/stac/collections"):
        assert code(api.get(path, params={"limit": limit})) == "INVALID_LIMIT"


def test_a_negative_offset_is_told_by_name(api: httpx.Client) -> None:
    answer = api.get("/stac/collections", params={"offset": -1})
    assert (code(answer), answer.json()["field"]) == ("INVALID_PARAMETER", "offset")


def test_lists_in_several_parameters_are_one_list(api: httpx.Client) -> None:
    assert sorted(ids(api.get("/stac/search?ids=SAMPLE_001&ids=SAMPLE_002"))) == ["SAMPLE_001", "SAMPLE_002"]
    assert len(ids(api.get("/stac/search?collections=uploads&collections=sentinel-2-l2a&limit=5"))) == 5
    assert ids(api.get("/stac/search?sortby=platform&sortby=-id&limit=1")) == [f"SAMPLE_{ITEMS - 1:03}"]
    both = api.get("/stac/aggregate?aggregations=total_count&aggregations=datetime_min").json()["aggregations"]
    assert [one["name"] for one in both] == ["total_count", "datetime_min"]


def test_bbox_and_intersects_together_are_told_to_be_one_too_many(api: httpx.Client) -> None:
    both: dict[str, Any] = {"bbox": [0, 0, 1, 1], "intersects": {"type": "Point", "coordinates": [0, 0]}}
    assert "not both" in api.post("/stac/search", json=both).json()["detail"]
    as_text = {"bbox": "0,0,1,1", "intersects": json.dumps(both["intersects"])}
    assert "not both" in api.get("/stac/search", params=as_text).json()["detail"]


def test_coordinates_of_another_system_are_not_taken_for_degrees(api: httpx.Client) -> None:
    here, other = "http://www.opengis.net/def/crs/OGC/1.3/CRS84", "http://www.opengis.net/def/crs/EPSG/0/3857"
    point = {"op": "s_intersects", "args": [{"property": "geometry"}, {"type": "Point", "coordinates": [1.05, 45.05]}]}
    for name in ("filter-crs", "bbox-crs", "crs"):
        assert (
            len(ids(api.get(ITEMS_PATH, params={name: here, "filter": "S_INTERSECTS(geometry, POINT(1.05 45.05))"})))
            == 1
        )
        assert code(api.get(ITEMS_PATH, params={name: other})) == "INVALID_PARAMETER"
    assert len(ids(api.post("/stac/search", json={"filter": point, "filter-crs": here}))) == 1
    assert code(api.post("/stac/search", json={"filter": point, "filter-crs": other})) == "INVALID_PARAMETER"


def test_a_comma_at_the_end_of_words_is_no_error(api: httpx.Client) -> None:
    assert ids(api.get("/stac/collections", params={"q": "radar,"})) == ["sentinel-1-grd"]
    assert len(ids(api.get("/stac/collections", params={"q": " , "}))) == 4


def test_links_of_collections_are_left_out_when_they_are_not_wanted(api: httpx.Client) -> None:
    def links(fields: str) -> set[bool]:
        found = api.get("/stac/collections", params={"fields": fields}).json()["collections"]
        return {"links" in one for one in found}

    assert links("-links") == links("id,title") == {False}
    assert links("links") == links("-extent") == {True}


# Geometries


RING = [[0, 0], [9, 0], [9, 9], [0, 0]]
NO_GEOMETRIES: list[Any] = [
    {"type": "Point", "coordinates": []}, {"type": "Point", "coordinates": [1]}, {"type": "Point", "coordinates": [1, 2, 3, 4]},
    {"type": "Point", "coordinates": ["1", "2"]}, {"type": "Point", "coordinates": [True, 1]}, {"type": "Point", "coordinates": [None, 1]},
    {"type": "LineString", "coordinates": [[0, 0]]}, {"type": "Polygon", "coordinates": [[]]}, {"type": "Polygon", "coordinates": RING},
    {"type": "Polygon", "coordinates": [RING[:3]]}, {"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, 9], [0, 9]]]},
    {"type": "MultiPolygon", "coordinates": [RING]}, {"type": "point", "coordinates": [1, 2]}, {"type": "Circle", "coordinates": [1, 2]},
    {"type": ["Point"], "coordinates": [1, 2]}, {"coordinates": [1, 2]}, {"type": "GeometryCollection", "geometries": [{"type": "Point"}]},
    {"type": "GeometryCollection", "coordinates": [1, 2]}, {"type": "Feature", "geometry": None, "properties": {}}, [], 5, "x",
]  # fmt: skip


@pytest.mark.parametrize("geometry", NO_GEOMETRIES, ids=lambda one: str(one)[:50])
def test_what_is_no_geometry_is_told_so_by_get_and_by_post(api: httpx.Client, geometry: Any) -> None:
    assert code(api.post("/stac/search", json={"intersects": geometry})) == "INVALID_GEOMETRY"
    assert code(api.get("/stac/search", params={"intersects": json.dumps(geometry)})) == "INVALID_GEOMETRY"


def test_every_type_of_geometry_is_searched_by(api: httpx.Client) -> None:
    at, ring = [1.05, 45.05], [[1, 45.01], [1.06, 45.01], [1.06, 45.09], [1, 45.01]]
    kinds: list[tuple[str, Any]] = [
        ("Point", at), ("Point", [*at, 100]), ("MultiPoint", [at, [80, 80]]), ("LineString", [at, [1.06, 45.06]]),
        ("MultiLineString", [[at, [1.06, 45.06]]]), ("Polygon", [ring]), ("MultiPolygon", [[ring]]),
    ]  # fmt: skip
    geometries: list[Any] = [{"type": kind, "coordinates": coordinates} for kind, coordinates in kinds]
    geometries.append({"type": "GeometryCollection", "geometries": geometries[:1]})
    for geometry in geometries:
        assert "SAMPLE_010" in ids(api.post("/stac/search", json={"intersects": geometry})), geometry


def test_collections_of_collections_without_end_are_refused(api: httpx.Client) -> None:
    text = '{"type":"GeometryCollection","geometries":[' * 300 + "]}" * 300
    assert code(api.get("/stac/search", params={"intersects": text})) == "INVALID_GEOMETRY"


# Sizes


def comparisons(number: int) -> list[Any]:
    return [{"op": "=", "args": [{"property": f"x{n}"}, n]} for n in range(number)]


TOO_MUCH: list[tuple[dict[str, Any], str]] = [
    ({"sortby": [{"field": f"x{n}", "direction": "asc"} for n in range(3000)]}, "TOO_MANY"),  # a 500 after a second
    ({"fields": {"include": [f"properties.x{n}" for n in range(501)]}}, "TOO_MANY"),  # 50,000 kept a processor busy for seconds
    ({"fields": {"include": ["properties" + ".x" * 300]}}, "INVALID_FIELDS"),
    ({"query": {f"x{n}": {"eq": n} for n in range(201)}}, "FILTER_TOO_LONG"),  # 2,000 ran into the database's time limit
    ({"query": {"x": {"in": list(range(11_000))}}}, "FILTER_TOO_LONG"),
    ({"filter": {"op": "or", "args": comparisons(201)}}, "FILTER_TOO_LONG"),
    ({"filter": {"op": "in", "args": [{"property": "id"}, ["x"] * 11_000]}}, "FILTER_TOO_LONG"),
    ({"ids": ["x"] * 100_000}, "TOO_MANY"),
    ({"unknown": [0] * 100_000}, "TOO_MANY"),
    ({"intersects": {"type": "LineString", "coordinates": [[n / 100, 0] for n in range(10_000)]}}, "GEOMETRY_TOO_LARGE"),
    ({"intersects": {"type": "MultiPolygon", "coordinates": [[]] * 10_000}}, "GEOMETRY_TOO_LARGE"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "expected"), TOO_MUCH, ids=lambda one: str(one)[:30])
def test_what_is_too_much_is_refused_before_the_database(api: httpx.Client, body: Any, expected: str) -> None:
    assert code(api.post("/stac/search", json=body)) == expected
    assert code(api.post("/stac/aggregate", json={**body, "aggregations": ["total_count"]})) == expected


def test_many_fields_to_sort_by_in_a_url_are_no_500(api: httpx.Client) -> None:
    assert code(api.get("/stac/search", params={"sortby": ",".join(f"x{n}" for n in range(3000))})) == "TOO_MANY"
    assert len(ids(api.get("/stac/search", params={"sortby": ",".join(f"x{n}" for n in range(20)), "limit": 3}))) == 3


def test_as_many_operators_as_are_said_are_taken(api: httpx.Client) -> None:
    assert ids(api.post("/stac/search", json={"filter": {"op": "and", "args": comparisons(199)}})) == []


def test_a_body_that_says_it_is_50_mb_is_refused_before_it_comes(api: httpx.Client) -> None:
    place = urlsplit(str(api.base_url))
    with socket.create_connection((str(place.hostname), int(place.port or 80)), timeout=5) as sender:
        sender.sendall(
            b"POST /stac/search HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nContent-Length: 50000000\r\n\r\n{"
        )
        assert sender.recv(100).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("path", ["/stac/collections/%00", "/stac/collections/a%00/items", f"{ITEMS_PATH}/%00"])
def test_a_nul_in_a_path_is_not_there(api: httpx.Client, path: str) -> None:
    answer = api.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")


# Methods

PLACES = (
    "", "/conformance", "/collections", "/collections/sentinel-2-l2a", "/collections/sentinel-2-l2a/items?limit=3", "/search?limit=3",
    "/collections/sentinel-2-l2a/items/SAMPLE_003", "/queryables", "/collections/sentinel-2-l2a/sortables", "/collections-queryables",
    "/aggregations", "/aggregate?aggregations=total_count", "/children", "/catalogs", "/api", "/api.html", "/nowhere",
    "/collections/nowhere", "/search?limit=0",
)  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_head_is_get_without_the_body(api: httpx.Client, place: str) -> None:
    whole, head = api.get(f"/stac{place}"), api.head(f"/stac{place}")
    varies = {"date", "content-length" if "/search" in place or "items?" in place else ""}  # tokens tell the time
    assert head.content == b""
    assert head.status_code == whole.status_code
    assert {name: value for name, value in head.headers.items() if name not in varies} == {
        name: value for name, value in whole.headers.items() if name not in varies
    }
    if tag := whole.headers.get("etag"):
        assert api.head(f"/stac{place}", headers={"If-None-Match": tag}).status_code == 304


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_a_request_of_no_path_is_no_server_error(api: httpx.Client, method: str) -> None:
    with socket.create_connection((api.base_url.host, api.base_url.port or 80), timeout=10) as plain:
        plain.sendall(f"{method} * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert plain.recv(4096).split(b" ")[1] in (b"400", b"404", b"405")


@pytest.mark.parametrize("page", ["/", "/upload"])
def test_pages_for_people_have_a_head(api: httpx.Client, page: str) -> None:
    head = api.head(page)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == api.get(page).headers["content-type"]


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/stac/", "GET, HEAD, OPTIONS"),
        ("/stac/search", "GET, HEAD, OPTIONS, POST"),
        ("/stac/collections", "GET, HEAD, OPTIONS, POST"),
        (ITEMS_PATH, "GET, HEAD, OPTIONS, POST"),
        (f"{ITEMS_PATH}/SAMPLE_003", "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"),
        ("/stac/collections/sentinel-2-l2a/bulk_items", "OPTIONS, POST"),
        ("/stac/api", "GET, HEAD, OPTIONS"),
    ],
)
def test_a_path_tells_all_methods_that_it_takes(api: httpx.Client, path: str, methods: str) -> None:
    asked, refused = api.options(path), api.request("TRACE", path)
    assert (asked.status_code, asked.headers["allow"], asked.content) == (204, methods, b"")
    assert (refused.status_code, refused.headers["allow"]) == (405, methods)
    assert api.options("/stac/nowhere").status_code == 404
