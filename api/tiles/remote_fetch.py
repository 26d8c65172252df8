"""Ranges of files elsewhere: few requests, each host with a budget, everything with a deadline.

A host that fails or is slow costs its own tiles and nobody else's: so many requests to it at a time and no more, and after some failures
in a row none for a while.
"""

from __future__ import annotations

import contextlib
import logging
import random
import re
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urljoin, urlsplit

import httpcore

from api.settings import Network
from api.tiles.leaving import carried, stop_if_left
from api.tiles.remote_hosts import CheckedBackend, HostRefused, Hosts, within

log = logging.getLogger(__name__)

#: Ranges with less than this between them are one request: to read so much takes no longer than to ask again.
GAP: Final = 128 * 1024
_MOST_REDIRECTS: Final = 3
_TRIES: Final = 3
_FAILURES: Final = 4
_REST_S: Final = 10.0
_MOST_HOSTS: Final = 1000
_RANGE = re.compile(rb"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")
_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
_USER_AGENT: Final = b"stac-federator"


class FetchFailed(Exception):
    """The upstream did not give the bytes; `reason` is one word for programs.

    `unreachable`, `slow`, `busy`, `resting` (it failed too often just now), `refused` (401, 403), `gone` (404, 410), `not-the-file`
    (something else than the range), `changed` (it is another file by now), `failed` (any other status).
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of a file: `size` is that of the whole file, `tag` what tells its versions apart, if the host says."""

    data: bytes
    size: int
    tag: bytes


@dataclass
class _Host:
    """What is known of one host."""

    places: threading.BoundedSemaphore
    failures: int = 0
    rests_until: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Fetcher:
    """Reads ranges of URLs, by threads. To be closed.

    Args:
        hosts: where may be read.
        allowed: networks that may be read though they are not public.
        concurrency: requests to one host at a time.
        deadline_s: for all that one tile needs of one asset.
    """

    def __init__(
        self, hosts: Hosts, allowed: tuple[Network, ...] = (), *, concurrency: int = 8, deadline_s: float = 10.0
    ) -> None:
        self._hosts, self._deadline_s, self._concurrency = hosts, deadline_s, concurrency
        self._known: dict[str, _Host] = {}
        self._lock = threading.Lock()
        self._pool = httpcore.ConnectionPool(
            max_connections=256,
            max_keepalive_connections=64,
            keepalive_expiry=20,
            network_backend=CheckedBackend(allowed),
        )
        self._threads = ThreadPoolExecutor(16, "ranges")
        self.requests = 0

    def close(self) -> None:
        """End all connections."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._pool.close()

    def deadline(self) -> float:
        """When what begins now has to be done."""
        return time.monotonic() + self._deadline_s

    def ranges(self, url: str, wanted: Sequence[tuple[int, int]], tag: bytes, deadline: float) -> dict[int, bytes]:
        """Return the bytes of each (offset, count), by offset.

        Raises:
            FetchFailed, HostRefused
        """
        merged = list(merge(wanted))
        starts = [first for first, _ in merged]
        if len(merged) == 1:
            parts = [self.range(url, *merged[0], tag, deadline)]
        else:
            futures = [self._threads.submit(carried(self.range), url, *one, tag, deadline) for one in merged]
            done, rest = wait(futures, return_when=FIRST_EXCEPTION)
            for future in rest:
                future.cancel()
            for future in done:
                future.result()  # raises what went wrong first, not that the others were cancelled
            parts = [future.result() for future in futures]
        found: dict[int, bytes] = {}
        for offset, count in wanted:
            number = max(place for place, start in enumerate(starts) if start <= offset)
            at = offset - starts[number]
            found[offset] = parts[number].data[at : at + count]
        return found

    def range(self, url: str, first: int, count: int, tag: bytes, deadline: float) -> Part:
        """Return `count` bytes, fewer when the file ends before; tried again as long as there is time.

        Raises:
            FetchFailed, HostRefused, ClientLeft
        """
        stop_if_left()
        _check_time(deadline)
        host = self._host(urlsplit(url).netloc)
        for number in range(1, _TRIES + 1):
            with self._place(host, deadline):
                stop_if_left()
                _check_time(deadline)
                try:
                    part = self._once(url, first, count, deadline)
                except (httpcore.LocalProtocolError, httpcore.UnsupportedProtocol):
                    reason = "not-the-file"  # the URL is wrong, and the host was not asked
                except httpcore.TimeoutException:
                    reason = "slow" if time.monotonic() >= deadline - 0.05 else "unreachable"
                except (httpcore.NetworkError, httpcore.ProtocolError, OSError):
                    reason = "unreachable"
                except _Status as status:
                    reason = status.reason
                else:
                    host.failures = 0
                    if tag and part.tag and part.tag != tag:
                        raise FetchFailed("changed")
                    return part
            pause_s = random.uniform(0.05, 0.1 * 2**number)  # noqa: S311 - no secret
            is_worth = reason in ("unreachable", "failed") and time.monotonic() + pause_s < deadline
            if number == _TRIES or not is_worth:
                break
            time.sleep(pause_s)
        if reason in ("unreachable", "slow", "failed"):
            self._note_failure(host, url)
        raise FetchFailed(reason)

    def _once(self, url: str, first: int, count: int, deadline: float) -> Part:
        for _ in range(_MOST_REDIRECTS + 1):
            headers = [
                (b"Range", b"bytes=%d-%d" % (first, first + count - 1)),
                (b"User-Agent", _USER_AGENT),
                (b"Accept-Encoding", b"identity"),
            ]
            left = deadline - time.monotonic()
            if left <= 0:
                raise httpcore.ReadTimeout
            times = dict.fromkeys(("connect", "read", "write", "pool"), left)
            self.requests += 1
            with (
                within(deadline),
                self._pool.stream("GET", url, headers=headers, extensions={"timeout": times}) as answer,
            ):
                if answer.status not in (301, 302, 303, 307, 308):
                    return _read(answer, first, count, deadline)
                target = {name.lower(): value for name, value in answer.headers}.get(b"location", b"")
            url = self._redirected(url, target)
        raise _Status("not-the-file")

    def _redirected(self, url: str, location: bytes) -> str:
        try:
            target = urljoin(url, location.decode("latin-1"))
            host = urlsplit(target).netloc
        except ValueError:
            raise _Status("not-the-file") from None
        if not self._hosts.allow(target):
            raise HostRefused(host)
        return target

    def _host(self, name: str) -> _Host:
        with self._lock:
            if name not in self._known and len(self._known) >= _MOST_HOSTS:
                self._known.clear()
            return self._known.setdefault(name, _Host(threading.BoundedSemaphore(self._concurrency)))

    @contextlib.contextmanager
    def _place(self, host: _Host, deadline: float) -> Iterator[None]:
        """One of the host's places. Who finds all taken waits a little, not to the end of his time: others need the thread."""
        now = time.monotonic()
        if host.rests_until > now:
            raise FetchFailed("resting")
        if not host.places.acquire(timeout=max(0.0, min(2.0, deadline - now))):
            raise FetchFailed("busy")
        try:
            yield
        finally:
            host.places.release()

    def _note_failure(self, host: _Host, url: str) -> None:
        with host.lock:
            host.failures += 1
            if host.failures >= _FAILURES:
                host.rests_until = time.monotonic() + _REST_S
                host.failures = _FAILURES - 1  # afterwards one more failure is enough
                log.warning("a host of assets rests", extra={"host": urlsplit(url).hostname, "seconds": _REST_S})


