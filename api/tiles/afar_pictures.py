"""Pictures from afar as they are kept: RGBA of 256 x 256 pixels in WEBP, exact where that is small; and one made of four. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from imagecodecs import png_decode, webp_decode, webp_encode
from numpy.typing import NDArray

SIDE: Final = 256
#: Bytes of a picture that is kept exactly; of a photograph that takes six times as many as at this quality.
_MOST_EXACT: Final = 24_000
_QUALITY: Final = 90
#: libwebp's effort: more takes ten times the time for a tenth of the bytes, or twice for none.
_METHOD_EXACT: Final = 0
_METHOD: Final = 2

#: (rows, columns, 4), red to alpha.
Pixels = NDArray[np.uint8]


def pixels_of(png: bytes) -> Pixels:
    """A PNG of a tile, grey or coloured, with alpha or without, of 8 or 16 bits."""
    found: NDArray[Any] = png_decode(png)
    if found.dtype == np.uint16:
        found = found >> 8
    if found.ndim == 2:
        found = found[..., np.newaxis]
    colours, alpha = found[..., : (found.shape[2] - 1) // 2 * 2 + 1], found[..., -1:]
    if found.shape[2] in (1, 3):
        alpha = np.full((*found.shape[:2], 1), 255)
    return np.concatenate([np.broadcast_to(colours, (*found.shape[:2], 3)), alpha], axis=2).astype("uint8")


def packed(pixels: Pixels) -> bytes | None:
    """As it is kept; None: nothing is to be seen."""
    if not pixels[..., 3].any():
        return None
    shown = np.where(pixels[..., 3:] > 0, pixels, 0)
    exact = bytes(webp_encode(shown, lossless=True, method=_METHOD_EXACT))
    if len(exact) <= _MOST_EXACT:
        return exact
    return bytes(webp_encode(shown, level=_QUALITY, method=_METHOD, lossless=False))


def unpacked(picture: bytes) -> Pixels:
    """What `packed` was given, or nearly."""
    found: Pixels = webp_decode(picture)
    if found.shape[2] == 4:
        return found
    return np.dstack([found, np.full(found.shape[:2], 255, "uint8")])


def joined(corner: tuple[int, int], tiles: Iterable[tuple[int, int, bytes | None]]) -> Pixels:
    """Four tiles side by side, those that are missing transparent.

    Args:
        corner: column and row of the one in the north west.
        tiles: column, row, picture.
    """
    found = np.zeros((2 * SIDE, 2 * SIDE, 4), "uint8")
    for x, y, picture in tiles:
        if picture is not None:
            left, top = (x - corner[0]) * SIDE, (y - corner[1]) * SIDE
            found[top : top + SIDE, left : left + SIDE] = unpacked(picture)
    return found


def halved(pixels: Pixels) -> Pixels:
    """A pixel for four: the mean of their colours, each counted by its alpha, and of their alphas."""
    rows, columns = pixels.shape[0] // 2, pixels.shape[1] // 2
    four = pixels.reshape(rows, 2, columns, 2, 4).astype("uint32")
    weights = four[..., 3:]
    alpha = weights.sum(axis=(1, 3))
    colours = ((four[..., :3] * weights).sum(axis=(1, 3)) + alpha // 2) // np.maximum(alpha, 1)
    return np.concatenate([colours, (alpha + 2) // 4], axis=2).astype("uint8")
