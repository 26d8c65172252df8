"""Landsat Collection 2 scenes of USGS. Rules: "Landsat Collection 2 Level 1 Data Format Control Book" (LSDS-1822, LSDS-1414) 3.

`LXSS_LLLL_PPPRRR_<acquired>_<processed>_CC_TX`, in USGS's STAC with `_SR` or `_ST` for the half of the product that an item describes.
Earth Search and Planetary Computer leave the processing date out. ESA's own Landsat products have other names and are never these.
"""

from __future__ import annotations

import re
from datetime import datetime

from ingest.identity.name import ProductName

_NAME = re.compile(
    r"(?P<scene>L(?P<sensor>[COTEM])(?P<satellite>0[1-9])_(?P<level>L1TP|L1GT|L1GS|L2SP|L2SR)_(?P<path>[0-9]{3})(?P<row>[0-9]{3})_(?P<day>[0-9]{8}))"
    r"(?:_(?P<processed>[0-9]{8}))?_(?P<collection>02)_(?P<tier>T1|T2|RT)(?:_(?P<part>SR|ST))?",
    re.ASCII,
)
_INSTRUMENTS = {"C": ["oli", "tirs"], "O": ["oli"], "E": ["etm+"], "M": ["mss"]}
_TIERS = {"RT": "0", "T2": "1", "T1": "2"}


def read(stem: str) -> ProductName | None:
    """Read a name; None when it is none of this mission. Raises RecordRejected, ValueError (see `ingest.identity.parse`)."""
    match = _NAME.fullmatch(stem)
    if match is None:
        return None
    for day in (match["day"], match["processed"] or match["day"]):
        datetime.strptime(day, "%Y%m%d")
    satellite, level, tier = int(match["satellite"]), match["level"], match["tier"]
    part = match["part"] or ""
    instruments = _INSTRUMENTS.get(match["sensor"]) or (["tirs"] if satellite >= 8 else ["tm"])
    plain = stem.removesuffix(f"_{part}") if part else stem
    return ProductName(
        plain,
        ".tar",
        "landsat",
        f"landsat-c2-l{level[1]}",
        level,
        acquisition=f"{match['scene']}_{match['collection']}",
        rank=(_TIERS[tier], match["processed"] or ""),
        is_partial=match["processed"] is None,
        part=part,
        properties={
            "platform": f"landsat-{satellite}",
            "instruments": instruments,
            "product:type": level,
            "processing:level": f"L{level[1]}",
            "grid:code": f"WRS2-{match['path']}{match['row']}"
            if satellite >= 4
            else f"WRS1-{match['path']}{match['row']}",
        },
    )
