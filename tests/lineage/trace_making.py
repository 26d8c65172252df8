"""Traces as trace-cli makes them, with keys and certificates of all kinds."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

NOW = datetime.now(UTC).replace(microsecond=0)
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Holder:
    """A key and its certificate."""

    key: Key
    certificate: x509.Certificate

    @property
    def text(self) -> str:
        return base64.b64encode(self.certificate.public_bytes(Encoding.DER)).decode()

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def public_pem(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, message: bytes) -> bytes:
        if isinstance(self.key, rsa.RSAPrivateKey):
            return self.key.sign(message, padding.PKCS1v15(), hashes.SHA256())
        return self.key.sign(message, ec.ECDSA(hashes.SHA256()))


def new_key(kind: str = "ec") -> Key:
    """Elliptic ones are made at once; RSA takes a moment."""
    return ec.generate_private_key(ec.SECP256R1()) if kind == "ec" else rsa.generate_private_key(65537, 2048)


def holder(
    name: str, *, by: Holder | None = None, kind: str = "ec", ca: bool = False, email: str = "",
    starts: datetime = NOW - timedelta(days=10), ends: datetime = NOW + timedelta(days=10),
) -> Holder:  # fmt: skip
    """A certificate for `name`, signed by itself or `by` an authority."""
    key = new_key(kind)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(by.certificate.subject if by else subject)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(starts).not_valid_after(ends)
    builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    if email:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.RFC822Name(email)]), critical=False)
    return Holder(key, builder.sign(by.key if by else key, hashes.SHA256()))


@cache
def ann() -> Holder:
    """Whoever is called ann."""
    return holder("ann")


def revocations(authority: Holder, *revoked: Holder) -> x509.CertificateRevocationList:
    """A list of the authority's."""
    builder = x509.CertificateRevocationListBuilder().issuer_name(authority.certificate.subject)
    builder = builder.last_update(NOW).next_update(NOW + timedelta(days=1))
    for one in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(one.certificate.serial_number).revocation_date(NOW)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(authority.key, hashes.SHA256())


def product(number: int = 1, **members: Any) -> dict[str, Any]:
    """A product as trace-cli describes it."""
    return {"name": f"PRODUCT_{number}.SAFE.zip", "size": 1000 + number, "hash": f"{number:064x}", **members}


def made(by: Holder | None, described: dict[str, Any], event: str = "CREATE", **members: Any) -> dict[str, Any]:
    """A signed RegisterTrace, or an unsigned one. The message is written by this test's own hands, for plain texts."""
    order = {"contents": ("hash", "path"), "hash": (), "inputs": ("hash", "name"), "name": (), "size": ()}
    said: dict[str, Any] = {}
    for name, inner in order.items():
        if described.get(name) is not None:
            value = described[name]
            said[name] = [{key: one[key] for key in inner} for one in value] if inner else value
    message = json.dumps({**said, "event": event}, separators=(",", ":"), ensure_ascii=False)
    signature = {"signature": "", "algorithm": "", "certificate": "", "message": ""}
    if by is not None:
        algorithm = "RSA-SHA256" if isinstance(by.key, rsa.RSAPrivateKey) else "ECDSA-SHA256"
        signed = base64.b64encode(by.sign(message.encode())).decode()
        signature = {"signature": signed, "algorithm": algorithm, "certificate": by.text, "message": message}
    return {"product": described, "event": event, "hash_algorithm": "BLAKE3", "signature": signature, **members}


def answered(trace: dict[str, Any], number: int = 1, at: datetime = NOW) -> dict[str, Any]:
    """A trace as a service answers it."""
    time = at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    identity = f"7374c9be-84c5-4ea4-8b2b-{number:012x}"
    return {"obsolescence": None, **trace, "timestamp": time, "origin": "service@example.org", "id": identity}
