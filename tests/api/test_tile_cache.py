"""Kept tiles against the running application: given again as they were, never old, never to who may not see them."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from rasterio.transform import from_origin
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from api.metrics import Metrics
from api.settings import ApiSettings
from api.tiles.cache import COLLECTION_PIXELS, ITEM_PIXELS, TileCache
from api.tiles.rendering import note_foreign, note_readable
from api.tiles.versions import Asker, State
from db.pools import open_pool
from db.settings import DatabaseSettings
from ingest.overviews.density import keep_density
from tests.api import editing
from tests.api.server import listening, running
from tests.api.sharing_site import Site, item, sharing_site, upload_of
from tests.ingest.uploads.rasters import write

TILE = "tiles/WebMercatorQuad/1/1/0.png"


@pytest.fixture(scope="module")
def site(postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with sharing_site(postgres, template, tmp_path_factory.mktemp("tiles")) as started:
        yield started


def outcomes(site: Site) -> dict[str, int]:
    """How many tiles were answered in which way."""
    lines = site.ask("admin", "GET", "/_mgmt/metrics").text.splitlines()
    found = [line for line in lines if line.startswith("federator_tiles_total{")]
    return {line.split('"')[1]: int(float(line.split()[-1])) for line in found}


def counted(site: Site, outcome: str, before: dict[str, int]) -> int:
    return outcomes(site).get(outcome, 0) - before.get(outcome, 0)


def path_of(item_id: str, tile: str = TILE) -> str:
    collection = item_id.removeprefix("of-") if item_id.startswith("of-") else "open"
    return f"/raster/collections/{collection}/items/{item_id}/{tile}"


def test_a_repeated_tile_is_given_again_and_a_client_that_has_it_gets_304(site: Site) -> None:
    before = outcomes(site)
    first = site.ask("anonymous", "GET", path_of("i-public"), params={"assets": "data", "rescale": "0,255"})
    again = site.ask("anonymous", "GET", path_of("i-public"), params={"rescale": "0,255", "assets": "data"})
    assert first.status_code == 200, first.text
    assert (first.content, first.headers["etag"], first.headers["content-type"]) == (
        again.content, again.headers["etag"], again.headers["content-type"],
    )  # fmt: skip
    assert again.headers["cache-control"] == "no-cache"
    assert (counted(site, "made", before), counted(site, "memory", before)) == (1, 1)
    unchanged = site.ask(
        "anonymous", "GET", path_of("i-public"), params={"assets": "data", "rescale": "0,255"},
        headers={"If-None-Match": first.headers["etag"]},
    )  # fmt: skip
    assert (unchanged.status_code, unchanged.content) == (304, b"")


@pytest.mark.parametrize(
    "query", ["buffer=1e9", "padding=-1", "tilesize=99999999", "max_size=1e99", "width=nan&height=3"]
)
def test_a_picture_of_any_size_is_not_made(site: Site, query: str) -> None:
    answer = site.ask("anonymous", "GET", path_of("i-public"), params=httpx.QueryParams(query))
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_PARAMETER")
    assert site.ask("anonymous", "GET", path_of("i-public", "preview/9999999999x8.png")).status_code == 400


def test_equal_requests_at_the_same_moment_are_made_once(site: Site) -> None:
    before = outcomes(site)
    with ThreadPoolExecutor(8) as threads:
        answers = list(
            threads.map(
                lambda _: site.ask("anonymous", "GET", path_of("i-public", "preview.png?max_size=97")), range(8)
            )
        )
    assert {one.status_code for one in answers} == {200}
    assert len({one.content for one in answers}) == 1
    assert counted(site, "made", before) == 1


def test_a_kept_tile_of_what_is_private_is_for_its_owner_alone(site: Site) -> None:
    for item_id in ("i-private", "of-c-private"):
        owner = [site.ask("owner", "GET", path_of(item_id)) for _ in range(2)]
        assert [one.status_code for one in owner] == [200, 200]
        assert {one.headers["cache-control"] for one in owner} == {"private, no-store"}
        headers = {"If-None-Match": owner[0].headers["etag"]}
        for who in ("anonymous", "other", "shared"):
            assert site.ask(who, "GET", path_of(item_id), headers=headers).status_code == 404


def test_what_becomes_private_is_answered_to_nobody_else_from_then_on(site: Site) -> None:
    assert site.ask("anonymous", "GET", path_of("i-public")).status_code == 200
    site.done("owner", "PUT", "/sharing/collections/open/items/i-public", json={"visibility": "private"})
    try:
        assert site.ask("anonymous", "GET", path_of("i-public")).status_code == 404
        assert site.ask("owner", "GET", path_of("i-public")).status_code == 200
    finally:
        site.done("owner", "PUT", "/sharing/collections/open/items/i-public", json={"visibility": "public"})
    assert site.ask("anonymous", "GET", path_of("i-public")).status_code == 200


def test_a_replaced_item_shows_its_new_pixels_at_once(site: Site, tmp_path: Path) -> None:
    pixels = np.full((1, 64, 64), 250, "uint8")
    write(tmp_path / "other.tif", pixels, crs="EPSG:4326", transform=from_origin(0, 1, 1 / 64, 1 / 64))
    old = site.ask("anonymous", "GET", path_of("i-public")).content
    site.rows("update federator.upload set item_id = 'gone' where item_id = 'i-public'")
    upload = upload_of(site, "ann", "open", "i-public", tmp_path / "other.tif")
    document = site.done("owner", "GET", "/stac/collections/open/items/i-public")
    document["assets"] = item(site, "i-public", "open", upload)["assets"]
    site.done("owner", "PUT", "/stac/collections/open/items/i-public", json=document)
    new = site.ask("anonymous", "GET", path_of("i-public"))
    assert (new.status_code, new.content != old) == (200, True)


def test_an_asset_that_names_anothers_private_raster_shows_it_only_to_who_may_read_it(site: Site) -> None:
    """The same public item, another answer for each caller: one does not get what was kept for the other."""
    document: Any = item(site, "borrowed", "open", site.uploads["i-private"])
    site.done("owner", "POST", "/stac/collections/open/items", json=document)
    site.done("owner", "PUT", "/sharing/collections/open/items/borrowed", json={"visibility": "public"})
    assert site.ask("owner", "GET", path_of("borrowed"), params={"assets": "data"}).status_code == 200
    assert site.ask("anonymous", "GET", path_of("borrowed"), params={"assets": "data"}).status_code >= 400


def test_a_kept_tile_of_a_collection_does_not_show_a_borrowed_raster_that_became_private(site: Site) -> None:
    for name in ("lender", "borrower"):
        site.done("owner", "POST", "/stac/collections", json=editing.collection(name))
        site.done("owner", "PUT", f"/sharing/collections/{name}", json={"visibility": "public"})
    upload = upload_of(site, "ann", "lender", "lent", site.data_dir / "raster.tif")
    ring = [[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]
    for collection, name in (("lender", "lent"), ("borrower", "borrowing")):
        document = item(site, name, collection, upload)
        document |= {"geometry": {"type": "Polygon", "coordinates": [ring]}, "bbox": [0, 0, 1, 1]}
        site.done("owner", "POST", f"/stac/collections/{collection}/items", json=document)
    path = "/raster/collections/borrower/bbox/0,0,1,1/16x16.npy?assets=data"
    assert site.ask("anonymous", "GET", path).status_code == 200
    site.done("owner", "PUT", "/sharing/collections/lender/items/lent", json={"visibility": "private"})
    assert site.ask("anonymous", "GET", path).status_code != 200
    assert site.ask("owner", "GET", path).status_code == 200
    own = "/raster/collections/lender/bbox/0,0,1,1/16x16.npy?assets=data"
    before = outcomes(site)
    assert [site.ask("owner", "GET", own).status_code for _ in range(2)] == [200, 200]
    assert counted(site, "memory", before) == 1


async def test_who_waits_for_a_picture_with_anothers_raster_gets_one_of_his_own(tmp_path: Path) -> None:
    """It may have become private after the first one's was begun."""
    begun, may_end, made = asyncio.Event(), asyncio.Event(), []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        made.append(len(made))
        body = str(len(made)).encode()
        note_foreign(Request(scope))
        begun.set()
        await may_end.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"image/png")]})
        await send({"type": "http.response.body", "body": body})

    class One:
        async def state(self, names: tuple[str, ...], asker: Asker) -> State | None:
            return State("1", True, "")

    cache = TileCache(app, {COLLECTION_PIXELS: One()}, ApiSettings(data_dir=tmp_path, tile_cache_bytes=0), Metrics())
    cache.open("db")
    transport = httpx.ASGITransport(cache)
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as http:
        path = "/raster/collections/a/tiles/WebMercatorQuad/0/0/0.png"
        first = asyncio.create_task(http.get(path))
        await begun.wait()
        second = asyncio.create_task(http.get(path))
        while not any(one.waiting == 2 for one in cache._flights._flights.values()):
            await asyncio.sleep(0)
        may_end.set()
        assert [(await one).content for one in (first, second)] == [b"1", b"2"]


