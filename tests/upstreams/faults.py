"""Faults on demand, in front of every upstream: what really happens to harvesters, at the request that a test chooses."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from dataclasses import asdict, dataclass
from typing import Any

import orjson

KINDS = ("429", "500", "503", "html", "cut", "reset", "slow")
_BODIES = {
    "429": b'{"error":"WAF","message":"Rate limit exceeded","status":429}',
    "500": b'{"detail":"Internal Server Error"}',
    "503": b'{"detail":"Service Unavailable"}',
}


@dataclass
class Fault:
    """`count` requests whose path contains `path` fail, after `after` more such requests went well.

    `retry_after` goes into the header as it is (seconds or a date); `seconds` is how late a slow answer begins.
    """

    kind: str
    count: int = 1
    after: int = 0
    path: str = ""
    retry_after: str | None = None
    seconds: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind is none of {', '.join(KINDS)}")
        if not (isinstance(self.count, int) and isinstance(self.after, int) and isinstance(self.path, str)):
            raise ValueError("count and after are whole numbers, path is a text")
        self.retry_after = None if self.retry_after is None else str(self.retry_after)
        self.seconds = float(self.seconds)


class Control:
    """What fails next. Safe to use from the test's thread while the server answers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._requests: list[str] = []

    def fail(self, kind: str, **how: Any) -> None:
        """Add a fault; see `Fault`. Raises ValueError or TypeError for an unknown one."""
        fault = Fault(kind, **how)
        with self._lock:
            self._faults.append(fault)

    def clear(self) -> None:
        """Forget faults and requests."""
        with self._lock:
            self._faults.clear()
            self._requests.clear()

    @property
    def requests(self) -> list[str]:
        """Path and query of every request since the last `clear`, those that failed too."""
        with self._lock:
            return list(self._requests)

    def state(self) -> dict[str, Any]:
        """For `GET /_control`."""
        with self._lock:
            return {"faults": [asdict(fault) for fault in self._faults], "requests": len(self._requests)}

    def next_fault(self, path: str, query: str) -> Fault | None:
        """Count a request and say what becomes of it."""
        with self._lock:
            self._requests.append(f"{path}?{query}" if query else path)
            due: Fault | None = None
            for fault in (one for one in self._faults if one.path in path):
                if fault.after > 0:
                    fault.after -= 1
                elif due is None:
                    due = fault
            if due is not None:
                due.count -= 1
                self._faults = [one for one in self._faults if one.count > 0]
            return due


class Faulty:
    """ASGI middleware: answers `/_control` itself, and everything else as the control says."""

    def __init__(self, app: Any, control: Control) -> None:
        self._app = app
        self._control = control

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] == "/_control":
            await self._answer_control(scope, receive, send)
            return
        fault = self._control.next_fault(scope["path"], scope["query_string"].decode("latin-1"))
        match fault:
            case None:
                await self._app(scope, receive, send)
            case Fault(kind="slow"):
                await asyncio.sleep(fault.seconds)
                await self._app(scope, receive, send)
            case Fault(kind="html"):
                await _answer(send, 200, b"<!doctype html><title>Maintenance</title>", b"text/html; charset=utf-8")
            case Fault(kind="reset"):
                await _reset(send)
            case Fault(kind="cut"):
                await self._cut(scope, receive, send)
            case _:
                extra = [(b"retry-after", fault.retry_after.encode())] if fault.retry_after is not None else []
                await _answer(send, int(fault.kind), _BODIES[fault.kind], b"application/json", extra)

    async def _answer_control(self, scope: Any, receive: Any, send: Any) -> None:
        status = 200
        if scope["method"] == "DELETE":
            self._control.clear()
        elif scope["method"] == "POST":
            try:
                self._control.fail(**orjson.loads(await _body(receive)))
            except (ValueError, TypeError):
                status = 400
        await _answer(send, status, orjson.dumps(self._control.state()), b"application/json")

    async def _cut(self, scope: Any, receive: Any, send: Any) -> None:
        """Half of the true answer under the length of the whole, then the end of the connection."""
        start: dict[str, Any] = {}
        body = b""

        async def keep(message: dict[str, Any]) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
            else:
                body += message.get("body", b"")

        await self._app(scope, receive, keep)
        await send(start)
        await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        _transport(send).close()
        await _disconnected(receive)


async def _body(receive: Any) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _answer(send: Any, status: int, body: bytes, media: bytes, extra: Any = ()) -> None:
    headers = [(b"content-type", media), (b"content-length", str(len(body)).encode()), *extra]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _transport(send: Any) -> Any:
    """The connection behind uvicorn's `send`, which is a method of its request cycle."""
    return send.__self__.transport


async def _reset(send: Any) -> None:
    """End the connection with RST instead of an answer."""
    transport = _transport(send)
    raw = transport.get_extra_info("socket")
    with contextlib.suppress(OSError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    await asyncio.sleep(0.05)  # uvicorn learns of it before we return, and does not try to answer


async def _disconnected(receive: Any) -> None:
    for _ in range(100):
        if (await receive())["type"] == "http.disconnect":
            return
