"""An item of several uploads, its versions, how it is drawn, what is left of it: over real HTTP, two workers at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psycopg
import pytest
import rasterio
from rasterio.io import MemoryFile
from rasterio.transform import from_origin

from api.settings import ApiSettings
from db.pools import open_pool
from db.settings import DatabaseSettings
from ingest.settings import IngestSettings
from ingest.uploads import processing
from tests.api.server import listening, running
from tests.api.test_routes import Site
from tests.api.test_stac import assert_problem
from tests.conftest import cloned
from tests.ingest.uploads.rasters import write
from tests.stac_schemas import faults

VERSION = {"Tus-Resumable": "1.0.0"}
WHEN = "2026-05-01T12:00:00Z"
RANGE = {"datetime": None, "start_datetime": "2026-04-01T00:00:00Z", "end_datetime": "2026-06-01T00:00:00Z"}
WEST = from_origin(600_000, 5_340_000, 10, 10)
EAST = from_origin(604_000, 5_340_000, 10, 10)


@pytest.fixture(scope="module")
def site(postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    listener, url = listening()
    settings = ApiSettings(data_dir=tmp_path_factory.mktemp("site"), public_url=url)
    client = httpx.Client(base_url=url, timeout=60)
    with cloned(postgres, template) as database, running(settings, database, listener), client as http:
        yield Site(http, database, settings)


def raster(folder: Path, base: int, transform: Any = WEST) -> bytes:
    rows, columns = np.mgrid[0:200, 0:300]
    write(folder / "a.tif", (base + columns + rows).astype("uint16")[None], nodata=0, transform=transform)
    return (folder / "a.tif").read_bytes()


def created(site: Site, **form: Any) -> httpx.Response:
    return site.http.post("/uploads", json={"datetime": WHEN, "title": "Scene", **form})


def sent(site: Site, content: bytes, **form: Any) -> dict[str, Any]:
    """Create and send; the upload as it is then."""
    answer = created(site, **form)
    assert answer.status_code == 201, answer.text
    assert site.http.put(f"/uploads/{answer.json()['id']}/content", content=content).status_code == 202
    return dict(answer.json())


def worked(site: Site, *uploads: dict[str, Any], expected: str = "ready") -> list[dict[str, Any]]:
    """Let one worker for each upload work, all at once; the uploads as they are then."""
    ingest = IngestSettings(data_dir=site.settings.data_dir, public_url=site.settings.public_url)

    async def run() -> None:
        async with open_pool(site.database) as pool, asyncio.TaskGroup() as group:
            for upload in uploads:
                group.create_task(processing.process(pool, ingest, upload["id"]))

    asyncio.run(run())
    states = [site.http.get(f"/uploads/{upload['id']}").json() for upload in uploads]
    assert [state["state"] for state in states] == [expected] * len(uploads), states
    return states


def item(site: Site, item_id: str) -> dict[str, Any]:
    return dict(site.http.get(f"/stac/collections/uploads/items/{item_id}").raise_for_status().json())


def targets(document: dict[str, Any]) -> dict[str, str]:
    """Links to other versions: rel to item id."""
    return {
        link["rel"]: link["href"].rpartition("/")[2]
        for link in document["links"]
        if link["rel"] in ("predecessor-version", "successor-version", "latest-version")
    }


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def smallest(site: Site, item_id: str, asset: str) -> int:
    """The smallest value that the tile server reads."""
    answer = site.http.get(
        f"/raster/collections/uploads/items/{item_id}/preview.tif", params={"assets": asset, "max_size": 300}
    )
    assert answer.status_code == 200, answer.text
    with MemoryFile(answer.content) as memory, memory.open() as preview:
        return int(preview.read(1)[preview.dataset_mask() > 0].min())


@pytest.fixture(scope="module")
def both(site: Site, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Two uploads that become one item, the second named while the first was under way; worked on at once."""
    folder = tmp_path_factory.mktemp("both")
    red = sent(site, raster(folder, 100), asset="red", **RANGE)
    mask = sent(site, raster(folder, 5000, EAST), asset="mask", item=red["id"], title="Mask")
    assert mask["item"] == red["item"]
    return worked(site, mask, red)


