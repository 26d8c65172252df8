"""STAC items of other catalogues (CDSE STAC v1, Earth Search, Planetary Computer, USGS, static ones) become items by our vocabulary:
STAC 1.1, current extensions.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from ingest.errors import RecordRejected
from ingest.identity import ProductName, identify, parse
from ingest.model import JSON, CollectionMapping, Contribution, Source
from ingest.normalise import landsat
from ingest.normalise.fields import (
    Fields,
    assemble,
    expires,
    parse_record,
    timeliness,
)
from ingest.normalise.stac_assets import GRID, LEVEL_OF, Whole, assets_of, projection_code, take_storage
from ingest.sanitise import parse_time, time_text

#: Properties that are taken as they are: standard fields, or those of the extensions that we emit.
PLAIN: dict[str, type | tuple[type, ...]] = {
    "gsd": (int, float), "instruments": list, "platform": str, "constellation": str, "title": str, "description": str, "statistics": dict,
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
    "landsat:cloud_cover_land": (int, float), "landsat:wrs_type": str, "landsat:wrs_path": str, "landsat:wrs_row": str,
    "landsat:scene_id": str, "landsat:collection_category": str, "landsat:collection_number": str, "landsat:correction": str,
}  # fmt: skip
TIMES = (
    "created",
    "updated",
    "published",
    "processing:datetime",
    "start_datetime",
    "end_datetime",
    "eopf:origin_datetime",
    "landsat:product_generated",
)
#: What these measure, from and to. Landsat says -1 where clouds could not be seen.
RANGES = {
    "eo:cloud_cover": (0, 100), "eo:snow_cover": (0, 100), "view:off_nadir": (0, 90), "view:incidence_angle": (0, 90),
    "view:azimuth": (0, 360), "view:sun_azimuth": (0, 360), "view:sun_elevation": (-90, 90),
}  # fmt: skip
#: Other names of the same facts.
RENAMED = {
    "s2:processing_baseline": "processing:version", "s2:product_type": "product:type", "s2:datatake_id": "eopf:datatake_id",
    "s2:datastrip_id": "eopf:datastrip_id", "s2:datatake_type": "eopf:instrument_mode", "s1:datatake_id": "eopf:datatake_id",
    "s1:product_timeliness": "product:timeliness_category", "eo:platform": "platform",
}  # fmt: skip
#: Numbers that moved from one extension to another before STAC 1.0.
MOVED = {
    "eo:sun_azimuth": "view:sun_azimuth", "eo:sun_elevation": "view:sun_elevation", "eo:off_nadir": "view:off_nadir",
}  # fmt: skip
#: Fields that we know and do not take over; the holding keeps them verbatim.
KNOWN = re.compile(
    r"_.*|mgrs:.*|earthsearch:.*|s2:.*_percentage|s2:(granule_id|tile_id|mgrs_tile|sequence|generation_time|reflectance_conversion_factor"
    r"|product_uri|mean_solar_.*|saturated_.*|degraded_.*)|s1:(product_identifier|shape|orbit_source|resolution|slice_number|total_slices"
    r"|processing_level|processing_datetime|instrument_configuration_ID)|sar:product_type|proj:.*|providers|processing:software"
    r"|eopf:(instrument_configuration_id|datatake_type)|license|sci:.*|eo:(instrument|bands)"
)
LINKS = ("enclosure", "license")
#: pgstac's DO_NOT_MERGE_MARKER (pypgstac.hydration).
PGSTAC_MARKER = "\U0001235f\u203b"
LEVELS = {
    "L1C": "L1", "L2A": "L2", "1": "L1", "2": "L2", "LEVEL1": "L1", "LEVEL2": "L2", "L1B": "L1",
    "L1TP": "L1", "L1GT": "L1", "L1GS": "L1", "L2SP": "L2", "L2SR": "L2",
}  # fmt: skip
#: Folders in asset hrefs that carry a product's whole name, where the item's id leaves a part of it out.
_FOLDER = re.compile(rb"/(S[12][A-D]_[A-Z0-9_]{40,70}|L[COTEM]0[1-9]_[A-Z0-9_]{28,40})(?:\.SAFE)?/")


def contribution(
    source: Source, mapping: CollectionMapping, raw: bytes, *, document: str | None = None
) -> Contribution:
    """Normalise one STAC item; see `ingest.model.Adapter.item`.

    Args:
        document: address of the item where it is a document of its own (static catalogues); relative hrefs begin there.

    Raises:
        RecordRejected
    """
    record = parse_record(raw)
    upstream_id = record.require("id", str)
    told = Fields(without_markers(record.require("properties", dict)), "properties.")
    upstream_assets = Fields(without_markers(record.optional("assets", dict) or {}), "assets.")
    name = _name(upstream_id, mapping, told, raw)
    bands = told.take("eo:bands")
    whole = Whole(source.signing, document, bands if isinstance(bands, list) else [], take_storage(told))
    grid = _grid(told) if name.collection not in LEVEL_OF else {}
    properties = _properties(told)
    published = _watermark(mapping, properties)
    properties = grid | (landsat.complete(name, properties) if name.mission == "landsat" else properties)
    assets, warnings = assets_of(upstream_assets, name, whole)
    address = document or _address(source, mapping, record.take("collection"), upstream_id)
    links = _links(source, address, record.optional("links", list) or [], whole)
    for kind, schemes in (("auth:schemes", whole.auth_schemes), ("storage:schemes", whole.storage_schemes)):
        if schemes:
            properties[kind] = {**properties.get(kind, {}), **schemes}
    geometry = record.take("geometry")
    record.ignore("type", "stac_version", "stac_extensions", "bbox", "collection", "description")
    warnings += [*record.unread(), *told.unread()]
    return assemble(name, geometry, properties, links, assets, published, warnings)


def _name(upstream_id: str, mapping: CollectionMapping, told: Fields, raw: bytes) -> ProductName:
    """The product's name: told outright, or the id itself, or the SAFE folder that asset paths name.

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
    partial: ProductName | None = None
    refusal: RecordRejected | None = None
    for candidate in (one for one in candidates if isinstance(one, str)):
        try:
            name = parse(candidate)
        except RecordRejected as error:
            if refusal is None or error.code != "product-name-unknown":
                refusal = error
            continue
        if not name.is_partial or name.is_cog:
            return name
        partial = partial or name
    folders = {match.decode() for match in _FOLDER.findall(raw)}
    names = {parsed.stem: parsed for parsed in map(_parsed, folders) if parsed is not None}
    if len(names) == 1 and (refusal is None or refusal.code != "test-data"):
        (name,) = names.values()
        if partial is None or partial.acquisition == name.acquisition:
            return name
    if partial is not None:
        return partial
    if refusal is not None and refusal.code != "product-name-unknown":
        raise refusal
    return identify(upstream_id, mapping.id)


