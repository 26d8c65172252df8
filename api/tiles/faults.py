"""Which errors of making a picture are a client's, a raster's or an upstream's, and which are faults of ours to be looked at."""

from __future__ import annotations

from typing import Final

import psycopg
from rasterio.errors import RasterioError
from rio_tiler.errors import RioTilerError

from api.problems import Problem
from api.tiles.leaving import ClientLeft

#: What rio-tiler, titiler and numpy raise for options that do not fit each other, or the raster.
UNFIT: Final = (
    ValueError,
    IndexError,
    TypeError,
    KeyError,
    AssertionError,
    OverflowError,
    ZeroDivisionError,
    NotImplementedError,
)
_EXPECTED: Final = (Problem, ClientLeft, RasterioError, RioTilerError, psycopg.Error)


def is_raised_here(error: BaseException) -> bool:
    """Whether our own code fell over, not a library that refused what it was given; a ValueError is a refusal of ours, too."""
    return _module_of(error).partition(".")[0] == __name__.partition(".")[0] and not isinstance(error, ValueError)


def is_fault(error: BaseException) -> bool:
    """Whether it is none of the errors that a request, a raster or the database may bring about."""
    if isinstance(error, _EXPECTED):
        return False
    return is_raised_here(error) if isinstance(error, UNFIT) else True


def _module_of(error: BaseException) -> str:
    """Where it was raised."""
    place = error.__traceback__
    while place and place.tb_next:
        place = place.tb_next
    return str(place.tb_frame.f_globals.get("__name__", "")) if place else ""
