"""Which kept pictures from afar show a footprint, and are to be made anew when its item comes, changes or goes. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from ingest.overviews.cells import FIRST, cells_of

#: The finest level that is kept of pictures.
FINEST = 8

Marks = dict[tuple[int, int, int], bool]


def marks_of(footprints: Iterable[tuple[bytes, bool]]) -> Marks:
    """Cells by (level, x, y), and whether something may have gone there.

    A footprint of too many cells for the finest level is told by its finest coarser ones, each of which stands for all that lie in it.

    Args:
        footprints: geometries ((E)WKB, WGS 84), and whether what was there is not there any more.
    """
    marks: Marks = {}
    for geometry, is_gone in footprints:
        levels = cells_of(geometry)[: FINEST - FIRST + 1]
        for x, y in levels[-1] if levels else ():
            cell = FIRST + len(levels) - 1, x, y
            marks[cell] = marks.get(cell, False) or is_gone
    return marks
