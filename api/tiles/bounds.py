"""How much one request may have in memory: the image that it asks for is measured before a pixel is read."""

from __future__ import annotations

import numpy as np

from api.problems import Problem

#: Values (pixels times bands) of one raster in one image: 4 bands of 4,096 x 4,096.
MAX_VALUES = 2**26
#: And their bytes with a mask's: float64 is dearer than uint8.
MAX_BYTES = 2**28


def check_size(width: int, height: int, bands: int, dtype: str) -> None:
    """Refuse what is too large.

    Raises:
        Problem: 400 IMAGE_TOO_LARGE.
    """
    values = width * height * max(1, bands)
    if values > MAX_VALUES or values * (np.dtype(dtype).itemsize + 1) > MAX_BYTES:
        raise Problem(
            400,
            "IMAGE_TOO_LARGE",
            f"an image of {width} x {height} pixels and {bands} bands is too large; ask for a smaller part, or for a smaller "
            "width and height or max_size",
        )
