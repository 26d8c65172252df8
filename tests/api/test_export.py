"""A search as GeoParquet: read back by others' readers it holds the items of the search, all of them, in its order."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import stac_geoparquet.arrow

from api.settings import ApiSettings
from db.settings import DatabaseSettings
from tests.api.corpus import COLLECTIONS, GRD, L1C, fill
from tests.api.server import listening, running
from tests.api.test_documents import execute
from tests.conftest import cloned

PARQUET = "application/vnd.apache.parquet"
ITEMS = 1200
MOST = 1000


@pytest.fixture(scope="module")
def database(postgres: DatabaseSettings, template: str) -> Iterator[DatabaseSettings]:
    with cloned(postgres, template) as settings:
        asyncio.run(fill(settings, ITEMS))
        yield settings


@pytest.fixture(scope="module")
def http(database: DatabaseSettings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    listener, url = listening()
    settings = ApiSettings(data_dir=tmp_path_factory.mktemp("export"), public_url=url, export_max_items=MOST)
    with running(settings, database, listener), httpx.Client(base_url=f"{url}/stac", timeout=60) as client:
        yield client


def walked(http: httpx.Client, asked: dict[str, Any]) -> list[dict[str, Any]]:
    """All items of a search, page by page."""
    found, body = [], {**asked, "limit": 500}
    while True:
        page = http.post("/search", json=body).json()
        found += page["features"]
        following = [link for link in page["links"] if link["rel"] == "next"]
        if not following:
            return found
        body = following[0]["body"]


def table_of(answer: httpx.Response) -> pa.Table:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == PARQUET
    return pq.read_table(io.BytesIO(answer.content))


def plain(value: Any) -> Any:
    """An item without what JSON and Parquet say differently: members that are null, writing of times and numbers."""
    if isinstance(value, dict):
        return {name: plain(member) for name, member in value.items() if member is not None}
    if isinstance(value, list):
        return [plain(member) for member in value]
    if isinstance(value, str) and value[:2] == "20" and value.endswith("Z"):
        return datetime.fromisoformat(value).timestamp()
    return value


@pytest.mark.parametrize(
    "asked",
    [
        {"collections": [L1C]},
        {"collections": list(COLLECTIONS), "datetime": "2025-03-01T00:00:00Z/2025-06-30T00:00:00Z"},
        {"query": {"eo:cloud_cover": {"gt": 20}}, "sortby": [{"field": "eo:cloud_cover", "direction": "asc"}]},
        {"bbox": [-60, -40, 60, 40]},
    ],
)  # fmt: skip
def test_the_file_holds_the_items_of_the_search_in_its_order(http: httpx.Client, asked: dict[str, Any]) -> None:
    wanted = walked(http, asked)
    assert len(wanted) > 50
    table = table_of(http.post("/search", json=asked, headers={"Accept": PARQUET}))
    found = list(stac_geoparquet.arrow.stac_table_to_items(table))
    assert [one["id"] for one in found] == [one["id"] for one in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert plain(json.loads(json.dumps(one))) == plain(other)


def test_the_file_says_what_it_is(http: httpx.Client) -> None:
    answer = http.get("/search", params={"collections": f"{L1C},{GRD}"}, headers={"Accept": PARQUET})
    metadata = pq.read_metadata(io.BytesIO(answer.content)).metadata
    geo, stac = json.loads(metadata[b"geo"]), json.loads(metadata[b"stac-geoparquet"])
    assert (geo["version"], geo["primary_column"], geo["columns"]["geometry"]["encoding"]) == (
        "1.1.0",
        "geometry",
        "WKB",
    )
    assert geo["columns"]["geometry"]["covering"]["bbox"]["ymax"] == ["bbox", "ymax"]
    assert stac["version"] == "1.0.0"
    assert set(stac["collections"]) == {L1C, GRD}
    assert answer.headers["cache-control"] == "public, no-cache"
    schema = table_of(answer).schema
    assert pa.types.is_timestamp(schema.field("datetime").type)
    assert "Accept" in answer.headers["vary"]
    assert "content-encoding" not in answer.headers


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "application/geo+json"), ("text/html, */*;q=0.1", "application/geo+json"), ("text/nothing", "application/geo+json"),
        ("application/json", "application/geo+json"), (f"{PARQUET};q=0.5, application/geo+json", "application/geo+json"),
        (f"{PARQUET};q=0", "application/geo+json"), (f"application/geo+json;q=0.5, {PARQUET}", PARQUET), (f"{PARQUET}, */*;q=0.1", PARQUET),
    ],
)  # fmt: skip
def test_what_is_accepted_best_is_answered(http: httpx.Client, accept: str, kind: str) -> None:
    for path in ("/search?ids=item-0001", f"/collections/{L1C}/items?limit=2"):
        assert http.get(path, headers={"Accept": accept}).headers["content-type"] == kind


def test_items_of_a_collection_and_a_name_in_the_address(http: httpx.Client) -> None:
    table = table_of(http.get(f"/collections/{GRD}/items", params={"f": "parquet"}))
    assert set(table["collection"].to_pylist()) == {GRD}
    assert table.num_rows == ITEMS // 3
    assert (
        http.get("/search?f=json&limit=1", headers={"Accept": PARQUET}).headers["content-type"]
        == "application/geo+json"
    )


def test_a_limit_is_of_the_file_and_more_than_the_bound_is_a_problem(http: httpx.Client) -> None:
    first = [one["id"] for one in http.get("/search?limit=7").json()["features"]]
    assert table_of(http.get("/search?limit=7&f=parquet"))["id"].to_pylist() == first
    assert table_of(http.post(f"/search?f=parquet", json={"limit": 600})).num_rows == 600  # noqa: F541
    for answer in (
        http.get("/search?f=parquet"),
        http.post("/search", json={"limit": 5000}, headers={"Accept": PARQUET}),
    ):
        assert answer.status_code == 400
        assert (answer.json()["code"], answer.json()["limit"]) == ("EXPORT_TOO_LARGE", MOST)
    assert http.get("/search?limit=1&f=parquet").status_code == 200, "a refused export gives its place back"


def test_an_empty_search_is_an_empty_file(http: httpx.Client) -> None:
    table = table_of(http.get("/search?ids=nobody&f=parquet"))
    assert table.num_rows == 0
    assert {"id", "geometry", "bbox", "datetime", "links"} <= set(table.schema.names)


def test_fields_are_columns(http: httpx.Client) -> None:
    table = table_of(http.get("/search?limit=50&f=parquet&fields=properties.gsd"))
    assert set(table.schema.names) == {
        "type",
        "stac_version",
        "id",
        "collection",
        "geometry",
        "bbox",
        "links",
        "datetime",
        "gsd",
    }


def test_bad_exports_are_problems(http: httpx.Client) -> None:
    token = next(link["href"] for link in http.get("/search?limit=1").json()["links"] if link["rel"] == "next")
    assert http.get(token + "&f=parquet").json()["code"] == "INVALID_TOKEN"
    assert http.get("/search?f=parquet&bbox=1,2,3").status_code == 400
    assert http.get("/collections/nowhere/items?f=parquet").status_code == 404


def test_what_is_hidden_is_in_no_file(http: httpx.Client, database: DatabaseSettings) -> None:
    execute(database, "insert into federator.collection_access (collection_id, visibility) values (%s, 'private')", GRD)
    try:
        table = table_of(http.get("/search?f=parquet"))
        assert table.num_rows == ITEMS * 2 // 3
        assert GRD not in table["collection"].to_pylist()
    finally:
        execute(database, "delete from federator.collection_access")


def test_a_client_that_goes_away_gives_its_place_back(http: httpx.Client) -> None:
    for _ in range(6):
        with http.stream("GET", "/search?limit=900&f=parquet"):
            pass
    assert http.get("/search?limit=1&f=parquet").status_code in (200, 503)
    for _ in range(50):
        if http.get("/search?limit=1&f=parquet").status_code == 200:
            return
    raise AssertionError("exports are still busy")
