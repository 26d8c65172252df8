"""GDAL's safety settings for the process that serves tiles. Must be applied before GDAL registers its drivers."""

from __future__ import annotations

import os

from ingest.uploads.drivers import ALLOWED_DRIVERS, gdal_skip
from ingest.uploads.sandbox import GDAL_ENVIRONMENT

#: Tiles are written as these.
ENCODERS = ("PNG", "JPEG", "WEBP")
#: rasterio's calculate_default_transform, which rio-tiler calls for every tile, builds a VRT in memory (docs/adr/0016). The
#: process reads nothing but COGs that we made, each opened with the GTiff driver only.
INTERNAL = ("VRT",)


def apply() -> None:
    """Set the environment; what an operator has set stays, except the list of drivers."""
    for name, value in GDAL_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ["GDAL_SKIP"] = gdal_skip((*ALLOWED_DRIVERS, *ENCODERS, *INTERNAL))
