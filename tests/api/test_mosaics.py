"""Mosaics over the running application: what lies on top, what a caller sees of it, and what happens when there is no time."""

from __future__ import annotations

import numpy as np
import pytest

from tests.api.editing import is_problem
from tests.api.sharing_site import Site
from tests.api.tile_site import FIELDS, INSIDE, LAYERS, SECRET, add, array, values

BASE = f"/raster/collections/{FIELDS}"
BOX = f"{BASE}/bbox/0,0,1,1/64x64.npy"
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


@pytest.fixture(scope="module")
def site(tiles: Site) -> Site:
    return tiles


def test_the_newest_pixel_lies_on_top(site: Site) -> None:
    pixels = array(site.ask("anonymous", "GET", BOX, params={"assets": "data"}))
    assert pixels.shape == (3, 64, 64)
    assert (pixels[0, 32:] == 30).all()
    assert (pixels[0, :32, :32] == 20).all()
    assert (pixels[0, :32, 32:] == 10).all()
    assert (pixels[1] == 2 * pixels[0]).all()


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, {30, 20, 10}),
        ({"sortby": "oldest"}, {10}),
        ({"sortby": "+datetime"}, {10}),
        ({"sortby": "-datetime"}, {30, 20, 10}),
        ({"sortby": "least-cloud"}, {10}),
        ({"sortby": "-eo:cloud_cover"}, {30, 20, 10}),
        ({"sortby": "id"}, {20, 30, 10}),  # left, low, old
        ({"ids": "left"}, {20}),
        ({"ids": "left,low"}, {20, 30}),
        ({"datetime": "2026-02-01T00:00:00Z/.."}, {20, 30}),
        ({"time": "2026-02-01"}, {20}),
        ({"time": "2026-01-01/2026-02-28/P1D"}, {10, 20}),
        ({"time": "default"}, {30, 20, 10}),
        ({"filter": "eo:cloud_cover < 60"}, {20, 10}),
        ({"query": '{"eo:cloud_cover": {"gt": 60}}'}, {30}),
        ({"pixel_selection": "highest"}, {30, 20, 10}),
        ({"pixel_selection": "lowest"}, {10}),
        ({"pixel_selection": "count"}, {3, 2, 1}),
        ({"pixel_selection": "lowest", "exitwhenfull": "true", "sortby": "oldest"}, {10}),
        ({"items_limit": "1"}, {30}),
        ({"skipcovered": "false"}, {30, 20, 10}),
    ],
)
def test_order_choice_and_method(site: Site, parameters: dict[str, str], expected: set[int]) -> None:
    assert values(site.ask("anonymous", "GET", BOX, params={"assets": "data", **parameters})) == expected


def test_each_sees_what_he_may_see(site: Site) -> None:
    for who, expected in {"anonymous": {30, 20, 10}, "other": {30, 20, 10}, "owner": {99}, "admin": {99}}.items():
        answer = site.ask(who, "GET", BOX, params={"assets": "data"})
        assert values(answer) == expected, who
        assert ("no-store" in answer.headers.get("cache-control", "")) == (who != "anonymous")
    for who in ("anonymous", "other"):
        for path in ("tiles", "info.geojson", "WebMercatorQuad/tilejson.json", f"tiles/{INSIDE}.png"):
            answer = site.ask(who, "GET", f"/raster/collections/{SECRET}/{path}")
            there_is_none = site.ask(who, "GET", f"/raster/collections/no-such/{path}")
            assert answer.content == there_is_none.content
            assert answer.status_code == 404


def test_a_picture_that_lacks_items_says_so_and_is_not_kept(site: Site) -> None:
    answer = site.ask("anonymous", "GET", BOX, params={"assets": "data", "items_limit": 1})
    assert answer.headers["federator-partial"] == "items"
    assert answer.headers["cache-control"] == "no-store"
    whole = site.ask("anonymous", "GET", BOX, params={"assets": "data"})
    assert "federator-partial" not in whole.headers
    late = site.ask("anonymous", "GET", BOX, params={"assets": "data", "time_limit": "0.0000001"})
    is_problem(late, 503, "TILE_DEADLINE")


def test_it_is_partial_only_when_there_are_more_items(site: Site) -> None:
    for path in (BOX, f"{BASE}/bbox/0,0,1,1/assets", f"{BASE}/point/0.2,0.2"):
        for most, why in ((3, None), (2, "items"), (4, None)):
            asked = {"assets": "data", "items_limit": most, "pixel_selection": "lowest"}
            answer = site.ask("anonymous", "GET", path, params=asked)
            assert (answer.status_code, answer.headers.get("federator-partial")) == (200, why), (path, most)
            if path != BOX:
                listed = answer.json()
                assert len(listed["assets"] if "point" in path else listed) == min(most, 3)


