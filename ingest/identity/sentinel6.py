"""Sentinel-6 Michael Freilich altimetry. Rules: "Sentinel-6/Jason-CS ALT Generic Product Format Specification"
(EUM/LEO-JASCS/SPE/17/901187) 4.

`MMM_<type>_<start>_<stop>_<created>_<duration>_<cycle>_<pass>_<pass>_<centre>_<class>_<timeliness>_<baseline>`.
"""

from __future__ import annotations

import re

from ingest.errors import RecordRejected
from ingest.identity.name import TIME, ProductName, time_of
from ingest.identity.sentinel3 import TIMELINESS

_NAME = re.compile(
    rf"(?P<platform>S6[A-C])_(?P<type>[A-Z0-9]{{2}}_[A-Z0-9_]{{2}}_[A-Z0-9_]{{7}})_(?P<start>{TIME})_(?P<stop>{TIME})_(?P<created>{TIME})"
    r"_[0-9]{4}_(?P<cycle>[0-9]{3})_(?P<pass>[0-9]{3})_(?P<last>[0-9]{3})_(?P<centre>[A-Z0-9_]{4})_(?P<klass>[A-Z]{3})"
    r"_(?P<timeliness>NR|ST|NT)_(?P<baseline>[A-Z][0-9]{2})",
    re.ASCII,
)
COLLECTIONS = {"P4_1B": "sentinel-6-p4-1b", "P4_2_": "sentinel-6-p4-2", "MW_2_": "sentinel-6-amr-c"}


def read(stem: str) -> ProductName | None:
    """Read a name; None when it is none of this mission. Raises RecordRejected, ValueError (see `ingest.identity.parse`)."""
    match = _NAME.fullmatch(stem)
    if match is None:
        return None
    kind, platform = match["type"], match["platform"]
    if kind[:5] not in COLLECTIONS:
        raise RecordRejected("product-type-unsupported", f"no Sentinel-6 product type that is held: {stem[:120]!r}")
    if time_of(match["start"]) > time_of(match["stop"]):
        raise RecordRejected("product-name-unknown", f"ends before it starts: {stem}")
    order, category, duration = TIMELINESS[match["timeliness"]]
    return ProductName(
        stem,
        ".SEN6",
        "sentinel-6",
        COLLECTIONS[kind[:5]],
        kind,
        acquisition=f"{platform}_{kind}_{match['cycle']}_{match['pass']}_{match['last']}_{match['start']}",
        version=match["baseline"],
        rank=(order, match["baseline"], time_of(match["created"]).isoformat(), match["centre"]),
        properties={
            "platform": f"sentinel-{platform[1:].lower()}",
            "constellation": "sentinel-6",
            "product:type": kind,
            "product:timeliness": duration,
            "product:timeliness_category": category,
            "processing:level": f"L{kind[3]}",
            "sat:orbit_cycle": int(match["cycle"]),
        },
    )
