"""Pictures from afar over the running application: what is kept, for whom it is shown, and what it shows when items change."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

import httpx
import numpy as np
import pytest
from imagecodecs import jpeg8_decode, png_decode, webp_decode

from api.tiles import afar_drawing
from api.tiles.afar_pictures import pixels_of
from db.pools import open_pool
from db.settings import DatabaseSettings
from ingest.overviews.density import keep_density
from tests.api.sharing_site import Site
from tests.api.tile_site import FIELDS, LAYERS, RENDERS, SECRET, add, tile_site

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
BASE = f"/raster/collections/{FIELDS}/tiles/WebMercatorQuad"
#: The tiles around (0, 0) to (1, 1) degrees.
WHOLE, Z5, Z7 = "0/0/0", "5/16/15", "7/64/63"
KEPT, PARTIAL = "federator-overview", "federator-partial"


@pytest.fixture(scope="module")
def site(postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Pictures are of one item at most; what takes more is kept, and made anew at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(afar_drawing, "_PAUSE_S", 0.05)
        patch.setattr(afar_drawing, "_REST", 0.0)
        folder = tmp_path_factory.mktemp("afar")
        with tile_site(postgres, template, folder, mosaic_max_items=2, mosaic_time_limit_s=30) as started:
            yield started


def tile(site: Site, place: str, who: str = "anonymous", form: str = "png", **query: str) -> httpx.Response:
    return site.ask(who, "GET", f"{BASE}/{place}.{form}", params=query)


def pixels(answer: httpx.Response) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return pixels_of(answer.content).astype(int)


def shades(answer: httpx.Response) -> set[int]:
    """Grey values of what is wholly opaque, but for the few where two items meet."""
    found = pixels(answer)
    values, counts = np.unique(found[found[..., 3] == 255][:, 0], return_counts=True)
    return set(values[counts > 0.05 * counts.sum()].tolist())


def shade(item: str) -> int:
    return int(255 * LAYERS[item][0] / 100)


def until(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.03)


def worked(site: Site) -> None:
    """The worker has looked, and everything is drawn."""

    async def count() -> None:
        async with open_pool(site.database) as pool:
            await keep_density(pool)

    asyncio.run(count())
    until(lambda: site.rows("select count(*) from federator.overview_dirty") == [(0,)])


@pytest.fixture(scope="module")
def kept(site: Site) -> Site:
    first = tile(site, WHOLE)
    assert first.status_code == 200
    assert first.headers[PARTIAL] == "items"
    assert KEPT not in first.headers
    until(lambda: site.rows("select collection_id from federator.overview") == [(FIELDS,)])
    worked(site)
    return site


def test_what_takes_many_items_is_kept_and_whole(kept: Site) -> None:
    for place in (WHOLE, Z5, Z7):
        for form, decode in (("png", png_decode), ("webp", webp_decode), ("jpg", jpeg8_decode)):
            answer = tile(kept, place, form=form)
            assert answer.headers[KEPT] == f"z{place[0]}", place
            assert PARTIAL not in answer.headers
            assert decode(answer.content).shape[:2] == (256, 256)
    assert shades(tile(kept, Z7)) == {shade("old"), shade("left"), shade("low")}
    assert tile(kept, "7/3/3").status_code == 204
    assert tile(kept, "7/3/3").headers[KEPT] == "z7"


def test_other_looks_and_choices_are_drawn(kept: Site) -> None:
    others = ({"assets": "data"}, {"render": "ndvi"}, {"ids": "old"}, {"time": "2026-01-01"}, {"sortby": "oldest"})
    for query in others:
        assert KEPT not in tile(kept, Z7, **query).headers, query
    assert KEPT in tile(kept, Z7, render="default", tilesize="256").headers
    assert KEPT not in tile(kept, "9/256/255").headers
    outside = tile(kept, "2/4/0")
    assert (outside.status_code, outside.json()["code"]) == (404, "TILE_OUTSIDE_BOUNDS")


def test_the_next_zoom_goes_on_where_the_kept_one_ends(kept: Site) -> None:
    """z8 is kept, z9 is not: four tiles of z9 at half their size are the one of z8; so is z7 of z9 at a quarter."""
    for zoom, x, y, deeper in ((8, 128, 127, 1), (7, 64, 63, 2)):
        side = 256 << deeper
        finer = np.zeros((side, side, 4), int)
        for column in range(1 << deeper):
            for row in range(1 << deeper):
                place = f"{zoom + deeper}/{(x << deeper) + column}/{(y << deeper) + row}"
                answer = tile(kept, place, items_limit="2")
                assert KEPT not in answer.headers
                if answer.status_code == 200:
                    finer[row * 256 : row * 256 + 256, column * 256 : column * 256 + 256] = pixels(answer)
        # Where two of the three items reach, which is all that one drawn picture is made of here.
        block = 1 << deeper
        mean = finer.reshape(256, block, 256, block, 4).mean(axis=(1, 3))
        found = pixels(tile(kept, f"{zoom}/{x}/{y}"))
        both = (found[..., 3] == 255) & (mean[..., 3] == 255)
        assert both.sum() > 1000
        difference = np.abs(found - mean)[both][:, :3].max(axis=1)
        assert np.quantile(difference, 0.97) <= 3, zoom


def test_tiles_of_512_pixels_are_the_four_of_the_next_zoom(kept: Site) -> None:
    found = tile(kept, "6/32/31", tilesize="512")
    assert found.headers[KEPT] == "z7"
    assert (pixels(found)[256:, :256] == pixels(tile(kept, Z7))).all()


def test_what_is_added_changes_or_goes_is_never_shown_old(kept: Site) -> None:
    site = kept
    add(site, FIELDS, "top", site.data_dir / "mine.tif", 6, 0)
    worked(site)
    assert shades(tile(site, Z7)) == {shade("mine")}
    site.done(
        "owner",
        "PATCH",
        f"/stac/collections/{FIELDS}/items/top",
        json={"properties": {"datetime": "2025-01-01T00:00:00Z"}},
    )
    drawn = tile(site, Z7)  # before anybody has looked
    assert KEPT not in drawn.headers
    assert shade("mine") not in shades(drawn)
    worked(site)
    assert shade("mine") not in shades(tile(site, Z7))
    assert site.ask("owner", "DELETE", f"/stac/collections/{FIELDS}/items/low").is_success
    for place in (WHOLE, Z5, Z7):
        gone = tile(site, place)
        assert KEPT not in gone.headers, "a kept picture may still show it"
    assert shade("low") not in shades(gone)
    worked(site)
    assert KEPT in tile(site, WHOLE).headers
    assert shades(tile(site, Z7)) == {shade("left"), shade("old")}
    add(site, FIELDS, "low", site.data_dir / "low.tif", 3, 90)
    assert site.ask("owner", "DELETE", f"/stac/collections/{FIELDS}/items/top").is_success
    worked(site)
    assert shades(tile(site, Z7)) == {shade("old"), shade("left"), shade("low")}


def test_private_items_are_drawn_for_who_may_see_them_and_kept_for_nobody(kept: Site) -> None:
    site = kept
    for who in ("anonymous", "other"):
        assert KEPT in tile(site, Z7, who).headers
    for who in ("owner", "admin"):
        found = tile(site, Z7, who)
        assert KEPT not in found.headers
        assert shades(found) == {shade("mine")}
        assert "no-store" in found.headers["cache-control"]
        assert KEPT in tile(site, "7/3/3", who).headers, "where he sees no more than others"
    site.done("owner", "PUT", f"/sharing/collections/{FIELDS}/items/left", json={"visibility": "private"})
    assert KEPT not in tile(site, Z7).headers
    assert shade("left") not in shades(tile(site, Z7))
    worked(site)
    assert KEPT in tile(site, Z7).headers
    assert shades(tile(site, Z7)) == {shade("old"), shade("low")}
    site.done("owner", "PUT", f"/sharing/collections/{FIELDS}/items/left", json={"visibility": "public"})
    worked(site)
    assert shade("left") in shades(tile(site, Z7))


def test_another_look_of_the_collection_is_drawn_anew(kept: Site) -> None:
    site = kept
    document = site.done("owner", "GET", f"/stac/collections/{FIELDS}")
    look = {**RENDERS["default"], "rescale": [[0, 50]]}
    site.done("owner", "PUT", f"/stac/collections/{FIELDS}", json={**document, "renders": {**RENDERS, "default": look}})
    assert KEPT not in tile(site, Z7).headers
    until(lambda: KEPT in tile(site, Z7).headers and PARTIAL not in tile(site, Z7).headers)
    assert shades(tile(site, Z7)) == {int(255 * value / 50) for value in (10, 20, 30)}
    site.done("owner", "PUT", f"/stac/collections/{FIELDS}", json={**document, "renders": RENDERS})
    until(lambda: KEPT in tile(site, Z7).headers and PARTIAL not in tile(site, Z7).headers)


def test_a_collection_that_not_everybody_may_see_is_not_kept(kept: Site) -> None:
    site = kept
    for name in ("a", "b", "c"):
        add(site, SECRET, name, site.data_dir / "old.tif", 1, 0)
    path = f"/raster/collections/{SECRET}/tiles/WebMercatorQuad/{WHOLE}.png"
    assert site.ask("owner", "GET", path).headers[PARTIAL] == "items"
    site.done("owner", "PUT", f"/sharing/collections/{FIELDS}", json={"visibility": "private"})
    assert tile(site, Z7).status_code == 404
    assert KEPT not in tile(site, Z7, "owner").headers
    until(lambda: site.rows("select collection_id from federator.overview") == [])
    site.done("owner", "PUT", f"/sharing/collections/{FIELDS}", json={"visibility": "public"})
    assert KEPT not in tile(site, Z7).headers
