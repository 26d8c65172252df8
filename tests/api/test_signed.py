"""Signed tile URLs against the running application: what they open, for how long, and that nothing of them is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import numpy as np
import psycopg
import pytest
from starlette.types import Receive, Scope, Send

from api.access import CALLER
from api.settings import ApiSettings
from api.signatures import PARAMETER, Place, Signer, sign, verify
from api.signed import Signed
from db.pools import open_pool
from db.settings import DatabaseSettings
from ingest.settings import IngestSettings
from ingest.uploads import processing
from tests.api.server import listening, running
from tests.conftest import cloned
from tests.ingest.uploads.rasters import write

TOKEN = "a-token-for-the-test"
ADMIN = {"Authorization": f"Bearer {TOKEN}"}
ANN = Signer("ann", ("user:ann",), "general")


#: As they are where people are kept; here they need not be.
PEOPLE = """
create table if not exists federator.person (
    name text primary key, is_admin boolean not null default false, scopes text[] not null, created_by text not null,
    disabled_at timestamptz
);
create table if not exists federator.people_group (name text primary key, created_by text not null);
create table if not exists federator.membership (person_name text not null, group_name text not null);
insert into federator.person (name, scopes, created_by) values ('ann', '{}', 'test'), ('ben', '{}', 'test');
insert into federator.people_group (name, created_by) values ('maps', 'test');
"""


@dataclass
class Site:
    """The application with one uploaded raster that starts as public."""

    http: httpx.Client
    database: DatabaseSettings
    key: bytes
    item: str

    @property
    def base(self) -> str:
        return f"/raster/collections/uploads/items/{self.item}"

    def do(self, statement: str, *values: Any) -> None:
        with psycopg.connect(self.database.conninfo, autocommit=True) as conn:
            conn.execute(statement.encode(), values)

    @contextlib.contextmanager
    def private(self, *readers: str) -> Iterator[None]:
        change = "update pgstac.items set private = %s::jsonb where id = %s"
        document = psycopg.types.json.Jsonb({"readers": list(readers)})
        self.do(change, document, self.item)
        try:
            yield
        finally:
            self.do(change, None, self.item)

    def signed_by(self, signer: Signer, *, seconds: int = 60, item: str | None = "") -> dict[str, str]:
        """Query parameters of a signed URL."""
        place = Place("uploads", self.item if item == "" else item)
        return {"assets": "data", PARAMETER: sign(self.key, place, signer, int(time.time()) + seconds)}

    def asked(self, **body: Any) -> dict[str, Any]:
        answer = self.http.post("/raster/signed", json={"collection": "uploads", **body}, headers=ADMIN)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


def _processed(database: DatabaseSettings, settings: ApiSettings, upload_id: str) -> None:
    async def run() -> None:
        ingest = IngestSettings(data_dir=settings.data_dir, public_url=settings.public_url)
        async with open_pool(database) as pool:
            await processing.process(pool, ingest, upload_id)

    asyncio.run(run())


@pytest.fixture(scope="module")
def site(postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    listener, url = listening()
    folder = tmp_path_factory.mktemp("signed")
    write(folder / "a.tif", np.full((1, 300, 400), 70, "uint8"), nodata=0)
    settings = ApiSettings(data_dir=folder, public_url=url, api_token=TOKEN, title="signed")
    with (
        cloned(postgres, template) as database,
        running(settings, database, listener),
        httpx.Client(base_url=url, timeout=60) as http,
    ):
        form = {"collection": "uploads", "datetime": "2026-05-01T12:00:00Z", "title": "A field"}
        location = http.post("/uploads", json=form, headers=ADMIN).headers["location"]
        http.put(f"{location}/content", content=(folder / "a.tif").read_bytes(), headers=ADMIN)
        _processed(database, settings, location.rsplit("/", 1)[-1])
        item = http.get(location, headers=ADMIN).json()["item_id"]
        with psycopg.connect(database.conninfo) as conn:
            conn.execute(PEOPLE.encode())
            ((key,),) = conn.execute("select value from federator.secret where name = 'tile-url'").fetchall()
        yield Site(http, database, key, item)


def assert_problem(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def a_tile(site: Site, template: str, tilejson: dict[str, Any]) -> httpx.Response:
    """The tile at the raster's middle."""
    west, south, east, north = tilejson["bounds"]
    zoom = tilejson["maxzoom"]
    x = int(((west + east) / 2 + 180) / 360 * 2**zoom)
    y = int((1 - np.arcsinh(np.tan(np.radians((south + north) / 2))) / np.pi) / 2 * 2**zoom)
    return site.http.get(template.replace("{z}", f"{zoom}").replace("{x}", f"{x}").replace("{y}", f"{y}"))


