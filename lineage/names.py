"""What product names tell for lineage, and the ids of entities. Pure.

Sentinel-1: "Sentinel-1 Product Specification" S1-RS-MDA-52-7441, 2.2; Sentinel-2: "Sentinel-2 Products Specification Document" 3.4.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

#: The id of an entity as PostgreSQL writes a uuid. The fold works with these: to make, compare and write a `UUID` takes ten times as long.
Key = str

_TIME = r"\d{8}T\d{6}"
#: The events of a batch ask for each of their names several times.
_KEPT = 40_000
_SUFFIXES = (".zip", ".SAFE", ".SEN3", ".EOF", ".xml")
_S2 = re.compile(
    rf"(?P<platform>S2[A-D])_MSI(?P<level>L1C|L2A)_(?P<start>{_TIME})(?:_N(?P<baseline>\d{{4}}))?_R(?P<orbit>\d{{3}})"
    rf"_T(?P<tile>[0-9]{{2}}[A-Z]{{3}})_(?P<made>{_TIME})",
    re.ASCII,
)
_S1 = re.compile(
    rf"(?P<platform>S1[A-D])_(?P<mode>[A-Z0-9]{{2}})_(?P<type>RAW|SLC|GRD|SL1|OCN)(?P<resolution>[FHM_0-9])_(?P<class>[0-2_])"
    rf"(?P<polarisation>[SA_][SDHV][HV]|_[DSHV][HV])_(?P<start>{_TIME})_(?P<end>{_TIME})_(?P<orbit>\d{{6}})_(?P<datatake>[0-9A-F]{{6}})"
    rf"_(?P<unique>[0-9A-F]{{4}})(?P<cog>_COG)?",
    re.ASCII,
)


class Name(NamedTuple):
    """A Sentinel product's name.

    Attributes:
        stem: without suffix.
        family: products of which one may be the parent of another share it.
        level: "L1C", "L2A"; "RAW", "SLC", "GRD", "OCN" of Sentinel-1.
        start, end: sensing times; `end` equals `start` where the name has one only.
        baseline: "0509", "" when the name does not tell it, or of Sentinel-1.
        made: when the product was made, of Sentinel-2; None of Sentinel-1.
        twin: of Sentinel-1: all but the last four digits and what follows; what the twins of one product share.
    """

    stem: str
    family: str
    level: str
    start: datetime
    end: datetime
    baseline: str = ""
    made: datetime | None = None
    twin: str = ""
    is_cog: bool = False


@lru_cache(maxsize=_KEPT)
def stem_of(name: str) -> str:
    """The name without directories and without the suffixes of delivered files."""
    stem = name.rstrip("/").rsplit("/", 1)[-1]
    while stem.endswith(_SUFFIXES):
        for suffix in _SUFFIXES:
            if stem.endswith(suffix) and len(stem) > len(suffix):
                stem = stem[: -len(suffix)]
                break
        else:
            return stem
    return stem


@lru_cache(maxsize=_KEPT)
def read(stem: str) -> Name | None:
    """Read a name; None for what has no rules here."""
    try:
        if stem.startswith("S2") and (match := _S2.fullmatch(stem)):
            platform, level, sensed, baseline, orbit, tile, made = match.groups()
            start = _time(sensed)
            return Name(
                stem, f"S2/{platform}_{sensed}_R{orbit}_T{tile}", level, start, start, baseline or "", _time(made)
            )
        if stem.startswith("S1") and (match := _S1.fullmatch(stem)):
            family = f"S1/{match['platform']}_{match['orbit']}_{match['datatake']}"
            twin = stem.removesuffix("_COG")[:-5]
            start, end = _time(match["start"]), _time(match["end"])
            return Name(stem, family, match["type"], start, end, twin=twin, is_cog=match["cog"] is not None)
    except ValueError:  # a day that no calendar has
        return None
    return None


def _time(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}Z")


def _key(*words: str) -> Key:
    """128 bits of SHA-256: the same words, the same id, on every machine and at every rebuild."""
    digest = hashlib.sha256("\0".join(words).encode("utf-8", "replace")).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:32]}"


@lru_cache(maxsize=_KEPT)
def product_key(name: str) -> Key:
    """Of a product by its name, whoever holds it."""
    stem = stem_of(name)
    return _key("product", stem) if stem == name else product_key(stem)


@lru_cache(maxsize=_KEPT)
def item_key(collection: str, item: str) -> Key:
    """Of an item of our own."""
    return _key("item", collection, item)


def file_key(algorithm: str, digest: str) -> Key:
    """Of bytes by their hash (hex)."""
    return _key("file", algorithm.upper(), digest.lower())


def dataset_key(namespace: str, name: str, owner: str) -> Key:
    """Of what a run of `owner` named and nobody knows otherwise."""
    return _key("dataset", owner, namespace, name)


def product_id(name: str) -> UUID:
    """`product_key` as the rest of the service has ids."""
    return UUID(product_key(name))


def item_id(collection: str, item: str) -> UUID:
    """`item_key` as the rest of the service has ids."""
    return UUID(item_key(collection, item))


def file_id(algorithm: str, digest: str) -> UUID:
    """`file_key` as the rest of the service has ids."""
    return UUID(file_key(algorithm, digest))


def dataset_id(namespace: str, name: str, owner: str) -> UUID:
    """`dataset_key` as the rest of the service has ids."""
    return UUID(dataset_key(namespace, name, owner))
