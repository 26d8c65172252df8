"""`make demo`: the whole system with demonstration upstreams, a harvest from them, one upload, and links that work.

The upstreams are the fakes of `tests/upstreams` as processes of their own; everything else is what `make up` starts.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import urllib.parse
from pathlib import Path
from typing import IO, Any

import httpx
import numpy as np
import rasterio
from rasterio.transform import from_origin

from api.settings import ApiSettings
from api.supervisor import Part, Steps, say_first_steps, standard_parts, supervise, wait_for_http
from tests.upstreams import source_files

PRODUCTS = int(os.environ.get("FEDERATOR_DEMO_PRODUCTS", "600"))
SAMPLE_TITLE = "Sample field near Vienna"


def free_port(preferred: int) -> int:
    """`preferred` when nothing listens there, else any free port of the loopback interface."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no free port on 127.0.0.1")


#: OData, STAC in two dialects, OpenSearch, Sentinel Hub Catalog.
SOURCES = ("demo-odata", "demo-stac", "demo-earth-search", "demo-opensearch", "demo-sentinelhub")


def write_sources(folder: Path, upstream_url: str) -> None:
    """Write the demonstration sources' TOML files for upstreams at `upstream_url`."""
    folder.mkdir(parents=True, exist_ok=True)
    files = source_files(upstream_url)
    for name in SOURCES:
        (folder / f"{name}.toml").write_text(files[f"{name}.toml"], encoding="utf-8")


def write_sample(path: Path) -> None:
    """Write a plain GeoTIFF that is not a COG: UTM 33N, uint16, two bands, 10 m, nodata 0 in a corner."""
    rows, columns = np.mgrid[0:900, 0:1100]
    field = 2000 + 1500 * np.sin(columns / 90) * np.cos(rows / 70) + (rows * 31 + columns * 17) % 97
    second = 1200 + columns + rows // 2
    pixels = np.stack([field, second]).astype("uint16")
    pixels[:, rows + columns < 250] = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", width=1100, height=900, count=2, dtype="uint16", nodata=0,
        crs="EPSG:32633", transform=from_origin(600_000, 5_340_000, 10, 10),
    ) as target:  # fmt: skip
        target.write(pixels)


async def harvest_all(env: dict[str, str], steps: Steps, log_file: Path, *, is_first: bool) -> None:
    """Harvest the sources: one after the other for people to watch at first, all at once when little can be new."""
    if is_first:
        for source in SOURCES:
            with steps.step(f"harvesting {source}"):
                await harvest(source, env, steps, None)
        return
    with steps.step("harvesting what is new"), log_file.open("ab") as log:
        async with asyncio.TaskGroup() as group:
            for source in SOURCES:
                group.create_task(harvest(source, env, steps, log))


async def harvest(source: str, env: dict[str, str], steps: Steps, log: IO[bytes] | None) -> None:
    """Harvest one source to the end with the command that a user would type; its words go to the terminal or a log."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "ingest",
        "harvest",
        source,
        env={**os.environ, **env},
        start_new_session=True,
        stdout=log,
        stderr=log,
    )
    try:
        status = await process.wait()
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise
    if status != 0:
        steps.say(f"harvest of {source} ended with status {status}")


async def sample_item(http: httpx.AsyncClient) -> dict[str, Any] | None:
    """The sample's item when it is in the catalogue."""
    answer = await http.get("/stac/collections/uploads/items", params={"limit": 50})
    items: list[dict[str, Any]] = answer.raise_for_status().json()["features"]
    return next((item for item in items if item["properties"].get("title") == SAMPLE_TITLE), None)


