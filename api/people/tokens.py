"""Our own access tokens: JWTs of ten minutes after RFC 9068, signed with Ed25519 by a key that all processes of a database share.

They say who and what; whether the session behind one is still good is asked of the database (`api.people.callers`).
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from lineage.ids import uuid7

ACCESS_S = 600
REFRESH_S = 3600
#: Refreshing goes on for so long after a log-in.
SESSION_S = 30 * 86_400
#: Clocks of hosts differ.
LEEWAY_S = 5
ALGORITHM = "EdDSA"
TYPE = "at+jwt"
LONGEST = 16_384
_NEEDED = ["iss", "aud", "sub", "exp", "iat", "nbf", "jti", "sid"]


class TokenInvalid(Exception):
    """This token is none of whoever it names as its maker, or not for us."""


class TokenExpired(TokenInvalid):
    """It was good once."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token of ours says."""

    session_id: UUID
    scopes: frozenset[str]
    expires_at: datetime


class AccessTokens:
    """Makes and reads them.

    Args:
        seed: 32 bytes, the private key.
        issuer: the public URL; maker and audience at once.
    """

    def __init__(self, seed: bytes, issuer: str) -> None:
        self.issuer = issuer
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self._public = self._key.public_key()
        raw = self._public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        self._jwk = {"crv": "Ed25519", "kty": "OKP", "x": base64.urlsafe_b64encode(raw).rstrip(b"=").decode()}
        # The thumbprint of RFC 7638: members of the key in the order of their names, without blanks.
        thumbprint = hashlib.sha256(orjson.dumps(self._jwk, option=orjson.OPT_SORT_KEYS)).digest()
        self.kid = base64.urlsafe_b64encode(thumbprint).rstrip(b"=").decode()

    def jwks(self) -> dict[str, Any]:
        """The public key as a JWK set (RFC 7517)."""
        return {"keys": [{**self._jwk, "kid": self.kid, "use": "sig", "alg": ALGORITHM}]}

    def make(self, name: str, session_id: UUID, scopes: Iterable[str], groups: Iterable[str]) -> str:
        """A token for a person's session."""
        now = int(time.time())
        claims = {
            "iss": self.issuer, "aud": self.issuer, "sub": name, "client_id": "stac-federator", "sid": str(session_id),
            "jti": str(uuid7()), "iat": now, "nbf": now, "exp": now + ACCESS_S,
            "scope": " ".join(sorted(scopes)), "groups": list(groups),
        }  # fmt: skip
        return jwt.encode(claims, self._key, algorithm=ALGORITHM, headers={"kid": self.kid, "typ": TYPE})

    def read(self, token: str) -> Claims:
        """Check a token.

        Raises:
            TokenExpired, TokenInvalid
        """
        try:
            header = jwt.get_unverified_header(token)
            if header.get("typ") != TYPE or header.get("kid") != self.kid:
                raise TokenInvalid
            claims = jwt.decode(
                token, self._public, algorithms=[ALGORITHM], audience=self.issuer, issuer=self.issuer,
                leeway=LEEWAY_S, options={"require": _NEEDED},
            )  # fmt: skip
            expires_at = datetime.fromtimestamp(claims["exp"], UTC)
            return Claims(UUID(claims["sid"]), frozenset(str(claims.get("scope", "")).split()), expires_at)
        except jwt.ExpiredSignatureError as error:
            raise TokenExpired from error
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise TokenInvalid from error


def maker_of(token: str) -> str | None:
    """Whom a token names as its maker, unchecked: it decides whose key the token is held against, nothing else."""
    try:
        found = jwt.decode(token, options={"verify_signature": False}).get("iss")
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, RecursionError):
        return None
    return found if isinstance(found, str) else None
