"""Tiles that are made before FastAPI are those of titiler's route: the same request through both gives the same answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pystac
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from titiler.pgstac.reader import PgSTACReader

from api.tiles import direct
from api.tiles.direct import DirectTiles
from api.tiles.plain import drawn_by, tile_of
from db.settings import DatabaseSettings
from tests.api.sharing_site import Site, item, upload_of
from tests.api.tile_site import FIELDS, INSIDE, NDVI, SECRET, picture, tile_site
from tests.size import sized

pytestmark = pytest.mark.filterwarnings("ignore")

HINTS = {"default": {"assets": ["data"], "bidx": [2], "rescale": [[0, 250]], "colormap_name": "viridis"}, "ndvi": NDVI}
#: Of an answer: what differs from one to the next.
_BY_TIME = {"date", "ratelimit", "server"}


@dataclass
class Ways:
    """The application, and whether plain tiles are made before FastAPI; `quick` counts those that were."""

    site: Site
    is_direct: bool = True
    quick: int = 0

    def answers(self, who: str, path: str, **given: Any) -> tuple[Any, Any, bool]:
        """The answer of both ways, and whether the quick one was taken."""
        before, found = self.quick, []
        for self.is_direct in (True, False):
            answer = self.site.ask(who, "GET", path, **given)
            headers = {name: value for name, value in answer.headers.items() if name not in _BY_TIME}
            found.append((answer.status_code, headers, answer.content))
        self.is_direct = True
        return found[0], found[1], self.quick > before


@pytest.fixture(scope="module")
def ways(postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    folder = tmp_path_factory.mktemp("plain")
    kept = {"tile_memory_bytes": 0, "tile_cache_bytes": 0}
    with tile_site(postgres, template, folder, **kept) as site, pytest.MonkeyPatch.context() as patch:
        found, work, made = Ways(site), DirectTiles.work, DirectTiles._made

        def chosen(direct: DirectTiles, *asked: Any) -> Any:
            return work(direct, *asked) if found.is_direct else None

        def counted(direct: DirectTiles, *asked: Any) -> Any:
            kept = made(direct, *asked)
            found.quick += kept is not None
            return kept

        patch.setattr(DirectTiles, "work", chosen)
        patch.setattr(DirectTiles, "_made", counted)
        _add_hinted(site, folder)
        yield found


def _add_hinted(site: Site, folder: Path) -> None:
    """An item with hints of its own, and one whose asset is the raster of another."""
    upload = upload_of(site, "ann", FIELDS, "hinted", picture(folder / "hinted.tif", 40, (0, 0, 64, 64)))
    document = on_the_tile(item(site, "hinted", FIELDS, upload))
    document["properties"]["renders"] = HINTS
    site.done("owner", "POST", f"/stac/collections/{FIELDS}/items", json=document)
    borrowed: Any = site.rows("select id::text from federator.upload where item_id = 'mine'")[0][0]
    site.done(
        "owner",
        "POST",
        f"/stac/collections/{FIELDS}/items",
        json=on_the_tile(item(site, "borrowing", FIELDS, borrowed)),
    )


def on_the_tile(document: dict[str, Any]) -> dict[str, Any]:
    ring = [[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]
    return document | {"geometry": {"type": "Polygon", "coordinates": [ring]}, "bbox": [0, 0, 1, 1]}


def path_of(name: str, query: str = "", *, form: str = ".png", tile: str = INSIDE, collection: str = FIELDS) -> str:
    return f"/raster/collections/{collection}/items/{name}/tiles/{tile}{form}{'?' if query else ''}{query}"


@pytest.mark.parametrize("form", ["png", "pngraw", "jpg", "jpeg", "webp", "npy", "tif", "tiff"])
def test_every_format(ways: Ways, form: str) -> None:
    direct, routed, is_quick = ways.answers(
        "anonymous", path_of("left", "assets=data|bidx=1&rescale=0,100", form=f".{form}")
    )
    assert (direct[0], is_quick) == (200, True)
    assert direct == routed


PLAIN = [
    "", "assets=data", "assets=data%7Cbidx%3D2,1", "assets=data|bidx=1&rescale=0,50", "assets=data&assets=data|bidx=1",
    "assets=data&rescale=0,10&rescale=5,60", "rescale=%5B0,10%5D", "assets=data&expression=b1*2;b2-b1&rescale=0,255",
    "expression=(b1%2Bb2)/2&rescale=0,99", "render=default", "render=ndvi", "render=ndvi&rescale=0,1", "colormap_name=magma",
    "assets=data|bidx=1&colormap_name=magma&rescale=0,50", "tilesize=128", "assets=data&tilesize=512&return_mask=false",
    "nodata=10&assets=data", "unscale=true&assets=data", "resampling=nearest&reproject=nearest",
    "resampling=bilinear&assets=data&reproject=cubic", "assets=data|expression=b1/2&rescale=0,20",
]  # fmt: skip


@pytest.mark.parametrize("query", PLAIN)
def test_parameters_of_map_clients(ways: Ways, query: str) -> None:
    quick = 0
    for name in ("left", "hinted"):
        direct, routed, is_quick = ways.answers("anonymous" if name == "left" else "owner", path_of(name, query))
        assert direct == routed
        assert direct[0] == 200 or not is_quick
        quick += is_quick
    assert quick


ODD = [
    "assets=no-such", "assets=data|bidx=9", "assets=data|bidx=x", "assets=data|bidx", "assets=", "assets=data&rescale=1",
    "rescale=a,b", "rescale=5,5&assets=data", "rescale=9,1&assets=data", "rescale=0,inf&assets=data", "render=no-such", "render=",
    f"render={'a' * 200}", "colormap_name=no-such", "tilesize=0", "tilesize=4096", "tilesize=%2B5", "tilesize=1e2", "nodata=x",
    "nodata=1e3", "return_mask=yes", "return_mask=1&assets=data", "unscale=2", "resampling=no-such", "buffer=1&assets=data",
    "padding=2&assets=data", "color_formula=gamma%20RGB%203", "algorithm=hillshade", "expression=b1**99", "expression=(", "bidx=1",
    "assets=data&tilesize=64&tilesize=32", "unknown=1&assets=data", "assets=data&asset_as_band=true", "assets=d%C3%A4ta",
    "assets=data&x", "&&assets=data", "assets=data%00", "assets=data;rescale=0,1", "nodata=%D9%A3&assets=data", "ASSETS=data",
    "nodata=nan", "nodata=-1.5", "access_token=a&assets=data", f"assets={'a' * 3000}", "&".join(["assets=data"] * 17),
]  # fmt: skip


@pytest.mark.parametrize("query", ODD)
def test_what_is_odd_or_wrong_is_answered_by_the_route(ways: Ways, query: str) -> None:
    direct, routed, _ = ways.answers("anonymous", path_of("left", query))
    assert direct == routed
    assert direct[0] < 500


@pytest.mark.parametrize(
    "path",
    [
        path_of("left", form=""), path_of("left", form=".gif"), path_of("left", form="@2x.png"), path_of("left", tile="Nowhere/1/0/0"),
        path_of("left", tile="WebMercatorQuad/09/256/255"), path_of("left", tile="WebMercatorQuad/1/0/0"),
        path_of("left", tile="WebMercatorQuad/99/0/0"), path_of("left", tile="WebMercatorQuad/2/900000000/0"),
        path_of("left", tile="WorldCRS84Quad/8/256/127"), path_of("left", tile="WebMercatorQuad/%D9%A3/1/1"),
        path_of("absent"), path_of("left", collection="absent"), path_of("a%20b"), path_of("left") + "/",
    ],
)  # fmt: skip
def test_paths(ways: Ways, path: str) -> None:
    direct, routed, _ = ways.answers("anonymous", path)
    assert direct == routed
    assert direct[0] < 500


@pytest.mark.parametrize("who", ["anonymous", "other", "owner", "admin"])
def test_callers_see_by_it_what_they_may_see(ways: Ways, who: str) -> None:
    for name, collection in (("left", FIELDS), ("mine", FIELDS), ("hidden", SECRET)):
        direct, routed, is_quick = ways.answers(who, path_of(name, "assets=data&rescale=0,100", collection=collection))
        assert direct == routed
        is_allowed = name == "left" or who in ("owner", "admin")
        assert (direct[0], is_quick) == ((200, True) if is_allowed else (404, False))
        if who != "anonymous" and is_allowed:
            assert direct[1]["cache-control"] == "private, no-store"


def test_signed_urls_and_other_origins(ways: Ways) -> None:
    shown = ways.site.done("owner", "POST", "/raster/signed", json={"collection": FIELDS, "item": "mine"})
    template = shown["tiles"].removeprefix(str(ways.site.http.base_url)).partition("tiles/")
    path = f"{template[0]}tiles/{INSIDE}.png?{template[2].partition('?')[2]}"
    headers = {"Origin": "https://map.example", "Accept": "image/avif,image/webp,*/*", "Accept-Encoding": "gzip, br"}
    direct, routed, is_quick = ways.answers("anonymous", path, headers=headers)
    assert (direct[0], is_quick) == (200, True)
    assert direct == routed
    direct, routed, _ = ways.answers("anonymous", path.replace("sig=", "sig=x"))
    assert (direct[0], direct) == (403, routed)
    known = {"If-None-Match": ways.answers("anonymous", path_of("left"))[0][1]["etag"]}
    direct, routed, _ = ways.answers("anonymous", path_of("left"), headers=known)
    assert (direct[0], direct) == (304, routed)


def test_a_raster_of_another_item_and_a_changed_item_are_left_to_the_route_and_told_at_once(ways: Ways) -> None:
    direct, routed, is_quick = ways.answers("owner", path_of("borrowing"))
    assert (direct[0], direct, is_quick) == (200, routed, False)
    place = f"/stac/collections/{FIELDS}/items/hinted"
    before, _, _ = ways.answers("owner", path_of("hinted"))
    document = ways.site.done("owner", "GET", place)
    try:
        changed = {
            **document,
            "properties": {
                **document["properties"],
                "renders": {"default": {**HINTS["default"], "rescale": [[0, 90]]}},
            },
        }
        ways.site.done("owner", "PUT", place, json=changed)
        after, routed, is_quick = ways.answers("owner", path_of("hinted"))
        assert (after, is_quick) == (routed, True)
        assert after[2] != before[2]
    finally:
        ways.site.done("owner", "PUT", place, json=document)


def test_routes_are_counted_alike_and_other_methods_are_not_taken(ways: Ways) -> None:
    def routes() -> set[str]:
        lines = ways.site.ask("admin", "GET", "/_mgmt/metrics").text.splitlines()
        return {line.split('route="')[1].split('"')[0] for line in lines if "/tiles/" in line and 'route="' in line}

    ways.answers("anonymous", path_of("left"))
    item_routes = {one for one in routes() if "/items/" in one and one.endswith(".{format}")}
    assert len(item_routes) == 1
    for method in ("HEAD", "POST", "OPTIONS"):
        found = []
        for ways.is_direct in (True, False):
            answer = ways.site.http.request(method, path_of("left"))
            found.append((answer.status_code, answer.headers.get("allow"), answer.content))
        assert found[0] == found[1]
    ways.is_direct = True


NUMBERS = st.integers(-5, 300).map(str) | st.floats(0, 200, width=16).map(str)
QUERIES = st.fixed_dictionaries(
    {},
    optional={
        "assets": st.lists(st.sampled_from(["data", "data|bidx=1", "data|bidx=2,1", "data|expression=b2-b1"]), min_size=1, max_size=2),
        "rescale": st.lists(st.tuples(NUMBERS, NUMBERS).map(",".join), min_size=1, max_size=2),
        "expression": st.sampled_from(["b1", "b1/2", "where(b1>15,b1,0)", "b2"]),
        "render": st.sampled_from(["ndvi", "default"]),
        "colormap_name": st.sampled_from(["viridis", "reds"]),
        "tilesize": st.sampled_from(["64", "257"]),
        "nodata": NUMBERS,
        "return_mask": st.sampled_from(["true", "false"]),
        "resampling": st.sampled_from(["nearest", "average"]),
    },
)  # fmt: skip
FORMS = st.sampled_from([".png", ".jpg", ".webp", ".npy", ""])


@settings(max_examples=sized(40, 1500), deadline=None)
@given(QUERIES, FORMS, st.sampled_from(["left", "hinted", "old"]), st.sampled_from([INSIDE, "WorldCRS84Quad/7/128/63"]))
def test_any_parameters(ways: Ways, query: dict[str, Any], form: str, name: str, tile: str) -> None:
    path = path_of(name, urlencode(query, doseq=True), form=form, tile=tile)
    direct, routed, _ = ways.answers("owner", path)
    assert direct == routed
    assert direct[0] < 500


def test_plain_is_what_is_written_as_usual() -> None:
    assert drawn_by(b"assets=data&rescale=0,10", 2**24) is drawn_by(b"assets=data&rescale=0,10", 2**24)
    assert drawn_by(b"assets=data&time=2026-01-01", 2**24) is None
    tile = tile_of("/raster/collections/a/items/b/tiles/WebMercatorQuad/3/1/2.png")
    assert tile is not None
    assert (tile.z, tile.x, tile.y) == (3, 1, 2)


def test_items_are_kept_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "_MOST_BYTES", 100)
    tiles = DirectTiles(FastAPI(), PgSTACReader, 1)
    for number in range(5):
        tiles._keep((("a", "b"), str(number), ""), direct._Item(pystac.Item.__new__(pystac.Item), False, 40))
    tiles._keep((("a", "c"), "", ""), None)
    assert len(tiles._items) == 3
    assert tiles._bytes == 80


def test_a_fault_of_the_quick_way_was_not_seen_by_anybody(
    ways: Ways, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise AttributeError("of ours")

    def counted() -> float:
        lines = ways.site.ask("admin", "GET", "/_mgmt/metrics").text.splitlines()
        return sum(
            float(line.split()[-1]) for line in lines if line.startswith('federator_tile_fallbacks_total{error="A')
        )

    path = f"/raster/collections/{FIELDS}/items/old/tiles/{INSIDE}.png"
    monkeypatch.setattr(direct, "_picture", broken)
    for number in (1, 2):
        assert (
            ways.site.ask("anonymous", "GET", path, params={"assets": "data", "rescale": f"0,{number}"}).status_code
            == 200
        )
    assert counted() == 2
    assert [one.message for one in caplog.records].count("plain tiles fail and are left to the route") == 1
    monkeypatch.undo()  # what is asked wrongly is no fault
    wrong = ways.site.ask("anonymous", "GET", path, params={"assets": "nope"})
    assert (wrong.status_code, counted()) == (400, 2)


def test_a_tile_at_2x_is_that_of_a_tilesize(ways: Ways) -> None:
    base = f"/raster/collections/{FIELDS}/items/old/tiles/{INSIDE}"
    asked = {"assets": "data|bidx=1", "rescale": "0,100"}

    def tile(name: str, **more: str) -> bytes:
        answer = ways.site.ask("anonymous", "GET", f"{base}{name}", params={**asked, **more})
        assert answer.status_code == 200, answer.text
        return answer.content

    assert tile("@2x.png") == tile(".png", tilesize="512") != tile(".png")
    assert tile("@1x.png") == tile(".png") == tile("@2x.png", tilesize="256")
    assert tile("@2x") == tile("", tilesize="512")
    mosaic = f"/raster/collections/{FIELDS}/tiles/{INSIDE}@2x.npy"
    assert ways.site.ask("anonymous", "GET", mosaic, params=asked).headers["content-type"] == "application/x-binary"
    assert ways.site.ask("anonymous", "GET", f"{base}@9x.png", params=asked).status_code == 400
    for who, status in (("owner", 200), ("other", 404)):
        path = f"/raster/collections/{SECRET}/items/hidden/tiles/{INSIDE}@2x.png"
        assert ways.site.ask(who, "GET", path, params=asked).status_code == status


def test_renders_lead_to_tilejson(ways: Ways) -> None:
    base = f"/raster/collections/{FIELDS}/items/hinted/renders"
    found = ways.site.done("anonymous", "GET", base)
    assert found["renders"].keys() == HINTS.keys()
    one = ways.site.done("anonymous", "GET", f"{base}/ndvi")
    assert one == found["renders"]["ndvi"]
    assert one["params"]["expression"] == NDVI["expression"]
    links = [link for link in one["links"] if link["rel"] == "tilesets-map"]
    told = ways.site.done("anonymous", "GET", links[0]["href"].replace("{tileMatrixSetId}", "WebMercatorQuad"))
    assert "expression=" in told["tiles"][0]
    assert ways.site.ask("anonymous", "GET", f"{base}/nope").status_code == 404
    assert ways.site.ask("anonymous", "GET", "/raster/collections/secret/items/hidden/renders").status_code == 404
