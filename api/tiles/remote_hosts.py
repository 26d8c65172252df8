"""Where assets of others may be read from: hosts and buckets that the sources' files name, at addresses of the public internet."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

import httpcore

from api.tiles.leaving import stop_if_left
from ingest.asset_hosts import BUCKET
from ingest.asset_hosts import Hosts as Hosts
from ingest.outside import HostRefused as HostRefused
from ingest.outside import Network
from ingest.outside import is_public as is_public
from ingest.settings import IngestSettings
from ingest.uploads.sigv4 import Account, presign

#: Seconds that a signature of ours is good for.
_SIGNED_S: Final = 900


def url_of(href: str, settings: IngestSettings, now: datetime | None = None) -> str:
    """The URL that an href is read by: of a bucket's object one at its store, signed when there is an account."""
    match = BUCKET.fullmatch(href)
    if match is None:
        return href
    bucket, key = match.groups()
    if settings.store_endpoint:
        url = f"{settings.store_endpoint.rstrip('/')}/{bucket}/{key}"
    else:
        url = f"https://{bucket}.s3.{settings.store_region}.amazonaws.com/{key}"
    if not settings.store_key_id:
        scheme, _, rest = url.partition("://")
        return f"{scheme}://{quote(rest, safe='/:-_.~')}"
    account = Account(settings.store_key_id, settings.store_secret.get_secret_value(), settings.store_region)
    extra = {"x-amz-request-payer": "requester"}
    return presign(account, "GET", url, at=now or datetime.now(UTC), expires_s=_SIGNED_S, query=extra)


class CheckedBackend(httpcore.SyncBackend):
    """Connects to public addresses alone: the address that was looked at is the one that is connected to, whatever a name says next."""

    def __init__(self, allowed: tuple[Network, ...], resolve: Callable[..., list[Any]] = socket.getaddrinfo) -> None:
        self._allowed, self._resolve = allowed, resolve

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """As httpcore's. Raises HostRefused besides."""
        try:
            found = self._resolve(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(str(error)) from error
        addresses = [str(one[4][0]) for one in found]
        if not addresses or not all(is_public(one, self._allowed) for one in addresses):
            raise HostRefused(host)
        return TimedStream(super().connect_tcp(addresses[0], port, timeout, local_address, socket_options))


_now = threading.local()
#: Seconds between two looks while nothing comes.
_LOOK_S: Final = 0.2


@contextmanager
def within(deadline: float) -> Iterator[None]:
    """While the block runs, what this thread reads and writes has to be done by then (`time.monotonic`), headers that drip too."""
    _now.deadline = deadline
    try:
        yield
    finally:
        _now.deadline = None


class TimedStream(httpcore.NetworkStream):
    """A stream that ends at its thread's deadline; httpcore's own times begin anew with every byte that comes."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """As httpcore's; looks now and then whether somebody waits for it. Raises ClientLeft besides."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = _left(None if end is None else end - time.monotonic(), httpcore.ReadTimeout)
            try:
                return self._stream.read(max_bytes, _LOOK_S if left is None else max(0.001, min(left, _LOOK_S)))
            except httpcore.ReadTimeout:
                stop_if_left()
                if left is not None and left <= _LOOK_S:
                    raise

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """As httpcore's."""
        self._stream.write(buffer, _left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        """As httpcore's."""
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """As httpcore's."""
        left = _left(timeout, httpcore.ConnectTimeout)
        return TimedStream(self._stream.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        """As httpcore's."""
        return self._stream.get_extra_info(info)


def _left(timeout: float | None, over: type[httpcore.TimeoutException]) -> float | None:
    """Seconds that an operation may take."""
    deadline: float | None = getattr(_now, "deadline", None)
    if deadline is None:
        return timeout
    left = deadline - time.monotonic()
    if left <= 0:
        raise over("the deadline is over")
    return left if timeout is None else min(left, timeout)
