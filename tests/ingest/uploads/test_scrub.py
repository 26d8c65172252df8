"""A raster whose bytes have changed on the disk is found, named in the log, and served no more."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from db.pools import Pool
from ingest.settings import IngestSettings
from ingest.uploads.model import Upload
from ingest.uploads.scrub import Pace, StorageUnreadable, _hashed, _put_aside, scrub
from ingest.uploads.service import cog_path
from lineage.sequencer import sequence
from tests.ingest.uploads.test_removal import execute, ready
from tests.lineage.samples import signer

FAST = 1e12


@pytest.fixture
def settings(tmp_path: Path) -> IngestSettings:
    return IngestSettings(data_dir=tmp_path / "data", public_url="http://127.0.0.1:8080")


async def _events(pool: Pool) -> list[tuple[str, str, str | None]]:
    query = "select name, body::jsonb as body from lineage.event_outbox where kind = 'VERIFY' order by position"
    return [(row["body"]["check"], row["name"], row["body"].get("result")) for row in await execute(pool, query)]


def test_what_is_no_file_in_a_raster_s_place_is_put_aside(tmp_path: Path) -> None:
    """A folder there ended every run; a pipe, or a link to one, was read for ever."""
    folder, pipe, link, lost = (tmp_path / "cogs" / name for name in ("folder", "pipe", "link", "lost"))
    folder.mkdir(parents=True)
    os.mkfifo(pipe)
    link.symlink_to("/dev/zero")
    lost.symlink_to(tmp_path / "nowhere")
    (tmp_path / "cogs" / ".volume").touch()
    for path in (folder, pipe, link, lost):
        assert _hashed(path, Pace(FAST)) == (None, 0)
        _put_aside(path, tmp_path / "damaged")
        assert not path.exists(follow_symlinks=False)
        assert (tmp_path / "damaged" / path.name).exists(follow_symlinks=False)


async def test_a_damaged_raster_is_taken_out_of_service(
    catalogue: Pool, settings: IngestSettings, tmp_path: Path
) -> None:
    good: Upload = await ready(catalogue, settings, tmp_path)
    bad: Upload = await ready(catalogue, settings, tmp_path)
    report = await scrub(catalogue, settings, FAST)
    assert (report.checked, report.damaged) == (2, 0), "their events wait for their numbers"
    await sequence(catalogue, signer(tmp_path))
    assert (await scrub(catalogue, settings, FAST)).damaged == 0, "they have them"
    path = cog_path(settings, bad.id)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    report = await scrub(catalogue, settings, FAST)
    assert (report.checked, report.damaged) == (2, 1)
    assert cog_path(settings, good.id).is_file()
    assert not path.exists()
    assert (settings.data_dir / "damaged" / path.name).read_bytes() == content
    assert await _events(catalogue) == [
        ("rasters", "scrub", None),
        ("raster", bad.item_id, "damaged"),
        ("rasters", "scrub", None),
    ]
    report = await scrub(catalogue, settings, FAST)
    assert (report.checked, report.damaged) == (1, 0), "it is out of service already"
    cog_path(settings, good.id).unlink()
    assert (await scrub(catalogue, settings, FAST)).damaged == 1
    assert (await _events(catalogue))[-2] == ("raster", good.item_id, "missing")


async def test_rasters_are_not_marked_damaged_when_the_disk_cannot_be_read(
    catalogue: Pool, settings: IngestSettings, tmp_path: Path
) -> None:
    upload: Upload = await ready(catalogue, settings, tmp_path)
    await sequence(catalogue, signer(tmp_path))
    path = cog_path(settings, upload.id)
    cogs, away = path.parent, tmp_path / "away"
    cogs.rename(away)  # as a volume that is not mounted
    with pytest.raises(StorageUnreadable, match="not marked"):
        await scrub(catalogue, settings, FAST)
    cogs.mkdir()  # the empty folder that it is mounted at
    with pytest.raises(StorageUnreadable, match="not marked"):
        await scrub(catalogue, settings, FAST)
    path.symlink_to(path)  # ELOOP: neither a file nor none
    with pytest.raises(StorageUnreadable):
        await scrub(catalogue, settings, FAST)
    path.unlink()
    cogs.rmdir()
    away.rename(cogs)
    assert await _events(catalogue) == []
    report = await scrub(catalogue, settings, FAST)
    assert (report.checked, report.damaged) == (1, 0)


def test_it_reads_no_faster_than_asked() -> None:
    begun, pace = time.monotonic(), Pace(1e6)
    for _ in range(5):
        pace.wait_after(20_000)
    assert time.monotonic() - begun >= 0.1
