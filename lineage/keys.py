"""Keys of this installation, made at first use, each in a file that only its owner may read.

`event` signs own events, `log` signs checkpoints (both Ed25519; those that a rotation has made have their hash in the file's name).
`facade` signs traces of own uploads in the shape of the Copernicus service: RSA-3072 with a certificate signed by SHA256-RSA, the only
form that all its known clients accept. Those that a rotation has made have their id in the files' names.
"""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from lineage.errors import KeyMismatch
from lineage.keyring import facade_id, facade_print
from lineage.note import key_id, vkey
from lineage.settings import LineageSettings

FACADE_BITS = 3072


@dataclass(frozen=True, slots=True)
class Facade:
    """A key that signs traces, with its certificate."""

    key: rsa.RSAPrivateKey
    certificate: x509.Certificate

    @property
    def text(self) -> str:
        """Base64 of the DER certificate."""
        return base64.b64encode(self.certificate.public_bytes(Encoding.DER)).decode()


@dataclass(frozen=True, slots=True)
class Signer:
    """Everything that signs, and the log's name."""

    origin: str
    event_key: Ed25519PrivateKey
    log_key: Ed25519PrivateKey
    facade: Facade
    folder: Path

    def facade_of(self, certificate: str) -> Facade | None:
        """The façade's key that a certificate is of, from before or after any rotation, with the certificate that lies beside it now; None
        when this machine does not have it.
        """
        print_ = facade_print(certificate)
        if facade_print(self.facade.text) == print_:
            return self.facade
        name = f"facade-{print_[:16]}"
        if not (self.folder / f"{name}.pem").exists():
            return None
        found = _load_facade(self.folder, name, self.origin)
        return found if facade_print(found.text) == print_ else None

    def make_facade(self) -> Facade:
        """Make a further key of the façade in the keys folder."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=FACADE_BITS)
        made = Facade(key, _self_signed(key, self.origin))
        name = f"facade-{facade_id(made.text)}"
        _read_or_make(self.folder / f"{name}.crt", lambda: made.certificate.public_bytes(Encoding.PEM))
        _read_or_make(self.folder / f"{name}.pem", lambda: _pem(key))
        return made

    def private(self, purpose: str, which: str) -> Ed25519PrivateKey | None:
        """The private part of the key of this id, from before or after any rotation; None when this machine does not have it."""
        for key in (self.event_key, self.log_key):
            if key_id(vkey(name_of(self.origin, purpose), key)) == which:
                return key
        path = self.folder / f"{purpose}-{which[-8:]}.pem"
        if not path.exists():
            return None
        made = _ed25519(path.read_bytes(), path)
        return made if key_id(vkey(name_of(self.origin, purpose), made)) == which else None

    def make(self, purpose: str) -> str:
        """Make a further key of this purpose in the keys folder; returns its verifier key."""
        key = Ed25519PrivateKey.generate()
        text = vkey(name_of(self.origin, purpose), key)
        _read_or_make(self.folder / f"{purpose}-{key_id(text)[-8:]}.pem", lambda: _pem(key))
        return text

    @property
    def event_vkey(self) -> str:
        """Verifier key of own events; its name is the log's with `/event` behind."""
        return vkey(name_of(self.origin, "event"), self.event_key)

    @property
    def log_vkey(self) -> str:
        """Verifier key of checkpoints."""
        return vkey(self.origin, self.log_key)


def name_of(origin: str, purpose: str) -> str:
    """The name of a key of this purpose."""
    return origin if purpose == "log" else f"{origin}/{purpose}"


def load_signer(settings: LineageSettings) -> Signer:
    """Read the keys, making those that are missing; safe when several processes do so at once.

    Raises:
        KeyMismatch: a key file holds another kind of key.
    """
    folder = settings.keys_dir
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Signer(
        settings.log_origin,
        load_ed25519(folder / "event.pem"),
        load_ed25519(folder / "log.pem"),
        _load_facade(folder, "facade", settings.log_origin),
        folder,
    )


def load_ed25519(path: Path) -> Ed25519PrivateKey:
    """Read a key, making it when it is missing. Raises KeyMismatch: the file holds another kind of key."""
    return _ed25519(_read_or_make(path, lambda: _pem(Ed25519PrivateKey.generate())), path)


def load_mldsa44(path: Path) -> MLDSA44PrivateKey:
    """Read a key (PKCS #8 with its seed), making it when it is missing.

    Raises:
        KeyMismatch: the file holds another kind of key.
        UnsupportedAlgorithm: the OpenSSL here has no ML-DSA.
    """
    key = load_pem_private_key(_read_or_make(path, lambda: _pem(MLDSA44PrivateKey.generate())), password=None)
    if not isinstance(key, MLDSA44PrivateKey):
        raise KeyMismatch(f"{path} holds no ML-DSA-44 key")
    return key


def _ed25519(pem: bytes, path: Path) -> Ed25519PrivateKey:
    key = load_pem_private_key(pem, password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyMismatch(f"{path} holds no Ed25519 key")
    return key


def _load_facade(folder: Path, name: str, origin: str) -> Facade:
    key = _load_rsa(folder / f"{name}.pem")
    return Facade(key, _load_certificate(folder / f"{name}.crt", key, origin))


def _load_rsa(path: Path) -> rsa.RSAPrivateKey:
    pem = _read_or_make(path, lambda: _pem(rsa.generate_private_key(public_exponent=65537, key_size=FACADE_BITS)))
    key = load_pem_private_key(pem, password=None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise KeyMismatch(f"{path} holds no RSA key")
    return key


def _load_certificate(path: Path, key: rsa.RSAPrivateKey, origin: str) -> x509.Certificate:
    pem = _read_or_make(path, lambda: _self_signed(key, origin).public_bytes(Encoding.PEM))
    certificate = x509.load_pem_x509_certificate(pem)
    if certificate.public_key() != key.public_key():
        raise KeyMismatch(f"{path} is not the certificate of {path.stem}.pem")
    return certificate


def _self_signed(key: rsa.RSAPrivateKey, origin: str) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, origin[:64])])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=3650))
    return builder.sign(key, hashes.SHA256())


def _pem(key: Ed25519PrivateKey | MLDSA44PrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _read_or_make(path: Path, make: Callable[[], bytes]) -> bytes:
    """Read a file; when it is missing, write it whole under another name and link it, so that the first writer wins."""
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(make())
        file.flush()
        os.fsync(file.fileno())
    with contextlib.suppress(FileExistsError):
        os.link(temporary, path)
    temporary.unlink()
    return path.read_bytes()
