"""Which key may sign what: by numbers of the log, never by a clock. Pure; changes come as bodies of GENESIS and KEY events.

A key may sign n when from_size <= n < to_size: an event key the leaf of number n, a log key the checkpoint of size n. A rotation is one
KEY event (`add`) with a statement that the old and the new key have signed; a new event key takes over at once, a log key signs beside the
old one until that is retired, so that whoever knows only the old one can follow. To retire or revoke a key an event key signs, and all that
happens to the façade's key, which signs the traces of what gets a number while it may. A KEY event whose statement nobody has signed
stops the sequencer: somebody has written into the outbox.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from lineage.errors import KeyRefused
from lineage.note import key_id
from lineage.verify import Unreadable, decode64, earliest, parse_vkey

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Known:
    """A key that signs or has signed; the façade's has a certificate (base64 of the DER) in the place of a verifier key."""

    key_id: str
    vkey: str
    purpose: str
    from_size: int
    to_size: int | None = None
    compromised_since: int | None = None
    certificate: str | None = None

    def signs(self, number: int) -> bool:
        """True when the key may sign this leaf or checkpoint."""
        return self.from_size <= number and (self.to_size is None or number < self.to_size)


@dataclass
class Keyring:
    """All keys of a log, as its events up to a number have said."""

    origin: str
    keys: dict[str, Known] = field(default_factory=dict)

    @classmethod
    def of(cls, origin: str, rows: Iterable[Body]) -> Keyring:
        """From rows of lineage.signing_key."""
        names = ("key_id", "vkey", "purpose", "from_size", "to_size", "compromised_since", "certificate")
        known = (Known(**{name: row[name] for name in names}) for row in rows)
        return cls(origin, {one.key_id: one for one in known})

    def active(self, purpose: str, number: int) -> list[Known]:
        """Keys that sign this leaf or checkpoint, newest first. Never empty once the log has begun."""
        found = [one for one in self.keys.values() if one.purpose == purpose and one.signs(number)]
        return sorted(found, key=lambda one: -one.from_size)

    def apply(self, seq: int, body: Body) -> list[Known]:
        """Do what the KEY event of this number says; returns the keys that are new or changed.

        Raises:
            KeyRefused: it cannot be done: an unknown key, one that is there already, or nobody would be left to sign.
        """
        try:
            changed = self._changed(seq, body)
        except (Unreadable, LookupError) as error:
            raise KeyRefused("a KEY event that says no change of keys") from error
        before = dict(self.keys)
        self.keys |= {one.key_id: one for one in changed}
        if not all(self.active(purpose, seq + 1) for purpose in ("event", "log", "facade")):
            self.keys = before
            raise KeyRefused("no key would be left that signs; rotate it first")
        return changed

    def _changed(self, seq: int, body: Body) -> list[Known]:
        action, purpose, now = body.get("action"), str(body.get("purpose")), seq + 1
        if action == "add" and purpose == "facade":
            return self._following_certificate(seq, body)
        if action == "add":
            new = Known(key_id(str(body["vkey"])), str(body["vkey"]), purpose, now)
            old = self.keys.get(str(body["replaces"]))
            if new.key_id in self.keys or old is None or old.purpose != purpose or not old.signs(now):
                raise KeyRefused(f"{new.key_id} cannot take the place of {body['replaces']}")
            self._check_signed(body, old, new)
            return [new, replace(old, to_size=now)] if purpose == "event" else [new]
        key = self.keys.get(str(body.get("key")))
        if key is None:
            raise KeyRefused(f"the log has no key {body.get('key')}")
        if (key.purpose == "facade") != (purpose == "facade"):
            raise KeyRefused(f"{key.key_id} has another purpose")
        self._check_signed(body, self.active("event", seq)[0])
        ended = replace(key, to_size=now if key.to_size is None else key.to_size)
        match action:
            case "retire":
                return [ended]
            case "revoke":
                return [replace(ended, compromised_since=_since(seq, body, key))]
            case _:
                raise KeyRefused(f"a KEY event cannot say {action!r}")

    def _following_certificate(self, seq: int, body: Body) -> list[Known]:
        """The façade's new key and the one that it takes the place of."""
        certificate, old = str(body.get("certificate")), self.keys.get(str(body.get("replaces")))
        try:
            print_ = facade_print(certificate)
        except ValueError:
            raise KeyRefused("the certificate cannot be read") from None
        if print_ != body.get("vkey") or print_[:16] in self.keys:
            raise KeyRefused("the certificate is not of the key that is named, or the key is known already")
        if old is None or old.purpose != "facade" or not old.signs(seq + 1):
            raise KeyRefused(f"nothing can take the place of {body.get('replaces')}")
        self._check_signed(body, self.active("event", seq)[0])
        new = Known(print_[:16], "", "facade", seq + 1, certificate=certificate)
        return [new, replace(old, to_size=seq + 1)]

    def _check_signed(self, body: Body, *by: Known) -> None:
        """Raises KeyRefused: one of these keys has not."""
        said, signatures = statement(self.origin, body), body.get("signatures")
        for key in by:
            try:
                signature = decode64(
                    signatures.get(key.key_id) if isinstance(signatures, dict) else None, "a signature"
                )
            except Unreadable:
                signature = b""
            if not parse_vkey(key.vkey).holds(signature, said):
                raise KeyRefused(f"{key.key_id} has not signed this change of keys")


def _since(seq: int, body: Body, key: Known) -> int:
    """The first number that is suspect. Raises KeyRefused: no number of an event that there is."""
    try:
        found = earliest(body.get("compromised_since"), key.compromised_since)
    except Unreadable:
        found = seq + 1
    if found > seq:
        raise KeyRefused(f"compromised_since is the number of an event before this one, {seq}")
    return found


def facade_print(certificate: str) -> str:
    """What GENESIS and KEY events call the façade's key, whoever certifies it: SHA-256 (hex) of its SubjectPublicKeyInfo.

    Raises:
        ValueError: no base64 of a DER certificate.
    """
    key = x509.load_der_x509_certificate(base64.b64decode(certificate)).public_key()
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def facade_id(certificate: str) -> str:
    """The id of the façade's key."""
    return facade_print(certificate)[:16]


def statement(origin: str, body: Body) -> bytes:
    """What is signed of a KEY event's body."""
    names = ("action", "purpose", "vkey", "replaces", "key", "compromised_since")
    return "\n".join(["stac-federator/key@1", origin, *(str(body.get(name, "")) for name in names), ""]).encode()
