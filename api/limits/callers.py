"""Whom a request is counted for: a caller by name, everybody else by address."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from api.access import LOCAL, OPERATOR, Caller
from api.limits.tiers import ANONYMOUS
from api.settings import Network

Address = IPv4Address | IPv6Address
#: Who is never counted.
_FREE = {LOCAL.name, OPERATOR.name}


@dataclass(frozen=True, slots=True)
class Counted:
    """Whom a request is counted for: `subject` in the counters, and the name of a tier."""

    subject: str
    tier: str


@lru_cache(maxsize=4096)
def client_address(peer: str | None, forwarded: str, trusted: tuple[Network, ...]) -> str:
    """The address that a request comes from: the peer, or behind our own proxies the last one that they did not add themselves.

    Args:
        peer: address of the connection.
        forwarded: X-Forwarded-For; each proxy adds whom it was asked by at the end. Anybody may have written the beginning, so it is read
            from the end and only as far as the proxies are trusted.
        trusted: networks of the operator's proxies.
    """
    found = _address(peer)
    chain = forwarded.split(",") if forwarded else []
    while found is not None and chain and any(found in network for network in trusted):
        before = _address(chain.pop())
        if before is None:
            break
        found = before
    if found is None:
        return "unknown"
    if found.version == 6:
        return str(ip_network((found, 64), strict=False))
    return str(found)


def counted(caller: Caller | None, address: str, key: bytes) -> Counted | None:
    """Whom to count a request for; None: nobody. Addresses are not kept, only a keyed hash of each."""
    if caller is not None and caller.name in _FREE:
        return None
    if caller is None or not caller.name:
        return _by_address(address, key)
    return Counted(f"caller:{caller.name}", caller.tier)


@lru_cache(maxsize=4096)
def _by_address(address: str, key: bytes) -> Counted:
    digest = hmac.new(key, address.encode(), hashlib.sha256).hexdigest()[:32]
    return Counted(f"address:{digest}", ANONYMOUS)


def _address(text: str | None) -> Address | None:
    """An address, IPv4 in IPv6's clothes undressed; with a port or in brackets as some proxies write it."""
    text = (text or "").strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found
