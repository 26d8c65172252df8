"""What a source says anew of a product that it offered before under the same name: other bytes, a new record, changed properties. Pure.

A source that makes a product's archive anew keeps its name and changes its checksum (CDSE did so for all of Sentinel-5P in 2024). Checksums
of one algorithm decide; where there is no such pair, as when an MD5 gives way to a BLAKE3, the sizes do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ingest.model import JSON
from ingest.versions import Held
from lineage import multihash

#: Entries of each list in an event's body.
MOST_LISTED = 100
_EVER = datetime.min.replace(tzinfo=UTC)
#: The product as one file, whose size and checksums are the product's.
PRODUCT = "Product"


@dataclass(frozen=True, slots=True)
class Republication:
    """The record that spoke before, and how the one that speaks now differs from it.

    Attributes:
        before, now: records of one name at one source.
        assets: keys of the files whose bytes are others now.
        changed: names of the properties that came, went or changed.
    """

    before: Held
    now: Held
    assets: tuple[str, ...]
    changed: tuple[str, ...]

    @property
    def is_replaced(self) -> bool:
        """True when bytes are others under the same name."""
        return bool(self.assets)

    def facts(self) -> JSON:
        """Members of an event's body: `changed`; `republished` when the record is another; `replaces` when bytes are others."""
        told: JSON = {"changed": list(self.changed[:MOST_LISTED])} if self.changed else {}
        earlier = {"record_id": self.before.record_id}
        if published := self.before.contribution.published:
            earlier["published"] = published.isoformat()
        if self.before.record_id != self.now.record_id:
            told["republished"] = earlier
        if self.is_replaced:
            told["replaces"] = {
                **earlier, **product_facts(self.before.contribution.item), "assets": list(self.assets[:MOST_LISTED]),
            }  # fmt: skip
        return told


def republications(
    fresh: Iterable[Held], members: Sequence[Held], stored: Mapping[tuple[str, str, str], Held]
) -> list[Republication]:
    """Compare the records that came with those that spoke before; one that an even later record outdoes is left out.

    Args:
        fresh: new or changed records of one item.
        members: all records of that item as they are now, `fresh` ones among them.
        stored: the record that spoke before, by `name_of`; of names that nobody held there is none.
    """
    found = []
    for one in fresh:
        alike = [other for other in members if name_of(other) == name_of(one)]
        if max(alike, key=lateness) is not one:
            continue
        others = [other for other in alike if other is not one]
        before = stored.get(name_of(one)) or max(others, key=lateness, default=None)
        if before is not None and before.contribution.item != one.contribution.item:
            found.append(_compared(before, one))
    return sorted(found, key=lambda one: (not one.is_replaced, one.now.record_id))


def name_of(held: Held) -> tuple[str, str, str]:
    """What two records of one product at one source share."""
    return held.source.id, held.name.stem, held.name.part


def lateness(held: Held) -> tuple[datetime, str]:
    """The later of two records of one name speaks, as in `ingest.versions`."""
    return held.contribution.published or _EVER, held.record_id


def _compared(before: Held, now: Held) -> Republication:
    old, new = before.contribution.item, now.contribution.item
    assets = [key for key in new.get("assets", {}) if key in old.get("assets", {}) and _differ(key, old, new)]
    properties = old["properties"].keys() | new["properties"].keys()
    changed = [name for name in properties if old["properties"].get(name) != new["properties"].get(name)]
    return Republication(before, now, tuple(sorted(assets)), tuple(sorted(changed)))


def _differ(key: str, old: JSON, new: JSON) -> bool:
    """True when the bytes of a file are surely others."""
    one, other = old["assets"][key], new["assets"][key]
    first, second = _hash(one), _hash(other)
    if first and second and first[0] == second[0]:
        return first != second
    sizes = one.get("file:size"), other.get("file:size")
    return key == PRODUCT and None not in sizes and sizes[0] != sizes[1]


def _hash(asset: JSON) -> tuple[str, str] | None:
    """(algorithm, digest) of a file; None for none, or one that says nothing: an MD5 code with 32 bytes occurs upstream."""
    try:
        return multihash.decode(str(asset.get("file:checksum", "")))
    except ValueError:
        return None


def product_facts(item: JSON) -> JSON:
    """Size in bytes and hash of the whole product, where the source says them."""
    asset = item.get("assets", {}).get(PRODUCT, {})
    facts: JSON = {}
    size = asset.get("file:size")
    if isinstance(size, int) and 0 < size < 2**53:
        facts["size"] = size
    if told := _hash(asset):
        facts["hashes"] = [{"alg": told[0], "digest": told[1]}]
    return facts
