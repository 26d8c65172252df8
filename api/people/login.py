"""Logging in and out: `/auth/bootstrap`, `/auth/token` (an OAuth 2.0 token endpoint), `/auth/logout`, the public key, who am I."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.access import SCOPES, known
from api.parts import Parts, parts_of
from api.people import bodies, keys, scopes, store
from api.people.callers import IDENTITY, Identity, invalid
from api.people.passwords import LONGEST
from api.people.store import Row, change, one
from api.people.tokens import ACCESS_S, REFRESH_S, SESSION_S
from api.problems import Problem
from db.pools import Connection
from lineage.ids import uuid7

log = logging.getLogger(__name__)

router = APIRouter(tags=["people"], route_class=bodies.AuthRoute)

_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {
                    "type": "object",
                    "required": ["grant_type"],
                    "properties": {
                        "grant_type": {"type": "string", "enum": ["password", "refresh_token"]},
                        **{
                            name: {"type": "string"}
                            for name in ("username", "password", "refresh_token", "scope", "client_id")
                        },
                    },
                }
            }
        },
    }
}


@router.get("/.well-known/jwks.json")
async def jwks(request: Request) -> Response:
    """The public key of our access tokens."""
    return JSONResponse(
        parts_of(request).people.tokens.jwks(),
        media_type="application/jwk-set+json",
        headers={"Cache-Control": "public, max-age=300"},
    )


@router.post("/auth/bootstrap", status_code=201, openapi_extra=bodies.takes(bodies.Bootstrap))
async def bootstrap(request: Request) -> Response:
    """Make the first administrator with the token that the system's start, or `python -m api keys bootstrap`, has printed."""
    parts, body = parts_of(request), await bodies.read(request, bodies.Bootstrap)
    digest = keys.digest(body.token.get_secret_value())
    async with parts.pool.connection() as conn:
        if await one(conn, "is_bootstrap", digest) is None:  # a hash is made for nobody else
            raise invalid()
    hashed = await parts.people.passwords.hashed(body.password.get_secret_value())
    async with parts.pool.connection() as conn, conn.transaction():
        await one(conn, "be_alone")
        row = await one(conn, "use_bootstrap", digest)
        if row is None or not row["is_good"] or await store.has_admin(conn):
            raise invalid()
        await store.add_person(conn, body.name, by="bootstrap", password_hash=hashed, is_admin=True)
        made = await store.person(conn, body.name)
    parts.people.note_person()
    log.info("the first administrator was made", extra={"person": body.name})
    return bodies.told(shown_person(made), 201)


@router.post("/auth/token", openapi_extra=_FORM)
async def token(request: Request) -> Response:
    """Tokens for a name and a password (`grant_type=password`), or for a refresh token (`grant_type=refresh_token`)."""
    parts, form = parts_of(request), await bodies.read_form(request)
    match form.get("grant_type"):
        case "password":
            return await _by_password(request, parts, form)
        case "refresh_token":
            return await _by_refresh(parts, form)
        case None:
            raise bodies.bad_request("grant_type is needed")
        case _:
            raise bodies.oauth_problem("UNSUPPORTED_GRANT_TYPE", "grant_type is password or refresh_token")


@router.post("/auth/logout", status_code=204)
async def logout(request: Request) -> Response:
    """End the session of the access token that is sent. Its tokens open nothing after a few seconds, here at once."""
    parts, identity = parts_of(request), identity_of(request)
    known(request)
    if identity is None or identity.kind != "session":
        raise Problem(
            409, "NOT_A_SESSION", "only an access token of /auth/token can be logged out; revoke keys by DELETE"
        )
    async with parts.pool.connection() as conn:
        await change(conn, "end_session", UUID(identity.id), "logged out")
    parts.people.forget()
    return Response(status_code=204)


@router.get("/auth/me")
async def me(request: Request) -> dict[str, Any]:
    """Who the caller is, and what this credential may do."""
    caller, identity = known(request), identity_of(request)
    return {
        "name": caller.name,
        "credential": identity.kind if identity is not None else "local",
        "key_id": identity.id if identity is not None and identity.kind == "key" else None,
        "expires": bodies.at(identity.expires_at) if identity is not None else None,
        "scopes": [scope for scope in SCOPES if scope in caller.scopes],
        "groups": [name.removeprefix("group:") for name in caller.principals if name.startswith("group:")],
        "is_admin": "admin" in caller.scopes,
        "tier": caller.tier,
    }


@router.post("/auth/password", status_code=204, openapi_extra=bodies.takes(bodies.PasswordChange))
async def password(request: Request) -> Response:
    """Change one's own password. Ends all sessions."""
    parts, caller = parts_of(request), known(request)
    body = await bodies.read(request, bodies.PasswordChange)
    await _check_password(request, parts, caller.name, body.current.get_secret_value())
    hashed = await parts.people.passwords.hashed(body.new.get_secret_value())
    async with parts.pool.connection() as conn, conn.transaction():
        await change(conn, "set_password", caller.name, hashed)
        await change(conn, "end_sessions", caller.name, "new password")
    parts.people.forget()
    log.info("a password was changed", extra={"person": caller.name, "by": caller.name})
    return Response(status_code=204)


