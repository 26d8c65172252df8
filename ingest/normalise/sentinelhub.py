"""Items of a Sentinel Hub catalogue become items by our vocabulary. They say little: a footprint, a time, the cloud, where the files are.

Source: answers recorded by sentinel-hub/sentinelhub-py (CDSE and AWS), eu-cdse/documentation, openapi.v1.yaml.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, urlsplit

from ingest.errors import RecordRejected
from ingest.identity import identify
from ingest.model import JSON, CollectionMapping, Contribution, Source
from ingest.normalise.fields import Fields, assemble, parse_record, timeliness
from ingest.sanitise import parse_time, time_text

PLAIN: dict[str, type | tuple[type, ...]] = {
    "platform": str, "constellation": str, "instruments": list, "gsd": (int, float),
    "sar:instrument_mode": str, "sar:frequency_band": str, "sar:center_frequency": (int, float), "sar:polarizations": list,
    "sar:resolution_range": (int, float), "sar:resolution_azimuth": (int, float),
    "sar:pixel_spacing_range": (int, float), "sar:pixel_spacing_azimuth": (int, float),
    "sat:relative_orbit": int, "sat:absolute_orbit": int,
}  # fmt: skip
#: The product's name says these, more exactly.
KNOWN = ("proj:epsg", "proj:bbox", "proj:geometry", "sar:product_type", "s1:polarization", "s1:resolution")
#: `s1:timeliness`; the last three say no duration.
TIMELINESS = {
    "NRT10m": "NRT-10m", "NRT1h": "NRT-1h", "NRT3h": "NRT-3h", "Fast24h": "Fast-24h", "Offline": "", "Reprocessing": "", "ArchNormal": "",
}  # fmt: skip
#: Coordinates are longitude, latitude.
CRS = ("urn:ogc:def:crs:OGC::CRS84", "urn:ogc:def:crs:OGC:1.3:CRS84")
_FOLDER = re.compile(r"s3://([A-Za-z0-9][A-Za-z0-9.-]{1,61}[A-Za-z0-9])/(\S+)")
#: Buckets of the AWS Open Data registry that Sentinel Hub's catalogue on AWS points to; who reads them pays.
AWS_BUCKETS = ("sentinel-s2-l1c", "sentinel-s2-l2a", "sentinel-s1-l1c")
AWS_REGION = "eu-central-1"


def contribution(source: Source, mapping: CollectionMapping, raw: bytes) -> Contribution:
    """Normalise one item; see `ingest.model.Adapter.item`.

    Raises:
        RecordRejected
    """
    record = parse_record(raw)
    upstream_id = record.require("id", str)
    name = identify(upstream_id, mapping.id)
    told = Fields(record.require("properties", dict), "properties.")
    properties = _properties(told)
    upstream_assets = Fields(record.optional("assets", dict) or {}, "assets.")
    links = [_via(source, mapping, upstream_id), *_enclosures(properties, upstream_assets, source)]
    assets = _thumbnail(upstream_assets)
    geometry = _in_degrees(record.take("geometry"))
    record.ignore("type", "stac_version", "stac_extensions", "bbox", "collection", "links")
    warnings = [*record.unread(), *told.unread(), *upstream_assets.unread()]
    return assemble(name, geometry, properties, links, assets, None, warnings)


def _properties(told: Fields) -> JSON:
    """`datetime` is when the tile was sensed, not its datatake."""
    found: JSON = {"datetime": time_text(parse_time(told.require("datetime", str)))}
    for name, kind in PLAIN.items():
        if (value := told.optional(name, kind)) is not None:
            if isinstance(value, list) and not all(isinstance(one, str) for one in value):
                raise RecordRejected("field-malformed", f"properties.{name} is no list of words")
            found[name] = value
    if (cover := told.optional("eo:cloud_cover", (int, float))) is not None:
        if not 0 <= cover <= 100:
            raise RecordRejected("field-malformed", f"properties.eo:cloud_cover is {cover}")
        found["eo:cloud_cover"] = cover
    if (state := told.optional("sat:orbit_state", str)) is not None:
        if state.lower() not in ("ascending", "descending"):
            raise RecordRejected("field-malformed", f"properties.sat:orbit_state is {state[:20]!r}")
        found["sat:orbit_state"] = state.lower()
    if (word := told.optional("s1:timeliness", str)) is not None:
        if word in TIMELINESS:
            found |= timeliness(TIMELINESS[word])
        else:
            told.put_back("s1:timeliness", word)
    told.ignore(*KNOWN)
    return found


def _in_degrees(geometry: Any) -> Any:
    """The geometry, when the `crs` it names has longitude and latitude.

    Raises:
        RecordRejected: "geometry-invalid" for another reference system.
    """
    crs = geometry.get("crs") if isinstance(geometry, dict) else None
    if crs is not None:
        named = crs.get("properties") if isinstance(crs, dict) else None
        if not isinstance(named, dict) or named.get("name") not in CRS:
            raise RecordRejected("geometry-invalid", f"the footprint is not in CRS84: {str(crs)[:120]}")
    return geometry


def _via(source: Source, mapping: CollectionMapping, upstream_id: str) -> JSON:
    collection = mapping.upstream.get("collection", mapping.id)
    href = f"{source.url}/collections/{collection}/items/{quote(upstream_id, safe='')}"
    return {"rel": "via", "href": href, "type": "application/geo+json", "title": source.title}


def _enclosures(properties: JSON, assets: Fields, source: Source) -> list[JSON]:
    """Link to the folder of the product (CDSE) or tile (AWS) that the asset `data` is; its store goes into `properties`."""
    asset = assets.take("data")
    if asset is None:
        return []
    href = asset.get("href") if isinstance(asset, dict) else None
    match = _FOLDER.fullmatch(href) if isinstance(href, str) else None
    scheme = _store(source, match[1].lower()) if match else None
    if match is None or scheme is None:
        assets.put_back("data", asset)
        return []
    name = f"{source.id}-s3"
    properties["auth:schemes"] = {"s3": {"type": "s3"}}
    properties["storage:schemes"] = {name: scheme}
    return [
        {
            "rel": "enclosure",
            "href": f"s3://{match[1].lower()}/{match[2].rstrip('/')}/",
            "type": "application/x-directory",
            "title": "folder of the product in the object store",
            "storage:refs": [name],
            "auth:refs": ["s3"],
        }
    ]


def _store(source: Source, bucket: str) -> JSON | None:
    """The object store of a bucket, None for one that we do not know."""
    title = f"{source.title}, S3"
    if bucket == "eodata":
        return {"type": "custom-s3", "platform": "https://eodata.dataspace.copernicus.eu", "title": title}
    if bucket in AWS_BUCKETS:
        platform = "https://{bucket}.s3.{region}.amazonaws.com"
        return {
            "type": "aws-s3", "platform": platform, "bucket": bucket, "region": AWS_REGION, "requester_pays": True, "title": title,
        }  # fmt: skip
    return None


def _thumbnail(assets: Fields) -> dict[str, JSON]:
    asset = assets.take("thumbnail")
    if asset is None:
        return {}
    href = asset.get("href") if isinstance(asset, dict) else None
    if not isinstance(href, str) or urlsplit(href).scheme not in ("http", "https"):
        assets.put_back("thumbnail", asset)
        return {}
    return {"thumbnail": {"href": href, "title": "Quicklook", "roles": ["thumbnail", "overview"]}}
