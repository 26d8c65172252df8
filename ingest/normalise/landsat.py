"""Words of Landsat Collection 2 made one: USGS, Earth Search and Planetary Computer write the same files and facts in several ways.

Asset keys are those that Earth Search and Planetary Computer share (stactools-packages/landsat). USGS writes some in capitals, and
before 2022 the ends of the files' names.
"""

from __future__ import annotations

import re
from typing import Any

from ingest.identity import ProductName
from ingest.model import JSON

#: USGS's key -> ours.
KEYS = {
    "MTL.txt": "mtl.txt", "MTL.xml": "mtl.xml", "MTL.json": "mtl.json", "ANG.txt": "ang",
    "QA_PIXEL.TIF": "qa_pixel", "QA_RADSAT.TIF": "qa_radsat", "SR_QA_AEROSOL.TIF": "qa_aerosol", "ST_QA.TIF": "qa",
    "SR_CLOUD_QA.TIF": "cloud_qa", "SR_ATMOS_OPACITY.TIF": "atmos_opacity",
    "ST_ATRAN.TIF": "atran", "ST_CDIST.TIF": "cdist", "ST_DRAD.TIF": "drad", "ST_EMIS.TIF": "emis", "ST_EMSD.TIF": "emsd",
    "ST_TRAD.TIF": "trad", "ST_URAD.TIF": "urad", "ST_B6.TIF": "lwir", "ST_B10.TIF": "lwir11",
}  # fmt: skip
_BAND_FILE = re.compile(r"(?:SR_)?B\d+\.TIF")
#: What the landsat extension 2.0 wants together or not at all, and what it takes for each.
FIELDS: dict[str, str] = {
    "landsat:scene_id": r"L[CEMOT][1-9]\d{3}\d{3}\d{7}[A-Z]{3}\d{2}",
    "landsat:collection_category": r"T1|T2|RT",
    "landsat:collection_number": r"02",
    "landsat:wrs_type": r"[12]",
    "landsat:wrs_path": r"(?!000)(?:[01]\d{2}|2[0-2]\d|23[0-3])",
    "landsat:wrs_row": r"(?!000)(?:[01]\d{2}|2[0-3]\d|24[0-8])",
    "landsat:correction": r"L1TP|L1GT|L1GS|L2SR|L2SP",
}
CLOUDS = "landsat:cloud_cover_land"


def asset_key(key: str, common_names: list[str]) -> str:
    """Our key of an asset; a band's file is known by what its band is commonly called."""
    if _BAND_FILE.fullmatch(key) and len(common_names) == 1:
        return common_names[0]
    return KEYS.get(key, key)


def complete(name: ProductName, properties: JSON) -> JSON:
    """The properties with what the product's name tells; the extension's fields are left out when some are missing or malformed."""
    grid = str(name.properties["grid:code"])
    told = {
        "landsat:collection_category": name.stem.rsplit("_", 1)[-1],
        "landsat:collection_number": "02",
        "landsat:wrs_type": grid[3],
        "landsat:wrs_path": grid[5:8],
        "landsat:wrs_row": grid[8:11],
        "landsat:correction": name.product_type,
    }
    found = {**properties, **told}
    if all(re.fullmatch(pattern, str(found.get(key))) for key, pattern in FIELDS.items()) and _is_share(
        found.get(CLOUDS)
    ):
        return found
    return {key: value for key, value in found.items() if not key.startswith("landsat:")}


def _is_share(value: Any) -> bool:
    """Percent, or -1 for a scene whose clouds nobody could see."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -1 <= value <= 100
