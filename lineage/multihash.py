"""Multihash, the form of STAC's `file:checksum`: code, length, digest, in hex (multiformats table)."""

from __future__ import annotations

#: Algorithm -> (code bytes, digest length in bytes).
CODES: dict[str, tuple[bytes, int]] = {
    "SHA256": (b"\x12", 32),
    "SHA3-256": (b"\x16", 32),
    "BLAKE3": (b"\x1e", 32),
    "MD5": (b"\xd5\x01", 16),
}


def encode(algorithm: str, digest_hex: str) -> str:
    """Return the multihash in lower-case hex.

    Raises:
        ValueError: unknown algorithm, no hex, or a digest of another length.
    """
    if algorithm not in CODES:
        raise ValueError(f"unknown hash algorithm {algorithm!r}")
    code, length = CODES[algorithm]
    digest = bytes.fromhex(digest_hex)
    if len(digest) != length:
        raise ValueError(f"a {algorithm} digest has {length} bytes, not {len(digest)}")
    return (code + bytes([length]) + digest).hex()


def decode(multihash_hex: str) -> tuple[str, str]:
    """Return (algorithm, digest in hex).

    Raises:
        ValueError: no valid multihash of a known algorithm.
    """
    data = bytes.fromhex(multihash_hex)
    for algorithm, (code, length) in CODES.items():
        head = code + bytes([length])
        if data.startswith(head) and len(data) == len(head) + length:
            return algorithm, data[len(head) :].hex()
    raise ValueError(f"no known multihash: {multihash_hex[:12]}...")
