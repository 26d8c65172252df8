"""Signed notes, checkpoints and cosignatures (C2SP signed-note, tlog-checkpoint, tlog-cosignature), writing side. Reading and judging is
`lineage.verify`.
"""

from __future__ import annotations

import base64
import hashlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ED25519 = b"\x01"
COSIGNATURE = b"\x04"  # Ed25519 over a checkpoint and a time
COSIGNATURE_MLDSA44 = b"\x06"  # ML-DSA-44 over a checkpoint, a time and the cosigner's name

#: Either kind of key that cosigns.
CosigningKey = Ed25519PrivateKey | MLDSA44PrivateKey
#: Bytes of a name in what ML-DSA-44 signs: of the cosigner, and of the log.
MAX_NAME_BYTES = 255


def public_bytes(key: CosigningKey) -> bytes:
    """Raw bytes of the public key: 32 of Ed25519, 1312 of ML-DSA-44."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def key_hash(name: str, public: bytes, kind: bytes = ED25519) -> bytes:
    """First four bytes of SHA-256(name, newline, algorithm, public key): names a key in a signature line."""
    return hashlib.sha256(name.encode() + b"\n" + kind + public).digest()[:4]


def vkey(name: str, key: CosigningKey, kind: bytes = ED25519) -> str:
    """The verifier key as text: name+hash+key."""
    public = public_bytes(key)
    return f"{name}+{key_hash(name, public, kind).hex()}+{base64.b64encode(kind + public).decode()}"


def cosigner_vkey(name: str, key: CosigningKey) -> str:
    """The verifier key of one that cosigns."""
    return vkey(name, key, COSIGNATURE if isinstance(key, Ed25519PrivateKey) else COSIGNATURE_MLDSA44)


def key_id(vkey: str) -> str:
    """The short name of a key: name+hash of its verifier key (whose base64 may hold a plus sign too)."""
    return "+".join(vkey.split("+", 2)[:2])


def checkpoint_text(origin: str, size: int, root: bytes) -> str:
    """Text of a checkpoint: origin, size, root, a line each."""
    return f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"


def signature_line(text: str, name: str, key: Ed25519PrivateKey) -> str:
    """One signature line of a note, with its newline."""
    return _line(name, key_hash(name, public_bytes(key)), key.sign(text.encode()))


def cosignature_line(text: str, name: str, key: CosigningKey, time_s: int) -> str:
    """A line that says that this checkpoint was the newest at a time, in seconds since 1970 (tlog-cosignature; `cosignature/v1` with
    Ed25519, `subtree/v1` with ML-DSA-44).
    """
    if isinstance(key, Ed25519PrivateKey):
        kind, message = COSIGNATURE, f"cosignature/v1\ntime {time_s}\n{text}".encode()
    else:
        kind, message = COSIGNATURE_MLDSA44, cosigned_message(text, name, time_s)
    return _line(name, key_hash(name, public_bytes(key), kind), time_s.to_bytes(8, "big") + key.sign(message))


def cosigned_message(text: str, name: str, time_s: int) -> bytes:
    """What ML-DSA-44 signs of a checkpoint's text: `cosigned_message` in the presentation of RFC 8446, section 3.

    Raises:
        ValueError: the log's name or the cosigner's has no byte, or more than 255.
    """
    origin, size, root = text.split("\n")[:3]
    names = [name.encode(), origin.encode()]
    if not all(1 <= len(one) <= MAX_NAME_BYTES for one in names):
        raise ValueError(f"a name in a cosignature has 1 to {MAX_NAME_BYTES} bytes: {name}, {origin}")
    cosigner, log = (len(one).to_bytes(1, "big") + one for one in names)
    of_all = (0).to_bytes(8, "big") + int(size).to_bytes(8, "big")
    return b"subtree/v1\n\0" + cosigner + time_s.to_bytes(8, "big") + log + of_all + base64.b64decode(root)


def _line(name: str, short: bytes, signature: bytes) -> str:
    return f"\u2014 {name} {base64.b64encode(short + signature).decode()}\n"


def sign_note(text: str, name: str, *keys: Ed25519PrivateKey, time_s: int | None = None) -> str:
    """Return the note: text, blank line, a signature line a key, and with `time_s` a line of the first key's that tells the time."""
    lines = [signature_line(text, name, key) for key in keys]
    if time_s is not None:
        lines.append(cosignature_line(text, name, keys[0], time_s))
    return f"{text}\n{''.join(lines)}"


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: what an event's signature is over."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
