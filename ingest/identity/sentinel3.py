"""Sentinel-3 OLCI, SLSTR, SRAL and SYN. Rules: "Sentinel-3 PDGS File Naming Convention" (EUM/LEO-SEN3/SPE/10/0070) 4.1.

`MMM_<type>_<start>_<stop>_<created>_<instance>_<centre>_<class>_<timeliness>_<collection>`, instance being duration,
cycle, relative orbit and frame, or the name of a tile. Near-real-time and non-time-critical products of one
acquisition are one product; another processing collection is another version.
"""

from __future__ import annotations

import re

from ingest.errors import RecordRejected
from ingest.identity.name import TIME, ProductName, time_of

_NAME = re.compile(
    rf"(?P<platform>S3[A-D])_(?P<type>[A-Z]{{2}}_[012]_[A-Z0-9_]{{6}})_(?P<start>{TIME})_(?P<stop>{TIME})_(?P<created>{TIME})"
    r"_(?P<instance>[A-Z0-9_]{17})_(?P<centre>[A-Z0-9_]{3})_(?P<klass>[A-Z])_(?P<timeliness>NR|ST|NT)_(?P<collection>[A-Z0-9]{3})",
    re.ASCII,
)
_ORBIT = re.compile(r"[0-9]{4}_(?P<cycle>[0-9]{3})_(?P<orbit>[0-9]{3})_(?P<frame>[0-9_]{4})", re.ASCII)
INSTRUMENTS = {"OL": "olci", "SL": "slstr", "SR": "sral", "SY": "syn"}
#: As the Copernicus catalogue's collections spell them.
_WORDS = {"OL": "olci", "SL": "sl", "SR": "sr", "SY": "syn"}
TYPES = frozenset({
    "OL_1_EFR___", "OL_1_ERR___", "OL_2_LFR___", "OL_2_LRR___", "OL_2_WFR___", "OL_2_WRR___",
    "SL_1_RBT___", "SL_2_AOD___", "SL_2_FRP___", "SL_2_LST___", "SL_2_WST___",
    "SR_1_SRA___", "SR_1_SRA_A_", "SR_1_SRA_BS", "SR_2_LAN___", "SR_2_LAN_HY", "SR_2_LAN_SI", "SR_2_LAN_LI", "SR_2_WAT___",
    "SY_2_AOD___", "SY_2_SYN___", "SY_2_V10___", "SY_2_VG1___", "SY_2_VGP___",
})  # fmt: skip
#: Categories and durations of the operator's STAC catalogue.
TIMELINESS = {"NR": ("0", "NR", "PT3H"), "ST": ("1", "ST", "PT48H"), "NT": ("2", "NT", "P1M")}


def read(stem: str) -> ProductName | None:
    """Read a name; None when it is none of this mission. Raises RecordRejected, ValueError (see `ingest.identity.parse`)."""
    match = _NAME.fullmatch(stem)
    if match is None:
        return None
    kind, platform = match["type"], match["platform"]
    if kind not in TYPES:
        raise RecordRejected("product-type-unsupported", f"no Sentinel-3 product type that is held: {stem[:120]!r}")
    start = time_of(match["start"])
    if start > time_of(match["stop"]):
        raise RecordRejected("product-name-unknown", f"ends before it starts: {stem}")
    order, category, duration = TIMELINESS[match["timeliness"]]
    place = _ORBIT.fullmatch(match["instance"])
    if place is not None and place["frame"].isdigit():
        # Cycle, orbit and frame are exact; the start drifts by fractions of a second between NR and NT.
        where = f"{place['cycle']}_{place['orbit']}_{place['frame']}"
    elif place is not None:
        where = f"{place['cycle']}_{place['orbit']}_{match['start']}"
    else:
        where = f"{match['instance']}_{match['start']}"
    words = [_WORDS[kind[:2]], kind[3], *kind[5:].strip("_").lower().split("_")]
    return ProductName(
        stem,
        ".SEN3",
        "sentinel-3",
        f"sentinel-3-{'-'.join(words)}",
        kind,
        acquisition=f"{platform}_{kind}_{where}",
        version=match["collection"],
        rank=(order, match["collection"], time_of(match["created"]).isoformat(), match["centre"]),
        properties={
            "platform": f"sentinel-{platform[1:].lower()}",
            "constellation": "sentinel-3",
            "instruments": ["olci", "slstr"] if kind[:2] == "SY" else [INSTRUMENTS[kind[:2]]],
            "product:type": kind,
            "product:timeliness": duration,
            "product:timeliness_category": category,
            "processing:level": f"L{kind[3]}",
            **({"sat:relative_orbit": int(place["orbit"]), "sat:orbit_cycle": int(place["cycle"])} if place else {}),
        },
    )
