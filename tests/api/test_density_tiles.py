"""Tiles of density: what is reckoned of footprints, and where."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import shapely

from api.tiles.low_zooms import LAST_KEPT, density_of, reckoned
from ingest.overviews.cells import LAST

#: Within the tile 10/512/511, whose lower left corner is (0, 0), and much smaller than its cells.
SMALL = shapely.box(0.001, 0.001, 0.002, 0.002).wkb


class Rows:
    """A pool that has the same rows for every question, at once."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self._rows = rows

    async def fetch(self, *_: Any) -> list[dict[str, Any]]:
        return self._rows


@pytest.mark.parametrize("zoom", [0, LAST_KEPT, LAST_KEPT + 2])
def test_footprints_are_counted_in_their_cells(zoom: int) -> None:
    column = 1 << zoom >> 1
    level = min(zoom + 4, LAST) if zoom <= LAST_KEPT else zoom + 4
    found = reckoned([], [SMALL, SMALL], level, (zoom, column, max(0, column - 1)))
    assert found.counts.sum() == found.counts.max() == 2
    assert found.png().startswith(b"\x89PNG")


async def test_other_requests_go_on_while_footprints_are_counted() -> None:
    others = asyncio.create_task(asyncio.sleep(0))
    await asyncio.sleep(0)
    found = await density_of(Rows([{"geometry": SMALL}]), "any", LAST_KEPT + 2, 512, 511)  # type: ignore[arg-type]
    assert found.counts.sum() == 1
    assert others.done(), "the loop was not given back"
