"""The STAC item of an upload, from what the child process reported. Pure."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime
from importlib.metadata import version
from typing import Any

from ingest.model import JSON
from ingest.normalise.fields import STAC_VERSION, own_extensions
from ingest.sanitise import check_item, time_text
from ingest.uploads.model import Upload
from lineage import multihash

RENDER_EXTENSION = "https://stac-extensions.github.io/render/v2.0.0/schema.json"
COG_TYPE = "image/tiff; application=geotiff; profile=cloud-optimized"
SOFTWARE = ("rasterio", "rio-cogeo", "rio-stac")


def item_id_of(upload: Upload) -> str:
    """An id that people can read and that no other upload has: the title's letters, then the end of the upload's id."""
    plain = unicodedata.normalize("NFKD", upload.title).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:60].strip("-") or "upload"
    return f"{slug}-{upload.id.hex[-8:]}"


def software() -> dict[str, str]:
    """Versions of what made the COG."""
    return {name: version(name) for name in SOFTWARE}


def build_item(
    upload: Upload, facts: dict[str, Any], *, href: str, size_bytes: int, sha256: str, made_at: datetime
) -> JSON:
    """Return the item; `href`, `size_bytes` and `sha256` (hex) are of the COG.

    Raises:
        RecordRejected: the item may not be stored (a fault of ours or of the child's report).
    """
    bands = [
        {key: value for key, value in band.items() if key not in ("rescale", "is_palette")} for band in facts["bands"]
    ]
    asset: JSON = {
        "href": href,
        "type": COG_TYPE,
        "title": upload.title,
        "roles": ["data"],
        "file:size": size_bytes,
        "file:checksum": multihash.encode("SHA256", sha256),
        "bands": bands,
    }
    for name in ("proj:code", "proj:wkt2", "proj:shape", "proj:bbox", "proj:transform"):
        if facts[name] is not None:
            asset[name] = facts[name]
    properties: JSON = {
        "datetime": time_text(upload.datetime),
        "created": time_text(made_at),
        "updated": time_text(made_at),
        "title": upload.title,
        "processing:software": software(),
    }
    if facts["gsd_m"]:
        properties["gsd"] = facts["gsd_m"]
    item: JSON = {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": [],
        "id": item_id_of(upload),
        "collection": upload.collection_id,
        "geometry": facts["geometry"],
        "bbox": facts["bbox"],
        "properties": properties,
        "links": [],
        "assets": {"data": asset},
    }
    item["stac_extensions"] = own_extensions(item)
    if render := render_of(facts["bands"]):
        properties["renders"] = {"default": render}
        item["stac_extensions"] = sorted([*item["stac_extensions"], RENDER_EXTENSION])
    return check_item(item)


def render_of(bands: list[dict[str, Any]]) -> JSON | None:
    """How a map shows it well without being told: the first three bands, or the first, from the 2nd to the 98th percentile."""
    if not bands or bands[0]["is_palette"] or "rescale" not in bands[0]:
        return None
    shown = bands[:3] if len(bands) >= 3 and all("rescale" in band for band in bands[:3]) else bands[:1]
    if bands[0]["data_type"] == "uint8":
        rescale = [[0.0, 255.0]] * len(shown)
    else:
        rescale = [
            band["rescale"] if band["rescale"][0] < band["rescale"][1] else [band["rescale"][0], band["rescale"][0] + 1]
            for band in shown
        ]
    return {"title": "Default", "assets": ["data"], "rescale": rescale}
