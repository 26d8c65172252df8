"""Rules R1-R8: who is whose parent, how we know, and how surely. Pure.

The confidences are starting values; whoever changes one raises the rule's version, which every edge carries. Evidence for the Sentinel-2
rules: names and tile metadata of 16 products, 13 of them L2A (tests/lineage/samples of parentage); nothing was found that tells
more of products from before December 2016.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from lineage.names import Name, read

EXPLICIT, DECLARED, INFERRED = "explicit", "declared", "inferred"
ASSERTIONS = (EXPLICIT, DECLARED, INFERRED)
INPUT, AUX, COPY_OF, REVISION_OF, ALTERNATE_OF = "input", "aux", "copy_of", "revision_of", "alternate_of"
ROLES = (INPUT, AUX, COPY_OF, REVISION_OF, ALTERNATE_OF)
#: An assertion replaces one that is as strong or weaker.
STRENGTH = {INFERRED: 0, DECLARED: 1, EXPLICIT: 2}


@dataclass(frozen=True, slots=True)
class Rule:
    """How an edge came to be: its id with version, and what it is worth."""

    id: str
    assertion: str
    confidence: float


R1 = Rule("R1/1", EXPLICIT, 1.0)  # named by hash, by a trace or by our own run
R2 = Rule("R2/1", DECLARED, 0.99)  # named in the product's metadata, or by who uploaded it
R3_FOUND = Rule("R3/1", DECLARED, 0.98)  # by the tile's id in MTD_TL.xml, and the catalogue has it
R3_NEAR = Rule("R3/1", DECLARED, 0.90)  # its time is a second or two off
R3_UNSEEN = Rule("R3/1", DECLARED, 0.80)  # no catalogue has it
R4 = Rule("R4/1", INFERRED, 0.95)  # one candidate by name, baselines equal
R5 = Rule("R5/1", INFERRED, 0.85)  # several, of one origin; the latest that is not later
R6 = Rule("R6/1", INFERRED, 0.60)  # baselines differ, or the origins do or are unknown
R7 = Rule("R7/1", INFERRED, 0.50)  # the datatake and the times only
R8 = Rule("R8/1", INFERRED, 0.70)  # the cloud-optimised twin by its name
V1 = Rule("V1/1", INFERRED, 0.95)  # versions of one acquisition, by name and footprint (ingest/versions.py)

_TILE_ID = re.compile(
    r"(S2[A-D])_OPER_MSI_L1C_TL_.{4}_(\d{8}T\d{6})_A\d{6}_T([0-9]{2}[A-Z]{3})_N(\d{2})\.(\d{2})", re.ASCII
)
_NEAR = timedelta(seconds=2)
#: Sentinel-1: what a product of a type is made of.
_MADE_OF = {"OCN": "SLC", "GRD": "SLC", "SLC": "RAW", "SL1": "RAW"}


def parent_of_tile(child: Name, l1c_tile_id: str) -> str | None:
    """The name of the L1C product that has this tile, without suffix; None when id or product have no such form, or disagree.

    Names before November 2016 had no baseline in this place, so for them the name that is built here is not in any catalogue.
    """
    match = _TILE_ID.fullmatch(l1c_tile_id)
    if match is None or child.level != "L2A":
        return None
    platform, made, tile, major, minor = match.groups()
    head, orbit, own_tile = re.fullmatch(r"S2/(\w{4,}T\d{6})_R(\d{3})_T(\w{5})", child.family).groups()  # type: ignore[union-attr]
    if not head.startswith(f"{platform}_") or tile != own_tile:
        return None
    return f"{platform}_MSIL1C_{head[4:]}_N{major}{minor}_R{orbit}_T{tile}_{made}"


def tile_rule(wanted: str, candidates: Iterable[Name]) -> tuple[str, Rule]:
    """R3: the product that is meant by a built name, of those that the catalogue has, and how sure that is."""
    name = read(wanted)
    near: list[tuple[timedelta, str]] = []
    for one in candidates:
        if one.stem == wanted:
            return wanted, R3_FOUND
        if name and name.made and one.made and one.level == name.level and one.family == name.family:
            off = abs(one.made - name.made)
            if off <= _NEAR and one.baseline in (name.baseline, ""):
                near.append((off, one.stem))
    return (min(near)[1], R3_NEAR) if near else (wanted, R3_UNSEEN)


def inferred_parent(
    child: Name, members: Sequence[Name], origins: dict[str, str] | None = None
) -> tuple[str, str, Rule] | None:
    """(stem of the parent, role, rule) by names alone; None when nothing fits.

    Args:
        members: all known products of the child's family.
        origins: who made each product, by stem, where that is known.
    """
    if child.level == "L2A":
        return _l1c_of(child, members, origins or {})
    if child.is_cog:
        twins = sorted(one.stem for one in members if one.twin == child.twin and not one.is_cog)
        if twins:
            return twins[0], ALTERNATE_OF, R8
    wanted = _MADE_OF.get(child.level)
    if wanted is None:
        return None
    fits = [one for one in members if one.level == wanted and one.stem != child.stem and _overlap_s(child, one) > 0]
    if not fits:
        return None
    best = max(fits, key=lambda one: (_overlap_s(child, one), not one.is_cog, one.stem))
    return best.stem, INPUT, R7


def _overlap_s(one: Name, other: Name) -> float:
    return (min(one.end, other.end) - max(one.start, other.start)).total_seconds()


def _l1c_of(child: Name, members: Sequence[Name], origins: dict[str, str]) -> tuple[str, str, Rule] | None:
    made: datetime | None = child.made
    assert made is not None
    fits = [one for one in members if one.level == "L1C" and one.made is not None and one.made <= made]
    if not fits:
        return None
    origin = origins.get(child.stem)
    if len(fits) == 1:
        is_equal = fits[0].baseline == child.baseline != ""
        return fits[0].stem, INPUT, R4 if is_equal else R6
    alike = [one for one in fits if origin and origins.get(one.stem) == origin]
    best = max(alike or fits, key=lambda one: (one.made, one.stem))
    return best.stem, INPUT, R5 if alike and best.baseline == child.baseline != "" else R6
