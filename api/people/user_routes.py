"""`/auth/users` and `/auth/groups`: for administrators."""

from __future__ import annotations

import logging
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from api.access import LOCAL, require
from api.parts import parts_of
from api.people import bodies, scopes, store
from api.people.login import shown_person
from api.people.store import Row, change, many, one
from api.problems import Problem
from db.pools import Connection

log = logging.getLogger(__name__)

router = APIRouter(prefix="/auth", tags=["people"], route_class=bodies.AuthRoute)


@router.get("/users")
async def users(
    request: Request,
    after: Annotated[str, Query(max_length=63, pattern=r"^[a-z0-9._-]*$")] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """People in the order of their names."""
    require(request, "admin")
    parts = parts_of(request)
    async with parts.pool.connection() as conn:
        rows = await many(conn, "people", after, limit)
    links = []
    if len(rows) == limit:
        query = urlencode({"after": rows[-1]["name"], "limit": limit})
        links.append({"rel": "next", "href": f"{parts.root}/auth/users?{query}"})
    return {"users": [shown_person(row) for row in rows], "links": links}


@router.post("/users", status_code=201, openapi_extra=bodies.takes(bodies.NewPerson))
async def add_user(request: Request) -> Response:
    """Make a person."""
    caller, parts = require(request, "admin"), parts_of(request)
    body = await bodies.read(request, bodies.NewPerson)
    if caller == LOCAL and not body.is_admin:
        raise Problem(
            409, "NO_ADMINISTRATOR", "the first person is an administrator: then programs on this machine need a key"
        )
    hashed = await parts.people.passwords.hashed(body.password.get_secret_value()) if body.password else None
    async with parts.pool.connection() as conn, conn.transaction():
        await store.add_person(
            conn, body.name, by=caller.name, password_hash=hashed, is_admin=body.is_admin, allowed=body.scopes, tier=body.tier
        )  # fmt: skip
        await store.set_groups(conn, body.name, body.groups)
        made = await store.person(conn, body.name)
    parts.people.note_person()
    log.info("a person was made", extra={"person": body.name, "is_admin": body.is_admin, "by": caller.name})
    return bodies.told(shown_person(made), 201)


@router.get("/users/{user_name}")
async def user(user_name: str, request: Request) -> dict[str, Any]:
    """One person."""
    require(request, "admin")
    async with parts_of(request).pool.connection() as conn:
        return shown_person(await store.person(conn, user_name))


@router.patch("/users/{user_name}", openapi_extra=bodies.takes(bodies.PersonChange))
async def change_user(user_name: str, request: Request) -> Response:
    """Change a person: password, groups, tier, scopes, administrator or not, disabled or not. Takes effect within seconds."""
    caller, parts = require(request, "admin"), parts_of(request)
    body = await bodies.read(request, bodies.PersonChange)
    hashed = await parts.people.passwords.hashed(body.password.get_secret_value()) if body.password else None
    async with parts.pool.connection() as conn, conn.transaction():
        await one(conn, "be_alone")
        before = await store.person(conn, user_name)
        await change(conn, "set_person", user_name, body.is_admin, body.scopes, body.tier, body.disabled, caller.name)
        if body.groups is not None:
            await store.set_groups(conn, user_name, body.groups)
        await _end_what_ends(conn, before, body, hashed)
        after = await store.person(conn, user_name)
    parts.people.forget()
    changed = sorted(body.model_fields_set)
    log.info("a person was changed", extra={"person": user_name, "changed": changed, "by": caller.name})
    return bodies.told(shown_person(after))


async def _end_what_ends(conn: Connection, before: Row, body: bodies.PersonChange, hashed: str | None) -> None:
    """Sessions of who is disabled or has another password. The last administrator stays one."""
    name = before["name"]
    if hashed is not None and await one(conn, "set_password", name, hashed) is None:
        raise Problem(409, "LOGS_IN_ELSEWHERE", "this person logs in at the identity provider and has no password here")
    if hashed is not None or body.disabled:
        await change(conn, "end_sessions", name, "disabled" if body.disabled else "new password")
    if before["is_admin"] and not await store.has_admin(conn):
        raise Problem(409, "LAST_ADMINISTRATOR", "this is the last administrator; make another first")


@router.get("/groups")
async def groups(request: Request) -> dict[str, Any]:
    """Groups with their members."""
    require(request, "admin")
    async with parts_of(request).pool.connection() as conn:
        return {"groups": [shown_group(row) for row in await many(conn, "groups", None)]}


@router.post("/groups", status_code=201, openapi_extra=bodies.takes(bodies.NewGroup))
async def add_group(request: Request) -> Response:
    """Make a group."""
    caller, parts = require(request, "admin"), parts_of(request)
    body = await bodies.read(request, bodies.NewGroup)
    async with parts.pool.connection() as conn, conn.transaction():
        await one(conn, "be_alone")
        if await one(conn, "add_group", body.name, body.title, caller.name) is None:
            raise Problem(409, "GROUP_EXISTS", f"there is a group called {body.name}")
        await store.set_members(conn, body.name, body.members)
        made = await _group(conn, body.name)
    parts.people.forget()
    log.info("a group was made", extra={"group": body.name, "by": caller.name})
    return bodies.told(shown_group(made), 201)


@router.get("/groups/{group_name}")
async def group(group_name: str, request: Request) -> dict[str, Any]:
    """One group."""
    require(request, "admin")
    async with parts_of(request).pool.connection() as conn:
        return shown_group(await _group(conn, group_name))


@router.patch("/groups/{group_name}", openapi_extra=bodies.takes(bodies.GroupChange))
async def change_group(group_name: str, request: Request) -> Response:
    """Change a group's title or its members; takes effect within seconds."""
    caller, parts = require(request, "admin"), parts_of(request)
    body = await bodies.read(request, bodies.GroupChange)
    async with parts.pool.connection() as conn, conn.transaction():
        await one(conn, "be_alone")
        await _group(conn, group_name)
        if body.title is not None:
            await change(conn, "set_title", group_name, body.title)
        if body.members is not None:
            await store.set_members(conn, group_name, body.members)
        after = await _group(conn, group_name)
    parts.people.forget()
    log.info("a group was changed", extra={"group": group_name, "by": caller.name})
    return bodies.told(shown_group(after))


@router.delete("/groups/{group_name}", status_code=204)
async def delete_group(group_name: str, request: Request) -> Response:
    """Delete a group. What is shared with it stays so by name: a new group of this name is the same to it."""
    caller, parts = require(request, "admin"), parts_of(request)
    async with parts.pool.connection() as conn, conn.transaction():
        await one(conn, "be_alone")
        found = await one(conn, "delete_group", group_name) if scopes.is_name(group_name) else None
    if found is None:
        raise Problem(404, "NOT_FOUND", "there is no such group")
    parts.people.forget()
    log.info("a group was deleted", extra={"group": group_name, "by": caller.name})
    return Response(status_code=204)


async def _group(conn: Connection, name: str) -> Row:
    found = await one(conn, "groups", name) if scopes.is_name(name) else None
    if found is None:
        raise Problem(404, "NOT_FOUND", "there is no such group")
    return found


def shown_group(row: Row) -> dict[str, Any]:
    """A group as administrators see it."""
    return {
        "name": row["name"],
        "title": row["title"],
        "members": row["members"],
        "created": bodies.at(row["created_at"]),
    }
