"""Tiles of the Copernicus DEM, GLO-30 and GLO-90. Rules: "Copernicus DEM Product Handbook" (GEO.2018-1988-2) 3: identical at all providers.

`Copernicus_DSM_COG_<arc seconds x 10>_<latitude>_00_<longitude>_00_DEM`, of the south-western corner.
"""

from __future__ import annotations

import re

from ingest.identity.name import ProductName

_NAME = re.compile(
    r"Copernicus_DSM_COG_(?P<step>10|30)_(?P<lat>[NS][0-9]{2})_00_(?P<lon>[EW][0-9]{3})_00_DEM", re.ASCII
)


def read(stem: str) -> ProductName | None:
    """Read a name; None when it is none of these."""
    match = _NAME.fullmatch(stem)
    if match is None:
        return None
    metres = 30 if match["step"] == "10" else 90
    return ProductName(
        stem,
        "",
        "cop-dem",
        f"cop-dem-glo-{metres}",
        f"DGE_{metres}",
        acquisition=stem,
        properties={"gsd": metres},
    )
