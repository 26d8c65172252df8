"""The upload page in headless Chromium, with a real server and a real worker behind a wire that is cut."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from db.settings import DatabaseSettings
from tests.conftest import cloned
from tests.doc_examples import examples
from tests.e2e.browser import Browser, NotHere, browsing, until
from tests.ingest.uploads.rasters import write
from tests.uploads_torture import Server, Wire, sha256_of, under

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]
SLOW, FAST = 2**20, 2**25  # bytes/s: slow enough that a busy machine acts in the middle of 6.5 MB
TOKEN = "a-token-for-the-test"
#: Keep a picture for the documentation; texts are then as people write them.
PICTURES = bool(os.environ.get("KEEP_PICTURES"))
TITLE = "South of Vienna" if PICTURES else "Fields & forests <i>south</i> of Vienna"
TAB = "\ue004"
IMAGES = Path(__file__).parents[2] / "docs" / "images"
#: State of the newest upload in the list, the code of its refusal, how much of it was sent.
ROW = "document.querySelector('#uploads > li:last-child')"
IS = f"return {ROW}?.dataset.state === arguments[0]"
HAS_CODE = f"return {ROW}?.dataset.code === arguments[0] && {ROW}.querySelector('.problem').textContent"
SENT = f"return {ROW}?.querySelector('progress').value > arguments[0]"
TILES = """
    const tiles = [...document.querySelectorAll('img.leaflet-tile-loaded')]
    return tiles.filter(tile => tile.src.includes('/raster/') && tile.naturalWidth).length
"""
FILL = """
    const values = {datetime: '2026-05-01T10:30:00', title: arguments[0], keywords: 'noise, test', license: 'CC-BY-4.0'}
    for (const [id, value] of Object.entries(values)) document.getElementById(id).value = value
