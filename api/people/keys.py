"""API keys and other random tokens: `fed_<id>.<secret>`, the secret 32 random bytes, kept as SHA-256.

A fast hash is right here: nobody guesses 256 random bits, with or without a copy of the database.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
from dataclasses import dataclass

PREFIX = "fed_"
#: No sign of an id is one that a command line takes for an option's.
_ID_SIGNS, _ID_LENGTH = string.ascii_letters + string.digits, 12
_SECRET_BYTES = 32
_KEY = re.compile(r"fed_([A-Za-z0-9]{12})\.([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key as its holder is told once."""

    id: str
    secret: str

    @property
    def text(self) -> str:
        """What is sent as `Authorization: Bearer`."""
        return f"{PREFIX}{self.id}.{self.secret}"

    @property
    def last4(self) -> str:
        """What people know it by."""
        return self.secret[-4:]


def make_key() -> NewKey:
    """A new key."""
    return NewKey("".join(secrets.choice(_ID_SIGNS) for _ in range(_ID_LENGTH)), make_secret())


def make_secret() -> str:
    """256 random bits as 43 signs."""
    return secrets.token_urlsafe(_SECRET_BYTES)


def parse(text: str) -> tuple[str, str] | None:
    """Id and secret of a key; None for what is no key of ours."""
    found = _KEY.fullmatch(text)
    return (found[1], found[2]) if found else None


def digest(secret: str) -> bytes:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
