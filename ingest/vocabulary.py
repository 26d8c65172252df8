"""One vocabulary of asset keys and bands for all providers.

Sentinel-2 keys are native band names, for L2A with the sampling that the product offers several of: `B02` (L1C), `B02_10m`,
`B02_60m` (L2A); as in the Copernicus STAC catalogue. A COG made of such a file is another file of the same pixels: its key has
`-cog` behind. So one key never means two different files. Sentinel-1 keys are the polarisation in lower case.
Wavelengths in micrometres, Sentinel-2A: Sentinel-2 MSI spectral responses (COPE-GSEG-EOPG-TN-15-0007).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Band:
    """A band of Sentinel-2's MSI: native sampling in metres, centre wavelength in micrometres."""

    name: str
    common_name: str
    center_wavelength: float
    gsd_m: int
    title: str


BANDS = {
    band.name: band
    for band in (
        Band("B01", "coastal", 0.443, 60, "Coastal aerosol"),
        Band("B02", "blue", 0.493, 10, "Blue"),
        Band("B03", "green", 0.56, 10, "Green"),
        Band("B04", "red", 0.665, 10, "Red"),
        Band("B05", "rededge071", 0.704, 20, "Red edge 1"),
        Band("B06", "rededge075", 0.741, 20, "Red edge 2"),
        Band("B07", "rededge078", 0.783, 20, "Red edge 3"),
        Band("B08", "nir", 0.833, 10, "NIR"),
        Band("B8A", "nir08", 0.865, 20, "NIR narrow"),
        Band("B09", "nir09", 0.945, 60, "Water vapour"),
        Band("B10", "cirrus", 1.374, 60, "Cirrus"),
        Band("B11", "swir16", 1.61, 20, "SWIR 1.6"),
        Band("B12", "swir22", 2.19, 20, "SWIR 2.2"),
    )
}

#: Earth Search's names -> native band or layer.
EARTH_SEARCH_LAYERS = {
    "coastal": "B01", "blue": "B02", "green": "B03", "red": "B04", "rededge1": "B05", "rededge2": "B06", "rededge3": "B07",
    "nir": "B08", "nir08": "B8A", "nir09": "B09", "cirrus": "B10", "swir16": "B11", "swir22": "B12",
    "aot": "AOT", "scl": "SCL", "wvp": "WVP", "visual": "TCI", "cloud": "CLD", "snow": "SNW",
}  # fmt: skip
#: Sampling in metres of Earth Search's L2A layers when the key does not say it.
EARTH_SEARCH_GSD = {"AOT": 20, "SCL": 20, "WVP": 20, "TCI": 10, "CLD": 20, "SNW": 20}
#: Files that are not bands: any provider's key -> ours.
METADATA_KEYS = {
    "Product": "Product", "thumbnail": "thumbnail", "preview": "preview",
    "safe_manifest": "safe_manifest", "safe-manifest": "safe_manifest",
    "product_metadata": "product_metadata", "granule_metadata": "granule_metadata", "inspire_metadata": "inspire_metadata",
    "datastrip_metadata": "datastrip_metadata", "tileinfo_metadata": "tileinfo_metadata",
    "product-metadata": "product_metadata", "granule-metadata": "granule_metadata", "inspire-metadata": "inspire_metadata",
    "datastrip-metadata": "datastrip_metadata",
}  # fmt: skip
POLARISATIONS = ("vv", "vh", "hh", "hv")
SENTINEL1_KEYS = {
    *POLARISATIONS,
    *(f"schema-{kind}-{pol}" for kind in ("product", "calibration", "noise") for pol in POLARISATIONS),
}
SAMPLINGS = ("10m", "20m", "60m")
LAYERS = {*BANDS, "AOT", "SCL", "WVP", "TCI", "CLD", "SNW"}


def asset_key(key: str, level: str, media_type: str, gsd: float | None = None) -> str | None:
    """Our key for a provider's asset key; None when the vocabulary does not know it.

    `level` is L1C, L2A or GRD; `media_type` tells a COG from the original (JPEG 2000, or for GRD a plain TIFF); `gsd` in metres is the
    asset's own, for keys that do not say their sampling.
    """
    if key in METADATA_KEYS:
        return METADATA_KEYS[key]
    if level == "GRD":
        is_cog = key in POLARISATIONS and "cloud-optimized" in media_type
        return (f"{key}-cog" if is_cog else key) if key in SENTINEL1_KEYS else None
    name, _, sampling = key.removesuffix("-jp2").partition("_")
    layer = name if name in LAYERS else EARTH_SEARCH_LAYERS.get(name)
    if layer is None or sampling not in ("", *SAMPLINGS):
        return None
    if level == "L2A" and not sampling:
        usual = BANDS[layer].gsd_m if layer in BANDS else EARTH_SEARCH_GSD[layer]
        told = f"{gsd:g}m" if gsd is not None else ""
        sampling = told if told in SAMPLINGS else f"{usual}m"
    return f"{layer}{f'_{sampling}' if sampling else ''}{'-cog' if 'tiff' in media_type else ''}"


def bands_of(key: str) -> list[dict[str, Any]] | None:
    """STAC 1.1 `bands` of an asset by our key, None when it has none."""
    layer = key.split("_")[0].removesuffix("-cog")
    if layer == "TCI":
        return [_band(BANDS[name]) for name in ("B04", "B03", "B02")]
    if layer in BANDS:
        return [_band(BANDS[layer])]
    if layer in ("AOT", "SCL", "WVP", "CLD", "SNW"):
        return [{"name": layer}]
    if layer in POLARISATIONS:
        return [{"name": layer.upper()}]
    return None


def _band(band: Band) -> dict[str, Any]:
    return {
        "name": band.name,
        "description": band.title,
        "eo:common_name": band.common_name,
        "eo:center_wavelength": band.center_wavelength,
    }
