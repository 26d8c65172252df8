"""`python -m db migrate | roles | status | start | stop`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from db import DatabaseSettings, cluster, resolve
from db.errors import DbError
from db.migrate import migrate as run_migrations
from db.migrate import status as schema_status
from db.roles import grant_service

app = typer.Typer(
    help="The database: start, stop, migrate, look.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
AsJson = Annotated[bool, typer.Option("--json", help="one JSON object on standard output")]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _answer(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(facts))
        return
    for name, value in facts.items():
        print(f"{name}: {', '.join(map(str, value)) if isinstance(value, list) else value}")


def _guarded(work: Callable[[DatabaseSettings], None]) -> None:
    """Turn what can go wrong into a message and exit status 1."""
    try:
        work(DatabaseSettings())
    except ValidationError as error:
        for fault in error.errors():
            _say(f"setting {'.'.join(map(str, fault['loc']))}: {fault['msg']}")
        raise typer.Exit(1) from None
    except DbError as error:
        _say(str(error))
        raise typer.Exit(1) from None


@app.command()
def start(as_json: AsJson = False) -> None:
    """Make and start the private cluster; nothing to do when PGHOST or PGDATABASE name a server."""

    def work(settings: DatabaseSettings) -> None:
        reached = settings if settings.is_external else cluster.start(settings)
        _answer({"database": reached.where, "private": not settings.is_external}, as_json)

    _guarded(work)


@app.command()
def stop(as_json: AsJson = False) -> None:
    """Stop the private cluster."""

    def work(settings: DatabaseSettings) -> None:
        stopped = not settings.is_external and cluster.stop(settings)
        _answer({"stopped": stopped}, as_json)

    _guarded(work)


@app.command()
def migrate(as_json: AsJson = False) -> None:
    """Bring the database to the state that this code expects; starts the private cluster when it is down."""

    def work(settings: DatabaseSettings) -> None:
        if not settings.is_external:
            cluster.start(settings)
        done = run_migrations(resolve(settings), _say)
        _answer({"applied": done or ["nothing: up to date"]} if not as_json else {"applied": done}, as_json)

    _guarded(work)


@app.command()
def roles(
    name: Annotated[
        str, typer.Option(help="name of the role; made without log-in when it is not there")
    ] = "federator_service",
    as_json: AsJson = False,
) -> None:
    """Give a role what the service needs, without the right to change what is in the log; again after each migration."""

    def work(settings: DatabaseSettings) -> None:
        grant_service(resolve(settings), name)
        _answer({"role": name}, as_json)

    _guarded(work)


@app.command()
def status(as_json: AsJson = False) -> None:
    """Where the database is, whether it answers, and which schema it has."""

    def work(settings: DatabaseSettings) -> None:
        resolved = resolve(settings)
        _answer({"database": resolved.where, "private": not settings.is_external, **schema_status(resolved)}, as_json)

    _guarded(work)


if __name__ == "__main__":
    app()