def test_a_template_opens_every_tile_of_a_private_item_and_is_kept_by_nobody(site: Site) -> None:
    with site.private("user:ann"):
        urls = site.asked(item=site.item)
        assert "{z}/{x}/{y}" in urls["tiles"]
        document = site.http.get(urls["tilejson"])
        assert document.status_code == 200, document.text
        (again,) = document.json()["tiles"]
        assert PARAMETER in parse_qs(urlsplit(again).query)
        for template in (urls["tiles"], again):
            tile = a_tile(site, template, document.json())
            assert tile.status_code == 200, tile.text
            assert tile.headers["content-type"] == "image/png"
            assert tile.headers["cache-control"] == "private, no-store"
            assert tile.headers["referrer-policy"] == "strict-origin"
            assert a_tile(site, template.partition("?")[0] + "?assets=data", document.json()).status_code == 404
        assert document.headers["cache-control"] == "private, no-store"
        plain = site.http.get(f"{site.base}/info", params={"assets": "data"}, headers=ADMIN)
        assert plain.headers["cache-control"] == "private, no-store"


def test_documents_that_are_opened_by_a_signature_link_to_signed_tiles(site: Site) -> None:
    urls = site.asked(item=site.item)
    signature = urls["signature"]["value"]
    wmts = site.http.get(urls["wmts"]).text
    templates = [line for line in wmts.splitlines() if "ResourceURL" in line]
    assert templates
    assert all(f"{PARAMETER}={signature}" in line for line in templates), templates
    assert signature in site.http.get(urls["map"]).text


def test_answers_of_public_items_may_be_kept(site: Site) -> None:
    answer = site.http.get(f"{site.base}/info", params=site.signed_by(ANN))
    assert answer.status_code == 200, answer.text
    assert "no-store" not in answer.headers.get("cache-control", "")


def test_a_collection_s_signature_opens_its_items(site: Site) -> None:
    with site.private("user:ann"):
        urls = site.asked()
        assert "/items/{item}/" in urls["tiles"]
        answer = site.http.get(urls["tilejson"].replace("{item}", site.item))
        assert answer.status_code == 200, answer.text
        assert_problem(site.http.get(urls["tilejson"].replace("/uploads/", "/other/")), 403, "SIGNATURE_INVALID")


def test_pixels_of_a_private_collection_are_kept_by_nobody_either(site: Site) -> None:
    columns = "(collection_id, visibility, owner)"
    site.do(f"insert into federator.collection_access {columns} values ('uploads', 'private', 'user:ann')")
    try:
        for asked, status in (
            (site.signed_by(ANN), 200),
            (site.signed_by(Signer("ben", ("user:ben",), "general")), 404),
        ):
            answer = site.http.get(f"{site.base}/info", params=asked)
            assert (answer.status_code, answer.headers["cache-control"]) == (status, "private, no-store")
        assert site.http.post("/raster/signed", json={"collection": "uploads"}).status_code == 404
    finally:
        site.do("delete from federator.collection_access")


def test_a_signature_of_the_operator_s_does_not_name_him(site: Site) -> None:
    signature = site.asked(item=site.item)["signature"]["value"]
    signer, _ = verify(site.key, f"{site.base}/info", signature, time.time())
    assert (signer.name, signer.principals) == ("", ("role:admin",))


def test_a_signature_is_worth_what_its_signer_may_see_now(site: Site) -> None:
    asked = site.signed_by(ANN)
    absent = site.http.get(f"{site.base}-not-there/info", params=site.signed_by(ANN, item=f"{site.item}-not-there"))
    assert site.http.get(f"{site.base}/info", params=asked).status_code == 200
    with site.private("user:ann"):
        assert site.http.get(f"{site.base}/info", params=asked).status_code == 200
    with site.private("user:ben"):
        hidden = site.http.get(f"{site.base}/info", params=asked)
        assert (hidden.status_code, hidden.content) == (404, absent.content)
        assert hidden.headers["cache-control"] == "private, no-store"
    assert site.http.get(f"{site.base}/info", params=asked).status_code == 200


def test_the_signatures_of_who_is_disabled_open_nothing_private(site: Site) -> None:
    with site.private("user:ann"):
        asked = site.signed_by(ANN)
        assert site.http.get(f"{site.base}/info", params=asked).status_code == 200
        site.do("update federator.person set disabled_at = now() where name = 'ann'")
        assert site.http.get(f"{site.base}/info", params=asked).status_code == 404
        site.do("update federator.person set disabled_at = null where name = 'ann'")
        assert site.http.get(f"{site.base}/info", params=asked).status_code == 200


