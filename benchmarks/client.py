"""A client that costs little: one kept connection and the standard library's HTTP."""

from __future__ import annotations

import http.client
import socket
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.peers import Peer

#: Requests that one server gets before the next one has its turn.
_IN_TURN = 6


@dataclass(frozen=True, slots=True)
class Request:
    """What to ask; `path` begins behind the root of the STAC API."""

    path: str
    body: bytes | None = None


class Client:
    """One connection to a server; to be closed."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self._connection = http.client.HTTPConnection("127.0.0.1", peer.port, timeout=120)
        self.reopen()

    def ask(self, request: Request) -> bytes:
        """Return the body of the answer. Raises RuntimeError: the status is not 200."""
        method, headers = ("GET", {}) if request.body is None else ("POST", {"Content-Type": "application/json"})
        self._connection.request(method, self.peer.root + request.path, request.body, headers)
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{self.peer.name}: {answer.status} for {request.path}: {body[:300]!r}")
        return body

    def timed(self, request: Request) -> tuple[float, bytes]:
        """Return seconds and the body of the answer."""
        begun = time.perf_counter()
        body = self.ask(request)
        return time.perf_counter() - begun, body

    def reopen(self) -> None:
        """A new connection: servers end those that nobody uses for some seconds."""
        self._connection.close()
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        """End the connection."""
        self._connection.close()


def interleaved(
    peers: Sequence[Peer], make: Callable[[int], Request] | Mapping[str, Callable[[int], Request]], number: int
) -> dict[str, list[float]]:
    """Seconds of each of `number` requests at each server; `make` is one for all, or by name where they are asked in different words.

    Servers are asked in turns that begin with another one each time, some requests a turn, of which the first is not counted: a
    server whose code and data were just pushed out of the processor's caches by another one is not what its users meet.
    """
    clients = [Client(peer) for peer in peers]
    seconds: dict[str, list[float]] = {peer.name: [] for peer in peers}
    try:
        for begin in range(0, number, _IN_TURN):
            for turn in range(len(clients)):
                client = clients[(turn + begin // _IN_TURN) % len(clients)]
                made = make[client.peer.name] if isinstance(make, Mapping) else make
                asked = [made(n) for n in range(begin, min(begin + _IN_TURN, number))]
                client.reopen()
                client.ask(asked[-1])
                seconds[client.peer.name] += [client.timed(request)[0] for request in asked]
    finally:
        for client in clients:
            client.close()
    return seconds


def medians(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Milliseconds."""
    return {name: statistics.median(values) * 1000 for name, values in seconds.items()}


def rate(peer: Peer, make: Callable[[int], Request], *, connections: int, duration_s: float) -> float:
    """Requests a second that so many clients get together."""
    begun = time.monotonic()
    spent = together(peer, make, connections=connections, is_over=lambda: time.monotonic() - begun >= duration_s)
    return len(spent) / (time.monotonic() - begun)


def together(
    peer: Peer, make: Callable[[int], Request], *, connections: int, is_over: Callable[[], bool]
) -> list[float]:
    """Seconds of each request of so many clients, each asking until it is over. Raises what the first that fails met."""
    spent: list[list[float]] = [[] for _ in range(connections)]
    failed: list[BaseException] = []

    def work(place: int) -> None:
        client = Client(peer)
        try:
            while not is_over() and not failed:
                spent[place].append(client.timed(make(place + connections * len(spent[place])))[0])
        except BaseException as error:  # noqa: BLE001 - raised below, in the thread that waits
            failed.append(error)
        finally:
            client.close()

    threads = [threading.Thread(target=work, args=(place,)) for place in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return [seconds for one in spent for seconds in one]
