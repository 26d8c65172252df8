"""The parts of checking and converting, one by one: what pure code can show."""

from __future__ import annotations

import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import rasterio
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from rio_cogeo.cogeo import cog_validate
from shapely.geometry import shape

from ingest.errors import UploadRejected
from ingest.uploads import cog, cog_layout, description, gdal_metadata, pixels, streams
from ingest.uploads.facts import _tag_datetime
from ingest.uploads.raster_settings import DEFAULTS
from ingest.uploads.self_check import DISGUISES, attempts, protection
from ingest.uploads.text import clean_text
from tests.ingest.uploads.rasters import write

MEMBERS = frozenset({
    "description", "start_datetime", "end_datetime", "license", "keywords", "bands", "derived_from", "crs",
})  # fmt: skip


async def test_the_child_is_confined_as_far_as_this_system_can() -> None:
    found = await protection(DEFAULTS)
    assert found.leaks == ()
    assert "rlimits" in found.on
    assert not set(found.on) & set(found.off)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_the_check_would_notice(tmp_path: Path) -> None:
    """In a process that is not confined everything works that must not work in the child."""
    (tmp_path / "outside").write_bytes(b"x")
    for kind, text in DISGUISES.items():
        (tmp_path / f"{kind}.tif").write_text(text)
    worked = attempts({"outside": str(tmp_path / "outside"), "folder": str(tmp_path)})
    assert {"reads other files", "writes other files", "has GDAL's driver VRT", "opens VRT files"} <= set(worked)


@given(
    st.integers(1, 40), st.integers(1, 40), st.sampled_from([2, 4, 8]), st.sampled_from(["uint8", "int16", "float32"]),
    st.integers(0, 2**32 - 1),
)  # fmt: skip
@hypothesis_settings(max_examples=150, deadline=None)
def test_averages_are_those_of_the_valid_pixels(rows: int, columns: int, factor: int, dtype: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 200, (2, rows, columns)).astype(dtype)
    valid = rng.random((2, rows, columns)) < 0.6
    found = pixels.coarse(data, valid, factor, "average", 99)
    any_valid = pixels.any_valid(valid, factor)
    for row in range(-(-rows // factor)):
        for column in range(-(-columns // factor)):
            cell = np.s_[row * factor : (row + 1) * factor, column * factor : (column + 1) * factor]
            assert any_valid[row, column] == valid[:, *cell].any()
            for band in range(2):
                values = data[band][cell][valid[band][cell]].astype("float64")
                expected = values.mean() if values.size else 99
                assert abs(found[band, row, column] - expected) <= (0.5 if dtype != "float32" else 1e-4)


@given(st.binary(max_size=2000))
@hypothesis_settings(max_examples=200)
def test_no_metadata_break_the_check(text: bytes) -> None:
    with suppress(UploadRejected):
        gdal_metadata.check(text, DEFAULTS)
    for role in ("description", "unittype"):
        gdal_metadata.band_texts(text, role)


def packed(path: Path, *blocks: bytes) -> list[tuple[int, int]]:
    places, content = [], b""
    for block in blocks:
        places.append((len(content), len(block)))
        content += block
    path.write_bytes(content)
    return places


def test_a_clean_deflate_block_is_one_whole_stream(tmp_path: Path) -> None:
    whole = zlib.compress(bytes(1000))
    path = tmp_path / "blocks"
    assert streams.check_deflate(path, packed(path, whole, whole), 1000)
    assert streams.check_deflate(path, [*packed(path, whole), (0, 0)], 1000)
    for odd in (whole + b"hidden", zlib.compress(bytes(999)), zlib.compress(bytes(1001))):
        assert not streams.check_deflate(path, packed(path, whole, odd), 1000)
    bomb = zlib.compress(bytes(50_000_000))
    assert not streams.check_deflate(path, packed(path, bomb), 1000)
    for wrong in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:-4], whole[:9]):
        with pytest.raises(UploadRejected) as caught:
            streams.check_deflate(path, packed(path, whole, wrong), 1000)
        assert (caught.value.code, caught.value.facts["blocks"]) == ("CORRUPT", [1])


def test_blocks_that_share_bytes_are_seen() -> None:
    assert streams.do_not_overlap([(100, 10), (0, 100), (0, 0)])
    assert not streams.do_not_overlap([(100, 10), (95, 6)])


def test_a_large_cog_is_a_bigtiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = write(tmp_path / "a.tif", np.arange(600 * 700, dtype="uint32").reshape(1, 600, 700), tiled=True)
    cog.add_overviews(tmp_path / "a.tif", "nearest", coarsest=None)
    monkeypatch.setattr(cog_layout, "_CLASSIC_LIMIT", 1000)
    cog_layout.write(cog_layout.images_of(tmp_path / "a.tif"), tmp_path / "cog.tif")
    assert (tmp_path / "cog.tif").read_bytes()[:4] == b"II+\0"
    assert cog_validate(tmp_path / "cog.tif") == (True, [], [])
    with rasterio.open(tmp_path / "cog.tif") as made:
        assert np.array_equal(made.read(), written)
    with pytest.raises(FileExistsError):  # never over a file that is there
        cog_layout.write(cog_layout.images_of(tmp_path / "a.tif"), tmp_path / "cog.tif")


DESCRIPTION = {
    "description": "Two\nlines", "start_datetime": "2026-01-01T00:00:00Z", "end_datetime": "2026-01-31T00:00:00+01:00",
    "license": "CC-BY-4.0", "keywords": ["flood", "flood", "Elbe"], "derived_from": ["S2A_MSIL2A_X.SAFE", "sha256:" + "0" * 64],
    "bands": [{"common_name": "red"}, {"name": "N", "description": "near infrared"}], "crs": "EPSG:32633",
}  # fmt: skip


def test_what_users_say_is_kept_clean() -> None:
    told = description.parse({**DESCRIPTION, "title": "not ours", "description": "a\x00\u202eb\nc"})
    assert told["description"] == "ab\nc"
    assert told["end_datetime"] == "2026-01-30T23:00:00.000000Z"
    assert told["keywords"] == ["flood", "Elbe"]
    assert set(told) == MEMBERS
    assert description.parse({}) == {}
    texts = {
        name: orjson.dumps(value).decode() if isinstance(value, list) else value for name, value in DESCRIPTION.items()
    }
    assert description.parse(texts) == description.parse(DESCRIPTION), "as tus' metadata say it"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("description", 5), ("description", "x" * 10_001), ("license", "all mine!"), ("keywords", "flood"),
        ("keywords", ["x" * 101]), ("keywords", ["a"] * 51), ("bands", [1]), ("bands", [{}] * 101), ("bands", {}),
        ("bands", [{"common_name": "purple"}]), ("bands", [{"common_name": []}]), ("derived_from", ["/vsicurl/http://x"]),
        ("derived_from", [{}]), ("crs", "EPSG:1; drop"), ("crs", 4326), ("start_datetime", "2026-01-01T00:00:00Z"),
        ("end_datetime", "yesterday"), ("start_datetime", "2027-01-01T00:00:00Z"),
    ],
)  # fmt: skip
def test_what_users_may_not_say(field: str, value: Any) -> None:
    form = {field: value} if value != "2027-01-01T00:00:00Z" else {**DESCRIPTION, field: value}
    with pytest.raises(UploadRejected) as caught:
        description.parse(form)
    assert caught.value.code in ("INVALID_FIELD", "DATETIME_INVALID")
    assert caught.value.facts["field"] in (field, "start_datetime")