def test_the_signatures_of_who_has_left_the_group_open_nothing_of_it(site: Site) -> None:
    site.do("insert into federator.membership values ('ann', 'maps')")
    with site.private("group:maps"):
        asked = site.signed_by(Signer("ann", ("user:ann", "group:maps", "role:admin"), "general"))
        assert site.http.get(f"{site.base}/info", params=asked).status_code == 200
        site.do("delete from federator.membership")
        assert site.http.get(f"{site.base}/info", params=asked).status_code == 404


def test_what_is_no_signature_tells_nothing(site: Site) -> None:
    good = site.signed_by(ANN)
    with site.private("user:ben"):
        for item in (site.item, "no-such-item"):
            path = f"/raster/collections/uploads/items/{item}/info"
            for wrong in ("", "x", good[PARAMETER][:-1] + "!", good[PARAMETER] + "A", "é" * 50, "A" * 9000):
                assert_problem(
                    site.http.get(path, params={"assets": "data", PARAMETER: wrong}), 403, "SIGNATURE_INVALID"
                )
        old = {**good, **site.signed_by(ANN, seconds=-1)}
        assert_problem(site.http.get(f"{site.base}/info", params=old), 403, "SIGNATURE_EXPIRED")
    twice = [*good.items(), (PARAMETER, good[PARAMETER])]
    assert_problem(site.http.get(f"{site.base}/info", params=httpx.QueryParams(twice)), 403, "SIGNATURE_INVALID")
    assert_problem(site.http.post(f"{site.base}/statistics", params=good, json={}), 403, "SIGNATURE_READS_ONLY")
    again = site.http.post("/raster/signed", params=good, json={"collection": "uploads"})
    assert again.status_code == 403


@pytest.mark.parametrize("name", ["api_key", "API_KEY", "token", "access_token", "key"])
def test_credentials_in_a_query_are_refused(site: Site, name: str) -> None:
    answer = site.http.get(f"{site.base}/info", params={"assets": "data", name: TOKEN})
    assert_problem(answer, 400, "CREDENTIALS_IN_QUERY")
    assert TOKEN not in answer.text
    assert answer.headers["cache-control"] == "no-store"


def test_only_what_the_caller_may_read_is_signed(site: Site) -> None:
    wanted = {"collection": "uploads", "item": site.item}
    with site.private("user:ann"):
        hidden = site.http.post("/raster/signed", json=wanted)
        absent = site.http.post("/raster/signed", json={**wanted, "item": "no-such-item"})
        assert (hidden.status_code, hidden.content) == (absent.status_code, absent.content) == (404, absent.content)
    answer = site.http.post("/raster/signed", json={**wanted, "expires_in": 30})
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"{}", b'{"collection": "a/b"}', b'{"collection": "a", "expires_in": 3601}', b'{"collection": "a", "x": 1}',
     b'{"collection": "a", "assets": []}', b"[" * 9000, b'{"collection": "\\ud800"}'],
)  # fmt: skip
def test_wrong_wishes_are_refused(site: Site, body: bytes) -> None:
    answer = site.http.post("/raster/signed", content=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["code"] in ("INVALID_BODY", "INVALID_PARAMETER")


async def test_nobody_inside_nor_the_server_s_access_log_sees_the_signature() -> None:
    seen: list[Scope] = []

    async def inside(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    async def nothing(*_: Any) -> Any:
        return {}

    key = b"k" * 32
    place = Place("c", "i")
    signature = sign(key, place, ANN, int(time.time()) + 60)
    query = f"assets=data&{PARAMETER.upper()}={signature}&rescale=0%2C9"
    path = f"{place.path}info"
    scope: Scope = {"type": "http", "method": "GET", "path": path, "query_string": query.encode(), "headers": []}
    await Signed(inside, SimpleNamespace(state=SimpleNamespace(tile_key=key)))(scope, nothing, nothing)
    assert seen[0]["query_string"] == scope["query_string"] == b"assets=data&rescale=0%2C9"
    assert seen[0][CALLER].principals == ANN.principals


def test_no_signature_is_left_in_logs_and_metrics(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    asked = site.signed_by(ANN)
    with caplog.at_level(logging.DEBUG):
        for path in (f"{site.base}/info", f"{site.base}/nonsense", f"{site.base}/tiles/WebMercatorQuad/9/9/9.png"):
            site.http.get(path, params=asked)
    ours = [record for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    assert ours
    assert not [record for record in ours if asked[PARAMETER] in record.getMessage() + str(record.__dict__)]
    assert asked[PARAMETER] not in site.http.get("/_mgmt/metrics").text
