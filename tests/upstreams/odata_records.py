"""Invented products as the Copernicus OData catalogues write them (field order and attribute names as recorded)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tests.upstreams import tiles
from tests.upstreams.products import NEVER, Product

_KINDS = {str: "String", int: "Integer", float: "Double", datetime: "DateTimeOffset", bool: "Boolean"}


def time_text(when: datetime) -> str:
    """Six fractional digits and Z."""
    return when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def attributes(product: Product) -> dict[str, Any]:
    """Name -> value; the value's type is the attribute's type."""
    if product.kind == "AUX":
        return {
            "productType": product.product_type,
            "platformShortName": "SENTINEL-1",
            "beginningDateTime": product.start,
        }
    common = {
        "origin": "invented",
        "orbitNumber": product.orbit,
        "relativeOrbitNumber": product.relative_orbit,
        "processingDate": product.made,
        "platformShortName": product.collection,
        "platformSerialIdentifier": product.platform[2],
        "productType": product.product_type,
        "beginningDateTime": product.start,
        "endingDateTime": product.end,
    }
    return common | (_sentinel2(product) if product.collection == "SENTINEL-2" else _sentinel1(product))


def _sentinel2(product: Product) -> dict[str, Any]:
    assert product.tile is not None
    return {
        "tileId": product.tile.name,
        "cloudCover": product.cloud,
        "productGroupId": f"G{product.platform}_{product.start:%Y%m%dT%H%M%S}_{product.orbit:06d}_N05.11",
        "operationalMode": "INS-NOBS",
        "processingLevel": product.product_type,
        "processorVersion": "05.11",
        "instrumentShortName": "MSI",
    }


def _sentinel1(product: Product) -> dict[str, Any]:
    return {
        "instrumentShortName": "SAR",
        "operationalMode": "IW",
        "swathIdentifier": "IW",
        "processingLevel": "LEVEL1",
        "processorVersion": "004.02",
        "orbitDirection": "ASCENDING" if product.ascending else "DESCENDING",
        "polarisationChannels": "&".join(product.polarisations),
        "datatakeID": product.datatake,
        "timeliness": "Fast-24h",
        "sliceProductFlag": False,
    }


def _attribute(name: str, value: Any) -> dict[str, Any]:
    kind = _KINDS[type(value)]
    written = time_text(value) if isinstance(value, datetime) else value
    return {"@odata.type": f"#OData.CSC.{kind}Attribute", "Name": name, "Value": written, "ValueType": kind}


def record(product: Product, root: str, expand: frozenset[str] = frozenset()) -> dict[str, Any]:
    """One entity of `Products`; `root` is the service's URL."""
    geometry = product.geometry()
    published = time_text(product.published)
    checksums = [
        {"Value": value, "Algorithm": name, "ChecksumDate": published}
        for name, value in (("MD5", product.md5), ("BLAKE3", product.blake3))
    ]
    found: dict[str, Any] = {
        "@odata.mediaContentType": "application/octet-stream",
        "Id": product.id,
        "Name": product.name,
        "ContentType": "application/octet-stream",
        "ContentLength": product.size,
        "OriginDate": time_text(product.origin),
        "PublicationDate": published,
        "ModificationDate": time_text(product.modified),
        "Online": product.online,
        "EvictionDate": NEVER,
        "S3Path": product.path,
        "Checksum": checksums,
        "ContentDate": {"Start": time_text(product.start), "End": time_text(product.end)},
        "Footprint": f"geography'SRID=4326;{tiles.wkt(geometry)}'" if geometry else None,
        "GeoFootprint": geometry,
    }
    if "Attributes" in expand:
        found["Attributes"] = [_attribute(name, value) for name, value in attributes(product).items()]
    if "Assets" in expand:
        found["Assets"] = _assets(product, root)
    if "Locations" in expand:
        link = f"{root}/Products({product.id})/$value"
        found["Locations"] = [
            {
                "FormatType": "Extracted",
                "DownloadLink": link,
                "ContentLength": product.size,
                "Checksum": checksums,
                "S3Path": product.path,
            }
        ]
    return found


def _assets(product: Product, root: str) -> list[dict[str, Any]]:
    if product.kind == "AUX":
        return []
    link = f"{root}/Assets({product.id})/$value"
    return [{"Type": "QUICKLOOK", "Id": product.id, "DownloadLink": link, "S3Path": product.path}]
