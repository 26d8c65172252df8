"""STAC items of other catalogues (CDSE STAC v1, Earth Search) become items by our vocabulary: STAC 1.1, current extensions."""

from __future__ import annotations

import re
from typing import Any

from ingest.errors import RecordRejected
from ingest.footprint import clean
from ingest.identity import SUFFIXES, ProductName, Sentinel1Name, parse, stem_of
from ingest.model import JSON, CollectionMapping, Contribution, Source
from ingest.normalise.fields import (
    STAC_VERSION,
    Fields,
    check_agreement,
    expires,
    finish,
    parse_record,
    properties_of_name,
    repaired_checksum,
    timeliness,
)
from ingest.sanitise import parse_time, time_text
from ingest.vocabulary import asset_key, bands_of

#: Properties that are taken as they are: standard fields, or those of the extensions that we emit.
PLAIN: dict[str, type | tuple[type, ...]] = {
    "gsd": (int, float), "instruments": list, "platform": str, "constellation": str, "title": str, "statistics": dict,
    "eo:cloud_cover": (int, float), "eo:snow_cover": (int, float),
    "sat:orbit_state": str, "sat:relative_orbit": int, "sat:absolute_orbit": int, "sat:orbit_cycle": int,
    "sat:platform_international_designator": str,
    "sar:instrument_mode": str, "sar:frequency_band": str, "sar:center_frequency": (int, float), "sar:polarizations": list,
    "sar:resolution_range": (int, float), "sar:resolution_azimuth": (int, float),
    "sar:pixel_spacing_range": (int, float), "sar:pixel_spacing_azimuth": (int, float),
    "sar:looks_range": (int, float), "sar:looks_azimuth": (int, float), "sar:looks_equivalent_number": (int, float),
    "sar:observation_direction": str,
    "view:azimuth": (int, float), "view:incidence_angle": (int, float), "view:off_nadir": (int, float),
    "view:sun_azimuth": (int, float), "view:sun_elevation": (int, float),
    "grid:code": str, "processing:level": str, "processing:version": str, "processing:facility": str,
    "product:type": str, "product:timeliness": str, "product:timeliness_category": str,
    "auth:schemes": dict, "storage:schemes": dict,
    "eopf:datatake_id": str, "eopf:datastrip_id": str, "eopf:instrument_mode": str,
}  # fmt: skip
TIMES = (
    "created",
    "updated",
    "published",
    "processing:datetime",
    "start_datetime",
    "end_datetime",
    "eopf:origin_datetime",
)
#: Other names of the same facts.
RENAMED = {
    "s2:processing_baseline": "processing:version", "s2:product_type": "product:type", "s2:datatake_id": "eopf:datatake_id",
    "s2:datastrip_id": "eopf:datastrip_id", "s2:datatake_type": "eopf:instrument_mode", "s1:datatake_id": "eopf:datatake_id",
    "s1:product_timeliness": "product:timeliness_category",
}  # fmt: skip
#: Fields that we know and do not take over; the holding keeps them verbatim.
KNOWN = re.compile(
    r"_.*|mgrs:.*|earthsearch:.*|s2:.*_percentage|s2:(granule_id|tile_id|sequence|generation_time|reflectance_conversion_factor"
    r"|product_uri|mean_solar_.*|saturated_.*|degraded_.*)|s1:(product_identifier|shape|orbit_source|resolution|slice_number|total_slices"
    r"|processing_level|processing_datetime|instrument_configuration_ID)|sar:product_type|proj:.*|providers|processing:software"
    r"|eopf:(instrument_configuration_id|datatake_type)|license"
)
ASSET_PLAIN = (
    "title", "description", "roles", "gsd", "data_type", "nodata", "file:size", "file:local_path",
    "proj:shape", "proj:transform", "proj:bbox", "raster:scale", "raster:offset", "view:azimuth", "view:incidence_angle",
    "sar:polarizations", "auth:refs", "storage:refs", "alternate:name", "created", "updated",
)  # fmt: skip
ENDINGS = {
    ".jp2": "image/jp2", ".xml": "application/xml", ".safe": "application/xml", ".json": "application/json", ".zip": "application/zip",
}  # fmt: skip
LINKS = ("enclosure", "license")
#: pgstac's DO_NOT_MERGE_MARKER (pypgstac.hydration).
PGSTAC_MARKER = "\U0001235f\u203b"
LEVELS = {"L1C": "L1", "L2A": "L2", "1": "L1", "2": "L2"}