ANYTHING = st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.just({"common_name": []})


@given(st.dictionaries(st.sampled_from(sorted(MEMBERS)), ANYTHING | st.lists(ANYTHING, max_size=3), max_size=4))
@hypothesis_settings(suppress_health_check=[HealthCheck.too_slow])
def test_no_form_breaks_the_description(form: dict[str, Any]) -> None:
    with suppress(UploadRejected):
        description.parse(form)


@pytest.mark.parametrize(
    ("tag", "moment"),
    [
        ("2020:03:07 23:59:59", "2020-03-07T23:59:59Z"), ("1970:01:01 00:00:00", None), ("2999:01:01 00:00:00", None),
        ("0000:00:00 00:00:00", None), ("2020-03-07", None), ("2020:02:30 00:00:00", None), (None, None), ("x" * 99, None),
    ],
)  # fmt: skip
def test_times_in_tags(tag: str | None, moment: str | None) -> None:
    assert _tag_datetime(tag) == moment


def test_texts_are_bounded_and_plain() -> None:
    assert clean_text("  a\x00\x1b[31m\u202e\ud800b\n ", 100) == "a[31mb"
    assert clean_text("e\u0301" * 300, 10) == "\xe9" * 10


def test_footprints_keep_to_their_vertices(tmp_path: Path) -> None:
    from ingest.uploads.georeference import outline_of
    from ingest.uploads.outline import footprint

    write(tmp_path / "a.tif")
    valid = np.random.default_rng(0).random((200, 300)) < 0.3
    round_one = np.hypot(*np.mgrid[-100:100, -150:150]) < 90
    with rasterio.open(tmp_path / "a.tif") as source:
        for mask in (valid, round_one):
            geometry, _ = footprint(source.crs, outline_of(source), mask, source.transform, max_vertices=100)
            assert shape(geometry).is_valid
            assert sum(len(ring) for ring in geometry["coordinates"]) <= 100
