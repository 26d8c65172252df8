"""What is counted, and what is logged of a slow search."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.settings import ApiSettings
from db.settings import DatabaseSettings
from tests.api.corpus import L1C, fill
from tests.api.server import listening, running
from tests.conftest import cloned


@pytest.fixture(scope="module")
def http(postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    listener, url = listening()
    settings = ApiSettings(data_dir=tmp_path_factory.mktemp("metrics"), public_url=url, slow_query_s=0)
    with cloned(postgres, template) as database:
        asyncio.run(fill(database, 30))
        with running(settings, database, listener), httpx.Client(base_url=url, timeout=30) as client:
            yield client


def counted(http: httpx.Client) -> dict[str, dict[tuple[str, ...], float]]:
    """Sample name -> values of its labels, sorted by label name -> value."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(http.get("/_mgmt/metrics").text):
        for sample in family.samples:
            labels = tuple(value for _, value in sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


def test_requests_are_counted_by_route_and_never_by_path(http: httpx.Client) -> None:
    item = http.get("/stac/search?limit=1").json()["features"][0]
    for path in ("/stac", "/stac/", f"/stac/collections/{item['collection']}/items/{item['id']}", f"/stac/collections/{L1C}/items",
                 "/stac/collections/a-secret-name", "/stac/a-secret-name", "/a-secret-name",
                 "/uploads/a-secret-name", "/stac/catalogs"):  # fmt: skip
        http.get(path)
    for _ in range(2):
        http.get(f"/stac/collections/{L1C}")
    counted(http)
    found = counted(http)
    routes = {labels[1] for labels in found["federator_request_seconds_count"]}
    assert {
        "/stac/", "/stac/search", "/stac/collections/{collection_id}/items/{item_id}", "/stac/collections/{collection_id}/items",
        "/stac/collections/{collection_id}", "/stac/catalogs", "/uploads/{upload_id}", "/_mgmt/metrics", "(none)",
    } <= routes  # fmt: skip
    text = http.get("/_mgmt/metrics").text
    assert "secret" not in text.lower()
    assert item["id"] not in text
    assert found["federator_request_seconds_count"]["GET", "/stac/collections/{collection_id}"] == 3, (
        "kept answers count too"
    )
    assert found["federator_response_bytes_sum"][("/stac/search",)] > 500


def test_the_parts_of_searches_are_timed(http: httpx.Client) -> None:
    before = counted(http)
    http.post("/stac/search", json={"limit": 3, "filter": {"op": ">", "args": [{"property": "gsd"}, 1]}})
    after = counted(http)
    for part in ("plan", "sql", "hydrate"):
        name = f"federator_search_{part}_seconds"
        assert after[f"{name}_count"][()] == before[f"{name}_count"][()] + 1
        assert after[f"{name}_sum"][()] > before[f"{name}_sum"][()]


def test_a_slow_search_is_logged_with_its_parts(http: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "api.stac.timings")
    asked = {
        "collections": [L1C],
        "limit": 3,
        "filter": {"op": ">", "args": [{"property": "gsd"}, 1]},
        "ids": ["x" * 5000, "item-0001"],
    }
    http.post("/stac/search", json=asked)
    http.get(f"/stac/collections/{L1C}/items?limit=2")
    lines = [record.getMessage() for record in caplog.records if record.name == "api.stac.timings"]
    posted, listed = (json.loads(line.removeprefix("slow query ")) for line in lines)
    assert posted["search"]["filter"]["args"][-1] == asked["filter"], "as it goes to pgstac"
    assert len(posted["search"]["ids"]) < 5000, "shortened"
    assert (posted["method"], posted["rows"]) == ("POST", 0)
    assert (listed["route"], listed["rows"]) == ("/collections/{collection_id}/items", 2)
    assert listed["partitions"] > 0
    assert listed["bytes"] > 500
    assert all(listed[name] >= 0 for name in ("plan_ms", "sql_ms", "hydrate_ms", "write_ms"))
