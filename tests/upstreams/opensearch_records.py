"""Invented products as resto catalogues write them: the Copernicus dialect and that of resto 2 (field order as recorded)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from tests.upstreams.products import Product

#: resto 2 gives short types of radar, and collections of its own.
SHORT_TYPES = {"IW_GRDH_1S": "GRD", "IW_GRDH_1S-COG": "GRD-COG"}
RESTO2_COLLECTIONS = {"SENTINEL-1": "S1", "SENTINEL-2": "S2ST"}


def time_text(when: datetime, digits: int = 6) -> str:
    """With so many fractional digits: rounded to 3, cut to 0."""
    if digits == 3:
        when += timedelta(microseconds=500)
    return f"{when.strftime('%Y-%m-%dT%H:%M:%S.%f')[: 20 + digits].rstrip('.')}Z"


def copernicus_feature(product: Product, root: str, digits: int) -> dict[str, Any]:
    """One feature; 0 and null stand for what does not apply."""
    is_aux = product.kind == "AUX"
    is_optical = product.collection == "SENTINEL-2"
    level = product.product_type if is_optical else "LEVEL1"
    properties: dict[str, Any] = {
        "collection": product.collection,
        "status": "ONLINE" if product.online else "OFFLINE",
        "license": {"licenseId": "unlicensed", "hasToBeSigned": "never"},
        "parentIdentifier": None,
        "title": product.name,
        "description": "an invented product",
        "organisationName": None,
        "startDate": time_text(product.start, digits),
        "completionDate": time_text(product.end, digits),
        "productType": product.product_type,
        "processingLevel": None if is_aux else level,
        "platform": product.platform,
        "instrument": "MSI" if is_optical else "SAR",
        "resolution": 0,
        "sensorMode": None if is_aux else "INS-NOBS" if is_optical else "IW",
        "orbitNumber": 0 if is_aux else product.orbit,
        "quicklook": None,
        "thumbnail": f"{root}/thumbnails/{product.id}.jpg",
        "updated": time_text(product.modified, digits),
        "published": time_text(product.published, digits),
        "snowCover": 0,
        "cloudCover": product.cloud or 0,
        "gmlgeometry": None,
        "centroid": {"type": None, "coordinates": None},
        "productIdentifier": product.path,
        "orbitDirection": None if is_aux or is_optical else ("ASCENDING" if product.ascending else "DESCENDING"),
        "timeliness": None if is_aux or is_optical else "Fast-24h",
        "relativeOrbitNumber": 0 if is_aux else product.relative_orbit,
        "processingBaseline": 5.11 if is_optical else 0 if is_aux else 4.02,
        "services": {
            "download": {
                "url": f"{root}/download/{product.id}",
                "mimeType": "application/octet-stream",
                "size": product.size,
            }
        },
        "links": [{"rel": "self", "type": "application/json", "href": _self(product.collection, product, root)}],
    }
    if is_optical:
        properties["missionTakeId"] = _datatake(product)
    elif not is_aux:
        properties |= {"polarisation": "&".join(product.polarisations), "swath": "IW"}
    return {"type": "Feature", "id": product.id, "geometry": product.geometry(), "properties": properties}


def resto2_feature(product: Product, root: str, digits: int) -> dict[str, Any]:
    """One feature as PEPS writes it; null stands for what does not apply."""
    is_aux = product.kind == "AUX"
    is_optical = product.collection == "SENTINEL-2"
    collection = RESTO2_COLLECTIONS[product.collection]
    checksum = product.md5.upper()
    properties: dict[str, Any] = {
        "collection": collection,
        "productIdentifier": product.stem,
        "parentIdentifier": f"urn:ogc:def:EOP:ESA::{product.collection}:",
        "title": product.stem,
        "description": None,
        "organisationName": "ESA",
        "startDate": time_text(product.start, digits),
        "completionDate": time_text(product.end, digits),
        "productType": SHORT_TYPES.get(product.product_type, product.product_type),
        "processingLevel": None if is_aux else f"LEVEL{product.kind[1:]}" if is_optical else "LEVEL1",
        "platform": product.platform,
        "instrument": "MSI" if is_optical else "SAR-C SAR",
        "resolution": None,
        "sensorMode": None if is_aux else "INS-NOBS" if is_optical else "IW",
        "orbitNumber": product.orbit,
        "quicklook": f"{root}/quicklook/{product.stem}_quicklook.jpg",
        "thumbnail": None,
        "resourceSize": product.size,
        "resourceChecksum": checksum,
        "updated": time_text(product.modified, digits),
        "published": time_text(product.published, digits),
        "snowCover": None,
        "cloudCover": product.cloud,
        "visible": 1,
        "orbitDirection": "ascending" if product.ascending and not is_optical else "descending",
        "isNrt": 0,
        "realtime": "Nominal",
        "dhusIngestDate": time_text(product.origin, 3),
        "relativeOrbitNumber": product.relative_orbit,
        "keywords": {"6278eea013ff0d3": {"name": "Summer", "type": "season"}},
        "services": {
            "download": {
                "url": f"{root}/collections/{collection}/{product.id}/download",
                "mimeType": "application/zip",
                "size": product.size,
                "checksum": checksum,
            }
        },
        "links": [{"rel": "alternate", "type": "application/json", "href": _self(collection, product, root)}],
        "storage": {"mode": "disk" if product.online else "tape"},
    }
    if is_optical and product.tile is not None:
        properties |= {"s2TakeId": _datatake(product), "mgrs": product.tile.name}
    elif not is_aux:
        properties["polarisation"] = " ".join(product.polarisations)
    geometry = product.geometry()
    return {"type": "Feature", "id": product.id, "geometry": geometry, "_geometry": geometry, "properties": properties}


def _self(collection: str, product: Product, root: str) -> str:
    return f"{root}/collections/{collection}/{product.id}.json"


def _datatake(product: Product) -> str:
    return f"G{product.platform}_{product.start:%Y%m%dT%H%M%S}_{product.orbit:06d}_N05.11"
