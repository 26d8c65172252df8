"""Chromium shows our AVIF: its colours, and what is transparent."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest
from rio_tiler.models import ImageData

from api.tiles.avif import AVIF
from api.tiles.encode import render_image
from tests.e2e.browser import NotHere, browsing

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(120)]

_DRAWN = """
const image = document.querySelector("img")
if (!image.complete || !image.naturalWidth) return null
const canvas = document.createElement("canvas")
canvas.width = canvas.height = image.naturalWidth
const context = canvas.getContext("2d")
context.drawImage(image, 0, 0)
return [...context.getImageData(16, 32, 1, 1).data, ...context.getImageData(48, 32, 1, 1).data, image.naturalWidth]
"""


def test_chromium_shows_colours_and_what_is_transparent(tmp_path: Path) -> None:
    data = np.ma.MaskedArray(np.zeros((3, 64, 64), "uint8"), mask=False)
    data[0], data[1], data[2] = 200, 100, 50
    data[:, :, 32:] = np.ma.masked
    body, media_type = render_image(ImageData(data), output_format=AVIF)
    address = f"data:{media_type};base64,{base64.b64encode(body).decode()}"
    page = base64.b64encode(f'<img src="{address}">'.encode()).decode()
    try:
        with browsing(tmp_path / "profile") as browser:
            browser.open(f"data:text/html;base64,{page}")
            *pixels, width = browser.until(_DRAWN, timeout_s=20)
    except NotHere as error:
        pytest.skip(str(error))
    assert width == 64
    assert np.abs(np.array(pixels[:4]) - [200, 100, 50, 255]).max() <= 6
    assert pixels[7] == 0
