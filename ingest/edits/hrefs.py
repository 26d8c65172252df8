"""Where documents that callers write may lead: to URLs of the web and of object stores, never to files or to this machine. Pure.

Readers give an asset's `href` to GDAL, which takes `/vsicurl/...`, paths, and texts such as `NETCDF:...` for datasets.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from ingest.errors import EditRefused
from ingest.model import JSON
from ingest.sanitise import pointer

#: Of assets. Links may be relative too: clients resolve them against the API's URL, and nobody opens them as rasters.
SCHEMES = frozenset({
    "http", "https", "ftp", "ftps", "sftp", "s3", "gs", "gcs", "az", "abfs", "abfss", "adl", "wasb", "wasbs", "oss", "obs", "cos",
    "swift", "hdfs", "ipfs",
})  # fmt: skip
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://([^\s\\/?#]+)[^\s\\]*")
_NAMES_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
#: An upload's file, whatever host it is asked from.
_UPLOAD = re.compile(
    r"/uploads/([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})(?![0-9a-f-])", re.IGNORECASE
)


def check_hrefs(document: JSON, own_root: str) -> None:
    """Look at the hrefs of an item's or collection's assets, of their alternates, and of its links.

    Args:
        own_root: this service's public URL, which may well be on this machine.

    Raises:
        EditRefused: HREF_REFUSED, with the place.
    """
    for place, href in () if are_plain_urls(hrefs_of(document)) else _places(document):
        if not _is_url(href, own_root):
            raise _refusal("an asset's href is a URL of the web or of an object store, and not of this machine", place)
    check_links(document, own_root)


def check_links(document: JSON, own_root: str) -> None:
    """The same of its links alone."""
    for number, link in enumerate(document.get("links") or ()):
        target = link.get("href") if isinstance(link, dict) else None
        if isinstance(target, str) and not (_is_relative(target) or _is_url(target, own_root)):
            raise _refusal(
                "a link leads to a URL of the web, and not to a file or this machine", ("links", number, "href")
            )


def hrefs_of(document: JSON) -> list[str]:
    """Hrefs of assets and of their alternates."""
    assets = document.get("assets")
    found: list[Any] = []
    for asset in assets.values() if isinstance(assets, dict) else ():
        if not isinstance(asset, dict):
            continue
        found.append(asset.get("href"))
        alternates = asset.get("alternate")
        if isinstance(alternates, dict):
            found += [other.get("href") for other in alternates.values() if isinstance(other, dict)]
    return [href for href in found if isinstance(href, str)]


def _places(document: JSON) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """The same with their places."""
    assets = document.get("assets")
    for key, asset in assets.items() if isinstance(assets, dict) else ():
        if not isinstance(asset, dict):
            continue
        if isinstance(href := asset.get("href"), str):
            yield ("assets", key, "href"), href
        alternates = asset.get("alternate")
        for name, other in alternates.items() if isinstance(alternates, dict) else ():
            if isinstance(other, dict) and isinstance(href := other.get("href"), str):
                yield ("assets", key, "alternate", name, "href"), href


def are_plain_urls(hrefs: list[str]) -> bool:
    """Whether all are URLs that may be stored; False where a closer look has to tell. Most begin alike: that is looked at once."""
    text = "\n".join(hrefs)
    if "\\" in text or text.split() != hrefs:
        return False
    # To a "/" behind the authority, or to none: no scheme of ours is so long that it could be one of the two before it.
    return all(_is_url(head, "") for head in {href[: href.find("/", 8) + 1] for href in hrefs})


def named_uploads(documents: Iterable[JSON]) -> set[UUID]:
    """Uploads whose files are named by assets of these documents."""
    return {found for document in documents for href in hrefs_of(document) if (found := upload_of(href))}


def upload_of(href: str) -> UUID | None:
    """The upload whose file an href names, if it does."""
    match = _UPLOAD.search(href) if "/uploads/" in href else None
    return UUID(match[1]) if match else None


def _refusal(why: str, place: tuple[str | int, ...]) -> EditRefused:
    return EditRefused("HREF_REFUSED", why, place=pointer(*place))


def _is_url(href: str, own_root: str) -> bool:
    if own_root and href.startswith(f"{own_root}/"):
        return True
    match = _URL.fullmatch(href)
    return match is not None and match[1].lower() in SCHEMES and _is_elsewhere(match[2])


#: 64:ff9b::/96
_NAT64 = int(IPv6Address("64:ff9b::")) >> 32


@lru_cache(maxsize=1000)
def _is_elsewhere(authority: str) -> bool:
    """Whether `user@host:port` is another machine."""
    try:
        host = urlsplit(f"//{authority}").hostname
    except ValueError:
        return False
    # Escapes and other writings of dots and digits: what asks for it may read them, and come to another host than was looked at.
    return host is not None and host.isascii() and "%" not in host and not _is_here(host)


def _is_relative(href: str) -> bool:
    return not href.startswith(("/vsi", "//", "\\")) and _NAMES_SCHEME.match(href) is None


def _is_here(host: str) -> bool:
    """Whether a host is this machine, its link, or nothing; numbers in every notation that resolvers take."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith((".localhost", ".localdomain")):
        return True
    address = _address(name)
    if address is None:
        return False
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address.sixtofour or _of_ipv4(address) or address
    return address.is_loopback or address.is_link_local or address.is_unspecified


def _address(name: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(name.partition("%")[0])
    except ValueError:
        pass
    parts = name.split(".")
    try:
        numbers = [_number(part) for part in parts]
    except ValueError:
        return None
    if len(parts) > 4 or any(one > 255 for one in numbers[:-1]) or numbers[-1] >= 256 ** (5 - len(parts)):
        return None
    first = sum(one << (24 - 8 * place) for place, one in enumerate(numbers[:-1]))
    return IPv4Address(first + numbers[-1])


def _of_ipv4(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that one of RFC 6052's prefix, or of the old compatible kind, stands for."""
    high, low = divmod(int(address), 2**32)
    return IPv4Address(low) if high == _NAT64 or (high == 0 and low > 1) else None


def _number(part: str) -> int:
    """A part of an address as inet_aton reads it: decimal, octal with 0, hexadecimal with 0x. Raises ValueError."""
    if not (part.isascii() and part.isalnum()):
        raise ValueError(part)  # int() takes signs, blanks and underscores too
    if part.startswith("0x"):
        return int(part[2:] or "0", 16)
    return int(part, 8 if part.startswith("0") and len(part) > 1 else 10)


def drop_foreign_assets(item: JSON, readable: set[Any]) -> None:
    """Take away assets that name uploads which the caller may not read."""
    assets: JSON = item.get("assets") or {}
    item["assets"] = {key: one for key, one in assets.items() if _is_readable(one, readable)}


def _is_readable(asset: Any, readable: set[Any]) -> bool:
    upload = upload_of(str(asset.get("href", ""))) if isinstance(asset, dict) else None
    return upload is None or upload in readable
