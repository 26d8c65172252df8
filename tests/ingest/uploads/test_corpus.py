"""Every hostile and odd raster gets its verdict; nobody is asked, no other file is touched or shown, no limit is passed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from shapely.geometry import Point, shape

from ingest.errors import UploadRejected
from ingest.uploads.sandbox import child_environment, order_for, run_child
from ingest.uploads.tiff_header import walk
from tests.ingest.uploads.corpus import HEADERS, MARK, OPENED, World
from tests.ingest.uploads.rasters import write

pytestmark = [
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
    pytest.mark.filterwarnings("ignore:.*rotated geotransform"),
]


class Canary(threading.Thread):
    """Counts who connects to it; nobody must."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.asked = 0

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.asked += 1
            connection.close()


#: Most memory of each child so far, in kB. (What the kernel tells of children that ended is of their parent too.)
PEAKS: dict[int, int] = {}


@pytest.fixture(autouse=True)
def watched_children(monkeypatch: pytest.MonkeyPatch) -> None:
    start = asyncio.create_subprocess_exec

    async def started(*arguments: Any, **options: Any) -> asyncio.subprocess.Process:
        process = await start(*arguments, **options)
        asyncio.get_running_loop().call_soon(_look, process.pid)
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", started)


def _look(pid: int) -> None:
    """Note the peak until the process ends."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return
    if found := re.search(r"VmHWM:\s+(\d+) kB", status):
        PEAKS[pid] = int(found[1])
        asyncio.get_running_loop().call_later(0.01, _look, pid)


@pytest.fixture(scope="module")
def canary() -> Iterator[Canary]:
    server = Canary()
    server.start()
    yield server
    server.listener.shutdown(socket.SHUT_RDWR)
    server.listener.close()
    server.join(5)


@pytest.fixture
def world(tmp_path: Path, canary: Canary) -> Iterator[World]:
    (tmp_path / "other").mkdir()
    victim = tmp_path / "other" / "victim.tif"
    write(victim, np.full((1, 300, 300), MARK, "uint8"))
    before = hashlib.sha256(victim.read_bytes()).digest()
    yield World(victim, canary.url)
    assert hashlib.sha256(victim.read_bytes()).digest() == before, "the victim's file was changed"
    assert canary.asked == 0, "somebody asked the canary"


def test_the_corpus_is_large_enough() -> None:
    assert len(HEADERS) + len(OPENED) >= 90


@pytest.mark.parametrize("name", HEADERS)
def test_refused_by_its_header(world: World, tmp_path: Path, name: str) -> None:
    """Without GDAL, in less than two seconds of work."""
    case = HEADERS[name]
    case.make(tmp_path / "original", world)
    begun = time.process_time()
    with pytest.raises(UploadRejected) as caught:
        walk(tmp_path / "original")
    assert time.process_time() - begun < 2
    assert caught.value.code == case.code, str(caught.value)
    assert str(tmp_path) not in str(caught.value)


async def converted(folder: Path) -> dict[str, Any]:
    """Header walk and child on `folder`/original; the report, with the header's warnings."""
    original = folder / "original"
    summary = walk(original)
    order = order_for(original, folder / "cog.tif", decoded_bytes=summary.decoded_bytes)
    report = await run_child(order, wall_s=100)
    return {**report, "warnings": [*summary.warnings, *report["warnings"]]}


