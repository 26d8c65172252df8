"""AVIF as one of titiler's formats of pictures, by imagecodecs (libavif with libaom).

titiler's formats are enumerations that stand in the signatures of its routes, and enumerations cannot be derived from. So theirs get one
member more, before routes are made: paths, parameters, negotiation and the OpenAPI then know it as they know WEBP.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Final, cast

import numpy as np
from imagecodecs import AVIF as CODEC
from imagecodecs import avif_encode
from numpy.typing import NDArray
from rasterio.dtypes import dtype_ranges
from titiler.core.resources.enums import ImageDriver, ImageType, MediaType

MEDIA_TYPE: Final = "image/avif"
#: Quality at which a tile is as near the truth as WEBP's at 75, and as large; effort 9 of 0 (most) to 10: 3 to 4 ms, where 8 takes 9 to 14
#: for a tenth of the bytes.
_QUALITY: Final = 60
_SPEED: Final = 9


def _add(kind: type[Enum], name: str, value: str) -> None:
    """What `enum.EnumType` does for a member of a class of `str` and `Enum`."""
    if name in kind.__members__:
        return
    member: Any = str.__new__(cast("Any", kind), value)
    member._name_, member._value_ = name, value
    type.__setattr__(kind, name, member)
    kind._member_map_[name] = member
    kind._member_names_.append(name)
    kind._value2member_map_[value] = member


for _kind, _value in ((ImageType, "avif"), (ImageDriver, "AVIF"), (MediaType, MEDIA_TYPE)):
    _add(_kind, "avif", _value)

AVIF: Final[ImageType] = ImageType["avif"]


def encode(data: NDArray[Any], mask: NDArray[Any] | None) -> bytes:
    """The bytes of a picture: (1 or 3, rows, columns) of uint8, and how opaque each pixel is, in any type."""
    bands = [*(data if len(data) == 3 else np.repeat(data, 3, axis=0))]
    if mask is not None:
        bands.append(_opacity(mask))
    found = avif_encode(
        np.stack(bands, axis=-1), level=_QUALITY, speed=_SPEED, pixelformat=CODEC.PIXEL_FORMAT.YUV420, numthreads=1
    )
    return bytes(found)


def _opacity(mask: NDArray[Any]) -> NDArray[np.uint8]:
    if mask.dtype == np.uint8:
        return mask
    if mask.dtype == np.uint16:
        return (mask >> 8).astype(np.uint8)
    found: NDArray[np.uint8] = np.where(mask == mask.dtype.type(dtype_ranges[str(mask.dtype)][0]), 0, 255).astype(
        np.uint8
    )
    return found