"""  # the field of a moment takes keys in the order of the browser's language


@dataclass(frozen=True, slots=True)
class Site:
    """A service behind a wire."""

    server: Server
    wire: Wire
    worker: subprocess.Popen[bytes]

    @property
    def page(self) -> str:
        return f"{self.server.public_url}/upload"


@contextlib.contextmanager
def working(server: Server) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m ingest worker` beside the server."""
    with (server.data_dir / "worker.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "ingest", "worker"], env=server.env, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    try:
        with browsing(tmp_path_factory.mktemp("browser") / "profile") as browser:
            yield browser
    except NotHere as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def site(
    opened: Browser, postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("page")
    with (
        cloned(postgres, template) as database,
        under(database, folder, SLOW, FEDERATOR_API_TOKEN=TOKEN) as (server, wire),
        working(server) as worker,
    ):
        yield Site(server, wire, worker)


@pytest.fixture
def browser(opened: Browser, site: Site) -> Browser:
    """The page, in a browser that remembers nothing."""
    site.wire.up()
    site.wire.limit(SLOW)
    opened.open(site.page)
    opened.run("localStorage.clear(); sessionStorage.clear()")
    opened.open(site.page)
    opened.complaints()
    return opened


@pytest.fixture(scope="module")
def raster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """6.5 MB that do not compress, south of Vienna; its name is one for careless pages, unless a picture is made."""
    name = "field.tif" if PICTURES else "<img src=x onerror=alert(1)>.tif"
    path = tmp_path_factory.mktemp("raster") / name
    noise = np.random.default_rng(7).integers(0, 3000, (1, 1800, 1800), dtype="uint16")
    with rasterio.open(
        path, "w", driver="GTiff", width=1800, height=1800, count=1, dtype="uint16",
        crs="EPSG:32633", transform=from_origin(600_000, 5_320_000, 10, 10),
    ) as target:  # fmt: skip
        target.write(noise)
    return path


def keep(browser: Browser, name: str) -> None:
    """Keep a picture for the documentation when the environment asks for it: KEEP_PICTURES=1."""
    if PICTURES:
        IMAGES.mkdir(exist_ok=True)
        browser.screenshot(IMAGES / name)


def test_a_file_is_dropped_cut_off_goes_on_after_a_reload_and_is_on_the_map(
    browser: Browser, site: Site, raster: Path
) -> None:
    browser.resize(1100, 1090)
    browser.run(FILL, TITLE)
    browser.drop("#drop", raster)
    browser.until(IS, "waiting")
    browser.click("#send")
    assert "need a key" in browser.until(HAS_CODE, "TOKEN_REQUIRED")
    browser.type("#key", TOKEN)
    before = site.wire.sent
    browser.click("#send")
    until(lambda: site.wire.sent > before + 2_000_000, lambda: site.wire.sent, timeout_s=30)
    site.wire.down()
    browser.until(IS, "retrying")
    site.wire.up()
    browser.open(site.page)
    browser.until(IS, "unfinished")
    there = browser.run(f"return {ROW}.querySelector('progress').value")
    assert 0 < there < 1
    browser.run("sessionStorage.clear()")
    browser.open(site.page)  # as in another tab, without the key
    browser.until(IS, "unfinished")
    before = site.wire.sent
    browser.drop("#drop", raster)
    browser.until(HAS_CODE, "TOKEN_REQUIRED")
    browser.type("#key", TOKEN)
    browser.click("button[aria-label^=Resume]")
    browser.until(SENT, there)
    browser.click("button[aria-label^=Pause]")
    browser.until(IS, "paused")
    browser.run(FILL, TITLE)
    browser.run("scrollTo(0, 0)")
    keep(browser, "upload.png")
    browser.drop("#drop", raster)
    browser.until("return document.getElementById('said').textContent.includes('in the list already')")
    site.wire.limit(FAST)
    site.worker.send_signal(signal.SIGSTOP)
    browser.click("button[aria-label^=Resume]")
    browser.until(IS, "received", timeout_s=30)
    browser.open(site.page)
    browser.until(IS, "received")
    site.worker.send_signal(signal.SIGCONT)
    browser.until(IS, "ready", timeout_s=60)
    assert site.wire.sent - before < raster.stat().st_size, "what had arrived was sent again"

    links = browser.run("return [...document.querySelectorAll('#uploads a')].map(link => link.href)")
    assert browser.run("return document.querySelectorAll('#uploads img').length") == 0
    assert not [line for line in browser.complaints() if "Content Security" in line]
    item = httpx.get(links[1]).raise_for_status().json()
    told = {name: item["properties"][name] for name in ("datetime", "title", "keywords", "license")}
    assert told == {
        "datetime": "2026-05-01T10:30:00.000000Z", "title": TITLE, "keywords": ["noise", "test"], "license": "CC-BY-4.0",
    }  # fmt: skip
    upload = item["assets"]["data"]["href"].removesuffix("/data.tif")
    state = httpx.get(upload, headers={"Authorization": f"Bearer {TOKEN}"}).raise_for_status().json()
    assert state["sha256"] == sha256_of(raster)
    browser.open(links[0])
    assert "map.html" in browser.run("return location.href")
    assert browser.until(TILES, timeout_s=60) >= 1


def test_people_with_a_keyboard_and_a_narrow_screen(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "notes.tif").write_text("no raster")
    browser.resize(360, 740)
    assert browser.run("return document.documentElement.scrollWidth") <= 360
    assert (
        browser.run("return [...document.querySelectorAll('input')].filter(field => !field.labels.length).length") == 0
    )
    browser.run("document.getElementById('key').focus()")
    browser.press(*TOKEN)
    browser.type("#files", str(tmp_path / "notes.tif"))
    browser.until(IS, "waiting")
    reached = []
    for _ in range(30):
        if (reached or [""])[-1] == "send":
            break
        browser.press(TAB)
        reached.append(browser.run("return document.activeElement.id"))
    assert [name for name in dict.fromkeys(reached) if name] == [
        "datetime", "title", "collection", "license", "keywords", "visibility", "readers", "files", "send"
    ]  # fmt: skip
    browser.run("document.getElementById('item').value = 'some-item'")
    browser.press(" ")
    browser.until("return document.activeElement.id === 'asset' && document.activeElement.ariaInvalid === 'true'")
    assert "under which name" in browser.run("return document.getElementById('said').textContent")
    browser.run("document.getElementById('item').value = ''")
    browser.click("#send")
    assert browser.until(HAS_CODE, "NOT_A_TIFF", timeout_s=60).startswith("This is not a TIFF")
    assert "notes.tif: This is not a TIFF" in browser.run("return document.getElementById('news').textContent")
    assert browser.run("return document.documentElement.scrollWidth") <= 360


def test_who_says_no_date_is_asked_and_a_second_file_goes_into_the_item(browser: Browser, tmp_path: Path) -> None:
    for name in ("red.tif", "mask.tif"):
        write(tmp_path / name, np.full((1, 64, 64), len(name), "uint8"))
    browser.type("#key", TOKEN)
    browser.drop("#drop", tmp_path / "red.tif")
    browser.until(IS, "waiting")
    browser.run("document.getElementById('asset').value = 'red'")
    browser.click("#send")
    browser.until(HAS_CODE, "DATETIME_REQUIRED", timeout_s=60)
    key = browser.run("return sessionStorage.getItem('federator.key')")
    browser.open(browser.run("return location.href"))  # the question is there after a reload, too
    assert (key, browser.run("return sessionStorage.getItem('federator.key')")) == (TOKEN, TOKEN)
    browser.until(HAS_CODE, "DATETIME_REQUIRED")
    browser.run(f"{ROW}.querySelector('.question input').value = '2026-05-01T10:30'")
    browser.click(".question button")
    browser.until(IS, "ready", timeout_s=60)
    item = browser.run(f"return {ROW}.querySelector('a[href*=\"/stac/\"]').href")
    told = {"datetime": "2026-05-01T10:30", "item": item.rpartition("/")[2], "asset": "mask"}
    browser.run(
        "for (const [id, value] of Object.entries(arguments[0])) document.getElementById(id).value = value", told
    )
    browser.drop("#drop", tmp_path / "mask.tif")
    browser.until(IS, "waiting")
    browser.click("#send")
    browser.until(IS, "ready", timeout_s=60)
    assert set(httpx.get(item).raise_for_status().json()["assets"]) == {"red", "mask", "thumbnail"}


def test_the_form_is_corrected_and_sent_again(browser: Browser, raster: Path) -> None:
    browser.type("#key", TOKEN)
    browser.drop("#drop", raster)
    browser.run(FILL, TITLE)
    browser.run("document.getElementById('collection').value = 'nowhere'")
    browser.until(IS, "waiting")
    browser.click("#send")
    assert browser.until(HAS_CODE, "COLLECTION_UNKNOWN").startswith("There is no such collection.")
    browser.run("document.getElementById('collection').value = 'uploads'")
    browser.click("#send")
    browser.until(SENT, 0.05)
    browser.click("button[aria-label^=Cancel]")
    browser.until("return !document.querySelector('#uploads > li')")
    browser.until("return !Object.keys(localStorage).length")


def test_another_address_of_the_service_says_where_uploads_work(opened: Browser, site: Site) -> None:
    opened.open(site.page.replace("127.0.0.1", "localhost"))
    opened.until("return !document.getElementById('elsewhere').hidden")
    assert opened.run("return document.querySelector('#elsewhere a').href") == site.page
    assert opened.run("return [...document.getElementById('details').elements].every(field => field.disabled)")


def test_the_documentations_example_for_pages(browser: Browser, site: Site) -> None:
    code = examples("uploads.md", "tus-js-client", "js", site.server.public_url)[0]
    module, _, program = code.partition("\n")
    assert module == "import { Upload } from 'tus-js-client'"  # the page has it
    program = program.replace("headers: {},", f"headers: {{ Authorization: 'Bearer {TOKEN}' }},")
    browser.run(
        "const { Upload } = window.tus, file = new File(['some bytes'], 'field.tif', {type: 'image/tiff'});"
        f"const console = {{...window.console, log: (...said) => {{ window.said = said }}}}; (async () => {{ {program} }})()"
    )
    url = browser.until("return window.said?.length === 1 && window.said[0]")
    state = httpx.get(url, headers={"Authorization": f"Bearer {TOKEN}"}).raise_for_status().json()
    assert (state["file_name"], state["length"]) == ("field.tif", len("some bytes"))
