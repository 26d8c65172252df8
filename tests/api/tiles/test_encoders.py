"""Encoders and tables give what titiler gives: PNG to the bit, lossy formats within their loss, everything else from titiler itself."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import morecantile
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imagecodecs import avif_decode
from rasterio.io import MemoryFile
from rio_tiler.colormap import cmap
from rio_tiler.io import Reader
from rio_tiler.models import ImageData
from titiler.core.resources.enums import ImageType
from titiler.core.utils import render_image as stock

from api.problems import Problem
from api.tiles import rescale
from api.tiles.avif import AVIF
from api.tiles.encode import render_image
from tests.api.tiles import rasters
from tests.size import sized

pytestmark = pytest.mark.filterwarnings("ignore")
#: Lowest signal to noise of a lossy picture, against titiler's own; decibels.
_SAME_DB = 1.0


def picture(dtype: str = "uint8", bands: int = 3, side: int = 96, *, masked: bool = True) -> ImageData:
    kind = rasters.Kind(dtype, bands, side=side)
    data = np.ma.MaskedArray(rasters.pixels_of(kind))
    data.mask = np.broadcast_to(np.arange(side) < 20, data.shape) if masked else False
    return ImageData(data)


def decoded(body: bytes) -> Any:
    with MemoryFile(body) as memory, memory.open() as source:
        return source.read()


def both(image: Any, form: ImageType | None, **options: Any) -> tuple[bytes, bytes]:
    """Ours and titiler's, of the same picture."""
    ours, theirs = render_image(image(), output_format=form, **options), stock(image(), output_format=form, **options)
    assert ours[1] == theirs[1]
    return ours[0], theirs[0]


@pytest.mark.parametrize(
    ("form", "dtype"),
    [
        *((ImageType.png, dtype) for dtype in ("uint8", "uint16", "int16", "float32", "uint32")),
        *((ImageType.pngraw, dtype) for dtype in ("uint8", "uint16")),
    ],
)
@pytest.mark.parametrize("bands", [1, 2, 3])
@pytest.mark.parametrize("add_mask", [True, False])
def test_a_png_is_titilers_to_the_bit(form: ImageType, dtype: str, bands: int, add_mask: bool) -> None:
    for options in ({}, {"rescale": [(0, 200)]}):
        ours, theirs = both(lambda: picture(dtype, bands), form, add_mask=add_mask, **options)
        assert np.array_equal(decoded(ours), decoded(theirs))


@pytest.mark.parametrize("form", [ImageType.jpeg, ImageType.jpg, ImageType.webp])
@pytest.mark.parametrize("bands", [1, 3])
def test_a_lossy_picture_loses_no_more_than_titilers(form: ImageType, bands: int) -> None:
    truth = picture(bands=bands, masked=False)
    ours, theirs = (decoded(one) for one in both(lambda: picture(bands=bands, masked=False), form))
    assert ours.shape == theirs.shape
    known = np.broadcast_to(truth.data, (ours.shape[0] if bands == 1 else 3, *truth.data.shape[1:]))
    loss = [10 * np.log10(255**2 / np.mean((one[: len(known)].astype(float) - known) ** 2)) for one in (ours, theirs)]
    assert loss[0] >= loss[1] - _SAME_DB


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_an_avif_loses_no_more_than_a_webp_and_keeps_what_is_transparent(dtype: str, bands: int) -> None:
    """Of types that it cannot hold the values are stretched, as for WEBP."""
    options = {} if dtype == "uint8" else {"rescale": [(0, 250)]}
    avif, kind = render_image(picture(dtype, bands), output_format=AVIF, **options)  # type: ignore[arg-type]
    webp, _ = render_image(picture(dtype, bands), output_format=ImageType.webp, **options)  # type: ignore[arg-type]
    assert kind == "image/avif"
    assert avif[4:12] == b"ftypavif"
    seen, other = avif_decode(avif).astype(float), np.moveaxis(decoded(webp), 0, -1).astype(float)
    truth = decoded(render_image(picture(dtype, bands), output_format=ImageType.png, **options)[0])  # type: ignore[arg-type]
    colours = np.moveaxis(truth[:-1] if bands == 3 else np.repeat(truth[:1], 3, axis=0), 0, -1)
    there = truth[-1] == 255
    assert seen.shape == other.shape == (96, 96, 4)
    loss = [10 * np.log10(255**2 / np.mean((one[there][:, :3] - colours[there]) ** 2)) for one in (seen, other)]
    assert loss[0] >= loss[1] - _SAME_DB
    assert np.abs(seen[..., 3] - truth[-1]).max() <= 8
    plain, _ = render_image(picture(dtype, bands), output_format=AVIF, add_mask=False, **options)  # type: ignore[arg-type]
    assert avif_decode(plain).shape == (96, 96, 3)


def test_an_avif_of_two_bands_is_refused() -> None:
    with pytest.raises(Problem) as met:
        render_image(picture(bands=2), output_format=AVIF)
    assert met.value.status == 400


@pytest.mark.parametrize("masked", [True, False])
def test_without_a_format_it_is_a_png_where_pixels_are_missing(masked: bool) -> None:
    for dtype in ("uint8", "uint16"):
        ours, theirs = both(lambda dtype=dtype: picture(dtype, masked=masked), None)  # type: ignore[misc]
        assert ours[:4] == theirs[:4]


