"""Cosignatures with ML-DSA-44 (FIPS 204; C2SP tlog-cosignature, type 0x06): what is signed, and whether it holds."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

MLDSA_PUBLIC_BYTES, MLDSA_SIGNATURE_BYTES = 1312, 2420
_LABEL = b"subtree/v1\n\0"


def cosigned_message(cosigner: str, time_s: int, origin: str, size: int, root: bytes) -> bytes | None:
    """The bytes that are signed of a checkpoint; None when one of the values has no place in them."""
    names = [name.encode("utf-8", "surrogatepass") for name in (cosigner, origin)]
    if not all(1 <= len(name) <= 255 for name in names) or len(root) != 32 or size >= 2**64:
        return None
    first, second = (bytes([len(name)]) + name for name in names)
    start = 0  # a checkpoint is of all leaves
    return b"".join(
        [_LABEL, first, time_s.to_bytes(8, "big"), second, start.to_bytes(8, "big"), size.to_bytes(8, "big"), root]
    )


def mldsa_verdict(public: bytes, signature: bytes, message: bytes) -> str:
    """ok, bad, or unjudged: the `cryptography` that is installed, or the OpenSSL under it, has no ML-DSA."""
    if (len(public), len(signature)) != (MLDSA_PUBLIC_BYTES, MLDSA_SIGNATURE_BYTES):
        return "bad"
    try:
        from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

        MLDSA44PublicKey.from_public_bytes(public).verify(signature, message)
    except (ImportError, UnsupportedAlgorithm):
        return "unjudged"
    except (InvalidSignature, ValueError):
        return "bad"
    return "ok"