async def upload_sample(http: httpx.AsyncClient, path: Path, token: str | None) -> dict[str, Any]:
    """Upload the sample as a user would with curl; return its item.

    Raises:
        TimeoutError: it did not become ready within a minute, or was refused.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    form = {"collection": "uploads", "datetime": "2026-06-21T10:00:00Z", "title": SAMPLE_TITLE}
    created = (await http.post("/uploads", json=form, headers=headers)).raise_for_status()
    url = created.headers["location"]
    (await http.put(f"{url}/content", content=path.read_bytes(), headers=headers)).raise_for_status()
    for _ in range(300):
        state = (await http.get(url, headers=headers)).raise_for_status().json()
        if state["state"] in {"ready", "rejected", "failed"}:
            break
        await asyncio.sleep(0.2)
    item = await sample_item(http)
    if item is None:
        raise TimeoutError(f"the sample upload did not become an item: {state}")
    return item


def links(public_url: str, item: dict[str, Any], product: str) -> list[tuple[str, str]]:
    """What to look at, as (words, URL)."""
    found = urllib.parse.urlencode({"collections": "sentinel-2-l2a", "limit": 5, "filter": "eo:cloud_cover < 20"})
    return [
        ("start page", f"{public_url}/"),
        ("upload a raster", f"{public_url}/upload"),
        ("STAC API", f"{public_url}/stac"),
        ("its documentation", f"{public_url}/stac/api.html"),
        ("a search", f"{public_url}/stac/search?{found}"),
        ("the upload on a map", f"{public_url}/raster/collections/uploads/items/{item['id']}/map"),
        ("the upload's item", f"{public_url}/stac/collections/uploads/items/{item['id']}"),
        ("a product's trace", f"{public_url}/trace/api/v1/traces/name/{product}"),
        ("the log's checkpoint", f"{public_url}/lineage/v1/log/checkpoint"),
        ("sources", f"{public_url}/sources"),
        ("health", f"{public_url}/_mgmt/health"),
    ]


async def any_product(http: httpx.AsyncClient) -> str:
    """Name of some harvested product."""
    answer = await http.get("/stac/search", params={"collections": "sentinel-2-l2a", "limit": 1})
    return str(answer.raise_for_status().json()["features"][0]["id"])


async def print_links(http: httpx.AsyncClient, public_url: str, item: dict[str, Any], steps: Steps) -> None:
    """Say that it is ready and print links, each tried first."""
    rows = links(public_url, item, await any_product(http))
    for words, url in rows:
        if (await http.get(url, follow_redirects=True)).status_code != 200:
            steps.say(f"this link does not answer: {url}")
        steps.say(f"  {words:<24}{url}")
    steps.say(
        f"ready in {steps.total_s():.1f} s. Ctrl-C ends everything; the data stays in .data and is there at the next start."
    )


def main() -> int:
    """Run the demonstration until Ctrl-C; return the exit status."""
    settings = ApiSettings()
    data_dir = Path(settings.data_dir)
    port = free_port(8090)
    upstream_url = f"http://127.0.0.1:{port}"
    sources_dir = data_dir / "demo" / "sources"
    write_sources(sources_dir, upstream_url)
    env = {"FEDERATOR_SOURCES_DIR": str(sources_dir.resolve())}
    command = (sys.executable, "-m", "tests.upstreams", "--port", str(port), "--products", str(PRODUCTS), "--seed", "1")
    sample = data_dir / "demo" / "sample.tif"

    async def on_ready(steps: Steps, stopping: asyncio.Event) -> None:
        with steps.step("waiting for upstreams and API"):
            await wait_for_http(f"{upstream_url}/_control", timeout_s=60, stopping=stopping)
            await wait_for_http(f"{settings.local_url()}/_mgmt/ping", timeout_s=60, stopping=stopping)
        async with httpx.AsyncClient(base_url=settings.local_url(), timeout=30) as http:
            item = await sample_item(http)
            await harvest_all(env, steps, data_dir / "log" / "harvest.log", is_first=item is None)
            if item is None:
                with steps.step("uploading a sample raster"):
                    await asyncio.to_thread(write_sample, sample)
                    item = await upload_sample(http, sample, settings.token())
            await say_first_steps(settings.public_url)
            await print_links(http, settings.public_url, item, steps)

    parts = [Part("upstreams", command), *standard_parts(env)]
    return asyncio.run(supervise(parts, data_dir=data_dir, on_ready=on_ready))


if __name__ == "__main__":
    sys.exit(main())
