"""What an uploaded raster may be, and what checking and converting it may cost. Each limit says why it is there."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

MIB, GIB = 2**20, 2**30


class RasterSettings(BaseSettings):
    """Limits of uploaded rasters; `RasterSettings.model_construct()` is the defaults without a look at the environment."""

    model_config = SettingsConfigDict(
        env_prefix="FEDERATOR_", env_ignore_empty=True, frozen=True, extra="ignore", populate_by_name=True
    )

    raster_max_directories: int = Field(
        64, gt=0, description="Directories of a TIFF; GDAL reads each before it opens the first (60,000 took it 5 s)."
    )
    raster_max_tags: int = Field(
        100, gt=0, description="Tags of one directory; the largest real ones seen have about 30."
    )
    raster_max_tag_bytes: int = Field(
        16 * MIB, gt=0, description="Bytes of all tags together; readers keep them in memory. A million blocks fit."
    )
    raster_max_metadata_bytes: int = Field(
        MIB, gt=0, description="Bytes of GDAL's metadata; they are parsed as XML before anything else can be asked."
    )
    raster_max_metadata_items: int = Field(
        2000, gt=0, description="Items of GDAL's metadata; GDAL takes time with their square (200,000: above 12 s)."
    )
    raster_max_side: int = Field(1_000_000, gt=0, description="Pixels of the longer side; readers keep rows in memory.")
    raster_max_decoded_bytes: int = Field(
        64 * GIB, gt=0, description="Bytes of all pixels, decoded: what checking and converting has to go through."
    )
    raster_max_block_bytes: int = Field(
        64 * MIB, gt=0, description="Bytes of one tile or strip, decoded: the least that a reader needs at once."
    )
    raster_max_ratio: int = Field(
        2000,
        gt=0,
        description="Decoded bytes to stored bytes; more is a bomb. Checked from raster_ratio_from_bytes on.",
    )
    raster_ratio_from_bytes: int = Field(
        256 * MIB,
        gt=0,
        description="Decoded bytes up to which the ratio is free: empty tiles pack 2,600-fold (ADR 20).",
    )
    raster_max_bands: int = Field(
        100, gt=0, description="Bands; the limit of Sentinel Hub's bring-your-own COG, and items stay below 100 kB."
    )
    raster_memory_bytes: int = Field(
        4 * GIB, gt=0, description="Address space of the process that opens a user's file; it needs below 1 GiB."
    )
    raster_cpu_s: int = Field(300, gt=0, description="CPU seconds of that process, for any file.")
    raster_cpu_s_per_gib: int = Field(
        90, ge=0, description="CPU seconds more for each GiB of decoded pixels: honest files of 50 GB must end too."
    )
    raster_wall_s: int = Field(600, gt=0, description="Seconds of that process by the clock, for any file.")
    raster_open_files: int = Field(64, gt=3, description="Files that process may hold open; it needs about 20.")
    raster_max_vertices: int = Field(
        500, ge=8, le=5000, description="Vertices of a footprint; more make every search slower and no map better."
    )
    raster_preview_side: int = Field(
        2048, ge=256, le=8192, description="Pixels of the longer side of the preview that is on the map first."
    )
    raster_preview_from_bytes: int = Field(
        64 * MIB, ge=0, description="Decoded bytes from which a preview is made; smaller files are converted as fast."
    )


#: The defaults, for calls without settings.
DEFAULTS = RasterSettings.model_construct()
