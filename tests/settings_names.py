"""The environment variables that the code reads, taken from the settings classes themselves."""

from __future__ import annotations

from pydantic import AliasChoices
from pydantic_settings import BaseSettings

from api.settings import ApiSettings
from db.settings import DatabaseSettings
from ingest.settings import IngestSettings
from lineage.settings import LineageSettings

CLASSES: tuple[type[BaseSettings], ...] = (DatabaseSettings, LineageSettings, IngestSettings, ApiSettings)


def names_of(settings: type[BaseSettings]) -> set[str]:
    """Environment variables that fill one settings class, upper case."""
    prefix = settings.model_config.get("env_prefix", "")
    found: set[str] = set()
    for name, info in settings.model_fields.items():
        alias = info.validation_alias
        if isinstance(alias, AliasChoices):
            found |= {str(choice) for choice in alias.choices}
        else:
            found.add(str(alias) if alias else f"{prefix}{name}")
    return {name.upper() for name in found}


def setting_names() -> set[str]:
    """Environment variables that fill any of our settings classes."""
    return set().union(*(names_of(settings) for settings in CLASSES))
