"""Who sends a request: resolves what `Authorization` holds before anything is routed, and keeps the answer for a moment.

A request without credentials passes at the cost of looking through its headers. A credential that is wrong, expired or revoked is 401 on
every route, also where nobody needs one: a client that believes to be somebody must not be shown what nobody sees.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

import httpx
import psycopg
from psycopg_pool import PoolTimeout
from starlette.types import ASGIApp, Receive, Scope, Send

from api.access import CALLER, OPERATOR, Caller
from api.people import keys, scopes, store
from api.people.oidc import TIMEOUT_S, Provider, ProviderAway
from api.people.passwords import Passwords
from api.people.tokens import LONGEST, AccessTokens, TokenExpired, TokenInvalid, maker_of
from api.problems import Problem, answer
from api.settings import ApiSettings
from api.signing_secrets import secret_of
from api.tus_headers import VERSION as TUS_VERSION
from db.errors import DbError
from db.pools import Pool
from db.queries import sql

log = logging.getLogger(__name__)

#: Seconds that an answer of the database is believed: what is revoked opens nothing after these.
KEPT_S = 3.0
MOST_KEPT = 10_000
#: Seconds between two looks at whether there is a person by now, and between two times that the use of keys is written.
_LOOK_S, _WRITE_S = 2.0, 60.0
#: Where another credential than the header is asked for; OAuth clients may send one of their own in it.
_WITHOUT: Final = frozenset({"/auth/token", "/auth/bootstrap"})
#: Here an empty credential is none.
TRACES: Final = "/trace/api/"
IDENTITY = "federator.identity"
_AWAY = (psycopg.Error, PoolTimeout, DbError, OSError, TimeoutError)


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller and the credential that says so; `id` is the key's or the session's."""

    caller: Caller
    kind: Literal["operator", "key", "session", "oidc"]
    id: str = ""
    expires_at: datetime | None = None


