"""`/stac` with an unmodified client and with requests that hurt."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pystac_client
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.guard import check_search
from api.problems import Problem
from api.settings import ApiSettings
from api.stac.filter_bounds import check_cql2_text
from tests.api.conftest import ITEMS
from tests.stac_schemas import faults

FILTER_URIS = {
    "https://api.stacspec.org/v1.0.0/item-search#filter",
    "https://api.stacspec.org/v1.0.0-rc.2/item-search#filter",
}


def test_pystac_client_walks_all_pages(api: httpx.Client) -> None:
    client = pystac_client.Client.open(f"{api.base_url}/stac")
    found = [item.id for item in client.search(collections=["sentinel-2-l2a"], limit=10).items()]
    assert sorted(found) == [f"SAMPLE_{number:03}" for number in range(ITEMS)]
    by_get = [item.id for item in client.search(collections=["sentinel-2-l2a"], limit=10, method="GET").items()]
    assert by_get == found


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_search_by_bbox_time_and_cql2(api: httpx.Client, method: Any) -> None:
    client = pystac_client.Client.open(f"{api.base_url}/stac")
    search = client.search(
        collections=["sentinel-2-l2a"], bbox=[0.95, 45, 2.05, 45.1], datetime="2026-03-01/2026-03-18", method=method,
        filter="eo:cloud_cover < 15" if method == "GET" else {"op": "<", "args": [{"property": "eo:cloud_cover"}, 15]},
        filter_lang="cql2-text" if method == "GET" else "cql2-json",
    )  # fmt: skip
    assert sorted(item.id for item in search.items()) == [f"SAMPLE_{number:03}" for number in range(9, 15)]


def test_a_bbox_across_the_antimeridian_finds_both_sides_and_not_the_rest(api: httpx.Client) -> None:
    """RFC 7946, 5.2; the stock server answers with the whole world."""
    for box in ("179,44,0.55,46", "5.75,44,-179,46"):
        answer = api.get("/stac/search", params={"bbox": box, "limit": 100}).json()
        wests = sorted(feature["bbox"][0] for feature in answer["features"])
        assert wests == ([n / 10 for n in range(6)] if box.startswith("179") else [])
        assert answer["numberMatched"] == len(wests)
        posted = api.post("/stac/search", json={"bbox": [float(one) for one in box.split(",")], "limit": 100}).json()
        assert len(posted["features"]) == len(wests)


def test_sort_fields_and_query(api: httpx.Client) -> None:
    answer = api.get(
        "/stac/search", params={"sortby": "-eo:cloud_cover", "fields": "id,properties.eo:cloud_cover", "limit": 3}
    ).json()
    assert [feature["id"] for feature in answer["features"]] == [f"SAMPLE_{ITEMS - n:03}" for n in (1, 2, 3)]
    assert "assets" not in answer["features"][0]
    body = {"query": {"eo:cloud_cover": {"gte": ITEMS - 2}}}
    assert len(api.post("/stac/search", json=body).json()["features"]) == 2


def test_items_are_valid_and_know_their_history(api: httpx.Client) -> None:
    item = api.get("/stac/collections/sentinel-2-l2a/items/SAMPLE_003").json()
    assert faults(item) == []
    links = {link["rel"]: link["href"] for link in item["links"] if link.get("type") != "text/html"}
    assert links["self"] == f"{api.base_url}/stac/collections/sentinel-2-l2a/items/SAMPLE_003"
    assert api.get(links["version-history"]).json()[0]["product"]["name"] == "SAMPLE_003.SAFE"
    assert [event["kind"] for event in api.get(links["lineage"]).json()["events"]] == ["REGISTER"]


def test_every_link_of_the_landing_page_answers_and_stays_here(api: httpx.Client) -> None:
    landing = api.get("/stac").json()
    assert set(landing["conformsTo"]) >= FILTER_URIS
    for link in landing["links"]:
        assert link["href"].startswith(f"{api.base_url}/stac"), link
        if link.get("method", "GET") == "GET":
            assert api.get(link["href"], follow_redirects=True).status_code == 200, link


def test_collections_are_valid_and_searchable(api: httpx.Client) -> None:
    found = api.get("/stac/collections").json()["collections"]
    assert {collection["id"] for collection in found} == {
        "sentinel-1-grd",
        "sentinel-2-l1c",
        "sentinel-2-l2a",
        "uploads",
    }
    for collection in found:
        assert faults(collection, "collection") == []
    assert [one["id"] for one in api.get("/stac/collections", params={"q": "upload"}).json()["collections"]] == [
        "uploads"
    ]


def test_links_never_come_from_headers(api: httpx.Client) -> None:
    headers = {
        "Host": "evil.example",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "https",
        "Forwarded": "host=evil.example",
    }
    for path in ("/stac", "/stac/search?limit=1", "/", "/stac/collections/sentinel-2-l2a/items/SAMPLE_001"):
        assert "evil.example" not in api.get(path, headers=headers).text


BAD_GET = [
    {"bbox": "1,2,3"}, {"bbox": "a,b,c,d"}, {"bbox": "nan,0,1,1"}, {"bbox": "0,10,1,5"}, {"bbox": "0,-100,1,5"},
    {"bbox": "1e400,0,1,1"}, {"datetime": "yesterday"}, {"datetime": "2026-01-02T00:00:00Z/2026-01-01T00:00:00Z"}, {"datetime": ".."},
    {"datetime": "2026-01-01 00:00:00"}, {"filter": "eo:cloud_cover << 3"}, {"filter": "(" * 3000 + "1=1" + ")" * 3000},
    {"filter": "NOT " * 3000 + "1=1"}, {"filter": "a=1 OR " * 1000 + "a=1"}, {"filter": "{}", "filter-lang": "cql2-json"},
    {"filter": "{", "filter-lang": "cql2-json"}, {"limit": "0"}, {"limit": "-1"}, {"limit": "many"}, {"limit": "1.5"},
    {"token": "next:nobody:nothing"}, {"token": "'; drop table x"}, {"token": "next"}, {"ids": ",".join(["x"] * 1001)}, {"ids": "a\0b"},
    {"intersects": "{}"}, {"intersects": "POINT(1 1)"}, {"intersects": json.dumps({"type": "Point", "coordinates": [[[1]]]})},
    {"query": "["}, {"query": "7"}, {"collections": "a\0"}, {"sortby": "+\0"}, {"filter": "a = '\0'"},
    {"filter": "geometry=1"}, {"fields": ","}, {"fields": "id,,geometry"}, {"fields": "-"}, {"sortby": "id,,datetime"}, {"sortby": "+"},
]  # fmt: skip


def assert_problem(answer: httpx.Response) -> None:
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text[:300])
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert set(problem) >= {"type", "title", "status", "detail", "code", "description"}
    assert problem["status"] == answer.status_code


@pytest.mark.parametrize("parameters", BAD_GET, ids=lambda parameters: str(parameters)[:40])
def test_bad_searches_are_problems(api: httpx.Client, parameters: dict[str, str]) -> None:
    assert_problem(api.get("/stac/search", params=parameters))


@pytest.mark.parametrize("name", ["limit", "offset"])
def test_a_place_beyond_64_bits_in_the_list_of_collections_is_no_500(api: httpx.Client, name: str) -> None:
    answer = api.get("/stac/collections", params={name: str(10**30)})
    assert answer.status_code == 200
    assert len(answer.json()["collections"]) == (0 if name == "offset" else answer.json()["numberMatched"])


BAD_POST: list[Any] = [
    b"{", b"[]", b"7", b"\xff\xfe", b'{"bbox": "here"}', b'{"bbox": [1, 2]}', b'{"filter": {"op": "nonsense"}}', b'{"limit": true}',
    b'{"filter": {"op": "nonsense", "args": [1, 2]}}', b'{"ids": 7}', b'{"ids": [7]}', b'{"collections": {"a": 1}}', b'{"datetime": 7}',
    b'{"query": []}', b'{"fields": 7}', b'{"sortby": 7}', b'{"sortby": [{"field": 1}]}', b'{"token": 7}', b'{"intersects": 7}',
    b'{"fields": null}',
    b'{"fields": []}', b'{"fields": {"include": "id"}}', b'{"fields": {"exclude": [1]}}', b'{"sortby": [{"direction": "asc"}]}',
    b'{"query": {"eo:cloud_cover": {"nonsense": 1}}}', b'{"limit": NaN}', b'{"ids": ["\\ud800"]}', b'{"ids": ["\\u0000"]}',
    b'{"filter": ' + b'{"op":"not","args":[' * 3000 + b"1" + b"]}" * 3000 + b"}",
    b'{"intersects": {"type": "Polygon", "coordinates": [[' + b"[1,1]," * 20000 + b"[1,1]]]}}",
]  # fmt: skip


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/xml", "json", "", "a" * 500]
)
def test_a_body_that_is_no_json_by_its_own_words_is_a_415_and_no_500(api: httpx.Client, kind: str) -> None:
    answer = api.post("/stac/search", content=b'{"limit": 1}', headers={"Content-Type": kind})
    assert answer.status_code == 415
    assert answer.json()["code"] == "UNSUPPORTED_MEDIA_TYPE"


@pytest.mark.parametrize("kind", [None, "application/geo+json", "application/JSON; charset=utf-8"])
def test_json_is_taken_under_its_other_names_and_without_one(api: httpx.Client, kind: str | None) -> None:
    request = api.build_request("POST", "/stac/search", content=b'{"limit": 1}')
    if kind is not None:
        request.headers["Content-Type"] = kind
    assert len(api.send(request).json()["features"]) == 1


@pytest.mark.parametrize("body", BAD_POST, ids=lambda body: str(body)[:50])
def test_bad_bodies_are_problems(api: httpx.Client, body: bytes) -> None:
    assert_problem(api.post("/stac/search", content=body, headers={"Content-Type": "application/json"}))


def test_a_huge_body_is_refused(api: httpx.Client) -> None:
    answer = api.post("/stac/search", content=b" " * (2**20 + 1), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert answer.json()["code"] == "BODY_TOO_LARGE"


@pytest.mark.parametrize(
    "path",
    ["/stac/collections/nowhere", "/stac/collections/nowhere/items", "/stac/collections/uploads/items/x", "/stac/x"],
)
def test_what_is_not_there_is_404(api: httpx.Client, path: str) -> None:
    answer = api.get(path)
    assert_problem(answer)
    assert answer.status_code == 404


def test_an_unknown_collection_finds_nothing(api: httpx.Client) -> None:
    assert api.get("/stac/search", params={"collections": "nowhere"}).json()["features"] == []


NAMES = st.sampled_from(
    [
        "bbox",
        "datetime",
        "limit",
        "filter",
        "filter-lang",
        "ids",
        "collections",
        "sortby",
        "fields",
        "query",
        "token",
        "intersects",
    ]
)


@given(
    st.dictionaries(
        NAMES,
        st.text(max_size=30)
        | st.sampled_from(["1,2,3,4", "cql2-json", "-id", "{}", "id,-geometry", "a=b", "eo:cloud_cover > 3"]),
        max_size=4,
    )
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_query_string_is_a_500(api: httpx.Client, parameters: dict[str, str]) -> None:
    try:
        answer = api.get("/stac/search", params=parameters)
    except UnicodeEncodeError:
        return
    assert answer.status_code < 500, (parameters, answer.text[:300])


@given(st.text(alphabet="()NOT ANDOR'\"=<>ab1,", max_size=200))
@settings(deadline=None)
def test_the_guard_answers_or_refuses_any_text(text: str) -> None:
    try:
        check_cql2_text(text, ApiSettings())
    except Problem as problem:
        assert problem.status == 400  # noqa: PT017 - the refusal is one of two good ends


def test_the_guard_takes_what_users_send() -> None:
    check_search(
        {"bbox": [1, 2, 3, 4], "datetime": "../2026-01-01T00:00:00Z", "limit": 10, "ids": ["a"], "collections": ["b"],
         "filter": "(a = 1 AND NOT (b LIKE 'x%')) OR S_INTERSECTS(geometry, POINT(1 2))"}, ApiSettings(),
    )  # fmt: skip
