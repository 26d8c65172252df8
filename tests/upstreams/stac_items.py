"""Invented products as STAC items: as the Copernicus STAC catalogue writes them, and as Earth Search does (both as recorded)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tests.upstreams import tiles
from tests.upstreams.odata_records import time_text
from tests.upstreams.products import FEDERATED, Product

JSON = dict[str, Any]

_BANDS = {"B02": "blue", "B03": "green", "B04": "red", "B08": "nir"}
_EXTENSIONS = "https://stac-extensions.github.io"
_USED = ("alternate-assets/v1.2.0", "authentication/v1.1.0", "file/v2.1.0", "processing/v1.2.0", "product/v1.0.0", "sat/v1.1.0",
         "storage/v2.0.0", "timestamps/v1.1.0")  # fmt: skip
_COG = "image/tiff; application=geotiff; profile=cloud-optimized"


def copernicus_item(product: Product, root: str, download_root: str) -> JSON:
    """As stac-fastapi-pgstac of the data space answers. `root` is the service's URL, downloads are below `download_root`."""
    collection = FEDERATED[product.kind]
    geometry = product.geometry()
    assert geometry is not None
    is_radar = product.kind == "COG"
    used = [*_USED, *(["sar/v1.3.0"] if is_radar else ["eo/v2.0.0", "grid/v1.1.0", "projection/v2.0.0"])]
    links = [
        {"rel": "collection", "type": "application/json", "href": f"{root}/collections/{collection}"},
        {"rel": "parent", "type": "application/json", "href": f"{root}/collections/{collection}"},
        {"rel": "root", "type": "application/json", "href": f"{root}/"},
        {"rel": "self", "type": "application/geo+json", "href": f"{root}/collections/{collection}/items/{product.stem}"},
        {
            "rel": "enclosure", "href": f"s3:/{product.path}/", "type": "application/x-directory",
            "title": "S3 path to source directory", "auth:refs": ["s3"], "storage:refs": ["demo-s3"],
        },
    ]  # fmt: skip
    properties = _common(product, root) | (_radar(product) if is_radar else _optical(product))
    return {
        "id": product.stem,
        "bbox": tiles.bbox(geometry),
        "type": "Feature",
        "links": links,
        "assets": _assets(product, download_root),
        "geometry": geometry,
        "collection": collection,
        "properties": properties,
        "stac_extensions": [f"{_EXTENSIONS}/{name}/schema.json" for name in sorted(used)],
        "stac_version": "1.1.0",
    }


def _common(product: Product, root: str) -> JSON:
    return {
        "created": time_text(product.origin),
        "updated": time_text(product.modified),
        "published": time_text(product.published),
        "expires": "9999-01-01T00:00:00.000000Z",
        "datetime": time_text(product.start),
        "start_datetime": time_text(product.start),
        "end_datetime": time_text(product.end),
        "platform": f"sentinel-{product.platform[1:].lower()}",
        "constellation": f"sentinel-{product.platform[1]}",
        "product:type": "S2MSI1C" if product.kind == "L1C" else "S2MSI2A" if product.kind == "L2A" else "IW_GRDH_1S",
        "processing:datetime": time_text(product.made),
        "processing:facility": "invented",
        "sat:absolute_orbit": product.orbit,
        "sat:relative_orbit": product.relative_orbit,
        "auth:schemes": {"s3": {"type": "s3"}, "oidc": {"type": "openIdConnect", "openIdConnectUrl": f"{root}/openid"}},
        "storage:schemes": {
            "demo-s3": {
                "type": "custom-s3",
                "title": "Demonstration object store: nothing is stored",
                "platform": "https://s3.example.org",
                "requester_pays": False,
            }
        },
    }


