"""Items with which plainly nothing is wrong, looked at in a third of the time of `ingest.edits.documents`: what native code can see at once
is seen at once, and members are not looked at one by one.

Nothing is refused here: of an item that is not plain, or in which something may be wrong, others say so. What is plain is stored as they
would store it, but for the order of members; a test holds both against each other.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import orjson
from msgspec import UNSET, Meta, Struct, UnsetType

from ingest.edits.documents import checked_item
from ingest.edits.geometry import checked_bbox, checked_geometry
from ingest.edits.hrefs import are_plain_urls, check_links, named_uploads
from ingest.edits.models import are_urls
from ingest.edits.texts import doubtful, is_good, with_null
from ingest.errors import EditRefused
from ingest.model import JSON
from ingest.packing import OWN_RELS, pack, pack_text, without_nulls
from ingest.rows import ewkb, item_range
from ingest.sanitise import MAX_BYTES, MAX_DEPTH, YEARS, is_deep
from lineage.canonical import SERVICE_MADE, item_sha256

Text = Annotated[str, Meta(min_length=1)]


class _Alternate(Struct):
    href: str | UnsetType = UNSET


class _Asset(Struct):
    href: Text
    type: str | None = None
    title: str | None = None
    description: str | None = None
    roles: list[str] | None = None
    alternate: dict[str, _Alternate] | None = None


class _Link(Struct):
    href: Text
    rel: Text
    type: str | None = None
    title: str | None = None
    description: str | None = None


class _Provider(Struct):
    name: Text
    description: str | None = None
    roles: list[str] | None = None
    url: str | None = None


class _Properties(Struct):
    datetime: str | None = None
    created: str | None = None
    updated: str | None = None
    start_datetime: str | None = None
    end_datetime: str | None = None
    title: str | None = None
    description: str | None = None
    license: str | None = None
    providers: list[_Provider] | None = None
    platform: str | None = None
    instruments: list[str] | None = None
    constellation: str | None = None
    mission: str | None = None
    gsd: Annotated[float, Meta(gt=0)] | None = None


class _Item(Struct):
    """What stac-pydantic's model asks of an item, and less than it takes."""

    type: Literal["Feature"]
    stac_version: Literal["1.0.0", "1.1.0"]
    id: str
    collection: str
    geometry: dict[str, Any]
    properties: _Properties
    assets: dict[str, _Asset]
    links: list[_Link]
    stac_extensions: list[str] = []


#: A time in UTC as all readers take it.
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|\+00:00)", re.ASCII)
_RESERVED = frozenset({"private", "pgstac:base_item"})
_EXACT = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER
#: What may be in an item besides what is measured, for sure.
_ROOM = 2_000


def _levels() -> int:
    """How deep lists and objects nest at most in what orjson writes."""
    value: list[Any] = []
    for levels in range(1000):
        try:
            orjson.dumps(value)
        except TypeError:
            return levels
        value = [value]
    raise RuntimeError("orjson writes what nests without an end")


#: Lists around a value with which orjson refuses it when it nests deeper than `MAX_DEPTH`: to see that costs nothing then.
_AROUND = _levels() - MAX_DEPTH


class _Nest(threading.local):
    """So many lists, one in the other."""

    def __init__(self) -> None:
        self.innermost: list[Any] = []
        self.outermost = self.innermost
        for _ in range(_AROUND - 1):
            self.outermost = [self.outermost]


_nest = _Nest()


@dataclass(frozen=True, slots=True)
class Prepared:
    """An item that may be stored, and what is made of it.

    Attributes:
        start, end: as `ingest.rows.item_range`.
        sha256: its hash for the log.
        packed: see `ingest.packing`.
        footprint: EWKB; whether it is valid is asked of many at once (`ingest.edits.geometry.are_valid`).
        uploads: those that its assets name.
    """

    item: JSON
    start: datetime
    end: datetime
    sha256: str
    packed: bytes | None
    footprint: bytes
    uploads: Set[UUID]


@dataclass(slots=True)
class _Seen:
    """An item that was looked at but for its texts: all that is hashed, and its links as they were sent."""

    item: JSON
    version: str
    times: tuple[datetime, datetime]
    text: bytes
    links: bytes
    footprint: bytes
    uploads: Set[UUID]


def prepared(documents: Sequence[tuple[str, Any]], collection: str, own_root: str) -> list[Prepared]:
    """Return items that JSON was read to, with their ids, as they are to be stored (the rest, and what is raised, as of `checked_item`)."""
    found = plain_items(documents, collection, own_root)
    return [
        plain or _closely(document, collection, item_id, own_root)
        for (item_id, document), plain in zip(documents, found, strict=True)
    ]


def _closely(document: Any, collection: str, item_id: str, own_root: str) -> Prepared:
    item = checked_item(document, collection, item_id, own_root=own_root)
    return Prepared(
        item, *item_range(item), item_sha256(item), pack(item), ewkb(item["geometry"]), named_uploads([item])
    )  # fmt: skip