def _parsed(folder: str) -> ProductName | None:
    try:
        return parse(folder)
    except RecordRejected:
        return None


def _properties(told: Fields) -> JSON:
    found: JSON = {}
    for upstream, ours in RENAMED.items():
        if (value := told.optional(upstream, (str, int))) is not None:
            found[ours] = str(value)
    for upstream, ours in MOVED.items():
        if (value := told.optional(upstream, (int, float))) is not None:
            found[ours] = value
    for name, kind in PLAIN.items():
        if (value := told.optional(name, kind)) is not None:
            found[name] = value
    _check_ranges(found, told)
    for name in TIMES:
        if (value := told.optional(name, str)) is not None:
            found[name] = _time(value)
    for name in ("platform", "constellation"):
        if name in found:
            found[name] = re.sub(r"[ _]", "-", found[name].lower())
    if "instruments" in found:
        found["instruments"] = [one.lower() for one in found["instruments"] if isinstance(one, str)]
    if (when := told.optional("datetime", str)) is not None:
        found["datetime"] = _time(when)
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
    return found


def _watermark(mapping: CollectionMapping, properties: JSON) -> datetime | None:
    """The time by which the source is walked, where the item has it: a census compares windows of it."""
    asked = str(mapping.upstream.get("watermark", "properties.published")).removeprefix("properties.")
    names = [name for name in (asked, "published", "updated", "created") if name in TIMES]
    told = next((properties[name] for name in names if properties.get(name)), None)
    return parse_time(told) if told else None


def _time(text: str) -> str:
    """A time in our form. Planetary Computer writes a blank where the T should be."""
    return time_text(parse_time(f"{text[:10]}T{text[11:]}" if text[10:11] == " " else text))


def _check_ranges(found: JSON, told: Fields) -> None:
    """Put back what cannot be; an azimuth may be counted from -180 on."""
    if -180 <= found.get("view:sun_azimuth", 0) < 0:
        found["view:sun_azimuth"] += 360
    for name, (low, high) in RANGES.items():
        if name in found and not low <= found[name] <= high:
            value = found.pop(name)
            if (name, value) != ("eo:cloud_cover", -1):
                told.put_back(name, value)


def _grid(told: Fields) -> JSON:
    """Where the pixels lie, for collections whose names do not tell it."""
    found: JSON = {}
    if code := projection_code(told):
        found["proj:code"] = code
    for name, is_good in GRID.items():
        if is_good(value := told.take(name)):
            found[name] = value
    return found


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


def _address(source: Source, mapping: CollectionMapping, collection: Any, upstream_id: str) -> str:
    """Where the item is found: its own collection is one of those that are asked for."""
    asked = mapping.upstream.get("collection", mapping.id)
    if not isinstance(collection, str) or not re.fullmatch(r"[A-Za-z0-9._-]{1,200}", collection):
        collection = asked[0] if isinstance(asked, list) else asked
    return f"{source.url}/collections/{collection}/items/{upstream_id}"


def _links(source: Source, address: str, links: list[Any], whole: Whole) -> list[JSON]:
    kept = [{"rel": "via", "href": address, "type": "application/geo+json", "title": source.title}]
    for link in links:
        if not isinstance(link, dict) or link.get("rel") not in LINKS or not isinstance(link.get("href"), str):
            continue
        if (href := whole.absolute(link["href"])) is not None:
            kept.append(whole.place(link, href, {}))
    return kept
