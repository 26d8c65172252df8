"""Uploads, tiles, lineage, traces, management and the start page over real HTTP."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from rasterio.io import MemoryFile

from api.settings import ApiSettings
from db.pools import open_pool
from db.settings import DatabaseSettings
from ingest.settings import IngestSettings
from ingest.uploads import processing
from lineage import verify
from lineage.keys import load_signer
from lineage.sequencer import sequence
from lineage.settings import LineageSettings
from tests.api.server import listening, running
from tests.api.test_stac import assert_problem
from tests.conftest import cloned
from tests.ingest.uploads.rasters import write


@dataclass
class Site:
    """An application whose uploads the test processes itself, in place of a worker."""

    http: httpx.Client
    database: DatabaseSettings
    settings: ApiSettings

    def work(self, upload_id: str) -> None:
        """What the worker does: process the upload, sequence the log."""

        async def run() -> None:
            ingest = IngestSettings(data_dir=self.settings.data_dir, public_url=self.settings.public_url)
            async with open_pool(self.database) as pool:
                await processing.process(pool, ingest, upload_id)
                await sequence(pool, load_signer(LineageSettings(data_dir=self.settings.data_dir)))

        asyncio.run(run())

    def upload(self, content: bytes, **form: str) -> dict[str, Any]:
        """Create, send and process; return the state."""
        body = {"collection": "uploads", "datetime": "2026-05-01T12:00:00Z", "title": "A <b>field</b>", **form}
        created = self.http.post("/uploads", json=body)
        assert created.status_code == 201, created.text
        location = created.headers["location"]
        assert location.startswith(self.settings.public_url)
        assert self.http.put(f"{location}/content", content=content).status_code == 202
        self.work(created.json()["id"])
        return dict(self.http.get(location).json())


@pytest.fixture(scope="module")
def site(postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    listener, url = listening()
    settings = ApiSettings(data_dir=tmp_path_factory.mktemp("site"), public_url=url)
    client = httpx.Client(base_url=url, timeout=60)
    with cloned(postgres, template) as database, running(settings, database, listener), client as http:
        yield Site(http, database, settings)


@pytest.fixture(scope="module")
def raster(site: Site, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], np.ndarray[Any, Any], bytes]:
    path = tmp_path_factory.mktemp("raster") / "a.tif"
    rows, columns = np.mgrid[0:300, 0:400]
    pixels = (100 + columns * 5 + rows).astype("uint16")[None]
    pixels[:, :, :100] = 0
    write(path, pixels, nodata=0)
    return site.upload(path.read_bytes()), pixels, path.read_bytes()


def test_an_upload_is_found_read_and_proven(site: Site, raster: tuple[dict[str, Any], Any, bytes]) -> None:
    state, _, content = raster
    assert state["state"] == "ready", state
    assert state["length"] == len(content)
    base = f"/stac/collections/uploads/items/{state['item_id']}"
    item = site.http.get(base).json()
    assert item["properties"]["title"] == "A <b>field</b>"
    data = site.http.get(item["assets"]["data"]["href"], headers={"Range": "bytes=0-3"})
    assert (data.status_code, data.content[:2]) == (206, b"II")
    head = site.http.head(item["assets"]["data"]["href"])
    assert head.headers["accept-ranges"] == "bytes"
    assert int(head.headers["content-length"]) == item["assets"]["data"]["file:size"]
    events = site.http.get(f"/lineage/v1/collections/uploads/items/{state['item_id']}/events").json()["events"]
    assert [event["kind"] for event in events] == ["CREATE"]
    proof = site.http.get(f"/lineage/v1/log/proof/{events[0]['id']}")
    keys = {row["purpose"]: row["vkey"] for row in site.http.get("/lineage/v1/log/keys").json()["keys"]}
    assert verify.verify(proof.content, keys["log"]).ok
    note = site.http.get("/lineage/v1/log/checkpoint").text
    assert site.http.get(f"/lineage/v1/log/proof/{events[0]['id']}", params={"format": "tlog-proof"}).text.endswith(
        note
    )
    (trace,) = site.http.get(f"/trace/api/v1/traces/name/{state['item_id']}").json()
    assert trace["event"] == "CREATE"
    assert trace["signature"]["signature"]
    assert site.http.get(f"/trace/api/v1/traces/{trace['id']}").json() == trace
    assert site.http.get(f"/trace/api/v1/traces/hash/{trace['product']['hash']}").json() == [trace]


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_tiles_show_the_pixels_and_nodata_is_transparent(site: Site, raster: tuple[dict[str, Any], Any, bytes]) -> None:
    state, pixels, _ = raster
    base = f"/raster/collections/uploads/items/{state['item_id']}"
    answer = site.http.get(f"{base}/preview.tif", params={"assets": "data", "max_size": 400})
    assert answer.status_code == 200, answer.text
    with MemoryFile(answer.content) as memory, memory.open() as preview:
        assert np.array_equal(preview.read(1), pixels[0])
        assert np.array_equal(preview.dataset_mask() > 0, pixels[0] > 0)
    tilejson = site.http.get(
        f"{base}/WebMercatorQuad/tilejson.json", params={"assets": "data", "rescale": "0,3000"}
    ).json()
    assert tilejson["tiles"][0].startswith(f"{site.http.base_url}/raster/")
    lon, lat = (tilejson["bounds"][0] + tilejson["bounds"][2]) / 2, (tilejson["bounds"][1] + tilejson["bounds"][3]) / 2
    zoom = tilejson["maxzoom"]
    x = int((lon + 180) / 360 * 2**zoom)
    y = int((1 - np.arcsinh(np.tan(np.radians(lat))) / np.pi) / 2 * 2**zoom)
    url = tilejson["tiles"][0].replace("{z}", str(zoom)).replace("{x}", str(x)).replace("{y}", str(y))
    tile = site.http.get(url)
    assert tile.headers["content-type"] == "image/png", tile.text[:300]
    with MemoryFile(tile.content) as memory, memory.open() as image:
        shown = image.read(1)[image.read(image.count) > 0]
    assert shown.max() <= int(pixels.max() / 3000 * 255) + 1
    assert shown.min() >= int(100 / 3000 * 255) - 1


@pytest.mark.parametrize(
    "path",
    [
        "info",
        "info.geojson",
        "statistics",
        "WebMercatorQuad/map.html",
        "WMTSCapabilities.xml",
        "assets",
    ],
)
def test_other_raster_routes_answer(site: Site, raster: tuple[dict[str, Any], Any, bytes], path: str) -> None:
    state = raster[0]
    answer = site.http.get(f"/raster/collections/uploads/items/{state['item_id']}/{path}", params={"assets": "data"})
    assert answer.status_code == 200, (path, answer.text[:300])


BAD_RASTER = [
    ("tiles/WebMercatorQuad/3/0/0.png?assets=data", 404),
    ("tiles/WebMercatorQuad/99/0/0.png?assets=data", 400),
    ("tiles/WebMercatorQuad/x/0/0.png?assets=data", 400),
    ("tiles/Nowhere/0/0/0.png?assets=data", 400),
    ("preview.png?assets=other", 400),
    ("preview.png?assets=data|bidx=9", 400),
    ("preview.png?assets=data&rescale=a,b", 400),
    ("preview.png?assets=data&colormap_name=none-such", 400),
    ("preview.png?assets=data|expression=sum(b1)", 400),
    ("point/500,500?assets=data", 400),
    ("bbox/1,2,3.png?assets=data", 404),
]


@pytest.mark.parametrize(("path", "status"), BAD_RASTER)
def test_bad_raster_requests_are_problems(
    site: Site, raster: tuple[dict[str, Any], Any, bytes], path: str, status: int
) -> None:
    answer = site.http.get(f"/raster/collections/uploads/items/{raster[0]['item_id']}/{path}")
    assert_problem(answer)
    assert answer.status_code // 100 == status // 100


def test_no_route_takes_a_url(site: Site) -> None:
    document = site.http.get("/raster/api").json()
    names = {
        parameter["name"]
        for path in document["paths"].values()
        for verb in path.values()
        for parameter in verb.get("parameters", [])
    }
    assert "url" not in names


def test_assets_elsewhere_are_refused(api: httpx.Client) -> None:
    answer = api.get("/raster/collections/sentinel-2-l2a/items/SAMPLE_001/preview.png", params={"assets": "B02_10m"})
    assert_problem(answer)


@pytest.mark.parametrize(
    "path",
    [
        "/uploads/x",
        "/uploads/01890000-0000-7000-8000-000000000000",
        "/lineage/v1/log/proof/x",
        "/trace/api/v1/traces/x",
    ],
)
def test_ids_of_nothing(site: Site, path: str) -> None:
    answer = site.http.get(path)
    assert_problem(answer)
    assert answer.status_code == 404


@pytest.mark.parametrize(
    ("form", "code"),
    [
        (b"{", "INVALID_BODY"),
        (b"[]", "INVALID_BODY"),
        (b'{"title": 7}', "INVALID_FIELD"),
        (b'{"title": "t", "datetime": 5}', "INVALID_FIELD"),
        (
            orjson.dumps(
                {"title": "t", "datetime": "2026-01-01T00:00:00Z", "bands": [{"description": "d" * 1000}] * 100}
            ),
            "INVALID_FIELD",
        ),
        (b'{"title": "t", "datetime": "now"}', "DATETIME_INVALID"),
        (b'{"title": "t", "datetime": "2026-01-01T00:00:00Z", "collection": "x"}', "COLLECTION_UNKNOWN"),
        (b'{"title": "\\u0000", "datetime": "2026-01-01T00:00:00Z"}', "INVALID_FIELD"),
        (b" " * 2_000_000, "BODY_TOO_LARGE"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_wrong_upload_forms(site: Site, form: bytes, code: str) -> None:
    answer = site.http.post("/uploads", content=form)
    assert_problem(answer)
    assert answer.json()["code"] == code


def test_refused_files_say_why(site: Site) -> None:
    state = site.upload(b"this is no raster")
    assert state["state"] == "rejected"
    assert state["error"]["code"] == "NOT_A_TIFF"
    assert_problem(site.http.get(f"/uploads/{state['id']}/data.tif"))
    again = site.http.put(f"/uploads/{state['id']}/content", content=b"x")
    assert (again.status_code, again.json()["code"]) == (409, "ALREADY_RECEIVED")


def test_writes_need_the_token_before_a_byte_is_read(postgres: DatabaseSettings, template: str, tmp_path: Path) -> None:
    listener, url = listening()
    settings = ApiSettings(data_dir=tmp_path, public_url=url, api_token="s3cret")  # type: ignore[arg-type]
    form = {"title": "t", "datetime": "2026-01-01T00:00:00Z"}
    with (
        cloned(postgres, template) as database,
        running(settings, database, listener),
        httpx.Client(base_url=url) as http,
    ):
        for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic s3cret"}):
            answer = http.post("/uploads", json=form, headers=header)
            assert_problem(answer)
            assert answer.status_code == 401
        created = http.post("/uploads", json=form, headers={"Authorization": "Bearer s3cret"})
        assert created.status_code == 201
        refused = http.put(f"/uploads/{created.json()['id']}/content", content=b"abc")
        assert refused.status_code == 401
        assert http.get("/_mgmt/ping").status_code == 200


def test_the_start_page_links_to_what_answers_and_escapes_what_users_write(
    site: Site, raster: tuple[dict[str, Any], Any, bytes]
) -> None:
    page = site.http.get("/", headers={"Accept": "text/html"})
    assert page.headers["content-type"].startswith("text/html")
    assert "A &lt;b&gt;field&lt;/b&gt;" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    links = set(re.findall(r'href="([^"]+)"', page.text))
    assert len(links) > 10
    for link in links:
        status = site.http.get(link.replace("&amp;", "&"), follow_redirects=True).status_code
        assert status == (503 if link.endswith("/_mgmt/health") else 200), link  # no worker runs in this test
    machine = site.http.get("/").json()
    assert {link["rel"] for link in machine["links"]} >= {"data", "service-doc", "health"}


def test_health_names_the_part_that_is_down(site: Site) -> None:
    answer = site.http.get("/_mgmt/health")
    assert answer.status_code == 503
    parts = answer.json()["parts"]
    assert parts["database"]["status"] == "up"
    assert parts["worker"]["status"] == "down"


def test_metrics_count_requests(site: Site) -> None:
    site.http.get("/stac")
    text = site.http.get("/_mgmt/metrics").text
    assert re.search(r'federator_requests_total\{area="stac",method="GET",status="200"\} [1-9]', text)
    assert "federator_log_size" in text


def test_sources_of_the_configuration_are_listed(site: Site) -> None:
    found = {source["id"]: source for source in site.http.get("/sources").json()["sources"]}
    assert {"cdse-odata", "cdse-stac", "earth-search"} <= set(found)
    assert found["cdse-odata"]["collections"][0]["status"] == "never run"


def test_a_database_that_goes_away_is_a_503_and_comes_back(site: Site) -> None:
    import psycopg

    with psycopg.connect(site.database.conninfo, autocommit=True) as conn:
        conn.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
        )
    deadline = time.monotonic() + 20
    while True:
        status = site.http.get("/stac/search?limit=1").status_code
        assert status in (200, 503)
        if status == 200:
            break
        assert time.monotonic() < deadline


async def _withdrawn(pool: Any) -> None:
    async with pool.connection() as conn:
        await conn.execute(
            "insert into federator.harvested_item (collection_id, item_id, acquisition, product, datetime, item_sha256,"
            " successor_id, withdrawn_at, withdrawn_because)"
            " values ('sentinel-1-grd', 'OLD', 'A', 'OLD.SAFE', now(), sha256(''), 'NEW', now(), 'named anew')"
        )


def test_an_item_that_was_withdrawn_is_gone_and_says_what_follows(site: Site) -> None:
    async def insert() -> None:
        async with open_pool(site.database) as pool:
            await _withdrawn(pool)

    asyncio.run(insert())
    answer = site.http.get("/stac/collections/sentinel-1-grd/items/OLD")
    assert answer.status_code == 410
    problem = answer.json()
    assert problem["code"] == "ITEM_WITHDRAWN"
    assert problem["successor"].endswith("/stac/collections/sentinel-1-grd/items/NEW")
    assert 'rel="successor-version"' in answer.headers["link"]
    assert site.http.get("/stac/collections/sentinel-1-grd/items/NEVER").status_code == 404


def test_sources_tell_coverage_budget_and_breaker(site: Site) -> None:
    async def insert() -> None:
        async with open_pool(site.database) as pool, pool.connection() as conn:
            await conn.execute(
                "insert into federator.census (source_id, collection_id, since, until, expected, held, missing, extra, quarantined)"
                " values ('cdse-odata', 'sentinel-2-l2a', '2026-01-01Z', '2026-02-01Z', 10, 9, 1, 0, 0)"
            )
            await conn.execute(
                "insert into federator.upstream (source_id, failures, open_until) values ('cdse-odata', 5, now() + interval '1 minute')"
            )

    asyncio.run(insert())
    found = {source["id"]: source for source in site.http.get("/sources").json()["sources"]}["cdse-odata"]
    assert (found["upstream"]["breaker"], found["upstream"]["failures"]) == ("open", 5)
    (month,) = next(one for one in found["collections"] if one["id"] == "sentinel-2-l2a")["coverage"]
    assert (month["expected"], month["held"], month["missing"]) == (10, 9, 1)
    assert month["age_s"] >= 0
