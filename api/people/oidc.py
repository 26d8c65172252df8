"""Tokens of an OpenID Connect provider (Keycloak or another), checked with its published keys.

Keys are fetched once and kept. They are fetched again after a while, and at once for a token with a key that is not known (the provider has
a new one), but only so often: tokens with invented keys make no requests. A provider that is away changes nothing for keys that are known.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import jwt
import orjson
from jwt import PyJWK

from api.people.tokens import LEEWAY_S, TokenExpired, TokenInvalid

log = logging.getLogger(__name__)

#: Seconds after which keys are fetched again beside the requests; seconds that the provider may take.
MAX_AGE_S = 600.0
TIMEOUT_S = 5.0
#: Fetches within so many seconds.
MOST_FETCHES, WITHIN_S = 5, 60.0
MOST_BYTES = 2**20
MOST_KEYS = 100


class ProviderAway(Exception):
    """Its keys are not known, and it does not answer."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a good token says; `claims` are all of them."""

    issuer: str
    subject: str
    expires_at: datetime
    claims: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Key:
    """A public key, and the only algorithm that it is for when the provider names one."""

    public: Any
    algorithm: str | None


@dataclass(frozen=True, slots=True)
class _Keys:
    """What was fetched, and when (monotonic seconds)."""

    issuer: str
    by_id: Mapping[str | None, _Key]
    at: float


class Provider:
    """One provider.

    Args:
        http: fetches; its owner closes it.
        discovery_url: of the discovery document, as clients know it.
        internal_url: where this process finds the same, when that differs; the host of the keys' URL is then its host too.
        audiences: one of these must be in `aud`; none: whatever is there.
        algorithms: the only ones, whatever a token says of itself.
        clock: monotonic seconds.
    """

    def __init__(
        self, http: httpx.AsyncClient, discovery_url: str, *, internal_url: str = "", audiences: Sequence[str] = (),
        algorithms: Sequence[str] = ("RS256",), clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._http, self._url, self._internal_url = http, discovery_url, internal_url
        self._audiences, self._algorithms, self._clock = list(audiences), list(algorithms), clock
        self._keys: _Keys | None = None
        self._fetches: deque[float] = deque()
        self._fetching: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """End what is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)

    async def read(self, token: str) -> Told:
        """Check a token.

        Raises:
            TokenExpired, TokenInvalid, ProviderAway
        """
        header = _header(token)
        if header.get("alg") not in self._algorithms or "crit" in header:
            raise TokenInvalid
        issuer, key = await self._key(header.get("kid"))
        if key.algorithm not in (None, header["alg"]):
            raise TokenInvalid
        try:
            claims = jwt.decode(
                token, key.public, algorithms=self._algorithms, issuer=issuer, leeway=LEEWAY_S,
                audience=self._audiences or None,
                options={"require": ["iss", "sub", "exp"], "verify_aud": bool(self._audiences)},
            )  # fmt: skip
            # Keycloak writes what a token is for into its claims: one that tells a client who logged in, or refreshes, opens nothing.
            if claims.get("typ", "Bearer") != "Bearer" or not _is_subject(claims["sub"]):
                raise TokenInvalid
            return Told(issuer, claims["sub"], datetime.fromtimestamp(claims["exp"], UTC), claims)
        except jwt.ExpiredSignatureError as error:
            raise TokenExpired from error
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise TokenInvalid from error

    async def _key(self, kid: Any) -> tuple[str, _Key]:
        if kid is not None and not isinstance(kid, str):
            raise TokenInvalid
        if self._keys is None or self._found(kid) is None:
            await self._fetch()
        elif self._clock() - self._keys.at > MAX_AGE_S:
            self._begin_fetch()
        if self._keys is None:
            raise ProviderAway
        found = self._found(kid)
        if found is None:
            raise TokenInvalid
        return self._keys.issuer, found

    def _found(self, kid: str | None) -> _Key | None:
        keys = self._keys.by_id if self._keys is not None else {}
        if kid is None:
            return next(iter(keys.values())) if len(keys) == 1 else None
        return keys.get(kid)

    async def _fetch(self) -> None:
        """Fetch, with all who wait for it; nothing when that was done too often."""
        self._begin_fetch()
        if self._fetching is not None:
            await asyncio.shield(self._fetching)

    def _begin_fetch(self) -> None:
        now = self._clock()
        while self._fetches and self._fetches[0] <= now - WITHIN_S:
            self._fetches.popleft()
        if self._fetching is None and len(self._fetches) < MOST_FETCHES:
            self._fetches.append(now)
            self._fetching = asyncio.create_task(self._try_fetch())

    async def _try_fetch(self) -> None:
        try:
            self._keys = await self._fetched()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError, TimeoutError) as error:
            log.warning("no keys from the identity provider", extra={"reason": type(error).__name__})
        finally:
            self._fetching = None

    async def _fetched(self) -> _Keys:
        document = await self._json(self._internal_url or self._url)
        issuer, keys_url = document["issuer"], document["jwks_uri"]
        if not isinstance(issuer, str) or not isinstance(keys_url, str):
            raise ValueError("no discovery document")
        if self._internal_url:
            inside = urlsplit(self._internal_url)
            keys_url = urlunsplit(urlsplit(keys_url)._replace(scheme=inside.scheme, netloc=inside.netloc))
        found = await self._json(keys_url)
        return _Keys(issuer, _usable(found["keys"]), self._clock())

    async def _json(self, url: str) -> dict[str, Any]:
        async with asyncio.timeout(TIMEOUT_S), self._http.stream("GET", url) as answer:
            answer.raise_for_status()
            body = bytearray()
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > MOST_BYTES:
                    raise ValueError("the answer is too long")
        found = orjson.loads(bytes(body))
        if not isinstance(found, dict):
            raise ValueError("no JSON object")
        return found


def _is_subject(text: str) -> bool:
    """At most 255 ASCII signs (OpenID Connect Core, 2)."""
    return 0 < len(text) <= 255 and text.isascii() and text.isprintable()


def _header(token: str) -> dict[str, Any]:
    try:
        return jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise TokenInvalid from error


def _usable(keys: Any) -> dict[str | None, _Key]:
    """Public keys for signatures, by their ids."""
    found: dict[str | None, _Key] = {}
    for one in keys[:MOST_KEYS] if isinstance(keys, list) else []:
        if not isinstance(one, dict) or one.get("kty") not in ("RSA", "EC", "OKP") or one.get("use", "sig") != "sig":
            continue
        try:
            found[one.get("kid")] = _Key(PyJWK(one).key, one.get("alg"))
        except (jwt.PyJWTError, ValueError, TypeError, KeyError):
            log.info("a key of the identity provider is of no use here", extra={"alg": str(one.get("alg"))[:20]})
    return found
