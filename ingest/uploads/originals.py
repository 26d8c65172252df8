"""Where originals are kept: in the upload's folder, or, when a bucket is set, in an S3-compatible store.

A worker always reads a local file: `bring_original` fetches it, and its hashes when the client sent the bytes to the store itself.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import UUID

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from ingest.settings import IngestSettings
from ingest.uploads.digests import Digests
from ingest.uploads.partial import sync_folder

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

_CHUNK_BYTES = 8 * 2**20


class StoreFailed(OSError):
    """The bucket does not answer or does not want to; try again later."""


def has_bucket(settings: IngestSettings) -> bool:
    """Are originals kept in a bucket?"""
    return bool(settings.upload_store_url)


def bucket_of(settings: IngestSettings) -> tuple[str, str]:
    """Name of the bucket, and the prefix of our names in it ("" or "a/b/")."""
    parts = urlsplit(settings.upload_store_url)
    prefix = parts.path.strip("/")
    return parts.netloc, f"{prefix}/" if prefix else ""


def object_name(settings: IngestSettings, upload_id: UUID) -> str:
    """Name of an original in the bucket."""
    return f"{bucket_of(settings)[1]}uploads/{upload_id}/original"


def _store(settings: IngestSettings) -> S3Store:
    config: S3Config = {"region": settings.store_region}
    if settings.store_key_id:
        config["access_key_id"] = settings.store_key_id
        config["secret_access_key"] = settings.store_secret.get_secret_value()
    if settings.store_endpoint:
        config["endpoint"] = settings.store_endpoint
    options: ClientConfig = {"allow_http": settings.store_endpoint.startswith("http://"), "timeout": "10 minutes"}
    patience: RetryConfig = {"max_retries": 3, "retry_timeout": timedelta(seconds=60)}  # who asks has more of it
    return S3Store(bucket_of(settings)[0], config=config, client_options=options, retry_config=patience)


async def keep_original(settings: IngestSettings, upload_id: UUID, path: Path) -> None:
    """Put a complete, durable file where originals are kept. May be done twice.

    Raises:
        StoreFailed
    """
    if not has_bucket(settings):
        return  # it lies where it belongs
    try:
        await obstore.put_async(_store(settings), object_name(settings, upload_id), path, chunk_size=_CHUNK_BYTES)
    except BaseError as error:
        raise StoreFailed("the bucket did not take an original") from error


async def bring_original(settings: IngestSettings, upload_id: UUID, folder: Path) -> Digests | None:
    """Let a worker have the original as a local file; the hashes when it had to be fetched.

    Raises:
        StoreFailed, OSError
    """
    target, temporary = folder / "original", folder / "fetching"
    if not has_bucket(settings) or await asyncio.to_thread(target.exists):
        return None
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    digests = Digests()
    try:
        answer = await obstore.get_async(_store(settings), object_name(settings, upload_id))
        with await asyncio.to_thread(temporary.open, "w+b", buffering=0) as file:
            async for chunk in answer.stream(_CHUNK_BYTES):
                await asyncio.to_thread(_append, file.fileno(), bytes(chunk), digests)
            await asyncio.to_thread(os.fsync, file.fileno())
    except (BaseError, FileNotFoundError) as error:
        raise StoreFailed("the bucket did not give an original") from error
    await asyncio.to_thread(temporary.replace, target)
    await asyncio.to_thread(sync_folder, folder)
    return digests


def _append(descriptor: int, chunk: bytes, digests: Digests) -> None:
    start = digests.position
    written = 0
    while written < len(chunk):
        written += os.pwrite(descriptor, chunk[written:], start + written)
    digests.take(descriptor, chunk, start)


async def drop_original(settings: IngestSettings, upload_id: UUID) -> None:
    """Remove an original from the bucket; nothing when it is not there.

    Raises:
        StoreFailed
    """
    if not has_bucket(settings):
        return
    try:
        with suppress(FileNotFoundError):
            await obstore.delete_async(_store(settings), object_name(settings, upload_id))
    except BaseError as error:
        raise StoreFailed("the bucket did not let an original go") from error


async def size_in_bucket(settings: IngestSettings, upload_id: UUID) -> int | None:
    """Bytes of an original in the bucket, None when it is not there.

    Raises:
        StoreFailed
    """
    try:
        found = await obstore.head_async(_store(settings), object_name(settings, upload_id))
    except FileNotFoundError:
        return None
    except BaseError as error:
        raise StoreFailed("the bucket does not answer") from error
    return int(found["size"])
