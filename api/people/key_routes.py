"""`/auth/keys`: one's own API keys; administrators', anybody's."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from api.access import Caller, known
from api.parts import parts_of
from api.people import bodies, scopes, store
from api.people.login import identity_of
from api.people.store import Row, many, one
from api.problems import Problem

log = logging.getLogger(__name__)

router = APIRouter(prefix="/auth/keys", tags=["people"], route_class=bodies.AuthRoute)


@router.get("")
async def listed(
    request: Request, person: Annotated[str | None, Query(max_length=63, description="for administrators")] = None
) -> dict[str, Any]:
    """One's own keys, newest first; administrators may name a person. Secrets are nowhere."""
    caller = known(request)
    is_admin = "admin" in caller.scopes
    if person is not None and not is_admin and person != caller.name:
        raise Problem(403, "INSUFFICIENT_SCOPE", "others' keys need the scope admin", scope="admin")
    async with parts_of(request).pool.connection() as conn:
        whose = person if person is None or scopes.is_name(person) else ""
        if whose is None and scopes.is_name(caller.name):
            whose = caller.name
        return {"keys": [shown_key(row) for row in await many(conn, "keys", whose)]}


@router.post("", status_code=201, openapi_extra=bodies.takes(bodies.NewKey))
async def create(request: Request) -> Response:
    """Make a key. The answer is the only one that holds it."""
    caller = known(request)
    body = await bodies.read(request, bodies.NewKey)
    _check_scopes(request, caller, body)
    if body.expires is not None and body.expires <= datetime.now(UTC):
        raise Problem(422, "INVALID_FIELD", "expires is in the past", field="expires")
    name = body.person or caller.name
    if not scopes.is_name(name):
        raise Problem(422, "INVALID_FIELD", "person says whose key it is to be", field="person")
    async with parts_of(request).pool.connection() as conn, conn.transaction():
        owner = await store.person(conn, name)
        key, row = await store.add_key(
            conn, owner, title=body.title, asked=body.scopes, expires_at=body.expires, by=caller.name
        )
    log.info("a key was made", extra={"key": key.id, "person": name, "by": caller.name})
    return bodies.told({**shown_key(row), "key": key.text}, 201)


@router.delete("/{key_id}", status_code=204)
async def revoke(key_id: str, request: Request) -> Response:
    """Revoke a key: it opens nothing after a few seconds, in this process at once. Another's does not exist."""
    parts, caller = parts_of(request), known(request)
    whose = None if "admin" in caller.scopes else caller.name
    async with parts.pool.connection() as conn:
        row = (
            await one(conn, "revoke_key", key_id, whose, caller.name)
            if key_id.isascii() and key_id.isprintable()
            else None
        )
    if row is None:
        raise Problem(404, "NOT_FOUND", "there is no such key")
    parts.people.forget()
    log.info("a key was revoked", extra={"key": key_id, "person": row["person_name"], "by": caller.name})
    return Response(status_code=204)


def shown_key(row: Row) -> dict[str, Any]:
    """A key without its secret."""
    return {
        "id": row["id"],
        "person": row["person_name"],
        "title": row["title"],
        "scopes": row["scopes"],
        "last4": row["last4"],
        "created": bodies.at(row["created_at"]),
        "created_by": row["created_by"],
        "expires": bodies.at(row["expires_at"]),
        "last_used": bodies.at(row["last_used_at"]),
        "revoked": bodies.at(row["revoked_at"]),
    }


def _check_scopes(request: Request, caller: Caller, body: bodies.NewKey) -> None:
    """Nobody makes more of a credential than it is: neither in what a key may do, nor in how long it lives."""
    if "admin" in caller.scopes:
        return
    if body.person not in (None, caller.name):
        raise Problem(403, "INSUFFICIENT_SCOPE", "others' keys need the scope admin", scope="admin")
    identity = identity_of(request)
    if identity is not None and identity.kind == "key":
        raise Problem(403, "KEYS_NEED_A_LOGIN", "a key makes no keys; log in, or use one with the scope admin")
    if beyond := sorted(set(body.scopes) - caller.scopes):
        raise Problem(403, "SCOPE_NOT_HELD", f"this credential has not the scope {beyond[0]}", scope=beyond[0])
