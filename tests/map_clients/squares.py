"""The running application with rasters whose colours say where they lie and when they are from, sent as people send them.

`FIELDS` is public and has two: on 1 May four squares of 12.8 km around `MIDDLE` (red, green above; blue, yellow below), on 1 June a white
one over the green. `SECRET` is a person's alone and has the four squares. They are in UTM 32 north, and far from the diagonal where
longitude is latitude: axes in the wrong order show nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
from pyproj import Transformer
from rasterio.transform import from_origin

from api.access import SCOPES
from api.settings import ApiSettings
from db.pools import open_pool
from db.settings import DatabaseSettings
from ingest.settings import IngestSettings
from ingest.uploads import processing
from tests.api import editing
from tests.api.server import listening, running
from tests.api.sharing_site import TOKEN, Site
from tests.conftest import cloned
from tests.ingest.uploads.rasters import write

Colour = tuple[int, int, int]
FIELDS: Final = "own.fields-2026_v1~a"
SECRET: Final = "secret-fields"
MAY, JUNE = "2026-05-01", "2026-06-01"
RED, GREEN, BLUE, YELLOW, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 255, 255)
#: What lies below the layers of clients, and shows where they are transparent.
MAGENTA: Final = (255, 0, 255)
_CRS: Final = "EPSG:32632"
#: East and north of the corner where the squares meet, and their side in metres; pixels are of 100 m.
_EAST, _NORTH, _SIDE, _PIXEL = 600_000, 5_540_000, 12_800, 100
_TO_DEGREES = Transformer.from_crs(_CRS, "EPSG:4326", always_xy=True)
MIDDLE: tuple[float, float] = _TO_DEGREES.transform(_EAST, _NORTH)
#: West, south, east, north of a view with room around the squares, in degrees.
VIEW = (MIDDLE[0] - 0.35, MIDDLE[1] - 0.22, MIDDLE[0] + 0.35, MIDDLE[1] + 0.22)


def _place(across: float, up: float) -> tuple[float, float]:
    """Longitude and latitude; in sides from the middle."""
    found: tuple[float, float] = _TO_DEGREES.transform(_EAST + across * _SIDE, _NORTH + up * _SIDE)
    return found


#: Near the outer corner, the inner corner and in the middle of each square, and beside the squares.
SQUARES: Final = {"red": (-1, 1), "green": (1, 1), "blue": (-1, -1), "yellow": (1, -1)}
PLACES: Final = {
    f"{name} {where}": _place(across * part, up * part)
    for name, (across, up) in SQUARES.items()
    for where, part in (("inner", 0.08), ("middle", 0.5), ("outer", 0.92))
} | {"west": _place(-1.12, 0.5), "east": _place(1.12, -0.5), "north": _place(0.5, 1.12), "south": _place(-0.5, -1.12)}
_COLOURS: Final = {"red": RED, "green": GREEN, "blue": BLUE, "yellow": YELLOW}


def expected(*, at: str = JUNE, background: Colour = MAGENTA) -> dict[str, Colour]:
    """The colour at each of `PLACES`, of all until a day."""
    colours = {**_COLOURS, "green": WHITE if at == JUNE else GREEN}
    return {place: colours.get(place.split()[0], background) for place in PLACES}


def differing(
    found: dict[str, Any], *, at: str = JUNE, background: Colour = MAGENTA, tolerance: int = 8
) -> dict[str, Any]:
    """Places whose colour is another one than it should be, with what is found there."""
    wanted = expected(at=at, background=background)
    assert found.keys() == wanted.keys()
    return {
        place: tuple(found[place])
        for place, colour in wanted.items()
        if max(abs(int(one) - two) for one, two in zip(found[place], colour, strict=False)) > tolerance
    }


def _squares(path: Path) -> bytes:
    half = _SIDE // _PIXEL
    pixels = np.zeros((3, 2 * half, 2 * half), "uint8")
    for name, (across, up) in SQUARES.items():
        rows = slice(0, half) if up > 0 else slice(half, None)
        columns = slice(half, None) if across > 0 else slice(0, half)
        pixels[:, rows, columns] = np.array(_COLOURS[name]).reshape(3, 1, 1)
    write(path, pixels, crs=_CRS, transform=from_origin(_EAST - _SIDE, _NORTH + _SIDE, _PIXEL, _PIXEL))
    return path.read_bytes()


def _white(path: Path) -> bytes:
    half = _SIDE // _PIXEL
    pixels = np.full((3, half, half), 255, "uint8")
    write(path, pixels, crs=_CRS, transform=from_origin(_EAST, _NORTH + _SIDE, _PIXEL, _PIXEL))
    return path.read_bytes()


@contextlib.contextmanager
def map_site(postgres: DatabaseSettings, template: str, folder: Path) -> Iterator[Site]:
    """The application; what its owner has sent is processed and in the catalogue. `uploads` has the item of each upload."""
    listener, url = listening()
    settings = ApiSettings(data_dir=folder, public_url=url, api_token=TOKEN)
    with (
        cloned(postgres, template) as database,
        running(settings, database, listener),
        httpx.Client(base_url=url, timeout=60) as http,
    ):
        site = Site(http, database, folder, {}, {}, {"admin": TOKEN})
        may = [scope for scope in SCOPES if scope != "admin"]
        site.done("admin", "POST", "/auth/users", json={"name": "ann", "scopes": may})
        site.keys["owner"] = site.done("admin", "POST", "/auth/keys", json={"person": "ann", "scopes": may})["key"]
        _fill(site, folder)
        yield site


def _fill(site: Site, folder: Path) -> None:
    (west, south, east, north) = VIEW
    extent = {
        "spatial": {"bbox": [[west, south, east, north]]},
        "temporal": {"interval": [[f"{MAY}T00:00:00Z", f"{JUNE}T23:59:59Z"]]},
    }
    for name, visibility in ((FIELDS, "public"), (SECRET, "private")):
        site.done(
            "owner",
            "POST",
            "/stac/collections",
            json=editing.collection(name, extent=extent, title=f"Fields of {name}"),
        )
        site.done("owner", "PUT", f"/sharing/collections/{name}", json={"visibility": visibility})
    squares, white = _squares(folder / "squares.tif"), _white(folder / "white.tif")
    sent = [_sent(site, FIELDS, MAY, squares), _sent(site, FIELDS, JUNE, white), _sent(site, SECRET, MAY, squares)]
    asyncio.run(_work(site, sent))
    for upload in sent:
        state = site.done("owner", "GET", f"/uploads/{upload}")
        assert state["state"] == "ready", state
        site.uploads[upload] = state["item_id"]


def _sent(site: Site, collection: str, day: str, content: bytes) -> str:
    bands = [{"name": name, "common_name": name} for name in ("red", "green", "blue")]
    form = {"collection": collection, "title": f"Squares of {day}", "datetime": f"{day}T10:00:00Z", "bands": bands}
    upload = str(site.done("owner", "POST", "/uploads", json=form)["id"])
    site.done("owner", "PUT", f"/uploads/{upload}/content", content=content)
    return upload


async def _work(site: Site, uploads: list[str]) -> None:
    """What a worker does."""
    settings = IngestSettings(data_dir=site.data_dir, public_url=str(site.http.base_url).rstrip("/"))
    async with open_pool(site.database) as pool:
        for upload in uploads:
            await processing.process(pool, settings, upload)
