"""Work for a client that has gone away ends: what has not begun is not begun, and what runs looks here where it can stop.

The server tells of a client's leaving on the request's channel alone, so somebody has to listen there while the answer is made
(`staying`). Coroutines are cancelled; threads are not, and what they read holds memory as long as they do: they keep their place among the
threads until `stop_if_left` ends them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar

import anyio
from starlette.types import Message, Receive, Send

#: Set when nobody waits any more for what is being made here; None: nobody listens.
LEFT: ContextVar[threading.Event | None] = ContextVar("left", default=None)


class ClientLeft(Exception):
    """Nobody waits for the answer."""


def has_left() -> bool:
    """Whether nobody waits for what this thread or task makes."""
    left = LEFT.get()
    return left is not None and left.is_set()


def stop_if_left() -> None:
    """Raises ClientLeft."""
    if has_left():
        raise ClientLeft


def carried[**P, T](work: Callable[P, T]) -> Callable[P, T]:
    """The same work for a thread of a pool, which does not know by itself whom it works for. Not begun when nobody waits any more."""
    left = LEFT.get()

    def done(*arguments: P.args, **named: P.kwargs) -> T:
        before = LEFT.set(left)
        try:
            stop_if_left()
            return work(*arguments, **named)
        finally:
            LEFT.reset(before)

    return done


class Stay:
    """One request whose client is listened to. `has_left` says how it ended."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._messages: asyncio.Queue[Message] = asyncio.Queue(1)  # a body that nobody reads is not taken in
        self._is_answered, self._is_listening = False, True
        self.has_left = False

    async def receive(self) -> Message:
        """As the server's."""
        if self._is_listening or not self._messages.empty():
            return await self._messages.get()
        return await self._receive()

    def sending(self, send: Send) -> Send:
        """As the server's; what it says after the answer is whole means nothing."""

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body"):
                self._is_answered = True
            await send(message)

        return sent

    async def listen(self, leave: Callable[[], None]) -> None:
        """Pass messages on until the client goes away."""
        try:
            while (message := await self._receive())["type"] != "http.disconnect":
                await self._messages.put(message)
            if not self._is_answered:
                self.has_left = True
                leave()
            with suppress(asyncio.QueueFull):
                self._messages.put_nowait(message)
        finally:
            self._is_listening = False


@asynccontextmanager
async def staying(receive: Receive) -> AsyncIterator[Stay]:
    """Run the block while the client is there; it is left without an exception, and `has_left` is true, when he goes."""
    stay, left = Stay(receive), threading.Event()
    before = LEFT.set(left)
    try:
        with anyio.CancelScope() as scope:

            def leave() -> None:
                left.set()
                scope.cancel()

            listener = asyncio.create_task(stay.listen(leave))
            try:
                yield stay
            except ClientLeft:
                if not left.is_set():
                    raise
            finally:
                listener.cancel()
    finally:
        LEFT.reset(before)