def test_an_empty_answer_says_that_there_are_more_items(site: Site) -> None:
    for most, why in ((1, "items"), (3, None)):
        answer = site.ask(
            "anonymous", "GET", f"{BASE}/tiles/{INSIDE}.png", params={"assets": "absent", "items_limit": most}
        )
        assert (answer.status_code, answer.headers.get("federator-partial")) == (204, why)
        assert (answer.headers.get("cache-control") == "no-store") == (why is not None)


def test_a_raster_that_cannot_be_read_is_passed_over(site: Site) -> None:
    add(site, FIELDS, "broken", site.data_dir / "old.tif", 5, 0)
    (site.data_dir / "cogs" / f"{_upload(site, 'broken')}.tif").unlink()  # nobody has opened it yet
    try:
        answer = site.ask("anonymous", "GET", BOX, params={"assets": "data"})
        assert values(answer) == {30, 20, 10}
        assert answer.headers["federator-partial"] == "unreadable"
        alone = site.ask("anonymous", "GET", BOX, params={"assets": "data", "ids": "broken"})
        is_problem(alone, 422, "RASTER_UNREADABLE")
    finally:
        assert site.ask("admin", "DELETE", f"/stac/collections/{FIELDS}/items/broken").is_success


def _upload(site: Site, item: str) -> str:
    document = site.done("anonymous", "GET", f"/stac/collections/{FIELDS}/items/{item}")
    return str(document["assets"]["data"]["href"].split("/")[-2])


def test_hints_are_drawn_by_name(site: Site) -> None:
    tile = f"{BASE}/tiles/{INSIDE}"
    grey = array(site.ask("anonymous", "GET", f"{tile}.npy"))
    assert set(np.unique(grey[0]).tolist()) <= {int(255 * one / 100) for one in (30, 20, 10)}
    ndvi = array(site.ask("anonymous", "GET", f"{tile}.npy", params={"render": "ndvi", "return_mask": "false"}))
    assert ndvi.shape[0] in (1, 3)
    raw = array(site.ask("anonymous", "GET", f"{tile}.npy", params={"assets": "data", "expression": "(b2-b1)/(b2+b1)"}))
    assert raw[0][raw[-1] > 0] == pytest.approx(1 / 3)
    document = site.done("anonymous", "GET", f"{BASE}/WebMercatorQuad/tilejson.json")
    assert set(document["raster_layers"]) == {"default", "ndvi"}
    assert document["bounds"] == [0, 0, 1, 1]
    assert 5 <= document["maxzoom"] <= 9
    is_problem(site.ask("anonymous", "GET", f"{tile}.png", params={"render": "none"}), 400, "NO_SUCH_RENDER")
    item = f"/raster/collections/{FIELDS}/items/old"
    per_asset = site.done("anonymous", "GET", f"{item}/point/0.5,0.5", params={"assets": "data|expression=b2-b1"})
    assert per_asset["values"] == [10.0]


def test_values_statistics_and_lists(site: Site) -> None:
    point = site.done("anonymous", "GET", f"{BASE}/point/0.2,0.2", params={"assets": "data"})
    assert [(one["name"], one["values"][0]) for one in point["assets"]] == [
        ("fields/low", 30),
        ("fields/left", 20),
        ("fields/old", 10),
    ]
    listed = site.done("anonymous", "GET", f"{BASE}/tiles/{INSIDE}/assets")
    assert [one["id"] for one in listed] == ["low", "left", "old"]
    assert len(site.done("owner", "GET", f"{BASE}/bbox/0,0,1,1/assets")) == len(LAYERS)
    square = {
        "type": "Feature", "properties": {},
        "geometry": {"type": "Polygon", "coordinates": [[[0, 0.5], [1, 0.5], [1, 1], [0, 1], [0, 0.5]]]},
    }  # fmt: skip
    answer = site.done("anonymous", "POST", f"{BASE}/statistics", json=square, params={"assets": "data"})
    (first, _) = answer["properties"]["statistics"].values()
    assert first["mean"] == pytest.approx(15, abs=1e-6)
    tiff = site.ask("anonymous", "POST", f"{BASE}/feature.tif", json=square, params={"assets": "data"})
    assert tiff.content[:2] in (b"II", b"MM")


