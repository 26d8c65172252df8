"""The STAC item of an upload, from what the child process reported and what the user said. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from ingest.errors import UploadRejected
from ingest.model import JSON
from ingest.normalise.fields import STAC_VERSION, own_extensions
from ingest.sanitise import check_item, time_text
from ingest.uploads.model import Upload
from lineage import multihash

RENDER_EXTENSION = "https://stac-extensions.github.io/render/v2.0.0/schema.json"
COG_TYPE = "image/tiff; application=geotiff; profile=cloud-optimized"
SOFTWARE = ("rasterio", "rio-cogeo", "rio-stac")
THUMBNAIL_SIDE = 256
#: Key of an asset that is no upload's.
THUMBNAIL = "thumbnail"


@dataclass(frozen=True, slots=True)
class Stored:
    """The file that is served: its URL, bytes, SHA-256 in hex, when it was made; `is_preview`: the full resolution comes."""

    href: str
    size_bytes: int
    sha256: str
    made_at: datetime
    is_preview: bool = False


@dataclass(frozen=True, slots=True)
class Parent:
    """An item that the upload is derived from."""

    href: str
    title: str


def item_id_of(upload: Upload) -> str:
    """The item that the upload becomes or becomes part of."""
    return upload.target_item or new_item_id(upload.title, upload.id)


def new_item_id(title: str, upload_id: UUID) -> str:
    """An id that people can read and that no other upload has: the title's letters, then the end of the upload's id."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:60].strip("-") or "upload"
    return f"{slug}-{upload_id.hex[-8:]}"


def software() -> dict[str, str]:
    """Versions of what made the COG."""
    return {name: version(name) for name in SOFTWARE}


def build_item(
    upload: Upload,
    facts: dict[str, Any],
    stored: Stored,
    *,
    told: JSON,
    raster_url: str,
    parents: Sequence[Parent] = (),
    first_made_at: datetime | None = None,
) -> JSON:
    """Return the item.

    Args:
        told: see `ingest.uploads.description`.
        raster_url: where tiles are, for the thumbnail.
        first_made_at: when the item was made, if not now.

    Raises:
        UploadRejected: DATETIME_REQUIRED.
        RecordRejected: the item may not be stored (a fault of ours or of the child's report).
    """
    item_id = item_id_of(upload)
    properties: JSON = {
        **_times(upload, facts, told),
        "created": time_text(first_made_at or stored.made_at),
        "updated": time_text(stored.made_at),
        "title": upload.title,
        "processing:software": software(),
        **{name: told[name] for name in ("description", "license", "keywords") if name in told},
    }
    if facts["gsd_m"]:
        properties["gsd"] = facts["gsd_m"]
    item: JSON = {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": [],
        "id": item_id,
        "collection": upload.collection_id,
        "geometry": facts["geometry"],
        "bbox": facts["bbox"],
        "properties": properties,
        "links": [
            {"rel": "derived_from", "href": parent.href, "type": "application/geo+json", "title": parent.title}
            for parent in parents
        ],
        "assets": {upload.asset_key: _asset(upload, facts, stored, told)},
    }
    render = render_of(facts, told, upload.asset_key)
    item["assets"][THUMBNAIL] = thumbnail(raster_url, upload.collection_id, item_id, render)
    item["stac_extensions"] = extensions_of(item)
    properties["renders"] = {"default": render}
    return check_item(item)


def extensions_of(item: JSON) -> list[str]:
    """Schemas of the extensions whose fields an uploaded item uses, sorted. Render hints name bands by keys that are no fields."""
    plain = {name: value for name, value in item["properties"].items() if name != "renders"}
    return sorted([*own_extensions({**item, "properties": plain}), RENDER_EXTENSION])


def thumbnail(raster_url: str, collection: str, item_id: str, render: JSON) -> JSON:
    """The asset of a small picture, drawn by the render hint when it is asked for."""
    place = f"{raster_url}/collections/{collection}/items/{item_id}/preview.png"
    return {
        "href": f"{place}?{thumbnail_query(render)}",
        "type": "image/png",
        "title": "Thumbnail",
        "roles": ["thumbnail"],
    }


