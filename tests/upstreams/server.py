"""The upstreams as one HTTP server on 127.0.0.1, in a thread or as a process."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from tests.upstreams.faults import Control, Faulty
from tests.upstreams.odata import ODataService
from tests.upstreams.products import FEDERATED, Product, catalogue
from tests.upstreams.stac import copernicus_service, earth_search_service

ODATA_PATH = "/odata/v1"
STAC_PATH = "/stac/v1"
#: Where items of the STAC side say that products can be fetched; nothing is there.
DOWNLOAD_PATH = "/download/odata/v1"
EARTH_SEARCH_PATH = "/earth-search/v1"
START_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Upstreams:
    """Running upstreams. `truth`: federated collection -> names of products that OData offers, orbit files left out."""

    url: str
    control: Control
    truth: dict[str, set[str]]

    @property
    def odata_url(self) -> str:
        return f"{self.url}{ODATA_PATH}"

    @property
    def stac_url(self) -> str:
        return f"{self.url}{STAC_PATH}"

    @property
    def earth_search_url(self) -> str:
        return f"{self.url}{EARTH_SEARCH_PATH}"


def build_app(offered: list[Product], control: Control) -> Any:
    """The ASGI application of all upstreams."""
    routes = [
        Mount(ODATA_PATH, routes=ODataService(offered).routes()),
        Mount(STAC_PATH, routes=copernicus_service(offered, DOWNLOAD_PATH).routes()),
        Mount(EARTH_SEARCH_PATH, routes=earth_search_service(offered).routes()),
    ]
    return Faulty(Starlette(routes=routes), control)


def truth_of(offered: list[Product]) -> dict[str, set[str]]:
    """Federated collection -> product names, for what a harvester must take."""
    found: dict[str, set[str]] = {name: set() for name in FEDERATED.values()}
    for product in offered:
        if product.kind in FEDERATED:
            found[FEDERATED[product.kind]].add(product.name)
    return found


def bind(port: int = 0) -> socket.socket:
    """A listening socket on 127.0.0.1; port 0 takes any free one."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(128)
    return listener


def server_of(app: Any) -> uvicorn.Server:
    """A quiet uvicorn server."""
    config = uvicorn.Config(
        app, log_config=None, log_level="critical", access_log=False, lifespan="off", ws="none", proxy_headers=False,
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    return uvicorn.Server(config)


@contextmanager
def running(app: Any, port: int = 0) -> Iterator[str]:
    """Serve `app` in a thread; yields its URL."""
    listener = bind(port)
    server = server_of(app)
    thread = threading.Thread(target=server.run, args=([listener],), name="upstreams", daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the upstreams did not start")
            time.sleep(0.005)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


@contextmanager
def serve(products: int = 200, seed: int = 1, port: int = 0) -> Iterator[Upstreams]:
    """Run upstreams with `products` products over all collections; the same for the same numbers."""
    offered = catalogue(products, seed)
    control = Control()
    with running(build_app(offered, control), port) as url:
        yield Upstreams(url, control, truth_of(offered))


def source_toml(
    source_id: str, title: str, protocol: str, url: str, rank: int, collections: dict[str, dict[str, Any]]
) -> str:
    """Text of one source file."""
    lines = [
        f"# {title}", f'id = "{source_id}"', f'title = "{title}"', f'protocol = "{protocol}"', f'url = "{url}"',
        f"rank = {rank}", "requests_per_second = 50",
    ]  # fmt: skip
    for collection, upstream in collections.items():
        pairs = ", ".join(f"{key} = {json.dumps(value)}" for key, value in upstream.items())
        lines += ["", "[[collections]]", f'id = "{collection}"', f"upstream = {{ {pairs} }}"]
    return "\n".join(lines) + "\n"


def source_files(base_url: str) -> dict[str, str]:
    """File name -> TOML of the sources that harvest upstreams running at `base_url`."""
    base = base_url.rstrip("/")
    odata = {
        "sentinel-2-l2a": {"collection": "SENTINEL-2", "product_type": "S2MSI2A"},
        "sentinel-2-l1c": {"collection": "SENTINEL-2", "product_type": "S2MSI1C"},
        "sentinel-1-grd": {"collection": "SENTINEL-1", "product_types": ["IW_GRDH_1S", "IW_GRDH_1S-COG"]},
    }
    stac = {
        name: {"collection": name, "watermark": "properties.published", "filter": "cql2", "limit": 200}
        for name in odata
    }
    earth = {
        name: {"collection": name, "watermark": "properties.updated", "filter": "query", "limit": 500}
        for name in odata
        if name.startswith("sentinel-2")
    }
    invented = "demonstration upstream with invented products"
    return {
        "demo-odata.toml": source_toml("demo-odata", f"OData, {invented}", "odata", f"{base}{ODATA_PATH}", 10, odata),
        "demo-stac.toml": source_toml("demo-stac", f"STAC, {invented}", "stac", f"{base}{STAC_PATH}", 20, stac),
        "demo-earth-search.toml": source_toml(
            "demo-earth-search", f"Earth Search dialect, {invented}", "stac", f"{base}{EARTH_SEARCH_PATH}", 30, earth
        ),
    }