@pytest.mark.parametrize("format_", ["png", "jpeg", "webp", "avif", "tif", "npy", "jpg"])
def test_formats_and_sizes(site: Site, format_: str) -> None:
    for size in (256, 512):
        answer = site.ask("anonymous", "GET", f"{BASE}/tiles/{INSIDE}.{format_}", params={"tilesize": size})
        assert answer.status_code == 200, answer.text


def test_other_tile_matrix_sets_and_maps(site: Site) -> None:
    assert values(site.ask("anonymous", "GET", f"{BASE}/tiles/WorldCRS84Quad/8/256/127.npy", params={"assets": "data"}))
    assert values(site.ask("anonymous", "GET", f"{BASE}/tiles/WGS1984Quad/8/256/127.npy", params={"assets": "data"}))
    away = site.ask("anonymous", "GET", f"{BASE}/tiles/UTM31WGS84Quad/3/0/0.png", params={"assets": "data"})
    assert away.status_code in (200, 204)
    for query in ({}, {"bbox": "0,0,0.5,0.5", "width": "32", "height": "32"}):
        for where in (BASE, f"/raster/collections/{FIELDS}/items/old"):
            answer = site.ask(
                "anonymous", "GET", f"{where}/map", params={"assets": "data", "rescale": "0,100", "f": "png", **query}
            )
            assert (answer.status_code, answer.headers.get("content-type")) == (200, "image/png"), answer.text
    nothing = site.ask("anonymous", "GET", f"{BASE}/tiles/WebMercatorQuad/9/0/0.png", params={"assets": "data"})
    assert (nothing.status_code, nothing.content) == (204, b"")
    is_problem(site.ask("anonymous", "GET", f"{BASE}/tiles/WebMercatorQuad/1/5/5.png"), 404, "TILE_OUTSIDE_BOUNDS")


@pytest.mark.parametrize(
    ("path", "parameters", "code"),
    [
        (f"tiles/{INSIDE}.png", {"tilesize": "100000"}, "INVALID_PARAMETER"),
        (f"tiles/{INSIDE}.png", {"buffer": "5000"}, "INVALID_PARAMETER"),
        ("bbox/0,0,1,1/8000x8000.png", {}, "INVALID_PARAMETER"),
        ("bbox/0,0,1,1.png", {"max_size": "1e9"}, "INVALID_PARAMETER"),
        ("map", {"width": "90000"}, "INVALID_PARAMETER"),
        ("bbox/1e16,0,1.1e16,1.png", {"coord_crs": "EPSG:3857"}, "INVALID_BBOX"),
        ("map", {"width": "64", "bbox": "1e16,0,1.1e16,1", "bbox-crs": "EPSG:3857"}, "INVALID_BBOX"),
        (f"tiles/{INSIDE}.png", {"assets": ["data"] * 17}, "TOO_MANY"),
        (f"tiles/{INSIDE}.png", {"expression": "b1+" * 200 + "b1"}, "INVALID_EXPRESSION"),
        (f"tiles/{INSIDE}.png", {"assets": "data|expression=sum(b1)"}, "INVALID_EXPRESSION"),
        (
            f"tiles/{INSIDE}.png",
            {"algorithm": "cast", "algorithm_params": '{"output_dtype": "U999999"}'},
            "INVALID_ALGORITHM",
        ),
        ("bbox/0,0,1,1.png", {"dst_crs": "+proj=longlat +nadgrids=/etc/passwd"}, "INVALID_CRS"),
        (f"tiles/{INSIDE}.png", {"color_formula": "gamma R 3 " * 50}, "TOO_LONG"),
        (f"tiles/{INSIDE}.png", {"filter": "(" * 300 + "a=1"}, "FILTER_TOO_DEEP"),
        (f"tiles/{INSIDE}.png", {"sortby": "geometry"}, "NOT_SORTABLE"),
    ],
)
def test_what_asks_for_too_much_is_refused(site: Site, path: str, parameters: dict[str, str], code: str) -> None:
    is_problem(site.ask("anonymous", "GET", f"{BASE}/{path}", params=parameters), 400, code)


def test_a_long_map_and_a_long_body_are_bounded(site: Site) -> None:
    thin = site.ask(
        "anonymous", "GET", f"{BASE}/map", params={"width": 64, "bbox": "0,0,0.25,1", "f": "npy", "assets": "data"}
    )
    assert max(array(thin).shape) == 64
    answer = site.ask("anonymous", "POST", f"{BASE}/statistics", content=b" " * 2**21)
    is_problem(answer, 413, "BODY_TOO_LARGE")