def _optical(product: Product) -> JSON:
    assert product.tile is not None
    return {
        "gsd": 10,
        "instruments": ["msi"],
        "eo:cloud_cover": product.cloud,
        "grid:code": f"MGRS-{product.tile.name}",
        "processing:level": "L1" if product.kind == "L1C" else "L2",
        "processing:version": "05.11",
        "sat:orbit_state": "descending",
        "eopf:instrument_mode": "INS-NOBS",
        "eopf:datatake_id": f"G{product.platform}_{product.start:%Y%m%dT%H%M%S}_{product.orbit:06d}_N05.11",
        "_private": {
            "visible": True,
            "product_name": product.name,
            "product_size": product.size,
            "product_uuid": product.id,
        },
    }


def _radar(product: Product) -> JSON:
    return {
        "instruments": ["sar"],
        "processing:level": "L1",
        "sat:orbit_state": "ascending" if product.ascending else "descending",
        "sar:frequency_band": "C",
        "sar:center_frequency": 5.405,
        "sar:observation_direction": "right",
        "sar:instrument_mode": "IW",
        "sar:polarizations": list(product.polarisations),
        "sar:pixel_spacing_range": 10.0,
        "sar:pixel_spacing_azimuth": 10.0,
        "eopf:datatake_id": str(product.datatake),
        "product:timeliness": "PT24H",
        "product:timeliness_category": "Fast-24h",
    }


def _assets(product: Product, download_root: str) -> dict[str, JSON]:
    download = f"{download_root}/Products({product.id})"
    found: dict[str, JSON] = {}
    for key, path, media in _files(product):
        nodes = "".join(f"/Nodes({part})" for part in (product.name, *path.split("/")))
        found[key] = {
            "href": f"s3:/{product.path}/{path}",
            "type": media,
            "roles": ["metadata"] if media == "application/xml" else ["data"],
            "alternate:name": "S3",
            "auth:refs": ["s3"],
            "storage:refs": ["demo-s3"],
            "file:local_path": f"{product.name}/{path}",
            "alternate": {
                "https": {
                    "href": f"{download}{nodes}/$value", "alternate:name": "HTTPS", "auth:refs": ["oidc"], "storage:refs": [],
                }
            },
            **_raster(product, media),
        }  # fmt: skip
    found["Product"] = {
        "href": f"{download}/$value",
        "roles": ["data", "metadata", "archive"],
        "auth:refs": ["oidc"],
        "file:size": product.size,
        "file:checksum": f"d50110{product.md5}",
        "file:local_path": f"{product.name}.zip",
        "type": "application/zip",
        "title": "Zipped product",
    }
    found["thumbnail"] = {
        "href": f"{download_root}/Assets({product.id})/$value",
        "type": "image/jpeg",
        "title": "Quicklook",
        "roles": ["thumbnail", "overview"],
    }
    return found


def _files(product: Product) -> list[tuple[str, str, str]]:
    """Asset key, path within the product, media type."""
    files = [("safe_manifest", "manifest.safe", "application/xml")]
    if product.kind == "COG":
        base = product.stem.lower().replace("_", "-")
        return files + [(pol.lower(), f"measurement/{base}-{pol.lower()}.tiff", _COG) for pol in product.polarisations]
    assert product.tile is not None
    folder = f"GRANULE/{product.kind}_T{product.tile.name}/IMG_DATA"
    prefix = f"T{product.tile.name}_{product.start:%Y%m%dT%H%M%S}"
    files.append(("product_metadata", f"MTD_MSI{product.kind}.xml", "application/xml"))
    for band in (*_BANDS, "TCI"):
        if product.kind == "L1C":
            files.append((band, f"{folder}/{prefix}_{band}.jp2", "image/jp2"))
        else:
            files.append((f"{band}_10m", f"{folder}/R10m/{prefix}_{band}_10m.jp2", "image/jp2"))
    return files


def _raster(product: Product, media: str) -> JSON:
    if media != "image/jp2" or product.tile is None:
        return {}
    west, north = product.tile.origin
    return {
        "gsd": 10,
        "proj:code": f"EPSG:{product.tile.epsg}",
        "proj:shape": [10980, 10980],
        "proj:transform": [10, 0, west, 0, -10, north],
        "proj:bbox": [west, north - tiles.SIDE_M, west + tiles.SIDE_M, north],
    }


