"""Signatures of tile URLs: who signed, for which item or collection, until when. Values in, values out; no clock.

A signature says nothing of what it is for: that is the path that it comes with. So it is worthless under any other path, and tells nothing
of what exists.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass
from typing import Final

import orjson

#: What a signature lets its holder do.
SCOPE: Final = "read pixels"
#: Query parameter; FastAPI's traces hide the value of one of this name.
PARAMETER: Final = "sig"
#: Signs of the longest signature: URLs of 8 kB pass everywhere.
MOST: Final = 4000
_MAC_BYTES: Final = 32
_PATH = re.compile(
    r"/raster/(?:collections/([^/]+)/(?:items/([^/]+)/.*|(?!items(?:/|$)).*)|searches/([^/]+)/.*)", re.DOTALL
)
_SHAPE = re.compile(rf"[A-Za-z0-9_-]{{44,{MOST}}}")


class SignatureInvalid(Exception):
    """Not made with our key for this path, or changed since."""


class SignatureExpired(Exception):
    """It was good once."""


class SignerTooLong(Exception):
    """The signer has more principals than a URL can hold."""


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs: name and tier as `api.access.Caller` has them, principals as `federator.present_principals` takes them."""

    name: str
    principals: tuple[str, ...]
    tier: str


@dataclass(frozen=True, slots=True)
class Place:
    """What is signed for: an item, (item None) a collection with all its items, or (collection "") a registered search."""

    collection: str
    item: str | None
    search: str | None = None

    @property
    def path(self) -> str:
        """What every path begins with that the signature is good for."""
        if self.search is not None:
            return f"/raster/searches/{self.search}/"
        return f"/raster/collections/{self.collection}/" + (f"items/{self.item}/" if self.item is not None else "")


def place_of(path: str) -> Place | None:
    """The item, collection or search that a path of the tile server is about."""
    match = _PATH.fullmatch(path)
    return Place(match[1] or "", match[2], match[3]) if match else None


def sign(key: bytes, place: Place, signer: Signer, expires: int) -> str:
    """Return a signature; `expires` in seconds since 1970.

    Raises:
        SignerTooLong
    """
    body = orjson.dumps([expires, signer.name, signer.principals, signer.tier])
    text = urlsafe_b64encode(_mac(key, place, body) + body).rstrip(b"=").decode()
    if len(text) > MOST:
        raise SignerTooLong
    return text


def verify(key: bytes, path: str, signature: str, now: float) -> tuple[Signer, int]:
    """Return who signed for this path, and until when.

    Raises:
        SignatureInvalid, SignatureExpired
    """
    place = place_of(path)
    if place is None or not _SHAPE.fullmatch(signature):
        raise SignatureInvalid
    try:
        raw = urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    except (Base64Error, ValueError):
        raise SignatureInvalid from None
    if urlsafe_b64encode(raw).rstrip(b"=").decode() != signature:  # one way to write it
        raise SignatureInvalid
    mac, body = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
    wide = Place(place.collection, None, place.search)
    if not any([hmac.compare_digest(mac, _mac(key, one, body)) for one in (place, wide)]):  # noqa: C419 - both, always
        raise SignatureInvalid
    expires, name, principals, tier = orjson.loads(body)  # ours: the code above says so
    if now >= expires:
        raise SignatureExpired
    return Signer(name, tuple(principals), tier), expires


def _mac(key: bytes, place: Place, body: bytes) -> bytes:
    signed = orjson.dumps([SCOPE, place.path]) + body
    return hmac.digest(key, signed, hashlib.sha256)