def identity_of(request: Request) -> Identity | None:
    """The credential that a request came with; None: none."""
    found: Identity | None = request.scope.get(IDENTITY)
    return found


def shown_person(row: Row) -> dict[str, Any]:
    """A person as administrators see it."""
    return {
        "name": row["name"],
        "is_admin": row["is_admin"],
        "scopes": [scope for scope in SCOPES if scope in scopes.allowed_to({**row, "allowed": row["scopes"]})],
        "groups": row["groups"],
        "tier": row["tier"],
        "has_password": row["password_hash"] is not None,
        "issuer": row["issuer"],
        "disabled": bodies.at(row["disabled_at"]),
        "created": bodies.at(row["created_at"]),
        "created_by": row["created_by"],
    }


async def _by_password(request: Request, parts: Parts, form: dict[str, str]) -> Response:
    name, given = form.get("username"), form.get("password")
    if name is None or given is None:
        raise bodies.bad_request("username and password are needed")
    person = await _check_password(request, parts, name, given)
    granted = _granted(form.get("scope"), scopes.allowed_to({**person, "allowed": person["scopes"]}))
    session_id, refresh = uuid7(), keys.make_secret()
    async with parts.pool.connection() as conn, conn.transaction():
        await change(conn, "begin_session", session_id, name, sorted(granted), float(REFRESH_S))
        await change(conn, "add_refresh", keys.digest(refresh), session_id, float(REFRESH_S), float(SESSION_S))
        groups = (await store.person(conn, name))["groups"]
    return _tokens(parts, name, session_id, granted, groups, refresh)


async def _by_refresh(parts: Parts, form: dict[str, str]) -> Response:
    digest, refresh = keys.digest(form.get("refresh_token", "")), keys.make_secret()
    async with parts.pool.connection() as conn:
        async with conn.transaction():
            used = await one(conn, "use_refresh", digest)
            session = await one(conn, "by_session", used["session_id"]) if used else None
            if used is not None and session is not None and not session["is_over"]:
                session_id = used["session_id"]
                await change(conn, "add_refresh", keys.digest(refresh), session_id, float(REFRESH_S), float(SESSION_S))
        if used is None:
            await _end_if_stolen(conn, parts, digest)
    if used is None or session is None or session["is_over"]:
        raise bodies.oauth_problem("INVALID_GRANT", "this refresh token opens nothing (any more); log in again")
    granted = _granted(form.get("scope"), frozenset(session["scopes"]) & scopes.allowed_to(session))
    return _tokens(parts, session["name"], session_id, granted, session["groups"], refresh)


async def _end_if_stolen(conn: Connection, parts: Parts, digest: bytes) -> None:
    """A refresh token that comes a second time was copied: nobody knows which of the two is its owner, so the session ends for both."""
    row = await one(conn, "refresh_session", digest)
    if row is not None and row["is_used"]:
        await change(conn, "end_session", row["session_id"], "a refresh token came twice")
        parts.people.forget()
        log.warning("a refresh token came twice, its session has ended", extra={"session": str(row["session_id"])})


def _granted(asked: str | None, allowed: frozenset[str]) -> frozenset[str]:
    """What is asked for and allowed; all that is allowed when nothing is asked for. Others' words (openid) are passed over."""
    return allowed if not (asked or "").strip() else allowed & scopes.scopes_of(asked)


def _tokens(
    parts: Parts, name: str, session_id: UUID, granted: Iterable[str], groups: list[str], refresh: str
) -> Response:
    content = {
        "access_token": parts.people.tokens.make(name, session_id, granted, groups),
        "token_type": "Bearer",
        "expires_in": ACCESS_S,
        "refresh_token": refresh,
        "refresh_expires_in": REFRESH_S,
        "scope": " ".join(sorted(granted)),
    }
    return JSONResponse(content, headers={"Pragma": "no-cache"})


async def _check_password(request: Request, parts: Parts, name: str, given: str) -> Row:
    """The person, if this is the password.

    Raises:
        Problem: 400 INVALID_GRANT, whatever is wrong; 429 when that was so too often from this address.
    """
    who = _who(name, request)
    async with parts.pool.connection() as conn:
        wait = await one(conn, "take_login", who)
        if wait is not None and wait["wait_s"] is not None:
            headers = {"Retry-After": str(math.ceil(wait["wait_s"]))}
            raise Problem(429, "LOGIN_TOO_SOON", "too many log-ins have failed; wait a little", headers=headers)
        person = await one(conn, "password_of", name) if scopes.is_name(name) else None
    kept = person["password_hash"] if person is not None else None
    if not await parts.people.passwords.is_right(kept, given[: LONGEST * 2]) or person is None:
        log.info("a log-in failed")
        raise bodies.oauth_problem("INVALID_GRANT", "name or password is wrong")
    async with parts.pool.connection() as conn:
        await change(conn, "forgive_login", who)
    return person


def _who(name: str, request: Request) -> bytes:
    """Name and address: nobody's guesses slow another's log-in down. Hashed, for people type passwords as names."""
    address = request.app.state.limits.address(request)
    return hashlib.sha256(f"{address}\0{name}".encode("utf-8", "surrogatepass")).digest()
