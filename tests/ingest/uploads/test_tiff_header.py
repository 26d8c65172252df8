"""The walk over TIFF headers, before GDAL."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.errors import UploadRejected
from ingest.settings import IngestSettings
from ingest.uploads import gdal_metadata
from ingest.uploads.tiff_header import walk
from tests.ingest.uploads.rasters import header, image, write
from tests.shared import shared_path


def code_of(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(UploadRejected) as caught:
        walk(path)
    return caught.value.code


def test_real_files_pass_and_are_described() -> None:
    for path in sorted(shared_path("rasters").glob("*.tif")):
        if path.name.startswith("corrupt"):  # its fourth block lies behind its end
            continue
        summary = walk(path)
        with rasterio.open(path) as source:
            assert (summary.width, summary.height, summary.bands) == (source.width, source.height, source.count), (
                path.name
            )


GDAL_TEXT = b"<GDALMetadata>%s</GDALMetadata>"
METADATA = [
    (b'<Item name="OVERVIEW_FILE" domain="OVERVIEWS">/etc/passwd</Item>', "EXTERNAL_REFERENCE"),
    (b"<Item name=\"OVERVIEW_FILE\" domain = 'overviews'>a.tif</Item>", "EXTERNAL_REFERENCE"),
    (b'<Item name="x">/vsicurl/http://127.0.0.1/x</Item>', "EXTERNAL_REFERENCE"),
    (b'<Item name="x" domain="GEOLOCATION">http://127.0.0.1/x</Item>', "EXTERNAL_REFERENCE"),
    (b'<Item name="X_DATASET" domain="GEOLOCATION">/etc/passwd</Item>', "EXTERNAL_REFERENCE"),
    (b'<Item name="x">file:///etc/passwd</Item>', "EXTERNAL_REFERENCE"),
    (b'<item name="x">GTIFF_DIR:1:/vsimem/x</item>', "EXTERNAL_REFERENCE"),
    (b'<Item name="x">&#47;vsicurl&#x2f;x</Item>', "EXTERNAL_REFERENCE"),
    (b'<Item name="O" domain="&#79;VERVIEWS">a</Item>', "EXTERNAL_REFERENCE"),
    (b'<Item name="x" domain="d"><![CDATA[/etc/passwd]]></Item>', "EXTERNAL_REFERENCE"),
    (b"<Item>1</Item>" * 2001, "METADATA_TOO_LARGE"),
    (b"x" * (2**20 + 1), "METADATA_TOO_LARGE"),
]


@pytest.mark.parametrize(("text", "code"), METADATA)
def test_metadata(tmp_path: Path, text: bytes, code: str) -> None:
    content = GDAL_TEXT % text
    directory = image(16, 16, (42112, 2, len(content), 4096))
    data = header(directory, size=4096) + content
    assert code_of(tmp_path / "a.tif", data) == code


def test_harmless_metadata_pass(tmp_path: Path) -> None:
    content = GDAL_TEXT % (
        b'<Item name="AREA">10 m / pixel</Item><Item name="units">km/h</Item><Item name="reference">https://esa-worldcover.org/</Item>'
        b'<Item name="SOURCE">/data/in.tif</Item>'
    )
    (tmp_path / "a.tif").write_bytes(header(image(16, 16, (42112, 2, len(content), 4096)), size=4096) + content)
    assert walk(tmp_path / "a.tif").warnings == []


HEADERS = {
    "empty": (b"", "EMPTY_FILE"),
    "text": (b"this is a text", "NOT_A_TIFF"),
    "VRT in disguise": (b"<VRTDataset>", "NOT_A_TIFF"),
    "four bytes": (b"II*\0", "CORRUPT"),
    "no directory": (b"II*\0\0\0\0\0", "CORRUPT"),
    "directory behind the end": (b"II*\0\xff\xff\0\0", "CORRUPT"),
    "circle": (header(image(), size=9000, link_to_first=True), "CORRUPT"),
    "65 directories": (header(*[image()] * 65, size=9000), "TOO_COMPLEX"),
    "101 tags": (header([(1000 + n, 3, 1, 0) for n in range(101)], size=9000), "TOO_COMPLEX"),
    "tag outside": (header(image(16, 16, (270, 2, 10**6, 100)), size=9000), "CORRUPT"),
    "no pixels": (header(image(0, 16), size=9000), "CORRUPT"),
    "2e9 x 2e9": (header(image(2 * 10**9, 2 * 10**9), size=9000), "TOO_LARGE_DECODED"),
    "bomb": (header(image(90_000, 90_000, (278, 4, 1, 1)), size=9000), "TOO_LARGE_DECODED"),
    "one huge strip": (header(image(20_000, 20_000), size=2**20), "TOO_LARGE_DECODED"),
    "65,535 bands": (header(image(16, 16, (277, 3, 1, 65535)), size=9000), "TOO_MANY_BANDS"),
    "JPEG 2000": (header(image(16, 16, (259, 3, 1, 34712)), size=9000), "UNSUPPORTED_COMPRESSION"),
    "complex": (header(image(16, 16, (339, 3, 1, 6)), size=9000), "UNSUPPORTED_DTYPE"),
    "128 bits": (header(image(16, 16, (258, 3, 1, 128)), size=9000), "UNSUPPORTED_DTYPE"),
}


@pytest.mark.parametrize("what", HEADERS)
def test_hostile_headers(tmp_path: Path, what: str) -> None:
    content, code = HEADERS[what]
    assert code_of(tmp_path / "a.tif", content) == code


@given(st.binary(max_size=400), st.sampled_from([b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"]))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_bytes_break_the_walk(tmp_path: Path, content: bytes, magic: bytes) -> None:
    path = tmp_path / "fuzz.tif"
    path.write_bytes(magic + content)
    with contextlib.suppress(UploadRejected):
        walk(path)


@given(st.data())
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_damage_of_a_real_header_breaks_the_walk(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "real.tif"
    write(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(4, 400))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(8, len(content)))])
    with contextlib.suppress(UploadRejected):
        walk(path)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text",
    [b"<Item domain=" + b" " * 2**20, b"<Item " * 1900 + b"x" * 10**6, b"<Item " + b"w" * 10**6 + b">", b"domain = " * 100_000],
    ids=["blanks", "items without an end", "one long word", "many domains"],
)  # fmt: skip
def test_no_metadata_are_looked_at_again_and_again(text: bytes) -> None:
    """Of a million bytes each; where the time grew with their square it took hours."""
    limits = IngestSettings()
    assert gdal_metadata.check(text[: limits.raster_max_metadata_bytes], limits) == []


def test_a_band_beyond_all_numbers_is_none() -> None:
    text = (
        b'<Item role="description" sample="' + b"9" * 5000 + b'">x</Item><Item role="description" sample="1">y</Item>'
    )
    assert gdal_metadata.band_texts(text, "description") == {1: "y"}
