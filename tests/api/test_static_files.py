"""What browsers are sent: packages as they came, pages without foreign addresses, words for every refusal."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from titiler.core.factory import DEFAULT_TEMPLATES

from api.map_page import CDN, map_templates
from api.settings import ApiSettings
from api.static_files import FOLDER, KEPT, static_files
from db.settings import DatabaseSettings
from tests.api.server import listening, running
from tests.conftest import cloned

ROOT = Path(__file__).parents[2]
README = (FOLDER / "README.md").read_text(encoding="utf-8")
WORDS = (FOLDER / "upload" / "words.js").read_text(encoding="utf-8")
#: Codes that this page's requests never meet: it sends no parts, no PUT, no checksums, and its headers are made by tus-js-client.
NOT_OF_THE_PAGE = {
    "NOT_IN_PARTS", "PARTS_INCOMPLETE", "PARTS_UNAVAILABLE", "PART_UNKNOWN", "SENT_IN_PARTS", "LENGTH_UNKNOWN", "LENGTH_REQUIRED",
    "TUS_VERSION", "UNSUPPORTED_MEDIA_TYPE", "INVALID_HEADER", "HEADER_MISSING", "EXTENSION_UNSUPPORTED", "CHECKSUM_ALGORITHM",
    "INVALID_DIGEST", "DIGEST_ALGORITHM", "METHOD_NOT_ALLOWED", "NOT_READY", "INVALID_BODY", "BODY_TOO_LARGE", "TOO_MANY",
    "RASTER_DAMAGED",
}  # fmt: skip
#: An exception or a problem with its code, its status before it or not.
RAISED = re.compile(r'(?:UploadRejected|Problem|Rejected|_reject\w*)\(\s*(?:\d+, )?"([A-Z_]{4,})"')


@pytest.fixture(scope="module")
def http(postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    listener, url = listening()
    settings = ApiSettings(data_dir=tmp_path_factory.mktemp("static"), public_url=f"{url}/base", title="<b>Us</b>")
    with (
        cloned(postgres, template) as database,
        running(settings, database, listener),
        httpx.Client(base_url=url) as client,
    ):
        yield client


def test_packages_are_as_they_came() -> None:
    listed = dict(re.findall(r"\| `(\S+@\S+)` \| \S+ \| `([0-9a-f]{64})` \|", README))
    there = {name: hashlib.sha256(content).hexdigest() for name, content in static_files().files.items() if "@" in name}
    assert there == listed
    for package in {name.split("/")[0] for name in there}:
        assert list((FOLDER / package).glob("LICENSE*")), package


def test_the_map_page_asks_for_the_packages_that_are_here() -> None:
    source, _, _ = DEFAULT_TEMPLATES.env.loader.get_source(DEFAULT_TEMPLATES.env, "map.html")  # type: ignore[union-attr]
    asked = re.findall(rf'"{CDN}([^"]+)"\s+integrity="sha384-([^"]+)"', source)
    assert len(asked) == source.count(CDN) == 4
    for name, wanted in asked:
        assert base64.b64encode(hashlib.sha384(static_files().files[name]).digest()).decode() == wanted, name
    ours, _, _ = map_templates("https://here.example/base").env.loader.get_source(DEFAULT_TEMPLATES.env, "map.html")  # type: ignore[union-attr]
    assert CDN not in ours
    assert f'"https://here.example/base/{static_files().path}/leaflet@' in ours


def test_files_are_kept_for_ever_under_their_release_only(http: httpx.Client) -> None:
    static = static_files()
    for name, content in static.files.items():
        answer = http.get(f"/{static.path}/{name}")
        assert (answer.status_code, answer.content, answer.headers["cache-control"]) == (200, content, KEPT), name
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert http.get("/static/of-before/upload/main.js").headers["cache-control"] == "no-store"
    for name in ("README.md", "%2e%2e/main.py", "..%2fmain.py", "upload", "", "tus-js-client@4.3.1/LICENSE"):
        answer = http.get(f"/{static.path}/{name}")
        assert answer.status_code == 404, name


def test_the_page_holds_no_script_and_no_foreign_address(http: httpx.Client) -> None:
    answer = http.get("/upload", headers={"Host": "evil.example", "X-Forwarded-Host": "evil.example"})
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "script-src 'self'" in policy
    page = answer.text
    assert "evil" not in page
    assert "Not needed as you come now" in page  # this machine, and no token is set
    assert not re.search(r"<style|style=|<script(?![^>]*src=)|\son\w+=", page)
    assert "&lt;b&gt;Us&lt;/b&gt;" in page
    assert "<b>Us" not in page
    for address in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert address.startswith(("static/", f"{http.base_url}/base".replace("//base", "/base"))), address
    assert all(
        http.get(f"/{address}").status_code == 200 for address in re.findall(r'(?:src|href)="(static/[^"]+)"', page)
    )
    assert "<option>uploads</option>" in page


def test_our_scripts_never_set_texts_as_html() -> None:
    for path in (FOLDER / "upload").glob("*.js"):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", path.read_text()), (
            path.name
        )


def test_every_refusal_has_words_for_people() -> None:
    places = [
        *(ROOT / "ingest" / "uploads").glob("*.py"),
        *(ROOT / "api").glob("*tus*.py"),
        *(ROOT / "api").glob("upload*.py"),
    ]
    texts = [path.read_text(encoding="utf-8") for path in [*places, ROOT / "api" / "access.py"]]
    raised = {code for text in texts for code in RAISED.findall(text)}
    assert len(raised) > 40
    known = set(re.findall(r"^  ([A-Z_]+):", WORDS, re.MULTILINE))
    assert sorted(raised - known - NOT_OF_THE_PAGE) == []
    documented = (ROOT / "docs" / "uploads.md").read_text() + (ROOT / "docs" / "rasters.md").read_text()
    assert sorted(code for code in raised if f"`{code}`" not in documented) == []