def earth_search_id(product: Product, sequence: int) -> str:
    """`S2B_27VWK_20240206_0_L1C`: platform, tile, day, sequence, level."""
    assert product.tile is not None
    return f"{product.platform}_{product.tile.name}_{product.start:%Y%m%d}_{sequence}_{product.kind}"


def earth_search_time(product: Product) -> str:
    """When the item was made: two hours after the product's publication, in milliseconds."""
    return f"{(product.published + timedelta(hours=2)).isoformat(timespec='milliseconds')[:23]}Z"


def earth_search_item(product: Product, sequence: int, root: str) -> JSON:
    """As Earth Search's stac-server answers: STAC 1.0, own ids, the product's name in `s2:product_uri`."""
    assert product.tile is not None
    item_id, tile = earth_search_id(product, sequence), product.tile
    collection = FEDERATED[product.kind]
    geometry = product.geometry()
    assert geometry is not None
    west, north = tile.origin
    zone, band, square = tile.name[:2], tile.name[2], tile.name[3:]
    made = earth_search_time(product)
    bucket = f"s3://demo-{collection}/tiles/{int(zone)}/{band}/{square}/{product.start:%Y}/{product.start.month}/{product.start.day}/{sequence}"
    assets: dict[str, JSON] = {
        name: {
            "href": f"{bucket}/{ours}.{'jp2' if product.kind == 'L1C' else 'tif'}",
            "type": "image/jp2" if product.kind == "L1C" else _COG,
            "title": f"{name.capitalize()} - 10m",
            "gsd": 10,
            "proj:shape": [10980, 10980],
            "proj:transform": [10, 0, west, 0, -10, north],
            "raster:bands": [
                {"nodata": 0, "data_type": "uint16", "spatial_resolution": 10, "scale": 0.0001, "offset": -0.1}
            ],
            "roles": ["data", "reflectance"],
        }
        for ours, name in _BANDS.items()
    }
    assets["granule_metadata"] = {"href": f"{bucket}/metadata.xml", "type": "application/xml", "roles": ["metadata"]}
    properties = {
        "created": made,
        "updated": made,
        "datetime": f"{product.start.isoformat(timespec='milliseconds')[:23]}Z",
        "platform": f"sentinel-{product.platform[1:].lower()}",
        "constellation": "sentinel-2",
        "instruments": ["msi"],
        "eo:cloud_cover": product.cloud,
        "proj:epsg": tile.epsg,
        "mgrs:utm_zone": tile.zone,
        "mgrs:latitude_band": band,
        "mgrs:grid_square": square,
        "grid:code": f"MGRS-{tile.name}",
        "s2:product_type": product.product_type,
        "s2:processing_baseline": "05.11",
        "s2:product_uri": product.name,
        "s2:generation_time": time_text(product.made),
        "s2:datatake_id": f"G{product.platform}_{product.start:%Y%m%dT%H%M%S}_{product.orbit:06d}_N05.11",
        "s2:datatake_type": "INS-NOBS",
        "s2:sequence": str(sequence),
    }
    links = [
        {"rel": "self", "type": "application/geo+json", "href": f"{root}/collections/{collection}/items/{item_id}"},
        {"rel": "parent", "type": "application/json", "href": f"{root}/collections/{collection}"},
        {"rel": "collection", "type": "application/json", "href": f"{root}/collections/{collection}"},
        {"rel": "root", "type": "application/json", "href": root},
    ]
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": item_id, "properties": properties, "geometry": geometry, "links": links,
        "assets": assets, "bbox": tiles.bbox(geometry), "collection": collection,
        "stac_extensions": [f"{_EXTENSIONS}/{name}/schema.json" for name in ("eo/v1.1.0", "grid/v1.0.0", "projection/v1.1.0")],
    }  # fmt: skip
