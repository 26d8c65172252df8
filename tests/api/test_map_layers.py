"""Several layers of a WMS in one picture: the first at the bottom, what is not there shows what is below."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from imagecodecs import png_encode
from rasterio.io import MemoryFile

from api.tiles.inside import Answer
from api.tiles.wms_layers import MOST_SHOWN, Shown, encoded, laid_over, over
from tests.api.sharing_site import Site
from tests.api.tile_site import FIELDS, SECRET

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
WMS = "/raster/wms"
MAP = {
    "SERVICE": "WMS", "VERSION": "1.3.0", "REQUEST": "GetMap", "STYLES": "", "CRS": "CRS:84", "BBOX": "0,0,1,1", "WIDTH": "64",
    "HEIGHT": "64", "FORMAT": "image/png", "TRANSPARENT": "TRUE",
}  # fmt: skip
#: Layer that fills the picture with 1 of 100, seen by its owner alone.
BOTH = f"{FIELDS},{SECRET}"


@pytest.fixture(scope="module")
def site(tiles: Site) -> Site:
    return tiles


def picture(site: Site, who: str = "owner", **changed: str) -> np.ndarray[Any, Any]:
    answer = site.ask(who, "GET", WMS, params={**MAP, **changed})
    assert answer.headers["content-type"].startswith("image/"), answer.text
    with MemoryFile(answer.content) as file, file.open() as opened:
        return opened.read()  # type: ignore[no-any-return]


def test_the_last_layer_lies_on_top_and_shows_what_is_below_where_it_has_no_pixel(site: Site) -> None:
    both = picture(site, LAYERS=f"{SECRET},{FIELDS}")
    assert np.array_equal(both[:1], picture(site, LAYERS=FIELDS)[:1])
    assert np.array_equal(picture(site, LAYERS=BOTH)[:1], picture(site, LAYERS=SECRET)[:1])
    left = {"TIME": "2026-02-01"}  # of one collection the left half alone, of the other nothing
    assert np.array_equal(picture(site, LAYERS=BOTH, **left)[-1], picture(site, LAYERS=FIELDS, **left)[-1])
    mixed = picture(site, LAYERS=f"{SECRET},{FIELDS}", ids="left,hidden")
    assert abs(int(mixed[0, 10, 10]) - 51) <= 1
    assert np.array_equal(mixed[0, :, 40:], picture(site, LAYERS=SECRET)[0, :, 40:])
    assert (mixed[3] == 255).all()


@pytest.mark.parametrize(("form", "bands"), [("image/png", 4), ("image/jpeg", 3), ("image/webp", 3), ("image/tiff", 4)])
def test_several_layers_in_every_format(site: Site, form: str, bands: int) -> None:
    assert picture(site, LAYERS=BOTH, FORMAT=form).shape == (bands, 64, 64)


def test_a_ground_is_below_all_layers(site: Site) -> None:
    red = picture(site, LAYERS=BOTH, BBOX="-1,0,0,1", TRANSPARENT="FALSE", BGCOLOR="0xFF0000")
    assert red.shape[0] >= 3
    assert (red[:3, 5, 5] == [255, 0, 0]).all()
    half = picture(site, LAYERS=BOTH, BBOX="-1,0,1,1", TRANSPARENT="FALSE", BGCOLOR="0xFF0000")
    assert (half[:3, 5, 5] == [255, 0, 0]).all()


def test_each_layer_has_its_style(site: Site) -> None:
    ndvi = picture(site, LAYERS=FIELDS, STYLES="ndvi")
    assert np.array_equal(picture(site, LAYERS=f"{SECRET},{FIELDS}", STYLES=",ndvi")[:3], ndvi[:3])
    assert not np.array_equal(picture(site, LAYERS=f"{SECRET},{FIELDS}", STYLES="ndvi,")[:3], ndvi[:3])
    assert np.array_equal(picture(site, LAYERS=f"{FIELDS},{FIELDS}", STYLES=",ndvi")[:3], ndvi[:3])


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"LAYERS": f"{FIELDS},nothing-of-this"}, "LayerNotDefined"),
        ({"LAYERS": f"{FIELDS},"}, "LayerNotDefined"),
        ({"LAYERS": BOTH, "STYLES": "ndvi"}, "StyleNotDefined"),
        ({"LAYERS": BOTH, "STYLES": ",,"}, "StyleNotDefined"),
        ({"LAYERS": BOTH, "STYLES": ",none"}, "StyleNotDefined"),
        ({"LAYERS": ",".join([FIELDS] * (MOST_SHOWN + 1))}, "InvalidParameterValue"),
    ],
)
def test_what_cannot_be_shown_together_is_told(site: Site, changed: dict[str, str], code: str) -> None:
    assert f'code="{code}"' in site.ask("owner", "GET", WMS, params={**MAP, **changed}).text


def test_a_layer_that_the_caller_may_not_see_is_not_there(site: Site) -> None:
    hidden = site.ask("other", "GET", WMS, params={**MAP, "LAYERS": BOTH})
    missing = site.ask("other", "GET", WMS, params={**MAP, "LAYERS": f"{FIELDS},nothing-of-this"})
    assert (hidden.status_code, hidden.content) == (missing.status_code, missing.content)
    assert site.ask("owner", "GET", WMS, params={**MAP, "LAYERS": BOTH}).headers["cache-control"] == "private, no-store"


@pytest.mark.parametrize("kind", ["application/json", "application/vnd.ogc.gml", "text/plain"])
def test_values_of_several_layers(site: Site, kind: str) -> None:
    asked = {
        **MAP,
        "REQUEST": "GetFeatureInfo",
        "LAYERS": BOTH,
        "QUERY_LAYERS": BOTH,
        "I": "10",
        "J": "50",
        "INFO_FORMAT": kind,
    }
    answer = site.ask("owner", "GET", WMS, params=asked)
    assert answer.status_code == 200, answer.text
    assert all(name in answer.text for name in (FIELDS, SECRET, "hidden", "low"))
    if kind == "application/json":
        found = answer.json()
        assert {one["layer"] for one in found["assets"]} == {FIELDS, SECRET}
        assert {one["properties"]["layer"] for one in found["features"]} == {FIELDS, SECRET}
    one = site.done("owner", "GET", WMS, params={**asked, "QUERY_LAYERS": SECRET, "INFO_FORMAT": "application/json"})
    assert len(one["assets"]) == 1


def test_capabilities_say_how_many(site: Site) -> None:
    asked = {"service": "WMS", "request": "GetCapabilities"}
    assert f"<LayerLimit>{MOST_SHOWN}</LayerLimit>" in site.ask("anonymous", "GET", WMS, params=asked).text
    old = site.ask("anonymous", "GET", WMS, params={**asked, "version": "1.1.1"}).text
    assert f"At most {MOST_SHOWN} layers" in old


async def test_layers_share_the_time_of_one_picture() -> None:
    asked: list[float] = []

    async def ask(layer: Shown, query: list[tuple[str, str]]) -> Answer | None:
        asked.append(float(dict(query)["time_limit"]))
        await asyncio.sleep(0.03)
        body: bytes = png_encode(np.full((2, 2, 4), 255, "uint8"))
        return Answer(200, "image/png", body)

    layers = [Shown(str(number), "", [("time_limit", "9")]) for number in range(8)]
    pixels, is_late = await laid_over(layers, 0.05, ask)
    assert is_late
    assert len(asked) < 8
    assert asked == sorted(asked, reverse=True)
    assert pixels is not None
    assert await laid_over(layers[:1], 10, ask) is not None
    assert asked[-1] == 9


def test_a_layer_for_which_there_was_no_time_is_missing_and_said_so(site: Site) -> None:
    late = site.ask("owner", "GET", WMS, params={**MAP, "LAYERS": BOTH, "time_limit": "1e-320"})
    assert late.status_code == 503  # nothing at all was drawn: an error, and not an empty picture


@given(st.binary(min_size=32, max_size=32))
def test_one_pixel_over_another_is_what_light_makes_of_it(data: bytes) -> None:
    top, ground = np.frombuffer(data, "uint8").reshape(2, 1, 4, 4).copy()
    found = over(top, ground)
    assert np.array_equal(found[top[..., 3] == 255], top[top[..., 3] == 255])
    assert np.array_equal(found[top[..., 3] == 0], ground[top[..., 3] == 0])
    assert (found[..., 3] >= np.maximum(top[..., 3], ground[..., 3])).all()
    opaque = ground.copy()
    opaque[..., 3] = 255
    share = top[..., 3:] / 255
    assert np.abs(over(top, opaque)[..., :3] - (top[..., :3] * share + opaque[..., :3] * (1 - share))).max() <= 1


def test_what_is_half_transparent_stays_so() -> None:
    half = np.full((8, 8, 4), (200, 100, 50, 128), "uint8")
    with MemoryFile(encoded(half, "png", None)) as file, file.open() as opened:
        assert (opened.read()[:, 0, 0] == [200, 100, 50, 128]).all()
    with MemoryFile(encoded(half, "png", (0, 0, 0))) as file, file.open() as opened:
        assert (opened.read()[:3, 0, 0] == [100, 50, 25]).all()