@pytest.mark.parametrize("form", [ImageType.npy, ImageType.tif])
def test_numbers_are_titilers(form: ImageType) -> None:
    ours, theirs = both(lambda: picture("float32", 2), form)
    assert ours == theirs


def test_alpha_bands_color_formulas_and_expressions_are_drawn_alike() -> None:
    def seen(dtype: str) -> ImageData:
        image = picture(dtype)
        image.alpha_mask = np.arange(96 * 96).reshape(96, 96).astype(dtype)
        return image

    for dtype, options in itertools.product(
        ("uint8", "uint16"), ({}, {"rescale": [(1, 300)]}, {"rescale": [(0, 255)], "color_formula": "gamma RGB 1.4"})
    ):
        ours, theirs = both(lambda dtype=dtype: seen(dtype), ImageType.png, **options)  # type: ignore[misc]
        assert np.array_equal(decoded(ours), decoded(theirs))


@pytest.mark.parametrize(
    "colormap",
    [
        cmap.get("viridis"),
        {1: (1, 2, 3, 255), 77: (4, 5, 6, 100)},
        {1.0: (1, 2, 3, 255)},
        [((0, 90), (1, 2, 3, 255)), ((90, 200), (4, 5, 6, 0))],
        {value: [value, 0, 0, 255] for value in range(256)},
    ],
    ids=["all values", "some", "fraction", "intervals", "lists"],
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_colours_are_titilers(colormap: Any, dtype: str) -> None:
    ours, theirs = both(lambda: picture(dtype, 1), ImageType.png, colormap=colormap)
    assert np.array_equal(decoded(ours), decoded(theirs))


@settings(max_examples=sized(60, 600), deadline=None)
@given(
    dtype=st.sampled_from(["uint8", "uint16", "int16", "float32"]),
    bands=st.integers(1, 3),
    ranges=st.lists(
        st.tuples(st.floats(-70_000, 70_000), st.floats(-70_000, 70_000)).filter(lambda two: two[0] != two[1]),
        min_size=1,
        max_size=3,
    ),
    seed=st.integers(0, 2**32 - 1),
)
def test_tables_stretch_as_rio_tiler_does(dtype: str, bands: int, ranges: list[tuple[float, float]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    info = np.iinfo(dtype) if dtype != "float32" else np.iinfo("int16")
    values = rng.integers(info.min, info.max, (bands, 16, 16), endpoint=True).astype(dtype)
    mask = rng.random(values.shape) < 0.2
    tabled, computed = (ImageData(np.ma.MaskedArray(values.copy(), mask=mask.copy())) for _ in range(2))
    rescale.rescale(tabled, ranges)
    computed.rescale(ranges)
    assert np.array_equal(tabled.data, computed.data)
    assert tabled.data.dtype == computed.data.dtype
    assert np.array_equal(tabled.array.mask, computed.array.mask)


@pytest.mark.skipif(not rasters.REAL.is_dir(), reason="the collection of real rasters is not on this machine")
@pytest.mark.parametrize(
    ("name", "stretch"),
    [
        ("sentinel2_tci_utm34_cog", None),
        ("noaa_aerial_jpeg_mask_4326_cog", None),
        ("aerial_webp_3857", None),
        ("drone_rgba_utm50s", None),
        ("sentinel1_gamma0_vv_float32_utm10_cog", [(0, 0.3)]),
        ("dem_float32_2056_cog", [(1600, 2000)]),
        ("landcover_palette_3857_cog", None),
    ],
)
def test_pngs_of_real_imagery_are_hardly_larger_than_gdals(name: str, stretch: Any) -> None:
    """The promise is 1.3 times at most, at any zoom."""
    tms = morecantile.tms.get("WebMercatorQuad")
    with Reader(str(rasters.REAL / f"{name}.tif"), tms=tms) as source:
        west, south, east, north = source.get_geographic_bounds(tms.rasterio_geographic_crs)
        for zoom in (source.maxzoom + 1, source.maxzoom, source.maxzoom - 2):
            tile = tms.tile(west + (east - west) * 0.4, south + (north - south) * 0.55, zoom)
            colours = source.colormap or None

            def read(tile: Any = tile) -> ImageData:
                return source.tile(*tile)

            ours, theirs = both(read, ImageType.png, rescale=stretch, colormap=colours)
            assert len(ours) <= 1.3 * len(theirs) + 100, (tile, len(ours), len(theirs))


def test_a_picture_of_one_colour_is_small() -> None:
    plain = ImageData(np.ma.MaskedArray(np.full((3, 256, 256), 9, "uint8"), mask=np.zeros((3, 256, 256), bool)))
    ours, theirs = both(lambda: plain, ImageType.png)
    assert len(ours) <= 1.3 * len(theirs) + 100


def test_files_are_what_programs_expect(tmp_path: Path) -> None:
    """GDAL opens each by its own name; alpha is alpha."""
    for form, driver, count in ((ImageType.png, "PNG", 4), (ImageType.jpeg, "JPEG", 3), (ImageType.webp, "WEBP", 4)):
        body, _ = render_image(picture(), output_format=form)
        with MemoryFile(body) as memory, memory.open() as source:
            assert (source.driver, source.count) == (driver, count)
            assert (source.colorinterp[-1].name == "alpha") == (count == 4)