def contribution(source: Source, mapping: CollectionMapping, raw: bytes) -> Contribution:
    """Normalise one STAC item; see `ingest.model.Adapter.item`.

    Raises:
        RecordRejected
    """
    record = parse_record(raw)
    upstream_id = record.require("id", str)
    told = Fields(without_markers(record.require("properties", dict)), "properties.")
    upstream_assets = Fields(without_markers(record.optional("assets", dict) or {}), "assets.")
    product, name = _product(upstream_id, told, raw)
    geometry, bbox = clean(record.take("geometry"))
    properties, published = _properties(told)
    check_agreement(name, properties)
    assets, warnings = _assets(upstream_assets, name)
    item = {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": [],
        "id": stem_of(product),
        "collection": name.collection,
        "geometry": geometry,
        "bbox": bbox,
        "properties": {**properties, **properties_of_name(name)},
        "links": _links(source, mapping, upstream_id, record.optional("links", list) or []),
        "assets": assets,
    }
    record.ignore("type", "stac_version", "stac_extensions", "bbox", "collection")
    return Contribution(finish(item), product, published, (*record.unread(), *told.unread(), *warnings))


def _product(upstream_id: str, told: Fields, raw: bytes) -> tuple[str, ProductName]:
    """The product's name with suffix: told outright, or the id itself, or the SAFE folder that asset paths name.

    Raises:
        RecordRejected: "product-name-unknown", and those of `ingest.identity.parse`.
    """
    private = told.take("_private")
    candidates = [
        told.take("s2:product_uri"),
        told.take("s1:product_identifier"),
        private.get("product_name") if isinstance(private, dict) else None,
        upstream_id,
    ]
    refusal: RecordRejected | None = None
    for candidate in (one for one in candidates if isinstance(one, str)):
        try:
            name = parse(candidate)
        except RecordRejected as error:
            if refusal is None or error.code != "product-name-unknown":
                refusal = error
            continue
        return f"{name.stem}.SAFE", name
    folders = {match.decode() for match in re.findall(rb"/(S[12][A-D]_[A-Z0-9_]{40,70})(?:\.SAFE)?/", raw)}
    names = {parsed.stem: parsed for parsed in map(_parsed, folders) if parsed is not None}
    if len(names) == 1 and (refusal is None or refusal.code != "test-data"):
        (name,) = names.values()
        return f"{name.stem}{SUFFIXES[0]}", name
    raise refusal or RecordRejected(
        "product-name-unknown", f"nothing in the record names the product of {upstream_id[:80]!r}"
    )


def _parsed(folder: str) -> ProductName | None:
    try:
        return parse(folder)
    except RecordRejected:
        return None


def _properties(told: Fields) -> tuple[JSON, Any]:
    found: JSON = {}
    for upstream, ours in RENAMED.items():
        if (value := told.optional(upstream, (str, int))) is not None:
            found[ours] = str(value)
    for name, kind in PLAIN.items():
        if (value := told.optional(name, kind)) is not None:
            found[name] = value
    for name in TIMES:
        if (value := told.optional(name, str)) is not None:
            found[name] = time_text(parse_time(value))
    if (when := told.optional("datetime", str)) is not None:
        found["datetime"] = time_text(parse_time(when))
    elif "start_datetime" in found:
        found["datetime"] = found["start_datetime"]
    if evicted := expires(told.take("expires")):
        found["expires"] = evicted
    _set_level(found)
    if "product:timeliness_category" in found and "product:timeliness" not in found:
        found |= timeliness(found.pop("product:timeliness_category"))
    if isinstance(found.get("storage:schemes"), dict):
        found["storage:schemes"] = {key: _scheme(value) for key, value in found["storage:schemes"].items()}
    told.ignore(*(name for name in told.names() if KNOWN.fullmatch(name)))
    published = found.get("published") or found.get("updated") or found.get("created")
    return found, parse_time(published) if published else None


