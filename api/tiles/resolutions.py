"""How fine the pixels of an item are, as its metadata say (projection extension, `gsd`), and the zoom that shows them. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, Final

import pystac
from morecantile import TileMatrixSet
from rasterio.crs import CRS
from rasterio.errors import CRSError

_CODE: Final = re.compile(r"(?:EPSG:)?(\d{1,6})", re.ASCII)
#: Metres of a degree of latitude, about.
_METRES_A_DEGREE: Final = 111_320.0


def finest(item: pystac.Item, tms: TileMatrixSet) -> int | None:
    """The zoom whose pixels are as fine as the item's; None: it does not say how fine they are."""
    metres = metres_of(item)
    if metres is None:
        return None
    resolution = metres / _METRES_A_DEGREE if tms.rasterio_crs.is_geographic else metres
    return int(tms.zoom_for_res(resolution, zoom_level_strategy="auto"))


def metres_of(item: pystac.Item) -> float | None:
    """Metres of the finest pixel's side."""
    found = [one for one in _told(item) if math.isfinite(one) and one > 0]
    return min(found, default=None)


def _told(item: pystac.Item) -> Iterator[float]:
    code = item.properties.get("proj:code") or item.properties.get("proj:epsg")
    for fields in (item.properties, *(asset.extra_fields for asset in item.assets.values())):
        transform = fields.get("proj:transform")
        if isinstance(transform, list) and transform and _is_number(transform[0]):
            side = abs(float(transform[0])) or abs(float(transform[1]))
            if (unit := _unit(fields.get("proj:code") or fields.get("proj:epsg") or code)) is not None:
                yield side * unit
        elif _is_number(fields.get("gsd")):
            yield float(fields["gsd"])


def _unit(code: Any) -> float | None:
    """Metres of a unit of a reference system; None: it is not known."""
    try:
        match = _CODE.fullmatch(str(code))
        if match is None:
            return None
        crs = CRS.from_epsg(int(match[1]))
        return _METRES_A_DEGREE if crs.is_geographic else float(crs.linear_units_factor[1])
    except (CRSError, ValueError, OverflowError):
        return None


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
