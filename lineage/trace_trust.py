"""Whom a certificate speaks for, and whether it leads to an authority that is trusted. Pure; RFC 5280, as far as traces need it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

#: Longer chains are none.
MAX_CHAIN = 8
_FOREIGN = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


class TrustInvalid(ValueError):
    """A file of certificates, keys or revocation lists cannot be read."""


@dataclass(frozen=True, slots=True)
class Trust:
    """What is known beforehand.

    Attributes:
        certificates: authorities, roots and those between; each that signed itself is a root.
        pinned: SHA-256 of the DER of certificates that are believed as they are.
        keys: SHA-256 of the public keys (SubjectPublicKeyInfo) that are believed, whatever their certificates say.
        revocations: revocation lists.
        revoked: SHA-256 of public keys that are believed no more, whatever lists say.
    """

    certificates: tuple[x509.Certificate, ...] = ()
    pinned: frozenset[bytes] = frozenset()
    keys: frozenset[bytes] = frozenset()
    revocations: tuple[x509.CertificateRevocationList, ...] = field(default=())
    revoked: frozenset[bytes] = frozenset()

    def knows(self, certificate: x509.Certificate) -> bool:
        """Whether the certificate, or its key, is believed as it is."""
        return certificate_sha256(certificate) in self.pinned or key_sha256(certificate) in self.keys


NOBODY = Trust()


def read_trust(authorities: Path | None, revocations: Path | None = None) -> Trust:
    """Trust of two files: certificates in PEM, one after the other; revocation lists in PEM or one in DER.

    Raises:
        TrustInvalid: one cannot be read.
    """
    try:
        found = x509.load_pem_x509_certificates(authorities.read_bytes()) if authorities else []
        lists = _lists(revocations.read_bytes()) if revocations else []
    except OSError as error:
        raise TrustInvalid(f"{error.filename} cannot be read") from None
    except ValueError:
        raise TrustInvalid("no certificates, or no revocation list, in the file") from None
    pinned = frozenset(certificate_sha256(one) for one in found)
    return Trust(tuple(found), pinned, frozenset(), tuple(lists))


def _lists(data: bytes) -> list[x509.CertificateRevocationList]:
    end = b"-----END X509 CRL-----"
    if end not in data:
        return [x509.load_der_x509_crl(data)]
    return [x509.load_pem_x509_crl(part + end) for part in data.split(end) if b"-----BEGIN" in part]


def certificate_sha256(certificate: x509.Certificate) -> bytes:
    """SHA-256 of its DER."""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()


def key_sha256(certificate: x509.Certificate) -> bytes:
    """SHA-256 of its public key (SubjectPublicKeyInfo)."""
    return hashlib.sha256(
        certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ).digest()


def key_kind(certificate: x509.Certificate) -> str:
    """ "RSA-2048", "ECDSA-256", or the name of another kind."""
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA-{key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"ECDSA-{key.key_size}"
    names = {ed25519.Ed25519PublicKey: "Ed25519", ed448.Ed448PublicKey: "Ed448", dsa.DSAPublicKey: "DSA"}
    return next((name for kind, name in names.items() if isinstance(key, kind)), "other")


def identities(certificate: x509.Certificate) -> frozenset[str]:
    """Who a certificate says that its holder is: common names, user ids and e-mail addresses."""
    found = set()
    for oid in (x509.NameOID.COMMON_NAME, x509.NameOID.USER_ID, x509.NameOID.EMAIL_ADDRESS):
        found |= {str(one.value) for one in certificate.subject.get_attributes_for_oid(oid)}
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found |= set(names.get_values_for_type(x509.RFC822Name))
    except _FOREIGN:
        pass
    return frozenset(found)


def grade_certificate(certificate: x509.Certificate, at: datetime, trust: Trust) -> tuple[str, bool]:
    """(grade, whether it leads to an authority that is trusted), at the time that the trace says.

    What weighs most is told: revoked, then the time, then who issued it.
    """
    chain = _chain(certificate, at, trust)
    is_trusted = chain is not None
    if _is_revoked(certificate, chain or [certificate], trust):
        return "revoked", False
    if at > certificate.not_valid_after_utc:
        return "expired_at_trace_time", is_trusted
    if at < certificate.not_valid_before_utc:
        return "not_yet_valid", is_trusted
    if is_trusted:
        return "valid", True
    return ("self_signed" if _issued(certificate, certificate) else "untrusted_chain"), False


def _chain(certificate: x509.Certificate, at: datetime, trust: Trust) -> list[x509.Certificate] | None:
    """The certificate and its issuers up to one that is believed; None: there is no such way.

    An authority's certificate must have been good when the trace's own was made, which may be long before the trace.
    """
    chain = [certificate]
    issued_at = certificate.not_valid_before_utc
    while not trust.knows(chain[-1]) or (chain[-1] is not certificate and not _issued(chain[-1], chain[-1])):
        if len(chain) > MAX_CHAIN:
            return None
        above = next(
            (one for one in trust.certificates if one not in chain and _may_issue(one, chain[-1], issued_at)), None
        )
        if above is None:
            return None
        chain.append(above)
    return chain


def _may_issue(authority: x509.Certificate, certificate: x509.Certificate, at: datetime) -> bool:
    try:
        constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
    except _FOREIGN:
        return False
    is_good = authority.not_valid_before_utc <= at <= authority.not_valid_after_utc
    return constraints.ca and is_good and _issued(authority, certificate)


def _issued(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except _FOREIGN:
        return False
    return True


def _is_revoked(certificate: x509.Certificate, chain: Iterable[x509.Certificate], trust: Trust) -> bool:
    """Whether one of a chain is in a list that its issuer signed; whenever that was, for a trace's time is not signed."""
    if key_sha256(certificate) in trust.revoked:
        return True
    for one in chain:
        for revoked in trust.revocations:
            if (
                revoked.issuer == one.issuer
                and revoked.get_revoked_certificate_by_serial_number(one.serial_number) is not None
            ):
                issuers = [*trust.certificates, certificate]
                if any(
                    _signed_list(revoked, authority) for authority in issuers if authority.subject == revoked.issuer
                ):
                    return True
    return False


def _signed_list(revoked: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    try:
        return revoked.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    except _FOREIGN:
        return False