def _times(upload: Upload, facts: dict[str, Any], told: JSON) -> JSON:
    """When the data are from: the user's range (with a moment in it, or null), the user's moment, else the file's own tag."""
    moment: datetime | None = upload.datetime  # 0014: may be null
    if "start_datetime" in told:
        ends = {"start_datetime": told["start_datetime"], "end_datetime": told["end_datetime"]}
        inside = moment is not None and ends["start_datetime"] <= time_text(moment) <= ends["end_datetime"]
        return {"datetime": time_text(moment) if moment is not None and inside else None, **ends}
    if moment is not None:
        return {"datetime": time_text(moment)}
    if facts.get("tag_datetime"):
        return {"datetime": facts["tag_datetime"]}
    raise UploadRejected(
        "DATETIME_REQUIRED", "say when the data are from: neither you nor the file's tags do", field="datetime"
    )


def _asset(upload: Upload, facts: dict[str, Any], stored: Stored, told: JSON) -> JSON:
    asset: JSON = {
        "href": stored.href,
        "type": COG_TYPE,
        "title": upload.title,
        "roles": ["data"],
        "file:size": stored.size_bytes,
        "file:checksum": multihash.encode("SHA256", stored.sha256),
        "bands": _bands(facts, told),
    }
    if stored.is_preview:  # a coarse copy of the same pixels; the full resolution takes its place
        asset["federator:preview"] = True
    for name in ("proj:code", "proj:wkt2", "proj:shape", "proj:bbox", "proj:transform"):
        if facts[name] is not None:
            asset[name] = facts[name]
    return asset


def _bands(facts: dict[str, Any], told: JSON) -> list[JSON]:
    """The file's bands, with the user's names; a name given twice gets its number."""
    names: set[str] = set()
    bands: list[JSON] = []
    for number, band in enumerate(facts["bands"]):
        kept = {key: value for key, value in band.items() if key not in ("rescale", "is_palette")}
        said = told["bands"][number] if number < len(told.get("bands", [])) else {}
        name = said.get("name", kept["name"])
        kept["name"] = name if name not in names else f"{name[:90]} ({number + 1})"
        names.add(kept["name"])
        if facts.get("area_or_point") == "Point":
            kept["raster:sampling"] = "point"
        if "description" in said:
            kept["description"] = said["description"]
        if "common_name" in said:
            kept["eo:common_name"] = said["common_name"]
        bands.append(kept)
    return bands


def render_of(facts: dict[str, Any], told: JSON, key: str = "data") -> JSON:
    """How a map shows it well without being told: its red, green and blue, else its first band, from the 2nd to the 98th percentile."""
    bands = facts["bands"]
    if bands[0]["is_palette"]:
        return {"title": "Default", "assets": [key], "bidx": [facts["indexes"][0]], "resampling": "nearest"}
    shown = _colours(facts, told) or [0]
    if bands[0]["data_type"] == "uint8" and len(shown) == 3:
        rescale = [[0.0, 255.0]] * 3
    else:
        rescale = [_spread(bands[number].get("rescale", [0.0, 1.0])) for number in shown]
    render: JSON = {
        "title": "Default",
        "assets": [key],
        "bidx": [facts["indexes"][number] for number in shown],
        "rescale": rescale,
    }
    if len(shown) == 1 and not bands[shown[0]]["data_type"].startswith("u"):
        render["colormap_name"] = "viridis"
    return render


def _spread(ends: list[float]) -> list[float]:
    low, high = ends
    return [low, high] if low < high else [low, low + 1]


def _colours(facts: dict[str, Any], told: JSON) -> list[int] | None:
    """Positions of red, green and blue: by the user's common names, by the file's colours, else the first three of the same kind."""
    number = len(facts["bands"])
    common = [one.get("common_name") for one in told.get("bands", [])][:number]
    for names in (common, facts["colors"]):
        if all(colour in names for colour in ("red", "green", "blue")):
            return [names.index(colour) for colour in ("red", "green", "blue")]
    return [0, 1, 2] if number == 3 else None


def thumbnail_query(render: JSON) -> str:
    """The tile server's parameters of a small picture, from the render hint."""
    parts = [
        ("assets", f"{render['assets'][0]}|bidx={','.join(str(number) for number in render['bidx'])}"),
        ("max_size", THUMBNAIL_SIDE),
    ]
    parts += [("rescale", f"{low},{high}") for low, high in render.get("rescale", [])]
    parts += [(name, render[name]) for name in ("colormap_name",) if name in render]
    return urlencode(parts)
