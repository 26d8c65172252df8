"""What GDAL's metadata in a TIFF (tag 42112, XML) may say. GDAL opens files that they name: nothing of ours may.

Searched as text, not parsed: GDAL's parser takes what XML parsers refuse. All the text is left behind when we write our COG.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from ingest.errors import UploadRejected
from ingest.uploads.raster_settings import RasterSettings

DROPPED = "METADATA_DROPPED"
# Nothing here may look at the same bytes again and again: a file's sender chooses them, and all wait meanwhile.
_BEGIN = re.compile(rb"<\s*Item\b", re.IGNORECASE)
_VALUE = re.compile(rb"\s*([^<]{0,2000})")
_ATTRIBUTE = re.compile(rb"(\w{1,64})\s*=\s*\"([^\"]*)\"")
_ANY_ITEM = re.compile(rb"<\s*Item", re.IGNORECASE)
_DOMAIN = re.compile(rb"\bdomain\s*=[\s\"']*([^\s\"'>]+)", re.IGNORECASE)
_OVERVIEWS = re.compile(rb"domain\s*=[\s\"']*OVERVIEWS|OVERVIEW_FILE", re.IGNORECASE)
#: Nobody writes these but to make GDAL open something.
_VIRTUAL = re.compile(rb"[>\"'\s=,;:(]/vsi[a-z0-9_]*[/\\{]", re.IGNORECASE)
_ELSEWHERE = re.compile(rb"(?:[a-z][a-z0-9+.-]{1,20}:(?://|\\\\)|/|\\\\|[a-z]:[\\/])", re.IGNORECASE)
#: Texts that describe, in the domain that GDAL only hands on: an address in them is no reference.
_WEB = re.compile(rb"https?://", re.IGNORECASE)


def check(text: bytes, limits: RasterSettings) -> list[str]:
    """Return warnings.

    Raises:
        UploadRejected: METADATA_TOO_LARGE, EXTERNAL_REFERENCE.
    """
    if len(text) > limits.raster_max_metadata_bytes:
        raise _too_large(f"{len(text)} bytes of metadata", limits.raster_max_metadata_bytes, len(text))
    items = len(_ANY_ITEM.findall(text))
    if items > limits.raster_max_metadata_items:
        raise _too_large(f"{items} metadata items", limits.raster_max_metadata_items, items)
    for spelling in _spellings(text):
        _check_spelling(spelling)
    return [DROPPED] if re.search(rb"<!\s*(?:DOCTYPE|ENTITY)", text, re.IGNORECASE) else []


def _too_large(what: str, limit: int, actual: int) -> UploadRejected:
    return UploadRejected("METADATA_TOO_LARGE", what, limit=limit, actual=actual)


def _check_spelling(text: bytes) -> None:
    if _OVERVIEWS.search(text) or _VIRTUAL.search(text):
        raise UploadRejected("EXTERNAL_REFERENCE", "the metadata refer to another file")
    for attributes, value in _items(text):
        named = _DOMAIN.search(attributes)
        if not _ELSEWHERE.match(value):
            continue
        # The domain without a name is handed on and never acted on; a web address or a path in it describes.
        if named is None and (_WEB.match(value) or not re.match(rb"[a-z][a-z0-9+.-]{1,20}:", value, re.IGNORECASE)):
            continue
        raise UploadRejected("EXTERNAL_REFERENCE", "the metadata refer to another file")


def band_texts(text: bytes, role: str) -> dict[int, str]:
    """What the metadata say of bands (from 0) in a role: "description" or "unittype"; nothing when they declare entities.

    GDAL does not hand these on when it opens a file without its overviews.
    """
    if re.search(rb"<!\s*(?:DOCTYPE|ENTITY)", text, re.IGNORECASE):
        return {}
    found: dict[int, str] = {}
    for attributes, value in _items(text):
        given = {name.lower(): content for name, content in _ATTRIBUTE.findall(attributes)}
        if given.get(b"role", b"").lower() == role.encode() and re.fullmatch(rb"[0-9]{1,9}", given.get(b"sample", b"")):
            found[int(given[b"sample"])] = html.unescape(value.decode(errors="replace"))
    return found


def _items(text: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Attributes and the beginning of the value of each item, in order."""
    place = 0
    while (begin := _BEGIN.search(text, place)) and (end := text.find(b">", begin.end())) >= 0:
        value = _VALUE.match(text, end + 1)
        yield text[begin.end() : end], value[1] if value else b""
        place = end + 1


def _spellings(text: bytes) -> Iterator[bytes]:
    """The metadata as written, and with XML's character references and CDATA resolved."""
    yield text
    plain = text.replace(b"<![CDATA[", b"").replace(b"]]>", b"")
    for name, sign in ((b"&sol;", b"/"), (b"&quot;", b'"'), (b"&apos;", b"'"), (b"&amp;", b"&")):
        plain = plain.replace(name, sign)
    yield re.sub(rb"&#(?:[xX]([0-9a-fA-F]{1,6})|([0-9]{1,7}));", _resolved, plain)


def _resolved(match: re.Match[bytes]) -> bytes:
    number = int(match[1], 16) if match[1] else int(match[2])
    return bytes([number]) if number < 128 else b"?"