class People:
    """Knows callers by their credentials; one a process.

    Args:
        provider: the identity provider; None: there is none.
    """

    def __init__(self, settings: ApiSettings, pool: Pool, tokens: AccessTokens, provider: Provider | None) -> None:
        self._settings, self._pool, self._provider = settings, pool, provider
        self._operator = (settings.token() or "").encode() or None
        self._kept: OrderedDict[bytes, tuple[Identity, float]] = OrderedDict()
        self._used: dict[str, datetime] = {}
        self.tokens = tokens
        self.passwords = Passwords()
        self.has_people = provider is not None

    @property
    def is_open(self) -> bool:
        """Whether programs on this machine are trusted without a credential: nobody else could have one."""
        return self._operator is None and not self.has_people

    def note_person(self) -> None:
        """This process has made a person."""
        self.has_people = True

    def forget(self) -> None:
        """This process has changed what people may do: ask the database anew."""
        self._kept.clear()

    @contextlib.asynccontextmanager
    async def looking(self) -> AsyncIterator[None]:
        """Look for people, and write down which keys are used, while the block runs."""
        await self.look()
        tasks = [asyncio.create_task(self._look_on()), asyncio.create_task(self._write_on())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.write()

    async def look(self) -> None:
        """See whether there is a person."""
        if not self.has_people:
            async with self._pool.connection() as conn:
                row = await (await conn.execute(sql("people.is_anybody"))).fetchone()
            self.has_people = bool(row and row["is_anybody"])

    async def _look_on(self) -> None:
        while not self.has_people:
            await asyncio.sleep(_LOOK_S)
            with contextlib.suppress(*_AWAY):
                await self.look()

    async def _write_on(self) -> None:
        while True:
            await asyncio.sleep(_WRITE_S)
            await self.write()
            with contextlib.suppress(*_AWAY):
                async with self._pool.connection() as conn:
                    await conn.execute(sql("people.sweep"))

    async def write(self) -> None:
        """Write down which keys were used since the last time."""
        used, self._used = self._used, {}
        if used:
            with contextlib.suppress(*_AWAY):
                async with self._pool.connection() as conn:
                    await conn.execute(sql("people.note_use"), (list(used), list(used.values())))

    async def identify(self, authorization: bytes) -> Identity:
        """Whose credential this is.

        Raises:
            Problem: 401.
            psycopg.Error, PoolTimeout: the database does not answer.
        """
        credential = _bearer(authorization)
        digest, begun = hashlib.sha256(credential).digest(), time.monotonic()
        kept = self._kept.get(digest)
        if kept is not None and kept[1] > begun:
            identity = kept[0]
            self._kept.move_to_end(digest)
        else:
            identity = await self._found(credential)
            self._keep(digest, identity, begun)
        if identity.kind == "key":
            self._used[identity.id] = datetime.now(UTC)
        return identity

    def _keep(self, digest: bytes, identity: Identity, begun: float) -> None:
        left = KEPT_S
        if identity.expires_at is not None:
            left = min(left, (identity.expires_at - datetime.now(UTC)).total_seconds())
        self._kept[digest] = (identity, begun + left)
        self._kept.move_to_end(digest)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)

    async def _found(self, credential: bytes) -> Identity:
        if self._operator is not None and hmac.compare_digest(credential, self._operator):
            return Identity(OPERATOR, "operator")
        text = credential.decode("latin-1")
        if text.count(".") == 2:
            return await self._by_token(text)
        return await self._by_key(*(keys.parse(text) or ("", "")))

    async def _by_key(self, key_id: str, secret: str) -> Identity:
        """By an API key; what is none takes the same way, and as long."""
        row = await self._row("people.by_key", key_id)
        is_right = hmac.compare_digest(keys.digest(secret), row["secret_sha256"] if row else bytes(32))
        if row is None or not is_right:
            raise invalid()
        if row["is_over"]:
            raise revoked()
        if row["expires_at"] is not None and row["expires_at"] <= datetime.now(UTC):
            raise expired()
        return Identity(scopes.caller(row, row["scopes"]), "key", key_id, row["expires_at"])

    async def _by_token(self, token: str) -> Identity:
        maker = maker_of(token)
        try:
            if maker == self.tokens.issuer:
                return await self._by_session(token)
            if self._provider is not None and maker is not None:
                return await self._by_provider(self._provider, token)
        except TokenExpired:
            raise expired() from None
        except TokenInvalid:
            raise invalid() from None
        except ProviderAway:
            detail = "the identity provider does not answer, and its keys are not known yet; try again"
            raise refused("TOKEN_UNVERIFIABLE", detail, {"Retry-After": "10"}) from None
        raise invalid()

    async def _by_session(self, token: str) -> Identity:
        claims = self.tokens.read(token)
        row = await self._row("people.by_session", claims.session_id)
        if row is None or row["is_over"]:
            raise revoked()
        allowed = claims.scopes & frozenset(row["scopes"])
        return Identity(scopes.caller(row, allowed), "session", str(claims.session_id), claims.expires_at)

    async def _by_provider(self, provider: Provider, token: str) -> Identity:
        told = await provider.read(token)
        async with self._pool.connection() as conn:
            row = await store.person_of(
                conn, told.issuer, told.subject, told.claims.get(self._settings.oidc_name_claim)
            )
        if row["is_over"]:
            raise revoked()
        groups = scopes.groups_of(told.claims.get(self._settings.oidc_groups_claim))
        is_admin = row["is_admin"] or self._settings.oidc_admin_group in groups
        person = {**row, "is_admin": is_admin}
        asked = scopes.scopes_of(told.claims.get("scope"))
        return Identity(scopes.caller(person, asked, groups), "oidc", told.subject, told.expires_at)

    async def _row(
        self, query: Literal["people.by_key", "people.by_session"], value: object
    ) -> Mapping[str, Any] | None:
        async with self._pool.connection() as conn:
            return await (await conn.execute(sql(query), (value,))).fetchone()