async def test_a_tile_with_anothers_raster_was_kept_for_whom_it_was_for_before_sharing_changed(tmp_path: Path) -> None:
    """It is public for a moment, while a tile is drawn for who could not read it; he must not find it later."""
    shown: list[str] = ["one", "two"]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        note_readable(Request(scope), ["one", "two"], shown)
        body = "+".join(shown).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"image/png")]})
        await send({"type": "http.response.body", "body": body})

    class One:
        async def state(self, names: tuple[str, ...], asker: Asker) -> State | None:
            return State("1", True, "one,of-another-item")

    cache = TileCache(app, {ITEM_PIXELS: One()}, ApiSettings(data_dir=tmp_path, tile_cache_bytes=0), Metrics())
    cache.open("db")
    path = "/raster/collections/a/items/b/tiles/WebMercatorQuad/0/0/0.png"
    async with httpx.AsyncClient(transport=httpx.ASGITransport(cache), base_url="http://here") as http:
        assert (await http.get(path)).content == b"one+two"
        shown.remove("two")
        assert [(await http.get(path)).content for _ in range(2)] == [b"one", b"one"]
        shown.append("two")
        assert (await http.get(path)).content == b"one"
    cache.close()


def test_other_processes_find_tiles_on_disk_and_do_not_trust_damaged_ones(site: Site) -> None:
    path = path_of("i-public", "preview.png?max_size=33")
    made = site.ask("anonymous", "GET", path)
    public_url = str(site.http.base_url)  # hrefs of rasters begin with it
    listener, url = listening()
    settings = ApiSettings(data_dir=site.data_dir, public_url=public_url, api_token="a-token-for-the-test")
    with running(settings, site.database, listener), httpx.Client(base_url=url, timeout=60) as http:
        other = Site(http, site.database, site.data_dir, {}, {}, {"admin": "a-token-for-the-test"})
        assert other.ask("anonymous", "GET", path).content == made.content
        assert outcomes(other) == {"disk": 1}
        files = [file for file in (site.data_dir / "tiles").glob("*/*") if file.is_file()]
        assert files
        for file in files:
            file.write_bytes(file.read_bytes()[:-1])
    listener, url = listening()
    with running(settings, site.database, listener), httpx.Client(base_url=url, timeout=60) as http:
        other = Site(http, site.database, site.data_dir, {}, {}, {"admin": "a-token-for-the-test"})
        assert other.ask("anonymous", "GET", path).content == made.content
        assert outcomes(other) == {"made": 1}
    shutil.rmtree(site.data_dir / "tiles")
    assert site.ask("anonymous", "GET", path_of("i-public", "preview.png?max_size=34")).status_code == 200


