"""A body on its way into an upload's file: arriving on the event loop, written and hashed in a thread, a batch at a time.

It ends with its last byte, at its limit, after too long a silence, or because somebody else asks for the file.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import hmac
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from ingest.errors import UploadRejected
from ingest.settings import IngestSettings
from ingest.uploads.digests import Digests
from ingest.uploads.partial import Partial

log = logging.getLogger(__name__)

#: Bytes that are written at once, while the next ones arrive.
BATCH_BYTES = 2 * 2**20
#: A slow sender's bytes wait no longer than this before they are written.
BATCH_S = 1.0
#: Pieces that one system call writes (IOV_MAX is 1024).
_BATCH_PIECES = 1000
_LOOK_S = 0.2


class SenderGone(Exception):
    """The connection ended before the body did."""


class Ended(UploadRejected):
    """The request ends early; its bytes so far are kept."""


@dataclass(frozen=True, slots=True)
class Checksum:
    """What a request's bytes must hash to. `algorithm` is a name of hashlib; `status` answers a mismatch."""

    algorithm: str
    digest: bytes
    status: int = 460


@cache
def _threads() -> ThreadPoolExecutor:
    """Threads of uploads alone: a slow disk must not take those that others need."""
    return ThreadPoolExecutor(max_workers=16, thread_name_prefix="upload")


async def in_thread[T](work: Callable[..., T], *arguments: Any) -> T:
    return await asyncio.get_running_loop().run_in_executor(_threads(), work, *arguments)


@contextmanager
def stored() -> Iterator[None]:
    """What the disk or the bucket does not take is a refusal."""
    try:
        yield
    except OSError as error:
        raise storage_failed(error) from error


def storage_failed(error: OSError) -> UploadRejected:
    log.error("an upload cannot be stored", exc_info=error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Ended("STORAGE_FULL", "the server's storage is full; go on later", status=507, retry_after=60)
    return Ended("STORAGE_FAILED", "the server's storage does not take the bytes; try again later", status=503)


@dataclass(frozen=True, slots=True)
class Limit:
    """Most bytes that a request may have, and what one gets that has more."""

    size: int
    excess: UploadRejected


async def pour(
    partial: Partial,
    digests: Digests,
    stream: AsyncIterator[bytes],
    limit: Limit,
    checksum: Checksum | None,
    settings: IngestSettings,
) -> tuple[Digests, Exception | None]:
    """Write a body behind the file's end, durable. Return the hashes of the whole file, and what went wrong.

    Bytes stay unless they break a rule, or had a checksum that cannot be right any more.
    """
    start, check = partial.size, hashlib.new(checksum.algorithm, usedforsecurity=False) if checksum else None
    sink = _Sink(partial, digests, check)
    failure: Exception | None = None
    try:
        if checksum:
            await in_thread(partial.mark)
        await _take(stream, sink, limit, settings.upload_silence_s)
        if checksum and check and not hmac.compare_digest(check.digest(), checksum.digest):
            detail = "the bytes do not hash to the checksum that came with them; nothing of them was kept"
            failure = UploadRejected("CHECKSUM_MISMATCH", detail, status=checksum.status)
    except (UploadRejected, SenderGone) as error:
        failure = error
    except OSError as error:
        failure = storage_failed(error)
    is_kept = failure is None or (checksum is None and isinstance(failure, Ended | SenderGone))
    try:
        if is_kept:
            await in_thread(partial.make_durable)
            if checksum:
                await in_thread(partial.unmark)
            return digests, failure
    except OSError as error:  # after a failed sync nobody knows what is on the disk
        failure = storage_failed(error)
    with suppress(OSError):
        await in_thread(partial.roll_back, start)
    return Digests(), failure


async def _take(stream: AsyncIterator[bytes], sink: _Sink, limit: Limit, silence_s: float) -> None:
    """Take a body until its end, its limit, too long a silence, or somebody's wish to have the file."""
    loop, partial, wish = asyncio.get_running_loop(), sink.partial, ""

    async def watch(deadline: asyncio.Timeout) -> None:
        nonlocal wish
        while not wish:
            await asyncio.sleep(_LOOK_S)
            why = await in_thread(partial.is_asked_to_stop)
            wish = why or ""
        deadline.reschedule(loop.time())

    try:
        async with asyncio.timeout(silence_s) as deadline:
            watcher, renewed, taken = asyncio.create_task(watch(deadline)), loop.time(), 0
            try:
                async for chunk in stream:
                    taken += len(chunk)
                    if taken > limit.size:
                        raise limit.excess
                    await sink.put(chunk)
                    if not wish and (now := loop.time()) - renewed > 0.5:
                        renewed = now
                        deadline.reschedule(now + silence_s)
            finally:
                watcher.cancel()
    except TimeoutError:
        raise _why_ended(wish, silence_s) from None
    finally:
        await sink.finish()


def _why_ended(wish: str, silence_s: float) -> Ended:
    if wish == "delete":
        return Ended("DELETED", "the upload was deleted", status=410)
    if wish:
        return Ended("INTERRUPTED", "another request asked for this upload; look for the offset and go on", status=409)
    return Ended("SENDER_SILENT", f"no byte came for {silence_s:g} s; look for the offset and go on", status=408)


class _Sink:
    """Collects pieces and lets a thread write and hash them, the next ones arriving meanwhile."""

    def __init__(self, partial: Partial, digests: Digests, check: Any) -> None:
        self.partial, self._digests, self._check = partial, digests, check
        self._pieces: list[bytes] = []
        self._size, self._turned = 0, time.monotonic()
        self._running: asyncio.Future[None] | None = None

    async def put(self, piece: bytes) -> None:
        """Take a piece; waits when the disk is slower than the sender."""
        self._pieces.append(piece)
        self._size += len(piece)
        is_due = self._size >= BATCH_BYTES or len(self._pieces) >= _BATCH_PIECES
        if is_due or time.monotonic() - self._turned > BATCH_S:
            await self._turn()

    async def _turn(self) -> None:
        """Let the collected pieces be written as soon as those before are."""
        await self._settle()
        pieces, self._pieces, self._size, self._turned = self._pieces, [], 0, time.monotonic()
        if pieces:
            loop = asyncio.get_running_loop()
            self._running = loop.run_in_executor(_threads(), self.partial.write, pieces, self._digests, self._check)

    async def _settle(self) -> None:
        """Wait for the thread; a cancelled wait leaves it for `finish`, which nothing outruns."""
        if self._running is not None:
            await asyncio.shield(self._running)
            self._running = None

    async def finish(self) -> None:
        """Write what is left.

        Raises:
            OSError
        """
        await self._turn()
        await self._settle()
