"""Pages with maps, on an origin of their own, in headless Chromium; what is to be seen on them."""

from __future__ import annotations

import contextlib
import functools
import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.io import MemoryFile

from tests.e2e.browser import Browser, browsing
from tests.map_clients.squares import PLACES, VIEW
from tests.tus_clients import environment

HERE = Path(__file__).parent
FILES = ("leaflet.html", "maplibre.html", "openlayers.html")
WEBGL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")
SIZE = (700, 500)


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


@dataclass(frozen=True)
class Pages:
    """A browser, and where the pages are."""

    browser: Browser
    origin: str

    def colours(self, client: str, *, keep: Path | None = None, **spec: Any) -> dict[str, Any]:
        """The colour at each of `PLACES` on the page of a client, when it has drawn all of the layer; `spec` as the page takes it."""
        self.browser.resize(*SIZE)
        self.browser.open(f"{self.origin}/{client}.html")
        self.browser.run("show(arguments[0]).catch((error) => failures.push(String(error)))", {"view": VIEW, **spec})
        self.browser.until("return window.isDrawn || failures.length && !window.at", timeout_s=60)
        pixels = _pixels(self.browser.screenshot(keep))
        places = self.browser.run("return arguments[0].map(at)", list(PLACES.values()))
        return {name: pixels[:3, int(y), int(x)].tolist() for name, (x, y) in zip(PLACES, places, strict=True)}

    def failures(self) -> list[str]:
        """What the client could not load on the page that was last asked for."""
        found: list[str] = self.browser.run("return failures")
        return found


def _pixels(png: bytes) -> np.ndarray[Any, Any]:
    with MemoryFile(io.BytesIO(png)) as file, file.open() as picture:
        return picture.read()  # type: ignore[no-any-return]


@contextlib.contextmanager
def map_pages(profile: Path) -> Iterator[Pages]:
    """A browser for all of them.

    Raises:
        NotHere, environment.NotHere: browser or packages are not installed.
    """
    home = environment.installed(HERE, *FILES)
    with browsing(profile, *WEBGL) as browser, serving(home) as origin:
        yield Pages(browser, origin)