def test_two_uploads_are_assets_of_one_item(site: Site, both: list[dict[str, Any]]) -> None:
    mask, red = both
    assert mask["item_id"] == red["item_id"]
    found = item(site, red["item_id"])
    assert faults(found) == []
    assert set(found["assets"]) == {"red", "mask", "thumbnail"}
    assert found["properties"]["title"] == "Scene"
    smallest_values = {key: found["assets"][key]["bands"][0]["statistics"]["minimum"] for key in ("red", "mask")}
    assert smallest_values == {"red": 100, "mask": 5000}
    outlines = [found["assets"][key]["federator:footprint"] for key in ("red", "mask")]
    assert outlines[0] != outlines[1]
    assert found["geometry"]["type"] == "MultiPolygon"
    assert found["assets"]["red"]["proj:transform"] != found["assets"]["mask"]["proj:transform"]
    assert (smallest(site, red["item_id"], "red"), smallest(site, red["item_id"], "mask")) == (100, 5000)


def test_a_range_without_a_moment_is_found(site: Site, both: list[dict[str, Any]]) -> None:
    found = item(site, both[0]["item_id"])
    assert found["properties"]["datetime"] is None
    west, south, east, north = found["bbox"]
    for box in ([west, south, west + 0.001, north], [east - 0.001, south, east, north]):
        search = {"collections": ["uploads"], "bbox": box, "datetime": "2026-05-20T00:00:00Z/2026-05-21T00:00:00Z"}
        assert [one["id"] for one in site.http.post("/stac/search", json=search).json()["features"]] == [found["id"]]


def test_who_forgot_the_time_is_asked_for_it_and_need_not_send_the_file_again(site: Site, tmp_path: Path) -> None:
    upload = sent(site, raster(tmp_path, 7000), datetime=None)
    (asked,) = worked(site, upload, expected="rejected")
    assert asked["error"]["code"] == "DATETIME_REQUIRED"
    (link,) = [link for link in asked["links"] if link["rel"] == "datetime"]
    for form, code in (
        ({}, "DATETIME_REQUIRED"),
        ({"datetime": "soon"}, "DATETIME_INVALID"),
        ({"start_datetime": WHEN}, "INVALID_FIELD"),
    ):
        answer = site.http.request(link["method"], link["href"], json=form)
        assert (answer.status_code, answer.json()["code"]) == (422, code)
    answer = site.http.request(link["method"], link["href"], json={"datetime": WHEN})
    assert (answer.status_code, answer.json()["state"]) == (202, "received")
    assert item(site, worked(site, upload)[0]["item_id"])["properties"]["datetime"].startswith(WHEN[:-1])
    again = site.http.request(link["method"], link["href"], json={"datetime": WHEN})
    assert (again.status_code, again.json()["code"]) == (409, "STATE_CONFLICT")


def test_the_time_may_stand_in_the_file_itself(site: Site, tmp_path: Path) -> None:
    raster(tmp_path, 8000)
    with rasterio.open(tmp_path / "a.tif", "r+") as target:
        target.update_tags(TIFFTAG_DATETIME="2021:07:01 10:00:00")
    (state,) = worked(site, sent(site, (tmp_path / "a.tif").read_bytes(), datetime=None))
    assert item(site, state["item_id"])["properties"]["datetime"] == "2021-07-01T10:00:00Z"


def test_without_parameters_it_is_drawn_by_its_hint(site: Site, both: list[dict[str, Any]]) -> None:
    found = item(site, both[0]["item_id"])
    base = f"/raster/collections/uploads/items/{found['id']}"
    hint = found["properties"]["renders"]["default"]
    ((low, high),) = hint["rescale"]
    said = {"assets": f"red|bidx={hint['bidx'][0]}", "rescale": f"{low},{high}"}
    plain = site.http.get(f"{base}/preview.png")
    assert plain.status_code == 200, plain.text
    assert plain.content == site.http.get(f"{base}/preview.png", params=said).content
    assert plain.content != site.http.get(f"{base}/preview.png", params={"rescale": "0,65535"}).content
    tiles = site.http.get(f"{base}/WebMercatorQuad/tilejson.json").json()
    lon, lat, zoom = found["bbox"][0] + 0.005, (found["bbox"][1] + found["bbox"][3]) / 2, tiles["maxzoom"]
    x = int((lon + 180) / 360 * 2**zoom)
    y = int((1 - np.arcsinh(np.tan(np.radians(lat))) / np.pi) / 2 * 2**zoom)
    place = tiles["tiles"][0].replace("{z}", str(zoom)).replace("{x}", str(x)).replace("{y}", str(y))
    assert site.http.get(place).headers["content-type"] == "image/png"
    assert site.http.get(found["assets"]["thumbnail"]["href"]).headers["content-type"] == "image/png"
    layers = site.http.get(f"{base}/WMTSCapabilities.xml")
    assert layers.status_code == 200, layers.text
    assert "?render={Style}" in layers.text
    point = site.http.get(f"{base}/point/{lon},{lat}").json()
    assert len(point["values"]) == 1


