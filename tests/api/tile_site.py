"""The real application with a collection of small rasters that lie over each other, and a person's private one on top of them.

All are of 64 x 64 pixels of 1/64 degree within (0, 0, 1, 1), with two bands: the value, and twice the value.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from rasterio.transform import from_origin

from api.access import SCOPES
from api.settings import ApiSettings
from db.settings import DatabaseSettings
from tests.api import editing
from tests.api.server import listening, running
from tests.api.sharing_site import TOKEN, Site, upload_of
from tests.conftest import cloned
from tests.ingest.uploads.rasters import write

FIELDS, SECRET = "fields", "secret"
NDVI = {"assets": ["data"], "expression": "(b2-b1)/(b2+b1)", "rescale": [[-1, 1]], "colormap_name": "viridis"}
RENDERS = {"default": {"assets": ["data"], "bidx": [1], "rescale": [[0, 100]]}, "ndvi": NDVI}
#: Item: value, west, south, east, north of its valid pixels in 64ths, month of 2026, clouds.
LAYERS = {
    "old": (10, (0, 0, 64, 64), 1, 5),
    "left": (20, (0, 0, 32, 64), 2, 50),
    "low": (30, (0, 0, 64, 32), 3, 90),
    "mine": (99, (0, 0, 64, 64), 4, 0),
}
PEOPLE = {"owner": "ann", "other": "bob"}
#: A tile of the default set that lies within the rasters, and all of them.
INSIDE = "WebMercatorQuad/9/256/255"


@contextlib.contextmanager
def tile_site(postgres: DatabaseSettings, template: str, folder: Path, **more: Any) -> Iterator[Site]:
    """The application with its layers, made through the API."""
    listener, url = listening()
    settings = ApiSettings(**{"data_dir": folder, "public_url": url, "api_token": TOKEN, **more})
    (folder / "cogs").mkdir()
    with (
        cloned(postgres, template) as database,
        running(settings, database, listener),
        httpx.Client(base_url=url, timeout=60) as http,
    ):
        site = Site(http, database, folder, {}, {}, {"admin": TOKEN})
        may = [scope for scope in SCOPES if scope != "admin"]
        for who, name in PEOPLE.items():
            site.done("admin", "POST", "/auth/users", json={"name": name, "scopes": may})
            site.keys[who] = site.done("admin", "POST", "/auth/keys", json={"person": name, "scopes": may})["key"]
        _fill(site, folder)
        yield site


def _fill(site: Site, folder: Path) -> None:
    extent = {"spatial": {"bbox": [[0, 0, 1, 1]]}, "temporal": {"interval": [["2026-01-01T00:00:00Z", None]]}}
    for name, visibility in ((FIELDS, "public"), (SECRET, "private")):
        site.done("owner", "POST", "/stac/collections", json=editing.collection(name, extent=extent, renders=RENDERS))
        site.done("owner", "PUT", f"/sharing/collections/{name}", json={"visibility": visibility})
    for name, (value, box, month, clouds) in LAYERS.items():
        add(site, FIELDS, name, picture(folder / f"{name}.tif", value, box), month, clouds)
    site.done("owner", "PUT", f"/sharing/collections/{FIELDS}/items/mine", json={"visibility": "private"})
    add(site, SECRET, "hidden", folder / "old.tif", 1, 0)


def picture(path: Path, value: int, box: tuple[int, int, int, int]) -> Path:
    """A raster whose pixels are valid in a box."""
    pixels = np.zeros((2, 64, 64), "uint16")
    west, south, east, north = box
    for band in (0, 1):
        pixels[band, 64 - north : 64 - south, west:east] = value * (band + 1)
    write(
        path,
        pixels,
        crs="EPSG:4326",
        transform=from_origin(0, 1, 1 / 64, 1 / 64),
        nodata=0,
        tiled=True,
        blockxsize=64,
        blockysize=64,
    )
    return path


def add(site: Site, collection: str, name: str, raster: Path, month: int, clouds: float) -> None:
    """An item with a raster of its own."""
    upload = upload_of(site, "ann", collection, name, raster)
    ring = [[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]
    document = editing.item(name, collection, datetime=f"2026-{month:02}-01T00:00:00Z", **{"eo:cloud_cover": clouds})
    document |= {"geometry": {"type": "Polygon", "coordinates": [ring]}, "bbox": [0, 0, 1, 1]}
    document["properties"] |= {
        "proj:code": "EPSG:4326",
        "proj:transform": [1 / 64, 0, 0, 0, -1 / 64, 1],
        "proj:shape": [64, 64],
    }
    document["assets"] = {"data": {"href": f"{site.http.base_url}/uploads/{upload}/data.tif", "roles": ["data"]}}
    site.done("owner", "POST", f"/stac/collections/{collection}/items", json=document)


def array(answer: httpx.Response) -> np.ndarray[Any, Any]:
    """Pixels of an answer in NPY: bands and the mask."""
    assert answer.status_code == 200, answer.text
    return np.load(io.BytesIO(answer.content))  # type: ignore[no-any-return]


def values(answer: httpx.Response) -> set[int]:
    """Values of the first band where it is valid."""
    pixels = array(answer)
    return set(np.unique(pixels[0][pixels[-1] > 0]).tolist())
