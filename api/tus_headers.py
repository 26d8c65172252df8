"""Reading the headers of tus 1.0.0 (tus.io/protocols/resumable-upload) and of RFC 9530 digests.

Pure functions; every refusal is a 4xx.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Mapping

from api.problems import Problem
from ingest.uploads.pouring import Checksum

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,expiration,checksum,termination"
ALGORITHMS = {"sha1": 20, "sha256": 32}
BODY_TYPE = "application/offset+octet-stream"
MAX_METADATA_BYTES = 8192
MAX_METADATA_KEYS = 64
#: What browsers must let scripts of other origins send and read.
EXPOSED = (
    "Location", "Tus-Resumable", "Tus-Version", "Tus-Extension", "Tus-Max-Size", "Tus-Checksum-Algorithm",
    "Upload-Offset", "Upload-Length", "Upload-Metadata", "Upload-Expires", "Retry-After",
)  # fmt: skip
_DIGESTS = {"sha-256": ("sha256", 32), "sha-512": ("sha512", 64)}
_KEY = re.compile(r"[\x21-\x2b\x2d-\x7e]+")
_DIGEST = re.compile(r"\s*([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/]*={0,2}):\s*")


def is_tus(headers: Mapping[str, str]) -> bool:
    """Does a POST speak tus, rather than our own JSON?"""
    names = ("tus-resumable", "upload-length", "upload-defer-length", "upload-metadata", "upload-concat")
    return any(name in headers for name in names)


def check_version(headers: Mapping[str, str]) -> None:
    """One version is spoken here.

    Raises:
        Problem: 412.
    """
    if headers.get("tus-resumable") != VERSION:
        detail = f"send Tus-Resumable: {VERSION}"
        raise Problem(412, "TUS_VERSION", detail, headers={"Tus-Version": VERSION})


def check_body_type(headers: Mapping[str, str]) -> None:
    """Bytes of an upload have a media type of their own.

    Raises:
        Problem: 415.
    """
    if headers.get("content-type", "").strip().lower() != BODY_TYPE:
        raise Problem(415, "UNSUPPORTED_MEDIA_TYPE", f"send Content-Type: {BODY_TYPE}")


def number(headers: Mapping[str, str], name: str) -> int | None:
    """A whole number that is not negative; None when there is no such header.

    Raises:
        Problem: 400.
    """
    text = headers.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise Problem(400, "INVALID_HEADER", f"{name} is a whole number of bytes", field=name)
    return int(text)


def needed_number(headers: Mapping[str, str], name: str) -> int:
    """A number that must be there.

    Raises:
        Problem: 400.
    """
    found = number(headers, name)
    if found is None:
        raise Problem(400, "HEADER_MISSING", f"send {name}", field=name)
    return found


def upload_length(headers: Mapping[str, str]) -> int:
    """Upload-Length of a creation.

    Raises:
        Problem: 400; also for extensions that are not offered here.
    """
    for name, extension in (("upload-defer-length", "creation-defer-length"), ("upload-concat", "concatenation")):
        if name in headers:
            raise Problem(400, "EXTENSION_UNSUPPORTED", f"the extension {extension} is not offered here", field=name)
    return needed_number(headers, "upload-length")


def metadata(text: str) -> dict[str, str]:
    """Upload-Metadata: keys and base64 values. Values that are no UTF-8 are for their senders alone and left out.

    Raises:
        Problem: 400.
    """
    if not text.isascii():
        raise _bad_metadata()
    if len(text) > MAX_METADATA_BYTES:
        limit = MAX_METADATA_BYTES
        raise Problem(400, "METADATA_TOO_LARGE", f"Upload-Metadata has at most {limit} bytes", limit=limit)
    found: dict[str, str] = {}
    pairs = [pair.strip() for pair in text.split(",")] if text.strip() else []
    if len(pairs) > MAX_METADATA_KEYS:
        raise _bad_metadata()
    for pair in pairs:
        key, _, value = pair.partition(" ")
        if not _KEY.fullmatch(key) or key in found:
            raise _bad_metadata()
        try:
            found[key] = b64decode(value.strip(), validate=True).decode("utf-8")
        except binascii.Error:
            raise _bad_metadata() from None
        except UnicodeDecodeError:
            found[key] = ""
    return found


def _bad_metadata() -> Problem:
    detail = "Upload-Metadata is pairs 'key base64', divided by commas, each key once"
    return Problem(400, "INVALID_METADATA", detail, field="upload-metadata")


def checksum(headers: Mapping[str, str]) -> Checksum | None:
    """Upload-Checksum of a request's bytes.

    Raises:
        Problem: 400.
    """
    text = headers.get("upload-checksum")
    if text is None:
        return None
    algorithm, _, value = text.strip().partition(" ")
    if algorithm not in ALGORITHMS:
        offered = ", ".join(ALGORITHMS)
        raise Problem(400, "CHECKSUM_ALGORITHM", f"checksums are made by {offered}", field="upload-checksum")
    return Checksum(algorithm, _digest(value, ALGORITHMS[algorithm], "upload-checksum"))


def content_digest(headers: Mapping[str, str]) -> Checksum | None:
    """Content-Digest or Repr-Digest of a whole file (RFC 9530); the strongest that we know.

    Raises:
        Problem: 400 when there is one and none that we know.
    """
    for name in ("content-digest", "repr-digest"):
        text = headers.get(name)
        if text is None:
            continue
        members = [_DIGEST.fullmatch(member) for member in text.split(",")]
        given = {match[1]: match[2] for match in members if match}
        if len(given) != len(members):
            raise Problem(400, "INVALID_DIGEST", f"{name} is algorithm=:base64:", field=name)
        for algorithm in ("sha-512", "sha-256"):
            if algorithm in given:
                known, size = _DIGESTS[algorithm]
                return Checksum(known, _digest(given[algorithm], size, name), status=422)
        want = {"Want-Content-Digest": "sha-256=10, sha-512=3"}
        raise Problem(400, "DIGEST_ALGORITHM", "digests are made by sha-256 or sha-512", headers=want, field=name)
    return None


def _digest(value: str, size: int, field: str) -> bytes:
    try:
        digest = b64decode(value.strip(), validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != size:
        raise Problem(400, "INVALID_DIGEST", f"the digest of this algorithm has {size} bytes, in base64", field=field)
    return digest