def test_a_coarse_copy_is_not_kept_by_clients(site: Site, both: list[dict[str, Any]]) -> None:
    path = f"/raster/collections/uploads/items/{both[0]['item_id']}/preview.png"
    assert site.http.get(path).headers.get("cache-control") != "no-store"
    statement = (
        "update pgstac.items set content = jsonb_set(content, '{assets,red,federator:preview}', %s) where id = %s"
    )
    with psycopg.connect(site.database.conninfo, autocommit=True) as conn:
        conn.execute(statement, ("true", both[0]["item_id"]))
        assert site.http.get(path).headers["cache-control"] == "no-store"
        conn.execute("update pgstac.items set content = content #- '{assets,red,federator:preview}'")


@pytest.mark.parametrize(
    ("form", "status", "code"),
    [
        ({"item": "no-such-item", "asset": "nir"}, 422, "ITEM_UNKNOWN"),
        ({"item": "01890000-0000-7000-8000-000000000000", "asset": "nir"}, 404, "ITEM_UNKNOWN"),
        ({"item": "", "asset": "nir"}, 422, "ITEM_UNKNOWN"),
        ({"replaces": "no-such-item"}, 422, "ITEM_UNKNOWN"),
        ({"item": "ITEM", "asset": "red"}, 409, "ASSET_EXISTS"),
        ({"item": "ITEM"}, 422, "INVALID_FIELD"),
        ({"item": "ITEM", "asset": "thumbnail"}, 422, "INVALID_FIELD"),
        ({"item": "ITEM", "asset": "a|b"}, 422, "INVALID_FIELD"),
        ({"item": "ITEM", "replaces": "ITEM"}, 422, "INVALID_FIELD"),
        ({"item": 5, "asset": "nir"}, 422, "INVALID_FIELD"),
    ],
)
def test_what_an_upload_cannot_become(
    site: Site, both: list[dict[str, Any]], form: dict[str, Any], status: int, code: str
) -> None:
    named = {name: both[0]["item_id"] if value == "ITEM" else value for name, value in form.items()}
    answer = created(site, **named)
    assert_problem(answer)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