@contextlib.asynccontextmanager
async def open_people(settings: ApiSettings, pool: Pool) -> AsyncIterator[People]:
    """What knows callers, with the key that the database keeps and the identity provider that the settings name."""
    tokens = AccessTokens(await secret_of(pool, "access-token"), settings.public_url.rstrip("/"))
    async with contextlib.AsyncExitStack() as stack:
        provider = None
        if settings.oidc_discovery_url:
            http = await stack.enter_async_context(httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False))
            provider = Provider(
                http, settings.oidc_discovery_url, internal_url=settings.oidc_discovery_internal_url,
                audiences=settings.audiences(), algorithms=settings.algorithms(),
            )  # fmt: skip
            stack.push_async_callback(provider.close)
            if not settings.audiences():
                log.warning(
                    "ALLOWED_JWT_AUDIENCES is empty: tokens that the provider made for any application are taken"
                )
        people = People(settings, pool, tokens, provider)
        await stack.enter_async_context(people.looking())
        yield people


class Identified:
    """Finds out who sends each request, in front of all that may depend on it.

    Args:
        people: gives what knows callers; None while the application is not open.
    """

    def __init__(self, app: ASGIApp, people: Callable[[], People | None]) -> None:
        self._app, self._people = app, people

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            for name, value in scope["headers"]:
                if name == b"authorization" and not _is_empty(value, scope["path"]):
                    await self._identified(value, scope, receive, send)
                    return
        await self._app(scope, receive, send)

    async def _identified(self, authorization: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        people = self._people()
        if people is not None and scope["path"] not in _WITHOUT:
            try:
                if sum(name == b"authorization" for name, _ in scope["headers"]) > 1:
                    raise invalid()
                identity = await people.identify(authorization)
            except Problem as problem:
                await _refuse(problem, scope, receive, send)
                return
            except _AWAY:
                away = Problem(503, "DATABASE_UNAVAILABLE", "the database does not answer; try again")
                away.headers["Retry-After"] = "2"
                await _refuse(away, scope, receive, send)
                return
            scope[IDENTITY], scope[CALLER] = identity, identity.caller
        await self._app(scope, receive, send)


def _is_empty(authorization: bytes, path: str) -> bool:
    """Whether this is what trace-cli sends on every request when nobody has given it a token: a scheme without one."""
    return path.startswith(TRACES) and authorization.strip().lower() == b"bearer"


async def _refuse(problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer, as everything behind this would have: for scripts of other origins, and in tus."""
    headers = {
        **problem.headers, "Cache-Control": "no-store", "Access-Control-Allow-Origin": "*",
        "Access-Control-Expose-Headers": "WWW-Authenticate, Retry-After",
    }  # fmt: skip
    if scope["path"].startswith("/uploads"):
        headers["Tus-Resumable"] = TUS_VERSION
    await answer(problem.status, problem.code, problem.detail, headers)(scope, receive, send)


def refused(code: str, detail: str, headers: Mapping[str, str] | None = None) -> Problem:
    """A 401 for a credential that was sent (RFC 6750, 3.1)."""
    challenge = f'Bearer error="invalid_token", error_description="{detail}"'
    return Problem(401, code, detail, headers={"WWW-Authenticate": challenge, **(headers or {})})


def invalid() -> Problem:
    """It is no credential of this service."""
    return refused("TOKEN_INVALID", "this token is not known here")


def expired() -> Problem:
    """It was good once."""
    return refused("TOKEN_EXPIRED", "this token has expired")


def revoked() -> Problem:
    """It was taken back, or its session or its owner's account has ended."""
    return refused("TOKEN_REVOKED", "this token was revoked")


def _bearer(authorization: bytes) -> bytes:
    scheme, _, credential = authorization.partition(b" ")
    credential = credential.strip()
    if scheme.lower() != b"bearer" or not credential or len(credential) > LONGEST:
        raise invalid()
    return credential
