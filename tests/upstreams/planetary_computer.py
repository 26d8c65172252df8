"""Planetary Computer's dialect: pgstac without counts, items of STAC 1.0, files that need a signature.

As seen there: no time of publication, ids that leave out baseline (Sentinel-2) and CRC (Sentinel-1), full pages without
a next link (January 2026), a page that begins with the last item of the one before, times with a blank, a signature that
leaked into an href.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from starlette.requests import Request

from tests.upstreams import tiles
from tests.upstreams.odata_records import time_text
from tests.upstreams.products import FEDERATED, Product
from tests.upstreams.stac import StacService
from tests.upstreams.stac_search import Search

JSON = dict[str, Any]

#: Hosts of the invented store; nothing is there.
STORE_HOST = "invented.blob.example.net"
SIGNATURE = "st=2026-01-01T00%3A00%3A00Z&se=2026-01-02T00%3A00%3A00Z&sp=rl&sv=2024-05-04&sr=c&sig=invented%3D"
_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_SAMPLINGS = {"B02": 10, "B03": 10, "B04": 10, "B08": 10, "B11": 20, "AOT": 10, "SCL": 20}
#: Each third answer with a next link loses it.
_LOSES = 3


@dataclass(frozen=True, slots=True)
class PlanetaryEntry:
    """An item that is offered. pgstac sorts `datetime` by the begin of an interval."""

    id: str
    collection: str
    product: Product
    times: dict[str, datetime]

    def value(self, name: str) -> Any:
        """A property for comparisons and order."""
        if name == "id":
            return self.id
        return self.times.get(name) or (self.product.cloud if name == "eo:cloud_cover" else None)

    def geometry(self) -> JSON | None:
        """Footprint."""
        return self.product.geometry()


def planetary_id(product: Product) -> str:
    """`S2B_MSIL2A_20210909T215909_R086_T01LHD_20210910T045920`; of Sentinel-1 everything before the CRC."""
    return re.sub(r"_N\d{4}", "", product.stem) if product.kind == "L2A" else product.stem[:-5]


def planetary_entries(offered: Sequence[Product]) -> list[PlanetaryEntry]:
    """What is offered: Sentinel-2 L2A and Sentinel-1 GRD, with gaps."""
    return [
        PlanetaryEntry(planetary_id(product), FEDERATED[product.kind], product, {"datetime": product.start})
        for product in offered
        if product.kind in ("L2A", "GRD") and product.scene % 7 != 3
    ]


class PlanetaryService(StacService):
    """Pages with the faults that were seen there."""

    def __init__(self, entries: Sequence[PlanetaryEntry]) -> None:
        title = "Demonstration STAC API with invented products, in Planetary Computer's dialect"
        super().__init__(entries, planetary_item_of, title=title, is_stac_server=False)
        self._with_next = 0

    def _begin(self, rows: Sequence[Any], asked: Search) -> int:
        begin = super()._begin(rows, asked)
        return begin - 1 if asked.token is not None and asked.limit > 1 else begin

    def _answer(self, asked: Search, request: Request) -> JSON:
        answer = super()._answer(asked, request)
        del answer["numberReturned"]
        if any(link["rel"] == "next" for link in answer["links"]):
            self._with_next += 1
            if self._with_next % _LOSES == 0:
                answer["links"] = [link for link in answer["links"] if link["rel"] != "next"]
        return answer


def planetary_service(offered: Sequence[Product]) -> PlanetaryService:
    """The service over `offered`."""
    return PlanetaryService(planetary_entries(offered))


def planetary_item_of(entry: PlanetaryEntry, root: str) -> JSON:
    """For `StacService`."""
    return planetary_item(entry.product, root)


def planetary_item(product: Product, root: str) -> JSON:
    """As stac-fastapi-pgstac answers there: STAC 1.0."""
    geometry = product.geometry()
    assert geometry is not None
    item_id, collection = planetary_id(product), FEDERATED[product.kind]
    is_radar = product.kind == "GRD"
    links = [
        {"rel": rel, "type": "application/json", "href": href}
        for rel, href in (
            ("collection", f"{root}/collections/{collection}"),
            ("root", f"{root}/"),
            ("self", f"{root}/collections/{collection}/items/{item_id}"),
            ("license", "https://example.org/terms"),
        )
    ]
    extensions = ("sar/v1.0.0", "sat/v1.0.0") if is_radar else ("eo/v1.0.0", "sat/v1.0.0", "projection/v1.0.0")
    return {
        "id": item_id, "bbox": tiles.bbox(geometry), "type": "Feature", "links": links, "geometry": geometry,
        "assets": _radar_assets(product, root) if is_radar else _optical_assets(product, root),
        "collection": collection, "properties": _radar(product) if is_radar else _optical(product),
        "stac_extensions": [f"https://stac-extensions.github.io/{name}/schema.json" for name in extensions],
        "stac_version": "1.0.0",
    }  # fmt: skip


def _optical(product: Product) -> JSON:
    assert product.tile is not None
    return {
        "datetime": time_text(product.start),
        "platform": f"Sentinel-{product.platform[1:]}",
        "constellation": "Sentinel 2",
        "instruments": ["msi"],
        "proj:epsg": product.tile.epsg,
        "eo:cloud_cover": product.cloud,
        "s2:mgrs_tile": product.tile.name,
        "s2:product_uri": product.name,
        "s2:product_type": "S2MSI2A",
        "s2:processing_baseline": "05.11",
        "s2:generation_time": time_text(product.made),
        "s2:mean_solar_zenith": 31.5,
        "s2:water_percentage": 1.5,
        "sat:orbit_state": "descending",
        "sat:relative_orbit": product.relative_orbit,
    }


def _radar(product: Product) -> JSON:
    middle = product.start + (product.end - product.start) / 2
    begin, end = (f"{when:%Y-%m-%d %H:%M:%S.%f}+00:00" for when in (product.start, product.end))
    return {
        "datetime": time_text(middle),
        "start_datetime": begin,
        "end_datetime": end,
        "platform": f"SENTINEL-{product.platform[1:]}",
        "constellation": "Sentinel-1",
        "s1:datatake_id": str(product.datatake),
        "s1:product_timeliness": "Fast-24h",
        "s1:processing_level": "1",
        "s1:slice_number": "7",
        "sar:product_type": "GRD",
        "sar:instrument_mode": "IW",
        "sar:frequency_band": "C",
        "sar:center_frequency": 5.405,
        "sar:observation_direction": "right",
        "sar:polarizations": list(product.polarisations),
        "sat:absolute_orbit": product.orbit,
        "sat:relative_orbit": product.relative_orbit,
        "sat:orbit_state": "ascending" if product.ascending else "descending",
    }


def _services(root: str, item_id: str, collection: str) -> JSON:
    """What the catalogue draws itself."""
    data = f"{root.removesuffix('/v1')}/data/v1/item"
    query = f"collection={collection}&item={item_id}"
    return {
        "tilejson": {
            "title": "TileJSON with default rendering", "type": "application/json", "roles": ["tiles"],
            "href": f"{data}/tilejson.json?{query}",
        },
        "rendered_preview": {
            "title": "Rendered preview", "rel": "preview", "type": "image/png", "roles": ["overview"],
            "href": f"{data}/preview.png?{query}&assets=visual",
        },
    }  # fmt: skip


def _optical_assets(product: Product, root: str) -> JSON:
    assert product.tile is not None
    folder = f"https://{STORE_HOST}/sentinel2-l2/{product.tile.name[:2]}/{product.start:%Y/%m/%d}/{product.name}"
    west, north = product.tile.origin
    found: JSON = {
        band: {
            "href": f"{folder}/GRANULE/IMG_DATA/R{gsd}m/{product.tile.name}_{band}_{gsd}m.tif",
            "type": _COG,
            "title": f"{band} - {gsd}m",
            "gsd": gsd,
            "roles": ["data"],
            "eo:bands": [{"name": band, "common_name": "rededge", "center_wavelength": 0.49}],
            "proj:bbox": [west, north - tiles.SIDE_M, west + tiles.SIDE_M, north],
            "proj:shape": [109_800 // gsd, 109_800 // gsd],
            "proj:transform": [gsd, 0, west, 0, -gsd, north],
        }
        for band, gsd in _SAMPLINGS.items()
    }
    found["visual"] = {
        "href": f"{folder}/TCI_10m.tif",
        "type": _COG,
        "title": "True color image",
        "roles": ["data"],
        "gsd": 10,
    }
    found["preview"] = {
        "href": f"{folder}/PVI.tif?{SIGNATURE}",
        "type": _COG,
        "title": "Thumbnail",
        "roles": ["thumbnail"],
    }
    for key in ("safe-manifest", "granule-metadata", "product-metadata"):
        found[key] = {"href": f"{folder}/{key}.xml", "type": "application/xml", "roles": ["metadata"]}
    return found | _services(root, planetary_id(product), "sentinel-2-l2a")


def _radar_assets(product: Product, root: str) -> JSON:
    folder = f"https://{STORE_HOST}/s1-grd/GRD/{product.start:%Y}/{product.start.month}/{product.start.day}/IW/DV/{product.stem}"
    found: JSON = {
        pol.lower(): {
            "href": f"{folder}/measurement/iw-{pol.lower()}.tiff?{SIGNATURE}",
            "type": _COG,
            "title": f"{pol}: amplitude",
            "roles": ["data"],
        }
        for pol in product.polarisations
    }
    found["safe-manifest"] = {"href": f"{folder}/manifest.safe", "type": "application/xml", "roles": ["metadata"]}
    found["thumbnail"] = {"href": f"{folder}/preview/quick-look.png", "type": "image/png", "roles": ["thumbnail"]}
    return found | _services(root, planetary_id(product), "sentinel-1-grd")


def signing_toml(base_url: str) -> str:
    """The table of a source file that says how the store's hrefs are signed; the service is not there."""
    parameters = ", ".join(f'"{name}"' for name in ("st", "se", "sp", "sv", "sr", "sig"))
    return f'\n[signing]\nscheme = "pc-sas"\nhosts = ["*.blob.example.net"]\nurl = "{base_url}/sas/v1/sign"\nparameters = [{parameters}]\n'