def plain_items(documents: Sequence[tuple[str, Any]], collection: str, own_root: str) -> list[Prepared | None]:
    """The same of those that are plain and whose id is valid; None where somebody else has to look.

    Some at once: what is done with one after the other is found in the processor's caches.
    """
    seen = [_looked_at(document, collection, item_id, own_root) for item_id, document in documents]
    plain = [one for one in seen if one is not None]
    _drop_nulls(plain)
    made = iter(
        [_made(one, is_doubtful) for one, is_doubtful in zip(plain, doubtful([one.text for one in plain]), strict=True)]
    )
    return [None if one is None else next(made) for one in seen]


def _looked_at(document: Any, collection: str, item_id: str, own_root: str) -> _Seen | None:
    if not isinstance(document, dict) or not _RESERVED.isdisjoint(document):
        return None
    item: JSON = {"links": [], "assets": {}, "collection": collection, "id": item_id, **document}
    try:
        told = msgspec.convert(item, _Item)
        if (told.id, told.collection) != (item_id, collection) or not are_urls(told.stac_extensions):
            return None
        return _seen(item, told, own_root)
    except (msgspec.ValidationError, EditRefused, TypeError, RecursionError):
        return None


def _seen(item: JSON, told: _Item, own_root: str) -> _Seen | None:
    """Raises EditRefused, TypeError (an integer beyond 2^53, or too many levels)."""
    times, hrefs = _times(told.properties), list(_hrefs(told))
    placed = _placed(item["geometry"])
    if times is None or placed is None or not are_plain_urls(hrefs) or is_deep([item["links"]]):
        return None
    check_links(item, own_root)
    item["geometry"], footprint = placed
    item["bbox"] = checked_bbox(item.get("bbox"), item["geometry"])
    links = orjson.dumps(item["links"], option=_EXACT)
    item["links"] = [link for link in item["links"] if link["rel"] not in OWN_RELS]
    text = _text(item)
    if not is_good(text) or not is_good(links) or len(text) + len(links) > MAX_BYTES - _ROOM:
        return None
    uploads = named_uploads([item]) if "/uploads/" in "\n".join(hrefs) else frozenset[UUID]()
    return _Seen(item, told.stac_version, times, text, links, footprint, uploads)


def _drop_nulls(seen: Sequence[_Seen]) -> None:
    texts, links = with_null([one.text for one in seen]), with_null([one.links for one in seen])
    for one, *is_there in zip(seen, texts, links, strict=True):
        if any(is_there):
            one.item = without_nulls(one.item)
            one.text = _text(one.item)


def _made(seen: _Seen, is_doubtful: bool) -> Prepared:
    sha256 = item_sha256(seen.item) if is_doubtful else hashlib.sha256(seen.text).hexdigest()
    packed = pack_text(b'{"stac_version":"%s",%s' % (seen.version.encode(), seen.text[1:]), seen.item["links"])
    return Prepared(seen.item, *seen.times, sha256, packed, seen.footprint, seen.uploads)


def _text(item: JSON) -> bytes:
    """What is hashed of an item: all but links and version. Raises TypeError: it nests deeper than `MAX_DEPTH`, or as `_plain`."""
    _nest.innermost.append({name: value for name, value in item.items() if name not in SERVICE_MADE})
    try:
        return orjson.dumps(_nest.outermost, option=_EXACT)[_AROUND:-_AROUND]
    finally:
        _nest.innermost.clear()


def _times(properties: _Properties) -> tuple[datetime, datetime] | None:
    """First and last instant, when all times are plain and there is a `datetime`."""
    start, end = properties.start_datetime, properties.end_datetime
    if properties.datetime is None or (start is None) != (end is None):
        return None
    found: dict[str | None, datetime] = {}
    for text in {properties.datetime, start, end, properties.created, properties.updated}:
        if text is None:
            continue
        if not _TIME.fullmatch(text):
            return None
        try:
            found[text] = when = datetime.fromisoformat(text)
        except ValueError:
            return None
        if not YEARS[0] <= when.year < YEARS[1]:
            return None
    first, last = (found[properties.datetime],) * 2 if start is None else (found[start], found[end])
    return (first, last) if first <= last else None


def _hrefs(told: _Item) -> Iterator[str]:
    for asset in told.assets.values():
        yield asset.href
        if asset.alternate:
            yield from [other.href for other in asset.alternate.values() if other.href is not UNSET]


def _placed(geometry: JSON) -> tuple[JSON, bytes] | None:
    """A geometry as it is stored, and its EWKB; None when it has other members."""
    if len(geometry) != 2 or "coordinates" not in geometry or "type" not in geometry:
        return None
    if geometry["type"] == "Polygon" and _are_plain_rings(geometry["coordinates"]):
        return geometry, ewkb(geometry)
    checked = checked_geometry(geometry)
    return checked, ewkb(checked)


def _are_plain_rings(rings: Any) -> bool:
    """Whether these are closed rings of positions on the Earth without heights, each number a float that is not whole."""
    if type(rings) is not list or not rings:
        return False
    for ring in rings:
        if type(ring) is not list or len(ring) < 4 or ring[0] != ring[-1]:
            return False
        if set(map(type, ring)) != {list} or set(map(len, ring)) != {2}:
            return False
        numbers = list(chain.from_iterable(ring))
        if set(map(type, numbers)) != {float} or any(map(float.is_integer, numbers)):
            return False
        lons, lats = numbers[::2], numbers[1::2]
        if min(lons) < -180 or max(lons) > 180 or min(lats) < -90 or max(lats) > 90:
            return False
    return True
