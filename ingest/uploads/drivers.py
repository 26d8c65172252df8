"""Names of the drivers that GDAL 3.12 registers, to skip all that a GeoTIFF does not need (GDAL_SKIP).

A driver that a later GDAL adds is found by `unexpected_drivers`, which the self-check at start and a test call.
"""

from __future__ import annotations

#: Every raster driver but these is skipped where users' files are opened. With GDAL >= 3.12 that stays in force after a warp.
ALLOWED_DRIVERS = ("GTiff", "COG", "MEM")

RASTER_DRIVERS = (
    "AAIGrid", "ACE2", "ADRG", "AIG", "AVCBin", "AVCE00", "AirSAR", "BAG", "BIGGIF", "BMP", "BSB", "BT", "BYN",
    "CALS", "CEOS", "COASP", "COG", "COSAR", "CPG", "CTG", "DAAS", "DERIVED", "DIMAP", "DOQ1", "DOQ2", "DTED",
    "ECRGTOC", "EEDA", "EEDAI", "EHdr", "EIR", "ENVI", "ERS", "ESAT", "ESRI Shapefile", "ESRIC", "ESRIJSON", "FAST",
    "GDALG", "GFF", "GIF", "GNMDatabase", "GNMFile", "GPKG", "GRASSASCIIGrid", "GRIB", "GS7BG", "GSAG", "GSBG",
    "GSC", "GTI", "GTX", "GTiff", "GXF", "GenBin", "GeoJSON", "GeoJSONSeq", "HDF5", "HDF5Image", "HF2", "HFA",
    "HTTP", "ILWIS", "IRIS", "ISCE", "ISG", "ISIS2", "ISIS3", "JAXAPALSAR", "JDEM", "JP2OpenJPEG", "JPEG",
    "KMLSUPEROVERLAY", "KRO", "L1B", "LAN", "LCP", "LIBERTIFF", "LOSLAS", "Leveller", "MAP", "MBTiles", "MEM",
    "MFF", "MFF2", "MRF", "MSGN", "MVT", "MiraMonRaster", "NDF", "NGSGEOID", "NITF", "NOAA_B", "NSIDCbin", "NTv2",
    "NWT_GRC", "NWT_GRD", "OSM", "PAux", "PCIDSK", "PCRaster", "PDF", "PDS", "PDS4", "PLMOSAIC", "PNG", "PNM",
    "PRF", "RCM", "RIK", "RMF", "ROI_PAC", "RPFTOC", "RRASTER", "RS2", "RST", "S102", "S104", "S111", "SAFE",
    "SAGA", "SAR_CEOS", "SENTINEL2", "SIGDEM", "SNAP_TIFF", "SNODAS", "SQLite", "SRP", "SRTMHGT", "STACIT",
    "STACTA", "TGA", "TIL", "TSX", "Terragen", "TopoJSON", "USGSDEM", "VICAR", "VRT", "WCS", "WEBP", "WMS", "WMTS",
    "XYZ", "ZMap", "Zarr", "netCDF",
)  # fmt: skip


def gdal_skip(allowed: tuple[str, ...]) -> str:
    """Value of GDAL_SKIP that leaves only these drivers; comma-separated because some names have blanks."""
    return ",".join(name for name in RASTER_DRIVERS if name not in allowed)


def unexpected_drivers(allowed: tuple[str, ...]) -> list[str]:
    """Drivers that are registered although they should not be."""
    import rasterio

    with rasterio.Env() as env:
        return sorted(set(env.drivers()) - set(allowed))
