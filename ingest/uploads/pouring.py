"""A body on its way into an upload's file: arriving on the event loop, written and hashed in threads, a piece at a time.

It ends with its last byte, at its limit, after too long a silence, or because somebody else asks for the file.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import hmac
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from ingest.errors import UploadRejected
from ingest.settings import IngestSettings
from ingest.uploads.digests import Digests
from ingest.uploads.inflow import SenderGone, Source
from ingest.uploads.partial import Partial
from ingest.uploads.sink import Sink

log = logging.getLogger(__name__)

#: A slow sender's bytes wait no longer than this before they are written.
BATCH_S = 1.0
_LOOK_S = 0.2


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
    source: Source,
    limit: Limit,
    checksum: Checksum | None,
    settings: IngestSettings,
) -> tuple[Digests, Exception | None]:
    """Write a body behind the file's end, durable. Return the hashes of the whole file, and what went wrong.

    Bytes stay unless they break a rule, or had a checksum that cannot be right any more.
    """
    start, check = partial.size, _check_of(checksum, partial, digests)
    failure: Exception | None = None
    try:
        if checksum:
            await in_thread(partial.mark)
        await _take(source, Sink(partial, digests, check, _threads()), limit, settings.upload_silence_s)
        if checksum and not hmac.compare_digest(check.digest() if check else digests.sha256, checksum.digest):
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


def _check_of(checksum: Checksum | None, partial: Partial, digests: Digests) -> Any:
    """The hash of a request's bytes alone; None: none is asked for, or the file's SHA-256 will be the same."""
    if checksum is None or (checksum.algorithm == "sha256" and partial.size == digests.position == 0):
        return None
    return hashlib.new(checksum.algorithm, usedforsecurity=False)


async def _take(source: Source, sink: Sink, limit: Limit, silence_s: float) -> None:
    """Take a body until its end, its limit, too long a silence, or somebody's wish to have the file."""
    loop, partial, wish = asyncio.get_running_loop(), sink.partial, ""
    waiting_since: float | None = None  # for a byte; None: bytes wait for the disk

    async def watch(deadline: asyncio.Timeout) -> None:
        nonlocal wish
        look_s = min(_LOOK_S, silence_s / 5)
        while not wish and (waiting_since is None or loop.time() - max(waiting_since, source.heard) < silence_s):
            await asyncio.sleep(look_s)
            why = await in_thread(partial.is_asked_to_stop)
            wish = why or ""
        deadline.reschedule(loop.time())

    piece, taken, more = None, 0, True
    try:
        async with asyncio.timeout(None) as deadline:
            watcher = asyncio.create_task(watch(deadline))
            try:
                while more:
                    piece = await sink.piece(limit.size - taken + 1)  # one too many is soon seen
                    waiting_since = waiting_since or loop.time()
                    more = await source.fill(piece, min(BATCH_S, silence_s / 3))
                    waiting_since = None if piece.size else waiting_since
                    taken += piece.size
                    if taken > limit.size:
                        piece = None
                        raise limit.excess
                    sink.put(piece)
                    piece = None
            finally:
                watcher.cancel()
    except TimeoutError:
        raise _why_ended(wish, silence_s) from None
    finally:
        if piece is not None and taken + piece.size <= limit.size:  # what had come when it ended
            sink.put(piece)
        await sink.finish()


def _why_ended(wish: str, silence_s: float) -> Ended:
    if wish == "delete":
        return Ended("DELETED", "the upload was deleted", status=410)
    if wish:
        return Ended("INTERRUPTED", "another request asked for this upload; look for the offset and go on", status=409)
    return Ended("SENDER_SILENT", f"no byte came for {silence_s:g} s; look for the offset and go on", status=408)
