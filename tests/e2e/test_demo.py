"""The README's promises, tried on the running demonstration with unmodified clients."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import odc.stac
import pystac_client
import pytest
import rasterio
from rasterio.io import MemoryFile
from rasterio.transform import from_origin
from rasterio.warp import transform as transform_points

from tests.e2e.system import ROOT, System

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(400)]


def curl(*arguments: str) -> tuple[int, str]:
    """Run curl; return HTTP status and body."""
    answer = subprocess.run(
        ["curl", "-sS", "-w", "\n%{http_code}", *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    body, status = answer.stdout.rsplit("\n", 1)
    return int(status), body


def write_raster(path: Path) -> np.ndarray:
    """A plain GeoTIFF (strips, no overviews) in UTM 31N with nodata 0 in its left quarter; returns its pixels."""
    rows, columns = np.mgrid[0:400, 0:500]
    pixels = (1000 + 4 * columns + 3 * rows).astype("uint16")
    pixels[:, :125] = 0
    with rasterio.open(
        path, "w", driver="GTiff", width=500, height=400, count=1, dtype="uint16", nodata=0,
        crs="EPSG:32631", transform=from_origin(450_000, 4_900_000, 20, 20),
    ) as target:  # fmt: skip
        target.write(pixels, 1)
    return pixels


@pytest.fixture(scope="session")
def uploaded(demo: System, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A raster uploaded with curl and the item that came of it."""
    path = tmp_path_factory.mktemp("raster") / "plain.tif"
    pixels = write_raster(path)
    form = json.dumps({"collection": "uploads", "datetime": "2026-05-01T12:00:00Z", "title": "Plain raster"})
    status, body = curl("-X", "POST", f"{demo.url}/uploads", "-H", "Content-Type: application/json", "-d", form)
    assert status == 201, body
    upload = json.loads(body)
    status, body = curl("-T", str(path), f"{demo.url}/uploads/{upload['id']}/content")
    assert status in (200, 201, 202, 204), body
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        status, body = curl(f"{demo.url}/uploads/{upload['id']}")
        if json.loads(body)["state"] in ("ready", "rejected", "failed"):
            break
        time.sleep(0.2)
    state = json.loads(body)
    assert state["state"] == "ready", state
    return {"upload": state, "pixels": pixels, "path": path}


def lonlat_of(row: float, column: float) -> tuple[float, float]:
    """Longitude and latitude of a pixel centre of the uploaded raster."""
    (lon,), (lat,) = transform_points(
        "EPSG:32631", "EPSG:4326", [450_000 + 20 * (column + 0.5)], [4_900_000 - 20 * (row + 0.5)]
    )
    return lon, lat


def test_every_printed_link_answers(demo: System) -> None:
    urls = re.findall(r"(?<!curl )(http://127\.0\.0\.1:\d+/\S*)", said := demo.output.read_text(encoding="utf-8"))
    assert "does not answer" not in said
    assert len(urls) >= 9
    for url in urls:
        assert httpx.get(url, follow_redirects=True).status_code == 200, url


def test_times_of_the_steps_are_in_the_log(demo: System) -> None:
    log = (demo.data_dir / "log" / "supervisor.log").read_text(encoding="utf-8")
    assert "migrating the database: done in" in log
    assert re.search(r"ready in \d+\.\d s", log)


def test_pystac_client_finds_every_item_once(demo: System) -> None:
    client = pystac_client.Client.open(f"{demo.url}/stac")
    ids = {collection.id for collection in client.get_collections()}
    assert {"sentinel-2-l1c", "sentinel-2-l2a", "sentinel-1-grd", "uploads"} <= ids
    everything = list(client.search(collections=["sentinel-2-l2a"], limit=17).items())
    assert len(everything) == len({item.id for item in everything}) > 50
    some = client.search(
        collections=["sentinel-2-l2a"],
        bbox=[-180, -90, 180, 90],
        datetime="2000-01-01T00:00:00Z/2100-01-01T00:00:00Z",
        filter={"op": "<", "args": [{"property": "eo:cloud_cover"}, 30]},
        limit=7,
    )
    found = [item.id for item in some.items()]
    expected = {item.id for item in everything if item.properties["eo:cloud_cover"] < 30}
    assert set(found) == expected
    assert len(found) == len(expected)


def test_the_same_product_from_several_sources_is_one_item(demo: System) -> None:
    client = pystac_client.Client.open(f"{demo.url}/stac")
    items = list(client.search(collections=["sentinel-2-l2a"], limit=100).items())
    shared = [item for item in items if len(item.properties.get("federation:backends", [])) > 1]
    assert shared
    assert any("alternate" in asset.extra_fields for asset in shared[0].assets.values())


def test_search_by_bbox_finds_the_upload(demo: System, uploaded: dict[str, Any]) -> None:
    lon, lat = lonlat_of(200, 300)
    answer = httpx.get(
        f"{demo.url}/stac/search", params={"bbox": f"{lon - 0.01},{lat - 0.01},{lon + 0.01},{lat + 0.01}"}
    )
    assert uploaded["upload"]["item_id"] in {feature["id"] for feature in answer.json()["features"]}
    lon, lat = lonlat_of(200, 20)  # in the nodata quarter: the footprint is of valid pixels
    answer = httpx.get(
        f"{demo.url}/stac/search",
        params={"collections": "uploads", "bbox": f"{lon - 0.001},{lat - 0.001},{lon + 0.001},{lat + 0.001}"},
    )
    assert uploaded["upload"]["item_id"] not in {feature["id"] for feature in answer.json()["features"]}