@pytest.fixture(scope="module")
def chain(site: Site, both: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The second and the third version of an item; the second was not for everybody."""
    item_id, folder = both[0]["item_id"], tmp_path_factory.mktemp("chain")
    (second,) = worked(site, sent(site, raster(folder, 20_000), replaces=item_id, title="Again"))
    assert (second["item_id"], second["version"]) == (item_id, 2)
    with psycopg.connect(
        site.database.conninfo, autocommit=True
    ) as conn:  # what not all may see stays so when it moves
        conn.execute("update pgstac.items set private = '[\"user:ann\"]' where id = %s", (item_id,))
    (third,) = worked(site, sent(site, raster(folder, 30_000), replaces=item_id, title="Again", asset="red"))
    assert (third["item_id"], third["version"]) == (item_id, 3)
    assert site.http.get(f"/stac/collections/uploads/items/{item_id}~v2").status_code == 404
    with psycopg.connect(site.database.conninfo, autocommit=True) as conn:
        readers = conn.execute("select id from pgstac.items where private = '[\"user:ann\"]' order by id").fetchall()
        assert readers == [(item_id,), (f"{item_id}~v2",)]
        conn.execute("update pgstac.items set private = null")
    return [second, third]


def test_versions_follow_each_other_and_what_was_there_stays(site: Site, chain: list[dict[str, Any]]) -> None:
    item_id = chain[0]["item_id"].removesuffix("~v2")
    newest, older, oldest = (item(site, f"{item_id}{end}") for end in ("", "~v2", "~v1"))
    assert [faults(one) for one in (newest, older, oldest)] == [[], [], []]
    said = [(one["properties"]["version"], one["properties"]["deprecated"]) for one in (newest, older, oldest)]
    assert said == [("3", False), ("2", True), ("1", True)]
    assert targets(newest) == {"predecessor-version": f"{item_id}~v2"}
    assert targets(older) == {
        "predecessor-version": f"{item_id}~v1", "successor-version": item_id, "latest-version": item_id,
    }  # fmt: skip
    assert targets(oldest) == {"successor-version": f"{item_id}~v2", "latest-version": item_id}
    shown = [smallest(site, one["id"], key) for one, key in ((newest, "red"), (older, "data"), (oldest, "red"))]
    assert shown == [30_000, 20_000, 100]
    assert set(oldest["assets"]) == {"red", "mask", "thumbnail"}
    assert site.http.get(oldest["assets"]["thumbnail"]["href"]).status_code == 200
    assert site.http.head(oldest["assets"]["red"]["href"]).status_code == 200
    query = "select kind from lineage.event_outbox where item_id = %s order by position"
    with psycopg.connect(site.database.conninfo, autocommit=True) as conn:
        kinds = {end: [row[0] for row in conn.execute(query, (f"{item_id}{end}",))] for end in ("", "~v1", "~v2")}
    # Updates are those of the tests' own SQL, too: whatever writes items is logged.
    kinds = {end: [kind for kind in some if kind != "UPDATE"] for end, some in kinds.items()}
    assert kinds == {"": ["CREATE", "REPLACE", "REPLACE"], "~v1": ["OBSOLETE"], "~v2": ["OBSOLETE"]}
    old = created(site, replaces=f"{item_id}~v1")
    assert (old.status_code, old.json()["code"]) == (409, "SUPERSEDED")


def test_no_version_leads_to_one_that_was_deleted(site: Site, chain: list[dict[str, Any]]) -> None:
    second, third = chain
    item_id = third["item_id"]
    assert site.http.delete(f"/uploads/{third['id']}", headers=VERSION).status_code == 204
    assert site.http.get(f"/stac/collections/uploads/items/{item_id}").status_code == 410
    newest, oldest = item(site, f"{item_id}~v2"), item(site, f"{item_id}~v1")
    assert (faults(newest), faults(oldest)) == ([], [])
    assert targets(newest) == {"predecessor-version": f"{item_id}~v1"}
    assert targets(oldest) == {"successor-version": f"{item_id}~v2", "latest-version": f"{item_id}~v2"}
    assert (newest["properties"]["deprecated"], oldest["properties"]["deprecated"]) == (False, True)
    again = created(site, replaces=newest["id"])
    assert again.status_code == 201, again.text
    assert site.http.get(f"/uploads/{second['id']}").json()["state"] == "ready"


def test_an_asset_is_replaced_and_what_goes_leaves_the_rest(
    site: Site, both: list[dict[str, Any]], tmp_path: Path
) -> None:
    content = raster(tmp_path, 700)
    (first,) = worked(site, sent(site, content, title="Bands", asset="b1"))
    (second,) = worked(site, sent(site, content, title="Bands", item=first["item_id"], asset="b2"))
    assert first["same_as"] is None
    assert second["same_as"]["item"].endswith(f"/items/{first['item_id']}")
    (third,) = worked(
        site, sent(site, raster(tmp_path, 900), title="Bands", item=first["item_id"], asset="b1", replace=True)
    )
    assert smallest(site, first["item_id"], "b1") == 900
    assert site.http.get(f"/uploads/{first['id']}").json()["state"] == "deleting"
    assert site.http.delete(f"/uploads/{third['id']}", headers=VERSION).status_code == 204
    left = item(site, first["item_id"])
    assert faults(left) == []
    assert set(left["assets"]) == {"b2", "thumbnail"}
    assert left["properties"]["renders"]["default"]["assets"] == ["b2"]
    assert site.http.get(f"/raster/collections/uploads/items/{left['id']}/preview.png").status_code == 200
    assert site.http.delete(f"/uploads/{second['id']}", headers=VERSION).status_code == 204
    gone = site.http.get(f"/stac/collections/uploads/items/{left['id']}")
    assert_problem(gone)
    assert (gone.status_code, gone.json()["code"]) == (410, "ITEM_DELETED")
    assert site.http.get(f"/uploads/{second['id']}/data.tif").status_code == 410
