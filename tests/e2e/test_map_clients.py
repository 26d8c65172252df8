"""A map on a page of another origin, by MapLibre in headless Chromium, shows a private raster by a signed URL and nothing without one."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from db.settings import DatabaseSettings
from tests.api.sharing_site import OPEN, Site, sharing_site
from tests.e2e.browser import Browser, NotHere, browsing
from tests.tus_clients import environment

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]
CLIENTS = Path(__file__).parents[1] / "map_clients"
IMAGES = Path(__file__).parents[2] / "docs" / "images"
MAGENTA = [255, 0, 255, 255]
#: The raster lies at 0 to 1 degrees east and north.
MIDDLE, BESIDE = [0.5, 0.5], [0.02, 0.02]
WEBGL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        pass


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Files of a folder, on an origin of their own."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Browser, str]]:
    try:
        home = environment.installed(CLIENTS, "map.html")
        profile = tmp_path_factory.mktemp("browser") / "profile"
        with browsing(profile, *WEBGL) as browser, serving(home) as origin:
            yield browser, f"{origin}/map.html"
    except (NotHere, environment.NotHere) as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def site(
    page: tuple[Browser, str], postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    with sharing_site(postgres, template, tmp_path_factory.mktemp("map")) as started:
        yield started


def drawn(page: tuple[Browser, str], source: dict[str, Any], *, other_than: list[int] | None = None) -> list[list[int]]:
    """Colours in the raster's middle and beside it; waits until the first is another one than that."""
    browser, address = page
    browser.resize(700, 500)
    browser.open(address)
    browser.run("show(...arguments)", source, [0.5, 0.5], 7.5)
    ready = "const found = pixels(...arguments[0]); return isDrawn() && String(found[0]) !== arguments[1] && found"
    found: list[list[int]] = browser.until(ready, [MIDDLE, BESIDE], ",".join(map(str, other_than or [])), timeout_s=60)
    return found


def test_maplibre_shows_a_private_raster_by_a_signed_url_and_nothing_without(
    page: tuple[Browser, str], site: Site
) -> None:
    west_south, north_east = [0, 0], [1, 1]
    ring = [west_south, [1, 0], north_east, [0, 1], west_south]
    place = {"bbox": [*west_south, *north_east], "geometry": {"type": "Polygon", "coordinates": [ring]}}
    site.done("owner", "PATCH", f"/stac/collections/{OPEN}/items/i-private", json=place)
    urls = site.done("owner", "POST", "/raster/signed", json={"collection": OPEN, "item": "i-private"})
    for source in ({"tiles": [urls["tiles"]]}, {"url": urls["tilejson"]}):
        middle, beside = drawn(page, source, other_than=MAGENTA)
        assert page[0].run("return failures") == []
        assert middle[0] == middle[1] == middle[2], "grey, as the raster is"
        assert middle[0] > 0
        assert beside == MAGENTA
    if os.environ.get("KEEP_PICTURES"):
        page[0].screenshot(IMAGES / "maplibre.png")
    unsigned = urls["tiles"].partition("&sig=")[0]
    assert drawn(page, {"tiles": [unsigned]}) == [MAGENTA, MAGENTA]
