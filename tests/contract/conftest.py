"""The running application with a catalogue, for judges from outside."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import SecretStr

from api.settings import ApiSettings
from db.pools import open_pool
from db.settings import DatabaseSettings
from ingest.collection_files import ensure_collections
from tests.api.corpus import odd_item, store
from tests.api.server import running
from tests.conftest import cloned
from tests.contract import environment

ITEMS = 240


@dataclass(frozen=True, slots=True)
class Served:
    """An application that judges may also write to."""

    url: str
    token: str


async def _fill(database: DatabaseSettings) -> None:
    """Awkward items, each with a grade of one letter (the validator compares the letters of a text with the values of an `in`)."""
    items = [odd_item(number) for number in range(ITEMS)]
    for number, item in enumerate(items):
        item["properties"]["grade"] = "ab"[number % 2]
    async with open_pool(database) as pool:
        await ensure_collections(pool)
        await store(pool, items)


@pytest.fixture(scope="module")  # some judges write
def served(postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The running application on a catalogue of awkward items."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    url, token = f"http://127.0.0.1:{listener.getsockname()[1]}", "judge"
    settings = ApiSettings(data_dir=tmp_path_factory.mktemp("contract"), public_url=url, api_token=SecretStr(token))
    with cloned(postgres, template) as database:
        asyncio.run(_fill(database))
        with running(settings, database, listener):
            yield Served(url, token)


@pytest.fixture(scope="session")
def judges() -> Path:
    """The interpreter of the judges' own environment."""
    return environment.python()
