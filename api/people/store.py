"""People, groups and keys in the database. Rules about who may change what are the routes'."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from api.people import keys, scopes
from api.problems import Problem
from db.pools import Connection
from db.queries import sql

Row = Mapping[str, Any]
#: A day: whoever starts the system is at its terminal.
BOOTSTRAP_S = 86_400.0
MOST_KEYS = 100


async def one(conn: Connection, query: str, *values: object) -> Row | None:
    """The only row of a statement."""
    return await (await conn.execute(sql(f"people.{query}"), values)).fetchone()


async def many(conn: Connection, query: str, *values: object) -> list[dict[str, Any]]:
    """All rows of a statement."""
    return await (await conn.execute(sql(f"people.{query}"), values)).fetchall()


async def person_of(conn: Connection, issuer: str, subject: str, wish: object) -> Row:
    """The person whom an identity provider means; made at the first sight.

    The name is the one that the provider tells as far as it can be a name here and is nobody's, else one made of the subject. It stays: a
    person is whoever the provider's subject says, and no other person's name can be had by calling oneself so there.
    """
    known = await one(conn, "by_subject", issuer, subject)
    if known is not None:
        return known
    mark = hashlib.sha256(f"{issuer}\0{subject}".encode()).hexdigest()
    name = slug(wish)
    for candidate in (name, f"{name[:50]}-{mark[:6]}", f"oidc-{mark[:32]}"):
        if scopes.is_name(candidate):
            await change(conn, "add_subject", issuer, subject, candidate, list(scopes.OF_EVERYBODY))
            known = await one(conn, "by_subject", issuer, subject)
            if known is not None:
                return known
    raise Problem(503, "DATABASE_BUSY", "this person cannot be stored just now; try again")


async def change(conn: Connection, query: str, *values: object) -> int:
    """How many rows a statement without an answer has changed."""
    return (await conn.execute(sql(f"people.{query}"), values)).rowcount


def slug(wish: object) -> str:
    """What is left of a name in the signs of ours; perhaps nothing."""
    text = wish.lower() if isinstance(wish, str) else ""
    return re.sub(r"[^a-z0-9._-]+", "-", text).strip("._-")[:63]


async def offer_bootstrap(conn: Connection) -> str | None:
    """A token that makes the first administrator, once, for a day; in place of the one before. None: there is an administrator."""
    async with conn.transaction():
        await one(conn, "be_alone")
        if await has_admin(conn):
            await change(conn, "drop_bootstrap")
            return None
        token = keys.make_secret()
        await change(conn, "offer_bootstrap", keys.digest(token), BOOTSTRAP_S)
        return token


async def has_admin(conn: Connection) -> bool:
    """Whether somebody can make people."""
    row = await one(conn, "has_admin")
    return bool(row and row["has_admin"])


async def add_person(
    conn: Connection, name: str, *, by: str, password_hash: str | None = None, is_admin: bool = False,
    allowed: Iterable[str] = scopes.OF_EVERYBODY, tier: str = "general",
) -> None:  # fmt: skip
    """A new person.

    Raises:
        Problem: 409 PERSON_EXISTS.
    """
    if await one(conn, "add_person", name, password_hash, is_admin, list(allowed), tier, by) is None:
        raise Problem(409, "PERSON_EXISTS", f"there is a person called {name}")


async def person(conn: Connection, name: str) -> Row:
    """One person.

    Raises:
        Problem: 404.
    """
    found = await one(conn, "person", name) if scopes.is_name(name) else None
    if found is None:
        raise Problem(404, "NOT_FOUND", "there is no such person")
    return found


async def set_groups(conn: Connection, name: str, groups: list[str]) -> None:
    """Put a person in these groups and no others.

    Raises:
        Problem: 422 for groups that are not there.
    """
    there = {row["name"] for row in await many(conn, "known_groups", groups)}
    if absent := sorted(set(groups) - there):
        raise Problem(422, "GROUP_UNKNOWN", f"there is no group {absent[0]}", field="groups")
    await change(conn, "leave_groups", name)
    await change(conn, "join_groups", name, groups)


async def set_members(conn: Connection, group: str, members: list[str]) -> None:
    """Put these people and no others in a group.

    Raises:
        Problem: 422 for people who are not there.
    """
    there = {row["name"] for row in await many(conn, "known_people", members)}
    if absent := sorted(set(members) - there):
        raise Problem(422, "PERSON_UNKNOWN", f"there is no person {absent[0]}", field="members")
    await change(conn, "empty_group", group)
    await change(conn, "fill_group", group, members)


async def add_key(
    conn: Connection, owner: Row, *, title: str, asked: Iterable[str], expires_at: datetime | None, by: str
) -> tuple[keys.NewKey, Row]:
    """A new key of a person (`name`, `is_admin`, `scopes`). Call in a transaction: other new keys of the same person wait.

    Raises:
        Problem: 403 for scopes that the owner does not have, 409 for too many keys.
    """
    allowed = scopes.allowed_to({**owner, "allowed": owner["scopes"]})
    if beyond := sorted(set(asked) - allowed):
        detail = f"{owner['name']} is not allowed {beyond[0]}, nor can a key be"
        raise Problem(403, "SCOPE_NOT_HELD", detail, scope=beyond[0])
    await change(conn, "lock_person", owner["name"])
    held = await one(conn, "count_keys", owner["name"])
    if held is not None and held["keys"] >= MOST_KEYS:
        raise Problem(409, "TOO_MANY_KEYS", f"a person has at most {MOST_KEYS} keys", limit=MOST_KEYS)
    key = keys.make_key()
    row = await one(
        conn, "add_key", key.id, owner["name"], keys.digest(key.secret), key.last4, title, sorted(asked), expires_at, by
    )
    assert row is not None
    return key, row