def test_rasterio_opens_the_uploaded_asset_over_http(demo: System, uploaded: dict[str, Any]) -> None:
    item = httpx.get(f"{demo.url}/stac/collections/uploads/items/{uploaded['upload']['item_id']}").json()
    with rasterio.open(item["assets"]["data"]["href"]) as source:
        assert source.block_shapes == [(512, 512)]
        assert np.array_equal(source.read(1), uploaded["pixels"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")  # in odc-stac itself
def test_odc_stac_loads_the_uploaded_raster(demo: System, uploaded: dict[str, Any]) -> None:
    client = pystac_client.Client.open(f"{demo.url}/stac")
    (item,) = client.search(collections=["uploads"], ids=[uploaded["upload"]["item_id"]]).items()
    loaded = odc.stac.load([item], bands=["data"])["data"].isel(time=0)
    assert np.array_equal(loaded.values, uploaded["pixels"])


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_tile_shows_the_uploaded_pixels(demo: System, uploaded: dict[str, Any]) -> None:
    """Every pixel of a tile at native zoom equals a source pixel within one pixel's reach (nearest resampling)."""
    base = f"{demo.url}/raster/collections/uploads/items/{uploaded['upload']['item_id']}"
    lon, lat = lonlat_of(200, 300)
    zoom = 13
    x = int((lon + 180) / 360 * 2**zoom)
    y = int((1 - np.arcsinh(np.tan(np.radians(lat))) / np.pi) / 2 * 2**zoom)
    answer = httpx.get(
        f"{base}/tiles/WebMercatorQuad/{zoom}/{x}/{y}.png", params={"assets": "data", "rescale": "0,5100"}
    )
    assert answer.status_code == 200, answer.text
    with MemoryFile(answer.content) as memory, memory.open() as tile:
        image = tile.read()
    lon, lat = lonlat_of(200, 300)
    column = int(((lon + 180) / 360 * 2**zoom - x) * 256)
    row = int(((1 - np.arcsinh(np.tan(np.radians(lat))) / np.pi) / 2 * 2**zoom - y) * 256)
    expected = uploaded["pixels"][196:205, 296:305].astype(float) / 20  # rescale 0..5100 onto 0..255
    assert image[-1, row, column] == 255
    assert expected.min() - 1 <= image[0, row, column] <= expected.max() + 1


def test_trace_of_a_harvested_product_and_of_the_upload(demo: System, uploaded: dict[str, Any]) -> None:
    product = httpx.get(f"{demo.url}/stac/search", params={"collections": "sentinel-1-grd", "limit": 1}).json()
    for name in (product["features"][0]["id"], uploaded["upload"]["item_id"]):
        deadline = time.monotonic() + 10  # a trace is shown once its event has a number
        while not (traces := httpx.get(f"{demo.url}/trace/api/v1/traces/name/{name}").json()):
            assert time.monotonic() < deadline, name
            time.sleep(0.2)
        assert {"id", "timestamp", "origin", "event", "product", "signature"} <= set(traces[0])


def export_proof(demo: System, uploaded: dict[str, Any], folder: Path) -> Path:
    item = uploaded["upload"]["item_id"]
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        events = httpx.get(f"{demo.url}/lineage/v1/collections/uploads/items/{item}/events").json()["events"]
        sequenced = [event for event in events if not event.get("pending")]
        if sequenced:
            break
        time.sleep(0.2)
    proof = folder / "proof.json"
    proof.write_bytes(httpx.get(f"{demo.url}/lineage/v1/log/proof/{sequenced[-1]['id']}").content)
    return proof


def verify(proof: Path) -> subprocess.CompletedProcess[str]:
    """`python -m lineage verify` with the project on the path but far from its data and database."""
    return subprocess.run(
        [sys.executable, "-m", "lineage", "verify", proof.name],
        cwd=proof.parent, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_exported_proof_verifies_offline_and_names_a_fault(
    demo: System, uploaded: dict[str, Any], tmp_path: Path
) -> None:
    proof = export_proof(demo, uploaded, tmp_path)
    good = verify(proof)
    assert good.returncode == 0, good.stdout + good.stderr
    assert "OK" in good.stdout
    content = bytearray(proof.read_bytes())
    where = content.index(b'"sha256"') if b'"sha256"' in content else len(content) // 2
    content[where + 20] ^= 1
    proof.write_bytes(content)
    bad = verify(proof)
    assert bad.returncode != 0
    assert "OK" not in bad.stdout.splitlines()[0] if bad.stdout else True
    assert (bad.stdout + bad.stderr).strip()
    assert "Traceback" not in bad.stderr


def test_start_page_is_for_people(demo: System, uploaded: dict[str, Any]) -> None:
    page = httpx.get(f"{demo.url}/", headers={"Accept": "text/html"})
    assert page.headers["content-type"].startswith("text/html")
    assert "sentinel-2-l2a" in page.text
    assert "Plain raster" in page.text
