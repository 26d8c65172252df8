"""`python -m api keys list | create | revoke | bootstrap`: for whoever can reach the database, whether or not anybody can log in.

What the work needs is imported when it is done: the supervisor reads this module too, and needs little memory.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import psycopg
import typer
from pydantic import ValidationError

from db import DatabaseSettings, resolve
from db.errors import DbError
from db.pools import Connection, connect
from db.queries import sql

app = typer.Typer(
    help="API keys, and the token that makes the first administrator.", no_args_is_help=True,
    add_completion=False, pretty_exceptions_enable=False,
)  # fmt: skip
AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output")]
_BY = "command"


def run[T](work: Callable[[Connection], Awaitable[T]]) -> T:
    """Do `work` on a connection to the database; what goes wrong becomes a line and exit status 1."""

    async def on_connection() -> T:
        async with await connect(resolve(DatabaseSettings())) as conn:
            return await work(conn)

    try:
        return asyncio.run(on_connection())
    except psycopg.errors.UndefinedTable:
        raise fail("the database is not up to date: run `python -m db migrate`") from None
    except (DbError, psycopg.Error) as error:
        raise fail(str(error) or type(error).__name__) from None
    except ValidationError as error:
        raise fail("; ".join(f"setting {fault['loc'][0]}: {fault['msg']}" for fault in error.errors())) from None
    except _problem() as error:
        raise fail(str(error)) from None


@app.command("list")
def listed(
    person: Annotated[str | None, typer.Argument(help="whose; without it everybody's")] = None, as_json: AsJson = False
) -> None:
    """Keys without their secrets, newest first."""
    from api.people import store
    from api.people.key_routes import shown_key

    async def work(conn: Connection) -> list[dict[str, Any]]:
        if person is not None:
            await store.person(conn, person)
        return [shown_key(row) for row in await store.many(conn, "keys", person)]

    found = run(work)
    if as_json:
        print(json.dumps(found))
        return
    for key in found:
        state = "revoked" if key["revoked"] else f"until {key['expires'] or 'revoked'}"
        used = key["last_used"] or "never used"
        print(
            f"{key['id']}  {key['person']:<20} ...{key['last4']}  {state}  {used}  {' '.join(key['scopes'])}  {key['title']}"
        )


@app.command()
def create(
    person: Annotated[str, typer.Argument(help="whose key it is")],
    scope: Annotated[
        list[str] | None, typer.Option(help="what it may do, once each: upload, stac:item:create, ... (docs/people.md)")
    ] = None,
    title: Annotated[str, typer.Option(help="what people know it by")] = "",
    days: Annotated[
        float | None, typer.Option(help="how long it is good; without it until it is revoked", min=0.0001, max=36500)
    ] = None,
    admin: Annotated[
        bool, typer.Option("--admin", help="all scopes, of an administrator who is made when there is no such person")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it: it is shown this once. Without --scope and --admin it only reads what its person may see."""
    from api.access import SCOPES
    from api.people import scopes, store
    from api.people.key_routes import shown_key

    asked = set(SCOPES) if admin else set(scope or ())
    if unknown := asked - set(SCOPES):
        raise fail(f"there is no scope {min(unknown)}; there are {', '.join(SCOPES)}")
    if not scopes.is_name(person):
        raise fail("a name is 1 to 63 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit")
    expires_at = datetime.now(UTC) + timedelta(days=days) if days is not None else None

    async def work(conn: Connection) -> dict[str, Any]:
        async with conn.transaction():
            if admin and await store.one(conn, "person", person) is None:
                await store.add_person(conn, person, by=_BY, is_admin=True)
            owner = await store.person(conn, person)
            key, row = await store.add_key(conn, owner, title=title[:200], asked=asked, expires_at=expires_at, by=_BY)
        return {**shown_key(row), "key": key.text}

    made = run(work)
    print(json.dumps(made) if as_json else made["key"])
    if not as_json:
        _say(f"key {made['id']} of {person}: {' '.join(made['scopes']) or 'reads only'}; it is not shown again")


@app.command()
def revoke(key_id: str, as_json: AsJson = False) -> None:
    """Revoke a key; it opens nothing after a few seconds."""
    from api.people import store
    from api.problems import Problem

    async def work(conn: Connection) -> str:
        row = await store.one(conn, "revoke_key", key_id.removeprefix("fed_").partition(".")[0], None, _BY)
        if row is None:
            raise Problem(404, "NOT_FOUND", "there is no such key")
        return str(row["person_name"])

    person = run(work)
    print(json.dumps({"revoked": key_id, "person": person}) if as_json else f"revoked; it was {person}'s")


@app.command()
def bootstrap(as_json: AsJson = False) -> None:
    """Print a token that makes the first administrator (POST /auth/bootstrap), once, within a day."""
    from api.people import store

    token = run(store.offer_bootstrap)
    if token is None:
        raise fail("there is an administrator; `python -m api keys create NAME --admin` makes another, with a key")
    print(json.dumps({"token": token, "expires_s": store.BOOTSTRAP_S}) if as_json else token)


def first_steps(public_url: str) -> list[str]:
    """What a terminal says at a system's start while there is no person: how to make the first; nothing when there is one."""

    async def work(conn: Connection) -> str | None:
        row = await (await conn.execute(sql("people.is_anybody"))).fetchone()
        if row is not None and row["is_anybody"]:
            return None
        from api.people.store import offer_bootstrap

        return await offer_bootstrap(conn)

    try:
        token = run(work)
    except typer.Exit:  # it has said why; the system runs all the same
        return []
    if token is None:
        return []
    body = json.dumps({"token": token, "name": "admin", "password": "..."})
    return [
        "there are no people yet: programs on this machine may do everything. To make the first administrator, within a day:",
        f"  curl {public_url}/auth/bootstrap -H 'Content-Type: application/json' -d '{body}'",
    ]


def _problem() -> type[Exception]:
    """What the rules refuse by; asked for when something was raised."""
    from api.problems import Problem

    return Problem


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def fail(text: str) -> typer.Exit:
    """Say why; raise what comes back: exit status 1."""
    _say(text)
    return typer.Exit(1)