@pytest.mark.parametrize("name", OPENED)
async def test_opened_in_the_child(world: World, tmp_path: Path, name: str) -> None:
    case = OPENED[name]
    folder = tmp_path / "upload"
    folder.mkdir()
    case.make(folder / "original", world)
    content = (folder / "original").read_bytes()
    if case.code:
        with pytest.raises(UploadRejected) as caught:
            await converted(folder)
        assert caught.value.code == case.code, str(caught.value)
        assert str(tmp_path) not in str(caught.value)
        assert not (folder / "cog.tif").exists()
        return
    report = await converted(folder)
    assert (folder / "original").read_bytes() == content
    assert set(case.warnings) <= set(report["warnings"])
    facts = report["facts"]
    json.dumps(facts, allow_nan=False)
    footprint = shape(facts["geometry"])
    assert footprint.is_valid
    assert sum(len(ring) for rings in _rings(facts["geometry"]) for ring in rings) <= 500
    alone = rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR", GDAL_PAM_ENABLED="NO")
    original = {"fp": folder / "original", "driver": "GTiff", "OVERVIEW_LEVEL": "NONE"}
    with alone, rasterio.open(**original) as source, rasterio.open(folder / "cog.tif") as cog:
        assert np.array_equal(cog.read(), source.read(), equal_nan=source.dtypes[0].startswith("float"))
        assert cog.transform.almost_equals(source.transform)
        assert set(cog.tags()) <= {"AREA_OR_POINT", "OVR_RESAMPLING_ALG"}
        shows_mark = MARK in cog.read()
        levels = len(cog.overviews(1))
    assert shows_mark or not any(MARK in overview_of(folder / "cog.tif", level) for level in range(levels))


def overview_of(path: Path, level: int) -> Any:
    with rasterio.open(path, OVERVIEW_LEVEL=level) as overview:
        return overview.read()


def _rings(geometry: dict[str, Any]) -> list[Any]:
    return geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]


async def facts_of(tmp_path: Path, world: World, name: str) -> dict[str, Any]:
    OPENED[name].make(tmp_path / "original", world)
    return dict((await converted(tmp_path))["facts"])


async def test_antimeridian_and_poles_are_drawn_right(tmp_path: Path, world: World) -> None:
    facts = await facts_of(tmp_path, world, "antimeridian, longitude and latitude")
    assert facts["bbox"] == [178.5, 7.0, -178.5, 10.0]
    assert facts["geometry"]["type"] == "MultiPolygon"
    (tmp_path / "cog.tif").unlink()
    facts = await facts_of(tmp_path, world, "south pole")
    assert facts["bbox"][:2] == [-180, -90]
    assert shape(facts["geometry"]).contains(Point(12, -89.9))
    (tmp_path / "cog.tif").unlink()
    facts = await facts_of(tmp_path, world, "north pole at a corner")
    assert facts["bbox"][3] == 90
    assert shape(facts["geometry"]).buffer(1e-6).contains(Point(-20, 89.9))
    assert not shape(facts["geometry"]).contains(Point(100, 89.9))


#: Attacks that the header walk stops, given to the child as if it had not, without the kernel's layers.
BEHIND_THE_WALK = ("OVERVIEWS with a local path", "OVERVIEWS with a URL", "VRT that reads a system file in disguise",
                   "VRT that reads an address in disguise", "WMS in disguise", "WMTS in disguise", "STACIT in disguise")  # fmt: skip


@pytest.mark.parametrize("name", BEHIND_THE_WALK)
async def test_gdals_settings_alone_hold_too(world: World, canary: Canary, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "upload"
    folder.mkdir()
    HEADERS[name].make(folder / "original", world)
    bare = tmp_path / "ingest_unconfined.py"
    bare.write_text("from ingest.uploads import child\nchild.confine = lambda *_: []\nchild.main()\n")
    order = order_for(folder / "original", folder / "cog.tif")
    report = json.loads((await _spawn(bare, order)).splitlines()[-1])
    assert canary.asked == 0
    if "refusal" in report:
        assert report["refusal"]["code"] == "CORRUPT"
        return
    with rasterio.open(folder / "cog.tif") as cog:
        assert MARK not in cog.read()
        levels = len(cog.overviews(1))
    assert not any(MARK in overview_of(folder / "cog.tif", level) for level in range(levels))


async def _spawn(script: Path, order: dict[str, Any]) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), stdin=-1, stdout=-1, env=child_environment(), cwd=order["folder"]
    )
    output, _ = await process.communicate(json.dumps(order).encode())
    return output.decode()


def test_no_child_needed_a_gigabyte() -> None:
    """Of all that ran before in this module, in kilobytes."""
    assert len(PEAKS) > 50
    assert 20_000 < max(PEAKS.values()) < 2**20
