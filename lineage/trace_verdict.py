"""What a trace is worth: graded, never one yes or no. Pure.

`signature`    ok | bad | none | unknown_key (no certificate, or of a kind of key that no client knows) | undecodable
`certificate`  valid | expired_at_trace_time | not_yet_valid | untrusted_chain | revoked | self_signed | n/a
`content`      match | mismatch | partial | not_listed | wrong_algorithm; None: there was nothing to compare
`log`          included | pending | absent | inconsistent | unwitnessed; None: nobody asked a log
`status`       current | superseded | obsolete | deleted_here | unknown
`overall`      good | doubtful | bad: the worst of those that the policy asks for
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from lineage.trace_parse import Trace
from lineage.trace_trust import NOBODY, Trust, certificate_sha256, grade_certificate, key_kind, key_sha256

GRADES = ("signature", "certificate", "content", "log", "status")
#: What a caller asks for who says nothing.
USUAL_POLICY = ("signature", "certificate", "content", "status")
#: Of a trace nothing else is signed (service description 1.1.0; lineage design 1.4).
NOT_SIGNED = ("timestamp", "origin", "obsolescence", "hash_algorithm")

_GOOD, _DOUBTFUL, _BAD = range(3)
_WORDS = ("good", "doubtful", "bad")
_WEIGHT: dict[str, dict[str | None, int]] = {
    "signature": {"ok": _GOOD, "none": _DOUBTFUL, "unknown_key": _DOUBTFUL, "bad": _BAD, "undecodable": _BAD},
    "certificate": {
        "valid": _GOOD, "n/a": _GOOD, "expired_at_trace_time": _DOUBTFUL, "not_yet_valid": _DOUBTFUL, "untrusted_chain": _DOUBTFUL,
        "self_signed": _DOUBTFUL, "revoked": _BAD,
    },
    "content": {
        None: _GOOD, "match": _GOOD, "partial": _DOUBTFUL, "not_listed": _DOUBTFUL, "wrong_algorithm": _DOUBTFUL, "mismatch": _BAD,
    },
    "log": {None: _GOOD, "included": _GOOD, "unwitnessed": _GOOD, "pending": _DOUBTFUL, "absent": _DOUBTFUL, "inconsistent": _BAD},
    "status": {"current": _GOOD, "unknown": _GOOD, "superseded": _DOUBTFUL, "deleted_here": _DOUBTFUL, "obsolete": _BAD},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """Grades of a trace; see the module. `reasons`: (grade, code, words); `facts` for a person to look at."""

    signature: str
    certificate: str
    content: str | None = None
    log: str | None = None
    status: str = "unknown"
    is_chain_trusted: bool = False
    key_sha256: bytes | None = None
    reasons: tuple[tuple[str, str, str], ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def overall(self, policy: Iterable[str] = USUAL_POLICY) -> str:
        """The worst grade that the policy asks for."""
        return _WORDS[max((_WEIGHT[name][getattr(self, name)] for name in policy), default=_GOOD)]

    def with_grade(self, grade: str, value: str | None, code: str = "", words: str = "") -> Verdict:
        """The same with another grade, and why."""
        reasons = (*self.reasons, (grade, code, words)) if code else self.reasons
        grades: dict[str, Any] = {grade: value}
        return replace(self, **grades, reasons=reasons)

    def as_json(self, policy: Iterable[str] = USUAL_POLICY) -> dict[str, Any]:
        """As it is answered and stored."""
        asked = tuple(policy)
        return {
            "overall": self.overall(asked),
            **{name: getattr(self, name) for name in GRADES},
            "policy": list(asked),
            "reasons": [{"grade": grade, "code": code, "detail": words} for grade, code, words in self.reasons],
            "facts": dict(self.facts),
            "not_signed": list(NOT_SIGNED),
        }


def judge(trace: Trace, *, now: datetime, trust: Trust = NOBODY) -> Verdict:
    """Grade signature and certificate; content, log and status are for whoever knows a file, a log, a catalogue.

    The time is the trace's own, `now` for one that has none yet.
    """
    facts: dict[str, Any] = {
        "product": trace.name,
        "hash": trace.hash,
        "hash_algorithm": trace.hash_algorithm,
        "event": trace.event,
        "origin": trace.origin,
        "timestamp": _time_text(trace.timestamp),
        "id": trace.id,
        "message": trace.agreement if trace.is_signed else None,
        "certificate": None,
    }
    if not trace.is_signed:
        return Verdict("none", "n/a", facts=facts, reasons=(("signature", "UNSIGNED", "nobody has signed this trace"),))
    decoded = _decoded(trace)
    if decoded is None:
        why = ("signature", "UNDECODABLE", "the signature is no base64, or the certificate is no X.509 in DER")
        return Verdict("undecodable", "n/a", facts=facts, reasons=(why,))
    signature, certificate = decoded
    if certificate is None:
        why = ("signature", "NO_CERTIFICATE", "there is a signature, but no certificate to check it by")
        return Verdict("unknown_key", "n/a", facts=facts, reasons=(why,))
    grade, reasons = _signature_grade(trace, signature, certificate)
    at = trace.timestamp or now
    certificate_grade, is_trusted = grade_certificate(certificate, at, trust)
    if certificate_grade != "valid":
        reasons.append(("certificate", certificate_grade.upper(), _CERTIFICATE_WORDS[certificate_grade]))
    facts["certificate"] = _certificate_facts(certificate)
    return Verdict(
        grade, certificate_grade, None, None, "unknown", is_trusted, key_sha256(certificate), tuple(reasons), facts
    )


_CERTIFICATE_WORDS = {
    "expired_at_trace_time": "the certificate had expired when the trace was registered",
    "not_yet_valid": "the trace is older than the certificate",
    "untrusted_chain": "no authority that is trusted here has issued the certificate",
    "self_signed": "the certificate is signed by its own key, and nobody here vouches for it",
    "revoked": "the certificate was revoked",
}


def certificate_of(text: str) -> x509.Certificate | None:
    """The certificate of a base64 text; None when it is none that can be read."""
    try:
        certificate = x509.load_der_x509_certificate(base64.b64decode(text, validate=True))
        _read_all(certificate)
    except _UNREADABLE:
        return None
    return certificate


_UNREADABLE = (
    ValueError,
    binascii.Error,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    TypeError,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


def _decoded(trace: Trace) -> tuple[bytes, x509.Certificate | None] | None:
    try:
        signature = base64.b64decode(trace.signature.signature, validate=True)
        if not trace.signature.certificate:
            return signature, None
    except _UNREADABLE:
        return None
    certificate = certificate_of(trace.signature.certificate)
    return None if certificate is None else (signature, certificate)


def _read_all(certificate: x509.Certificate) -> None:
    """Parts are read when they are asked for: what cannot be read is to fail here, and not later."""
    _ = (
        certificate.subject,
        certificate.issuer,
        certificate.extensions,
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
    )
    key_sha256(certificate)


def _signature_grade(
    trace: Trace, signature: bytes, certificate: x509.Certificate
) -> tuple[str, list[tuple[str, str, str]]]:
    """As trace-cli: by the algorithm by which the certificate itself is signed, and the message must say what the trace says."""
    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        return "unknown_key", [("signature", "KEY_NOT_SUPPORTED", "traces are signed with RSA or ECDSA")]
    if not holds(trace.signature.message.encode(), signature, certificate):
        return "bad", [
            ("signature", "SIGNATURE_INVALID", "the signature is not of this message by this certificate's key")
        ]
    how = trace.agreement
    if how in ("differs", "unreadable"):
        return "bad", [("signature", "MESSAGE_DIFFERS", "what was signed is not what the trace says")]
    reasons = []
    if how == "partial":
        reasons.append(("signature", "MESSAGE_PARTIAL", "the signed message leaves out part of the product"))
    named = trace.signature.algorithm
    if named != ("RSA-SHA256" if isinstance(key, rsa.RSAPublicKey) else "ECDSA-SHA256"):
        reasons.append(
            ("signature", "ALGORITHM_NAMED_WRONG", "the trace names another algorithm than its certificate's")
        )
    return "ok", reasons


def holds(message: bytes, signature: bytes, certificate: x509.Certificate) -> bool:
    """Whether a signature is of a message, by the certificate's key and the algorithm by which the certificate is signed (Go's
    `cert.CheckSignature(cert.SignatureAlgorithm, ...)`).
    """
    try:
        key, algorithm = certificate.public_key(), certificate.signature_hash_algorithm
        if algorithm is None or algorithm.name in ("md5", "sha1"):  # Go refuses them too
            return False
        scheme = certificate.signature_algorithm_parameters
        if isinstance(key, rsa.RSAPublicKey) and isinstance(scheme, padding.PKCS1v15 | padding.PSS):
            key.verify(signature, message, scheme, algorithm)
            return True
        if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(scheme, ec.ECDSA):
            key.verify(signature, message, ec.ECDSA(algorithm))
            return True
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        pass
    return False


def _certificate_facts(certificate: x509.Certificate) -> dict[str, Any]:
    return {
        "subject": certificate.subject.rfc4514_string()[:500],
        "issuer": certificate.issuer.rfc4514_string()[:500],
        "serial": f"{certificate.serial_number:x}",
        "not_before": _time_text(certificate.not_valid_before_utc),
        "not_after": _time_text(certificate.not_valid_after_utc),
        "key": key_kind(certificate),
        "sha256": certificate_sha256(certificate).hex(),
    }


def _time_text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


#: Names that the service gives to algorithms -> those of the log.
HASH_NAMES = {"BLAKE3": "BLAKE3", "SHA256": "SHA256", "SHA3": "SHA3-256"}


def grade_content(
    trace: Trace, whole: Mapping[str, str], contents: Mapping[str, Mapping[str, str]] | None = None
) -> tuple[str, list[tuple[str, str]]]:
    """(grade, [(code, words)]) of hashes against a trace.

    Args:
        whole: of the file or product: algorithm (as the log names it) -> lower-case hex. Empty: there is no single file, as of a folder.
        contents: of the files in it: path -> the same; None: not looked at.
    """
    algorithm = HASH_NAMES.get(trace.hash_algorithm)
    named = [*whole, *(name for one in (contents or {}).values() for name in one)]
    if algorithm is None or (named and algorithm not in named):
        return "wrong_algorithm", [("WRONG_ALGORITHM", f"the trace's hashes are {trace.hash_algorithm[:32]}")]
    if trace.hash and whole.get(algorithm) == trace.hash:
        return "match", []
    listed = {one["path"]: one["hash"] for one in trace.product["contents"] or []}
    if whole.get(algorithm) in listed.values():
        return "partial", [("CONTENT_OF_PRODUCT", "the file is one of the files in the product")]
    found = {path: one[algorithm] for path, one in (contents or {}).items() if path in listed and algorithm in one}
    wrong = sorted(path for path, digest in found.items() if digest != listed[path])
    if wrong:
        return "mismatch", [("CONTENT_DIFFERS", path[:200]) for path in wrong[:20]]
    if found:
        words = f"{len(found)} of {len(listed)} listed files are as the trace says; the rest was not compared"
        return "partial", [("CONTENTS_MATCH", words)]
    if whole and trace.hash:
        return "mismatch", [("HASH_DIFFERS", "the hash is not the one in the trace")]
    return "not_listed", [("NOT_LISTED", "the trace names no hash of what was given")]
