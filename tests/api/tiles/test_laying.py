"""Laying items over each other: when holes are given up."""

from __future__ import annotations

import time

import numpy as np
import pystac
import pytest
from rio_tiler.constants import WGS84_CRS
from rio_tiler.models import ImageData
from rio_tiler.mosaic.methods.defaults import FirstMethod

from api.tiles.found import Found
from api.tiles.laying import lay


def item(number: int) -> Found:
    ring = [[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]
    document = {
        "type": "Feature", "stac_version": "1.1.0", "id": str(number), "collection": "any", "bbox": [0, 0, 1, 1],
        "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {"datetime": "2026-01-01T00:00:00Z"},
        "links": [], "assets": {},
    }  # fmt: skip
    return Found(pystac.Item.from_dict(document), is_public=True)


@pytest.mark.parametrize(("patience", "opened"), [(None, 20), (3, 6), (50, 20)])
def test_after_enough_items_that_add_nothing_a_hole_is_a_hole(patience: int | None, opened: int) -> None:
    """Items 0 and 2 have a pixel each; the others never come."""
    seen = []

    def read(one: pystac.Item) -> ImageData:
        number = int(one.id)
        seen.append(number)
        there = np.zeros((1, 4, 4), bool)
        there[0, 0, number % 4] = number in (0, 2)
        data = np.ma.MaskedArray(np.full((1, 4, 4), number, "uint8"), mask=~there)
        return ImageData(data, crs=WGS84_CRS, bounds=(0, 0, 1, 1))

    pages = [[item(number) for number in range(20)]]
    _, laid = lay(
        pages, read, FirstMethod(), until=time.monotonic() + 60, most=50, threads=1, skip=True, stop_when_full=False,
        patience=patience,
    )  # fmt: skip
    assert len(seen) == opened
    assert laid.partial is None
