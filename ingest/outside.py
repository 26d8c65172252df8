"""Requests to addresses that others have chosen: to the public internet alone, the address that was looked at is the one that is asked.

A name that is resolved twice may lead to two places (DNS rebinding), so it is resolved once, all its addresses must be public, and one of
them is connected to. TLS still checks the name.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

import httpcore
import httpx

Network = IPv4Network | IPv6Network
#: Not of the public internet, whatever else is said of them: IPv4-compatible (RFC 4291, 2.5.5.1) and site-local addresses (RFC 3879).
_WITHDRAWN = (IPv6Network("::/96"), IPv6Network("fec0::/10"))
#: Behind this a translator reaches any IPv4 address, which stands at its end (RFC 6052).
_TRANSLATED = IPv6Network("64:ff9b::/96")
#: Seconds for the addresses of a name.
_RESOLVE_S = 5.0


class HostRefused(Exception):
    """The URL leads to where nothing may be read from."""


def parse_networks(text: str) -> tuple[Network, ...]:
    """Addresses and networks, with commas between. Raises ValueError."""
    return tuple(ip_network(word.strip()) for word in text.split(",") if word.strip())


def is_public(address: str, allowed: Iterable[Network] = ()) -> bool:
    """Whether an address is of the public internet, or of what the operator allows besides."""
    found = ip_address(address.partition("%")[0])
    if any(found in network for network in allowed):
        return True
    inner = getattr(found, "ipv4_mapped", None) or getattr(found, "sixtofour", None)
    if found in _TRANSLATED:
        inner = IPv4Address(int(found) & 0xFFFF_FFFF)
    is_open = found.is_global and not found.is_multicast and not any(found in network for network in _WITHDRAWN)
    return is_open and (inner is None or inner.is_global)


async def resolve(host: str, port: int) -> list[str]:
    """All addresses of a name. Raises OSError, UnicodeError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(one[4][0]) for one in found]


class PinnedBackend(httpcore.AsyncNetworkBackend):
    """Connects to public addresses (unless it is not `is_open`), and to those of the networks that the operator allows."""

    def __init__(
        self,
        allowed: tuple[Network, ...],
        resolver: Callable[[str, int], Awaitable[list[str]]] = resolve,
        *,
        is_open: bool = True,
    ) -> None:
        self._allowed, self._resolver, self._is_open = allowed, resolver, is_open
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """As httpcore's. Raises HostRefused besides."""
        try:
            addresses = await asyncio.wait_for(self._resolver(host, port), _RESOLVE_S)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout("no address in time") from error
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError("no address") from error
        if not addresses or not all(map(self._may_ask, addresses)):
            raise HostRefused(host)
        return await self._inner.connect_tcp(addresses[0], port, timeout, local_address, socket_options)

    def _may_ask(self, address: str) -> bool:
        if self._is_open:
            return is_public(address, self._allowed)
        return any(ip_address(address.partition("%")[0]) in network for network in self._allowed)

    async def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        """Never."""
        raise HostRefused("a socket of this machine")

    async def sleep(self, seconds: float) -> None:
        """As httpcore's."""
        await self._inner.sleep(seconds)


def pinned_transport(backend: PinnedBackend, *, max_connections: int = 4) -> httpx.AsyncHTTPTransport:
    """A transport over such a backend; nothing is kept open, no proxy of the environment is asked."""
    transport = httpx.AsyncHTTPTransport(trust_env=False)
    # httpx has no way to give it a backend; a test sees that private addresses are refused with the locked release.
    transport._pool = httpcore.AsyncConnectionPool(
        ssl_context=httpx.create_ssl_context(trust_env=False),
        max_connections=max_connections,
        max_keepalive_connections=0,
        network_backend=backend,
    )
    return transport
