"""Records of Harmonised Data Access (HDA, WEkEO) become items by our vocabulary.

Source: CS-SI/eodag, wekeo_main.yml; ecmwf/hda, hda/api.py. A record's `properties.metadata`, where it has one, is the OData attributes of
the Copernicus data space under the same names.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from ingest.errors import RecordRejected
from ingest.identity import identify
from ingest.model import JSON, CollectionMapping, Contribution, Source
from ingest.normalise.fields import Fields, assemble, parse_record, timeliness
from ingest.sanitise import parse_time, time_text

#: Facts that the product's name says, or that no item has a place for.
KNOWN_METADATA = (
    "platformShortName", "platformSerialIdentifier", "instrumentShortName", "productType", "processingLevel", "operationalMode",
    "polarisationChannels", "processingBaseline", "processorVersion", "tileId", "productClass", "swathIdentifier", "origin", "authority",
    "sliceNumber", "totalSlices", "datatakeID", "productGroupId", "datastripId", "granuleIdentifier", "beginningDateTime",
    "endingDateTime", "coordinates", "processingCenter", "instrumentConfigurationID", "qualityStatus",
)  # fmt: skip
#: A footprint as wide and as high as this, in degrees, is the extent of a dataset. Products at a pole are wide and low.
WORLD_WIDTH, WORLD_HEIGHT = 350, 90
#: How to get a product: it has to be ordered first.
ORDER = "access token of WEkEO; POST dataaccess/download with dataset_id, product_id and location orders the product"


def contribution(source: Source, mapping: CollectionMapping, raw: bytes) -> Contribution:
    """Normalise one feature of a search; see `ingest.model.Adapter.item`.

    Raises:
        RecordRejected
    """
    record = parse_record(raw)
    name = identify(record.require("id", str), mapping.id)
    told = Fields(record.require("properties", dict), "properties.")
    metadata = Fields(told.optional("metadata", dict) or {}, "properties.metadata.")
    start, end = (time_text(parse_time(told.require(which, str))) for which in ("startdate", "enddate"))
    properties: JSON = {"datetime": start, "start_datetime": start, "end_datetime": end, **_from_metadata(metadata)}
    assets = _assets(properties, told)
    footprint = _footprint(record.take("geometry"))
    told.ignore("localpath")
    record.ignore("type", "bbox")
    warnings = [*record.unread(), *told.unread(), *metadata.unread()]
    return assemble(name, footprint, properties, [_via(source, mapping)], assets, None, warnings)


def _from_metadata(metadata: Fields) -> JSON:
    found: JSON = {
        "sat:absolute_orbit": _number(metadata, "orbitNumber", 1, 10_000_000),
        "sat:relative_orbit": _number(metadata, "relativeOrbitNumber", 1, 400),
        "sat:orbit_cycle": _number(metadata, "cycleNumber", 1, 100_000),
        "eo:cloud_cover": _number(metadata, "cloudCover", 0, 100),
    }
    if direction := metadata.optional("orbitDirection", str):
        if direction.lower() in ("ascending", "descending"):
            found["sat:orbit_state"] = direction.lower()
        else:
            metadata.put_back("orbitDirection", direction)
    if category := metadata.optional("timeliness", str):
        found |= timeliness(category)
    metadata.ignore(*KNOWN_METADATA)
    return {key: value for key, value in found.items() if value is not None}


def _number(metadata: Fields, name: str, low: float, high: float) -> Any:
    """A number, also as a text; what is none, or is out of its range, is left unread: a word of the search, not of the product."""
    value = metadata.take(name)
    if value is None:
        return None
    number = value
    if isinstance(value, str):
        try:
            number = int(value) if value.lstrip("-").isdigit() else float(value)
        except ValueError:
            number = None
    if isinstance(number, int | float) and not isinstance(number, bool) and low <= number <= high:
        return number
    metadata.put_back(name, value)
    return None


def _footprint(geometry: Any) -> Any:
    """The geometry; the extent of the dataset, which records without a footprint have, is none."""
    corners = list(_corners(geometry.get("coordinates"))) if isinstance(geometry, dict) else []
    if corners:
        lons, lats = zip(*corners, strict=True)
        if max(lons) - min(lons) >= WORLD_WIDTH and max(lats) - min(lats) >= WORLD_HEIGHT:
            raise RecordRejected("footprint-missing", "the footprint is the extent of the dataset")
    return geometry


def _corners(value: Any) -> list[tuple[float, float]]:
    """Positions of a geometry's coordinates, however deep; to refuse what is none is for `ingest.footprint.clean`."""
    found: list[tuple[float, float]] = []
    left = [value]
    while left:
        one = left.pop()
        if not isinstance(one, list):
            continue
        if len(one) >= 2 and all(isinstance(number, int | float) for number in one[:2]):
            found.append((one[0], one[1]))
        else:
            left += one
    return found


def _via(source: Source, mapping: CollectionMapping) -> JSON:
    """The dataset: a search result has no address of its own."""
    href = f"{source.url}/datasets/{mapping.upstream.get('dataset_id', mapping.id)}"
    return {"rel": "via", "href": href, "type": "application/json", "title": source.title}


def _assets(properties: JSON, told: Fields) -> dict[str, JSON]:
    """The product, where its location is an address, and its picture."""
    found: dict[str, JSON] = {}
    size = _size(told)
    if location := _address(told, "location"):
        found["Product"] = {"href": location, "title": "Product", "roles": ["data"], "auth:refs": ["order"]}
        if size:
            found["Product"]["file:size"] = size
        properties["auth:schemes"] = {"order": {"type": "http", "scheme": "bearer", "description": ORDER}}
    if picture := _address(told, "thumbnail"):
        found["thumbnail"] = {"href": picture, "title": "Quicklook", "roles": ["thumbnail", "overview"]}
    return found


def _size(told: Fields) -> int | None:
    """Bytes; None for "ND" (not determined) and for what is no size."""
    value = told.take("size")
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _address(told: Fields, name: str) -> str | None:
    """An http(s) URL; a location of another kind is understood by the service alone, and empty means none."""
    value = told.take(name)
    if not isinstance(value, str):
        return None
    try:
        parts = urlsplit(value)
    except ValueError:
        return None
    return value if parts.scheme in ("http", "https") and parts.hostname else None
