"""Whom a request is counted for: a caller by name, everybody else by address."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from api.access import LOCAL, OPERATOR, Caller
from api.limits.tiers import ANONYMOUS

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
#: Who is never counted. What they have signed is, for it is in everybody's hands.
_FREE = {LOCAL.name, OPERATOR.name}


@dataclass(frozen=True, slots=True)
class Counted:
    """Whom a request is counted for: `subject` in the counters, and the name of a tier."""

    subject: str
    tier: str


def parse_networks(text: str) -> tuple[Network, ...]:
    """Addresses and networks, with commas between.

    Raises:
        ValueError
    """
    return tuple(ip_network(one.strip()) for one in text.split(",") if one.strip())


def client_address(peer: str | None, forwarded: Iterable[str], trusted: Iterable[Network]) -> str:
    """The address that a request comes from: the peer, or behind our own proxies the last one that they did not add themselves.

    Args:
        peer: address of the connection.
        forwarded: values of X-Forwarded-For, in order; each proxy adds whom it was asked by at the end. Anybody may have written the
            beginning, so it is read from the end and only as far as the proxies are trusted.
        trusted: networks of the operator's proxies.
    """
    networks = tuple(trusted)
    found = _address(peer)
    chain = [one.strip() for value in forwarded for one in value.split(",")]
    while found is not None and chain and any(found in network for network in networks):
        before = _address(chain.pop())
        if before is None:
            break
        found = before
    if found is None:
        return "unknown"
    if found.version == 6:
        return str(ip_network((found, 64), strict=False))
    return str(found)


def counted(caller: Caller | None, address: str, key: bytes, *, is_signed: bool = False) -> Counted | None:
    """Whom to count a request for; None: nobody. Addresses are not kept, only a keyed hash of each."""
    if caller is not None and caller.name in _FREE and not is_signed:
        return None
    if caller is None or caller.name in _FREE or not caller.name:
        digest = hmac.new(key, address.encode(), hashlib.sha256).hexdigest()[:32]
        return Counted(f"address:{digest}", ANONYMOUS)
    return Counted(f"caller:{caller.name}", getattr(caller, "tier", "general"))


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
