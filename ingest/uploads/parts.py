"""Bytes that a client sends to the bucket itself, in parts, by presigned URLs: the same states, no byte through this server.

A URL is bound to one part and its length and lives 15 minutes. The server believes nothing of what the client says of parts: it lists
them and checks numbers and sizes before it joins them; the worker hashes what it fetches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import httpx

from db.pools import Pool
from db.queries import sql
from ingest.errors import UploadRejected
from ingest.settings import IngestSettings
from ingest.uploads import originals
from ingest.uploads.digests import digests_of
from ingest.uploads.model import State, Upload
from ingest.uploads.originals import StoreFailed
from ingest.uploads.receiving import check_there, other_file
from ingest.uploads.service import folder_of, get, move
from ingest.uploads.sigv4 import Account, presign

URL_S = 900
#: S3's own bounds.
MAX_PARTS = 10_000
_ASK_S = 60
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Part:
    """One part as the bucket has it."""

    number: int
    size: int
    etag: str


def part_bytes(settings: IngestSettings, length: int) -> int:
    """Size of each part but the last of a file of `length` bytes, in whole MiB.

    Raises:
        UploadRejected: PARTS_UNAVAILABLE (400): no bucket is set.
    """
    if not originals.has_bucket(settings):
        raise UploadRejected("PARTS_UNAVAILABLE", "this service has no object store; send by tus or PUT", status=400)
    least = -(-length // MAX_PARTS)
    return max(settings.upload_part_bytes, -(-least // _MIB) * _MIB)


def sizes(upload: Upload) -> list[int]:
    """Size of each part, in order."""
    assert upload.length is not None
    assert upload.part_bytes is not None
    whole, rest = divmod(upload.length, upload.part_bytes)
    return [upload.part_bytes] * whole + ([rest] if rest else [])


def check_parts(upload: Upload, found: Sequence[Part]) -> None:
    """Are all parts there, each of its size, and none else?

    Raises:
        UploadRejected: PARTS_INCOMPLETE (409) with the numbers that are missing, wrong or too many (ten of each at most).
    """
    wanted = dict(enumerate(sizes(upload), start=1))
    have = {part.number: part.size for part in found}
    facts = {
        "missing": [number for number in wanted if number not in have],
        "wrong": [number for number, size in have.items() if number in wanted and size != wanted[number]],
        "unknown": [number for number in have if number not in wanted],
    }
    if any(facts.values()):
        some = {name: numbers[:10] for name, numbers in facts.items()}
        raise UploadRejected(
            "PARTS_INCOMPLETE", "the bucket has not exactly the parts of this upload", status=409, **some
        )


async def begin(pool: Pool, settings: IngestSettings, upload: Upload) -> Upload:
    """Open the bucket's multipart upload, once.

    Raises:
        UploadRejected: EXPIRED, DELETED (410): it ended meanwhile, and nothing is left at the bucket.
        StoreFailed
    """
    if upload.store_upload is not None:
        return upload
    name = _one(await _ask(settings, "POST", upload.id, {"uploads": ""}), "UploadId")
    async with pool.connection() as conn, conn.transaction():
        row = await (await conn.execute(sql("uploads.set_store_upload"), (upload.id, name))).fetchone()
        if row is not None:
            return await move(conn, upload.id, State.UPLOADING)
    # Another request was quicker: one that began, too, or one that ended the upload and could not know of this name.
    await _ask(settings, "DELETE", upload.id, {"uploadId": name}, absent=404)
    async with pool.connection() as conn:
        upload = await get(conn, upload.id)
    check_there(upload)
    return upload


def url_of(settings: IngestSettings, upload: Upload, number: int, now: datetime) -> dict[str, object]:
    """Where one part is sent to by PUT, with exactly its length.

    Raises:
        UploadRejected: PART_UNKNOWN (422).
    """
    all_sizes = sizes(upload)
    if not 1 <= number <= len(all_sizes):
        raise UploadRejected("PART_UNKNOWN", f"parts are numbered 1 to {len(all_sizes)}", actual=number)
    assert upload.store_upload is not None
    size = all_sizes[number - 1]
    query = {"partNumber": str(number), "uploadId": upload.store_upload}
    url = presign(
        _account(settings), "PUT", _url(settings, upload.id), at=now, expires_s=URL_S, query=query,
        headers={"Content-Length": str(size)},
    )  # fmt: skip
    return {"number": number, "size": size, "url": url, "method": "PUT", "headers": {"Content-Length": str(size)}}


async def listed(settings: IngestSettings, upload: Upload) -> list[Part] | None:
    """The parts that the bucket has; None when it knows no such multipart upload (any more).

    Raises:
        StoreFailed
    """
    found: list[Part] = []
    if upload.store_upload is None:
        return found
    marker = "0"
    while True:
        query = {"uploadId": upload.store_upload, "part-number-marker": marker, "max-parts": "1000"}
        text = await _ask(settings, "GET", upload.id, query, absent=404)
        if text is None:
            return None
        tree = _tree(text)
        for node in tree.iter():
            if node.tag.endswith("}Part") or node.tag == "Part":
                values = {child.tag.rpartition("}")[2]: child.text or "" for child in node}
                try:
                    found.append(Part(int(values["PartNumber"]), int(values["Size"]), values["ETag"]))
                except (KeyError, ValueError):
                    raise StoreFailed("the bucket lists its parts in another way") from None
        following = _one(text, "NextPartNumberMarker", "0")
        if _one(text, "IsTruncated", "false") != "true" or int(following or 0) <= int(marker):
            return found
        marker = following


async def join(pool: Pool, settings: IngestSettings, upload: Upload) -> Upload:
    """Check and join the parts, move on and enqueue the work. A crash in between is made good by asking again.

    Raises:
        UploadRejected: PARTS_INCOMPLETE (409).
        StoreFailed, IllegalArrow
    """
    from ingest.worker import PROCESS_UPLOAD, defer_in  # the worker imports this package

    found = await listed(settings, upload)
    if found is not None:
        check_parts(upload, found)
        assert upload.store_upload is not None
        parts = "".join(
            f"<Part><PartNumber>{part.number}</PartNumber><ETag>{escape(part.etag)}</ETag></Part>" for part in found
        )
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>"
        await _ask(settings, "POST", upload.id, {"uploadId": upload.store_upload}, body=body)
    size = await originals.size_in_bucket(settings, upload.id)
    if size != upload.length:
        raise UploadRejected("PARTS_INCOMPLETE", "the bucket has not the whole file", status=409, actual=size)
    async with pool.connection() as conn, conn.transaction():
        await conn.execute(sql("uploads.set_received"), (upload.id, size, None, None))
        received = await move(conn, upload.id, State.RECEIVED)
        await defer_in(conn, PROCESS_UPLOAD, lock=f"upload/{upload.id}", upload_id=str(upload.id))
    return received


async def fetch(pool: Pool, settings: IngestSettings, upload: Upload) -> None:
    """Before a worker begins: the original as a local file, with its hashes, and the file that was promised.

    Raises:
        UploadRejected: CHECKSUM_MISMATCH.
        StoreFailed: try again later.
        FileNotFoundError: the upload was taken back.
    """
    try:
        sha256 = await _fetched(pool, settings, upload)
    except (StoreFailed, FileNotFoundError):
        raise
    except OSError as error:
        raise StoreFailed("an original cannot be stored here") from error
    if upload.state is State.RECEIVED and upload.promised_sha256 not in (None, sha256):
        raise other_file(sha256)


async def _fetched(pool: Pool, settings: IngestSettings, upload: Upload) -> bytes:
    """Bring the original here; return its SHA-256, which is in the upload then."""
    folder = folder_of(settings, upload.id)
    digests = await originals.bring_original(settings, upload.id, folder)
    if upload.sha256 is not None:
        if digests is not None and digests.sha256.hex() != upload.sha256:
            # Else they would be taken at the next try.
            await asyncio.to_thread((folder / "original").unlink, missing_ok=True)
            raise StoreFailed("the bucket gave other bytes than it was given")
        return bytes.fromhex(upload.sha256)
    if digests is None:
        digests = await asyncio.to_thread(digests_of, folder / "original")
    async with pool.connection() as conn:
        await conn.execute(sql("uploads.set_hashes"), (upload.id, digests.sha256, digests.blake3))
    return digests.sha256


async def abort(settings: IngestSettings, upload: Upload) -> None:
    """Let the bucket forget the parts. May be done twice.

    Raises:
        StoreFailed
    """
    if upload.store_upload is not None:
        await _ask(settings, "DELETE", upload.id, {"uploadId": upload.store_upload}, absent=404)


def _account(settings: IngestSettings) -> Account:
    return Account(settings.store_key_id, settings.store_secret.get_secret_value(), settings.store_region)


def _url(settings: IngestSettings, upload_id: UUID) -> str:
    bucket, _ = originals.bucket_of(settings)
    name = originals.object_name(settings, upload_id)
    if settings.store_endpoint:
        return f"{settings.store_endpoint.rstrip('/')}/{bucket}/{name}"
    return f"https://{bucket}.s3.{settings.store_region}.amazonaws.com/{name}"


async def _ask(
    settings: IngestSettings,
    method: str,
    upload_id: UUID,
    query: dict[str, str],
    *,
    body: str | None = None,
    absent: int | None = None,
) -> str | None:
    """One call of the multipart API; None when it answers `absent`.

    Raises:
        StoreFailed
    """
    url = presign(
        _account(settings), method, _url(settings, upload_id), at=datetime.now(UTC), expires_s=_ASK_S, query=query
    )
    try:
        async with httpx.AsyncClient(timeout=_ASK_S) as http:
            answer = await http.request(method, url, content=body)
    except httpx.HTTPError as error:
        raise StoreFailed(f"the bucket does not answer: {type(error).__name__}") from error
    if absent is not None and answer.status_code == absent:
        return None
    # S3 may say 200 and then that joining failed
    if answer.status_code // 100 != 2 or "<Error>" in answer.text[:1000]:
        raise StoreFailed(f"the bucket answers {answer.status_code} to {method}")
    return answer.text


def _tree(text: str) -> ElementTree.Element:
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise StoreFailed("the bucket's answer has a document type")
    try:
        return ElementTree.fromstring(text)  # noqa: S314 - no document type, so no entities; our own store
    except ElementTree.ParseError as error:
        raise StoreFailed("the bucket's answer is no XML") from error


def _one(text: str | None, name: str, default: str | None = None) -> str:
    for node in _tree(text or "").iter():
        if node.tag.rpartition("}")[2] == name:
            return node.text or ""
    if default is None:
        raise StoreFailed(f"the bucket's answer has no {name}")
    return default
