"""titiler's `render_func`: an image to bytes, by the fastest encoder that fits; what fits none goes to rio-tiler and GDAL.

Steps and their order are those of `titiler.core.utils.render_image`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from imagecodecs import jpeg8_encode, webp_encode
from numpy.typing import NDArray
from rasterio.dtypes import dtype_ranges
from rio_tiler.errors import InvalidDatatypeWarning
from rio_tiler.models import ImageData
from rio_tiler.types import ColorMapType, IntervalTuple
from rio_tiler.utils import render
from titiler.core.resources.enums import ImageType
from titiler.core.utils import rescale_array

from api.problems import Problem
from api.tiles import avif, png
from api.tiles import rescale as tables
from api.tiles.avif import AVIF
from api.tiles.leaving import stop_if_left

#: Pixel types that a format can hold; of others the values are stretched.
_TYPES = {
    ImageType.png: ("uint8", "uint16"),
    ImageType.jpeg: ("uint8",),
    ImageType.jpg: ("uint8",),
    ImageType.webp: ("uint8",),
    ImageType.jp2: ("uint8", "int16", "uint16"),
    AVIF: ("uint8",),
}
#: libwebp's effort, 0 to 6: 2 takes a third of GDAL's time and gives files at most 1.07 times as large.
_WEBP_METHOD = 2
_PNGS = (ImageType.png, ImageType.pngraw)
_JPEGS = (ImageType.jpeg, ImageType.jpg)

Array = NDArray[Any]


def render_image(
    image: ImageData,
    colormap: ColorMapType | None = None,
    output_format: ImageType | None = None,
    add_mask: bool = True,
    rescale: Sequence[IntervalTuple] | None = None,
    color_formula: str | None = None,
    **options: Any,
) -> tuple[bytes, str]:
    """Bytes and media type of an image; parameters, result and errors are those of titiler's function.

    Raises:
        Problem: 400 INVALID_PARAMETER, where AVIF is asked for of what it cannot show.
    """
    stop_if_left()
    _stretch(image, rescale, color_formula)
    data, mask = image.data, _mask(image)
    range_in: Any = image.dataset_statistics or (dtype_ranges[str(data.dtype)],)
    if colormap:
        data, mask, range_in = _painted(data, mask, colormap)
    types = _TYPES
    if output_format is None:
        is_masked = bool((mask == dtype_ranges[str(mask.dtype)][0]).any())
        output_format = ImageType.png if is_masked else ImageType.jpeg
        types = {**_TYPES, ImageType.png: ("uint8",)}
    if output_format in types and str(data.dtype) not in types[output_format]:
        warnings.warn(
            f"Invalid type: `{data.dtype}` for the `{output_format}` driver. "
            "Data will be rescaled using min/max type bounds or dataset_statistics.",
            InvalidDatatypeWarning,
            stacklevel=2,
        )
        data = rescale_array(data.copy(), mask, in_range=range_in)
    shown = mask if add_mask else None
    if output_format is AVIF:
        if data.shape[0] not in (1, 3):
            raise Problem(400, "INVALID_PARAMETER", "AVIF shows one band or three", field="format")
        return avif.encode(data, shown), AVIF.mediatype
    body = _quickly(data, shown, output_format, options)
    if body is None:
        body = _by_gdal(image, data, shown, output_format, options)
    return body, output_format.mediatype


def _stretch(image: ImageData, ranges: Sequence[IntervalTuple] | None, color_formula: str | None) -> None:
    if ranges:
        tables.rescale(image, ranges)
    if color_formula:
        image.apply_color_formula(color_formula)


def _mask(image: ImageData) -> Array:
    """`ImageData.mask`: the alpha band, or the largest value where any band is valid and the least where none is."""
    if image.alpha_mask is not None:
        alpha: Array = image.alpha_mask
        return alpha
    kind = image.array.dtype
    low, high = dtype_ranges[str(kind)]
    missing = image.array.mask
    if not missing.any():
        return np.full(missing.shape[1:], high, kind)
    found: Array = np.where(missing.all(axis=0), low, high).astype(kind)
    return found


def _painted(data: Array, mask: Array, colormap: ColorMapType) -> tuple[Array, Array, Any]:
    nothing = dtype_ranges[str(data.dtype)][0]
    data, alpha = tables.coloured(data, colormap)
    range_out = dtype_ranges[str(data.dtype)]
    return data, np.where(mask != nothing, alpha, range_out[0]).astype(data.dtype), (range_out,)


def _quickly(data: Array, mask: Array | None, form: ImageType, options: dict[str, Any]) -> bytes | None:
    """The bytes by an encoder of our own choice; None: nothing here fits."""
    if data.dtype != np.uint8 or data.shape[0] not in (1, 3) or options:
        return None
    if mask is not None and mask.dtype != np.uint8:
        return None
    if form in _PNGS:
        return png.encode(_interleaved(data, mask), quickly=form == ImageType.pngraw)
    if form in _JPEGS:
        quality = form.profile["quality"]
        return bytes(jpeg8_encode(_interleaved(data, None), level=quality, subsampling="420"))
    if form == ImageType.webp:
        colours = data if data.shape[0] == 3 else np.repeat(data, 3, axis=0)
        quality = form.profile["quality"]
        return bytes(webp_encode(_interleaved(colours, mask), level=quality, method=_WEBP_METHOD, lossless=False))
    return None


def _interleaved(data: Array, mask: Array | None) -> Array:
    """(rows, columns) or (rows, columns, channels), contiguous."""
    bands = [*data] if mask is None else [*data, mask]
    return np.ascontiguousarray(bands[0]) if len(bands) == 1 else np.stack(bands, axis=-1)


def _by_gdal(image: ImageData, data: Array, mask: Array | None, form: ImageType, options: dict[str, Any]) -> bytes:
    creation = {**options, **form.profile}
    if form.driver == "GTiff":
        creation.setdefault("transform", image.transform)
        if image.crs:
            creation.setdefault("crs", image.crs)
    found: bytes = render(data, mask, img_format=form.driver, **creation)
    return found