def _check_time(deadline: float) -> None:
    """Late through others' work: that says nothing of the host, which was not asked.

    Raises:
        FetchFailed
    """
    if time.monotonic() >= deadline:
        raise FetchFailed("slow")


class _Status(Exception):
    """An answer that is not the range."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _read(answer: httpcore.Response, first: int, count: int, deadline: float) -> Part:
    """The body of an answer, if it is the range that was asked for."""
    status = answer.status
    if status != 206:
        reasons = {401: "refused", 403: "refused", 404: "gone", 410: "gone", 200: "not-the-file", 416: "not-the-file"}
        raise _Status(reasons.get(status, "failed" if status in _AGAIN else "not-the-file"))
    headers: dict[bytes, bytes] = {name.lower(): value for name, value in answer.headers}
    match = _RANGE.fullmatch(headers.get(b"content-range", b"").strip())
    if match is None or int(match[1]) != first or headers.get(b"content-encoding", b"identity") != b"identity":
        raise _Status("not-the-file")
    size = int(match[3])
    expected = min(count, size - first)
    data = bytearray()
    for chunk in answer.iter_stream():
        stop_if_left()
        data += chunk
        if len(data) > expected:
            raise _Status("not-the-file")
        if time.monotonic() > deadline:
            raise httpcore.ReadTimeout
    if len(data) != expected:
        raise httpcore.RemoteProtocolError("the body ended early")
    return Part(bytes(data), size, headers.get(b"etag", b"") or headers.get(b"last-modified", b""))


def merge(wanted: Sequence[tuple[int, int]], gap: int = GAP) -> Iterator[tuple[int, int]]:
    """Ranges (offset, count) that hold all of these, with those near each other as one; ascending."""
    start = end = None
    for offset, count in sorted(wanted):
        if start is not None and end is not None and offset <= end + gap:
            end = max(end, offset + count)
            continue
        if start is not None and end is not None:
            yield start, end - start
        start, end = offset, offset + count
    if start is not None and end is not None:
        yield start, end - start
