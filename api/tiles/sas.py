"""Hrefs that need a signature are signed just before they are read, as their source's file says (`[signing]`): `pc-sas` alone.

Source: microsoft/planetary-computer-sdk-for-python: `GET {url}?href=...` answers `{"href", "msft:expiry"}`. What is signed is the
container, so its signature is good for every file in it.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final
from urllib.parse import parse_qs, urlencode, urlsplit

import httpcore
import orjson

from api.settings import Network
from api.tiles.remote_fetch import FetchFailed
from api.tiles.remote_hosts import CheckedBackend, HostRefused, within
from ingest.model import Signing, Source
from ingest.normalise.signing import needs_signing

SCHEME: Final = "pc-sas"
_QUERY = re.compile(r"[\x21-\x7e]+")
#: A signature that ends within so many seconds is not used any more.
_MARGIN_S: Final = 120.0
#: Seconds that a request waits for a signature that another one is asking for: others need its thread.
_WAIT_S: Final = 2.0
_MOST_BYTES: Final = 100_000
_MOST_KEPT: Final = 1000


class Signers:
    """Signatures by container, asked for when they are needed and kept until they end. To be closed."""

    def __init__(self, sources: Iterable[Source], allowed: tuple[Network, ...]) -> None:
        self._signings = [one.signing for one in sources if one.signing is not None and one.signing.scheme == SCHEME]
        self._pool = httpcore.ConnectionPool(
            max_connections=4, keepalive_expiry=20, network_backend=CheckedBackend(allowed)
        )
        self._kept: dict[str, tuple[float, str]] = {}
        self._locks = {one.url: threading.Lock() for one in self._signings}

    def close(self) -> None:
        """End all connections."""
        self._pool.close()

    def signed(self, url: str, deadline: float) -> str:
        """The URL with a signature, or as it is when it needs none.

        Raises:
            FetchFailed, HostRefused
        """
        signing = next((one for one in self._signings if needs_signing(url, one)), None)
        if signing is None:
            return url
        parts = urlsplit(url)
        container = f"{parts.netloc}/{parts.path.lstrip('/').partition('/')[0]}"
        until, query = self._kept.get(container, (0.0, ""))
        if until >= time.time() + _MARGIN_S:
            return f"{url}{'&' if parts.query else '?'}{query}"
        lock = self._locks[signing.url]  # who asks for the same one meanwhile waits for it, if not for long
        if not lock.acquire(timeout=max(0.0, min(_WAIT_S, deadline - time.monotonic()))):
            raise FetchFailed("busy")
        try:
            until, query = self._kept.get(container, (0.0, ""))
            if until < time.time() + _MARGIN_S:
                until, query, is_of_container = self._ask(signing, url, deadline)
                if is_of_container:
                    if len(self._kept) >= _MOST_KEPT:
                        self._kept.clear()
                    self._kept[container] = until, query
        finally:
            lock.release()
        return f"{url}{'&' if parts.query else '?'}{query}"

    def _ask(self, signing: Signing, url: str, deadline: float) -> tuple[float, str, bool]:
        """When it ends, the query, and whether it is good for the whole container."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise FetchFailed("slow")
        times = dict.fromkeys(("connect", "read", "write", "pool"), left)
        try:
            asked = f"{signing.url}?{urlencode({'href': url})}"
            with (
                within(deadline),
                self._pool.stream("GET", asked, extensions={"timeout": times}) as answer,
            ):
                if answer.status != 200:
                    raise FetchFailed("refused" if answer.status in (401, 403, 404) else "failed")
                body = b""
                for chunk in answer.iter_stream():
                    body += chunk
                    if len(body) > _MOST_BYTES or time.monotonic() > deadline:
                        raise FetchFailed("failed")
            told = orjson.loads(body)
            href, expiry = urlsplit(told["href"]), datetime.fromisoformat(told["msft:expiry"])
        except httpcore.TimeoutException:
            raise FetchFailed("slow") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError):
            raise FetchFailed("unreachable") from None
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
            raise FetchFailed("failed") from None
        if (href.scheme, href.netloc, href.path) != urlsplit(url)[:3] or not _QUERY.fullmatch(href.query):
            raise HostRefused(href.netloc)
        end = expiry if expiry.tzinfo else expiry.replace(tzinfo=UTC)
        return end.timestamp(), href.query, parse_qs(href.query).get("sr") == ["c"]