def test_density_counts_what_the_caller_may_see_and_is_new_after_a_change(site: Site) -> None:
    async def reckon() -> None:
        async with open_pool(site.database) as pool:
            await keep_density(pool)

    def total(who: str, format: str = "mvt", zoom: int = 0) -> bytes:
        tile = {0: "0/0/0", 9: "9/278/177"}[zoom]
        answer = site.ask(who, "GET", f"/raster/collections/open/density/{tile}.{format}")
        assert answer.status_code == 200, answer.text
        return answer.content

    asyncio.run(reckon())
    seen = {who: total(who) for who in ("anonymous", "other", "shared", "owner")}
    assert seen["anonymous"] == seen["other"]
    assert len({seen["anonymous"], seen["shared"], seen["owner"]}) == 3
    assert total("anonymous", "png").startswith(b"\x89PNG")
    assert total("anonymous", zoom=9) != total("owner", zoom=9)
    site.done("owner", "POST", "/stac/collections/open/items", json=item(site, "one-more", "open"))
    site.done("owner", "PUT", "/sharing/collections/open/items/one-more", json={"visibility": "public"})
    asyncio.run(reckon())
    assert total("anonymous") != seen["anonymous"]
    assert site.ask("anonymous", "GET", "/raster/collections/c-private/density/0/0/0.png").status_code == 404
    for wrong in ("0/1/0.png", "15/0/0.png", "0/0/0.gif", "-1/0/0", "3/0/x.png"):
        assert site.ask("anonymous", "GET", f"/raster/collections/open/density/{wrong}").status_code in (400, 404)
