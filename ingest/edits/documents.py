"""Items and collections that callers give: checked and brought into the form in which they are stored. Pure.

STAC 1.0 and 1.1 by stac-pydantic's models, with the looks of `ingest.sanitise`; what the models take and pgstac chokes on is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import ValidationError
from pypgstac.hydration import DO_NOT_MERGE_MARKER
from stac_pydantic import Collection

from ingest.edits.geometry import checked_bbox, checked_geometry
from ingest.edits.hrefs import check_hrefs
from ingest.edits.models import validate_item
from ingest.errors import EditRefused, RecordRejected
from ingest.model import JSON
from ingest.packing import OWN_RELS, without_nulls
from ingest.sanitise import MAX_BYTES, check_content, check_id, item_text, parse_time, pointer, time_of

#: Most wrong places that one refusal names.
MAX_ERRORS = 20
_MARKER = DO_NOT_MERGE_MARKER.encode()
_VERSION = re.compile(r"1\.[01]\.\d+(-[0-9A-Za-z.-]+)?")
#: Members that pgstac keeps for itself.
_RESERVED = ("private", "pgstac:base_item")
#: Datasets of models reach far back and ahead.
_EXTENT_YEARS = (1, 10_000)
_TIMES = ("datetime", "start_datetime", "end_datetime", "created", "updated")
_CODES = {
    "id-invalid": "INVALID_ID",
    "datetime-invalid": "INVALID_DATETIME",
    "content-invalid": "INVALID_CONTENT",
    "too-deep": "TOO_DEEP",
    "too-large": "ITEM_TOO_LARGE",
}
_REASONS = {
    "missing": "is missing",
    "string_type": "is no text",
    "string_too_short": "is empty",
    "string_pattern_mismatch": "has another form",
    "list_type": "is no list",
    "dict_type": "is no object",
    "model_type": "is no object",
    "model_attributes_type": "is no object",
    "literal_error": "has another value",
    "url_parsing": "is no URL",
    "greater_than": "is too small",
}


def checked_item(document: Any, collection: str, item_id: str | None = None, *, own_root: str = "") -> JSON:
    """Return the item as it is to be stored in `collection`, under `item_id` when that is given.

    The collection, the id when it is given, empty `links` and `assets` and the `bbox` are filled in where they are absent; members that
    are null go, as pgstac leaves them out.

    Args:
        own_root: the URL of this service, to which hrefs may lead.

    Raises:
        EditRefused: with `place`; HREF_REFUSED (`ingest.edits.hrefs`); INVALID_ITEM has a list `errors` of {place, message}.
    """
    if not isinstance(document, dict):
        raise EditRefused("INVALID_ITEM", "an item is a JSON object", place="")
    item = {"links": [], "assets": {}, **document}
    _settle(item, "collection", collection, "COLLECTION_MISMATCH")
    if item_id is not None:
        _settle(item, "id", item_id, "ID_MISMATCH")
    for name in _RESERVED:
        if name in item:
            raise EditRefused("MEMBER_RESERVED", f"an item has no member {name}", place=pointer(name))
    if not isinstance(item.get("properties"), dict):
        raise _invalid("INVALID_ITEM", [{"place": "/properties", "message": "is no object"}])
    text = _checked_text(item)
    item["geometry"] = checked_geometry(item.get("geometry"))
    item["bbox"] = checked_bbox(item.get("bbox"), item["geometry"])
    _check_version(item)
    _check_model(validate_item, item, "INVALID_ITEM")
    check_hrefs(item, own_root)
    item["properties"] = _checked_times(item["properties"])
    item["links"] = _stored_links(item["links"])
    return without_nulls(item) if b"null" in text else item


def checked_collection(document: Any, collection_id: str | None = None, *, own_root: str = "") -> JSON:
    """Return the collection as it is to be stored, under `collection_id` when that is given.

    Raises:
        EditRefused: with `place`; HREF_REFUSED (`ingest.edits.hrefs`); INVALID_COLLECTION has a list `errors` of {place, message}.
    """
    if not isinstance(document, dict):
        raise EditRefused("INVALID_COLLECTION", "a collection is a JSON object", place="")
    collection = {"links": [], **document}
    if collection_id is not None:
        _settle(collection, "id", collection_id, "ID_MISMATCH")
    with _translated():
        check_id(collection.get("id"))
    if len(check_plain(collection)) > MAX_BYTES:
        raise EditRefused(
            "COLLECTION_TOO_LARGE", f"a collection has at most {MAX_BYTES} bytes", status=413, limit=MAX_BYTES
        )
    _check_version(collection)
    _check_model(Collection.model_validate, collection, "INVALID_COLLECTION")
    check_hrefs(collection, own_root)
    _check_extent(collection["extent"])
    collection["links"] = _stored_links(collection["links"])
    return collection


def check_plain(value: Any) -> bytes:
    """Look at any JSON that is to become part of an item or collection; returns its text.

    Raises:
        EditRefused: INVALID_CONTENT, TOO_DEEP.
    """
    with _translated():
        return check_content(value)


@contextmanager
def _translated() -> Iterator[None]:
    """Refusals of the sanitiser become those of an edit."""
    try:
        yield
    except RecordRejected as error:
        status = 413 if error.code == "too-large" else 400
        raise EditRefused(_CODES[error.code], str(error), status=status, place=error.place) from None


def _checked_text(item: JSON) -> bytes:
    """The item's JSON, when the sanitiser lets the item pass."""
    with _translated():
        text = item_text(item)
    if _MARKER in text:
        raise EditRefused("INVALID_CONTENT", "a text that pgstac keeps for itself", place="")
    return text