def _set_level(found: JSON) -> None:
    if level := found.get("processing:level"):
        found["processing:level"] = LEVELS.get(level, level)
    if found.get("sar:instrument_mode") in ("S1", "S2", "S3", "S4", "S5", "S6"):
        found["sar:instrument_mode"] = "SM"


def _scheme(value: Any) -> Any:
    """A storage scheme without members that the extension does not know; older items leave out that theirs is an own S3 endpoint."""
    if not isinstance(value, dict):
        raise RecordRejected("field-malformed", "a storage scheme is no object")
    return {"type": "custom-s3", **{key: member for key, member in value.items() if key != "class"}}


def without_markers(value: Any) -> Any:
    """The same JSON without members that hold pgstac's marker for "not here" (it leaks through some servers)."""
    if isinstance(value, dict):
        return {key: without_markers(member) for key, member in value.items() if member != PGSTAC_MARKER}
    return [without_markers(one) for one in value] if isinstance(value, list) else value


def _assets(upstream: Fields, name: ProductName) -> tuple[dict[str, JSON], list[str]]:
    level = "GRD" if isinstance(name, Sentinel1Name) else name.level
    found: dict[str, JSON] = {}
    warnings: list[str] = []
    for key in upstream.names():
        told = Fields(upstream.take(key), f"assets.{key}.")
        href = told.require("href", str)
        media_type = _media_type(told.optional("type", str), href)
        ours = asset_key(key, level, media_type or "")
        if ours is None or not re.match(r"(https?|s3)://", href):
            warnings.append(f"assets.{key}")
            continue
        found[ours] = _asset(ours, href, media_type, told)
        warnings += told.unread()
    return found, warnings


def _media_type(told: str | None, href: str) -> str | None:
    """As told; else by the file's ending where that is unmistakable."""
    return told or next((media for ending, media in ENDINGS.items() if href.lower().endswith(ending)), None)


def _asset(key: str, href: str, media_type: str | None, told: Fields) -> JSON:
    asset: JSON = {"href": _lower_bucket(href)}
    for name in ASSET_PLAIN:
        if (value := told.take(name)) is not None:
            asset[name] = value
    if media_type:
        asset["type"] = media_type
    if (multihash := repaired_checksum(told.take("file:checksum"))) is not None:
        asset["file:checksum"] = multihash
    if (code := told.take("proj:code")) is not None:
        asset["proj:code"] = code
    elif isinstance(epsg := told.take("proj:epsg"), int):
        asset["proj:code"] = f"EPSG:{epsg}"
    _take_old_raster(asset, told)
    told.ignore("bands", "eo:bands", "classification:classes", "proj:centroid")
    if bands := bands_of(key):
        asset["bands"] = bands
    if isinstance(alternates := told.take("alternate"), dict):
        asset["alternate"] = {
            name: {**one, "href": _lower_bucket(one["href"])} for name, one in alternates.items() if _has_href(one)
        }
    return asset


def _has_href(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("href"), str)


def _lower_bucket(href: str) -> str:
    """S3 bucket names are lower case; some catalogues write EODATA."""
    match = re.match(r"s3://([^/]+)(.*)", href, re.DOTALL)
    return f"s3://{match[1].lower()}{match[2]}" if match else href


def _take_old_raster(asset: JSON, told: Fields) -> None:
    """`raster:bands` of STAC 1.0: what all bands share moves to the asset."""
    old = told.take("raster:bands")
    if not isinstance(old, list) or not old or not all(isinstance(one, dict) for one in old):
        return
    for name, ours in (
        ("data_type", "data_type"),
        ("nodata", "nodata"),
        ("scale", "raster:scale"),
        ("offset", "raster:offset"),
    ):
        values = [one.get(name) for one in old]
        if values[0] is not None and all(value == values[0] for value in values):
            asset.setdefault(ours, values[0])


def _links(source: Source, mapping: CollectionMapping, upstream_id: str, links: list[Any]) -> list[JSON]:
    collection = mapping.upstream.get("collection", mapping.id)
    href = f"{source.url}/collections/{collection}/items/{upstream_id}"
    kept = [{"rel": "via", "href": href, "type": "application/geo+json", "title": source.title}]
    for link in links:
        if isinstance(link, dict) and link.get("rel") in LINKS and isinstance(link.get("href"), str):
            kept.append({**link, "href": _lower_bucket(link["href"])})
    return kept
