"""Sentinel-5P TROPOMI. Rules: "Sentinel-5 Precursor File Naming Conventions" (S5P-TN-DLR-PDGS) and the products' user
manuals, 4.1.

`S5P_<mode>_<type>_<start>_<stop>_<orbit>_<collection>_<processor>_<created>`. NRTI products are pieces of five
minutes and products of their own; OFFL and RPRO cover the orbit and are versions of it.
"""

from __future__ import annotations

import re

from ingest.errors import RecordRejected
from ingest.identity.name import TIME, ProductName, time_of

_NAME = re.compile(
    rf"S5P_(?P<mode>NRTI|OFFL|RPRO)_(?P<type>L(?:1B|2_)_[A-Z0-9_]{{6}})_(?P<start>{TIME})_(?P<stop>{TIME})"
    rf"_(?P<orbit>[0-9]{{5}})_(?P<collection>[0-9]{{2}})_(?P<processor>[0-9]{{6}})_(?P<created>{TIME})",
    re.ASCII,
)
TYPES = frozenset({
    *(f"L1B_RA_BD{band}" for band in range(1, 9)), "L2__AER_AI", "L2__AER_LH", "L2__CH4___", "L2__CLOUD_", "L2__CO____", "L2__HCHO__",
    "L2__NO2___", "L2__NP_BD3", "L2__NP_BD6", "L2__NP_BD7", "L2__O3____", "L2__O3__PR", "L2__O3_TCL", "L2__SO2___",
})  # fmt: skip
_MODES = {"NRTI": "0", "OFFL": "1", "RPRO": "2"}


def read(stem: str) -> ProductName | None:
    """Read a name; None when it is none of this mission. Raises RecordRejected, ValueError (see `ingest.identity.parse`)."""
    match = _NAME.fullmatch(stem)
    if match is None:
        return None
    kind, mode = match["type"], match["mode"]
    if kind not in TYPES:
        raise RecordRejected("product-type-unsupported", f"no Sentinel-5P product type that is held: {stem[:120]!r}")
    if time_of(match["start"]) > time_of(match["stop"]):
        raise RecordRejected("product-name-unknown", f"ends before it starts: {stem}")
    words = [word for word in kind[4:].strip("_").lower().split("_") if word]
    where = f"{match['orbit']}_NRTI_{match['start']}" if mode == "NRTI" else match["orbit"]
    processor = match["processor"]
    return ProductName(
        stem,
        ".nc",
        "sentinel-5p",
        f"sentinel-5p-l{kind[1]}-{'-'.join(words)}",
        kind,
        acquisition=f"S5P_{kind}_{where}",
        version=f"{mode} {match['collection']} {processor}",
        rank=(_MODES[mode], match["collection"], processor, time_of(match["created"]).isoformat()),
        properties={
            "platform": "sentinel-5p",
            "constellation": "sentinel-5p",
            "instruments": ["tropomi"],
            "product:type": kind,
            "processing:level": f"L{kind[1]}",
            "processing:version": ".".join(str(int(processor[i : i + 2])) for i in (0, 2, 4)),
            "sat:absolute_orbit": int(match["orbit"]),
        },
    )
