"""The hashes that an event's body names: `hashes: [{alg, digest, path?}]`."""

from __future__ import annotations

from typing import Any

#: Longer ones are none that we know, and no index takes them.
MAX_DIGEST_BYTES, MAX_ALGORITHM = 64, 32


def hashes_of(body: dict[str, Any]) -> list[tuple[str, bytes]]:
    """Return (algorithm, digest) of every well-formed entry; malformed ones are left out, never an error."""
    found = []
    for entry in _entries(body):
        try:
            algorithm, digest = str(entry["alg"]).upper(), bytes.fromhex(str(entry["digest"]))
        except (KeyError, TypeError, ValueError):
            continue
        if len(algorithm) <= MAX_ALGORITHM and 0 < len(digest) <= MAX_DIGEST_BYTES:
            found.append((algorithm, digest))
    return found


def product_hash(body: dict[str, Any]) -> tuple[str, str]:
    """(algorithm, digest in hex) of the whole product: BLAKE3 before SHA256 before SHA3 before any; ("", "") when none is known."""
    order = ("BLAKE3", "SHA256", "SHA3-256")
    whole = [entry for entry in _entries(body) if isinstance(entry, dict) and not entry.get("path")]
    named = {str(entry.get("alg", "")).upper(): str(entry.get("digest", "")).lower() for entry in whole}
    for algorithm in (*order, *sorted(named)):
        if named.get(algorithm):
            return algorithm, named[algorithm]
    return "", ""


def _entries(body: dict[str, Any]) -> list[Any]:
    listed = body.get("hashes")
    return listed if isinstance(listed, list) else []
