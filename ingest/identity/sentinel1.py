"""Sentinel-1 RAW, SLC, GRD, OCN and ETAD. Rules: "Sentinel-1 Product Specification" (S1-RS-MDA-52-7441) 3.4; the COG
twins' suffix: eu-cdse/documentation, Data/Others/Sentinel1_COG.qmd.

`MMM_BB_TTTR_LFPP_<start>_<stop>_<absolute orbit>_<datatake>_<CRC>[_COG]`, datatake and CRC hexadecimal. Deliveries
that differ in the CRC only are versions of one acquisition. Earth Search and Planetary Computer leave the CRC out; a
COG twin has a CRC of its own: neither says which delivery it stands for.
"""

from __future__ import annotations

import re

from ingest.errors import RecordRejected
from ingest.identity.name import TIME, ProductName, time_of

_NAME = re.compile(
    r"(?P<scene>(?P<platform>S1[A-D])_(?P<mode>IW|EW|WV|S[1-6])_(?P<kind>RAW|SLC|GRD|OCN|ETA)(?P<resolution>[FHM_])"
    r"_(?P<level>[012A])(?P<klass>[SACNX])(?P<polarisation>SH|SV|DH|DV|HH|HV|VV|VH)"
    rf"_(?P<start>{TIME})_(?P<stop>{TIME})_(?P<orbit>[0-9]{{6}})_(?P<datatake>[0-9A-F]{{6}}))(?:_(?P<crc>[0-9A-F]{{4}})(?P<cog>_COG)?)?",
    re.ASCII,
)
POLARISATIONS = {
    "SH": ("HH",), "SV": ("VV",), "DH": ("HH", "HV"), "DV": ("VV", "VH"), "HH": ("HH",), "HV": ("HV",), "VV": ("VV",), "VH": ("VH",),
}  # fmt: skip
COLLECTIONS = {"RAW": "raw", "SLC": "slc", "GRD": "grd", "OCN": "ocn", "ETA": "etad"}


def read(stem: str) -> ProductName | None:
    """Read a name; None when it is none of this mission. Raises RecordRejected, ValueError (see `ingest.identity.parse`)."""
    match = _NAME.fullmatch(stem)
    if match is None:
        if re.match(r"S1[A-D]_(?!OPER)", stem):
            raise RecordRejected("product-type-unsupported", f"no Sentinel-1 product type that is held: {stem[:120]!r}")
        return None
    if time_of(match["start"]) > time_of(match["stop"]):
        raise RecordRejected("product-name-unknown", f"ends before it starts: {stem}")
    mode, kind, is_cog = match["mode"], match["kind"], match["cog"] is not None
    collection = f"sentinel-1-{COLLECTIONS[kind]}{'-wv' if (kind, mode) == ('SLC', 'WV') else ''}"
    level = {"0": "L0", "1": "L1", "2": "L2"}.get(match["level"])
    plain_type = f"{mode}_{kind}{match['resolution']}_{match['level']}{match['klass']}"
    return ProductName(
        stem,
        ".SAFE",
        "sentinel-1",
        collection,
        f"{plain_type}-COG" if is_cog else plain_type,
        acquisition=match["scene"],
        version=match["crc"] or "" if not is_cog else "",
        is_partial=match["crc"] is None or is_cog,
        is_cog=is_cog,
        properties={
            "platform": f"sentinel-{match['platform'][1:].lower()}",
            "constellation": "sentinel-1",
            "instruments": ["sar"],
            "product:type": f"{plain_type}-COG" if is_cog else plain_type,
            **({"processing:level": level} if level else {}),
            "sat:absolute_orbit": int(match["orbit"]),
            "sar:instrument_mode": mode if mode in ("IW", "EW", "WV") else "SM",
            "sar:frequency_band": "C",
            "sar:center_frequency": 5.405,
            "sar:observation_direction": "right",
            "sar:polarizations": list(POLARISATIONS[match["polarisation"]]),
            "eopf:datatake_id": str(int(match["datatake"], 16)),
        },
    )
