"""`python -m api serve | up | down | settings | keys | trace-keys`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings

from api import trace_keys
from api.people import command
from api.settings import ApiSettings
from db import DatabaseSettings, resolve
from db.errors import DbError

app = typer.Typer(help="The HTTP side.", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(command.app, name="keys")
app.add_typer(trace_keys.app, name="trace-keys")


def _fail(text: str) -> typer.Exit:
    print(text, file=sys.stderr, flush=True)
    return typer.Exit(1)


def _settings() -> ApiSettings:
    try:
        DatabaseSettings()
        return ApiSettings()
    except ValidationError as error:
        faults = (f"setting {'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise _fail("\n".join(faults)) from None


@app.command()
def serve() -> None:
    """Serve HTTP until SIGTERM or Ctrl-C; SIGHUP replaces the serving processes one by one. Needs a migrated database."""
    # A tile multiplies small matrices: threads for that take a busy machine a hundred times as long. Before anything imports numpy.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    settings = _settings()
    from api.limits.tiers import TiersInvalid, load_tiers
    from api.server import serve as run
    from db.migrate import is_current
    from ingest.errors import SourceInvalid
    from ingest.source_files import load_sources
    from lineage.settings import LineageSettings
    from lineage.trace_trust import TrustInvalid, read_trust

    try:
        if not is_current(resolve(DatabaseSettings())):
            raise _fail("the database is not up to date: run `python -m db migrate`")
        from ingest.settings import IngestSettings

        load_sources(IngestSettings().sources_dir)
        load_tiers(settings.tiers_file)
        traced = LineageSettings()
        read_trust(traced.trace_authorities_file, traced.trace_revocations_file)
    except (DbError, SourceInvalid, TiersInvalid, TrustInvalid) as error:
        raise _fail(str(error)) from None
    run(settings)


@app.command()
def up() -> None:
    """Database, worker and API together, until Ctrl-C."""
    settings = _settings()
    from api.supervisor import up as run

    raise typer.Exit(run(settings))


@app.command()
def down() -> None:
    """End a system that runs in another terminal, and the private database."""
    settings = _settings()
    from api.supervisor import down as end

    raise typer.Exit(end(Path(settings.data_dir)))


def setting_rows() -> list[dict[str, Any]]:
    """Every setting of every package: variable, value (secrets hidden), meaning, and where it comes from."""
    from ingest.settings import IngestSettings
    from lineage.settings import LineageSettings

    classes: tuple[type[BaseSettings], ...] = (DatabaseSettings, LineageSettings, IngestSettings, ApiSettings)
    rows: dict[str, dict[str, Any]] = {}
    for settings_class in classes:
        values = settings_class()
        prefix = str(settings_class.model_config.get("env_prefix", ""))
        for name, info in settings_class.model_fields.items():
            variable = str(info.validation_alias or f"{prefix}{name}").upper()
            value = getattr(values, name)
            shown = ("***" if value.get_secret_value() else "") if isinstance(value, SecretStr) else value
            source = "environment" if variable in {key.upper() for key in os.environ} else "default"
            rows.setdefault(
                variable,
                {
                    "name": variable,
                    "value": "" if shown is None else str(shown),
                    "from": source,
                    "meaning": info.description or "",
                },
            )
    return sorted(rows.values(), key=lambda row: str(row["name"]))


@app.command()
def settings(as_json: Annotated[bool, typer.Option("--json", help="one JSON list")] = False) -> None:
    """Print every setting."""
    _settings()
    rows = setting_rows()
    if as_json:
        print(json.dumps(rows))
        return
    for row in rows:
        print(f"{row['name']}={row['value']}  ({row['from']}) {row['meaning']}")


if __name__ == "__main__":
    app()