def _settle(document: JSON, name: str, value: str, code: str) -> None:
    """Fill in what the path says, and refuse what contradicts it."""
    if document.get(name) is None:
        document[name] = value
    elif document[name] != value:
        raise EditRefused(code, f"the body's {name} is another one than that of the path", place=pointer(name))


def _check_version(document: JSON) -> None:
    version = document.get("stac_version")
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise EditRefused(
            "STAC_VERSION_UNSUPPORTED", "stac_version is 1.0 or 1.1 with a patch number", place="/stac_version"
        )


def _check_model(validate: Callable[[JSON], object], document: JSON, code: str) -> None:
    try:
        validate(document)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        raise _invalid(code, [_fault(document, fault) for fault in faults[:MAX_ERRORS]]) from None


def _invalid(code: str, errors: list[dict[str, str]]) -> EditRefused:
    words = "; ".join(f"{one['place'] or 'the document'} {one['message']}" for one in errors[:3])
    return EditRefused(code, words, place=errors[0]["place"], errors=errors)


def _fault(document: JSON, fault: Any) -> dict[str, str]:
    """Where in the document, and what in words of ours. Steps that are pydantic's own (names of models in a union) are left out."""
    here: Any = document
    parts: list[str | int] = []
    for number, step in enumerate(fault["loc"]):
        is_there = (isinstance(here, dict) and step in here) or (
            isinstance(here, list) and isinstance(step, int) and step < len(here)
        )
        if is_there:
            here = here[step]
            parts.append(step)
        elif number == len(fault["loc"]) - 1 and fault["type"] == "missing":
            parts.append(step)
    return {"place": pointer(*parts), "message": _REASONS.get(fault["type"], "is not valid")}


def _checked_times(properties: JSON) -> JSON:
    """Look at times that the models read generously (those that say when the item is from were looked at before).

    RFC 3339 takes "t" and "z", most readers do not: these are stored in upper case.
    """
    with _translated():
        for name in ("created", "updated"):
            if properties.get(name) is not None:
                time_of(properties, name)
    small = {name for name in _TIMES if isinstance(properties.get(name), str) and not properties[name].isupper()}
    return properties | {name: properties[name].upper() for name in small}


def _check_extent(extent: JSON) -> None:
    for number, box in enumerate(extent["spatial"]["bbox"]):
        half = len(box) // 2
        west, south, east, north = box[0], box[1], box[half], box[half + 1]
        if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90):
            place = pointer("extent", "spatial", "bbox", number)
            raise EditRefused(
                "INVALID_EXTENT", "a bbox is west, south, east, north in degrees, south not above north", place=place
            )
    for number, interval in enumerate(extent["temporal"]["interval"]):
        for side, when in enumerate(interval):
            try:
                if when is not None:
                    parse_time(when, _EXTENT_YEARS)
            except RecordRejected:
                place = pointer("extent", "temporal", "interval", number, side)
                raise EditRefused(
                    "INVALID_EXTENT", "a time is RFC 3339 with zone, or null for an open end", place=place
                ) from None


def _stored_links(links: list[JSON]) -> list[JSON]:
    """Links but those that say where the document is: these are made when it is read."""
    return [link for link in links if link.get("rel") not in OWN_RELS]
