"""Sentinel-2 L1C and L2A. Rules: "Sentinel-2 Products Specification Document" (S2-PDGS-TAS-DI-PSD) 3.4.

`MMM_MSIXXX_<datatake start>_Nxxyy_ROOO_Txxxxx_<discriminator>`. Planetary Computer leaves `_Nxxyy` out. Products of one acquisition that
differ in the discriminator only may be two parts of a tile: whether they are versions is for their footprints to say.
"""

from __future__ import annotations

import re

from ingest.errors import RecordRejected
from ingest.identity.name import TIME, ProductName, time_of, utm_code

_NAME = re.compile(
    rf"(?P<platform>S2[A-D])_MSI(?P<level>L1C|L2A)_(?P<start>{TIME})(?:_N(?P<baseline>[0-9]{{4}}))?_R(?P<orbit>[0-9]{{3}})"
    rf"_T(?P<tile>(?:0[1-9]|[1-5][0-9]|60)[C-HJ-NP-X][A-HJ-NP-Z][A-HJ-NP-V])_(?P<discriminator>{TIME})", re.ASCII,
)  # fmt: skip


def read(stem: str) -> ProductName | None:
    """Read a name; None when it is none of this mission. Raises RecordRejected, ValueError (see `ingest.identity.parse`)."""
    match = _NAME.fullmatch(stem)
    if match is None:
        if re.match(r"S2[A-D]_MSI", stem):
            raise RecordRejected("product-type-unsupported", f"neither Sentinel-2 L1C nor L2A: {stem[:120]!r}")
        return None
    platform, level, tile, digits = match["platform"], match["level"], match["tile"], match["baseline"] or ""
    time_of(match["start"])
    made = time_of(match["discriminator"])
    baseline = f"{digits[:2]}.{digits[2:]}" if digits else ""
    if baseline.startswith("99"):
        raise RecordRejected("test-data", f"baseline {baseline} marks test data: {stem}")
    if not 1 <= int(match["orbit"]) <= 143:  # orbits of one repeat cycle
        raise RecordRejected("product-name-unknown", f"no relative orbit {match['orbit']}: {stem}")
    return ProductName(
        stem,
        ".SAFE",
        "sentinel-2",
        f"sentinel-2-{level.lower()}",
        "S2MSI1C" if level == "L1C" else "S2MSI2A",
        acquisition=f"{platform}_MSI{level}_{match['start']}_R{match['orbit']}_T{tile}",
        version=f"{baseline} {match['discriminator']}" if baseline else match["discriminator"],
        rank=(baseline, made.isoformat()),
        is_partial=not baseline,
        properties={
            "platform": f"sentinel-{platform[1:].lower()}",
            "constellation": "sentinel-2",
            "instruments": ["msi"],
            "product:type": "S2MSI1C" if level == "L1C" else "S2MSI2A",
            "processing:level": "L1" if level == "L1C" else "L2",
            **({"processing:version": baseline} if baseline else {}),
            "sat:relative_orbit": int(match["orbit"]),
            "grid:code": f"MGRS-{tile}",
            "proj:code": utm_code(tile),
            "gsd": 10,
        },
    )
