"""Holdings of one acquisition become its items: one for each version, each with the copies that providers hold of it. Pure.

The outcome depends on the set of holdings alone, not on the order in which they came. Rules, from the missions' names (`ingest.identity`):

- Names with one `version` are deliveries of one product: the highest `rank` is the item, the others stay as holdings only.
- A name that does not tell its version (a COG twin, a provider that shortens names) joins the only version that it can be of. When there
  are several it stays an item of its own: a false merge is worse than a missed one.
- Two records of one name at one source are a re-publication: the later one speaks.
- Versions are linked in order; all but the newest are deprecated. Two Sentinel-2 products may be parts of one tile instead: versions are
  those whose footprints agree.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from shapely.geometry import shape

from ingest.identity import ProductName
from ingest.merge import merge
from ingest.model import JSON, Contribution, Source
from ingest.normalise.fields import own_extensions

_NEVER = datetime.max.replace(tzinfo=UTC)
_EVER = datetime.min.replace(tzinfo=UTC)
#: Least overlap (Dice) of the footprints of two versions of a tile: of one baseline, of different ones.
SAME_BASELINE_DICE = 0.99
OTHER_BASELINE_DICE = 0.9


@dataclass(frozen=True, slots=True)
class Held:
    """One source's record of a product."""

    source: Source
    record_id: str
    contribution: Contribution

    @property
    def name(self) -> ProductName:
        return self.contribution.name

    @property
    def key(self) -> tuple[str, str]:
        return self.source.id, self.record_id


@dataclass(slots=True)
class Version:
    """One item and the holdings that stand for it; `members` has the superseded ones too."""

    item: JSON
    name: ProductName
    published: datetime
    members: list[Held] = field(default_factory=list)
    successor_id: str | None = None

    @property
    def id(self) -> str:
        return str(self.item["id"])


def resolve(held: Sequence[Held]) -> list[Version]:
    """Return the items of one acquisition, sorted by id; none when nothing is held."""
    speaking = _latest_records(held)
    versions = [_version(group) for group in _grouped(speaking)]
    of_stem = {(member.name.stem, member.name.part): version for version in versions for member in version.members}
    speaking_keys = {one.key for one in speaking}
    for one in held:
        if one.key not in speaking_keys:
            of_stem[one.name.stem, one.name.part].members.append(one)
    for chain in _chains(versions):
        _link(chain)
    return sorted(versions, key=lambda version: version.id)


def _latest_records(held: Iterable[Held]) -> list[Held]:
    latest: dict[tuple[str, str, str], Held] = {}
    for one in sorted(held, key=lambda one: (one.contribution.published or _EVER, one.record_id)):
        latest[one.source.id, one.name.stem, one.name.part] = one
    return [latest[key] for key in sorted(latest)]


def _grouped(held: Sequence[Held]) -> list[list[Held]]:
    """Holdings by the version that they are of."""
    groups: dict[str, list[Held]] = defaultdict(list)
    partial: dict[str, list[Held]] = defaultdict(list)
    for one in held:
        (partial if one.name.is_partial else groups)[one.name.version].append(one)
    left: list[list[Held]] = []
    for told, ones in sorted(partial.items()):
        candidates = [version for version in groups if version.endswith(told)]
        if len(candidates) == 1:
            groups[candidates[0]] += ones
        elif not candidates and len({one.name.stem for one in ones if one.name.is_cog}) <= 1:
            left.append(ones)
        else:
            left += _by_stem(ones)
    return [*groups.values(), *left]


def _by_stem(ones: Iterable[Held]) -> list[list[Held]]:
    found: dict[str, list[Held]] = defaultdict(list)
    for one in ones:
        found[one.name.stem].append(one)
    return list(found.values())


def _version(group: Sequence[Held]) -> Version:
    best = max((one.name for one in group), key=_goodness)
    speaking = [one for one in group if one.name.stem == best.stem or (one.name.is_partial and _fits(one.name, best))]
    item = merge([(one.source, one.contribution) for one in speaking], best.stem)
    published = [one.contribution.published for one in speaking if one.name.stem == best.stem]
    return Version(item, best, min((when for when in published if when), default=_NEVER), list(group))


def _goodness(name: ProductName) -> tuple[Any, ...]:
    return name.rank, not name.is_partial, name.is_cog, name.stem


def _fits(partial: ProductName, best: ProductName) -> bool:
    """True when nothing that the shorter name tells contradicts the whole one."""
    return all(told in ("", known) for told, known in zip(partial.rank, best.rank, strict=False))


def _chains(versions: Sequence[Version]) -> list[list[Version]]:
    """Versions that follow one another; those that may be anything are in none."""
    sure = [one for one in versions if not one.name.is_partial]
    sure = sure or [one for one in versions if one.name.is_cog]
    sure.sort(key=lambda one: (one.name.rank, one.published, one.id))
    chains: list[list[Version]] = []
    for version in sure:
        chain = next((chain for chain in chains if _are_versions(chain[-1], version)), None)
        if chain is None:
            chains.append([version])
        else:
            chain.append(version)
    return [chain for chain in chains if len(chain) > 1]


def _are_versions(older: Version, newer: Version) -> bool:
    if newer.name.mission != "sentinel-2":
        return True
    same_baseline = older.name.rank[0] == newer.name.rank[0]
    one, other = shape(older.item["geometry"]), shape(newer.item["geometry"])
    dice = 2 * one.intersection(other).area / (one.area + other.area)
    return bool(dice >= (SAME_BASELINE_DICE if same_baseline else OTHER_BASELINE_DICE))


def _link(chain: Sequence[Version]) -> None:
    """Say of each version what came before and after it (version extension 1.2)."""
    for number, version in enumerate(chain):
        item = version.item
        is_newest = number == len(chain) - 1
        item["properties"] |= {"version": version.name.version or version.id, "deprecated": not is_newest}
        if number > 0:
            item["links"].append(_to(chain[number - 1], "predecessor-version"))
        if not is_newest:
            version.successor_id = chain[number + 1].id
            item["links"].append(_to(chain[number + 1], "successor-version"))
            item["links"].append(_to(chain[-1], "latest-version"))
        item["stac_extensions"] = own_extensions(item)


def _to(version: Version, rel: str) -> JSON:
    """A link to another item here; the API resolves it against its own address."""
    href = f"collections/{version.item['collection']}/items/{version.id}"
    return {"rel": rel, "href": href, "type": "application/geo+json", "title": version.id}
