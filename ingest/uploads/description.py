"""What a user may say of a raster beyond title and time. Pure: from a form to a checked, plain JSON object.

    {"description": "...", "start_datetime": "...", "end_datetime": "...", "license": "CC-BY-4.0", "keywords": ["..."],
     "bands": [{"name": "B04", "common_name": "red", "description": "..."}], "derived_from": ["S2A_MSIL2A_...", "sha256:<hex>"],
     "crs": "EPSG:32633"}

Every member may be left out; lists may be JSON texts, as tus' metadata know only texts.
`crs` is for files without one, never instead of theirs.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

from ingest.errors import RecordRejected, UploadRejected
from ingest.model import JSON
from ingest.sanitise import parse_time, time_text
from ingest.uploads.text import clean_text

MAX_DESCRIPTION, MAX_KEYWORDS, MAX_KEYWORD, MAX_PARENTS, MAX_BANDS = 10_000, 50, 100, 50, 100
#: The database keeps 65,536 (0014_upload_description.sql); a range of time may be added later.
MAX_BYTES = 65_000
#: eo extension 2.0.
COMMON_NAMES = frozenset({
    "pan", "coastal", "blue", "green", "green05", "yellow", "red", "rededge", "rededge071", "rededge075", "rededge078",
    "nir", "nir08", "nir09", "cirrus", "swir16", "swir22", "lwir", "lwir11", "lwir12",
})  # fmt: skip
_LICENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,79}")
_CRS = re.compile(r"EPSG:[0-9]{4,6}")
_PARENT = re.compile(r"sha256:[0-9a-f]{64}|[A-Za-z0-9._~-]{1,255}")


def _refuse(field: str, why: str, **facts: Any) -> UploadRejected:
    return UploadRejected("INVALID_FIELD", why, field=field, **facts)


def parse(form: JSON) -> JSON:
    """Return what the form says of the raster, checked; members that are none of ours are left to others.

    Raises:
        UploadRejected: INVALID_FIELD, DATETIME_INVALID, with the field.
    """
    told: JSON = {}
    if text := _text(form, "description", MAX_DESCRIPTION, lines=True):
        told["description"] = text
    told |= range_of(form)
    for name, pattern, shape in (
        ("license", _LICENCE, "an SPDX identifier, or `other`"),
        ("crs", _CRS, "an EPSG code such as EPSG:32633"),
    ):
        if (value := form.get(name)) is not None:
            if not isinstance(value, str) or not pattern.fullmatch(value):
                raise _refuse(name, f"{name} is {shape}")
            told[name] = value
    if keywords := _texts(form, "keywords", MAX_KEYWORDS, MAX_KEYWORD):
        told["keywords"] = list(dict.fromkeys(keywords))
    if parents := _texts(form, "derived_from", MAX_PARENTS, 300):
        for parent in parents:
            if not _PARENT.fullmatch(parent):
                raise _refuse("derived_from", "a parent is a product's name, an item's id, or sha256: and 64 digits")
        told["derived_from"] = list(dict.fromkeys(parents))
    if bands := _bands(_listed(form.get("bands"))):
        told["bands"] = bands
    if (size := len(json.dumps(told, ensure_ascii=False).encode())) > MAX_BYTES:  # as jsonb writes it
        raise _refuse(
            "description", f"all that is said of a raster has at most {MAX_BYTES} bytes", limit=MAX_BYTES, actual=size
        )
    return told


def _text(form: JSON, name: str, most: int, *, lines: bool = False) -> str | None:
    value = form.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > most:
        raise _refuse(name, f"{name} is a text of at most {most} characters", limit=most)
    return clean_text(value, most, lines=lines)


def _listed(value: Any) -> Any:
    """A list that came as a JSON text."""
    if isinstance(value, str) and value.startswith("["):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def _texts(form: JSON, name: str, most: int, longest: int) -> list[str]:
    values = _listed(form.get(name))
    if values is None:
        return []
    if not isinstance(values, list) or len(values) > most:
        raise _refuse(name, f"{name} is a list of at most {most} texts", limit=most)
    cleaned = [_text({name: value}, name, longest) for value in values]
    return [text for text in cleaned if text]


def range_of(form: JSON) -> JSON:
    """`start_datetime` and `end_datetime`, both or none. Raises UploadRejected: INVALID_FIELD, DATETIME_INVALID."""
    ends: JSON = {}
    for name in ("start_datetime", "end_datetime"):
        if (value := form.get(name)) is not None:
            try:
                ends[name] = time_text(parse_time(value))
            except RecordRejected as error:
                raise UploadRejected("DATETIME_INVALID", str(error), field=name) from None
    if len(ends) == 1:
        raise _refuse(next(iter(ends)), "a range of time has start_datetime and end_datetime")
    if ends and ends["start_datetime"] > ends["end_datetime"]:
        raise UploadRejected("DATETIME_INVALID", "start_datetime is after end_datetime", field="start_datetime")
    return ends


def _bands(value: Any) -> list[JSON]:
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > MAX_BANDS or not all(isinstance(one, dict) for one in value):
        raise _refuse("bands", f"bands is a list of at most {MAX_BANDS} objects", limit=MAX_BANDS)
    return [_band(one) for one in value]


def _band(one: JSON) -> JSON:
    band: JSON = {}
    if name := _text(one, "name", 100):
        band["name"] = name
    if text := _text(one, "description", 1000):
        band["description"] = text
    if (common := one.get("common_name")) is not None:
        if not isinstance(common, str) or common not in COMMON_NAMES:
            raise _refuse("bands", f"{str(common)[:40]!r} is no common name of the eo extension")
        band["common_name"] = common
    return band


def parent_keys(told: JSON) -> tuple[list[str], list[bytes]]:
    """Parents as (names, SHA-256 digests)."""
    parents = told.get("derived_from", [])
    digests = [bytes.fromhex(parent.removeprefix("sha256:")) for parent in parents if parent.startswith("sha256:")]
    return [parent for parent in parents if not parent.startswith("sha256:")], digests
